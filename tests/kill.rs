//! Drains and submissions that are killed, ended or doubled, seen from outside: the sink's ledger says what
//! was sent, the report says what infeed knows of it.
//!
//! The guarantee (docs/spool.md): nothing is lost; a `kill -9` repeats at most N × D × R recipients (N
//! connections, D = 1 for DATA, R recipients a transaction), each marked `possible_repeat`; SIGTERM none.
//! What is random comes from a seed that a failure prints (`INFEED_TEST_SEED` sets it).

mod common;

#[path = "kill/drains.rs"]
mod drains;
#[path = "kill/mixed.rs"]
mod mixed;
#[path = "kill/overlap.rs"]
mod overlap;
#[path = "kill/owners.rs"]
mod owners;
#[path = "kill/rounds.rs"]
mod rounds;
#[path = "kill/signals.rs"]
mod signals;
#[path = "kill/submits.rs"]
mod submits;
