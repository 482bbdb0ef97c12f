//! The real file system with faults on demand, for tests: it fails, or dies, at the n-th call.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::fs::{Fs, FsFile, RealFs, Space};

/// What happens at the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This call fails with an error of the operating system's; the ones after it work again.
    Once(i32),
    /// This call and the ones after it fail so, until it is mended.
    UntilMended(i32),
    /// This call and every later one that changes something fails: the process is as good as dead.
    Death,
    /// A write stops half-way, and then as `Death`.
    TornWrite,
}

/// Counts the calls that change something, or all, and fails at the chosen one.
#[derive(Clone)]
pub struct FaultyFs {
    shared: Arc<Shared>,
}

struct Shared {
    fault: Fault,
    calls: AtomicU64,
    at: u64,
    /// Calls that only look are counted, and fail, too.
    reads: bool,
    dead: AtomicBool,
    mended: AtomicBool,
}

impl FaultyFs {
    /// Fails at the `at`-th call (from 0) that changes something.
    pub fn new(fault: Fault, at: u64) -> Self {
        Self::with(fault, at, false)
    }

    /// The same of all calls.
    pub fn with_reads(fault: Fault, at: u64) -> Self {
        Self::with(fault, at, true)
    }

    fn with(fault: Fault, at: u64, reads: bool) -> Self {
        let (calls, dead, mended) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { fault, calls, at, reads, dead, mended }) }
    }

    /// From now on everything works.
    pub fn mend(&self) {
        self.shared.mended.store(true, Ordering::SeqCst);
    }

    /// Calls so far that count.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    fn step(&self) -> io::Result<()> {
        let n = self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.dead.load(Ordering::SeqCst) {
            return Err(io::Error::other("dead"));
        }
        let is_mended = self.shared.mended.load(Ordering::SeqCst);
        if n < self.shared.at || is_mended {
            return Ok(());
        }
        match self.shared.fault {
            Fault::UntilMended(errno) => Err(io::Error::from_raw_os_error(errno)),
            _ if n > self.shared.at => Ok(()),
            Fault::Once(errno) => Err(io::Error::from_raw_os_error(errno)),
            Fault::Death | Fault::TornWrite => {
                self.shared.dead.store(true, Ordering::SeqCst);
                Err(io::Error::other("dies now"))
            }
        }
    }

    fn look(&self) -> io::Result<()> {
        if self.shared.reads { self.step() } else { Ok(()) }
    }

    /// Runs a write of `bytes`, the first half only where it is to be torn.
    fn write(&self, bytes: &[u8], write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let tears = self.shared.fault == Fault::TornWrite
            && self.calls() == self.shared.at
            && !self.shared.dead.load(Ordering::SeqCst);
        match self.step() {
            Ok(()) => write(bytes),
            Err(e) => {
                if tears {
                    write(&bytes[..bytes.len() / 2])?;
                }
                Err(e)
            }
        }
    }
}

struct FaultyFile {
    fs: FaultyFs,
    file: Box<dyn FsFile>,
}

impl FsFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fs = self.fs.clone();
        fs.write(bytes, &mut |b| self.file.append(b))
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fs.write(bytes, &mut |b| self.file.write_at(b, offset))
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.fs.step()?;
        self.file.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.fs.step()?;
        self.file.sync()
    }
}

impl Fs for FaultyFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealFs.create_dir(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealFs.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.look()?;
        RealFs.read_dir(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.look()?;
        RealFs.read(path)
    }
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.step()?;
        Ok(Box::new(FaultyFile { fs: self.clone(), file: RealFs.create_new(path)? }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.look()?;
        RealFs.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        RealFs.rename(from, to)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        RealFs.rename_new(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealFs.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealFs.remove_dir(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealFs.remove_dir_all(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.look()?;
        RealFs.exists(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealFs.sync_dir(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        RealFs.space(path)
    }
}
