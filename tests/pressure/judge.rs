//! Judges a run of the law against a sweep of fixed numbers of connections, window by window.

use infeed::sink::{Scenario, Settings, Start};

use crate::engine::{BIN_US, Policy, Run, Trace, simulate};

/// How long the law has from a cold start and from each change.
pub const GRACE_S: f64 = 20.0;

/// Seconds, from and to.
pub type Window = (f64, f64);

/// The stretches between changes, each without its first 20 s.
pub fn windows(scenario: &Scenario, seconds: u64) -> Vec<Window> {
    let mut changes = vec![0.0, seconds as f64];
    for step in &scenario.steps {
        if let Start::At(at) = step.start {
            changes.push(at.as_secs_f64());
            changes.extend(step.lasts.map(|lasts| (at + lasts).as_secs_f64()));
        }
    }
    changes.retain(|at| *at <= seconds as f64);
    changes.sort_by(f64::total_cmp);
    let stretches = changes.windows(2).map(|w| (w[0] + GRACE_S, w[1]));
    stretches.filter(|(from, to)| to - from >= 5.0).collect()
}

fn bins(trace: &Trace, (from, to): Window) -> &[crate::engine::Bin] {
    let bin = |s: f64| ((s * 1e6 / BIN_US as f64) as usize).min(trace.bins.len());
    &trace.bins[bin(from)..bin(to)]
}

/// Messages a second.
pub fn goodput(trace: &Trace, window: Window) -> f64 {
    let bins = bins(trace, window);
    bins.iter().map(|b| b.goodput).sum::<f64>() / (bins.len() as f64 * BIN_US as f64 / 1e6)
}

/// Mean number of connections.
pub fn connections(trace: &Trace, window: Window) -> f64 {
    let bins = bins(trace, window);
    bins.iter().map(|b| b.connections).sum::<f64>() / bins.len() as f64
}

/// Largest queue of the MTA.
pub fn queue_peak(trace: &Trace, window: Window) -> f64 {
    bins(trace, window).iter().map(|b| b.queue).fold(0.0, f64::max)
}

/// What fixed numbers of connections reach in a window.
#[derive(Debug, Clone)]
pub struct Best {
    pub window: Window,
    /// Messages a second at the best.
    pub goodput: f64,
    /// The smallest number that reaches 95 % of it.
    pub connections: usize,
}

/// How long a sweep runs each number, and how much of that is warm-up.
const SWEEP_S: (u64, f64) = (11, 6.0);

/// Sweeps fixed numbers in what is in force in each window: each up to 12, then in steps of about 5 %.
pub fn sweep(run: &Run, connections_max: usize, windows: &[Window]) -> Vec<Best> {
    windows.iter().map(|window| best_in(run, connections_max, *window)).collect()
}

fn best_in(run: &Run, connections_max: usize, window: Window) -> Best {
    let scenario = Scenario { set: in_force(&run.scenario, window.0), steps: Vec::new() };
    let mut reached = Vec::new();
    let mut n = 1;
    while n <= connections_max {
        let policy = Policy::Fixed(n);
        let trace = simulate(Run { scenario: scenario.clone(), policy, seconds: SWEEP_S.0, ..run.clone() });
        reached.push((n, goodput(&trace, (SWEEP_S.1, SWEEP_S.0 as f64))));
        let step = (n as f64 * 1.05).round() as usize;
        n = if n == connections_max { n + 1 } else { step.max(n + 1).min(connections_max) };
    }
    let most = reached.iter().map(|r| r.1).fold(0.0, f64::max);
    let connections = reached.iter().find(|r| r.1 >= 0.95 * most).map_or(1, |r| r.0);
    Best { window, goodput: most, connections }
}

/// The settings at a time; for steps by the clock.
pub fn in_force(scenario: &Scenario, at_s: f64) -> Settings {
    let mut set = scenario.set.clone();
    for step in &scenario.steps {
        let Start::At(at) = step.start else { continue };
        let ends_s = step.lasts.map_or(f64::MAX, |lasts| (at + lasts).as_secs_f64());
        if (at.as_secs_f64()..ends_s).contains(&at_s) {
            set = step.set.over(&set);
        }
    }
    set
}

/// The law in one window, as shares of the best fixed number's.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    /// Of the best goodput.
    pub goodput: f64,
    /// Mean connections over the smallest number that reaches 95 %.
    pub connections: f64,
}

pub fn ratios(trace: &Trace, best: &[Best]) -> Vec<Ratio> {
    best.iter()
        .map(|b| Ratio {
            goodput: goodput(trace, b.window) / b.goodput,
            connections: connections(trace, b.window) / b.connections as f64,
        })
        .collect()
}
