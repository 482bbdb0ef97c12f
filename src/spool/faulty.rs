//! The real file system with faults on demand, for tests: it fails, or dies, at the n-th write.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::fs::{Fs, FsFile, RealFs, Space};

/// What happens at the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This call fails with ENOSPC; the ones after it work again.
    NoSpaceOnce,
    /// This call and every later one that changes something fails: the process is as good as dead.
    Death,
    /// A write stops half-way, and then as `Death`.
    TornWrite,
}

/// Counts the calls that change something and fails at the chosen one.
#[derive(Clone)]
pub struct FaultyFs {
    shared: Arc<Shared>,
}

struct Shared {
    fault: Fault,
    calls: AtomicU64,
    at: u64,
    dead: AtomicBool,
}

impl FaultyFs {
    /// Fails at the `at`-th call (from 0) that changes something.
    pub fn new(fault: Fault, at: u64) -> Self {
        let shared = Shared { fault, calls: AtomicU64::new(0), at, dead: AtomicBool::new(false) };
        Self { shared: Arc::new(shared) }
    }

    /// Calls so far that change something.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    fn step(&self) -> io::Result<()> {
        let n = self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.dead.load(Ordering::SeqCst) {
            return Err(io::Error::other("dead"));
        }
        if n != self.shared.at {
            return Ok(());
        }
        match self.shared.fault {
            Fault::NoSpaceOnce => Err(io::ErrorKind::StorageFull.into()),
            Fault::Death | Fault::TornWrite => {
                self.shared.dead.store(true, Ordering::SeqCst);
                Err(io::Error::other("dies now"))
            }
        }
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
        RealFs.read_dir(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealFs.read(path)
    }
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.step()?;
        Ok(Box::new(FaultyFile { fs: self.clone(), file: RealFs.create_new(path)? }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
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
