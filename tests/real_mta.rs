//! The main job, end to end: a newsletter and a list, by the commands that an operator types, into a real
//! Postfix, a real sendmail and the sink; then the sink's ledger and the report are held against each
//! other and against what each recipient's message must be, for every recipient.

mod common;

#[path = "real_mta/mailing.rs"]
mod mailing;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use common::defer_table::DeferTable;
use common::desk::Desk;
use common::ledger::Entry;
use common::mta::{Postfix, Relay, Sendmail, skip_or_require};
use common::report::Row;
use common::sink::SinkProcess;
use common::wait::wait_until;
use mailing::{Mailing, Part, is_deferred_for_good};

const RECIPIENTS: usize = 10_000;
/// Both MTAs relay a few hundred messages a second at best, and may have to share the machine.
const DEADLINE: Duration = Duration::from_secs(600);

/// An MTA that relays to the sink.
enum Mta {
    Postfix(Postfix),
    Sendmail(Sendmail),
}

impl Mta {
    fn address(&self) -> String {
        match self {
            Mta::Postfix(mta) => mta.address(),
            Mta::Sendmail(mta) => mta.address(),
        }
    }

    fn wait_queue_empty(&self) {
        match self {
            Mta::Postfix(mta) => mta.wait_queue_empty(DEADLINE),
            Mta::Sendmail(mta) => mta.wait_queue_empty(DEADLINE),
        }
    }

    /// The queue ids in what it has logged; `None` for one that logs nothing.
    fn logged_ids(&self) -> Option<HashSet<String>> {
        match self {
            Mta::Postfix(mta) => {
                // … postfix/smtpd[123]: 4jXF…: client=…
                let log = mta.log();
                let ids = log.lines().filter_map(|line| line.split(": ").nth(1)).map(str::to_owned);
                Some(ids.collect())
            }
            Mta::Sendmail(_) => None,
        }
    }
}

/// Sends a mailing through `start`'s MTA, refused and deferred recipients among it, and judges.
fn deliver_and_judge(mailing: &Mailing, start: impl FnOnce(Relay, &DeferTable) -> Mta) {
    let desk = Desk::new();
    let store = desk.path("store");
    let sink = SinkProcess::start(&desk.path("sink"), &["--store", &store.display().to_string()]);
    let table = DeferTable::start();
    let mta = start(Relay::To(sink.port()), &table);
    let job = mailing.submit(&desk);

    let for_good = mailing.people.iter().filter(|person| is_deferred_for_good(&person.address)).count();
    wait_until("outcome of everybody", DEADLINE, || {
        desk.draining(&mta.address(), 8).deadline(DEADLINE).run().expect_code(75);
        let show = desk.show(&job);
        assert_eq!((&show["state"], &show["possible_repeats"]), (&"active".into(), &0.into()), "{show}");
        show["pending"] == 0 && show["deferred"] == for_good
    });
    mta.wait_queue_empty();
    let report = desk.report(&job);
    let (_, ledger) = sink.stop();
    judge(mailing, &report, &ledger, &mailing.expected(&desk, &job, Part::Body), |entry| &entry.body_sha1);

    let logged = mta.logged_ids();
    let arrived: HashMap<&str, &Entry> =
        ledger.iter().map(|entry| (entry.recipient.as_str(), entry)).collect();
    for row in report.iter().filter(|row| row.outcome == "accepted") {
        let id = row.queue_id.as_deref().unwrap_or_else(|| panic!("no queue id: {row:?}"));
        let received = received_headers(&store, arrived[row.address.as_str()]);
        assert!(received.contains(&format!(" id {id}")), "{id} of {} is not in:\n{received}", row.address);
        assert!(logged.as_ref().is_none_or(|ids| ids.contains(id)), "{id} was never logged");
    }
}

/// Report and ledger tell the same, recipient by recipient, and `hash` of what arrived is as expected.
fn judge(
    mailing: &Mailing,
    report: &[Row],
    ledger: &[Entry],
    expected: &HashMap<String, String>,
    hash: impl Fn(&Entry) -> &String,
) {
    let mut arrived: HashMap<&str, &Entry> = HashMap::new();
    for entry in ledger {
        assert!(arrived.insert(&entry.recipient, entry).is_none(), "{} got it twice", entry.recipient);
    }
    let rows: HashMap<&str, &Row> = report.iter().map(|row| (row.address.as_str(), row)).collect();
    assert_eq!((rows.len(), report.len()), (mailing.people.len(), mailing.people.len()));
    for person in &mailing.people {
        let address = person.address.as_str();
        let row = rows[address];
        let (outcome, code, attempts_min, attempts_max) = mailing::due_outcome(address);
        assert_eq!((row.outcome.as_str(), row.reply_code), (outcome, Some(code)), "{row:?}");
        assert!((attempts_min..=attempts_max).contains(&row.attempts), "{row:?}");
        // while it waits for its next attempt, no time is kept of the last one
        assert!(!row.possible_repeat && (row.time.is_some() || outcome == "deferred"), "{row:?}");
        let entry = arrived.remove(address);
        assert_eq!(entry.is_some(), outcome == "accepted", "{row:?}");
        if let Some(entry) = entry {
            assert_eq!(hash(entry), &expected[address], "content of {address}");
        }
    }
    assert!(arrived.is_empty(), "got it, and are in no list: {:?}", arrived.keys());
}

/// What the MTA wrote above the message.
fn received_headers(store: &Path, entry: &Entry) -> String {
    let path = store.join(format!("{}.eml", entry.queue_id));
    let content = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = String::from_utf8_lossy(&content);
    let header = text.split("\r\n\r\n").next().unwrap_or_default();
    header.replace("\r\n\t", " ").replace("\r\n ", " ")
}

fn postfix(relay: Relay, table: &DeferTable) -> Mta {
    Mta::Postfix(Postfix::start(relay, &[&table.postfix()]))
}

fn sendmail(relay: Relay, table: &DeferTable) -> Mta {
    let lines = table.sendmail();
    Mta::Sendmail(Sendmail::start(relay, &lines.each_ref().map(String::as_str)))
}

#[test]
fn a_personalised_newsletter_through_postfix_is_what_the_report_says() {
    if skip_or_require("postfix") {
        deliver_and_judge(&Mailing::newsletter(RECIPIENTS), postfix);
    }
}

#[test]
fn shared_content_through_postfix_is_what_the_report_says() {
    if skip_or_require("postfix") {
        deliver_and_judge(&Mailing::shared(RECIPIENTS), postfix);
    }
}

#[test]
fn a_personalised_newsletter_through_sendmail_is_what_the_report_says() {
    if skip_or_require("sendmail") {
        deliver_and_judge(&Mailing::newsletter(RECIPIENTS), sendmail);
    }
}

#[test]
fn shared_content_through_sendmail_is_what_the_report_says() {
    if skip_or_require("sendmail") {
        deliver_and_judge(&Mailing::shared(RECIPIENTS), sendmail);
    }
}

/// Into the sink alone: not one octet differs.
fn deliver_to_sink_and_judge(mailing: &Mailing) {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let job = mailing.submit(&desk);
    wait_until("outcome of everybody", DEADLINE, || {
        let run = desk.draining(&sink.address(), 8).deadline(DEADLINE).run();
        assert!(matches!(run.code, Some(0 | 1 | 75)), "{run:?}");
        let show = desk.show(&job);
        show["pending"] == 0 && show["deferred"] == 0
    });
    let report = desk.report(&job);
    let (_, ledger) = sink.stop();
    judge(mailing, &report, &ledger, &mailing.expected(&desk, &job, Part::Content), |e| &e.content_sha1);
}

#[test]
fn a_personalised_newsletter_reaches_the_sink_octet_by_octet() {
    deliver_to_sink_and_judge(&Mailing::newsletter(RECIPIENTS).for_the_sink());
}

#[test]
fn shared_content_reaches_the_sink_octet_by_octet() {
    deliver_to_sink_and_judge(&Mailing::shared(RECIPIENTS).for_the_sink());
}
