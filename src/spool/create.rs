//! Making a spool and its folders so that they are there after a power cut.
//!
//! A folder is durable once the one that it lies in was synced. Whoever made it may have died before that,
//! so what relies on it syncs again; and where the sync failed, the folder goes, for its name may be lost
//! while the next sync reports success. Errors: those of the file system, each with its path;
//! [`SpoolError::Damaged`] and [`SpoolError::FileSystem`] for a place that is not fit for a spool.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::dir::{DirSpool, SpoolMeta, machine_id, to_toml};
use super::error::{At, Result, SpoolError};
use super::fs;
use super::hold::Turn;
use super::job::FORMAT_PLAIN;
use super::layout::JobDir;
use super::owner::lock;

/// Jobs that are remembered to have durable folders for their results: a bound for memory.
const RESULTS_DIRS_MAX: usize = 1024;

impl DirSpool {
    /// The spool's folder and those above it that aren't there, innermost first.
    pub(super) fn missing(&self) -> Result<Vec<PathBuf>> {
        let mut missing = Vec::new();
        for folder in self.layout.root.ancestors().filter(|f| !f.as_os_str().is_empty()) {
            if self.fs.exists(folder).at("look at", folder)? {
                break;
            }
            missing.push(folder.to_owned());
        }
        Ok(missing)
    }

    /// Makes the spool in a folder for which these were made.
    pub(super) fn create(&self, made: &[PathBuf]) -> Result<()> {
        if let Err(e) = self.sync_above(made) {
            made.iter().for_each(|folder| self.unmake_dir(folder));
            return Err(e);
        }
        let root = &self.layout.root;
        let strangers: Vec<_> =
            self.fs.read_dir(root).at("list", root)?.into_iter().filter(|n| !n.starts_with('.')).collect();
        let ours = |n: &String| {
            ["locks", "commands"].contains(&n.as_str())
                || n.starts_with("meta.")
                || self.layout.folders().iter().any(|f| f.ends_with(n))
        };
        if let Some(name) = strangers.iter().find(|n| !ours(n) && *n != "lost+found") {
            let meta = self.layout.meta();
            if self.fs.exists(&meta).at("look at", &meta)? {
                // another process has made it meanwhile, and listens there
                return Ok(());
            }
            return Err(SpoolError::damaged(
                root,
                format!("it is no spool and not empty (it holds `{name}`): name an empty or a new folder"),
            ));
        }
        let _turn = Turn::take(&self.layout.commands())?;
        let path = self.layout.meta();
        if self.fs.exists(&path).at("look at", &path)? {
            // another process has made it meanwhile
            return Ok(());
        }
        for folder in self.layout.folders() {
            // one that is there may have been lost by a sync that failed: it is made anew
            match self.fs.remove_dir(&folder) {
                Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                    return Err(e).at("remove", &folder);
                }
                _ => drop(self.make_dir(&folder)?),
            }
        }
        self.fs.sync_dir(root).at("sync", root)?;
        let uuid = super::id::hex(&std::array::from_fn::<u8, 16, _>(|_| fastrand::u8(..)));
        let meta = SpoolMeta { format: FORMAT_PLAIN, uuid, machine_id: machine_id() };
        let made = fs::replace(self.fs.as_ref(), &path, to_toml(&meta).as_bytes()).at("write", &path);
        if made.is_err()
            && let Err(e) = self.fs.remove_file(&path)
        {
            // else the next one would take it as made
            tracing::debug!("{}: {e}", path.display());
        }
        made
    }

    /// Makes durable where the spool's folder is.
    fn sync_above(&self, made: &[PathBuf]) -> Result<()> {
        let root = std::slice::from_ref(&self.layout.root);
        for folder in if made.is_empty() { root } else { made } {
            let above = match folder.parent() {
                Some(above) if !above.as_os_str().is_empty() => above,
                Some(_) => Path::new("."),
                None => continue,
            };
            match self.fs.sync_dir(above) {
                // one may write there and not read
                Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                    tracing::warn!("{} can't be synced: {e}", above.display());
                }
                other => other.at("sync", above)?,
            }
        }
        Ok(())
    }

    /// Before anything is promised: whoever made the spool may have died before it was durable. Once a
    /// process.
    pub(super) fn ensure_durable(&self) -> Result<()> {
        if !self.is_durable.load(Ordering::Acquire) {
            let root = &self.layout.root;
            self.fs.sync_dir(root).at("sync", root)?;
            self.is_durable.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Refuses what isn't known to keep its promises: network file systems above all.
    pub(super) fn check_file_system(&self) -> Result<()> {
        let root = &self.layout.root;
        let magic = self.fs.space(root).at("look at the file system of", root)?.magic;
        let (name, durable) = match magic {
            0xEF53 => ("ext4", true),
            0x5846_5342 => ("XFS", true),
            0x9123_683E => ("btrfs", true),
            0x2FC1_2FC1 => ("ZFS", true),
            0x0102_1994 => ("tmpfs", false),
            0x794C_7630 => ("overlayfs", false),
            other => {
                let found = match other {
                    0x6969 => "NFS".to_owned(),
                    0xFF53_4D42 | 0xFE53_4D42 | 0x517B => "SMB".to_owned(),
                    0x6573_5546 => "FUSE".to_owned(),
                    n => format!("type {n:#x}"),
                };
                return Err(SpoolError::FileSystem { path: root.clone(), found });
            }
        };
        if !durable {
            tracing::warn!("{}: a spool on {name} does not survive a power cut", root.display());
        }
        Ok(())
    }

    /// Creates a folder unless it is there, durably.
    pub(super) fn ensure_dir(&self, path: &Path) -> Result<()> {
        match path.parent() {
            Some(parent) if self.make_dir(path)? => {
                let synced = self.fs.sync_dir(parent).at("sync", parent);
                if synced.is_err() {
                    self.unmake_dir(path);
                }
                synced
            }
            _ => Ok(()),
        }
    }

    /// Its name is lost, whatever a later sync says: the next try is to make it anew.
    fn unmake_dir(&self, path: &Path) {
        if let Err(e) = self.fs.remove_dir(path) {
            tracing::error!("{}: {e}", path.display());
        }
    }

    /// Creates the folder for the results of `xx`, durably: with it those of all the job's chunks, so that
    /// one sync serves them all.
    pub(super) fn ensure_result_dirs(&self, dir: &JobDir, xx: u8) -> Result<()> {
        let results = dir.results();
        let own = dir.results_of(xx);
        let mut made = Vec::new();
        if self.make_dir(&own)? {
            made.push(own);
        } else if lock(&self.results_dirs).contains(&results) {
            return Ok(());
        }
        // else whoever made it may have died before the sync
        for name in self.names(&dir.chunks())? {
            let folder = results.join(name);
            if self.make_dir(&folder)? {
                made.push(folder);
            }
        }
        let synced = self.fs.sync_dir(&results).at("sync", &results);
        if synced.is_err() {
            made.iter().for_each(|folder| self.unmake_dir(folder));
        }
        synced?;
        let mut known = lock(&self.results_dirs);
        if known.len() >= RESULTS_DIRS_MAX {
            // one more sync for each that is met again
            known.clear();
        }
        known.insert(results);
        Ok(())
    }

    /// Whether the folder was not there before.
    fn make_dir(&self, path: &Path) -> Result<bool> {
        match self.fs.create_dir(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e).at("create", path),
        }
    }
}
