//! Judges a run of the law against a sweep of fixed numbers of connections, window by window.

use infeed::sink::{Scenario, Start};

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

/// Sweeps fixed numbers: each up to 12, then in steps of about 4 %.
pub fn sweep(run: &Run, connections_max: usize, windows: &[Window]) -> Vec<Best> {
    let mut counts = Vec::new();
    let mut n = 1;
    while n <= connections_max {
        counts.push(n);
        n = (n + 1).max((n as f64 * 1.04).round() as usize);
    }
    if counts.last() != Some(&connections_max) {
        counts.push(connections_max);
    }
    let runs: Vec<_> = counts
        .iter()
        .map(|n| (*n, simulate(Run { policy: Policy::Fixed(*n), ..run.clone() })))
        .collect();
    let best = |window: &Window| {
        let reached: Vec<_> = runs.iter().map(|(n, trace)| (*n, goodput(trace, *window))).collect();
        let most = reached.iter().map(|r| r.1).fold(0.0, f64::max);
        let connections = reached.iter().find(|r| r.1 >= 0.95 * most).map_or(1, |r| r.0);
        Best { window: *window, goodput: most, connections }
    };
    windows.iter().map(best).collect()
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
