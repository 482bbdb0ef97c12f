//! The law of `connections = "auto"` on simulated time: what it reaches in each scenario beside the best
//! fixed number of connections, and in scenarios made at random. No test looks at a clock.

mod common;

#[path = "pressure/disturbed.rs"]
mod disturbed;
#[path = "pressure/engine.rs"]
mod engine;
#[path = "pressure/judge.rs"]
mod judge;
#[path = "pressure/mta.rs"]
mod mta;
#[path = "pressure/random.rs"]
mod random;
#[path = "pressure/wild.rs"]
mod wild;

use std::path::Path;

use infeed::pressure::law::{Law, Limits, Mark, Observation};
use infeed::sink::Scenario;

use engine::{Policy, Run, Ticks, Trace, simulate};
use judge::{Ratio, goodput, queue_peak, ratios, sweep, windows};

const SECONDS: u64 = 90;
const CONNECTIONS_MAX: usize = 64;
const QUEUE_TARGET: u64 = 1_000;
/// What the law holds in the scenarios, of the best fixed number's goodput and connections.
const GOODPUT_MIN: f64 = 0.955;
const CONNECTIONS_RATIO_MAX: f64 = 1.35;

fn limits() -> Limits {
    Limits { connections_min: 1, connections_max: CONNECTIONS_MAX, queue_target: QUEUE_TARGET }
}

fn example(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/scenarios/{name}.toml"));
    Scenario::load(&path).unwrap_or_else(|e| panic!("{e}"))
}

fn seeds() -> u64 {
    if common::mta::is_long() { 100 } else { 2 }
}

fn auto(scenario: &Scenario, seed: u64) -> Run {
    Run::new(scenario.clone(), Policy::Auto(limits()), SECONDS, seed)
}

fn log(trace: &Trace) -> String {
    trace.whys.iter().map(|(at, why)| format!("{at:6.1} {why}\n")).collect()
}

/// Runs a scenario with each seed, 20 s from the start and from each change on.
fn holds_its_bands(name: &str, change: impl Fn(&mut Run)) {
    let scenario = example(name);
    let mut run = auto(&scenario, 0);
    change(&mut run);
    let best = sweep(&run, CONNECTIONS_MAX, &windows(&scenario, SECONDS));
    assert!(!best.is_empty(), "{name} has nothing to judge");
    let mut worst = Ratio { goodput: f64::MAX, connections: 0.0 };
    for seed in 0..seeds() {
        let trace = simulate(Run { seed, ..run.clone() });
        for (ratio, best) in ratios(&trace, &best).into_iter().zip(&best) {
            assert!(
                ratio.goodput >= GOODPUT_MIN && ratio.connections <= CONNECTIONS_RATIO_MAX,
                "{name}, seed {seed}: {ratio:?} of {best:?}\n{}",
                log(&trace)
            );
            worst.goodput = worst.goodput.min(ratio.goodput);
            worst.connections = worst.connections.max(ratio.connections);
        }
    }
    println!("{name}: {worst:.3?}");
}

macro_rules! scenarios {
    ($($test:ident: $name:literal, $change:expr;)*) => {
        $(#[test] fn $test() { holds_its_bands($name, $change); })*
    };
}

scenarios! {
    a_knee_at_4_is_found: "knee-4", |_| {};
    a_knee_at_8_is_found: "knee-8", |_| {};
    a_knee_at_24_is_found: "knee-24", |_| {};
    without_a_knee_all_connections_are_used: "knee-none", |_| {};
    on_a_plateau_its_beginning_is_found: "plateau", |_| {};
    a_hard_limit_is_reached_and_followed_up: "limit", |_| {};
    refused_connects_cost_nothing_that_stands: "refused", |_| {};
    after_full_storage_the_number_is_the_same_again: "storage", |_| {};
    group_commit_is_climbed_though_latency_grows: "group-commit", |_| {};
    half_the_speed_for_a_while_costs_no_connections: "half-speed", |_| {};
    noise_of_30_percent_moves_nothing: "noise", |_| {};
    a_restart_is_followed_by_the_number_before: "bounce", |_| {};
    a_knee_that_moves_is_followed: "moving-knee", |_| {};
    random_451_is_no_load: "random-451", |_| {};
    banners_that_are_always_late_stop_no_climb: "slow-banner", |_| {};
    late_rcpt_replies_hold_connections_down_and_delivery_up: "in-flow-delay", |_| {};
    a_visible_queue_paces_what_goes_in: "slow-delivery", |run| run.queue_visible = true;
    observations_may_come_irregularly: "knee-8", |run| run.ticks = Ticks::Irregular;
    a_wrong_clock_of_busy_time_changes_no_choice: "moving-knee", |run| run.measuring_error = 0.1;
    an_mta_that_sways_by_5_percent_is_no_change: "knee-8", |run| run.sway = 0.05;
}

/// The first 60,000 messages are through by then, and 20 s have passed.
#[test]
fn large_messages_after_small_ones_are_no_overload() {
    const SMALL: u64 = 2_048;
    const LARGE: u64 = 65_536;
    let scenario = example("sizes");
    let run = auto(&scenario, 0);
    let window = [(40.0, SECONDS as f64)];
    let best = sweep(&Run { octets: |_| LARGE, ..run.clone() }, CONNECTIONS_MAX, &window);
    for seed in 0..seeds() {
        let octets = |n| if n < 60_000 { SMALL } else { LARGE };
        let trace = simulate(Run { seed, octets, ..run.clone() });
        for ratio in ratios(&trace, &best) {
            let holds = ratio.goodput >= GOODPUT_MIN && ratio.connections <= CONNECTIONS_RATIO_MAX;
            assert!(holds, "seed {seed}: {ratio:?} of {best:?}\n{}", log(&trace));
        }
        assert_eq!(trace.cuts.total(), trace.cuts.goodput, "{:?}", trace.cuts);
    }
}

/// Two laws, each with an MTA of its own: one supply without end doesn't couple them.
#[test]
fn two_mtas_of_different_speed_each_get_their_number() {
    for (knee, service_us) in [(4, 20_000), (16, 5_000)] {
        let text = format!("[set]\nknee = {knee}\nservice_us = {service_us}\n");
        let scenario = Scenario::parse(&text, Path::new("two.toml")).unwrap();
        let run = auto(&scenario, 1);
        let best = sweep(&run, CONNECTIONS_MAX, &windows(&scenario, SECONDS));
        for Ratio { goodput, connections } in ratios(&simulate(run), &best) {
            assert!(
                goodput >= GOODPUT_MIN && connections <= CONNECTIONS_RATIO_MAX,
                "{goodput} {connections}"
            );
        }
    }
}

#[test]
fn a_visible_queue_comes_under_its_target_and_stays_there_and_never_runs_dry() {
    let scenario = example("slow-delivery");
    for seed in 0..seeds() {
        let trace = simulate(Run { queue_visible: true, ..auto(&scenario, seed) });
        let late = (20.0, SECONDS as f64);
        assert!(queue_peak(&trace, late) <= QUEUE_TARGET as f64, "{}", log(&trace));
        assert!(goodput(&trace, late) >= 0.99 * 300.0, "{}", log(&trace));
        assert!(trace.cuts.queue > 0);
    }
}

/// Deferred mail of last week is no reason to hold this week's back.
#[test]
fn a_pile_that_was_in_the_queue_before_slows_nothing_down() {
    let scenario = example("knee-8");
    let best = sweep(&auto(&scenario, 0), CONNECTIONS_MAX, &[(60.0, SECONDS as f64)]);
    for times in [0.8, 2.5] {
        let pile = times * QUEUE_TARGET as f64;
        let trace = simulate(Run { queue_visible: true, pile, ..auto(&scenario, 1) });
        for ratio in ratios(&trace, &best) {
            assert!(ratio.goodput >= 0.9, "{pile}: {ratio:?}\n{}", log(&trace));
        }
    }
}

/// Work that comes slower than the MTA takes it says nothing about the MTA: no climb to the maximum.
#[test]
fn without_enough_work_connections_do_not_climb() {
    let scenario = example("knee-none");
    let trace = simulate(Run { supply_per_s: Some(200.0), ..auto(&scenario, 1) });
    assert!(judge::connections(&trace, (20.0, 90.0)) <= 9.0, "{}", log(&trace));
    assert!(goodput(&trace, (20.0, 90.0)) >= 0.97 * 200.0, "{}", log(&trace));
}

/// Between two jobs, and while everything is paused, nothing is learnt of what leaves the MTA.
#[test]
fn a_pace_stays_as_it_is_while_nothing_is_sent() {
    let mut law = Law::new(limits());
    let mut o = Observation { established: 8, ..Observation::default() };
    let mut look = |seconds: u64, transactions: u64, late: bool| {
        let mut pace = None;
        for tick in 0..10 * seconds {
            o.now += std::time::Duration::from_millis(100);
            o.totals.transactions += transactions;
            o.totals.recipients += transactions;
            let time_us = if transactions > 0 { &mut o.totals.busy_us } else { &mut o.totals.idle_us };
            *time_us += 800_000;
            o.totals.marks[Mark::SlowRcpt.index()] += if late && tick % 15 == 0 { 4 } else { 0 };
            pace = law.observe(&o).pace_per_s;
        }
        pace
    };
    let braked = look(6, 50, true).expect("late replies that follow each other");
    assert!(braked < 600.0, "{braked}");
    look(2, 0, false);
    let idle = look(1, 0, false).expect("it stays");
    assert_eq!(look(120, 0, false), Some(idle));
    assert!((idle / braked - 1.0).abs() < 0.1, "{braked}, then {idle}");
    assert!(look(30, 60, false).is_none_or(|pace| pace > 1.2 * idle), "used, it grows");
}

/// What the law holds in scenarios at random: (share of windows under 95 % of the best, mean goodput, the
/// worst window's goodput, the most connections beside the fewest that reach 95 %, at the 98th percentile).
struct Bands {
    under_95_percent_max: f64,
    mean_min: f64,
    worst_min: f64,
    connections_max: f64,
}

fn at_random(from: u64, change: impl Fn(&mut Run), bands: &Bands) {
    let count = if common::mta::is_long() { 800 } else { 30 };
    let mut all = Vec::new();
    for seed in from..from + count {
        let made = random::random(seed);
        let best =
            random::best(&made.scenario, &windows(&made.scenario, made.seconds), CONNECTIONS_MAX, 4_096);
        let mut run = auto(&made.scenario, seed);
        run.seconds = made.seconds;
        change(&mut run);
        let trace = simulate(run);
        for ratio in ratios(&trace, &best) {
            assert!(
                ratio.goodput >= bands.worst_min,
                "seed {seed}: {ratio:?}\n{}\n{}",
                made.text,
                log(&trace)
            );
            all.push(ratio);
        }
    }
    tell(&all);
    let share =
        |wanted: &dyn Fn(&Ratio) -> bool| all.iter().filter(|r| wanted(r)).count() as f64 / all.len() as f64;
    let mean = all.iter().map(|r| r.goodput).sum::<f64>() / all.len() as f64;
    assert!(mean >= bands.mean_min, "mean {mean}");
    let under = share(&|r| r.goodput < 0.95);
    assert!(under <= bands.under_95_percent_max, "under 95 %: {under}");
    let over = share(&|r| r.connections > bands.connections_max);
    assert!(over <= 0.02, "over {}: {over}", bands.connections_max);
}

/// With all that a sink can do: the law finds its number amid limits, late banners and replies that are bad by
/// chance, and after refusals, full storage and restarts.
#[test]
fn wild_scenarios_are_held() {
    let count = if common::mta::is_long() { 800 } else { 24 };
    let mut all = Vec::new();
    for seed in 0..count {
        let wild = wild::wild(seed);
        let run =
            Run { queue_visible: wild.queue_visible, seconds: wild.seconds, ..auto(&wild.scenario, seed) };
        let best = wild::best(&run, &windows(&wild.scenario, wild.seconds));
        let trace = simulate(run);
        for ratio in ratios(&trace, &best) {
            assert!(ratio.goodput >= 0.4, "seed {seed}: {ratio:?}\n{}\n{}", wild.text, log(&trace));
            all.push(ratio);
        }
    }
    tell(&all);
    let mean = all.iter().map(|r| r.goodput).sum::<f64>() / all.len() as f64;
    assert!(mean >= 0.95, "mean {mean}");
}

/// What docs/pressure.md says of scenarios at random.
fn tell(all: &[Ratio]) {
    let sorted = |of: fn(&Ratio) -> f64| {
        let mut all: Vec<f64> = all.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let (goodput, connections) = (sorted(|r| r.goodput), sorted(|r| r.connections));
    let at = |of: &[f64], share: f64| of[(share * (of.len() - 1) as f64) as usize];
    let percent = |count: usize| 100.0 * count as f64 / all.len() as f64;
    println!(
        "{} stretches: goodput {:.3}, {:.3}, {:.3}, under 95 %: {:.1} %; connections {:.2}, {:.2}, over 1.5: {:.1} %",
        all.len(),
        at(&goodput, 0.5),
        at(&goodput, 0.05),
        goodput[0],
        percent(goodput.iter().filter(|g| **g < 0.95).count()),
        at(&connections, 0.5),
        at(&connections, 0.99),
        percent(connections.iter().filter(|c| **c > 1.5).count()),
    );
}

#[test]
fn scenarios_at_random_are_held() {
    let bands = Bands { under_95_percent_max: 0.06, mean_min: 0.98, worst_min: 0.8, connections_max: 1.5 };
    at_random(0, |_| {}, &bands);
}

#[test]
fn scenarios_at_random_are_held_on_irregular_observations() {
    let bands = Bands { under_95_percent_max: 0.12, mean_min: 0.97, worst_min: 0.78, connections_max: 1.5 };
    at_random(2_000, |run| run.ticks = Ticks::Irregular, &bands);
}

#[test]
fn scenarios_at_random_are_held_by_an_mta_that_sways() {
    let bands = Bands { under_95_percent_max: 0.12, mean_min: 0.97, worst_min: 0.75, connections_max: 2.0 };
    at_random(0, |run| run.sway = 0.05, &bands);
}

#[test]
fn the_law_keeps_its_limits_whatever_it_sees() {
    let mut rng = fastrand::Rng::with_seed(9);
    for _ in 0..200 {
        let connections_min = rng.usize(0..6);
        let limits =
            Limits { connections_min, connections_max: rng.usize(0..40), queue_target: rng.u64(0..50) };
        let mut law = Law::new(limits);
        let mut o = Observation::default();
        for _ in 0..300 {
            o.now += std::time::Duration::from_millis(rng.u64(0..1_000));
            o.established = rng.usize(0..50);
            o.connecting = rng.usize(0..5);
            o.totals.transactions += rng.u64(0..200);
            o.totals.recipients += rng.u64(0..400);
            o.totals.octets += rng.u64(0..1_000_000);
            o.totals.busy_us += rng.u64(0..5_000_000);
            o.totals.idle_us += rng.u64(0..500_000);
            if rng.u8(0..4) == 0 {
                o.totals.marks[rng.usize(0..Mark::COUNT)] += rng.u64(0..5);
            }
            o.queue = rng.bool().then(|| rng.u64(0..200));
            o.held = rng.u8(0..10) == 0;
            let decision = law.observe(&o);
            let min = connections_min.max(1);
            let max = limits.connections_max.max(min);
            assert!((min..=max).contains(&decision.connections), "{decision:?} with {limits:?}");
            assert!(decision.pace_per_s.is_none_or(|pace| pace.is_finite() && pace > 0.0), "{decision:?}");
            assert!(!law.why().contains('\n') && law.why().contains(": "), "{}", law.why());
        }
    }
}

#[test]
fn the_reason_names_what_was_tried_and_the_last_cut() {
    let trace = simulate(auto(&example("limit"), 1));
    let said = log(&trace);
    assert!(said.contains("; last cut 0 s ago: 421 too many connections"), "{said}");
    let trace = simulate(auto(&example("plateau"), 1));
    let said = log(&trace);
    assert!(said.contains("goodput flat from 8 to "), "{said}");
    assert!(trace.cuts.goodput > 0 && trace.cuts.total() == trace.cuts.goodput, "{:?}", trace.cuts);
}
