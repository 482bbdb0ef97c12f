//! How long the MTAs took lately: quantiles of the phases' histograms over the last seconds.
//!
//! They come from the growth of each bucket since a reading of about ten seconds ago; within a bucket values
//! are taken to lie evenly. So they are as exact as the buckets are fine (1, 2, 5, 10 …), cost the hot path
//! nothing, and hold a few readings for each MTA. Nothing here fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::recorder::{MtaSeries, Recorder};

/// How far back it goes.
const SPAN: Duration = Duration::from_secs(10);
/// Readings are so far apart, at least.
const READ_EVERY: Duration = Duration::from_secs(1);

/// What one phase took at one MTA, lately.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseLately {
    /// The MTA's name.
    pub mta: String,
    /// `connect`, `greeting`, `envelope` (MAIL to the last RCPT) or `content` (to the final reply).
    pub phase: &'static str,
    /// How often in the last ten seconds.
    pub count: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
}

/// Readings of every MTA's phases.
#[derive(Debug, Default)]
pub struct Lately {
    mtas: Vec<(Arc<MtaSeries>, [Window; 4])>,
    read: Option<Instant>,
}

impl Lately {
    /// Reads them, if it is time.
    pub fn read(&mut self, now: Instant, recorder: &Recorder) {
        if self.read.is_some_and(|at| now.duration_since(at) < READ_EVERY) {
            return;
        }
        self.read = Some(now);
        for series in recorder.mtas().into_iter().filter(|series| !series.is_none()) {
            if !self.mtas.iter().any(|(known, _)| Arc::ptr_eq(known, &series)) {
                self.mtas.push((series, Default::default()));
            }
        }
        for (series, windows) in &mut self.mtas {
            for ((_, histogram), window) in series.phases().into_iter().zip(windows) {
                window.read(now, histogram);
            }
        }
    }

    /// What each phase took in the last seconds; those that didn't occur are left out.
    pub fn phases(&self, now: Instant) -> Vec<PhaseLately> {
        let mut phases = Vec::new();
        for (series, windows) in &self.mtas {
            for ((phase, histogram), window) in series.phases().into_iter().zip(windows) {
                let growth = window.growth(now, histogram);
                let ms = |q| histogram.quantile(&growth, q).map(|seconds| seconds * 1e3);
                if let (Some(p50_ms), Some(p90_ms), Some(p99_ms)) = (ms(0.5), ms(0.9), ms(0.99)) {
                    let count = growth.last().copied().unwrap_or_default();
                    phases.push(PhaseLately {
                        mta: series.name.clone(),
                        phase,
                        count,
                        p50_ms,
                        p90_ms,
                        p99_ms,
                    });
                }
            }
        }
        phases
    }
}

/// Readings of one histogram.
#[derive(Debug, Default)]
struct Window {
    readings: VecDeque<(Instant, Vec<u64>)>,
}

impl Window {
    fn read(&mut self, now: Instant, histogram: &Histogram) {
        let mut reading = histogram.read().cumulative;
        if self.readings.is_empty() {
            // its MTA is new: what was counted until now was counted lately
            reading.fill(0);
        }
        self.readings.push_back((now, reading));
        // one that is a little too old stays: what grew since the next one alone is less than the span
        while self.readings.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= SPAN) {
            self.readings.pop_front();
        }
    }

    /// What its buckets grew by in the last seconds, those below included; all of it, before the first reading.
    fn growth(&self, now: Instant, histogram: &Histogram) -> Vec<u64> {
        let mut growth = histogram.read().cumulative;
        let within = self.readings.iter().find(|(at, _)| now.duration_since(*at) <= SPAN);
        if let Some((_, before)) = within.or(self.readings.back()) {
            growth.iter_mut().zip(before).for_each(|(now, before)| *now = now.saturating_sub(*before));
        }
        growth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infeed::Observed;

    fn content(series: &MtaSeries, ms: u64, times: usize) {
        (0..times).for_each(|_| series.observed(&Observed::Content { took: Duration::from_millis(ms) }));
    }

    #[test]
    fn what_was_slow_before_the_span_is_forgotten() {
        let (begun, recorder, mut lately) = (Instant::now(), Recorder::default(), Lately::default());
        let series = recorder.mta("main");
        let at = |s: u64| begun + Duration::from_secs(s);
        for s in 0..40 {
            lately.read(at(s), &recorder);
            // slow for twenty seconds, quick from then on
            content(&series, if s < 20 { 4_000 } else { 4 }, 10);
        }
        let phases = lately.phases(at(39));
        assert_eq!(phases.len(), 1, "what didn't occur is left out: {phases:?}");
        assert_eq!((phases[0].mta.as_str(), phases[0].phase), ("main", "content"));
        assert!((90..=110).contains(&phases[0].count), "{phases:?}");
        assert!(phases[0].p99_ms <= 5.0, "{phases:?}");
        assert!(lately.mtas[0].1[3].readings.len() <= 12, "bounded");
        lately.read(at(80), &recorder);
        assert_eq!(lately.phases(at(90)), [], "nothing lately");
    }

    #[test]
    fn what_came_before_the_first_reading_counts() {
        let (begun, recorder, mut lately) = (Instant::now(), Recorder::default(), Lately::default());
        assert_eq!(lately.phases(begun), []);
        lately.read(begun, &recorder);
        content(&recorder.mta("late"), 4, 7);
        lately.read(begun + READ_EVERY, &recorder);
        let phases = lately.phases(begun + READ_EVERY);
        assert_eq!(phases.first().map(|phase| phase.count), Some(7), "{phases:?}");
    }

    #[test]
    fn the_slow_tenth_shows_in_its_quantiles() {
        let (now, recorder, mut lately) = (Instant::now(), Recorder::default(), Lately::default());
        lately.read(now, &recorder);
        let series = recorder.mta("main");
        lately.read(now + READ_EVERY, &recorder);
        content(&series, 4, 85);
        content(&series, 800, 15);
        let phases = lately.phases(now + READ_EVERY);
        assert!((2.0..=5.0).contains(&phases[0].p50_ms), "{phases:?}");
        assert!((500.0..=1_000.0).contains(&phases[0].p90_ms), "{phases:?}");
        assert!(phases[0].p90_ms < phases[0].p99_ms, "{phases:?}");
    }
}
