//! Ownership by kernel locks: one lockable byte per `xx` in the file `locks`.
//!
//! Open-file-description locks: an overlap is refused at any k, a dead owner's lock is gone with it,
//! and disjoint ranges share a spool. Behind the lockable bytes the file says who holds them; that is
//! for people and is never trusted.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::error::{At, Result, SpoolError};
use super::fs::open_lockable;
use crate::slice::XxRange;

/// Each `xx` has a line of this many bytes behind the lockable ones.
const NOTE_BYTES: u64 = 64;
const NOTES_AT: u64 = 4096;
/// How long a range is tried again that somebody without a name has.
const NAMELESS_MAX: Duration = Duration::from_secs(1);

/// Holds the range until dropped.
#[derive(Debug)]
pub struct RangeLock {
    file: File,
    pub range: XxRange,
}

fn flock(kind: libc::c_int, first: u8, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: i64::from(first),
        l_len: len,
        l_pid: 0,
    }
}

fn width(range: XxRange) -> i64 {
    i64::from(range.last) - i64::from(range.first) + 1
}

impl RangeLock {
    /// Takes the range, or says who has part of it.
    ///
    /// An owner may end, or not have written its name yet, between the refusal and the look at who it
    /// is: then the range is tried again, for a second at most. So no range stays undrained for an owner
    /// that has just ended in order. After one that was killed its name stays until the next has written its own.
    pub fn take(path: &Path, range: XxRange) -> Result<Self> {
        Self::take_within(path, range, NAMELESS_MAX)
    }

    fn take_within(path: &Path, range: XxRange, nameless_max: Duration) -> Result<Self> {
        let file = open_lockable(path).at("open", path)?;
        let lock = flock(libc::F_WRLCK, range.first, width(range));
        let since = Instant::now();
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)) {
                Ok(_) => break,
                Err(nix::Error::EAGAIN | nix::Error::EACCES) => {}
                Err(e) => return Err(std::io::Error::from(e)).at("lock", path),
            }
            let named = owners(path)?.into_iter().find(|o| o.range.overlaps(range) && !o.who.is_empty());
            if let Some(owner) = named {
                return Err(SpoolError::Owned { owner: owner.who });
            }
            if since.elapsed() > nameless_max {
                return Err(SpoolError::Owned { owner: "another process".to_owned() });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let taken = Self { file, range };
        let note =
            format!("process {} since {}", std::process::id(), crate::clock::rfc3339(crate::clock::now_us()));
        let line = format!("{note:<width$}\n", width = NOTE_BYTES as usize - 1);
        taken.note(&line).at("write", path)?;
        Ok(taken)
    }

    /// Writes this line for each `xx` of the range.
    fn note(&self, line: &str) -> std::io::Result<()> {
        let lines = line.repeat(width(self.range) as usize);
        self.file.write_all_at(lines.as_bytes(), NOTES_AT + u64::from(self.range.first) * NOTE_BYTES)
    }
}

impl Drop for RangeLock {
    fn drop(&mut self) {
        // else whoever takes it next goes by this name until it has written its own
        let blank = format!("{:<width$}\n", "", width = NOTE_BYTES as usize - 1);
        if let Err(e) = self.note(&blank) {
            tracing::debug!("taking the name off {}: {e}", self.range);
        }
        let lock = flock(libc::F_UNLCK, self.range.first, width(self.range));
        if let Err(e) = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)) {
            tracing::warn!("unlocking {}: {e}", self.range);
        }
    }
}

/// A range that is locked now, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRange {
    pub range: XxRange,
    /// `process 1234 since …`
    pub who: String,
}

/// Every locked range, neighbours of one owner together. Tests the locks and takes none.
pub fn owners(path: &Path) -> Result<Vec<OwnedRange>> {
    let no_link = nix::libc::O_NOFOLLOW;
    let file = match File::options().read(true).write(true).custom_flags(no_link).open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("open", path)?,
    };
    let mut all: Vec<OwnedRange> = Vec::new();
    for xx in XxRange::ALL.iter() {
        let mut lock = flock(libc::F_WRLCK, xx, 1);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))
            .map_err(std::io::Error::from)
            .at("test the locks of", path)?;
        if lock.l_type == libc::F_UNLCK as libc::c_short {
            continue;
        }
        let mut note = [0; NOTE_BYTES as usize];
        let n = file.read_at(&mut note, NOTES_AT + u64::from(xx) * NOTE_BYTES).at("read", path)?;
        let who = String::from_utf8_lossy(&note[..n]).trim_matches(['\0', ' ', '\n']).to_owned();
        match all.last_mut() {
            Some(o) if o.who == who && o.range.last.checked_add(1) == Some(xx) => o.range.last = xx,
            _ => all.push(OwnedRange { range: XxRange { first: xx, last: xx }, who }),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(first: u8, last: u8) -> XxRange {
        XxRange { first, last }
    }

    #[test]
    fn an_overlap_is_refused_naming_the_owner_and_disjoint_ranges_share() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks");
        let low = RangeLock::take(&path, r(0, 127)).unwrap();
        let high = RangeLock::take(&path, r(128, 255)).unwrap();
        let refused = RangeLock::take(&path, r(127, 130)).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(low);
        assert!(RangeLock::take(&path, r(0, 127)).is_ok());
        assert_eq!(owners(&path).unwrap().iter().map(|o| o.range).collect::<Vec<_>>(), [r(128, 255)]);
        drop(high);
        assert_eq!(owners(&path).unwrap(), []);
    }

    /// A lock without a name, as of a process that has just taken it.
    fn nameless(path: &Path, range: XxRange) -> File {
        let file = open_lockable(path).unwrap();
        let lock = flock(libc::F_WRLCK, range.first, width(range));
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        file
    }

    /// Somebody who asks, and has been refused at least once when this returns.
    fn asks(path: &Path) -> std::thread::JoinHandle<Result<RangeLock>> {
        let path = path.to_owned();
        let (began, begins) = std::sync::mpsc::channel();
        let asks = std::thread::spawn(move || {
            began.send(()).unwrap();
            RangeLock::take_within(&path, r(0, 15), Duration::from_secs(60))
        });
        begins.recv().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        asks
    }

    #[test]
    fn an_owner_that_ends_while_it_is_looked_for_leaves_the_range_to_who_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks");
        let other = nameless(&path, r(7, 9));
        let asks = asks(&path);
        drop(other);
        assert_eq!(asks.join().unwrap().unwrap().range, r(0, 15));
    }

    #[test]
    fn an_owner_that_gives_its_name_late_is_named_and_one_that_never_does_is_there_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks");
        let other = nameless(&path, r(7, 9));
        let refused =
            RangeLock::take_within(&path, r(0, 15), Duration::from_millis(10)).unwrap_err().to_string();
        assert!(refused.contains("another process"), "{refused}");
        let asks = asks(&path);
        other.write_all_at(b"process 12 since yesterday", NOTES_AT + 8 * NOTE_BYTES).unwrap();
        let refused = asks.join().unwrap().unwrap_err().to_string();
        assert!(refused.contains("process 12 since yesterday"), "{refused}");
    }

    #[test]
    fn a_name_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks");
        drop(RangeLock::take(&path, r(3, 5)).unwrap());
        let _other = nameless(&path, r(4, 4));
        assert_eq!(owners(&path).unwrap(), [OwnedRange { range: r(4, 4), who: String::new() }]);
    }
}
