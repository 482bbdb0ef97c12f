//! VERP in transactions of many: the MTA makes each recipient's sender, and it is the one that infeed
//! would have made.

mod common;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use common::desk::Desk;
use common::ledger::Entry;
use common::mta::{Postfix, Relay, skip_or_require};
use common::sink::SinkProcess;

const DEADLINE: Duration = Duration::from_secs(300);
const MESSAGE: &str = "From: News <news@example.org>\r\nSubject: x\r\n\r\nThe same for all.\r\n";
const PLAIN: usize = 600;

/// What stands in the sender for addresses that hold more than an MTA could be trusted with.
const ODD: [(&str, &str); 5] = [
    (r#""a:b"@odd.example"#, "~22a~3Ab~22=odd.example"),
    ("a~b@odd.example", "a~7Eb=odd.example"),
    ("{c}@odd.example", "{c}=odd.example"),
    (r#""d@e"@d0.example"#, "~22d~40e~22=d0.example"),
    ("f@bücher.example", "f=xn--bcher-kva.example"),
];

fn plain() -> Vec<String> {
    (0..PLAIN).map(|i| format!("Reader.{i}+x=y_z'-@d{}.example", i % 7)).collect()
}

/// Submits to everybody, odd ones among the plain ones; the job's id.
fn submit(desk: &Desk) -> String {
    let mut list = plain();
    for (i, (address, _)) in ODD.iter().enumerate() {
        list.insert(i * 100 + 50, (*address).to_owned());
    }
    let message = desk.file("letter.eml", MESSAGE);
    let list = desk.file("list.txt", list.join("\n"));
    desk.submit(&message, &list, &["--verp", "bounces-{job}@host.example"])
}

/// Everybody has it once, from their own sender; gives the entries by recipient, as on the wire.
fn judge<'a>(job: &str, ledger: &'a [Entry]) -> HashMap<&'a str, &'a Entry> {
    let entries: HashMap<&str, &Entry> = ledger.iter().map(|e| (e.recipient.as_str(), e)).collect();
    assert_eq!((entries.len(), ledger.len()), (PLAIN + ODD.len(), PLAIN + ODD.len()));
    let mut want: Vec<(String, String)> =
        plain().into_iter().map(|address| (address.clone(), address.replace('@', "="))).collect();
    want.extend(ODD.map(|(address, verp)| (address.replace("bücher", "xn--bcher-kva"), verp.to_owned())));
    for (address, verp) in want {
        let sender = format!("bounces-{job}+{verp}@host.example");
        assert_eq!(entries[address.as_str()].sender, sender, "{address}");
    }
    entries
}

/// Drains into the sink with these flags of the sink and settings of infeed; transactions at the sink.
fn transactions_into_sink(flags: &[&str], settings: &[(&str, &str)]) -> usize {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), flags);
    let job = submit(&desk);
    let draining = desk.draining(&sink.address(), 2).deadline(DEADLINE);
    let draining = settings.iter().fold(draining, |run, (name, value)| run.env(name, value));
    draining.run().expect_code(0);
    let report = desk.report(&job);
    assert!(report.iter().all(|row| row.outcome == "accepted" && row.attempts == 1 && !row.possible_repeat));
    let (_, ledger) = sink.stop();
    let entries = judge(&job, &ledger);
    let ids = |wanted: &dyn Fn(&Entry) -> bool| {
        let ids: HashSet<&str> =
            entries.values().filter(|e| wanted(e)).map(|e| e.queue_id.as_str()).collect();
        ids.len()
    };
    let all = ids(&|_| true);
    let odd: HashSet<&str> =
        ODD.iter().map(|(address, _)| address.rsplit_once('@').map_or("", |a| a.0)).collect();
    let is_odd = |e: &Entry| e.recipient.rsplit_once('@').is_some_and(|(local, _)| odd.contains(local));
    assert_eq!((ids(&|e| is_odd(e)), ids(&|e| !is_odd(e))), (ODD.len(), all - ODD.len()), "the odd go alone");
    all
}

#[test]
fn where_xverp_is_offered_many_share_a_transaction_and_the_odd_go_alone() {
    let transactions = transactions_into_sink(&[], &[]);
    assert!(transactions <= PLAIN / 10, "{transactions} transactions");
}

#[test]
fn where_it_is_not_offered_or_is_switched_off_everybody_goes_alone() {
    assert_eq!(transactions_into_sink(&["--without", "xverp"], &[]), PLAIN + ODD.len());
    assert_eq!(transactions_into_sink(&[], &[("INFEED_MTA_XVERP", "false")]), PLAIN + ODD.len());
}

#[test]
fn postfix_makes_the_very_senders_that_infeed_would_have_made() {
    if !skip_or_require("postfix") {
        return;
    }
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let postfix = Postfix::start(Relay::To(sink.port()), &[]);
    let job = submit(&desk);
    desk.draining(&postfix.address(), 2).deadline(DEADLINE).run().expect_code(0);
    postfix.wait_queue_empty(DEADLINE);
    let report = desk.report(&job);
    let ids: HashSet<&str> = report.iter().filter_map(|row| row.queue_id.as_deref()).collect();
    assert!(ids.len() <= PLAIN / 10, "{} messages in Postfix's queue", ids.len());
    let (_, ledger) = sink.stop();
    judge(&job, &ledger);
}
