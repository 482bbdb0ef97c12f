//! The sink: infeed's own MTA for load tests and rehearsals. It takes mail, counts it, can prove what
//! arrived, and misbehaves on demand.
//!
//! ```text
//!  server (listener, limits) → session (one task a connection) → ledger, store, counters
//!                                 ↑ wire · command · receiver      ↑ backlog
//!  settings → scenario (timeline) ┘ conduct (by address) · service (how long)
//! ```
//!
//! Guarantees:
//! - A recipient is in the ledger (by `write(2)`, not synced) before the reply to its final dot, or to its
//!   last chunk, is sent; what is in the ledger was taken, also when the reply was dropped on demand.
//! - After DATA, content ends only at a lone dot between two CRLFs; no bare CR or bare LF ever ends it.
//!   After BDAT it is as many octets as were announced, and a refused chunk's are read all the same.
//! - Replies keep the order of the commands and go out in one write when the input is exhausted.
//! - A percentage is thrown from a seed, so that a run can be repeated.
//!
//! Errors: [`SinkError`], from [`Sink::start`] and [`SinkHandle::shutdown`]. What a client does wrong is
//! an SMTP reply, never an error here.

mod backlog;
mod command;
mod conduct;
mod content;
mod counters;
mod dialogue;
mod envelope;
mod error;
#[cfg(test)]
mod fuzz;
mod ledger;
mod parameters;
mod receiver;
mod reply;
mod scenario;
mod server;
mod service;
mod session;
mod settings;
mod timeline;
mod transfer;
mod wire;

pub use counters::Snapshot;
pub use error::SinkError;
pub use scenario::{Scenario, Start, Step};
pub use server::{Sink, SinkConfig, SinkHandle};
pub use service::{KneeStyle, Service};
pub use settings::{Extension, FailRule, Fault, Percent, SessionLimitStyle, Settings, Stage};
