//! Awkward messages, submitted and drained by the commands, arrive as RFC 5321 wants: octet by octet at
//! the sink, and through Postfix and sendmail as far as those keep them. None becomes two.
//!
//! What is known of the MTAs, and taken back before comparing ([`Mta::uncut`]): both add headers, so bodies
//! are compared; both cut long lines, each in its own way.

mod common;

#[path = "fidelity_mta/corpus.rs"]
mod corpus;

use std::time::Duration;

use common::desk::Desk;
use common::ledger::Entry;
use common::mta::{Postfix, Relay, Sendmail, skip_or_require};
use common::sink::SinkProcess;
use corpus::{Sample, body, on_the_wire};

const DEADLINE: Duration = Duration::from_secs(120);
/// The recipient of the mail that must never be.
const VICTIM: &str = "victim@example.net";

/// What stands between infeed and the sink.
enum Mta {
    None,
    Postfix(Postfix),
    Sendmail(Sendmail),
}

impl Mta {
    fn address(&self, sink: &SinkProcess) -> String {
        match self {
            Mta::None => sink.address(),
            Mta::Postfix(mta) => mta.address(),
            Mta::Sendmail(mta) => mta.address(),
        }
    }

    fn wait_queue_empty(&self) {
        match self {
            Mta::None => {}
            Mta::Postfix(mta) => mta.wait_queue_empty(DEADLINE),
            Mta::Sendmail(mta) => mta.wait_queue_empty(DEADLINE),
        }
    }

    /// Takes back what it is known to do to a body with lines too long for it: where it cuts them is its
    /// own affair.
    fn uncut(&self, body: Vec<u8>) -> Vec<u8> {
        match self {
            Mta::None => body,
            // smtp_line_length_limit = 998: CRLF and a space
            Mta::Postfix(_) => without(&body, b"\r\n "),
            // the esmtp mailer's L=990: an exclamation mark, CRLF and a space
            Mta::Sendmail(_) => without(&body, b"!\r\n "),
        }
    }
}

/// The octets with every occurrence of `what` taken out.
fn without(octets: &[u8], what: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let Some((&first, behind)) = rest.split_first() {
        rest = rest.strip_prefix(what).unwrap_or_else(|| {
            out.push(first);
            behind
        });
    }
    out
}

/// Whether Postfix or sendmail cuts a line of it.
fn has_long_line(body: &[u8]) -> bool {
    body.split(|&octet| octet == b'\n').any(|line| line.len() > 990)
}

/// Sends every sample to a recipient of its own, and compares what arrived.
fn send_and_compare(samples: &[Sample], start: impl FnOnce(Relay) -> Mta) {
    let desk = Desk::new();
    let store = desk.path("store");
    let sink = SinkProcess::start(&desk.path("sink"), &["--store", &store.display().to_string()]);
    let mta = start(Relay::To(sink.port()));
    let mut jobs = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let message = desk.file(&format!("message-{i}.eml"), &sample.message);
        let list = desk.file(&format!("list-{i}.txt"), format!("r{i}@example.org\n"));
        jobs.push(desk.submit(&message, &list, &[]));
    }
    desk.draining(&mta.address(&sink), 4).run().expect_code(0);
    mta.wait_queue_empty();
    for (i, job) in jobs.iter().enumerate() {
        let report = desk.report(job);
        assert_eq!(report.len(), 1);
        assert_eq!(report[0].outcome, "accepted", "{}: {:?}", samples[i].name, report[0]);
    }
    let (summary, ledger) = sink.stop();
    for (i, sample) in samples.iter().enumerate() {
        let wanted = format!("r{i}@example.org");
        let arrived: Vec<&Entry> = ledger.iter().filter(|entry| entry.recipient == wanted).collect();
        assert_eq!(arrived.len(), 1, "{}: arrived so often", sample.name);
        assert_eq!(arrived[0].sender, "list@example.org", "{}", sample.name);
        let path = store.join(format!("{}.eml", arrived[0].queue_id));
        let content = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let expected = on_the_wire(&sample.message);
        if matches!(mta, Mta::None) {
            assert_same(&sample.name, &content, &expected);
        } else {
            let (arrived, expected) = (body(&content), body(&expected));
            let arrived = if has_long_line(&expected) { mta.uncut(arrived) } else { arrived };
            assert_same(&sample.name, &arrived, &expected);
        }
    }
    assert!(ledger.iter().all(|entry| entry.recipient != VICTIM), "a second message was smuggled in");
    assert_eq!((ledger.len(), &summary["messages"]), (samples.len(), &samples.len().into()));
}

fn assert_same(name: &str, arrived: &[u8], expected: &[u8]) {
    if arrived != expected {
        let at = arrived.iter().zip(expected).take_while(|(a, b)| a == b).count();
        let around = |octets: &[u8]| {
            octets[at.saturating_sub(30)..octets.len().min(at + 30)].escape_ascii().to_string()
        };
        panic!(
            "{name}: octet {at} differs:\n arrived …{}…\nexpected …{}…",
            around(arrived),
            around(expected)
        );
    }
}

fn postfix(relay: Relay) -> Mta {
    Mta::Postfix(Postfix::start(relay, &[]))
}

fn sendmail(relay: Relay) -> Mta {
    Mta::Sendmail(Sendmail::start(relay, &[]))
}

#[test]
fn awkward_messages_reach_the_sink_octet_by_octet() {
    send_and_compare(&corpus::awkward(), |_| Mta::None);
}

#[test]
fn awkward_messages_pass_postfix() {
    if skip_or_require("postfix") {
        send_and_compare(&corpus::awkward(), postfix);
    }
}

#[test]
fn awkward_messages_pass_sendmail() {
    if skip_or_require("sendmail") {
        send_and_compare(&corpus::awkward(), sendmail);
    }
}

#[test]
fn nothing_is_smuggled_into_the_sink() {
    send_and_compare(&corpus::smuggling(VICTIM), |_| Mta::None);
}

#[test]
fn nothing_is_smuggled_through_postfix() {
    if skip_or_require("postfix") {
        send_and_compare(&corpus::smuggling(VICTIM), postfix);
    }
}

#[test]
fn nothing_is_smuggled_through_sendmail() {
    if skip_or_require("sendmail") {
        send_and_compare(&corpus::smuggling(VICTIM), sendmail);
    }
}

#[test]
fn a_nul_is_refused_at_submit_and_leaves_no_job() {
    for (name, message) in corpus::with_nul(VICTIM) {
        let desk = Desk::new();
        let (message, list) = (desk.file("message.eml", message), desk.file("list.txt", "r@example.org\n"));
        let said = desk.submitting(&message, &list, &[]).run();
        assert_eq!(said.code, Some(65), "{name}: {said:?}");
        assert!(said.stderr.contains("NUL") && said.stdout.is_empty(), "{name}: {said:?}");
        assert!(desk.jobs().is_empty(), "{name}");
    }
}
