//! A daemon, and a drain, with several MTAs, some of which are not well: what the good ones can take is not
//! kept waiting for them, and what only they may take waits for them alone.

mod common;

#[path = "serve_mtas/bad.rs"]
mod bad;
#[path = "serve_mtas/farm.rs"]
mod farm;
#[path = "serve_mtas/pinned.rs"]
mod pinned;
#[path = "serve_mtas/shares.rs"]
mod shares;
