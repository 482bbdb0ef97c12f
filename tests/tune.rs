//! `infeed tune`, against the sink and a real Postfix.

mod common;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use common::binary::{Infeed, Run, infeed};
use common::mta::{Postfix, Relay, is_long, skip_or_require};
use common::port::free_port;
use common::sink::SinkProcess;
use common::wait::wait_until;
use rustix::process::Signal;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(120);
const TO: &str = "rehearsal+%d@x.example";

/// A step of the short tests, in seconds: what they hold needs no exact rates.
fn step_s() -> &'static str {
    if is_long() { "3" } else { "0.6" }
}

fn tune(mta: &str, arguments: &[&str]) -> Infeed {
    infeed(["tune", "--json", "--yes", "--mta", mta, "--to", TO]).args(arguments).deadline(DEADLINE)
}

fn rows(json: &Value) -> &Vec<Value> {
    json["rows"].as_array().expect("rows")
}

fn rate(row: &Value) -> f64 {
    row["recipients_per_second"]["median"].as_f64().unwrap_or(0.0)
}

fn causes(json: &Value) -> Vec<&str> {
    let found = json["bottlenecks"].as_array().expect("bottlenecks");
    found.iter().map(|found| found["cause"].as_str().expect("a cause")).collect()
}

/// It was refused before anything was sent, with all of these words.
fn refused(run: Run, code: i32, words: &[&str]) {
    let run = run.expect_code(code);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} in: {}", run.stderr);
    }
    assert_eq!(run.stdout, "");
}

#[test]
fn the_knee_of_the_sink_is_found_and_what_to_configure() {
    let folder = tempfile::tempdir().expect("a folder");
    // 50 ms at the dot, so that the sink and not this machine is what limits; four times that at 8
    let sink = SinkProcess::start(folder.path(), &["--knee", "4", "--service-us", "50000"]);
    let svg = folder.path().join("tune.svg");
    let run = tune(&sink.address(), &["--connections", "1,2,4,8", "--rounds", "3", "--seconds", step_s()])
        .arg("--svg")
        .arg(&svg)
        .run()
        .expect_code(0);
    let json = run.json();
    assert_eq!(json["ended"], "done");
    assert_eq!(json["mta"], "sink");
    assert_eq!(json["rounds_done"], 3);
    let knee = &json["knees"][0];
    assert_eq!(knee["connections"], 4, "{knee}");
    assert_eq!(knee["rounds"], 3);
    assert!(json["toml"].as_str().expect("lines").contains("connections = 4"));
    assert!(causes(&json).contains(&"thrash"), "{json:#}");
    for row in rows(&json) {
        assert!(rate(row) > 0.0 && row["final_reply_ms"]["p50"].as_f64() >= Some(19.0), "{row:#}");
        assert!(row["greeting_ms"]["p50"].as_f64() > Some(0.0), "{row:#}");
    }
    plotted(&svg, &[1, 2, 4, 8]);
    let (summary, ledger) = sink.stop();
    assert_eq!(summary["recipients_accepted"], json["accepted"]);
    let distinct: HashSet<&str> = ledger.iter().map(|entry| entry.recipient.as_str()).collect();
    assert_eq!(distinct.len(), ledger.len(), "each message has an address of its own");
}

/// The plot is XML, and has each number once on the axis of each of its three panels.
fn plotted(svg: &Path, connections: &[usize]) {
    let text = std::fs::read_to_string(svg).expect("a plot");
    let tree = roxmltree::Document::parse(&text).expect("XML");
    let circles = tree.descendants().filter(|node| node.has_tag_name("circle")).count();
    // goodput, three percentiles, two of CPU
    assert_eq!(circles, 6 * connections.len());
    for n in connections {
        let n = n.to_string();
        let texts = tree.descendants().filter(|node| node.text().map(str::trim) == Some(&n));
        assert!(texts.count() >= 3, "{n} in {text}");
    }
}

#[test]
fn a_limit_of_connections_is_named_and_what_is_beyond_is_not_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = SinkProcess::start(folder.path(), &["--connections-max", "5", "--service-us", "5000"]);
    let run = tune(&sink.address(), &["--connections", "2,4,8,16", "--rounds", "3", "--seconds", step_s()])
        .run()
        .expect_code(0);
    let json = run.json();
    assert_eq!(json["ended"], "done");
    assert_eq!(causes(&json)[0], "connection_limit");
    let found = &json["bottlenecks"][0];
    let evidence = found["evidence"].as_str().expect("words");
    assert!(evidence.contains("with 5 connections") && evidence.contains("421"), "{evidence}");
    assert_eq!(json["knees"][0]["connections"], 4, "{json:#}");
    for row in rows(&json) {
        let is_beyond = row["connections"].as_u64() > Some(5);
        assert_eq!(rate(row) == 0.0, is_beyond, "{row:#}");
    }
    let errors = rows(&json).iter().map(|row| row["errors"]["no_session"].as_u64().unwrap_or(0));
    // one step found it; the other number beyond it, and the other rounds, were spared
    assert!((1..=4).contains(&errors.sum::<u64>()), "{json:#}");
}

#[test]
fn an_address_that_is_refused_stops_at_once_in_the_mtas_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = SinkProcess::start(folder.path(), &["--fail", "rcpt=550"]);
    let run = tune(&sink.address(), &["--connections", "4"]).run().expect_code(65);
    assert!(run.stderr.contains("550") && run.stderr.contains("--to"), "{}", run.stderr);
    let json = run.json();
    assert_eq!((&json["ended"], &json["trouble"]["kind"]), (&"trouble".into(), &"refused".into()));
    let (summary, _) = sink.stop();
    // one for each connection, and at most one that was on its way there
    assert!(summary["recipients_refused"].as_u64() <= Some(8), "{summary}");
}

#[test]
fn a_4xx_that_is_said_again_and_again_stops_the_sweep() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = SinkProcess::start(folder.path(), &["--fail", "content=451"]);
    let run = tune(&sink.address(), &["--connections", "2"]).run().expect_code(69);
    assert!(run.stderr.contains("451"), "{}", run.stderr);
    assert_eq!(run.json()["accepted"], 0);
}

#[test]
fn an_mta_that_is_not_there_is_told_at_once() {
    let address = format!("127.0.0.1:{}", free_port());
    let run = tune(&address, &["--seconds", "3600"]).run().expect_code(69);
    assert!(run.stderr.contains(&address), "{}", run.stderr);
    assert!(
        run.stderr.contains("no session was ever opened") && !run.stderr.contains("stopped"),
        "{}",
        run.stderr
    );
    let json = run.json();
    assert_eq!((&json["trouble"]["kind"], &json["toml"]), (&"no_session".into(), &Value::Null));
}

#[test]
fn what_is_not_on_this_host_is_refused_without_a_connect() {
    for mta in ["10.0.0.1:25", "0.0.0.0:25", "[2001:db8::1]:25"] {
        refused(tune(mta, &[]).run(), 64, &[mta, "--not-loopback"]);
    }
    refused(tune("sink", &[]).run(), 64, &["infeed sink"]);
}

#[test]
fn nothing_is_sent_before_somebody_confirms() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = SinkProcess::start(folder.path(), &[]);
    let run = infeed(["tune", "--mta", &sink.address(), "--to", TO]).run();
    // what would be sent, how much and how long, and the remedy
    refused(run, 64, &["at most 20000 messages", TO, "21 steps", "--yes"]);
    refused(tune(&sink.address(), &["--messages-max", "100"]).run(), 64, &["--messages-max 2688"]);
    refused(tune(&sink.address(), &["--rounds", "0"]).run(), 64, &["--rounds"]);
    refused(tune(&sink.address(), &["--message", "/no/such.eml"]).run(), 66, &["/no/such.eml"]);
    refused(tune(&sink.address(), &["--svg", "/no/such/tune.svg"]).run(), 73, &["/no/such/tune.svg"]);
    let (summary, _) = sink.stop();
    assert_eq!(summary["connections"], 0);
}

#[test]
fn never_more_messages_than_the_bound() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = SinkProcess::start(folder.path(), &[]);
    let arguments = [
        "--connections",
        "1,3",
        "--recipients-per-transaction",
        "1,7",
        "--rounds",
        "2",
        "--messages-max",
        "500",
    ];
    let json = tune(&sink.address(), &arguments).run().expect_code(0).json();
    assert_eq!(json["ended"], "done");
    assert_eq!(rows(&json).len(), 4);
    let remarks = json["remarks"].to_string();
    assert!(remarks.contains("--messages-max"), "{remarks}");
    let (summary, ledger) = sink.stop();
    assert_eq!(summary["recipients_accepted"], json["accepted"]);
    // 500 over 2 rounds of 1 + 1 + 7 + 7 recipients: 15 transactions a step, 16 where a step used less
    assert!((480..=500).contains(&ledger.len()), "{}", ledger.len());
}

#[test]
fn a_signal_ends_it_with_everything_settled_and_what_was_measured_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = SinkProcess::start(folder.path(), &["--service-us", "5000"]);
    let arguments = ["--connections", "2,4", "--seconds", "600", "--messages-max", "1000000"];
    let running = tune(&sink.address(), &arguments).spawn();
    let mut tail = sink.tail();
    let mut seen = 0;
    wait_until("messages", DEADLINE, || {
        seen += tail.read().len();
        seen > 20
    });
    running.signal(Signal::INT);
    let run = running.wait(DEADLINE).expect_code(75);
    let json = run.json();
    assert_eq!((&json["ended"], &json["rounds_done"]), (&"stopped".into(), &0.into()));
    let (summary, ledger) = sink.stop();
    assert_eq!(json["accepted"], ledger.len());
    assert_eq!(summary["dropped_before_dot"], 0);
    let errors: u64 = rows(&json).iter().map(|row| row["errors"]["in_doubt"].as_u64().unwrap_or(1)).sum();
    assert_eq!(errors, 0, "{json:#}");
}

#[test]
fn a_real_postfix_is_known_and_measured_and_takes_what_was_counted() {
    if !skip_or_require("postfix") {
        return;
    }
    let postfix = Postfix::start(Relay::Queue, &["in_flow_delay = 0"]);
    let arguments =
        ["--connections", "1,2,4", "--rounds", "3", "--seconds", step_s(), "--messages-max", "900"];
    let json = tune(&postfix.address(), &arguments).run().expect_code(0).json();
    assert_eq!((&json["mta"], &json["ended"]), (&"postfix".into(), &"done".into()));
    assert!(json["banner"].as_str().is_some_and(|banner| banner.contains("Postfix")), "{}", json["banner"]);
    assert_eq!(rows(&json).len(), 3);
    for row in rows(&json) {
        assert!(rate(row) > 0.0 && row["sessions"].as_u64() <= row["connections"].as_u64(), "{row:#}");
        assert_eq!(row["errors"]["deferred"], 0, "{row:#}");
    }
    assert!(json["knees"][0]["connections"].as_u64().is_some());
    wait_until("queue of what was counted", DEADLINE, || json["accepted"] == postfix.queued());
}

#[test]
fn replies_a_second_late_are_told_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    // a queue behind it that is full at once: its brake is that of in_flow_delay
    let sink = SinkProcess::start(folder.path(), &["--drain-rate", "1", "--queue-max", "1"]);
    let run = tune(&sink.address(), &["--connections", "2", "--seconds", "4", "--rounds", "1"]).run();
    let json = run.expect_code(0).json();
    assert!(causes(&json).contains(&"second_late"), "{json:#}");
    assert_eq!(json["knees"][0]["sureness"], "too_few_rounds");
}

#[test]
fn a_limit_of_recipients_a_transaction_is_remarked() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = SinkProcess::start(folder.path(), &["--recipients-per-transaction-max", "5"]);
    let arguments = ["--connections", "1", "--recipients-per-transaction", "5,8", "--rounds", "1"];
    let json = tune(&sink.address(), &arguments).args(["--messages-max", "2000"]).run().expect_code(0).json();
    let beyond = |row: &Value| row["errors"]["beyond_limit"].as_u64();
    assert_eq!(beyond(&rows(&json)[0]), Some(0), "{json:#}");
    assert!(beyond(&rows(&json)[1]) > Some(0), "{json:#}");
    assert!(json["remarks"].to_string().contains("8 recipients a transaction"), "{}", json["remarks"]);
}
