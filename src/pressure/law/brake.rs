//! The brake for when delivery behind the MTA is the limit: fewer connections, and a pace, so that what
//! goes in is what comes out and the MTA's queue stays bounded.
//!
//! With the queue visible it is held at a share of its target. Without, replies to RCPT that come a second
//! late (Postfix's `in_flow_delay`) say when it is full: what went in between two such moments is what
//! came out. An MTA that brakes goes on doing so for as long as more goes in than comes out; late replies
//! that come once are a stall, of the MTA or of the machine, and no reason to go slower.

use std::collections::VecDeque;
use std::time::Duration;

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
/// Late replies: rates are taken between two moments with some, so far apart.
const LATE_APART: (Duration, Duration) = (Duration::from_millis(2_500), Duration::from_secs(12));
/// Late replies come in waves; those of one wave are one sign.
const WAVE: Duration = Duration::from_millis(1_200);
/// Waves that follow each other within this are a brake. One by itself may be a stall.
const IN_A_ROW: Duration = Duration::from_millis(2_600);
/// One by itself is believed if at least so much went in before it as before others: what an MTA lets out
/// doesn't fall because less goes in; and when it falls for another reason, waves follow each other.
const ALONE_LIKE: f64 = 0.93;
const ALONE_FORGETS: f64 = 0.98;
/// It leaves so much of the pace, at least.
const ALONE_LEAVES: f64 = 0.85;
/// Without late replies the pace grows by so much a second for each second, up to the second.
const EASE: (f64, f64) = (0.01, 0.12);
/// So long without a look is a stall of our own: what was late then was late for us.
const STALL: Duration = Duration::from_millis(1_500);
/// A single late reply is chance.
const LATE_MIN: u64 = 2;

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
    late_seen: u64,
    late_new: u64,
    late_at: Option<Duration>,
    wave_at: Option<Duration>,
    /// Moments with late replies, and transactions so far.
    late: VecDeque<(Duration, u64)>,
    /// When a wave was believed last.
    braked_at: Duration,
    /// The most that went in before a wave that came alone.
    alone: f64,
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
            late_seen: 0,
            late_new: 0,
            late_at: None,
            wave_at: None,
            late: VecDeque::new(),
            braked_at: Duration::ZERO,
            alone: 0.0,
            cycle_s: None,
        }
    }

    /// Takes what was seen. `full` is the rate that the chosen number of connections gives without a brake,
    /// in transactions a second, where it is known.
    pub fn observe(&mut self, o: &Observation, queue_target: u64, full: Option<f64>) -> Option<Braking> {
        let last = self.last.replace(*o);
        let Some(last) = last else {
            self.late_seen = o.totals.marks[Mark::SlowRcpt.index()];
            return None;
        };
        self.learn_cycle(o, &last);
        if o.held {
            self.readings.clear();
            return self.wanted();
        }
        if o.queue.is_some() || o.now - last.now > STALL {
            // Seen otherwise, or a stall of our own: late replies of that time say nothing.
            self.late_seen = o.totals.marks[Mark::SlowRcpt.index()];
            self.late_new = 0;
            self.late.clear();
            self.late_at = Some(o.now);
        }
        match o.queue {
            Some(queue) => self.by_reading(o, queue as f64, queue_target as f64, full),
            None => self.by_late_replies(o, &last, full),
        }
        self.wanted()
    }

    fn wanted(&self) -> Option<Braking> {
        let pace_per_s = self.pace?;
        let needed = (0.97 * pace_per_s * self.cycle_s.unwrap_or(0.0)).ceil();
        let late_at = self.late_at.filter(|_| !self.by_queue);
        Some(Braking { pace_per_s, connections: (needed as usize).max(1), late_at })
    }

    fn learn_cycle(&mut self, o: &Observation, last: &Observation) {
        let count = o.totals.transactions.saturating_sub(last.totals.transactions);
        let late = o.totals.marks[Mark::SlowRcpt.index()] > last.totals.marks[Mark::SlowRcpt.index()];
        let lately = self.late_at.is_some_and(|at| o.now.saturating_sub(at) < Duration::from_millis(1_500));
        if count == 0 || late || lately {
            return;
        }
        let busy_s = o.totals.busy_us.saturating_sub(last.totals.busy_us) as f64 / 1e6;
        let mean = busy_s / count as f64;
        let weight = (count as f64 / (count as f64 + 20.0)).min(0.5);
        let known = self.cycle_s.unwrap_or(mean);
        self.cycle_s = Some(known + weight * (mean - known));
    }

    fn by_reading(&mut self, o: &Observation, queue: f64, target: f64, full: Option<f64>) {
        self.by_queue = true;
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

    fn by_late_replies(&mut self, o: &Observation, last: &Observation, full: Option<f64>) {
        self.by_queue = false;
        let late = o.totals.marks[Mark::SlowRcpt.index()];
        self.late_new += late.saturating_sub(std::mem::replace(&mut self.late_seen, late));
        let in_a_wave = self.wave_at.is_some_and(|at| o.now - at < WAVE);
        if self.late_new >= LATE_MIN {
            self.late_new = 0;
            self.late_at = Some(o.now);
            if !in_a_wave {
                self.wave_at = Some(o.now);
                self.on_wave(o);
            }
            return;
        }
        let Some(pace) = self.pace else {
            if self.late_at.is_none_or(|at| o.now - at > WAVE) {
                self.late_new = 0;
            }
            return;
        };
        let quiet_s = (o.now - self.braked_at).as_secs_f64();
        if quiet_s > 1.5 {
            let step_s = (o.now - last.now).as_secs_f64();
            let ease = (EASE.0 * (quiet_s - 1.0)).min(EASE.1);
            let eased = pace * (1.0 + ease * step_s);
            let is_free = full.map_or(quiet_s > 10.0, |full| eased > 1.1 * full);
            self.pace = if is_free { None } else { Some(eased) };
            if self.pace.is_none() {
                self.late.clear();
            }
        }
    }

    /// The MTA's queue is full, as it was at each moment with late replies; or something stood still.
    fn on_wave(&mut self, o: &Observation) {
        let rate_since = |(at, count): &(Duration, u64)| {
            (o.totals.transactions - count) as f64 / (o.now - *at).as_secs_f64().max(0.1)
        };
        let in_a_row = self.late.back().filter(|l| o.now - l.0 <= IN_A_ROW).map(rate_since);
        self.late.push_back((o.now, o.totals.transactions));
        while self.late.len() > 2 && o.now - self.late[1].0 >= LATE_APART.1 {
            self.late.pop_front();
        }
        let is_apart = |l: &&(Duration, u64)| {
            let apart = o.now - l.0;
            apart >= LATE_APART.0 && apart <= 2 * LATE_APART.1
        };
        let pace = match (in_a_row, self.pace) {
            (None, None) => return,
            (Some(lately), None) => 0.9 * lately,
            (Some(lately), Some(pace)) => {
                let between = self.late.iter().rev().find(is_apart).map(rate_since);
                between.map_or(0.9 * lately, |between| 0.98 * between).min(pace)
            }
            (None, Some(pace)) => {
                let between = self.late.iter().find(is_apart).map(rate_since);
                let Some(between) = between else { return };
                let is_like_others = between >= ALONE_LIKE * self.alone;
                self.alone = between.max(ALONE_FORGETS * self.alone);
                if !is_like_others {
                    return;
                }
                (0.98 * between).clamp(ALONE_LEAVES * pace, 1.1 * pace)
            }
        };
        if in_a_row.is_some() {
            self.alone = 0.0;
        }
        self.braked_at = o.now;
        self.pace = Some(pace.max(0.2));
    }
}
