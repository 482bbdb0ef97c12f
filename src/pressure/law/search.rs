//! The search: which number of connections to measure next, and which is the choice so far.

use std::time::Duration;

use super::meter::Sample;
use super::table::{Entry, Table};

/// A larger number is tried this long after the last search, a smaller one a little later.
const UP_AFTER: Duration = Duration::from_millis(6_500);
const DOWN_AFTER: Duration = Duration::from_millis(8_000);
/// Later where that costs much, but not later than this: a change must be followed.
const PROBE_AFTER_MAX: Duration = Duration::from_millis(11_000);
/// What was measured with a larger error than this, and wasn't clearly worse, is tried again sooner.
const UNSURE: f64 = 0.012;
const UNSURE_AFTER: Duration = Duration::from_millis(3_500);
/// What a try each way may cost, as a share of goodput.
const COST: f64 = 0.012;
/// What far numbers gave is believed for so long.
const FAR_FOR: Duration = Duration::from_secs(45);
/// From nothing known: doubling.
const STRIDE_COLD: f64 = 2.0;
/// A first try beside the choice; what succeeds goes on in wider strides.
const STRIDE_NEAR: f64 = 1.12;
/// So much more than the choice gives promises more further up, even where it is no reason to move.
const PROMISE: f64 = 1.006;
/// A larger number that gave at least this much is no knee: the next try goes further, since a slow climb
/// shows only there.
const LEVEL: f64 = -0.02;
const STRIDE_LEVEL: f64 = 1.5;
/// Beyond this error, what was less may have been so by chance.
const UNEVEN: f64 = 0.04;
/// Further still by so much for each part of error, up to the second.
const STRIDE_UNEVEN: f64 = 10.0;
const STRIDE_MAX: f64 = 4.0;
/// And where more gives the same, far fewer may do.
const STRIDE_LEVEL_DOWN: f64 = 1.3;
/// Goodput at the choice that differs by so much (in its logarithm), twice, is a change of the MTA or of the mail.
const CHANGE: f64 = 0.07;
/// By so much it is one, however uncertain the measurements.
const CHANGE_SURE: f64 = 0.35;
/// So is a change of size or of recipients a transaction.
const CHANGE_OF_MAIL: f64 = 0.25;

/// What a sample led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing new.
    None,
    /// Goodput with more was no better, or worse.
    WentBack,
    /// The MTA or the mail changed.
    Changed,
}

#[derive(Debug, Clone)]
pub(super) struct Search {
    table: Table,
    pub choice: usize,
    /// What is measured now.
    pub measured: usize,
    stride_up: f64,
    stride_down: f64,
    up_at: Duration,
    up_after: Duration,
    down_after: Duration,
    measured_since: Duration,
    down_at: Duration,
    far_at: Duration,
    want_up: bool,
    is_level: bool,
    pub connects_are_slow: bool,
    want_down: bool,
    unlike: u32,
    mail: Option<(f64, f64)>,
    /// The last numbers tried above and below, and what they gave compared with the choice.
    pub tried_up: Option<(usize, f64)>,
    pub tried_down: Option<(usize, f64)>,
}

impl Search {
    pub fn new(connections: usize) -> Self {
        Self {
            table: Table::default(),
            choice: connections,
            measured: connections,
            stride_up: STRIDE_COLD,
            stride_down: STRIDE_NEAR,
            up_at: Duration::MAX,
            up_after: UP_AFTER,
            down_after: DOWN_AFTER,
            measured_since: Duration::ZERO,
            down_at: Duration::MAX,
            far_at: Duration::MAX,
            want_up: true,
            is_level: false,
            connects_are_slow: false,
            want_down: false,
            unlike: 0,
            mail: None,
            tried_up: None,
            tried_down: None,
        }
    }

    /// Goodput at the choice.
    pub fn goodput(&self) -> Option<f64> {
        self.table.get(self.choice).map(|e| e.goodput)
    }

    /// How exact the measurement must be, as a share.
    pub fn error_wanted(&self) -> f64 {
        if self.measured == self.choice {
            return if self.table.get(self.choice).is_some() { 0.015 } else { 0.03 };
        }
        let apart = (self.measured as f64 / self.choice as f64).ln().abs();
        let is_wide = self.measured > self.choice && self.is_unknown_above();
        (apart / 6.0).clamp(0.008, if is_wide { 0.05 } else { 0.02 })
    }

    /// Goodput below the first or above the second is clear enough for a measurement to end early: the
    /// number is none to go to, or certainly one; at the choice, something changed.
    pub fn clear(&self) -> (f64, f64) {
        let Some(known) = self.goodput() else { return (0.0, f64::MAX) };
        let (poor, rich) = if self.measured == self.choice { (0.8, 1.3) } else { (0.93, 1.15) };
        (poor * known, rich * known)
    }

    /// Whether it can't be true, beside what is known of the choice. Fewer connections give at least their
    /// share of what more gave, since each has the MTA more to itself; more may give less, but not at once
    /// far less.
    fn is_beyond_belief(&self, s: &Sample) -> bool {
        let Some(known) = self.goodput() else { return false };
        let part = s.connections as f64 / self.choice as f64;
        let least = if part < 1.0 { 0.8 * part } else { 0.6 / (part * part) };
        s.goodput * (1.0 + 3.0 * s.error.min(0.1)) < least * known
    }

    /// Goes back to the choice, as long as nothing can be judged.
    pub fn rest(&mut self) {
        self.measured = self.choice;
    }

    /// The choice is another, for a reason that goodput doesn't tell.
    pub fn choose(&mut self, connections: usize, now: Duration) {
        self.choice = connections;
        self.measured = connections;
        self.table.retain(|e| e.connections == connections);
        self.schedule(now);
    }

    /// The MTA allows no more than so many: they are measured instead.
    pub fn limit(&mut self, connections: usize) {
        self.want_up = false;
        self.stride_up = STRIDE_NEAR;
        self.measured = if self.choice < connections { connections } else { self.choice };
    }

    /// Tries a larger number next.
    pub fn try_up(&mut self) {
        self.want_up = true;
    }

    /// Takes a measurement.
    pub fn take(&mut self, s: &Sample, now: Duration, floor: usize, ceiling: usize) -> Step {
        let entry = Entry { connections: s.connections, goodput: s.goodput, error: s.error };
        if self.mail_changed(s) {
            return self.changed(entry, now, floor, ceiling);
        }
        if s.connections == self.choice && self.table.get(self.choice).is_some() {
            return self.at_the_choice(entry, now, floor, ceiling);
        }
        if s.connections != self.choice && self.is_beyond_belief(s) {
            // Then what is known of the choice is no longer true: that comes first.
            self.unlike = 1;
            self.measured = self.choice;
            return Step::None;
        }
        let before = self.choice;
        let known = self.table.get(before).copied();
        self.table.add(entry);
        if s.connections != before && known.is_none() {
            // The choice itself was never measured: what was measured takes its place.
            self.choice = s.connections;
        }
        self.choice = self.table.choose(self.choice);
        let gain = known.map_or(0.0, |k| s.goodput / k.goodput - 1.0);
        let cost_s = -gain.min(0.0) * now.saturating_sub(self.measured_since).as_secs_f64();
        let after = Duration::from_secs_f64(cost_s / COST);
        let mut step = Step::None;
        if s.connections > before {
            self.tried_up = Some((s.connections, gain));
            self.up_after = after.clamp(UP_AFTER, PROBE_AFTER_MAX);
            self.want_up = false;
            if self.choice == s.connections {
                // What was known above was known of another MTA, if this one still gains.
                self.table.retain(|e| e.connections <= s.connections || e.goodput > s.goodput);
                self.stride_up = widened(self.stride_up);
            } else {
                self.stride_up = STRIDE_NEAR;
                self.is_level = gain > LEVEL - s.error.max(2.0 * s.error - UNEVEN);
                if gain > -2.5 * s.error {
                    if s.error > UNEVEN {
                        // Another try would say no more, and may stay far above for seconds.
                        self.up_after = PROBE_AFTER_MAX;
                    } else if s.error > UNSURE {
                        self.up_after = UNSURE_AFTER;
                    }
                }
                step = Step::WentBack;
            }
        } else if s.connections < before {
            self.tried_down = Some((s.connections, gain));
            let after = after.clamp(DOWN_AFTER, PROBE_AFTER_MAX);
            // What is closed is missed for as long as it takes to open it again.
            self.down_after = if self.connects_are_slow { 2 * after } else { after };
            self.want_down = false;
            if self.choice == s.connections {
                self.table.retain(|e| e.connections >= s.connections);
                self.stride_down = widened(self.stride_down);
            } else {
                self.stride_down = STRIDE_NEAR;
            }
        }
        self.next(now, floor, ceiling);
        step
    }

    fn mail_changed(&mut self, s: &Sample) -> bool {
        let differs = |a: f64, b: f64| (a - b).abs() > CHANGE_OF_MAIL * b.max(1e-9);
        match &mut self.mail {
            Some((octets, recipients)) => {
                let changed = differs(s.octets, *octets) || differs(s.recipients, *recipients);
                let weight = if changed { 1.0 } else { 0.2 };
                *octets += weight * (s.octets - *octets);
                *recipients += weight * (s.recipients - *recipients);
                changed
            }
            None => {
                self.mail = Some((s.octets, s.recipients));
                false
            }
        }
    }

    /// Begins again around where it is.
    fn changed(&mut self, entry: Entry, now: Duration, floor: usize, ceiling: usize) -> Step {
        self.table.clear();
        self.unlike = 0;
        if entry.connections == self.choice {
            self.table.put(entry);
        }
        (self.stride_up, self.stride_down) = (STRIDE_NEAR, STRIDE_NEAR);
        (self.want_up, self.want_down) = (true, true);
        self.next(now, floor, ceiling);
        Step::Changed
    }

    fn at_the_choice(&mut self, entry: Entry, now: Duration, floor: usize, ceiling: usize) -> Step {
        let Some(known) = self.table.get(self.choice).copied() else { return Step::None };
        let ratio = entry.goodput / known.goodput.max(1e-9);
        let doubt = entry.error + known.error;
        // the logarithm, for a tenth of it is as far away as ten times as much
        if ratio.max(1e-9).ln().abs() > (4.0 * doubt).clamp(CHANGE, CHANGE_SURE.max(2.5 * doubt)) {
            self.unlike += 1;
            if self.unlike >= 2 {
                return self.changed(entry, now, floor, ceiling);
            }
            return Step::None;
        }
        self.unlike = 0;
        // Slow drift is the MTA's as a whole: what the others gave drifts along.
        let weight = (known.error / (known.error + entry.error)).clamp(0.15, 0.5);
        let factor = 1.0 + weight * (ratio - 1.0);
        self.table.rescale(factor);
        let error = ((1.0 - weight) * known.error).hypot(weight * entry.error).max(0.004);
        self.table.put(Entry { goodput: known.goodput * factor, error, ..known });
        if now >= self.far_at {
            let choice = self.choice;
            self.table.retain(|e| e.connections <= choice);
            self.far_at = now + FAR_FOR;
        }
        if now >= self.up_at {
            self.want_up = true;
            if self.is_level {
                // What differs by chance alone says more further up.
                self.stride_up = (STRIDE_LEVEL + STRIDE_UNEVEN * doubt).min(STRIDE_MAX);
            }
        }
        if now >= self.down_at {
            self.want_down = true;
            if self.is_level {
                self.stride_down = STRIDE_LEVEL_DOWN;
            }
        }
        self.next(now, floor, ceiling);
        Step::None
    }

    /// What to measure next: the choice itself when nothing is worth a try.
    fn next(&mut self, now: Duration, floor: usize, ceiling: usize) {
        self.choice = self.choice.clamp(floor, ceiling);
        let c = self.choice;
        if self.table.get(c).is_none() {
            self.measured = c;
            return;
        }
        let stride = |by: f64| ((c as f64 * by).round() as usize).clamp(floor, ceiling);
        let next = if self.want_down && c > floor && (!self.want_up || self.stride_down > self.stride_up) {
            Some(stride(1.0 / self.stride_down).min(c - 1))
        } else if (self.want_up || self.is_unknown_above()) && c < ceiling {
            Some(stride(self.stride_up).max(c + 1))
        } else if c > floor && (self.want_down || self.is_unknown_below()) {
            Some(stride(1.0 / self.stride_down).min(c - 1))
        } else {
            self.table.between(c).filter(|n| (floor..=ceiling).contains(n)).or_else(|| self.promised(ceiling))
        };
        (self.want_up, self.want_down) = (self.want_up && c < ceiling, self.want_down && c > floor);
        self.measured_since = now;
        match next {
            Some(n) => self.measured = n,
            None => {
                if self.measured != c
                    || self.up_at == Duration::MAX
                    || now >= self.up_at
                    || now >= self.down_at
                {
                    self.schedule_due(now);
                }
                self.measured = c;
                (self.stride_up, self.stride_down) = (STRIDE_NEAR, STRIDE_NEAR);
            }
        }
    }

    /// Still climbing: the choice is the highest that is known.
    fn is_unknown_above(&self) -> bool {
        self.stride_up > STRIDE_NEAR && self.table.above(self.choice).is_none()
    }

    /// Still descending: the choice is the lowest that is known.
    fn is_unknown_below(&self) -> bool {
        self.stride_down > STRIDE_NEAR && self.table.below(self.choice).is_none()
    }

    /// Far above, where the nearest above promised more.
    fn promised(&self, ceiling: usize) -> Option<usize> {
        let c = self.table.get(self.choice)?;
        let top = self.table.highest()?;
        let far = (2 * self.choice).min(ceiling);
        let promises = top.goodput > (PROMISE + 0.5 * top.error) * c.goodput;
        (promises && top.connections > self.choice && far as f64 > 1.3 * top.connections as f64)
            .then_some(far)
    }

    fn schedule(&mut self, now: Duration) {
        self.up_at = now + self.up_after;
        self.down_at = now + self.down_after;
        self.far_at = now + FAR_FOR;
        (self.want_up, self.want_down) = (false, false);
    }

    /// After a search: what was just tried isn't tried again at once.
    fn schedule_due(&mut self, now: Duration) {
        if self.up_at == Duration::MAX {
            self.schedule(now);
        }
        if now >= self.up_at {
            self.up_at = now + self.up_after;
        }
        if now >= self.down_at {
            self.down_at = now + self.down_after;
        }
    }
}

/// The next stride after one that was a success.
fn widened(stride: f64) -> f64 {
    if stride < 1.3 { 1.4 } else { STRIDE_COLD }
}
