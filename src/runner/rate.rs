//! Rates over the last seconds, from a counter that is read now and then.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back rates go.
const KEPT: Duration = Duration::from_secs(61);

/// Readings of one counter, a second apart at least.
#[derive(Debug, Default)]
pub(super) struct Rate {
    readings: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Notes what the counter says.
    pub fn read(&mut self, now: Instant, count: u64) {
        if self.readings.back().is_some_and(|(at, _)| now.duration_since(*at) < Duration::from_secs(1)) {
            return;
        }
        self.readings.push_back((now, count));
        while self.readings.front().is_some_and(|(at, _)| now.duration_since(*at) > KEPT) {
            self.readings.pop_front();
        }
    }

    /// The counter's growth a second over the last `span`, or since the first reading.
    pub fn over(&self, span: Duration, now: Instant, count: u64) -> f64 {
        let far = self.readings.iter().find(|(at, _)| now.duration_since(*at) <= span);
        let Some((at, then)) = far.or(self.readings.back()) else { return 0.0 };
        let seconds = now.duration_since(*at).as_secs_f64();
        if seconds < 0.001 { 0.0 } else { count.saturating_sub(*then) as f64 / seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_forgets_what_was_before_its_span() {
        let (begun, mut rate) = (Instant::now(), Rate::default());
        let at = |s: u64| begun + Duration::from_secs(s);
        for s in 0..=100 {
            // a hundred a second for fifty seconds, then nothing
            rate.read(at(s), 100 * s.min(50));
        }
        assert_eq!(rate.over(Duration::from_secs(10), at(100), 5_000), 0.0);
        let minute = rate.over(Duration::from_secs(60), at(100), 5_000);
        assert!((minute - 1_000.0 / 60.0).abs() < 0.1, "{minute}");
        assert!(rate.readings.len() <= 62);
    }
}
