//! A histogram of plain atomics: a fixed set of bounds, a count for each, and a sum.
//!
//! What is observed costs a short search and two additions. Read while others add, its count is that of
//! its buckets, always. Nothing here fails.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::catalogue::Metric;

/// Bounds in the unit of its metric; values in millionths of it.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, included, in millionths.
    bounds: Box<[u64]>,
    /// One for each bound, and one beyond them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a [`Histogram`] held at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// By bound, those below included; the last one is all of them.
    pub cumulative: Vec<u64>,
    pub sum: f64,
}

impl Histogram {
    /// An empty one, with the bounds of this metric.
    ///
    /// # Panics
    /// When the metric is no histogram.
    pub fn of(metric: &Metric) -> Self {
        assert!(!metric.buckets.is_empty(), "{} is no histogram", metric.name);
        let bounds: Box<[u64]> = metric.buckets.iter().map(|bound| (bound * 1e6).round() as u64).collect();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// One that took so long.
    pub fn observe(&self, took: Duration) {
        self.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// One of so many.
    pub fn observe_count(&self, n: usize) {
        self.add((n as u64).saturating_mul(1_000_000));
    }

    fn add(&self, millionths: u64) {
        let at = self.bounds.partition_point(|bound| *bound < millionths);
        self.counts[at].fetch_add(1, Relaxed);
        self.sum.fetch_add(millionths, Relaxed);
    }

    pub(super) fn read(&self) -> Read {
        let mut total = 0;
        let cumulative = self.counts.iter().map(|count| {
            total += count.load(Relaxed);
            total
        });
        let cumulative = cumulative.collect();
        Read { cumulative, sum: self.sum.load(Relaxed) as f64 / 1e6 }
    }

    /// What a part `q` (0 to 1) of these counts doesn't exceed, in the metric's unit; `counts` is the growth of
    /// [`Read::cumulative`]. Within a bucket values are taken to lie evenly; beyond the last bound, at it.
    /// `None`: there are none.
    pub(super) fn quantile(&self, counts: &[u64], q: f64) -> Option<f64> {
        let all = counts.last().copied().filter(|n| *n > 0)?;
        let rank = (q * all as f64).max(f64::MIN_POSITIVE);
        let at = counts.partition_point(|count| (*count as f64) < rank);
        let bound = |at: usize| self.bounds[at.min(self.bounds.len() - 1)] as f64 / 1e6;
        let (below, low) = at.checked_sub(1).map_or((0, 0.0), |at| (counts[at], bound(at)));
        let within = counts.get(at).copied().unwrap_or(all).saturating_sub(below).max(1);
        Some(low + (bound(at) - low) * (rank - below as f64) / within as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalogue::{JOURNAL_SYNC, TRANSACTION_RECIPIENTS};

    #[test]
    fn a_value_at_a_bound_is_within_it() {
        let histogram = Histogram::of(&TRANSACTION_RECIPIENTS);
        for n in [1, 2, 3, 1_000, 1_001] {
            histogram.observe_count(n);
        }
        let read = histogram.read();
        assert_eq!(read.cumulative[..3], [1, 2, 3], "1, 2 and 5");
        assert_eq!(read.cumulative[read.cumulative.len() - 2..], [4, 5], "1,000 and beyond");
        assert_eq!(read.sum, 2_007.0);
    }

    proptest::proptest! {
        #[test]
        fn a_quantile_lies_in_the_bucket_of_the_value_that_has_that_rank(
            mut values in proptest::collection::vec(1_u64..100_000_000, 1..200),
            q in 0.0..=1.0_f64,
        ) {
            let histogram = Histogram::of(&JOURNAL_SYNC);
            values.iter().for_each(|us| histogram.observe(Duration::from_micros(*us)));
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let value = values[rank - 1];
            let at = histogram.bounds.partition_point(|bound| *bound < value);
            let low = at.checked_sub(1).map_or(0, |at| histogram.bounds[at]) as f64 / 1e6;
            let high = histogram.bounds[at.min(histogram.bounds.len() - 1)] as f64 / 1e6;
            let found = histogram.quantile(&histogram.read().cumulative, q);
            let is_within = found.is_some_and(|found| (low - 1e-9..=high + 1e-9).contains(&found));
            proptest::prop_assert!(is_within, "{found:?} for {value}");
        }
    }

    #[test]
    fn of_nothing_there_is_no_quantile() {
        let histogram = Histogram::of(&JOURNAL_SYNC);
        assert_eq!(histogram.quantile(&histogram.read().cumulative, 0.5), None);
    }

    #[test]
    fn counts_only_rise_from_bound_to_bound_whatever_was_observed() {
        let histogram = Histogram::of(&JOURNAL_SYNC);
        for us in (0..2_000_000).step_by(1_777) {
            histogram.observe(Duration::from_micros(us));
        }
        let read = histogram.read();
        assert!(read.cumulative.is_sorted());
        assert_eq!(read.cumulative.last(), Some(&(2_000_000_u64.div_ceil(1_777))));
    }
}
