//! The brake for when delivery behind the MTA is the limit: fewer connections, and a pace, so that what
//! goes in is what comes out and the MTA's queue stays bounded.
//!
//! With the queue visible it is held at a share of its target. Without, replies to RCPT that come a second
//! late tell of it (`late`).

use std::collections::VecDeque;
use std::time::Duration;

use super::late::Late;
use super::observation::{Mark, Observation};

/// The queue is held at this share of its target.
const HELD_AT: f64 = 0.6;
/// The brake begins at this share of the target, or when it will be there in [`AHEAD_S`].
const BEGINS_AT: f64 = 0.75;
const AHEAD_S: f64 = 2.0;
/// What leaves the queue is measured over so long.
const LEAVING_OVER: Duration = Duration::from_secs(4);
/// It takes so long to know what leaves: roughly, where the queue is full already, and well, where it isn't.
const MEASURED_MIN_S: (f64, f64) = (0.25, 0.8);
/// How strongly the pace answers the queue's distance from where it is held.
const GAIN: f64 = 0.5;
/// So long without a look is a stall of our own: what was late then was late for us.
const STALL: Duration = Duration::from_millis(1_500);

/// What the brake wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Braking {
    /// Transactions a second.
    pub pace_per_s: f64,
    /// As many connections as that pace needs.
    pub connections: usize,
    /// When replies were late; `None`: the queue is seen.
    pub late_at: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(super) struct Brake {
    pace: Option<f64>,
    by_queue: bool,
    last: Option<Observation>,
    /// Time, transactions, queue.
    readings: VecDeque<(Duration, u64, f64)>,
    leaving: Option<f64>,
    /// What of the queue was there before us and isn't ours: deferred mail of last week. `None`: not read yet.
    pile: Option<f64>,
    calm_since: Duration,
    late: Late,
    /// When replies were late, or we stood still: what transactions took then is no measure.
    strained_at: Option<Duration>,
    /// A transaction's time without strain, in s.
    cycle_s: Option<f64>,
}

impl Brake {
    pub fn new() -> Self {
        Self {
            pace: None,
            by_queue: false,
            last: None,
            readings: VecDeque::new(),
            leaving: None,
            pile: None,
            calm_since: Duration::ZERO,
            late: Late::default(),
            strained_at: None,
            cycle_s: None,
        }
    }

    /// Takes what was seen. `full` is the rate that the chosen number of connections gives without a brake,
    /// in transactions a second, where it is known.
    pub fn observe(&mut self, o: &Observation, queue_target: u64, full: Option<f64>) -> Option<Braking> {
        let last = self.last.replace(*o);
        let Some(last) = last else {
            self.late.pass_over(o);
            return None;
        };
        self.learn_cycle(o, &last);
        if o.held || o.queue.is_some() || o.now.saturating_sub(last.now) > STALL {
            self.late.pass_over(o);
        }
        if o.held {
            self.readings.clear();
            return self.wanted();
        }
        self.by_queue = o.queue.is_some();
        match o.queue {
            Some(queue) => self.by_reading(o, queue as f64, queue_target as f64, full),
            None => {
                let cycle_s = self.cycle_s.unwrap_or(0.0);
                self.pace = self.late.pace(o, last.now, self.pace, full, cycle_s);
            }
        }
        self.wanted()
    }

    fn wanted(&self) -> Option<Braking> {
        let pace_per_s = self.pace?;
        let needed = self.cycle_s.map_or(f64::MAX, |cycle_s| (0.97 * pace_per_s * cycle_s).ceil());
        let late_at = self.late.at().filter(|_| !self.by_queue);
        Some(Braking { pace_per_s, connections: (needed as usize).max(1), late_at })
    }

    fn learn_cycle(&mut self, o: &Observation, last: &Observation) {
        let count = o.totals.transactions.saturating_sub(last.totals.transactions);
        let late = o.totals.marks[Mark::SlowRcpt.index()] > last.totals.marks[Mark::SlowRcpt.index()];
        if late || o.now.saturating_sub(last.now) > STALL {
            self.strained_at = Some(o.now);
        }
        if count == 0 || self.strained_at.is_some_and(|at| o.now.saturating_sub(at) < STALL) {
            return;
        }
        let busy_s = o.totals.busy_us.saturating_sub(last.totals.busy_us) as f64 / 1e6;
        let mean = busy_s / count as f64;
        let weight = (count as f64 / (count as f64 + 20.0)).min(0.5);
        let known = self.cycle_s.unwrap_or(mean);
        self.cycle_s = Some(known + weight * (mean - known));
    }

    fn by_reading(&mut self, o: &Observation, queue: f64, target: f64, full: Option<f64>) {
        // What is found there counts as a pile only if it would brake us at once.
        let found = if queue > BEGINS_AT * target { queue } else { 0.0 };
        let pile = self.pile.map_or(found, |pile| pile.min(queue));
        self.pile = Some(pile);
        let queue = queue - pile;
        self.readings.push_back((o.now, o.totals.transactions, queue));
        while self.readings.len() > 2 && o.now - self.readings[1].0 >= LEAVING_OVER {
            self.readings.pop_front();
        }
        let (from, transactions, before) = self.readings[0];
        let over_s = (o.now - from).as_secs_f64();
        let over_min_s = if queue > BEGINS_AT * target { MEASURED_MIN_S.0 } else { MEASURED_MIN_S.1 };
        if over_s < over_min_s {
            return;
        }
        let growth = (queue - before) / over_s;
        let leaving = ((o.totals.transactions - transactions) as f64 / over_s - growth).max(0.0);
        let weight = (o.now - self.readings[self.readings.len() - 2].0).as_secs_f64().min(0.5);
        let smooth = self.leaving.map_or(leaving, |known| known + weight * (leaving - known));
        self.leaving = Some(smooth);
        let accepted = (o.totals.transactions - transactions) as f64 / over_s;
        if self.pace.is_none() {
            let ahead = queue + growth.max(0.0) * AHEAD_S;
            if queue > BEGINS_AT * target || (queue > 0.3 * target && ahead > target) {
                self.calm_since = o.now;
            } else {
                return;
            }
        }
        let distance = (HELD_AT * target - queue) / (HELD_AT * target);
        let pace = smooth * (1.0 + (GAIN * distance).clamp(-0.9, 0.4));
        // Never starved: an MTA that seems to deliver nothing still gets a trickle once it has room.
        self.pace = Some(pace.max(if queue < target { 1.0 } else { 0.2 }));
        let is_needed =
            queue > 0.3 * target || full.is_some_and(|full| pace < 0.9 * full && accepted > 0.7 * pace);
        if is_needed {
            self.calm_since = o.now;
        } else if o.now - self.calm_since > Duration::from_secs(3) {
            self.pace = None;
        }
    }
}
