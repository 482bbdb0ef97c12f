//! Time as the rest of infeed sees it: microseconds since the Unix epoch, UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch.
pub type Micros = u64;

pub const SECOND_US: Micros = 1_000_000;

/// The wall clock now, in microseconds since the Unix epoch; 0 when the clock stands before 1970.
pub fn now_us() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as Micros)
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
    fn times_are_written_as_the_rfcs_want() {
        let us = 1_795_317_240_123_456;
        assert_eq!(rfc3339(us), "2026-11-22T03:14:00.123Z");
        assert_eq!(rfc5322(us), "Sun, 22 Nov 2026 03:14:00 +0000");
        assert_eq!(compact(us), "20261122-031400");
    }
}
