//! Who may rename a job: the kernel lock on its `hold` file.
//!
//! An owner with a chunk of the job in hand holds it shared; whoever renames the job's folder (a
//! command, or an owner at the job's end) holds it exclusively. So a folder is never renamed under a
//! runner, with any number of owners of disjoint slices, and a dead holder's lock is gone with it.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{At, Result, SpoolError};
use super::fs::open_lockable;
use super::layout::JobDir;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub(super) struct Hold {
    _file: File,
}

impl Hold {
    /// Shared; `None` while somebody holds it exclusively, or when the job isn't there any more.
    pub fn shared(dir: &JobDir) -> Result<Option<Self>> {
        Self::take(dir, File::try_lock_shared)
    }

    /// Exclusive; `None` while anybody holds it, or when the job isn't there any more.
    pub fn exclusive(dir: &JobDir) -> Result<Option<Self>> {
        Self::take(dir, File::try_lock)
    }

    fn take(dir: &JobDir, lock: fn(&File) -> std::result::Result<(), TryLockError>) -> Result<Option<Self>> {
        let path = dir.hold();
        let file = match File::options().read(true).write(true).open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at("open", &path)?,
        };
        match lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e).at("lock", &path),
        }
        // renamed between our open and our lock?
        let here = path.try_exists().at("look at", &path)?;
        Ok(here.then_some(Self { _file: file }))
    }
}

/// How long a command waits for the others' turns, each of which is a few syncs.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// The turn of one command, over all processes: whoever reads or writes a request, or renames a job, has
/// it. Held for a few syncs, never while waiting for anything else.
#[derive(Debug)]
pub(super) struct Turn {
    _file: File,
}

impl Turn {
    /// Waits for the others' turns.
    pub fn take(path: &Path) -> Result<Self> {
        let file = open_lockable(path).at("open", path)?;
        let until = Instant::now() + TURN_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(SpoolError::TurnHeld {
                        path: path.to_path_buf(),
                        seconds: TURN_WAIT.as_secs(),
                    });
                }
                Err(TryLockError::Error(e)) => return Err(e).at("lock", path),
            }
        }
    }
}
