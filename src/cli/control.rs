//! The owners that a command talks to, where there are any.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::exit;
use super::session::Session;
use crate::control::{Client, ControlError, Request};

/// How long an owner that ends, or restarts, is asked again, from the first time that it broke off.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const ASK_AGAIN_EVERY: Duration = Duration::from_millis(100);

/// Every owner of the session's spool that listens. None: commands act on the spool themselves.
///
/// # Errors
/// A socket that is not for us (77).
pub fn owners(session: &Session) -> anyhow::Result<Vec<Client>> {
    Ok(of(session)?)
}

/// Asks one owner. `None`: nobody listens, or nobody any more; the command then acts on the spool itself.
/// An owner may end between the deed and the answer: then the same is asked twice, and the second answer
/// counts.
///
/// # Errors
/// As [`owners`], and those of the owner.
pub fn ask<T: DeserializeOwned>(session: &Session, request: &Request) -> anyhow::Result<Option<T>> {
    patiently(|| match of(session)?.first() {
        Some(owner) => owner.ask(request).map(Some),
        None => Ok(None),
    })
}

/// Asks every owner; as [`ask`] otherwise. None where nobody listens.
///
/// # Errors
/// As [`ask`].
pub fn ask_each<T: DeserializeOwned>(session: &Session, request: &Request) -> anyhow::Result<Vec<T>> {
    patiently(|| of(session)?.iter().map(|owner| owner.ask(request)).collect())
}

fn of(session: &Session) -> Result<Vec<Client>, ControlError> {
    Client::all(&session.spool_dir, session.config.control.socket.as_deref())
}

fn patiently<T>(mut attempt: impl FnMut() -> Result<T, ControlError>) -> anyhow::Result<T> {
    let mut broken: Option<Instant> = None;
    loop {
        match attempt() {
            Err(e) if e.is_passing() && broken.get_or_insert_with(Instant::now).elapsed() < ASK_AGAIN => {
                std::thread::sleep(ASK_AGAIN_EVERY);
            }
            other => return Ok(other?),
        }
    }
}

/// The exit code of an error of the control socket.
pub fn exit_code(error: &ControlError) -> u8 {
    match error {
        ControlError::Refused { exit_code, .. } => *exit_code,
        ControlError::Ending(_) => exit::PENDING,
        ControlError::NoSuchGroup { .. } => exit::BAD_CONFIG,
        ControlError::InUse { .. } | ControlError::NotASocket { .. } => exit::CANT_CREATE,
        ControlError::Stranger { .. } => exit::NO_PERMISSION,
        ControlError::Listen { source, .. } => exit::of_io(source, exit::CANT_CREATE),
        ControlError::Connect { source, .. } | ControlError::Broken(source) => {
            exit::of_io(source, exit::IO_ERROR)
        }
        ControlError::NoAnswer { .. } => exit::PENDING,
        ControlError::BadReply(_) => exit::IO_ERROR,
    }
}
