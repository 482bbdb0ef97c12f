//! Measures goodput at one number of connections: waits until sessions have settled, then gathers until
//! the mean is good enough.
//!
//! Goodput comes from how long transactions took (`recipients / session time × connections`), not from how
//! many ended in a window: with few slow sessions a window holds 20 ± 4 of them, and their mean time is
//! good to a few percent.

use std::time::Duration;

use super::observation::{Mark, Observation, Totals};

/// A measurement gathers at least so long.
const GATHER_MIN: Duration = Duration::from_millis(240);
/// And at most so long, unless there are hardly any transactions.
const GATHER_MAX: Duration = Duration::from_millis(2_500);
/// Or single transactions differ so much that it would say nothing: beyond this error,
const UNEVEN: f64 = 0.06;
/// so long.
const GATHER_UNEVEN_MAX: Duration = Duration::from_millis(6_000);
/// These vary by so much, both ways: what disturbs the MTA at a beat must not keep step with measurements.
const GATHER_VARIES: f64 = 0.25;
const GATHER_FEW_MAX: Duration = Duration::from_secs(10);
/// Fewer transactions than that say little about their mean.
const TRANSACTIONS_MIN: u64 = 8;
/// What is clearly too little needs fewer.
const TRANSACTIONS_POOR: u64 = 4;
/// Connects that take longer than this aren't waited for.
const CONNECT_MAX: Duration = Duration::from_secs(8);
/// Where the MTA goes on closing sessions, all of them never stand at once: after so long these will do, as a
/// share of those that are wanted.
const CHURN_WAIT: Duration = Duration::from_millis(1_500);
const CHURN_STANDS: f64 = 0.6;
/// It does for so long after it has.
const CHURN_FOR: Duration = Duration::from_secs(2);
/// Of so few sessions none may stand for so long.
const CHURN_GAP_SESSIONS: usize = 8;
const CHURN_GAP_MAX: Duration = Duration::from_secs(1);
/// How much one transaction's time differs from the next one's, until that has been seen (as a share).
const SPREAD_START: f64 = 0.25;
const SPREAD_MIN: f64 = 0.04;
/// How much of a spread that was larger before is forgotten with each measurement, at most.
const SPREAD_FORGOTTEN: f64 = 0.1;
/// And by which factor it grows.
const SPREAD_GROWTH: f64 = 10.0;
/// And how much the MTA as a whole is faster in one moment than in the next: its variance over a second.
const SWAY_START: f64 = 0.000_1;
/// Samples that differ by more than this are of a change.
const SWAY_MAX: f64 = 0.3;
/// No measurement is better than that.
const ERROR_MIN: f64 = 0.004;

/// Goodput at a number of connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub connections: usize,
    /// Recipients a second.
    pub goodput: f64,
    /// Standard error of that, as a share.
    pub error: f64,
    /// Octets of content a transaction.
    pub octets: f64,
    /// Recipients a transaction.
    pub recipients: f64,
    /// The share of session time that was spent waiting for work.
    pub idle: f64,
}

#[derive(Debug, Clone)]
pub(super) struct Meter {
    since: Duration,
    wanted: usize,
    /// Where gathering began.
    from: Option<(Duration, usize, Totals)>,
    /// Sessions that stood since then, times seconds.
    stood: f64,
    /// When one stood last.
    stood_at: Duration,
    /// When the MTA closed a session last.
    closed_at: Option<Duration>,
    last: (Duration, Totals),
    /// Mean time of a transaction lately, in s.
    pub cycle_s: f64,
    /// Spread of single transactions: its square, slowly averaged.
    spread_squared: f64,
    /// The variance of the MTA as a whole, over a second.
    sway: f64,
    /// The sample before, and what of its error is the transactions' own, squared.
    before: Option<(Sample, f64)>,
    pieces: Vec<(f64, f64)>,
    /// How many samples there were.
    samples: u32,
}

impl Meter {
    pub fn new() -> Self {
        Self {
            since: Duration::ZERO,
            wanted: 0,
            from: None,
            stood: 0.0,
            stood_at: Duration::ZERO,
            closed_at: None,
            last: (Duration::ZERO, Totals::default()),
            cycle_s: 0.0,
            spread_squared: SPREAD_START * SPREAD_START,
            sway: SWAY_START,
            before: None,
            pieces: Vec::new(),
            samples: 0,
        }
    }

    /// Begins anew, at so many connections.
    pub fn restart(&mut self, now: Duration, wanted: usize) {
        self.wanted = wanted;
        self.since = now;
        self.from = None;
    }

    /// Goes on gathering at the same number.
    pub fn go_on(&mut self) {
        self.from = None;
    }

    /// Takes what was seen; a sample once its standard error is down to `error_wanted` (or time is up, or
    /// goodput is clearly below the first or above the second of `clear`).
    pub fn observe(&mut self, o: &Observation, error_wanted: f64, clear: (f64, f64)) -> Option<Sample> {
        let (last_at, last) = std::mem::replace(&mut self.last, (o.now, o.totals));
        let count = o.totals.transactions.saturating_sub(last.transactions);
        let busy_s = o.totals.busy_us.saturating_sub(last.busy_us) as f64 / 1e6;
        let idle_s = o.totals.idle_us.saturating_sub(last.idle_us) as f64 / 1e6;
        if count > 0 {
            self.cycle_s = busy_s / count as f64;
        }
        let closed = Mark::Closing.index();
        if o.totals.marks[closed] > last.marks[closed] {
            self.closed_at = Some(o.now);
        }
        let churns = self.churns(o.now);
        if o.established > 0 {
            self.stood_at = o.now;
        } else if self.is_gap(o) {
            return None;
        }
        if o.held || o.established == 0 {
            self.since = o.now;
            self.from = None;
            return None;
        }
        let Some((from, connections, start)) = self.from else {
            let waited = o.now.saturating_sub(self.since);
            let reached =
                o.established == self.wanted || (o.connecting == 0 && waited > Duration::from_secs(1));
            let stands = churns && waited > CHURN_WAIT && self.most_stand(o.established);
            let reached = reached || stands;
            if !reached && waited < CONNECT_MAX {
                return None;
            }
            // Transactions that began under another number must be through: one cycle after the change.
            if !reached || self.settled_at(o, last_at) {
                let connections = if stands { self.wanted } else { o.established };
                self.from = Some((o.now, connections, o.totals));
                self.stood = 0.0;
                self.pieces.clear();
            }
            return None;
        };
        // A session that reconnects takes nothing from the others' times.
        let away_max = if o.connecting > 0 { (connections / 8).max(1) } else { 0 };
        let is_away = o.established.abs_diff(connections) > away_max;
        self.stood += o.established as f64 * o.now.saturating_sub(last_at).as_secs_f64();
        if is_away && !(churns && self.most_stand(o.established)) || o.established == 0 {
            self.from = None;
            self.since = o.now;
            return None;
        }
        if count > 0 {
            self.pieces.push((count as f64, (busy_s + idle_s) / count as f64));
        }
        let gathered = o.now - from;
        let count = o.totals.transactions - start.transactions;
        let error = self.error(count, gathered);
        let enough = count >= TRANSACTIONS_MIN
            && gathered >= GATHER_MIN
            && (error <= error_wanted
                || gathered >= self.varied(if error > UNEVEN { GATHER_UNEVEN_MAX } else { GATHER_MAX }));
        let stood = self.stood / gathered.as_secs_f64().max(0.01);
        let sofar = self.sample(o, &start, connections, stood);
        let is_poor = count >= TRANSACTIONS_POOR && sofar.goodput * (1.0 + 3.0 * error) < clear.0;
        let is_rich = count >= TRANSACTIONS_MIN && sofar.goodput * (1.0 - 3.0 * error) > clear.1;
        let is_clear = is_poor || (is_rich && gathered >= GATHER_MIN);
        // without a single transaction there is nothing to judge, however long that takes
        if !(enough || is_clear || gathered >= GATHER_FEW_MAX && count > 0) {
            return None;
        }
        self.samples = self.samples.wrapping_add(1);
        self.learn_spread();
        self.learn_sway(&sofar, count, gathered);
        Some(Sample { error: self.error(count, gathered), ..sofar })
    }

    /// The MTA goes on closing sessions.
    fn churns(&self, now: Duration) -> bool {
        self.closed_at.is_some_and(|at| now.saturating_sub(at) < CHURN_FOR)
    }

    /// None stands for a moment, since the MTA has just closed the last one, and the next is on its way.
    pub fn is_gap(&self, o: &Observation) -> bool {
        let since = o.now.saturating_sub(self.stood_at);
        let are_few = self.wanted <= CHURN_GAP_SESSIONS;
        are_few && o.established == 0 && o.connecting > 0 && since < CHURN_GAP_MAX && self.churns(o.now)
    }

    /// Enough of those that are wanted, and no more.
    fn most_stand(&self, established: usize) -> bool {
        (CHURN_STANDS * self.wanted as f64..=self.wanted as f64).contains(&(established as f64))
    }

    fn sample(&self, o: &Observation, start: &Totals, connections: usize, stood: f64) -> Sample {
        let count = o.totals.transactions - start.transactions;
        let busy_s = (o.totals.busy_us - start.busy_us) as f64 / 1e6;
        let idle_s = (o.totals.idle_us - start.idle_us) as f64 / 1e6;
        let per_transaction = |total: u64| total as f64 / count.max(1) as f64;
        let recipients = o.totals.recipients - start.recipients;
        Sample {
            connections,
            goodput: if count == 0 { 0.0 } else { recipients as f64 / (busy_s + idle_s) * stood },
            error: 0.0,
            octets: per_transaction(o.totals.octets - start.octets),
            recipients: per_transaction(recipients),
            idle: idle_s / (busy_s + idle_s).max(1e-6),
        }
    }

    /// By parts that no beat divides: those of the golden ratio.
    fn varied(&self, time: Duration) -> Duration {
        let part = (f64::from(self.samples) * 0.618_034).fract();
        time.mul_f64(1.0 + GATHER_VARIES * (2.0 * part - 1.0))
    }

    fn settled_at(&self, o: &Observation, last_at: Duration) -> bool {
        let settled = o.now.saturating_sub(self.since).as_secs_f64();
        let tick = o.now.saturating_sub(last_at).as_secs_f64();
        settled >= (1.3 * self.cycle_s).max(0.06).max(tick.min(0.1))
    }

    fn error(&self, count: u64, gathered: Duration) -> f64 {
        let own = self.spread_squared / count.max(1) as f64;
        (own + self.sway / gathered.as_secs_f64().max(0.05)).sqrt().max(ERROR_MIN)
    }

    /// What samples in a row differ by beyond their transactions' own spread is the MTA's sway.
    fn learn_sway(&mut self, sample: &Sample, count: u64, gathered: Duration) {
        let own = self.spread_squared / count.max(1) as f64;
        let Some((before, own_before)) = self.before.replace((*sample, own)) else { return };
        let ratio = sample.goodput / before.goodput.max(1e-9);
        if before.connections != sample.connections || !(1.0 - SWAY_MAX..=1.0 + SWAY_MAX).contains(&ratio) {
            return;
        }
        let seen = ((ratio - 1.0).powi(2) - own - own_before).max(0.0) / 2.0 * gathered.as_secs_f64();
        self.sway += 0.15 * (seen - self.sway);
    }

    /// The spread of single transactions, from how the pieces of one measurement differ.
    fn learn_spread(&mut self) {
        let all: f64 = self.pieces.iter().map(|p| p.0).sum();
        if self.pieces.len() < 3 || all <= 0.0 {
            return;
        }
        let mean = self.pieces.iter().map(|p| p.0 * p.1).sum::<f64>() / all;
        let squares: f64 = self.pieces.iter().map(|p| p.0 * (p.1 / mean - 1.0).powi(2)).sum();
        // A change in the midst of a measurement is no spread: it grows step by step. What seldom happens and
        // costs much (a session that is held up for a second) is forgotten more slowly than it is learned.
        let seen = (squares / (self.pieces.len() - 1) as f64).min(SPREAD_GROWTH * self.spread_squared);
        let weight_max = if seen > self.spread_squared { 0.5 } else { SPREAD_FORGOTTEN };
        let weight = (self.pieces.len() as f64 / 20.0).min(weight_max);
        self.spread_squared =
            ((1.0 - weight) * self.spread_squared + weight * seen).max(SPREAD_MIN * SPREAD_MIN);
    }
}
