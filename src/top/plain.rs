//! One compact line of text, for where there is no terminal to draw on: no escapes, no cursor, nothing but
//! what can be read in a log.

use super::text::{count, duration, per_hour, printable, rate};
use crate::clock;
use crate::control::Status;

/// What a rate is taken from, once an owner runs so long.
const LONG_RUN_S: u64 = 60;

/// The line of one status, at this time of the wall clock.
pub fn line(status: &Status, now_us: clock::Micros) -> String {
    let mut parts = vec![clock::rfc3339(now_us).split('.').next().unwrap_or_default().to_owned() + "Z"];
    if status.owners.is_empty() {
        parts.push("nobody drains this spool now".to_owned());
    } else {
        parts.push(format!(
            "{}/s, 1 min {}/s ({}/h), {} in flight",
            rate(status.rate_10_s),
            rate(status.rate_60_s),
            per_hour(status.rate_60_s),
            count(status.in_flight)
        ));
    }
    parts.push(backlog(status, now_us));
    parts.push(format!("jobs {} active, {} paused", count(status.jobs.active), count(status.jobs.paused)));
    for mta in &status.mtas {
        let why = mta.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let queue = mta.queue.map(|queue| format!(", queue {}", count(queue))).unwrap_or_default();
        parts.push(format!(
            "{} {}{why} N {}/{} {}/s{queue}",
            mta.name,
            mta.state,
            mta.established,
            mta.connections,
            rate(mta.rate_10_s)
        ));
    }
    let outcomes = outcomes(status);
    if !outcomes.is_empty() {
        parts.push(outcomes);
    }
    if let Some(standstill) = &status.standstill {
        parts.push(format!("EVERYTHING IS PAUSED: {}", standstill.reason));
    }
    if let Some(note) = &status.note {
        parts.push(format!("NOTE {note}"));
    }
    if is_full(status) {
        parts.push("SPOOL FULL".to_owned());
    }
    if !status.damaged.is_empty() {
        parts.push(format!("{} jobs DAMAGED: infeed spool check", status.damaged.len()));
    }
    printable(&parts.join(" | "))
}

/// The line where there is no spool.
pub fn nothing(spool: &str) -> String {
    printable(&format!("no spool at {spool} yet: nothing was submitted"))
}

/// `backlog 12,000: 11,000 due, 500 deferred, all due gone in 3 min`.
pub fn backlog(status: &Status, now_us: clock::Micros) -> String {
    let b = &status.backlog;
    let mut text =
        format!("backlog {}: {} due, {} deferred", count(b.recipients), count(b.due), count(b.deferred));
    match (b.due, b.next_due_us, eta_s(status)) {
        (0, Some(next), _) => {
            let s = next.saturating_sub(now_us) / clock::SECOND_US;
            text.push_str(&format!(", the first in {}", duration(s)));
        }
        (1.., _, Some(eta)) => text.push_str(&format!(", all due gone in {}", duration(eta))),
        _ => {}
    }
    text
}

/// `49,000 accepted, 12 refused` since the owners began; empty for none.
pub fn outcomes(status: &Status) -> String {
    let some = status.outcomes.iter().filter(|(_, n)| **n > 0);
    some.map(|(name, n)| format!("{} {name}", count(*n))).collect::<Vec<_>>().join(", ")
}

/// Seconds until what is due is gone, at the rate of late; `None`: nothing is due, or nothing moves.
pub fn eta_s(status: &Status) -> Option<u64> {
    let long = status.owners.iter().filter_map(|owner| owner.uptime_s).all(|s| s >= LONG_RUN_S);
    let rate = if long { status.rate_60_s } else { status.rate_10_s };
    let due = status.backlog.due;
    (due > 0 && rate > 0.0).then(|| (due as f64 / rate).ceil() as u64)
}

/// Whether nothing can be submitted any more.
pub fn is_full(status: &Status) -> bool {
    let space = &status.space;
    space.bytes_free <= space.bytes_free_min
        || space.inodes_free.is_some_and(|inodes| inodes <= space.inodes_free_min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample;

    const NOW: clock::Micros = 1_795_317_240_123_456;

    #[test]
    fn the_line_has_the_essential_and_is_one_line_of_text() {
        let mut status = sample::status();
        status.note = Some("a\nb\u{1b}[31m".to_owned());
        let line = line(&status, NOW);
        for part in [
            "2026-11-22T03:14:00Z | 1,234/s, 1 min 1,200/s (4.32 M/h), 16 in flight | ",
            "backlog 151,000: 150,000 due, 1,000 deferred, all due gone in 2 min",
            "3 active, 2 paused",
            "main up N 12/16 1,234/s, queue 120",
            "spare down (connection refused) N 0/4 0/s",
            "49,000 accepted, 1,000 deferred, 12 refused",
            "NOTE a?b?[31m",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains(char::is_control));
    }

    #[test]
    fn where_nobody_drains_that_is_said_and_the_spools_own_figures_stay() {
        let mut status = sample::status();
        (status.owners, status.mtas) = (Vec::new(), Vec::new());
        let line = line(&status, NOW);
        assert!(line.contains("nobody drains this spool now") && line.contains("150,000 due"), "{line}");
    }

    #[test]
    fn what_is_due_later_says_when_and_what_does_not_move_says_no_end() {
        let mut status = sample::status();
        (status.rate_10_s, status.rate_60_s) = (0.0, 0.0);
        assert_eq!(backlog(&status, NOW), "backlog 151,000: 150,000 due, 1,000 deferred");
        (status.backlog.due, status.backlog.next_due_us) = (0, Some(NOW + 90 * clock::SECOND_US));
        assert!(backlog(&status, NOW).ends_with(", the first in 1 min"));
    }

    #[test]
    fn a_young_owners_end_is_told_by_its_last_seconds() {
        let mut status = sample::status();
        (status.rate_10_s, status.rate_60_s) = (1_000.0, 10.0);
        assert_eq!(eta_s(&status), Some(15_000));
        status.owners[0].uptime_s = Some(20);
        assert_eq!(eta_s(&status), Some(150));
    }
}
