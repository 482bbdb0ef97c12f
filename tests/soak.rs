//! A daemon that is submitted to, paused, resumed, cancelled, reloaded, restarted and killed at random, into
//! MTAs that restart, defer and are slow; at the end the ledgers and the reports say the same.
//!
//! It runs for `INFEED_SOAK_S` seconds: 20 by itself, 3600 with `tests/run --long`. All that is random comes
//! from the seed that it prints (`INFEED_TEST_SEED` sets it). What came of longer runs is in docs/soak.md.

mod common;

#[path = "soaking/account.rs"]
mod account;
#[path = "soaking/acts.rs"]
mod acts;
#[path = "soaking/gauge.rs"]
mod gauge;
#[path = "soaking/mtas.rs"]
mod mtas;
#[path = "soaking/world.rs"]
mod world;

use std::time::{Duration, Instant};

use common::seed::Seed;
use world::World;

#[test]
fn a_soak_loses_nobody_repeats_nobody_unmarked_and_stays_small() {
    let default = if common::mta::is_long() { 3_600 } else { 20 };
    let seconds =
        std::env::var("INFEED_SOAK_S").map_or(default, |s| s.parse().expect("INFEED_SOAK_S: seconds"));
    let seed = Seed::new();
    eprintln!("soak of {seconds} s, INFEED_TEST_SEED={}", seed.value());
    let mut world = World::new(seed.random(), seconds);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        world.act();
    }
    eprintln!("{}", world.finish());
}
