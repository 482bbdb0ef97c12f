//! Time as the rest of infeed sees it: microseconds since the Unix epoch, UTC.
//!
//! There are two: the wall clock, for whatever a person reads, and [`steady_us`], for what is due. The wall
//! clock can be set; a process that goes by the other one neither tries all that is deferred at once nor
//! waits an hour longer because somebody has set it.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Microseconds since the Unix epoch.
pub type Micros = u64;

pub const SECOND_US: Micros = 1_000_000;

/// The wall clock now, in microseconds since the Unix epoch; 0 when the clock stands before 1970.
pub fn now_us() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as Micros)
}

/// The wall clock as it stood when this was first asked for, and the time that has gone by since, sleep of
/// the machine included: what nobody can set. Between processes it differs by what the wall clock was set.
pub fn steady_us() -> Micros {
    let (wall, since_boot) = began();
    wall + since_boot_us().saturating_sub(since_boot)
}

/// By how much the clock of a job that was submitted at `submitted_us` is to stand before [`steady_us`], as of
/// now: 0, unless the wall clock was set back to before its submission. With it, what was never tried is due
/// all the same, and what was deferred waits as long as this process sees time go by.
pub fn lead_us(submitted_us: Micros) -> Micros {
    // what was taken in hand and never tried is due some microseconds later
    submitted_us.saturating_add(1_000).saturating_sub(steady_us())
}

/// The wall clock, and the time since boot, of one moment early in this process.
fn began() -> (Micros, Micros) {
    static BEGAN: OnceLock<(Micros, Micros)> = OnceLock::new();
    *BEGAN.get_or_init(|| (now_us(), since_boot_us()))
}

fn since_boot_us() -> Micros {
    let t = clock_gettime(ClockId::Boottime);
    u64::try_from(t.tv_sec).unwrap_or(0) * SECOND_US + u64::try_from(t.tv_nsec).unwrap_or(0) / 1_000
}

/// RFC 3339 in UTC with milliseconds: `2026-11-22T03:14:00.123Z`.
pub fn rfc3339(us: Micros) -> String {
    timestamp(us).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// RFC 5322 §3.3 in UTC: `Sun, 22 Nov 2026 03:14:00 +0000`.
pub fn rfc5322(us: Micros) -> String {
    timestamp(us).strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// `20261122-031400`, for names that sort by time.
pub fn compact(us: Micros) -> String {
    timestamp(us).strftime("%Y%m%d-%H%M%S").to_string()
}

fn timestamp(us: Micros) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(us.min(253_402_207_200_000_000) as i64)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_begins_at_the_wall_clock_and_goes_on() {
        let first = steady_us();
        assert!(first.abs_diff(now_us()) < 60 * SECOND_US);
        assert!(steady_us() >= first);
    }

    #[test]
    fn a_jobs_clock_stands_ahead_only_where_the_clock_was_set_back() {
        assert_eq!(lead_us(steady_us() - SECOND_US), 0);
        assert!(lead_us(steady_us() + 3_600 * SECOND_US) > 3_590 * SECOND_US);
    }

    #[test]
    fn times_are_written_as_the_rfcs_want() {
        let us = 1_795_317_240_123_456;
        assert_eq!(rfc3339(us), "2026-11-22T03:14:00.123Z");
        assert_eq!(rfc5322(us), "Sun, 22 Nov 2026 03:14:00 +0000");
        assert_eq!(compact(us), "20261122-031400");
    }
}
