//! What a ledger says of the pace.

use crate::common::ledger::Entry;

/// Microseconds since the epoch, of each transaction of those that `is_mine`, in order.
pub fn arrivals(ledger: &[Entry], is_mine: impl Fn(&str) -> bool) -> Vec<u64> {
    let mut seen = std::collections::BTreeSet::new();
    let mine = ledger.iter().filter(|entry| is_mine(&entry.recipient));
    // the recipients of one transaction are one message
    let first = mine.filter(|entry| seen.insert(entry.queue_id.clone()));
    let mut times: Vec<u64> = first.map(|entry| micros(&entry.time)).collect();
    times.sort_unstable();
    times
}

fn micros(time: &str) -> u64 {
    let time: jiff::Timestamp = time.parse().expect("RFC 3339");
    u64::try_from(time.as_microsecond()).expect("after 1970")
}

/// Seconds between the first and the last.
pub fn seconds(times: &[u64]) -> f64 {
    (times[times.len() - 1] - times[0]) as f64 / 1e6
}

/// Never more than the rate: overall within 2 % and what may be on its way (`slack_s` of time), and in no second
/// more than the rate and what may be caught up.
///
/// # Panics
/// When it is more.
pub fn assert_never_above(times: &[u64], per_second: f64, slack_s: f64) {
    assert!(times.len() > 10, "only {} messages", times.len());
    let allowed = per_second * (seconds(times) + slack_s) * 1.02 + 1.0;
    assert!(
        (times.len() - 1) as f64 <= allowed,
        "{} messages in {:.3} s, at {per_second}/s",
        times.len(),
        seconds(times)
    );
    for (i, from) in times.iter().enumerate() {
        let within = times[i..].iter().take_while(|at| **at < from + 1_000_000).count();
        assert!(within as f64 <= 2.0 * per_second + 1.0, "{within} in one second, at {per_second}/s");
    }
}
