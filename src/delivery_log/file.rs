//! The file of the delivery log: opened without following a link, put aside by size, opened anew when it was moved.
//!
//! Several runs may write to one file (each drains slices of its own): a kernel lock is held while lines are
//! written, and while the file is put aside. What can't be written whole is taken back.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::spool::fs::give_away;

use super::{DeliveryLogConfig, DeliveryLogError};

/// How often a file that is moved away under our hands is opened anew for the same lines.
const MOVES_MAX: usize = 8;

/// The log's file.
#[derive(Debug)]
pub(super) struct LogFile {
    config: DeliveryLogConfig,
    /// `None`: to be opened.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    device: u64,
    inode: u64,
}

impl LogFile {
    pub fn open(config: &DeliveryLogConfig) -> Result<Self, DeliveryLogError> {
        let mut file = Self { config: config.clone(), open: None };
        file.reopen()?;
        Ok(file)
    }

    pub fn path(&self) -> &Path {
        &self.config.file
    }

    /// What lies at the path from now on; made where there is nothing.
    pub fn reopen(&mut self) -> Result<(), DeliveryLogError> {
        self.open = None;
        let path = &self.config.file;
        let cannot = |source| DeliveryLogError::Open { path: path.clone(), source };
        // not to hang at a pipe without a reader, before it is known that it is one
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)
            .map_err(|e| if is_link(path) { cannot(link()) } else { cannot(e) })?;
        let there = file.metadata().map_err(cannot)?;
        if let Some(reason) = unfit(&there) {
            return Err(DeliveryLogError::Unfit { path: path.clone(), reason });
        }
        // what root writes in the folder of somebody else is theirs
        give_away(&file, path).map_err(cannot)?;
        self.open = Some(Open { device: there.dev(), inode: there.ino(), file });
        Ok(())
    }

    /// Appends whole lines; all of them or none.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        for _ in 0..MOVES_MAX {
            if self.open.is_none() {
                self.reopen().map_err(io::Error::other)?;
            }
            let Some(open) = &self.open else { continue };
            flock(&open.file, FlockOperation::LockExclusive)?;
            if !open.lies_at(&self.config.file) {
                self.open = None;
                continue;
            }
            let size = open.file.metadata()?.len();
            let max = self.config.bytes_max;
            if max > 0 && size > 0 && size + lines.len() as u64 > max && self.put_aside() {
                self.open = None;
                continue;
            }
            let Some(open) = &self.open else { continue };
            let written = (&open.file).write_all(lines);
            if written.is_err()
                && let Err(e) = open.file.set_len(size)
            {
                tracing::warn!("{}: half a line stays in it: {e}", self.config.file.display());
            }
            flock(&open.file, FlockOperation::Unlock)?;
            return written;
        }
        Err(io::Error::other("it is moved away again and again"))
    }

    /// FILE becomes FILE.1, FILE.1 becomes FILE.2; the oldest goes. False when it can't be: the file grows on.
    fn put_aside(&self) -> bool {
        let path = &self.config.file;
        let numbered = |n: usize| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..self.config.keep).rev() {
            match std::fs::rename(numbered(n), numbered(n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("{} stays where it is: {e}", numbered(n).display());
                    return false;
                }
                _ => {}
            }
        }
        match std::fs::rename(path, numbered(1)) {
            Ok(()) => true,
            Err(e) => {
                tracing::warn!("{} is not put aside: {e}", path.display());
                false
            }
        }
    }
}

impl Open {
    fn lies_at(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (self.device, self.inode))
    }
}

fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink())
}

fn link() -> io::Error {
    io::Error::other("it is a symbolic link, which is not followed: name the file itself")
}

/// Why lines don't go there: addresses stand in them.
fn unfit(there: &Metadata) -> Option<&'static str> {
    let us = rustix::process::geteuid().as_raw();
    if !there.is_file() {
        return Some("it is no file");
    }
    if there.uid() != us && us != 0 {
        return Some("it belongs to another user: remove it, or name another file");
    }
    if there.nlink() > 1 {
        return Some("it has a second name elsewhere: see who has linked it, and remove it");
    }
    None
}
