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

/// Messages in flight, at most, in these tests: so many may arrive together whenever they went.
const IN_FLIGHT_MAX: f64 = 10.0;

/// Never more than the rate: overall within 2 % (and `slack_s` of time), and in no second more than the rate and
/// what may be caught up. A message may be long on its way, the first one above all: so the pace is counted from
/// whoever of the first half was on its way for the shortest time.
///
/// # Panics
/// When it is more.
pub fn assert_never_above(times: &[u64], per_second: f64, slack_s: f64) {
    let n = times.len();
    assert!(n > 10, "only {n} messages");
    let at = |i: usize| (times[i] - times[0]) as f64 / 1e6;
    let begun = (0..n / 2).map(|i| at(i) - i as f64 / per_second).fold(f64::INFINITY, f64::min);
    let took = at(n - 1) - begun;
    let least = (n - 1) as f64 / per_second * 0.98 - slack_s;
    assert!(took >= least, "{n} messages in {took:.3} s, at {per_second}/s");
    for (i, from) in times.iter().enumerate() {
        let within = times[i..].iter().take_while(|at| **at < from + 1_000_000).count();
        assert!(
            within as f64 <= 2.0 * per_second + IN_FLIGHT_MAX,
            "{within} in one second, at {per_second}/s"
        );
    }
}
