//! The admin API of the real binary: each action does what the control socket does, and the doors hold against who
//! isn't meant to come in.

mod common;

#[path = "admin/actions.rs"]
mod actions;
#[path = "admin/browser.rs"]
mod browser;
#[path = "admin/client.rs"]
mod client;
#[path = "admin/ends.rs"]
mod ends;
#[path = "admin/events.rs"]
mod events;
#[path = "admin/mtas.rs"]
mod mtas;
#[path = "admin/slow.rs"]
mod slow;
#[path = "admin/start.rs"]
mod start;
#[path = "admin/wire.rs"]
mod wire;
