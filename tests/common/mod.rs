//! What the end-to-end tests stand on: the real MTAs, the binary, the ledger, the report, and waiting.
//!
//! Each test binary uses a part of it.
#![allow(dead_code, reason = "compiled into every test binary, and none uses all of it")]

pub mod binary;
pub mod certificates;
pub mod clock;
pub mod daemon;
pub mod defer_table;
pub mod desk;
pub mod ledger;
pub mod mount;
pub mod mta;
pub mod port;
pub mod receiver;
pub mod report;
pub mod sasl;
pub mod seed;
pub mod sink;
pub mod tally;
pub mod terminal;
pub mod wait;
