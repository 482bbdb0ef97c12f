//! What can go wrong with the sink itself.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An operating error of the sink. Each message names the place and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(
        "the sink can't listen on {addr}: {source}; choose another --listen address, or port 0 for a free one"
    )]
    Listen { addr: SocketAddr, source: io::Error },
    #[error("the sink was started outside a tokio runtime; start it from within one")]
    NoRuntime,
    #[error("{}: the ledger can't be opened: {source}; name a file in a folder that you may write to", path.display())]
    LedgerOpen { path: PathBuf, source: io::Error },
    #[error(
        "{}: the ledger could not be written {times} times, first: {first}; those messages were deferred (451), so free some space and send again",
        path.display()
    )]
    LedgerWrite { path: PathBuf, times: u64, first: String },
    #[error("{}: the store can't be used: {source}; name a folder that you may write to", path.display())]
    Store { path: PathBuf, source: io::Error },
    #[error("{}: the scenario can't be read: {source}", path.display())]
    ScenarioRead { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: {what}", path.display())]
    Scenario { path: PathBuf, line: usize, what: String },
    #[error("{setting}: {what}")]
    Setting { setting: &'static str, what: String },
}

impl SinkError {
    /// The sysexits code for a command that ends with this error.
    pub fn exit_code(&self) -> u8 {
        let denied = |e: &io::Error| e.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::Listen { source, .. } if denied(source) => 77,
            Self::Listen { .. } => 69,
            Self::NoRuntime => 70,
            Self::LedgerOpen { source, .. } | Self::Store { source, .. } if denied(source) => 77,
            Self::LedgerOpen { .. } | Self::Store { .. } => 73,
            Self::LedgerWrite { .. } => 74,
            Self::ScenarioRead { .. } => 66,
            Self::Scenario { .. } | Self::Setting { .. } => 78,
        }
    }
}
