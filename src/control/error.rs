//! What can go wrong between a command and the owner that it talks to.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Control's errors.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the control socket {} can't be made: {source}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error(
        "another process listens on the control socket {}; stop it, or set control.socket to another path",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error(
        "something that is no socket lies where the control socket is to be, and is left alone: {}; move it \
         away, or set control.socket to another path",
        path.display()
    )]
    NotASocket { path: PathBuf },
    #[error("no group {group} on this machine; mend control.socket_group")]
    NoSuchGroup { group: String },
    #[error("the control socket {} can't be used: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error(
        "the control socket {} is listened on by user {uid}, who is neither root, nor you, nor the spool's \
         owner: nothing was said to it; remove it, or set control.socket to a path in a folder that not \
         everybody may write in",
        path.display()
    )]
    Stranger { path: PathBuf, uid: u32 },
    #[error(
        "the connection to the owner broke: {0}; what was asked may have been done: `infeed status` tells"
    )]
    Broken(io::Error),
    #[error(
        "the owner has not answered for {} s; what was asked may be done later: `infeed status` tells",
        waited.as_secs()
    )]
    NoAnswer { waited: Duration },
    #[error("the owner's answer can't be read: {0}; is it another version of infeed?")]
    BadReply(String),
    /// The owner's run ends: ask again.
    #[error("{0}")]
    Ending(String),
    /// The owner's own words, with the exit code that it gives.
    #[error("{text}")]
    Refused { text: String, exit_code: u8 },
}

impl ControlError {
    /// An owner that ends, restarts, or has just gone: whoever asks again finds another, or none.
    pub fn is_passing(&self) -> bool {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        match self {
            ControlError::Ending(_) | ControlError::Broken(_) => true,
            ControlError::Connect { source, .. } => matches!(source.kind(), ConnectionRefused | NotFound),
            _ => false,
        }
    }
}
