//! infeed: a parallel outbound bulk-delivery engine.
//!
//! ```text
//!  submit ─┐                                       ┌─ infeed 1 ─┐
//!  send   ─┼→ intake ──→ spool ──→ slice ──→ runner ┼─ infeed …  ┼─→ local MTA ─→ the world
//!          ┘  (durable   (jobs,    (scan,    (claim,└─ infeed N ─┘
//!             before OK)  chunks,   FIFO)     render,
//!                         progress)           settle)
//!  aside: config · control · cli · clock · pressure (N, rates, windows) · sink (the MTA for rehearsals)
//!         metrics · admin (both over http) · tune (which N an MTA wants) · top (the status, live)
//! ```
//!
//! | word | meaning |
//! | --- | --- |
//! | job | one submission: a message and its recipients |
//! | chunk | up to 1,000 recipients of one job: the unit of hashing, claiming and scanning; immutable once written |
//! | slice | a contiguous range of SHA-1 space, 2^k of them, each owned by exactly one runner |
//! | runner | drains the slices that it owns into the infeeds |
//! | infeed | one SMTP connection to the MTA; there are N |
//! | transaction | MAIL, RCPT…, content, reply |
//! | verdict | what a reply, or an I/O error at its stage, means for session, transaction and recipient |
//! | outcome | what became of one recipient |
//! | sink | the built-in MTA for load tests |
//!
//! The modules stand in the order of the flow; a stage imports only the one that it pulls from,
//! its callee's API, and the things aside.

#![forbid(unsafe_code)]

pub mod intake;
pub mod spool;
pub mod slice;
pub mod runner;
pub mod message;
pub mod infeed;
pub mod pressure;

pub mod sink;
pub mod tune;

pub mod config;
pub mod control;
pub mod metrics;
pub mod http;
pub mod admin;
pub mod top;
pub mod clock;
pub mod cli;

#[cfg(test)]
mod fuzzing;
