//! The real file system, with its syncs and its new files and folders counted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use infeed::spool::fs::{Fs, FsFile, RealFs, Space};

/// Counts what one spool handle asks of the disk.
#[derive(Clone, Default)]
pub struct CountingFs {
    counted: Arc<Counted>,
}

#[derive(Default)]
struct Counted {
    syncs: AtomicU64,
    inodes: AtomicU64,
}

impl CountingFs {
    /// `fdatasync` of files and `fsync` of folders so far.
    pub fn syncs(&self) -> u64 {
        self.counted.syncs.load(Relaxed)
    }

    /// Files and folders made so far.
    pub fn inodes(&self) -> u64 {
        self.counted.inodes.load(Relaxed)
    }
}

struct CountingFile {
    file: Box<dyn FsFile>,
    counted: Arc<Counted>,
}

impl FsFile for CountingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.counted.syncs.fetch_add(1, Relaxed);
        self.file.sync()
    }
}

impl Fs for CountingFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir(path)?;
        self.counted.inodes.fetch_add(1, Relaxed);
        Ok(())
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        RealFs.read_dir(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealFs.read(path)
    }
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = RealFs.create_new(path)?;
        self.counted.inodes.fetch_add(1, Relaxed);
        Ok(Box::new(CountingFile { file, counted: self.counted.clone() }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        RealFs.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename_new(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir_all(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealFs.exists(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.counted.syncs.fetch_add(1, Relaxed);
        RealFs.sync_dir(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        RealFs.space(path)
    }
}
