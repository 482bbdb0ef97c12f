//! The daemon seen from outside: what the sinks' ledgers say was sent, what the reports and `status` say of
//! it, and what the commands beside it do.
//!
//! The guarantee: what a command has answered holds from then on; an orderly end repeats nobody, a `kill -9`
//! only people that are marked; nobody is lost by either, nor by a reload.

mod common;

#[path = "serve/again.rs"]
mod again;
#[path = "serve/ends.rs"]
mod ends;
#[path = "serve/figures.rs"]
mod figures;
#[path = "serve/group.rs"]
mod group;
#[path = "serve/jobs.rs"]
mod jobs;
#[path = "serve/number.rs"]
mod number;
#[path = "serve/reload.rs"]
mod reload;
#[path = "serve/socket.rs"]
mod socket;
#[path = "serve/standstill.rs"]
mod standstill;
#[path = "serve/systemd.rs"]
mod systemd;
#[path = "serve/work.rs"]
mod work;
