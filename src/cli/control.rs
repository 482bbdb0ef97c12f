//! The owners that a command talks to, where there are any.

use super::exit;
use super::session::Session;
use crate::control::{Client, ControlError};

/// Every owner of the session's spool that listens. None: commands act on the spool themselves.
///
/// # Errors
/// A socket that is not for us (77).
pub fn owners(session: &Session) -> anyhow::Result<Vec<Client>> {
    Ok(Client::all(&session.spool_dir, session.config.control.socket.as_deref())?)
}

/// The exit code of an error of the control socket.
pub fn exit_code(error: &ControlError) -> u8 {
    match error {
        ControlError::Refused { exit_code, .. } => *exit_code,
        ControlError::NoSuchGroup { .. } => exit::BAD_CONFIG,
        ControlError::InUse { .. } | ControlError::NotASocket { .. } => exit::CANT_CREATE,
        ControlError::Listen { source, .. } => exit::of_io(source, exit::CANT_CREATE),
        ControlError::Connect { source, .. } | ControlError::Broken(source) => {
            exit::of_io(source, exit::IO_ERROR)
        }
        ControlError::BadReply(_) => exit::IO_ERROR,
    }
}
