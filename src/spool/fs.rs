//! The file system as the spool uses it: blocking calls, each of which can fail.
//!
//! Everything that must survive a crash goes through this trait, so that the same code runs on the
//! real file system and on a faulty one in tests. Kernel locks are the one exception (`own.rs`,
//! `hold.rs`).
//!
//! What root creates in a folder of somebody else's is given to that user and group at once, so that
//! `sudo infeed submit` into the spool of a daemon leaves nothing that the daemon can't read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Free space on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it, free or not.
    pub bytes_total: u64,
    /// 0 where the file system doesn't count inodes.
    pub inodes_total: u64,
    pub bytes_free: u64,
    /// `u64::MAX` where the file system doesn't count inodes (btrfs).
    pub inodes_free: u64,
    /// `statfs(2)`'s `f_type`.
    pub magic: u64,
}

/// An open file. Errors are the operating system's.
pub trait FsFile: Send + Sync {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Writes at an offset; short writes are completed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to `buf.len()` at an offset; 0 at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reserves `len` bytes of zeros on disk.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// `fdatasync(2)`: on Ok the content and length are on disk.
    fn sync(&self) -> io::Result<()>;
}

/// The calls that the spool makes. Files are created 0600, folders 0700.
pub trait Fs: Send + Sync + 'static {
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names, in no order; entries whose names are not UTF-8 are left out (the spool makes none).
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>>;
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Fails if it exists.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Atomic; replaces a file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Atomic; fails with `AlreadyExists` when `to` is there.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// An empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Makes the folder's entries durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// Creates, writes and syncs a file that must not exist yet.
pub fn write_new(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs.create_new(path)?;
    file.append(bytes)?;
    file.sync()
}

/// Replaces a file atomically and durably: temporary, sync, rename, sync of the folder.
pub fn replace(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let tmp = path.with_extension(format!("{}.{}.tmp", std::process::id(), fastrand::u32(..)));
    if let Err(e) = write_new(fs, &tmp, bytes).and_then(|()| fs.rename(&tmp, path)) {
        // a full disk is not to be filled with leftovers
        if let Err(left) = fs.remove_file(&tmp) {
            tracing::debug!("{}: {left}", tmp.display());
        }
        return Err(e);
    }
    match path.parent() {
        Some(parent) => fs.sync_dir(parent),
        None => Ok(()),
    }
}

/// Opens a file for its kernel lock, and creates it where it is absent; never through a symbolic link.
pub(super) fn open_lockable(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    give_away(&file, path)?;
    Ok(file)
}

/// What is root's, in a folder that isn't, becomes the folder owner's. Nothing for anybody but root.
pub(crate) fn give_away(file: &File, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::metadata(parent)?,
        _ => fs::metadata(".")?,
    };
    if folder.uid() != 0 && file.metadata()?.uid() == 0 {
        std::os::unix::fs::fchown(file, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

/// The same for a socket, which can't be opened: it is looked at before, for whoever the folder belongs to
/// may have put anything in its place.
///
/// # Errors
/// The operating system's; `InvalidInput` when it is no socket, or has another name too.
pub fn give_socket_away(path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, open};
    let folder = fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
    if !rustix::process::geteuid().is_root() || folder.uid() == 0 {
        return Ok(());
    }
    let socket = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&socket)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_nlink != 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no longer the socket that was made"));
    }
    let (uid, gid) = (Uid::from_raw(folder.uid()), Gid::from_raw(folder.gid()));
    chownat(&socket, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    Ok(())
}

/// The real one.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealFs;

struct RealFile(File);

impl FsFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, len) {
            // ZFS and old tmpfs can't reserve; the file then grows as it is written
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            other => other.map_err(Into::into),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Fs for RealFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)?;
        if rustix::process::geteuid().is_root() {
            // never through a link that somebody put in its place
            let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
            give_away(&OpenOptions::new().read(true).custom_flags(flags).open(path)?, path)?;
        }
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        give_away(&file, path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // ZFS before 2.2 has no RENAME_NOREPLACE; renaming a folder onto a folder that holds
            // something fails there too, and every folder that the spool renames holds something
            Err(rustix::io::Errno::INVAL) if from.is_dir() => fs::rename(from, to),
            other => other.map_err(Into::into),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let s = rustix::fs::statfs(path)?;
        let block = u64::try_from(s.f_bsize).unwrap_or(0);
        Ok(Space {
            bytes_total: s.f_blocks.saturating_mul(block),
            inodes_total: s.f_files,
            bytes_free: s.f_bavail.saturating_mul(block),
            inodes_free: if s.f_files == 0 { u64::MAX } else { s.f_ffree },
            magic: u64::try_from(s.f_type).unwrap_or(0),
        })
    }
}
