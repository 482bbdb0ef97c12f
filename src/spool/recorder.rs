//! The real file system, with a log of all that changes it, for tests: [`Disk`] makes of each beginning
//! of the log what a power cut at that moment may leave.
//!
//! On request a sync fails: as on Linux once, with the data gone, and the next one reports success.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, Ino, Step};
use super::fs::{Fs, FsFile, RealFs, Space};

/// A moment of the log: a call, or what the test knew then.
#[derive(Debug, Clone)]
pub enum Moment<M> {
    Call(Step),
    Mark(M),
}

/// See the module. Clones write into one log.
pub struct Recorder<M> {
    /// Paths of the log are relative to this folder.
    base: PathBuf,
    log: Arc<Mutex<Log<M>>>,
}

struct Log<M> {
    moments: Vec<Moment<M>>,
    next_ino: Ino,
    syncs: u64,
    /// The sync that fails, counted from 0.
    fails: Option<u64>,
}

impl<M> Clone for Recorder<M> {
    fn clone(&self) -> Self {
        Self { base: self.base.clone(), log: self.log.clone() }
    }
}

impl<M> Recorder<M> {
    /// Records what happens under `base`, where all of `disk` lies.
    pub fn new(base: &Path, disk: &Disk) -> Self {
        let log = Log { moments: Vec::new(), next_ino: disk.ino_max(), syncs: 0, fails: None };
        Self { base: base.to_owned(), log: Arc::new(Mutex::new(log)) }
    }

    /// Notes what the test knows by now.
    pub fn mark(&self, mark: M) {
        self.log().moments.push(Moment::Mark(mark));
    }

    /// Lets the `at`-th sync from now on fail, of a file or a folder.
    pub fn fail_sync(&self, at: u64) {
        let mut log = self.log();
        log.fails = Some(log.syncs + at);
    }

    /// Whether that sync has come.
    pub fn has_failed(&self) -> bool {
        let log = self.log();
        log.fails.is_some_and(|at| log.syncs > at)
    }

    /// The log so far; it starts anew.
    pub fn take(&self) -> Vec<Moment<M>> {
        std::mem::take(&mut self.log().moments)
    }

    fn log(&self) -> MutexGuard<'_, Log<M>> {
        self.log.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.base).map_or_else(|_| path.to_owned(), Path::to_owned)
    }

    /// Does it and records it, as one.
    fn run<T>(&self, step: Step, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut log = self.log();
        let done = call()?;
        log.moments.push(Moment::Call(step));
        Ok(done)
    }

    fn sync(&self, works: Step, fails: Step, call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut log = self.log();
        log.syncs += 1;
        if log.fails == Some(log.syncs - 1) {
            log.moments.push(Moment::Call(fails));
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        call()?;
        log.moments.push(Moment::Call(works));
        Ok(())
    }

    fn next_ino(&self) -> Ino {
        let mut log = self.log();
        log.next_ino += 1;
        log.next_ino
    }
}

struct RecordedFile<M> {
    fs: Recorder<M>,
    file: Box<dyn FsFile>,
    ino: Ino,
    end: u64,
}

impl<M: Send + 'static> FsFile for RecordedFile<M> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let step = Step::Write(self.ino, self.end, bytes.to_vec());
        self.end += bytes.len() as u64;
        self.fs.clone().run(step, || self.file.append(bytes))
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fs.run(Step::Write(self.ino, offset, bytes.to_vec()), || self.file.write_at(bytes, offset))
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.fs.run(Step::Grow(self.ino, len), || self.file.allocate(len))
    }
    fn sync(&self) -> io::Result<()> {
        self.fs.sync(Step::SyncFile(self.ino), Step::SyncFileFailed(self.ino), || self.file.sync())
    }
}

impl<M: Send + 'static> Fs for Recorder<M> {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let step = Step::Mkdir(self.relative(path), self.next_ino());
        self.run(step, || RealFs.create_dir(path))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.exists()).collect();
        missing.into_iter().rev().try_for_each(|p| self.create_dir(p))
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        RealFs.read_dir(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealFs.read(path)
    }
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let ino = self.next_ino();
        let file = self.run(Step::Create(self.relative(path), ino), || RealFs.create_new(path))?;
        Ok(Box::new(RecordedFile { fs: self.clone(), file, ino, end: 0 }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        RealFs.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Step::Rename(self.relative(from), self.relative(to)), || RealFs.rename(from, to))
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Step::Rename(self.relative(from), self.relative(to)), || RealFs.rename_new(from, to))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run(Step::Unlink(self.relative(path)), || RealFs.remove_file(path))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Step::Unlink(self.relative(path)), || RealFs.remove_dir(path))
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        // as rm does: one name after the other
        for name in RealFs.read_dir(path)? {
            let path = path.join(name);
            match path.is_dir() {
                true => self.remove_dir_all(&path)?,
                false => self.remove_file(&path)?,
            }
        }
        self.remove_dir(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealFs.exists(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let relative = self.relative(path);
        let (works, fails) = (Step::SyncDir(relative.clone()), Step::SyncDirFailed(relative));
        self.sync(works, fails, || RealFs.sync_dir(path))
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        RealFs.space(path)
    }
}
