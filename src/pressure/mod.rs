//! Everything that decides how many connections infeed into an MTA, and how fast.
//!
//! `law` finds the smallest number of connections that keeps the MTA busy (`connections = "auto"`).
//! What it guarantees: it is pure (counts and times in, a decision out; no clock, no I/O, no chance), it
//! never decides on fewer than `connections_min` connections or more than `connections_max`, and it has no
//! errors to return. How it decides is in docs/pressure.md.

pub mod law;
pub mod queue;
