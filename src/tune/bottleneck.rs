//! What limits the MTA next, reasoned from the rows of one curve. Pure.
//!
//! The findings come with what speaks for them, the most certain first: what the MTA said, then what only it
//! can have caused, then what fits. Where nothing fits, that is said.

use serde::Serialize;

use super::judge::{KNEE_SHARE, Knee};
use super::remedy::Mta;
use super::row::Row;
use super::trouble::Trouble;

/// Part of the replies from which a second's wait is no chance.
const SECOND_LATE_PERCENT_MIN: f64 = 5.0;
/// A connect or a greeting that takes longer is slow: on one host both take well below a millisecond, and a
/// process that has to be started some ten.
const SLOW_CONNECT_MS: f64 = 100.0;
const SLOW_GREETING_MS: f64 = 500.0;
/// Processors are at work beyond this.
const CPU_PERCENT_MIN: f64 = 85.0;
/// Below this, more connections made it worse.
const THRASH_SHARE: f64 = 0.85;
/// Long enough that every connection could have got its greeting.
const SECONDS_MIN: f64 = 1.0;
/// The reply takes so many times longer beyond the knee where it waits in a queue.
const REPLY_GROWTH_MIN: f64 = 1.5;

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It said, or showed, that it takes no more connections.
    ConnectionLimit,
    /// Connections wait for a process.
    ProcessLimit,
    /// Replies a second late.
    SecondLate,
    SlowConnect,
    SlowGreeting,
    Cpu,
    /// Goodput falls beyond the knee.
    Thrash,
    /// Idle processors, flat goodput, growing latency.
    Storage,
    /// Goodput still grows at the last number that was tried.
    NotReached,
    Unknown,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub cause: Cause,
    /// What was seen, in words.
    pub evidence: String,
    /// Which setting of this MTA it is, and what to do.
    pub remedy: &'static str,
}

/// What the rows of one curve, in the order of their connections, tell. Empty without a knee.
pub fn findings(rows: &[Row], knee: Option<&Knee>, limit: Option<&Trouble>, mta: Mta) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add =
        |cause, evidence: String| found.push(Finding { cause, evidence, remedy: mta.remedy(cause) });
    if let Some(Trouble::Limit { connections, text, .. }) = limit {
        add(Cause::ConnectionLimit, format!("with {connections} connections it said to the next: {text}"));
    }
    let Some(knee) = knee else { return found };
    let measured: Vec<&Row> = rows.iter().filter(|row| row.rate() > 0.0).collect();
    let Some(at) = measured.iter().position(|row| row.connections == knee.connections) else { return found };
    let (first, last) = (measured[0], measured[measured.len() - 1]);
    if limit.is_none()
        && let Some(short) = measured.iter().find(|row| waits_for_processes(row))
    {
        add(
            Cause::ProcessLimit,
            format!(
                "at {} connections no more than {} got a greeting; the others waited without a word",
                short.connections, short.sessions
            ),
        );
    }
    let late = measured.iter().max_by(|a, b| a.second_late_percent.total_cmp(&b.second_late_percent));
    if let Some(late) = late.filter(|row| row.second_late_percent >= SECOND_LATE_PERCENT_MIN) {
        let (percent, n) = (late.second_late_percent, late.connections);
        add(
            Cause::SecondLate,
            format!("{percent:.0} % of the replies at {n} connections came a second late"),
        );
    }
    if let Some(row) = slow(&measured, |row| row.connect_ms.map(|ms| ms.p95), SLOW_CONNECT_MS) {
        add(
            Cause::SlowConnect,
            format!("at {} connections the connect alone took {:.0} ms (p95)", row.0, row.1),
        );
    }
    if let Some(row) = slow(&measured, |row| row.greeting_ms.map(|ms| ms.p95), SLOW_GREETING_MS) {
        add(
            Cause::SlowGreeting,
            format!("at {} connections the greeting came {:.0} ms after the connect (p95)", row.0, row.1),
        );
    }
    let busy = measured[at..].iter().filter_map(|row| row.cpu_percent).map(|cpu| cpu.machine);
    let busy = busy.fold(0.0, f64::max);
    if busy >= CPU_PERCENT_MIN {
        let own = measured[at].cpu_percent.map_or(0.0, |cpu| cpu.infeed);
        add(
            Cause::Cpu,
            format!(
                "from the knee on the processors are {busy:.0} % busy, {own:.0} % of it infeed's own work"
            ),
        );
    }
    let fallen = last.rate() / knee.best_recipients_per_second;
    let is_thrash = at + 1 < measured.len() && fallen < THRASH_SHARE && is_below(last, &measured, knee);
    if is_thrash {
        add(
            Cause::Thrash,
            format!("{} connections get {:.0} % of the best", last.connections, 100.0 * fallen),
        );
    }
    let reply = |row: &Row| row.final_reply_ms.map_or(0.0, |ms| ms.p50);
    let growth = reply(last) / reply(measured[at]).max(1e-3);
    let is_flat = at + 1 < measured.len() && !is_thrash;
    if busy < CPU_PERCENT_MIN && is_flat && growth >= REPLY_GROWTH_MIN {
        let waits = measured[at].cpu_percent.map_or(0.0, |cpu| cpu.iowait);
        let waits = if waits >= 1.0 {
            format!(", {waits:.0} % of the time waiting for a disk")
        } else {
            String::new()
        };
        add(
            Cause::Storage,
            format!(
                "beyond the knee goodput is flat with the processors {busy:.0} % busy{waits}, and the final reply \
                 takes {growth:.1} times as long at {} connections",
                last.connections
            ),
        );
    }
    if knee.is_at_end && limit.is_none() {
        let before = measured[at.saturating_sub(1)];
        add(
            Cause::NotReached,
            format!(
                "goodput still grew from {:.0}/s at {} to {:.0}/s at {} connections, the most that were tried",
                before.rate(),
                before.connections,
                knee.recipients_per_second,
                knee.connections
            ),
        );
    }
    if found.is_empty() {
        let what = if first.connections == last.connections {
            "one number of connections tells nothing of what limits it".to_owned()
        } else {
            format!(
                "no more than {:.0} % of the rate is gained beyond the knee, with processors {busy:.0} % busy, and \
                 neither connects nor replies say why",
                100.0 * (1.0 - KNEE_SHARE)
            )
        };
        found.push(Finding { cause: Cause::Unknown, evidence: what, remedy: mta.remedy(Cause::Unknown) });
    }
    found
}

/// Some connections got their greeting soon, and others none in all the time that there was.
fn waits_for_processes(row: &Row) -> bool {
    let is_soon = row.greeting_ms.is_some_and(|ms| ms.p50 < SLOW_GREETING_MS);
    is_soon && row.sessions < row.connections && row.seconds >= SECONDS_MIN
}

/// In no round was it as good as the best number was in its worst: no chance.
fn is_below(row: &Row, rows: &[&Row], knee: &Knee) -> bool {
    let best = rows.iter().find(|row| row.connections == knee.best_connections);
    let bounds =
        row.recipients_per_second.as_ref().zip(best.and_then(|best| best.recipients_per_second.as_ref()));
    bounds.is_some_and(|(row, best)| row.max < best.min)
}

/// The first row where it takes longer than `limit_ms`, as connections and milliseconds.
fn slow(rows: &[&Row], ms: impl Fn(&Row) -> Option<f64>, limit_ms: f64) -> Option<(usize, f64)> {
    rows.iter().filter_map(|row| Some((row.connections, ms(row)?))).find(|(_, ms)| *ms >= limit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::judge::{judge, tests::row};

    /// Connections, rate, final reply in ms, machine's CPU in percent.
    fn rows(of: &[(usize, f64, f64, f64)]) -> Vec<Row> {
        of.iter().map(|&(n, rate, ms, cpu)| row(n, &[rate; 5], ms, cpu)).collect()
    }

    fn causes(rows: &[Row], limit: Option<&Trouble>) -> Vec<Cause> {
        let knee = judge(rows, 1);
        findings(rows, knee.as_ref(), limit, Mta::Postfix).into_iter().map(|found| found.cause).collect()
    }

    const FLAT_IDLE: [(usize, f64, f64, f64); 4] =
        [(1, 100.0, 10.0, 10.0), (4, 400.0, 10.0, 30.0), (8, 410.0, 20.0, 30.0), (16, 405.0, 40.0, 30.0)];

    #[test]
    fn idle_processors_flat_goodput_and_growing_latency_are_the_disk() {
        assert_eq!(causes(&rows(&FLAT_IDLE), None), [Cause::Storage]);
    }

    #[test]
    fn busy_processors_are_the_processors_whatever_the_latency() {
        let busy = FLAT_IDLE.map(|(n, rate, ms, _)| (n, rate, ms, 97.0));
        assert_eq!(causes(&rows(&busy), None), [Cause::Cpu]);
    }

    #[test]
    fn a_limit_that_was_said_comes_first_and_in_the_mtas_words() {
        let limit =
            Trouble::Limit { connections: 21, text: "421 4.7.0 too many connections".into(), refused: false };
        let rows = rows(&FLAT_IDLE);
        let knee = judge(&rows, 1);
        let found = findings(&rows, knee.as_ref(), Some(&limit), Mta::Postfix);
        assert_eq!(found[0].cause, Cause::ConnectionLimit);
        assert!(found[0].evidence.contains("21") && found[0].evidence.contains("421 4.7.0"), "{found:?}");
        assert!(found[0].remedy.contains("smtpd_client_connection_count_limit"));
        // it is told too when nothing was measured
        assert_eq!(findings(&[], None, Some(&limit), Mta::Sendmail).len(), 1);
    }

    #[test]
    fn connections_without_a_greeting_are_the_process_limit() {
        let mut rows = rows(&FLAT_IDLE);
        rows[3].sessions = 10;
        assert_eq!(causes(&rows, None)[0], Cause::ProcessLimit);
        // a step that was over before they could have got one proves nothing
        rows[3].seconds = 0.2;
        assert!(!causes(&rows, None).contains(&Cause::ProcessLimit));
    }

    #[test]
    fn replies_a_second_late_are_in_flow_delay() {
        let mut rows = rows(&FLAT_IDLE);
        rows[2].second_late_percent = 40.0;
        assert_eq!(causes(&rows, None)[0], Cause::SecondLate);
        rows[2].second_late_percent = 0.5;
        assert!(!causes(&rows, None).contains(&Cause::SecondLate));
    }

    #[test]
    fn slow_connects_and_slow_greetings_are_told_apart() {
        let mut rows = rows(&FLAT_IDLE);
        let slow = rows[0].greeting_ms.map(|ms| super::super::Percentiles { p95: 2_000.0, ..ms });
        rows[1].greeting_ms = slow;
        assert_eq!(causes(&rows, None)[0], Cause::SlowGreeting);
        rows[2].connect_ms = slow;
        assert_eq!(causes(&rows, None)[..2], [Cause::SlowConnect, Cause::SlowGreeting]);
    }

    #[test]
    fn goodput_that_falls_beyond_the_knee_is_thrash() {
        let fallen = [(1, 100.0, 1.0, 20.0), (2, 200.0, 1.0, 30.0), (4, 100.0, 9.0, 30.0)];
        assert_eq!(causes(&rows(&fallen), None), [Cause::Thrash]);
        // rounds that overlap prove nothing
        let mut noisy = rows(&fallen);
        noisy[2] = row(4, &[100.0, 100.0, 210.0], 9.0, 30.0);
        assert!(!causes(&noisy, None).contains(&Cause::Thrash));
    }

    #[test]
    fn goodput_that_still_grows_means_that_nothing_is_the_limit_yet() {
        let growing = [(1, 100.0, 1.0, 20.0), (2, 200.0, 1.0, 30.0), (4, 400.0, 1.0, 40.0)];
        assert_eq!(causes(&rows(&growing), None), [Cause::NotReached]);
    }

    #[test]
    fn what_is_not_known_is_said_to_be_so() {
        let flat = [(1, 100.0, 1.0, 20.0), (2, 101.0, 1.0, 20.0)];
        assert_eq!(causes(&rows(&flat), None), [Cause::Unknown]);
        assert_eq!(causes(&rows(&flat[..1]), None), [Cause::Unknown]);
        assert_eq!(causes(&[], None), []);
    }
}
