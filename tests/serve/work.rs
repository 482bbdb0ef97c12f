//! What is submitted is sent, without anybody asking; `send` and `drain` beside a daemon.

use crate::common::daemon::{DEADLINE, Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::ledger::Tail;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;

#[test]
fn what_another_process_submits_is_sent_without_anybody_asking() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    let mut jobs = Vec::new();
    for (tag, n, text, flags) in [
        ("one", 1, SHARED, &[][..]),
        ("some", 700, MERGED, &["--merge"][..]),
        ("many", 2_500, SHARED, &[][..]),
    ] {
        let before = sink.tail().waiting();
        jobs.push((desk.submit_list(tag, n, text, flags), tag, n));
        wait_until("growth of the ledger", DEADLINE, || sink.tail().waiting() > before);
    }
    for (job, ..) in &jobs {
        desk.wait_state(job, "done");
    }
    daemon.stop();
    let tally = Tally::of(&sink.stop().1);
    for (job, tag, n) in &jobs {
        assert_eq!(tally.judge(&desk, job, tag, Repeats::None).accepted, *n);
    }
    assert_eq!(tally.all(), 3_201);
    desk.check();
}

/// What the summary of a command can't say that leaves the sending to a daemon.
const NOT_KNOWN: [&str; 7] = [
    "seconds",
    "deliveries_per_second",
    "connections",
    "connections_peak",
    "connections_mean",
    "connections_opened",
    "cuts",
];

#[test]
fn send_beside_a_daemon_follows_and_its_exit_code_tells_what_came_of_it() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--set", "retry.delay_s_min=3600"]);
    let message = desk.file("message.eml", SHARED);
    let mut all = 0;
    for (people, code, outcome) in [
        (["a-1@x.example", "a-2@x.example", "a-3@y.example"], 0, "accepted"),
        (["b-1@x.example", "refuse-550.1@x.example", "b-3@y.example"], 1, "refused"),
        (["c-1@x.example", "defer-451.1@x.example", "c-3@y.example"], 75, "deferred"),
    ] {
        let list = desk.file("list.txt", people.join("\n"));
        let run = desk.infeed(&["send", "--yes", "--json"]).arg(&message).arg("--to").arg(list).run();
        let said = run.expect_code(code).json();
        assert_eq!((&said["ended"], &said["recipients"]), (&"owned".into(), &3.into()), "{said}");
        all += said["accepted"].as_u64().expect("a count");
        // the daemon knows them, and this command doesn't
        for unknown in NOT_KNOWN {
            assert!(said.get(unknown).is_some_and(serde_json::Value::is_null), "{unknown} in {said}");
        }
        assert!(said[outcome].as_u64() > Some(0), "{said}");
        assert!(said["owner"].as_str().is_some_and(|who| who.contains(&daemon.pid().to_string())), "{said}");
    }
    daemon.stop();
    assert_eq!((all, sink.stop().1.len()), (7, 7));
}

#[test]
fn drain_beside_a_daemon_says_so_and_ends_well() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    let drain = desk.draining(&sink.address(), 2).run().expect_code(0);
    let said = drain.json();
    assert_eq!(said["ended"], "owned", "{said}");
    for unknown in NOT_KNOWN.into_iter().chain(["accepted", "settled", "unfinished"]) {
        assert!(said.get(unknown).is_some_and(serde_json::Value::is_null), "{unknown} in {said}");
    }
    assert!(drain.stderr.contains(&daemon.pid().to_string()), "{}", drain.stderr);
    daemon.stop();
}

#[test]
fn a_daemon_waits_for_a_drain_to_end_and_takes_over() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "10"]);
    let first = desk.submit_list("first", 400, MERGED, &["--merge"]);
    let drain = desk.draining(&sink.address(), 2).spawn();
    wait_until("a delivery", DEADLINE, || sink.tail().waiting() > 0);
    let mut daemon = Daemon::of(desk.infeed(&["serve", "--mta", &sink.address()]).spawn());
    let second = desk.submit_list("second", 50, SHARED, &[]);
    daemon.wait_ready(&desk);
    drain.wait(DEADLINE);
    for job in [&first, &second] {
        desk.wait_state(job, "done");
    }
    daemon.stop();
    let tally = Tally::of(&sink.stop().1);
    tally.judge(&desk, &first, "first", Repeats::None);
    tally.judge(&desk, &second, "second", Repeats::None);
    assert_eq!(tally.all(), 450);
}

#[test]
fn rehearsals_go_into_the_daemons_own_sink_and_mail_never_does() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let own = desk.path("rehearsed");
    let own_name = own.display().to_string();
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--sink-ledger", &own_name]);
    let real = desk.submit_list("real", 300, SHARED, &[]);
    let rehearsal = desk.submit_list("try", 500, MERGED, &["--merge", "--mta", "sink"]);
    for job in [&real, &rehearsal] {
        desk.wait_state(job, "done");
    }
    daemon.stop();
    let (rehearsed, sent) = (Tally::of(&Tail::new(&own).read()), Tally::of(&sink.stop().1));
    rehearsed.judge(&desk, &rehearsal, "try", Repeats::None);
    sent.judge(&desk, &real, "real", Repeats::None);
    assert_eq!((rehearsed.all(), sent.all()), (500, 300));
}
