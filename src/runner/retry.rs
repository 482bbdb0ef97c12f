//! When a deferred recipient is tried again: pure.

use crate::clock::{Micros, SECOND_US};

/// 1 min doubling to 1 h, for 5 days, unless configured otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    pub delay_s_min: u64,
    pub delay_s_max: u64,
    pub expire_after_s: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { delay_s_min: 60, delay_s_max: 3_600, expire_after_s: 5 * 86_400 }
    }
}

impl RetryPolicy {
    /// The longest wait before a retry.
    pub fn wait_s_max(&self) -> u64 {
        self.delay_s_max.max(self.delay_s_min)
    }

    /// When the next try is due after `attempts` (from 1) tries; `None`: the recipient, deferred since
    /// `since_us`, has expired.
    pub fn next_due(&self, attempts: u16, since_us: Micros, now_us: Micros) -> Option<Micros> {
        let age_s = now_us.saturating_sub(since_us) / SECOND_US;
        if age_s >= self.expire_after_s {
            return None;
        }
        let doublings = u32::from(attempts.saturating_sub(1)).min(32);
        let delay_s = self.delay_s_min.saturating_mul(1 << doublings).min(self.wait_s_max());
        Some(now_us + delay_s * SECOND_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_from_a_minute_to_an_hour_and_ends_after_five_days() {
        let p = RetryPolicy::default();
        let now = 1_000_000 * SECOND_US;
        let delays: Vec<u64> =
            (1..=8).filter_map(|n| p.next_due(n, now, now)).map(|due| (due - now) / SECOND_US).collect();
        assert_eq!(delays, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert!(p.next_due(u16::MAX, now, now).is_some());
        let day = 86_400 * SECOND_US;
        assert!(p.next_due(9, now - 5 * day + SECOND_US, now).is_some());
        assert_eq!(p.next_due(9, now - 5 * day, now), None);
    }
}
