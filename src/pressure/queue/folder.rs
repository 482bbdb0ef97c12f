//! Counts queue files by their names: no file is opened or looked at, one buffer whatever the number.

use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

use super::{Counted, QueueError};

/// Names of one read of a folder.
const BUFFER_BYTES: usize = 32 << 10;
/// Postfix's `hash_queue_depth` goes to 16.
const DEPTH_MAX: usize = 16;

impl Counted {
    /// Whether there is enough of it, once one more is counted.
    fn add(&mut self, count_max: u64) -> bool {
        self.messages += 1;
        self.is_more = self.messages >= count_max;
        self.is_more
    }
}

/// Messages in `incoming` and `active`, hashed or not (`hash_queue_names`), up to `count_max`.
///
/// # Errors
/// Either folder can't be read.
pub(super) fn count_postfix(dir: &Path, count_max: u64) -> Result<Counted, QueueError> {
    let mut counted = Counted::default();
    for queue in ["incoming", "active"] {
        let mut folders = vec![(dir.join(queue), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let each = |name: &[u8], _| match name {
                // queue ids are longer
                [_] => {
                    if depth < DEPTH_MAX {
                        folders.push((folder.join(std::ffi::OsStr::from_bytes(name)), depth + 1));
                    }
                    false
                }
                [b'.', ..] => false,
                _ => counted.add(count_max),
            };
            match list(&folder, each) {
                // it went while we looked
                Err(Errno::NOENT) if depth > 0 => {}
                listed => listed.map_err(|e| unread(&folder, e))?,
            }
            if counted.is_more {
                return Ok(counted);
            }
        }
    }
    Ok(counted)
}

/// `qf` files of sendmail's queue folder, or of all that its `*` stands for, up to `count_max`.
///
/// # Errors
/// One of the folders can't be read, or there is none.
pub(super) fn count_sendmail(dir: &Path, count_max: u64) -> Result<Counted, QueueError> {
    let mut counted = Counted::default();
    for queue in queues(dir)? {
        let each = |name: &[u8], _| name.starts_with(b"qf") && name.len() > 2 && counted.add(count_max);
        // where there is one, they lie in it
        let qf = queue.join("qf");
        match list(&qf, each) {
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(e) => return Err(unread(&qf, e)),
            Ok(()) if counted.is_more => return Ok(counted),
            Ok(()) => continue,
        }
        let each = |name: &[u8], _| name.starts_with(b"qf") && counted.add(count_max);
        list(&queue, each).map_err(|e| unread(&queue, e))?;
        if counted.is_more {
            break;
        }
    }
    Ok(counted)
}

/// The folders of a queue: itself, or those whose names begin with what stands before the `*`.
fn queues(dir: &Path) -> Result<Vec<PathBuf>, QueueError> {
    let name = dir.file_name().unwrap_or_default().as_bytes();
    let (Some(prefix), Some(parent)) = (name.strip_suffix(b"*"), dir.parent()) else {
        return Ok(vec![dir.to_owned()]);
    };
    let mut queues = Vec::new();
    let each = |name: &[u8], kind| {
        let is_folder = matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown);
        if is_folder && name.starts_with(prefix) && !name.starts_with(b".") {
            queues.push(parent.join(std::ffi::OsStr::from_bytes(name)));
        }
        false
    };
    list(parent, each).map_err(|e| unread(parent, e))?;
    if queues.is_empty() {
        return Err(unread(dir, Errno::NOENT));
    }
    Ok(queues)
}

fn unread(path: &Path, e: Errno) -> QueueError {
    QueueError::Read { path: path.to_owned(), source: e.into() }
}

/// Hands the names in a folder to `each`, until it says that it has enough.
fn list(folder: &Path, mut each: impl FnMut(&[u8], FileType) -> bool) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(CWD, folder, flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut entries = RawDir::new(opened, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && each(name, entry.file_type()) {
            break;
        }
    }
    Ok(())
}
