//! How a running infeed is talked to: signals, the control socket, systemd.
//!
//! | file | is |
//! | --- | --- |
//! | `signals` | SIGTERM and SIGINT end a run in order, SIGHUP reloads |
//! | `socket` | where the control socket is, who may use it; both ends of it |
//! | `protocol` | what is asked and answered: a line of JSON each |
//! | `desk` | what is asked, carried out: changes of state go through the run |
//! | `server` | the owner's end of the socket |
//! | `client` | the commands' end |
//! | `status` | what `status` tells, with an owner and without |
//! | `notify` | readiness, watchdog and reload, as systemd wants to hear of them |
//!
//! Whoever owns slices (`serve`, but also `drain` and `send`) listens on a socket in the spool's folder,
//! so that commands act through it. Guarantees: a request that is answered `ok` has been carried out and
//! is durable; one whose connection breaks may have been. Errors: [`ControlError`].

mod client;
mod desk;
mod error;
#[cfg(test)]
mod fuzz;
pub mod notify;
mod protocol;
mod server;
mod signals;
mod socket;
mod status;

pub use client::Client;
pub use desk::{Desk, Trouble};
pub use error::ControlError;
pub use protocol::{AllPaused, JobCounts, REQUEST_BYTES_MAX, Reply, Request, Went};
pub use server::{Served, serve};
pub use signals::{hangups, stop_on_signals};
pub use socket::{Listening, Place};
pub use status::{
    Backlog, DomainLine, JobLine, JobsByState, MtaLine, OwnerLine, PausedLine, PhaseLine, RefusalLine,
    SpaceLine, Status, is_the_breakers, state_of,
};
