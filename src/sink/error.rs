//! What can go wrong with the sink itself.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An operating error of the sink. Each message is whole: it names the place, the cause and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(
        "the sink can't listen on {addr}: {cause}; choose another --listen address, or port 0 for a free one"
    )]
    Listen { addr: SocketAddr, cause: io::Error },
    #[error("the sink was started outside a tokio runtime; start it from within one")]
    NoRuntime,
    #[error("{}: the ledger can't be opened: {cause}; name a file in a folder that you may write to", path.display())]
    LedgerOpen { path: PathBuf, cause: io::Error },
    #[error(
        "{}: the ledger could not be written {times} times, first: {first}; those messages were deferred (451), so free some space and send again",
        path.display()
    )]
    LedgerWrite { path: PathBuf, times: u64, first: String },
    #[error("{}: the store can't be used: {cause}; name a folder that you may write to", path.display())]
    Store { path: PathBuf, cause: io::Error },
    #[error("{}: the scenario can't be read: {cause}; check its path and permissions", path.display())]
    ScenarioRead { path: PathBuf, cause: io::Error },
    #[error("{}, line {line}: {what}", path.display())]
    Scenario { path: PathBuf, line: usize, what: String },
    #[error(
        "--listen {listen}: {what}; write ADDRESS:PORT, for instance 127.0.0.1:2525, or [::1]:0 for a free port"
    )]
    Address { listen: String, what: String },
}

impl SinkError {
    /// The sysexits code for a command that ends with this error.
    pub fn exit_code(&self) -> u8 {
        let denied = |e: &io::Error| e.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::Listen { cause, .. } if denied(cause) => 77,
            Self::Listen { .. } => 69,
            Self::NoRuntime => 70,
            Self::LedgerOpen { cause, .. } | Self::Store { cause, .. } if denied(cause) => 77,
            Self::LedgerOpen { .. } | Self::Store { .. } => 73,
            Self::LedgerWrite { .. } => 74,
            Self::ScenarioRead { .. } => 66,
            Self::Scenario { .. } => 78,
            Self::Address { .. } => 64,
        }
    }
}
