//! The control socket: a Unix-domain stream socket in the spool's folder, 0600, and where the
//! configuration names one (`control.socket`), another one there, for a group.
//!
//! It is named for the slices that its owner has, so that drains of disjoint slices have one each. A
//! socket of a dead owner refuses connections, and the next owner of those slices takes its place. What is
//! no socket is left alone, and so is the socket of a successor: an owner takes away its own only.
//!
//! Whoever may write in the folder can put another file in the name's place at any moment, so mode, owner
//! and group are set by what the name was opened as, and only if that is the socket just made. In a folder
//! that everybody may write in, a command believes root, its own user and the spool's owner alone.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, chownat, fstat, open};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use super::error::ControlError;
use crate::slice::XxRange;
use crate::spool::fs::give_socket_away;

/// Connections that wait to be accepted, at most.
const BACKLOG: i32 = 64;

/// Where a socket is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the spool's folder, for its owner alone.
    Spool { root: PathBuf, range: XxRange },
    /// Anywhere, and for a group.
    Named { path: PathBuf, group: Option<String> },
}

/// A socket that is listened on; its name goes when it is dropped.
#[derive(Debug)]
pub struct Listening {
    pub listener: UnixListener,
    pub path: PathBuf,
    /// Device and inode of the name: as long as we listen, no other file has them.
    identity: (u64, u64),
    /// The users who may ask; `None`: whom the mode lets in.
    users: Option<Vec<u32>>,
}

impl Listening {
    /// Whether the other end of an accepted connection is a user whom this socket is for.
    pub(super) fn may_ask(&self, stream: impl std::os::fd::AsFd) -> bool {
        match &self.users {
            None => true,
            Some(users) => peer(stream).is_ok_and(|uid| users.contains(&uid)),
        }
    }
}

impl Place {
    pub fn path(&self) -> PathBuf {
        match self {
            Place::Spool { root, range } => root.join(name_of(*range)),
            Place::Named { path, .. } => path.clone(),
        }
    }

    /// Listens. For a place in a spool, its slices must be ours. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ControlError::Listen`], [`ControlError::InUse`], [`ControlError::NotASocket`],
    /// [`ControlError::NoSuchGroup`].
    pub fn listen(&self) -> Result<Listening, ControlError> {
        let path = self.path();
        let failed = |source| ControlError::Listen { path: path.clone(), source };
        let (mode, group) = match self {
            Place::Named { group: Some(group), .. } => (0o660, Some(gid_of(group)?)),
            _ => (0o600, None),
        };
        match std::fs::symlink_metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
            // a link too: it is somebody's, wherever it leads
            Ok(there) if !there.file_type().is_socket() => return Err(ControlError::NotASocket { path }),
            Ok(_) if matches!(self, Place::Named { .. }) && connect(&path).is_ok() => {
                return Err(ControlError::InUse { path });
            }
            Ok(_) => match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            },
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let short = Short::of(&path).map_err(failed)?;
        socket.bind(&SockAddr::unix(&short.path).map_err(failed)?).map_err(failed)?;
        // all of it before anybody can connect
        let made = Made::open(&path).map_err(failed)?;
        if matches!(self, Place::Spool { .. }) {
            // root may drain a spool of somebody else's, whose commands must reach it
            give_socket_away(&path).map_err(failed)?;
        }
        if let Some(gid) = group {
            made.give_to_group(gid).map_err(failed)?;
        }
        made.set_mode(mode).map_err(failed)?;
        let identity = made.identity;
        socket.listen(BACKLOG).map_err(failed)?;
        let std_listener: std::os::unix::net::UnixListener = socket.into();
        let listener = UnixListener::from_std(std_listener).map_err(failed)?;
        Ok(Listening { listener, users: self.users(), path, identity })
    }

    /// Root, we, and the spool's owner; a group's socket is for whom its mode lets in.
    fn users(&self) -> Option<Vec<u32>> {
        let us = [0, rustix::process::geteuid().as_raw()];
        match self {
            Place::Named { group: Some(_), .. } => None,
            Place::Named { .. } => Some(us.to_vec()),
            Place::Spool { root, .. } => {
                let owner = std::fs::metadata(root).map(|m| m.uid()).ok();
                Some(us.into_iter().chain(owner).collect())
            }
        }
    }
}

/// The name of a socket that was just made, opened without following a link: what is done to it is done to
/// that very file, whatever its name comes to mean.
struct Made {
    file: OwnedFd,
    identity: (u64, u64),
}

impl Made {
    fn open(path: &Path) -> io::Result<Self> {
        let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&file)?;
        let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::Socket
            && stat.st_nlink == 1
            && stat.st_uid == rustix::process::geteuid().as_raw();
        if !is_ours {
            let said = "something else took its place while it was made: who else may write in that folder?";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, said));
        }
        Ok(Self { file, identity: (stat.st_dev, stat.st_ino) })
    }

    fn give_to_group(&self, gid: u32) -> io::Result<()> {
        Ok(chownat(&self.file, "", None, Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        // a file that is only named so can't be given a mode but by this way
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let removed = match identity_of(&self.path) {
            Ok(identity) if identity == self.identity => std::fs::remove_file(&self.path),
            // the next owner's
            Ok(_) => return,
            Err(e) => Err(e),
        };
        if let Err(e) = removed
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("the control socket {} stays: {e}", self.path.display());
        }
    }
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    let there = std::fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

/// Connects; a name that nobody listens on is `ConnectionRefused`.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(&Short::of(path)?.path)
}

/// The user at the other end of a connection.
pub(super) fn peer(stream: impl std::os::fd::AsFd) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw())
}

/// The sockets of a spool, of owners dead or alive.
pub(super) fn in_spool(root: &Path) -> Vec<PathBuf> {
    // a folder that isn't ours to read has none for us
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut all: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("control") && name.ends_with(".sock")
        })
        .map(|entry| entry.path())
        .collect();
    all.sort();
    all
}

fn name_of(range: XxRange) -> String {
    if range == XxRange::ALL { "control.sock".to_owned() } else { format!("control-{range}.sock") }
}

fn gid_of(group: &str) -> Result<u32, ControlError> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    match nix::unistd::Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        _ => Err(ControlError::NoSuchGroup { group: group.to_owned() }),
    }
}

/// A path by way of its open folder: a socket's address holds 107 octets, and folders nest deeper.
struct Short {
    path: PathBuf,
    _folder: File,
}

impl Short {
    fn of(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = File::open(folder)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(Self { path, _folder: folder })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    fn deep() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("a-folder-with-a-rather-long-name".repeat(5));
        std::fs::create_dir_all(&root).expect("made");
        (folder, root)
    }

    #[tokio::test]
    async fn a_socket_in_a_deep_folder_is_for_its_owner_alone_and_goes_when_it_is_dropped() {
        let (_folder, root) = deep();
        let place = Place::Spool { root: root.clone(), range: XxRange::ALL };
        let listening = place.listen().expect("listens");
        let mode = std::fs::metadata(&listening.path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(in_spool(&root), [root.join("control.sock")]);
        assert!(connect(&listening.path).is_ok());
        drop(listening);
        assert!(in_spool(&root).is_empty());
    }

    #[tokio::test]
    async fn a_dead_owners_socket_is_taken_over_and_a_living_strangers_is_not() {
        let (_folder, root) = deep();
        let place = Place::Spool { root: root.clone(), range: XxRange::ALL };
        let listening = place.listen().expect("listens");
        let path = listening.path.clone();
        // as a kill leaves it: the name without the listener
        std::fs::hard_link(&path, root.join("kept")).expect("linked");
        drop(listening);
        std::fs::rename(root.join("kept"), &path).expect("back");
        assert_eq!(connect(&path).expect_err("nobody there").kind(), io::ErrorKind::ConnectionRefused);
        let _living = place.listen().expect("taken over");
        let stranger = Place::Named { path, group: None };
        assert!(matches!(stranger.listen(), Err(ControlError::InUse { .. })));
    }

    #[tokio::test]
    async fn a_file_where_the_socket_is_to_be_is_left_alone_and_the_error_says_what_to_do() {
        let (_folder, root) = deep();
        let (file, link) = (root.join("control.sock"), root.join("link"));
        std::fs::write(&file, "somebody's").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        for place in [
            Place::Spool { root: root.clone(), range: XxRange::ALL },
            Place::Named { path: file.clone(), group: None },
            Place::Named { path: link.clone(), group: None },
        ] {
            let error = place.listen().expect_err("refused");
            assert!(matches!(error, ControlError::NotASocket { .. }), "{error}");
            let error = error.to_string();
            assert!(error.contains(&*place.path().to_string_lossy()) && error.contains("control.socket"));
        }
        assert_eq!(std::fs::read_to_string(&link).expect("there"), "somebody's");
    }

    #[tokio::test]
    async fn an_ending_owner_leaves_its_successors_socket() {
        let (_folder, root) = deep();
        let place = Place::Spool { root: root.clone(), range: XxRange::ALL };
        let ending = place.listen().expect("listens");
        let successor = place.listen().expect("takes the name over");
        drop(ending);
        assert!(connect(&successor.path).is_ok());
        drop(successor);
        assert!(in_spool(&root).is_empty());
    }

    #[tokio::test]
    async fn roots_socket_in_somebodys_spool_is_that_users() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not root: not tested");
            return;
        }
        let (_folder, root) = deep();
        chown(&root, Some(65_534), Some(65_534)).expect("given away");
        let place = Place::Spool { root: root.clone(), range: XxRange::ALL };
        let listening = place.listen().expect("listens");
        let metadata = std::fs::symlink_metadata(&listening.path).expect("there");
        assert_eq!((metadata.uid(), metadata.gid()), (65_534, 65_534));
        // a link, or a second name, is left alone
        let outside = root.join("file");
        std::fs::write(&outside, "root's").expect("written");
        let link = root.join("link");
        std::os::unix::fs::symlink(&outside, &link).expect("linked");
        assert!(give_socket_away(&link).is_err() && give_socket_away(&outside).is_err());
        assert_eq!(std::fs::metadata(&outside).expect("there").uid(), 0);
    }

    #[tokio::test]
    async fn a_group_that_is_not_there_is_named() {
        let (_folder, root) = deep();
        let place = Place::Named { path: root.join("x.sock"), group: Some("no-such-group".into()) };
        let error = place.listen().expect_err("refused").to_string();
        assert!(error.contains("no-such-group") && error.contains("control.socket_group"), "{error}");
    }
}
