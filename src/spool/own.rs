//! Ownership by kernel locks: one lockable byte per `xx` in the file `locks`.
//!
//! Open-file-description locks: an overlap is refused at any k, a dead owner's lock is gone with it,
//! and disjoint ranges share a spool. Behind the lockable bytes the file says who holds them; that is
//! for people and is never trusted.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::error::{At, Result, SpoolError};
use super::fs::open_lockable;
use crate::slice::XxRange;

/// Each `xx` has a line of this many bytes behind the lockable ones.
const NOTE_BYTES: u64 = 64;
const NOTES_AT: u64 = 4096;

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
    pub fn take(path: &Path, range: XxRange) -> Result<Self> {
        let file = open_lockable(path).at("open", path)?;
        let lock = flock(libc::F_WRLCK, range.first, width(range));
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => {}
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => {
                let owner = owners(path)?
                    .into_iter()
                    .find(|o| o.range.overlaps(range))
                    .map_or_else(|| "another process".to_owned(), |o| o.who);
                return Err(SpoolError::Owned { owner });
            }
            Err(e) => return Err(std::io::Error::from(e)).at("lock", path),
        }
        let note =
            format!("process {} since {}", std::process::id(), crate::clock::rfc3339(crate::clock::now_us()));
        let line = format!("{note:<width$}\n", width = NOTE_BYTES as usize - 1);
        for xx in range.iter() {
            file.write_all_at(line.as_bytes(), NOTES_AT + u64::from(xx) * NOTE_BYTES).at("write", path)?;
        }
        Ok(Self { file, range })
    }
}

impl Drop for RangeLock {
    fn drop(&mut self) {
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
}
