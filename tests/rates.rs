//! Rates and windows on the real binary: what the sink's ledger says arrived, and when.
//!
//! A slow machine may send less than a rate lets it, so here a rate is judged from above: between the first and
//! the last arrival there is never more than the rate allows, and 2 %. That it is reached is judged where time
//! is simulated (`pressure::rate`), and here only as far as that a limit isn't far below what it says.

mod common;

#[path = "rates/domains.rs"]
mod domains;
#[path = "rates/jobs.rs"]
mod jobs;
#[path = "rates/pace.rs"]
mod pace;
#[path = "rates/windows.rs"]
mod windows;
