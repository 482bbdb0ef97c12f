//! The log of a daemon: one line of each change of a job's or an MTA's state, none of a recipient, whatever goes
//! wrong and whatever is said to it.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;

use common::daemon::{DEADLINE, Daemon, MERGED, SHARED, list};
use common::desk::Desk;
use common::sink::SinkProcess;
use common::wait::wait_until;
use serde_json::Value;

/// Lines of a log in JSON.
fn parsed(log: &str) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    log.lines().map(line).collect()
}

/// `job state` or `mta state` of each line that tells of one, in order.
fn states<'a>(lines: &'a [Value], whose: &str) -> Vec<(&'a str, &'a str)> {
    let of = |line: &'a Value| Some((line[whose].as_str()?, line["state"].as_str()?));
    lines.iter().filter_map(of).collect()
}

/// Of the one MTA that isn't the daemon's own sink.
fn mta_state(desk: &Desk) -> String {
    let status = desk.status();
    let mtas = status["mtas"].as_array().expect("a list of MTAs");
    let mta = mtas.iter().find(|mta| mta["name"] != "sink").expect("an MTA");
    mta["state"].as_str().expect("a state").to_owned()
}

/// Refusals, deferrals, an MTA that is killed again and again, and a job for each way to end.
#[test]
fn a_daemon_says_each_change_of_state_once_and_nothing_of_recipients() {
    let desk = Desk::new();
    let folder = desk.path("sink");
    // slow enough that there is mail for it whenever it is killed
    let flags = ["--fail", "rcpt=550%10", "--fail", "rcpt=451%10", "--latency-ms", "5"];
    let mut sink = SinkProcess::start(&folder, &flags);
    let (port, address) = (sink.port(), sink.address());
    // called on again at once
    let soon = ["retry.delay_s_max=1", "mta.refused_hold_ms=100", "mta.reconnect_delay_ms_max=200"];
    let soon = soon.iter().flat_map(|setting| ["--set", setting]);
    let serve = ["--mta", &address, "--connections", "4", "--log-format", "json"];
    let daemon = Daemon::start(&desk, &serve.into_iter().chain(soon).collect::<Vec<_>>());
    let job = desk.submit_list("many", 2_000, MERGED, &["--merge", "--accept-refusals"]);
    let held = desk.submit_list("held", 300, SHARED, &["--accept-refusals", "--messages-per-second", "0.01"]);
    let flaps = 3;
    for _ in 0..flaps {
        let before = sink.tail().waiting();
        wait_until("mail", DEADLINE, || sink.tail().waiting() > before || desk.show(&job)["state"] == "done");
        sink.kill();
        wait_until("an MTA that is down", DEADLINE, || mta_state(&desk) == "down");
        sink = SinkProcess::start_at(&folder, port, &flags);
        wait_until("an MTA that is up", DEADLINE, || mta_state(&desk) == "up");
    }
    desk.wait_state(&job, "done");
    let counts = desk.show(&job);
    for command in [["job", "pause", &held], ["job", "resume", &held], ["job", "cancel", &held]] {
        desk.infeed(&command).run().expect_code(0);
    }
    let log = daemon.stop().stderr;
    let lines = parsed(&log);
    for line in &lines {
        assert!(line["time"].is_string() && line["message"].is_string(), "{line}");
        assert!(["error", "warn", "info"].iter().any(|level| line["level"] == *level), "{line}");
    }
    for part in ["@", "many-", "held-"] {
        // the jobs' ids are not made of their lists' names
        assert!(!log.contains(part), "{part}: {log}");
    }
    let mut told: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for state in states(&lines, "job") {
        *told.entry(state).or_default() += 1;
    }
    let expected: BTreeMap<(&str, &str), usize> = [
        ((job.as_str(), "active"), 1),
        ((job.as_str(), "done"), 1),
        ((held.as_str(), "active"), 1),
        ((held.as_str(), "paused"), 1),
        ((held.as_str(), "resumed"), 1),
        ((held.as_str(), "cancelled"), 1),
    ]
    .into();
    // resumed, it may have been taken up again before it was cancelled
    let taken_up = told.get_mut(&(held.as_str(), "active")).expect("taken up");
    *taken_up = (*taken_up).min(1);
    assert_eq!(told, expected, "{log}");
    let done = lines.iter().find(|line| line["state"] == "done").expect("it is done");
    for name in ["accepted", "refused"] {
        assert_eq!(done[name], counts[name], "{done} {counts}");
    }
    let of_mta = states(&lines, "mta");
    let downs = of_mta.iter().filter(|(_, state)| *state == "down").count();
    assert!((1..=flaps).contains(&downs), "{of_mta:?}");
    assert!(of_mta.windows(2).all(|pair| pair[0] != pair[1]), "no state twice in a row: {of_mta:?}");
    assert!(lines.len() < 100, "{} lines:\n{log}", lines.len());
    desk.check();
}

#[test]
fn a_flood_of_refusals_is_one_line_and_names_nobody() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--fail", "rcpt=550"]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    let job = desk.submit_list("refused", 2_000, SHARED, &[]);
    desk.wait_state(&job, "paused");
    let log = daemon.stop().stderr;
    let of_job: Vec<&str> = log.lines().filter(|line| line.contains(&job)).collect();
    assert_eq!(of_job.len(), 2, "taken up, and paused: {log}");
    assert!(
        of_job[1].contains(" WARN ") && of_job[1].contains("is paused by the refusal breaker: 550"),
        "{log}"
    );
    assert!(!log.contains("refused-"), "{log}");
    assert!(log.lines().count() < 20, "{log}");
}

/// An MTA that answers every connect with this, and nothing else.
fn hostile_mta(banner: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // a client that has gone needs no answer
            if stream.write_all(banner).is_ok() {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap_or_default();
            }
        }
    });
    port
}

#[test]
fn what_an_mta_says_forges_no_line_and_reaches_no_terminal() {
    let banner = b"554-5.7.1 go away\x1b[2J\x1b]0;owned\x07\r\n554 5.7.1 \xe2\x80\xae1970-01-01 ERROR forged\x08\x7f\x9b31m\r\n";
    let port = hostile_mta(banner);
    for format in ["human", "json"] {
        let desk = Desk::new();
        let message = desk.file("news.eml", SHARED);
        desk.submit(&message, &desk.file("list.csv", list("a", 20)), &[]);
        let run = desk.draining(&format!("127.0.0.1:{port}"), 2).args(["-v", "--log-format", format]).run();
        let log = run.expect_code(69).stderr;
        assert!(log.contains("forged"), "{log}");
        for line in log.lines() {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            let is_ours = line.starts_with("infeed: ") || line.starts_with("20") || line.starts_with('{');
            assert!(is_ours, "{line:?}");
        }
        let of_mta = log.lines().filter(|line| line.contains("MTA mta is paused: 554")).count();
        let of_mta = of_mta + usize::from(of_mta == 0 && log.contains(" is paused: 554"));
        assert_eq!(of_mta, 1, "{log}");
    }
}

#[test]
fn a_format_that_is_none_is_told_at_once() {
    let desk = Desk::new();
    let run = desk.infeed(&["status", "--log-format", "xml"]).run();
    assert_eq!(run.code, Some(64), "{}", run.stderr);
    let run = desk.infeed(&["status", "--set", "log.format=xml"]).run();
    assert_eq!(run.code, Some(64), "{}", run.stderr);
    assert!(run.stderr.contains("log.format") && run.stderr.contains("\"journald\""), "{}", run.stderr);
}
