//! The commands' end of the control socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::error::ControlError;
use super::protocol::{Reply, Request};
use super::socket;

/// The longest that an answer may take: a change of state waits for transactions in flight.
const ANSWER_WAIT: Duration = Duration::from_secs(90);

/// Octets of an answer, at most: a spool of a million jobs has a list of less.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

const OTHERS_WRITE: u32 = 0o002;

/// An owner that listens.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    root: PathBuf,
}

impl Client {
    /// Every owner of the spool that listens, that of `named` (`control.socket`) first. None where
    /// nobody does; then commands act on the spool themselves.
    ///
    /// # Errors
    /// [`ControlError::Connect`] where a socket is there and not for us.
    pub fn all(root: &Path, named: Option<&Path>) -> Result<Vec<Self>, ControlError> {
        let mut found = Vec::new();
        for path in socket::in_spool(root) {
            if is_alive(&path)? {
                found.push(Self { path, root: root.to_owned() });
            }
        }
        if found.is_empty()
            && let Some(path) = named
            && is_alive(path)?
        {
            found.push(Self { path: path.to_path_buf(), root: root.to_owned() });
        }
        Ok(found)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`ControlError`]; the owner's own are `Refused`. `Stranger`: whoever listens there may have made the
    /// socket to be asked in the owner's place; nothing was said to it.
    pub fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ControlError> {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        let connected = socket::connect(&self.path);
        let stream = connected.map_err(|source| ControlError::Connect { path: self.path.clone(), source })?;
        check_peer(&stream, &self.path, &self.root)?;
        stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(ControlError::Broken)?;
        let mut line = serde_json::to_string(request).map_err(|e| ControlError::BadReply(e.to_string()))?;
        line.push('\n');
        (&stream).write_all(line.as_bytes()).map_err(ControlError::Broken)?;
        let mut answer = String::new();
        let mut reader = BufReader::new(&stream).take(ANSWER_BYTES_MAX);
        reader.read_line(&mut answer).map_err(|error| match error.kind() {
            WouldBlock | TimedOut => ControlError::NoAnswer { waited: ANSWER_WAIT },
            _ => ControlError::Broken(error),
        })?;
        if answer.is_empty() {
            return Err(ControlError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&answer) {
            Ok(Reply::Ok(value)) => {
                serde_json::from_value(value).map_err(|e| ControlError::BadReply(e.to_string()))
            }
            Ok(Reply::Ending { text }) => Err(ControlError::Ending(text)),
            Ok(Reply::Error { text, exit_code }) => Err(ControlError::Refused { text, exit_code }),
            Err(e) => Err(ControlError::BadReply(e.to_string())),
        }
    }
}

/// In a folder that everybody may write in, a socket may be anybody's: there only root, we ourselves and the
/// spool's owner are believed.
fn check_peer(stream: &UnixStream, path: &Path, root: &Path) -> Result<(), ControlError> {
    let failed = |source| ControlError::Connect { path: path.to_path_buf(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if std::fs::metadata(folder).map_err(failed)?.mode() & OTHERS_WRITE == 0 {
        return Ok(());
    }
    let uid = socket::peer(stream).map_err(failed)?;
    // a spool that isn't ours to see has an owner that we can't tell
    let owner = std::fs::metadata(root).map(|m| m.uid()).ok();
    if uid == 0 || uid == rustix::process::geteuid().as_raw() || Some(uid) == owner {
        return Ok(());
    }
    Err(ControlError::Stranger { path: path.to_path_buf(), uid })
}

fn is_alive(path: &Path) -> Result<bool, ControlError> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    match socket::connect(path) {
        // a probe that asks nothing
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), ConnectionRefused | NotFound) => Ok(false),
        Err(source) => Err(ControlError::Connect { path: path.to_path_buf(), source }),
    }
}
