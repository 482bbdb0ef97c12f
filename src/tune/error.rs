//! What can be wrong before anything is sent.

use std::path::PathBuf;

use crate::message::{AddressError, MessageError, RenderError};

/// Errors of [`crate::tune`]. Each names the flag or the file, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    #[error("--{flag}: {what}")]
    Flag { flag: &'static str, what: String },
    #[error("--to {address:?} is no address: {source}; write it as user@host, with %d where a number goes")]
    Address { address: String, source: AddressError },
    #[error(
        "--to gives {addresses} addresses, and a transaction is to have {recipients} different ones: let one of \
         them have %d, where each message gets a number of its own, such as rehearsal+%d@example.org"
    )]
    TooFewAddresses { addresses: usize, recipients: usize },
    #[error("{}: the message can't be read: {source}", path.display())]
    MessageRead { path: PathBuf, source: std::io::Error },
    #[error("{what}: {source}")]
    Message { what: String, source: MessageError },
    #[error("{what}: {source}")]
    Render { what: String, source: RenderError },
    #[error(
        "{messages_max} messages over {steps} steps are {transactions} transactions a step, and {connections} \
         connections want {wanted} at least: --messages-max {enough}, or fewer --connections and --rounds"
    )]
    TooFewMessages {
        messages_max: u64,
        steps: usize,
        transactions: u64,
        connections: usize,
        wanted: u64,
        enough: u64,
    },
    #[error("--mta {address}: the name can't be looked up: {source}")]
    Lookup { address: String, source: std::io::Error },
    #[error(
        "--mta {address} is not on this host ({found}), and thousands of rehearsal messages would go there: if \
         that machine is yours and expects them, add --not-loopback"
    )]
    NotLoopback { address: String, found: String },
    #[error("the plot can't be drawn: {0}")]
    Plot(String),
}
