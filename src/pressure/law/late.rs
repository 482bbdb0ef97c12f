//! The brake where the MTA's queue can't be seen: replies to RCPT that come a second late (Postfix's
//! `in_flow_delay`) say when it is full. What went in between two such moments is what came out.
//!
//! An MTA that brakes goes on doing so for as long as more goes in than comes out. Late replies that come once
//! are a stall, of the MTA or of the machine, and no reason to go slower; nor are those that come as often
//! however little goes in.

use std::collections::VecDeque;
use std::time::Duration;

use super::IDLE_MAX;
use super::observation::{Mark, Observation};

/// A single late reply is chance.
const LATE_MIN: u64 = 2;
/// Late replies come in waves; those of one wave are one sign.
const WAVE: Duration = Duration::from_millis(1_200);
/// Waves that follow each other within this are a brake. One by itself may be a stall.
const IN_A_ROW: Duration = Duration::from_millis(2_600);
/// Rates are taken between two waves so far apart, and over two transactions at least.
const APART: (Duration, Duration) = (Duration::from_millis(2_500), Duration::from_secs(24));
/// Waves are remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(12);
/// What went in between two waves is what came out, less so much for the queue to go down.
const HELD_BELOW: f64 = 0.98;
/// A wave in a row leaves no more than this of the pace, and of what went in where there is none yet.
const ROW_LEAVES: f64 = 0.95;
const FIRST_LEAVES: f64 = 0.9;
/// Where nothing else is known, it leaves this.
const ROW_LEAVES_MIN: f64 = 0.7;
/// A wave by itself leaves this much, at least.
const ALONE_LEAVES: f64 = 0.85;
/// It is believed if at least so much went in before it as before others: what an MTA lets out doesn't
/// fall because less goes in; and when it falls for another reason, waves follow each other.
const ALONE_LIKE: f64 = 0.93;
const ALONE_FORGETS: f64 = 0.98;
/// Where as many replies are late so long after the brake began, as a share of the share before, they have
/// nothing to do with what goes in.
const IN_VAIN: f64 = 0.4;
const IN_VAIN_AFTER: Duration = Duration::from_secs(6);
const IN_VAIN_LATE_MIN: u64 = 6;
/// The same where so many waves come while all that may goes in, and that is so little of what went in before.
const ALL_GOES_IN: f64 = 0.8;
const IN_VAIN_BELOW: f64 = 0.75;
const IN_VAIN_WAVES: u32 = 3;
/// Then they are no sign for so long.
const IMMUNE: Duration = Duration::from_secs(60);
/// The pace is what it was for so long, in s; then it grows by so much a second for each second, up to the last.
const EASES_AFTER_S: f64 = 1.5;
const EASE: (f64, f64) = (0.01, 0.12);
/// A pace that isn't used to this share tells nothing, and stays as it is: there is too little work.
const USED_MIN: f64 = 0.5;
/// It comes off where it is so much above what goes in without it; or, where that isn't known, after so many s.
const FREE: f64 = 1.1;
const FREE_AFTER_S: f64 = 10.0;
/// And where less than this part of it goes in for so long though connections have work: the MTA is slower.
const SHORT: f64 = 0.8;
const SHORT_FOR: Duration = Duration::from_secs(3);
/// The least pace.
const PACE_MIN: f64 = 0.2;

/// A moment with late replies, and what had been counted by then.
#[derive(Debug, Clone, Copy)]
struct Wave {
    at: Duration,
    transactions: u64,
    late: u64,
}

/// What a stretch between two waves was like.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    per_s: f64,
    /// Late replies beside transactions.
    share: f64,
}

impl Wave {
    fn until(&self, later: &Self) -> Stretch {
        let transactions = (later.transactions - self.transactions) as f64;
        Stretch {
            per_s: transactions / (later.at - self.at).as_secs_f64().max(0.1),
            share: (later.late - self.late) as f64 / transactions.max(1.0),
        }
    }
}

/// What is known of late replies.
#[derive(Debug, Clone, Default)]
pub(super) struct Late {
    /// Late replies so far.
    seen: u64,
    /// Those that are no wave yet, and when the first of them was seen.
    new: u64,
    new_since: Duration,
    /// When a wave was seen last, whether it was the beginning of one or not.
    at: Option<Duration>,
    wave_at: Option<Duration>,
    waves: VecDeque<Wave>,
    /// When a wave was believed last, or nothing could be seen; later by the time in which too little was sent.
    believed_at: Duration,
    /// Transactions that had been counted at the last look, and how many a second lately.
    transactions: u64,
    per_s: f64,
    /// Session time until the last look, busy and idle; and since when all of it is busy and the pace isn't reached.
    times_us: (u64, u64),
    short_since: Option<Duration>,
    /// The most that went in before a wave that came alone.
    alone: f64,
    /// When the brake began, and the share of late replies before.
    entry: Option<(Wave, f64)>,
    /// The most that went in between waves for as long as all that may goes in, and waves at far less.
    most: f64,
    in_vain: u32,
    immune_until: Duration,
}

impl Late {
    /// When replies were late last.
    pub fn at(&self) -> Option<Duration> {
        self.at
    }

    /// Late replies of this time say nothing: the queue is seen, nothing is sent, or we stood still ourselves.
    pub fn pass_over(&mut self, o: &Observation) {
        self.seen = late_so_far(o);
        (self.new, self.transactions) = (0, o.totals.transactions);
        self.times_us = (o.totals.busy_us, o.totals.idle_us);
        self.end();
        self.believed_at = o.now;
    }

    /// The pace from now on. `last` is when the look before this one was; `full` what goes in without a brake;
    /// `cycle_s` a transaction's time.
    pub fn pace(
        &mut self,
        o: &Observation,
        last: Duration,
        pace: Option<f64>,
        full: Option<f64>,
        cycle_s: f64,
    ) -> Option<f64> {
        let step_s = o.now.saturating_sub(last).as_secs_f64();
        let before = std::mem::replace(&mut self.transactions, o.totals.transactions);
        let counted = o.totals.transactions.saturating_sub(before);
        self.per_s += step_s.min(1.0) * (counted as f64 / step_s.max(0.01) - self.per_s);
        let times_us = std::mem::replace(&mut self.times_us, (o.totals.busy_us, o.totals.idle_us));
        let busy_us = o.totals.busy_us.saturating_sub(times_us.0) as f64;
        let idle_us = o.totals.idle_us.saturating_sub(times_us.1) as f64;
        // nothing ended since the last look: that says neither
        let has_work = (busy_us + idle_us > 0.0).then_some(idle_us < IDLE_MAX * (busy_us + idle_us));
        let late = late_so_far(o);
        let new = late.saturating_sub(std::mem::replace(&mut self.seen, late));
        if o.now < self.immune_until {
            return None;
        }
        if self.new > 0 && o.now.saturating_sub(self.new_since) > WAVE {
            self.new = 0;
        }
        if self.new == 0 {
            self.new_since = o.now;
        }
        self.new += new;
        if self.new >= LATE_MIN {
            self.new = 0;
            self.short_since = None;
            self.at = Some(o.now);
            if self.wave_at.is_some_and(|at| o.now.saturating_sub(at) < WAVE) {
                return pace;
            }
            self.wave_at = Some(o.now);
            let wave = Wave { at: o.now, transactions: o.totals.transactions, late };
            return self.on_wave(wave, pace, o.established, cycle_s);
        }
        let pace = pace?;
        if let Some(has_work) = has_work {
            let is_short = has_work && self.per_s < SHORT * pace;
            self.short_since = self.short_since.filter(|_| is_short).or(is_short.then_some(o.now));
        }
        if self.short_since.is_some_and(|since| o.now.saturating_sub(since) > SHORT_FOR) {
            self.end();
            return None;
        }
        if self.per_s < USED_MIN * pace {
            self.believed_at = (self.believed_at + o.now.saturating_sub(last)).min(o.now);
            return Some(pace);
        }
        let quiet_s = o.now.saturating_sub(self.believed_at).as_secs_f64();
        let eased = self.eased(pace, quiet_s, step_s);
        let is_free = full.map_or(quiet_s > FREE_AFTER_S, |full| eased > FREE * full);
        if is_free {
            self.end();
            return None;
        }
        Some(eased)
    }

    fn eased(&self, pace: f64, quiet_s: f64, step_s: f64) -> f64 {
        if quiet_s <= EASES_AFTER_S {
            return pace;
        }
        pace * (1.0 + (EASE.0 * (quiet_s - 1.0)).min(EASE.1) * step_s.min(1.0))
    }

    /// No pace any more.
    fn end(&mut self) {
        self.waves.clear();
        self.short_since = None;
        (self.entry, self.alone, self.most, self.in_vain) = (None, 0.0, 0.0, 0);
    }

    /// Takes what went in until a wave, at this pace.
    fn weigh(&mut self, pace: f64, per_s: f64) {
        if per_s < ALL_GOES_IN * pace {
            (self.most, self.in_vain) = (per_s, 0);
        } else {
            self.most = self.most.max(per_s);
            self.in_vain += u32::from(pace < IN_VAIN_BELOW * self.most);
        }
    }

    fn is_in_vain(&self, wave: &Wave) -> bool {
        if self.in_vain >= IN_VAIN_WAVES {
            return true;
        }
        let Some((begun, share)) = &self.entry else { return false };
        wave.at - begun.at >= IN_VAIN_AFTER
            && wave.late - begun.late >= IN_VAIN_LATE_MIN
            && begun.until(wave).share > IN_VAIN * share
    }

    /// The MTA's queue is full, as it was at each wave before; or something stood still.
    fn on_wave(&mut self, wave: Wave, pace: Option<f64>, established: usize, cycle_s: f64) -> Option<f64> {
        let apart_min = APART.0.as_secs_f64().max(2.0 * cycle_s);
        let is_apart = |before: &&Wave| {
            let apart = wave.at - before.at;
            apart.as_secs_f64() >= apart_min && apart <= APART.1
        };
        let in_a_row = self.waves.back().filter(|w| wave.at - w.at <= IN_A_ROW).map(|w| w.until(&wave));
        let first = self.waves.iter().find(is_apart).map(|w| w.until(&wave).per_s);
        let latest = self.waves.iter().rev().find(is_apart).map(|w| w.until(&wave).per_s);
        self.waves.push_back(wave);
        while self.waves.len() > 2 && wave.at - self.waves[1].at >= REMEMBERED {
            self.waves.pop_front();
        }
        if let (Some(pace), Some(per_s)) = (pace, latest) {
            self.weigh(pace, per_s);
        }
        if pace.is_some() && self.is_in_vain(&wave) {
            self.immune_until = wave.at + IMMUNE;
            self.end();
            return None;
        }
        let to = match (in_a_row, pace) {
            (None, None) => return None,
            (Some(row), None) => {
                self.entry = Some((wave, row.share));
                // so much goes in where every reply is late
                let at_least = established as f64 / (cycle_s + 1.0);
                FIRST_LEAVES * row.per_s.max(at_least)
            }
            (Some(row), Some(pace)) => {
                let to = latest.map_or(FIRST_LEAVES * row.per_s, |per_s| HELD_BELOW * per_s);
                to.max(if latest.is_some() { 0.0 } else { ROW_LEAVES_MIN * pace }).min(ROW_LEAVES * pace)
            }
            (None, Some(pace)) => {
                let Some(per_s) = first else { return Some(pace) };
                let is_like_others = per_s >= ALONE_LIKE * self.alone;
                self.alone = per_s.max(ALONE_FORGETS * self.alone);
                if !is_like_others {
                    return Some(pace);
                }
                (HELD_BELOW * per_s).clamp(ALONE_LEAVES * pace, 1.1 * pace)
            }
        };
        if in_a_row.is_some() {
            self.alone = 0.0;
        }
        self.believed_at = wave.at;
        Some(to.max(PACE_MIN))
    }
}

fn late_so_far(o: &Observation) -> u64 {
    o.totals.marks[Mark::SlowRcpt.index()]
}
