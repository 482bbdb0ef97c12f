//! The queue behind the sink: what it takes goes in, and `drain_rate` messages a second go out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A leaking bucket on the sink's own time (since its start).
#[derive(Debug, Default)]
pub(super) struct Backlog(Mutex<Level>);

#[derive(Debug, Default)]
struct Level {
    messages: f64,
    at: Duration,
}

impl Backlog {
    fn at(&self, now: Duration, rate_per_s: u64) -> MutexGuard<'_, Level> {
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_sub(level.at).as_secs_f64();
        level.messages = (level.messages - passed * rate_per_s as f64).max(0.0);
        level.at = level.at.max(now);
        level
    }

    /// A message came in.
    pub fn add(&self, now: Duration, rate_per_s: u64) {
        self.at(now, rate_per_s).messages += 1.0;
    }

    /// Whole messages waiting now.
    pub fn level(&self, now: Duration, rate_per_s: u64) -> u64 {
        self.at(now, rate_per_s).messages.ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_drains_at_its_rate_and_never_below_nothing() {
        let queue = Backlog::default();
        let s = Duration::from_secs;
        (0..100).for_each(|_| queue.add(s(0), 10));
        assert_eq!(queue.level(s(0), 10), 100);
        assert_eq!(queue.level(s(4), 10), 60);
        assert_eq!(queue.level(s(20), 10), 0);
        queue.add(s(20), 10);
        assert_eq!(queue.level(s(20), 10), 1);
    }
}
