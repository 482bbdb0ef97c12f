//! What the MTA says of strain: refusals at connect that bound the number of connections, and load
//! codes in sessions, which cut it, unless it turns out that they don't depend on it.

use std::time::Duration;

use super::observation::{Mark, Observation};

/// One connection more than a limit is tried after this, doubling up to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// Nothing is judged for so long after a connect was refused or late.
const TROUBLE: Duration = Duration::from_millis(2_500);
/// Marks that don't depend on the number of connections are no reason for so long.
const IMMUNE: Duration = Duration::from_secs(60);
/// Marks are weighed over at least so long and so many transactions.
const WEIGHED: Duration = Duration::from_secs(1);
const WEIGHED_MIN: u64 = 20;
const WEIGHED_MAX: Duration = Duration::from_secs(3);
/// Few marks say little about their rate: more are waited for, but no longer than this.
const MARKS_WAIT_MAX: Duration = Duration::from_secs(6);
/// After a cut so many would have come, had nothing changed.
const EXPECTED_MIN: f64 = 16.0;
/// Fewer marks than this share of transactions are chance; so is what may be less by so many standard errors.
const SHARE_MIN: f64 = 0.01;
const ERRORS: f64 = 2.0;
/// After a cut marks are fewer, and what they are less by one suffices.
const ERRORS_AFTER: f64 = 1.0;
/// A cut leaves so much, or what there was before a try.
const CUT: f64 = 0.7;
/// Marks that keep more than this share of their rate after a cut don't depend on the number.
const KEPT: f64 = 0.6;

/// What follows from the marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    None,
    /// The MTA takes no more than so many.
    Limited(usize),
    /// Connects are refused.
    Refused,
    /// Connects are late.
    Slow,
    /// Fewer, for this mark.
    Cut(Mark, usize),
    /// A cut was in vain: as many as before.
    Restore(usize),
}

/// A limit that the MTA told.
#[derive(Debug, Clone, Copy)]
struct Ceiling {
    connections: usize,
    until: Duration,
    wait: Duration,
}

/// Marks of one kind, weighed.
#[derive(Debug, Clone, Default)]
struct Weighed {
    /// Since when, and how many marks and transactions since then.
    since: Duration,
    marks: u64,
    transactions: u64,
    /// The most connections at which any came since then.
    most: usize,
    immune_until: Duration,
    /// After a cut.
    cut: Option<Cut>,
    /// The rate at the least number of connections that had any lately.
    low: Option<(usize, f64, Duration)>,
}

/// A cut that is to show what it was good for.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// How many there were, and how many there are to be again if it was in vain.
    from: usize,
    back: usize,
    /// The least rate of marks before.
    share: f64,
    /// It went back to what had been before a try, and no further.
    is_mild: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Strain {
    seen: [u64; Mark::COUNT],
    ceiling: Option<Ceiling>,
    wait: Duration,
    trouble_until: Duration,
    slow_immune_until: Duration,
    transactions: u64,
    most: usize,
    kinds: [Weighed; 2],
    /// No larger number before then: there was a cut.
    cap: Option<(usize, Duration)>,
}

const KINDS: [Mark; 2] = [Mark::Closing, Mark::Load];

impl Strain {
    pub fn new() -> Self {
        Self {
            seen: [0; Mark::COUNT],
            ceiling: None,
            wait: RETRY.0,
            trouble_until: Duration::ZERO,
            slow_immune_until: Duration::ZERO,
            transactions: 0,
            most: 0,
            kinds: [Weighed::default(), Weighed::default()],
            cap: None,
        }
    }

    /// The most connections that make sense now.
    pub fn ceiling(&self) -> usize {
        let limit = self.ceiling.map_or(usize::MAX, |c| c.connections);
        limit.min(self.cap.map_or(usize::MAX, |c| c.0))
    }

    /// Whether connects were refused or late a moment ago: don't climb, don't close what stands.
    pub fn is_troubled(&self, now: Duration) -> bool {
        now < self.trouble_until
    }

    /// Whether connects are late whatever the number of connections.
    pub fn is_slow_to_connect(&self, now: Duration) -> bool {
        now < self.slow_immune_until
    }

    /// Whether a limit's time is up: one more may be tried. Takes the limit away.
    pub fn may_try_more(&mut self, now: Duration) -> bool {
        let limit = self.ceiling.is_some_and(|c| now >= c.until);
        if limit {
            self.ceiling = None;
        }
        let cap = self.cap.is_some_and(|c| now >= c.1);
        if cap {
            self.cap = None;
        }
        limit || cap
    }

    /// Takes what was seen; `target` connections were wanted, and `choice` is what a try goes back to.
    pub fn observe(&mut self, o: &Observation, target: usize, choice: usize, floor: usize) -> Act {
        let mut new = [0; Mark::COUNT];
        for (new, (now, seen)) in new.iter_mut().zip(o.totals.marks.iter().zip(&self.seen)) {
            *new = now.saturating_sub(*seen);
        }
        self.seen = o.totals.marks;
        if let Some(c) = &mut self.ceiling
            && o.established > c.connections
        {
            c.connections = o.established;
        }
        if new[Mark::TooManyConnections.index()] > 0 && o.established > 0 {
            // More stand than the limit of a while ago: it is another one, and waits begin anew.
            let last = self.ceiling.map(|c| c.wait);
            let wait = last.unwrap_or(self.wait);
            self.wait = (2 * wait).min(RETRY.1);
            let connections = o.established.max(floor);
            self.ceiling = Some(Ceiling { connections, until: o.now + wait, wait });
            if target > connections {
                return Act::Limited(connections);
            }
        }
        if new[Mark::ConnectRefused.index()] > 0 {
            self.trouble_until = o.now + TROUBLE;
            return Act::Refused;
        }
        if new[Mark::ConnectSlow.index()] > 0 {
            // The very first connection's banner was late: that isn't for many standing.
            if o.established <= 1 || o.now < self.slow_immune_until {
                self.slow_immune_until = o.now + IMMUNE;
            } else {
                self.trouble_until = o.now + TROUBLE;
                return Act::Slow;
            }
        }
        self.weigh(o, &new, choice, floor)
    }

    fn weigh(&mut self, o: &Observation, new: &[u64; Mark::COUNT], choice: usize, floor: usize) -> Act {
        let transactions = o.totals.transactions.saturating_sub(self.transactions);
        self.transactions = o.totals.transactions;
        for (kind, mark) in self.kinds.iter_mut().zip(KINDS) {
            kind.marks += new[mark.index()];
            if new[mark.index()] > 0 {
                kind.most = kind.most.max(o.established);
            }
            kind.transactions += transactions;
        }
        // Sessions that are gone altogether are a restart, and no strain.
        let gone = o.held || 2 * o.established < self.most;
        self.most = if gone { o.established } else { self.most.max(o.established) };
        let mut act = Act::None;
        for (kind, mark) in self.kinds.iter_mut().zip(KINDS) {
            if gone {
                kind.begin(o.now);
                kind.cut = None;
            } else if act == Act::None && kind.is_enough(o.now) {
                act = kind.judge(mark, o, choice, floor);
                kind.begin(o.now);
            }
        }
        match act {
            Act::Cut(_, to) => {
                self.cap = Some((to, o.now + RETRY.1));
                self.most = o.established;
                // what comes from now on comes at another number
                self.kinds.iter_mut().for_each(|kind| kind.begin(o.now));
            }
            Act::Restore(_) => self.cap = None,
            _ => {}
        }
        act
    }
}

impl Weighed {
    /// Counts anew.
    fn begin(&mut self, now: Duration) {
        (self.since, self.marks, self.transactions, self.most) = (now, 0, 0, 0);
    }

    /// Marks beside all transactions.
    fn share(&self) -> f64 {
        self.marks as f64 / (self.transactions + self.marks).max(1) as f64
    }

    /// What it is at least, chance of so many standard errors set aside.
    fn share_min(&self, errors: f64) -> f64 {
        let marks = self.marks as f64;
        (marks - errors * marks.sqrt()) / (self.transactions + self.marks).max(1) as f64
    }

    /// Whether it is more than chance.
    fn is_sure(&self) -> bool {
        self.share_min(ERRORS) >= SHARE_MIN
    }

    /// Whether there is enough to judge.
    fn is_enough(&self, now: Duration) -> bool {
        let waited = now.saturating_sub(self.since);
        if waited < WEIGHED || (self.transactions < WEIGHED_MIN && waited < WEIGHED_MAX) {
            return false;
        }
        if waited >= MARKS_WAIT_MAX {
            return true;
        }
        match self.cut {
            Some(cut) => cut.share * (self.transactions + self.marks) as f64 >= EXPECTED_MIN,
            None => self.marks == 0 || self.is_sure(),
        }
    }

    fn judge(&mut self, mark: Mark, o: &Observation, choice: usize, floor: usize) -> Act {
        // a try may have ended meanwhile: what it strained says nothing of the number it went back to
        let (n, share) = (o.established.max(self.most), self.share());
        let fewer = ((n as f64 * CUT) as usize).max(floor);
        if let Some(cut) = self.cut.take()
            && n < cut.from
            && self.share_min(ERRORS_AFTER) > KEPT * cut.share
        {
            if cut.is_mild && fewer < n {
                self.cut = Some(Cut { is_mild: false, ..cut });
                return Act::Cut(mark, fewer);
            }
            self.immune_until = o.now + IMMUNE;
            return Act::Restore(cut.back);
        }
        if !self.is_sure() {
            return Act::None;
        }
        let as_below =
            self.low.is_some_and(|(low, rate, until)| low < n && o.now < until && share < rate / KEPT);
        if as_below || n <= floor || o.now < self.immune_until {
            match &mut self.low {
                Some((low, _, until)) if *low < n && as_below => *until = o.now + IMMUNE,
                Some((low, _, until)) if *low < n && o.now < *until => {}
                low => *low = Some((n, share, o.now + IMMUNE)),
            }
            return Act::None;
        }
        // what a try went over was well before it
        let is_mild = (floor..n).contains(&choice);
        // a cut comes when the share is high, by chance too: what it falls to is held against the least it was
        let back = if is_mild { choice } else { n };
        self.cut = Some(Cut { from: n, back, share: self.share_min(ERRORS), is_mild });
        Act::Cut(mark, if is_mild { choice } else { fewer })
    }
}
