//! What an answer means, and how long to wait for the next try.
//!
//! Pure. An answer that speaks of the event (it is too large, it is not understood) holds up that event alone; any
//! other trouble is the receiver's, and all events wait.

use std::time::Duration;

/// The first wait; it doubles.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest one.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// What became of one POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Taken,
    /// This event is not wanted as it is.
    NotThisOne(String),
    /// Nothing is taken now.
    NotNow(String),
}

impl Answer {
    pub fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Answer::Taken,
            300..=399 => Answer::NotNow(format!("it answers {status}: a redirect is not followed")),
            400 | 413 | 415 | 422 => Answer::NotThisOne(format!("it answers {status}")),
            _ => Answer::NotNow(format!("it answers {status}")),
        }
    }
}

/// How long to wait after so many tries in a row; `jitter` from 0 to 1 takes up to half of it, so that not all
/// who wait come at once.
pub(super) fn wait(tries: u32, jitter: f64) -> Duration {
    let doubled = WAIT_MIN.saturating_mul(1 << tries.saturating_sub(1).min(20));
    doubled.min(WAIT_MAX).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_grow_to_their_bound_and_are_never_nothing(tries in any::<u32>(), jitter in 0.0..1.0f64) {
            let (now, next) = (wait(tries, jitter), wait(tries.saturating_add(1), jitter));
            prop_assert!(now >= WAIT_MIN / 2 && now <= WAIT_MAX && next >= now);
        }
    }

    #[test]
    fn a_receiver_that_is_down_is_told_from_an_event_that_it_does_not_take() {
        assert_eq!(Answer::of_status(204), Answer::Taken);
        for status in [301, 302, 307, 401, 403, 404, 408, 410, 429, 500, 503, 100] {
            assert!(matches!(Answer::of_status(status), Answer::NotNow(_)), "{status}");
        }
        for status in [400, 413, 422] {
            assert!(matches!(Answer::of_status(status), Answer::NotThisOne(_)), "{status}");
        }
    }
}
