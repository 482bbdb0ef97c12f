//! What was measured at one point, over all rounds.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::cpu::CpuShare;
use super::plan::Point;
use super::rehearsal::{Measured, histogram};

/// Replies this late, in µs, are called a second late (in_flow_delay and its like), if there are twice as
/// many of them as of those before: a machine that is merely slow makes no such plateau.
const SECOND_LATE_US: (u64, u64) = (950_000, 1_300_000);
const BEFORE_US: (u64, u64) = (500_000, 900_000);

/// What went wrong, counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Errors {
    /// Recipients.
    pub deferred: u64,
    pub refused: u64,
    pub in_doubt: u64,
    /// Recipients whose letter came back: a limit of recipients a transaction, a connection that was lost or
    /// took long to stand.
    pub not_tried: u64,
    /// Of those, in transactions that others were accepted in: the MTA takes fewer a transaction.
    pub beyond_limit: u64,
    /// Connects that no session came of.
    pub no_session: u64,
    /// Sessions that ended otherwise than by our will.
    pub sessions_lost: u64,
    /// The last of the latter two in words.
    pub last: Option<String>,
}

impl Errors {
    /// All of them; what came back untried is none, as when a connection took long to stand.
    pub fn count(&self) -> u64 {
        self.deferred + self.refused + self.in_doubt + self.no_session + self.sessions_lost
    }

    fn add(&mut self, other: Errors) {
        self.deferred += other.deferred;
        self.refused += other.refused;
        self.in_doubt += other.in_doubt;
        self.not_tried += other.not_tried;
        self.beyond_limit += other.beyond_limit;
        self.no_session += other.no_session;
        self.sessions_lost += other.sessions_lost;
        self.last = other.last.or(self.last.take());
    }
}

/// Median and bounds of the rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// By round, counted from 0; a round that was not measured has none.
    pub by_round: BTreeMap<usize, f64>,
}

impl Spread {
    /// `None` without a value.
    pub fn of(by_round: BTreeMap<usize, f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = by_round.values().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = sorted.first().zip(sorted.last())?;
        Some(Spread { median: median(&sorted), min, max, by_round })
    }
}

/// Of a sorted, filled list.
pub fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// In milliseconds, over all rounds together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Percentiles {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: histogram.max() as f64 / 1000.0,
        })
    }
}

/// One point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub connections: usize,
    pub recipients_per_transaction: usize,
    /// `None`: no round could be measured.
    pub recipients_per_second: Option<Spread>,
    /// From the content's write to its final reply.
    pub final_reply_ms: Option<Percentiles>,
    /// From MAIL to the reply to the last RCPT.
    pub mail_rcpt_ms: Option<Percentiles>,
    pub connect_ms: Option<Percentiles>,
    pub greeting_ms: Option<Percentiles>,
    /// Part of the replies that came about a second late.
    pub second_late_percent: f64,
    /// Medians of the rounds.
    pub cpu_percent: Option<CpuShare>,
    /// Sessions at a time, at most.
    pub sessions: usize,
    /// Measured, the median of the rounds; the warm-up is not in it.
    pub seconds: f64,
    /// Rounds in which the letters were used up before the time was.
    pub rounds_used_up: usize,
    pub errors: Errors,
}

impl Row {
    /// The median; 0 where nothing was measured.
    pub fn rate(&self) -> f64 {
        self.recipients_per_second.as_ref().map_or(0.0, |spread| spread.median)
    }
}

/// What becomes a [`Row`].
#[derive(Debug)]
pub struct Cell {
    rates: BTreeMap<usize, f64>,
    content_us: Histogram<u64>,
    envelope_us: Histogram<u64>,
    connect_us: Histogram<u64>,
    greeting_us: Histogram<u64>,
    cpu: Vec<CpuShare>,
    sessions: usize,
    seconds: Vec<f64>,
    rounds_used_up: usize,
    errors: Errors,
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            rates: BTreeMap::new(),
            content_us: histogram(),
            envelope_us: histogram(),
            connect_us: histogram(),
            greeting_us: histogram(),
            cpu: Vec::new(),
            sessions: 0,
            seconds: Vec::new(),
            rounds_used_up: 0,
            errors: Errors::default(),
        }
    }
}

impl Cell {
    /// Adds a step. `counts`: it ran to its end, so that its rate is one.
    pub fn add(&mut self, round: usize, measured: Measured, counts: bool) {
        // letters that were gone before one was accepted are no measure; a whole step for nothing is
        let is_rate = measured.accepted > 0 || !measured.used_up;
        if counts && is_rate && measured.seconds > 0.0 {
            self.rates.insert(round, measured.accepted as f64 / measured.seconds);
            self.seconds.push(measured.seconds);
            self.rounds_used_up += usize::from(measured.used_up);
            self.cpu.extend(measured.cpu);
            merge(&mut self.content_us, &measured.content_us);
            merge(&mut self.envelope_us, &measured.envelope_us);
        }
        merge(&mut self.connect_us, &measured.connect_us);
        merge(&mut self.greeting_us, &measured.greeting_us);
        self.sessions = self.sessions.max(measured.sessions_max);
        self.errors.add(measured.errors);
    }

    pub fn row(&self, point: Point) -> Row {
        let of_cpu = |part: fn(&CpuShare) -> f64| {
            let mut parts: Vec<f64> = self.cpu.iter().map(part).collect();
            parts.sort_by(f64::total_cmp);
            median(&parts)
        };
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        Row {
            connections: point.connections,
            recipients_per_transaction: point.recipients_per_transaction,
            recipients_per_second: Spread::of(self.rates.clone()),
            final_reply_ms: Percentiles::of(&self.content_us),
            mail_rcpt_ms: Percentiles::of(&self.envelope_us),
            connect_ms: Percentiles::of(&self.connect_us),
            greeting_ms: Percentiles::of(&self.greeting_us),
            second_late_percent: second_late_percent(&self.content_us)
                .max(second_late_percent(&self.envelope_us)),
            cpu_percent: (!self.cpu.is_empty()).then(|| CpuShare {
                infeed: of_cpu(|cpu| cpu.infeed),
                machine: of_cpu(|cpu| cpu.machine),
                iowait: of_cpu(|cpu| cpu.iowait),
            }),
            sessions: self.sessions,
            seconds: median(&seconds),
            rounds_used_up: self.rounds_used_up,
            errors: self.errors.clone(),
        }
    }
}

fn second_late_percent(histogram: &Histogram<u64>) -> f64 {
    let late = histogram.count_between(SECOND_LATE_US.0, SECOND_LATE_US.1);
    let is_plateau = late > 2 * histogram.count_between(BEFORE_US.0, BEFORE_US.1);
    if is_plateau { 100.0 * late as f64 / histogram.len() as f64 } else { 0.0 }
}

fn merge(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    if let Err(error) = into.add(from) {
        unreachable!("histograms of the same bounds: {error:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ms(values: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = histogram();
        values.for_each(|ms| histogram.saturating_record(ms * 1000));
        histogram
    }

    #[test]
    fn a_plateau_at_a_second_is_told_from_a_slow_machine() {
        // one in four waits a second more
        let braked = of_ms((0..400).map(|i| 5 + i % 20 + if i % 4 == 0 { 1_000 } else { 0 }));
        assert!((24.0..=26.0).contains(&second_late_percent(&braked)), "{}", second_late_percent(&braked));
        let slow = of_ms(1..1_500);
        assert_eq!(second_late_percent(&slow), 0.0);
        assert_eq!(second_late_percent(&histogram()), 0.0);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 100.0]), 3.0);
        assert_eq!(Spread::of(BTreeMap::new()), None);
        let spread = Spread::of([(0, 3.0), (2, 1.0), (4, 2.0)].into()).expect("values");
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
    }
}
