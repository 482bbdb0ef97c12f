//! `kill -9` of drains.

use std::time::Duration;

use rustix::process::Signal;

use crate::common::mta::long_tests;
use crate::common::seed::Seed;
use crate::rounds::{Campaign, DEADLINE, MERGED, SHARED};

const ALL: &[&str] = &["0-15"];
const HALVES: &[&str] = &["0-7", "8-15"];

/// What is drained, and how it is killed.
struct Plan {
    recipients: usize,
    /// Kills.
    rounds: usize,
    message: &'static str,
    flags: &'static [&'static str],
    /// R.
    per_transaction: usize,
    /// D: above 1, content goes by BDAT.
    depth: usize,
    /// One drain for each, killed at the same moment.
    slices: &'static [&'static str],
    /// N of each drain: from, to.
    connections: (usize, usize),
    /// Recipients that the sink takes before the kill: up to this many.
    growth_max: usize,
}

/// Kills, then judges; of the rounds at least nine in ten have caught transactions in flight.
fn kill_and_judge(plan: &Plan) {
    let seed = Seed::new();
    let mut random = seed.random();
    let mut campaign = Campaign::new(plan.recipients, plan.message, plan.flags, 4);
    let (mut in_flight, mut marked_before) = (0, 0);
    for round in 0..plan.rounds {
        let connections = random.usize(plan.connections.0..=plan.connections.1);
        let mut drains = campaign.start(plan.slices, connections, plan.per_transaction, plan.depth);
        let growth = random.usize(1..plan.growth_max);
        let ran_on = campaign.wait_taken(growth, &mut drains);
        assert!(ran_on, "round {round}: the job has ended, growth_max is too large");
        std::thread::sleep(Duration::from_micros(random.u64(0..8_000)));
        for drain in &drains {
            drain.signal(Signal::KILL);
        }
        for drain in drains {
            assert_eq!(drain.wait(DEADLINE).code, None, "killed");
        }
        campaign.end_round(connections * plan.slices.len() * plan.per_transaction * plan.depth);

        // In flight: the sink took what no outcome says, or it was handed out and nothing is known of it.
        let show = campaign.desk.show(&campaign.job);
        let count = |name: &str| show[name].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a count");
        let (accepted, marked) = (count("accepted"), count("possible_repeats"));
        assert!(accepted <= campaign.reached(), "an outcome that the sink doesn't know of: {show}");
        in_flight += usize::from(campaign.reached() > accepted || marked > marked_before);
        marked_before = marked;
    }
    assert!(in_flight * 10 >= plan.rounds * 9, "only {in_flight} of {} kills hit transactions", plan.rounds);
    let repeats = campaign.finish();
    eprintln!("{} kills, {in_flight} of them with transactions in flight: {repeats} repeats", plan.rounds);
    assert!(repeats > 0, "no kill ever hit between a delivery and its outcome: this test proves nothing");
}

#[test]
fn fifty_kills_lose_nobody_and_repeat_at_most_n_a_kill_each_of_them_marked() {
    kill_and_judge(&Plan {
        recipients: 50_000,
        rounds: 50,
        message: MERGED,
        flags: &["--merge"],
        per_transaction: 1,
        depth: 1,
        slices: ALL,
        connections: (4, 8),
        growth_max: 1_000,
    });
}

#[test]
fn kills_with_many_recipients_a_transaction_repeat_at_most_n_times_r() {
    kill_and_judge(&Plan {
        recipients: 50_000,
        rounds: 12,
        message: SHARED,
        flags: &[],
        per_transaction: 10,
        depth: 1,
        slices: ALL,
        connections: (4, 8),
        growth_max: 3_000,
    });
}

#[test]
fn kills_with_several_messages_in_flight_repeat_at_most_n_times_d() {
    kill_and_judge(&Plan {
        recipients: 50_000,
        rounds: 12,
        message: MERGED,
        flags: &["--merge"],
        per_transaction: 1,
        depth: 4,
        slices: ALL,
        connections: (4, 8),
        growth_max: 600,
    });
}

#[test]
fn kills_of_two_drains_side_by_side_keep_both_their_promises() {
    kill_and_judge(&Plan {
        recipients: 20_000,
        rounds: 12,
        message: MERGED,
        flags: &["--merge"],
        per_transaction: 1,
        depth: 1,
        slices: HALVES,
        connections: (2, 4),
        growth_max: 1_000,
    });
}

#[test]
fn hundreds_of_kills_keep_the_promise() {
    if !long_tests() {
        return;
    }
    kill_and_judge(&Plan {
        recipients: 50_000,
        rounds: 400,
        message: MERGED,
        flags: &["--merge"],
        per_transaction: 1,
        depth: 1,
        slices: ALL,
        connections: (4, 8),
        growth_max: 150,
    });
}
