//! The doors of a spool: who else could put a file where we are about to read or write.
//!
//! A spool's folders are 0700, so that nobody but its owner and root comes in. What is left are the folder
//! that it stands in, the spool's own folder before it is a spool, and root, who may be led by whoever owns
//! it. Checked whenever a spool is opened, before anything in it is read or written:
//!
//! | what is there | then |
//! | --- | --- |
//! | a link to the spool that another user has put into a shared folder | refused |
//! | a folder of another user (root aside) | refused, unless we are root |
//! | a folder that everybody may write in | refused |
//! | a link, or no folder, in place of one of its folders (`active`, `journal`, …) | refused |
//! | one of its folders belongs to neither root nor the spool's owner | refused |
//! | a link, no file, or a file with a second name, in place of `meta.toml`, `locks`, `commands`, `standstill.toml` | refused |
//!
//! A link that the operator has made (`/var/spool/infeed` → `/data/infeed`) is followed: it lies in a folder
//! that only root, or the link's owner, writes in, or it is ours. Errors: [`SpoolError::OpenDoor`], and
//! those of the file system.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{At, Result, SpoolError};
use super::layout::Layout;

/// Links on the way to a spool, at most, as the kernel has it.
const LINKS_MAX: usize = 40;
const OTHERS_WRITE: u32 = 0o002;

/// Checks the spool at `root`, as far as it is there. Blocks on the disk.
pub(super) fn check(layout: &Layout) -> Result<()> {
    let root = &layout.root;
    check_links(root)?;
    let Some(there) = look(root, fs::metadata)? else { return Ok(()) };
    if !there.is_dir() {
        return Err(door(root, "it is no folder", "name a folder that is empty, or not there yet"));
    }
    check_owner(root, &there)?;
    if there.mode() & OTHERS_WRITE != 0 {
        let fault = format!("everybody may write there (mode {:04o})", there.mode() & 0o7777);
        let remedy = format!(
            "chmod 700 {}, once you know what lies in it, or name a folder of your own in it",
            root.display()
        );
        return Err(door(root, fault, remedy));
    }
    // root may have made the folder for the user that made the spool
    let maker = look(&layout.meta(), fs::symlink_metadata)?.filter(|meta| there.uid() == 0 && meta.is_file());
    let owner = maker.map_or(there.uid(), |meta| meta.uid());
    for folder in layout.folders() {
        if let Some(inner) = look(&folder, fs::symlink_metadata)? {
            check_inner(&folder, &inner, owner, inner.is_dir(), "folder")?;
        }
    }
    for file in [layout.meta(), layout.locks(), layout.commands(), layout.standstill()] {
        if let Some(inner) = look(&file, fs::symlink_metadata)? {
            check_inner(&file, &inner, owner, inner.is_file(), "file")?;
            if inner.nlink() > 1 {
                let fault =
                    format!("it is one file with another that lies elsewhere ({} links)", inner.nlink());
                return Err(door(&file, fault, "see who has linked it, and put a copy in its place"));
            }
        }
    }
    Ok(())
}

fn door(path: &Path, fault: impl Into<String>, remedy: impl Into<String>) -> SpoolError {
    SpoolError::OpenDoor { path: path.to_path_buf(), fault: fault.into(), remedy: remedy.into() }
}

fn look(path: &Path, ask: fn(PathBuf) -> io::Result<Metadata>) -> Result<Option<Metadata>> {
    match ask(path.to_path_buf()) {
        Ok(there) => Ok(Some(there)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).at("look at", path),
    }
}

fn us() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Root works in the spools of others (`sudo infeed submit`); anybody else in their own, or in one that root
/// made for them.
fn check_owner(root: &Path, there: &Metadata) -> Result<()> {
    let (owner, us) = (there.uid(), us());
    if us == 0 || owner == us || owner == 0 {
        return Ok(());
    }
    let fault = format!("it belongs to user {owner}, and you are user {us}");
    Err(door(
        root,
        fault,
        format!("run this as that user (sudo -u '#{owner}' infeed ...), or name your own spool"),
    ))
}

fn check_inner(path: &Path, inner: &Metadata, owner: u32, is_right: bool, what: &str) -> Result<()> {
    if !is_right {
        let found = if inner.is_symlink() { "a symbolic link" } else { "something else" };
        let fault = format!("{found} lies where the spool has a {what}");
        return Err(door(path, fault, "see who has put it there, and move it away"));
    }
    if ![0, us(), owner].contains(&inner.uid()) {
        let fault = format!("it belongs to user {}, and the spool to user {}", inner.uid(), owner);
        return Err(door(path, fault, "see who has put it there, and move it away"));
    }
    Ok(())
}

/// The rule of the kernel's `fs.protected_symlinks`, which not every machine has on, for each link on the
/// way: in a folder that everybody may write in, only our own links, root's, and those of the folder's owner.
fn check_links(root: &Path) -> Result<()> {
    let mut left: Vec<_> = absolute(root)?.components().map(|c| c.as_os_str().to_owned()).collect();
    left.reverse();
    let (mut at, mut links) = (PathBuf::new(), 0);
    while let Some(name) = left.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let here = at.join(&name);
        let Some(there) = look(&here, fs::symlink_metadata)? else { return Ok(()) };
        if !there.is_symlink() {
            at = here;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(door(root, "it leads from link to link without end", "name another folder"));
        }
        let folder = fs::metadata(&at).at("look at", &at)?;
        let shared = folder.mode() & OTHERS_WRITE != 0;
        if shared && ![0, us(), folder.uid()].contains(&there.uid()) {
            let fault = format!(
                "{} is a link that user {} has put into a shared folder",
                here.display(),
                there.uid()
            );
            return Err(door(root, fault, "name the folder itself, in a place where others can't write"));
        }
        let target = fs::read_link(&here).at("read", &here)?;
        if target.is_absolute() {
            at = PathBuf::new();
        }
        let onward: Vec<_> = target.components().map(|c| c.as_os_str().to_owned()).collect();
        left.extend(onward.into_iter().rev());
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).at("look at", path)
}

#[cfg(test)]
#[path = "doors_tests.rs"]
mod tests;
