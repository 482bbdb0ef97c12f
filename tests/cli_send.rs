//! `send` and `drain` as a person runs them, into the built-in sink and into one of our own.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::binary::{Infeed, Run, Running, infeed};
use common::wait::wait_for;

const LETTER: &str = "From: News <news@lists.example>\nTo: {{ address }}\nSubject: Hello {{ first_name }}\n\
                      Content-Type: text/plain; charset=utf-8\n\nDear {{ first_name }}.\n";
const PLAIN: &str = "From: News <news@lists.example>\nSubject: Hello\n\nTo all.\n";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        place.file("letter.eml", LETTER);
        place.file("plain.eml", PLAIN);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).expect("written");
        self.path(name)
    }

    fn list(&self, recipients: usize) -> PathBuf {
        let rows: String = (0..recipients).map(|i| format!("u{i}@d{}.example,Name{i}\n", i % 13)).collect();
        self.file("list.csv", &format!("email,first_name\n{rows}"))
    }

    fn infeed(&self, words: &[&str]) -> Infeed {
        infeed(["--spool"]).arg(self.path("spool")).args(words)
    }

    /// `COMMAND --json MESSAGE --to LIST`.
    fn mail(&self, command: &str, message: &str, list: &Path) -> Infeed {
        self.infeed(&[command, "--json"]).arg(self.path(message)).arg("--to").arg(list)
    }

    fn drain(&self, mta: &str) -> Infeed {
        self.infeed(&["drain", "--json", "--mta", mta])
    }

    fn show(&self, job: &str) -> serde_json::Value {
        self.infeed(&["job", "show", "--json", job]).run().expect_code(0).json()
    }

    /// A sink of our own, and its address.
    fn sink(&self, flags: &[&str]) -> (Running, String) {
        let port = self.path("port");
        let sink = infeed(["sink", "--listen", "127.0.0.1:0", "--port-file"])
            .arg(&port)
            .arg("--ledger")
            .arg(self.path("ledger"))
            .args(flags)
            .spawn();
        let address = wait_for("sink", Duration::from_secs(60), || fs::read_to_string(&port).ok());
        fs::remove_file(&port).expect("removed");
        (sink, address.trim().to_owned())
    }

    /// Recipients that arrived, in any order, repeats included.
    fn arrived(&self, ledger: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(ledger)).unwrap_or_default();
        let mut all: Vec<String> = text
            .lines()
            .map(|line| {
                let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
                entry["recipient"].as_str().expect("a recipient").to_owned()
            })
            .collect();
        all.sort();
        all
    }
}

fn id_of(run: &Run) -> String {
    run.json()["job"].as_str().expect("an id").to_owned()
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[test]
fn send_to_the_sink_accounts_for_every_recipient() {
    let place = Place::new();
    let list = place.list(1500);
    let run = place.mail("send", "letter.eml", &list).args(["--merge", "--mta", "sink", "--sink-ledger"]);
    let run = run.arg(place.path("arrived")).run().expect_code(0);
    let summary = run.json();
    for key in [
        "job",
        "recipients",
        "accepted",
        "refused",
        "deferred",
        "pending",
        "expired",
        "cancelled",
        "suppressed",
        "quarantined",
        "in_doubt",
        "possible_repeats",
        "duplicates_dropped",
        "rejected_lines",
        "seconds",
        "deliveries_per_second",
        "connections",
    ] {
        assert!(summary.get(key).is_some(), "{key}: {summary}");
    }
    assert_eq!((&summary["recipients"], &summary["accepted"]), (&1500.into(), &1500.into()));
    let arrived = place.arrived("arrived");
    assert_eq!(arrived.len(), 1500);
    assert_eq!(arrived.iter().collect::<BTreeSet<_>>().len(), 1500);
    let show = place.show(&id_of(&run));
    assert_eq!(show["state"], "done");
}

#[test]
fn a_drain_that_ends_with_recipients_refused_has_exit_code_1_as_send_has() {
    let place = Place::new();
    let list = place.file("l.csv", "email\na@x.example\nrefuse-550@x.example\n");
    let (_sink, address) = place.sink(&[]);
    place.mail("submit", "plain.eml", &list).run().expect_code(0);
    let run = place.drain(&address).run().expect_code(1);
    assert_eq!((&run.json()["accepted"], &run.json()["settled"]), (&1.into(), &2.into()));
    place.drain(&address).run().expect_code(0);
    // whoever is suppressed was meant to be
    let list = place.file("l2.csv", "email\nb@x.example\nc@x.example\n");
    let suppressed = place.file("suppress.txt", "c@x.example\n");
    let submit = place.mail("submit", "plain.eml", &list).arg("--again").arg("--suppress").arg(&suppressed);
    submit.run().expect_code(0);
    place.drain(&address).run().expect_code(0);
}

#[test]
fn refused_recipients_make_exit_code_1_and_deferred_ones_75() {
    let place = Place::new();
    let list = place.file("l.csv", "email\na@x.example\nrefuse-550@x.example\nb@x.example\n");
    let run = place.mail("send", "plain.eml", &list).args(["--mta", "sink"]).run().expect_code(1);
    assert_eq!((&run.json()["accepted"], &run.json()["refused"]), (&2.into(), &1.into()));
    let report = place.infeed(&["job", "report", &id_of(&run)]).run().expect_code(0).stdout;
    let rows = common::report::parse_report(&report);
    let refused = rows.iter().find(|row| row.outcome == "refused").expect("a refused one");
    assert_eq!((refused.address.as_str(), refused.reply_code), ("refuse-550@x.example", Some(550)));
    assert!(rows.iter().filter(|row| row.outcome == "accepted").all(|row| row.queue_id.is_some()));

    let list = place.file("l.csv", "email\na@x.example\ndefer-451-9x@x.example\n");
    let run = place.mail("send", "plain.eml", &list).args(["--mta", "sink"]).run().expect_code(75);
    assert_eq!((&run.json()["accepted"], &run.json()["deferred"]), (&1.into(), &1.into()));
}

#[test]
fn a_deferred_recipient_is_tried_again_when_it_is_due() {
    let place = Place::new();
    let list = place.file("l.csv", "email\na@x.example\ndefer-451-1x@x.example\n");
    let (_sink, address) = place.sink(&[]);
    let soon = ["--set", "retry.delay_s_min=0", "--set", "retry.delay_s_max=0"];
    let job = id_of(&place.mail("submit", "plain.eml", &list).run().expect_code(0));
    wait_for("an end", Duration::from_secs(60), || {
        let run = place.drain(&address).args(soon).run();
        (run.code == Some(0)).then_some(())
    });
    assert_eq!(place.show(&job)["accepted"], 2);
    assert_eq!(place.arrived("ledger"), ["a@x.example", "defer-451-1x@x.example"]);
}

#[test]
fn a_dead_mta_is_unavailable_and_burns_nobody() {
    let place = Place::new();
    let list = place.list(20);
    let dead = nobody();
    let send = place.mail("send", "plain.eml", &list).args(["--mta", &dead, "--set", "mta.wait_first_s=1"]);
    let run = send.run().expect_code(69);
    assert_eq!((&run.json()["pending"], &run.json()["deferred"]), (&20.into(), &0.into()));
    let job = id_of(&run);
    let (_sink, address) = place.sink(&[]);
    place.drain(&address).run().expect_code(0);
    let show = place.show(&job);
    assert_eq!((&show["accepted"], &show["state"]), (&20.into(), &"done".into()));
}

#[test]
fn first_sends_so_many_and_the_rest_stays_pending() {
    let place = Place::new();
    let list = place.list(500);
    let (_sink, address) = place.sink(&[]);
    let send = place.mail("send", "letter.eml", &list).args(["--merge", "--mta", &address, "--first", "20"]);
    let run = send.run().expect_code(75);
    assert_eq!((&run.json()["accepted"], &run.json()["pending"]), (&20.into(), &480.into()));
    assert_eq!(place.arrived("ledger").len(), 20);
    place.drain(&address).run().expect_code(0);
    let arrived = place.arrived("ledger");
    assert_eq!(arrived.len(), 500);
    assert_eq!(arrived.iter().collect::<BTreeSet<_>>().len(), 500);
}

#[test]
fn test_to_sends_the_samples_to_one_address_only() {
    let place = Place::new();
    let list = place.list(2000);
    let (_sink, address) = place.sink(&[]);
    let send = place.mail("send", "letter.eml", &list).args(["--merge", "--mta", &address]);
    send.args(["--test-to", "me@x.example", "--samples", "3"]).run().expect_code(0);
    assert_eq!(place.arrived("ledger"), ["me@x.example"; 3]);
}

#[test]
fn suppressed_recipients_get_nothing_and_are_no_failure() {
    let place = Place::new();
    let list = place.list(26);
    let suppress = place.file("sup", "@d3.example\nu0@d0.example\n");
    let (_sink, address) = place.sink(&[]);
    let send = place.mail("send", "plain.eml", &list).args(["--mta", &address, "--suppress"]).arg(&suppress);
    let run = send.run().expect_code(0);
    assert_eq!((&run.json()["suppressed"], &run.json()["accepted"]), (&3.into(), &23.into()));
    assert!(!place.arrived("ledger").iter().any(|a| a.ends_with("@d3.example") || a == "u0@d0.example"));
}

#[test]
fn an_mta_that_refuses_the_sender_pauses_the_job_and_a_resume_sends_it() {
    let place = Place::new();
    let list = place.list(200);
    let (sink, address) = place.sink(&["--fail", "mail=550"]);
    let run = place.mail("send", "plain.eml", &list).args(["--mta", &address]).run().expect_code(75);
    let json = run.json();
    assert_eq!((&json["pending"], &json["refused"]), (&200.into(), &0.into()));
    assert!(json["paused_reason"].as_str().expect("a reason").contains("550"), "{json}");
    let job = id_of(&run);
    assert!(run.stderr.contains(&format!("infeed job resume {job}")), "{}", run.stderr);
    drop(sink);
    let (_sink, address) = place.sink(&[]);
    place.drain(&address).run().expect_code(0);
    assert_eq!(place.show(&job)["pending"], 200, "a paused job is left alone");
    place.infeed(&["job", "resume", &job]).run().expect_code(0);
    place.drain(&address).run().expect_code(0);
    assert_eq!(place.show(&job)["accepted"], 200);
}

#[test]
fn accept_refusals_counts_them_instead() {
    let place = Place::new();
    let list = place.list(60);
    let (_sink, address) = place.sink(&["--fail", "mail=550"]);
    let send = place.mail("send", "plain.eml", &list).args(["--mta", &address, "--accept-refusals"]);
    let run = send.run().expect_code(1);
    assert_eq!(run.json()["refused"], 60);
}

#[test]
fn an_mta_that_refuses_us_touches_nobody() {
    let place = Place::new();
    let list = place.list(20);
    let (_sink, address) = place.sink(&["--fail", "ehlo=550"]);
    let run = place.mail("send", "plain.eml", &list).args(["--mta", &address]).run().expect_code(69);
    assert_eq!((&run.json()["pending"], &run.json()["refused"]), (&20.into(), &0.into()));
}

#[test]
fn a_rehearsal_never_goes_to_a_real_mta_and_mail_never_to_the_sink_unasked() {
    let place = Place::new();
    let list = place.list(5);

    let rehearsal =
        id_of(&place.mail("submit", "plain.eml", &list).args(["--mta", "sink"]).run().expect_code(0));
    let real = id_of(&place.mail("submit", "plain.eml", &list).run().expect_code(0));
    let pending = |job: &str| place.show(job)["pending"].as_u64().expect("a count");
    let refused = place.drain("sink").run().expect_code(65);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    assert_eq!((pending(&rehearsal), pending(&real)), (5, 5));
    let (_sink, address) = place.sink(&[]);
    let drained = place.drain(&address).run();
    assert_eq!((pending(&rehearsal), pending(&real)), (5, 0));
    assert_eq!(drained.json()["left_alone"][0]["job"], rehearsal.as_str());
    place.drain("sink").run().expect_code(0);
    assert_eq!(place.show(&rehearsal)["accepted"], 5);
    assert_eq!(place.arrived("ledger").len(), 5);
}

#[test]
fn sending_again_under_the_same_id_goes_on_where_it_was() {
    let place = Place::new();
    let list = place.list(30);
    let (_sink, address) = place.sink(&[]);
    let send =
        || place.mail("send", "letter.eml", &list).args(["--merge", "--mta", &address, "--id", "weekly"]);
    send().args(["--first", "10"]).run().expect_code(75);
    send().run().expect_code(0);
    send().run().expect_code(0);
    assert_eq!(place.arrived("ledger").len(), 30);
}

#[test]
fn a_second_drain_of_the_same_slices_says_so_and_a_disjoint_one_runs() {
    let place = Place::new();
    let list = place.list(300);
    place
        .mail("submit", "letter.eml", &list)
        .args(["--merge", "--set", "spool.chunk_recipients_max=10"])
        .run()
        .expect_code(0);
    let (_sink, address) = place.sink(&["--latency-ms", "400"]);
    let low = place.infeed(&["drain", "--mta", &address, "--slices", "0-7", "--connections", "1"]).spawn();
    wait_for("an owner", Duration::from_secs(60), || {
        let show = place.infeed(&["spool", "show", "--json"]).run().expect_code(0).json();
        show["owners"].as_array().is_some_and(|owners| !owners.is_empty()).then_some(())
    });
    let all = place.drain(&address).run().expect_code(0);
    assert_eq!(all.json()["ended"], "owned");
    assert!(all.stderr.contains("another process"), "{}", all.stderr);
    place.infeed(&["drain", "--mta", &address, "--slices", "0-16"]).run().expect_code(64);
    let list = place.file("l.csv", "email\nz@x.example\n");
    let send = place.mail("send", "plain.eml", &list).args(["--mta", &address]).run().expect_code(75);
    assert!(send.stderr.contains("is committed"), "{}", send.stderr);
    let high = place.drain(&address).args(["--slices", "8-15", "--connections", "20"]).run();
    assert!(high.json()["accepted"].as_u64().expect("a count") > 0, "{high:?}");
    low.signal(rustix::process::Signal::TERM);
    low.wait(Duration::from_secs(60));
}

#[test]
fn a_signal_ends_a_drain_in_order_with_recipients_pending() {
    let place = Place::new();
    let list = place.list(400);
    let (_sink, address) = place.sink(&["--latency-ms", "50"]);
    let job = id_of(&place.mail("submit", "letter.eml", &list).arg("--merge").run().expect_code(0));
    let drain = place.infeed(&["drain", "--mta", &address, "--connections", "2"]).spawn();
    wait_for("a delivery", Duration::from_secs(60), || (!place.arrived("ledger").is_empty()).then_some(()));
    drain.signal(rustix::process::Signal::TERM);
    drain.wait(Duration::from_secs(60)).expect_code(75);
    let show = place.show(&job);
    assert_eq!(show["accepted"].as_u64(), Some(place.arrived("ledger").len() as u64));
    assert_eq!(show["possible_repeats"], 0);
    assert!(show["pending"].as_u64().expect("a count") > 0);
    place.drain(&address).args(["--connections", "50"]).run().expect_code(0);
    let arrived = place.arrived("ledger");
    assert_eq!(arrived.len(), 400);
    assert_eq!(arrived.iter().collect::<BTreeSet<_>>().len(), 400, "an orderly end repeats nothing");
}
