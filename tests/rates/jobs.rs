//! The rate of a job, and of an MTA: kept, changed while it goes, and shown.

use std::time::{Duration, Instant};

use crate::common::daemon::{DEADLINE, Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;
use crate::pace::{arrivals, assert_never_above, seconds};

#[test]
fn a_job_is_sent_at_its_rate_and_one_beside_it_is_not_held_up() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--connections", "4"]);
    // ten minutes of it
    let slow = desk.submit_list("slow", 3_000, MERGED, &["--merge", "--messages-per-second", "5"]);
    assert_eq!(desk.show(&slow)["messages_per_second"], 5.0);
    let fast = desk.submit_list("fast", 1_000, MERGED, &["--merge"]);
    desk.wait_state(&fast, "done");
    let slow_arrivals = || arrivals(&sink.taken(), |recipient| recipient.starts_with("slow"));
    wait_until("15 of the slow one", DEADLINE, || slow_arrivals().len() >= 15);
    assert_never_above(&slow_arrivals(), 5.0, 0.05);
    assert_eq!(desk.show(&slow)["state"], "active");
    desk.infeed(&["job", "rate", &slow, "none"]).run().expect_code(0);
    desk.wait_state(&slow, "done");
    daemon.stop();
    assert_eq!(sink.stop().1.len(), 4_000);
}

#[test]
fn a_drain_goes_on_until_a_job_that_has_a_rate_is_through() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    desk.submit_list("slow", 100, MERGED, &["--merge", "--messages-per-second", "50"]);
    let drained = desk.draining(&sink.address(), 4).run().expect_code(0).json();
    assert_eq!((&drained["ended"], &drained["accepted"]), (&"drained".into(), &100.into()));
    assert_never_above(&arrivals(&sink.stop().1, |_| true), 50.0, 0.05);
}

#[test]
fn a_rate_below_one_a_second_holds_and_recipients_of_one_transaction_count_once() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    // 3 transactions of 50: the third one four seconds after the first
    desk.submit_list("shared", 150, SHARED, &["--messages-per-second", "0.5"]);
    desk.infeed(&["drain", "--mta", &sink.address(), "--connections", "4"])
        .env("INFEED_MTA_RECIPIENTS_PER_TRANSACTION_MAX", "50")
        .run()
        .expect_code(0);
    let ledger = sink.stop().1;
    let times = arrivals(&ledger, |_| true);
    assert_eq!(ledger.len(), 150);
    assert!(times.len() <= 5, "{} transactions", times.len());
    let want = 2.0 * (times.len() - 1) as f64;
    assert!(seconds(&times) >= want * 0.98 - 0.05, "{} transactions in {} s", times.len(), seconds(&times));
}

#[test]
fn the_rate_of_an_mta_holds_over_its_connections_and_a_reload_changes_it() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let configure = |rate: &str| {
        let address = sink.address();
        desk.configure(&format!(
            "[[mta]]\nname = \"one\"\naddress = \"{address}\"\nconnections = 8\nmessages_per_second = {rate}\n"
        ));
    };
    configure("40");
    let daemon = Daemon::configured(&desk);
    let job = desk.submit_list("job", 4_000, MERGED, &["--merge"]);
    wait_until("100 arrivals", DEADLINE, || sink.tail().waiting() >= 100);
    let mta = desk.mta_status("one");
    assert_eq!(mta["messages_per_second"], 40.0, "{mta}");
    assert!(desk.infeed(&["status"]).run().expect_code(0).stdout.contains("(rate 40/s)"));
    let before = sink.taken();
    assert_never_above(&arrivals(&before, |_| true), 40.0, 0.05);
    let connections: std::collections::BTreeSet<_> = before.iter().map(|entry| entry.connection).collect();
    configure("200");
    desk.infeed(&["reload"]).run().expect_code(0);
    wait_until("600 more arrivals", DEADLINE, || sink.tail().waiting() >= before.len() + 600);
    let times = arrivals(&sink.taken(), |_| true);
    assert_never_above(&times[before.len()..], 200.0, 0.1);
    // the same connections go on: a rate is no reason to connect anew
    let after: std::collections::BTreeSet<_> = sink.taken().iter().map(|entry| entry.connection).collect();
    assert!(after.len() <= connections.len().max(8), "{connections:?}, then {after:?}");
    configure("0");
    desk.infeed(&["reload"]).run().expect_code(0);
    desk.wait_state(&job, "done");
    assert!(desk.mta_status("one")["messages_per_second"].is_null());
    daemon.stop();
    assert_eq!(sink.stop().1.len(), 4_000);
}

#[test]
fn the_rate_of_a_job_is_changed_while_it_goes_and_survives_a_kill() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--connections", "4"]);
    let job = desk.submit_list("job", 2_000, MERGED, &["--merge", "--messages-per-second", "5"]);
    wait_until("15 arrivals", DEADLINE, || sink.tail().waiting() >= 15);
    assert_never_above(&arrivals(&sink.taken(), |_| true), 5.0, 0.05);
    let status = desk.status();
    let line = &status["active"][0];
    assert_eq!((&line["messages_per_second"], &line["job"]), (&5.0.into(), &job.as_str().into()), "{status}");
    let screen = desk.infeed(&["status"]).run().expect_code(0).stdout;
    assert!(screen.contains("rate 5/s"), "{screen}");

    let said = desk.infeed(&["job", "rate", &job, "60"]).run().expect_code(0).stdout;
    assert!(said.contains("60 messages a second"), "{said}");
    let before = sink.taken().len();
    wait_until("150 more arrivals", DEADLINE, || sink.tail().waiting() >= before + 150);
    assert_never_above(&arrivals(&sink.taken(), |_| true)[before..], 60.0, 0.1);

    daemon.kill();
    assert_eq!(desk.show(&job)["messages_per_second"], 60.0);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--connections", "4"]);
    let before = sink.taken().len();
    wait_until("100 more arrivals", DEADLINE, || sink.tail().waiting() >= before + 100);
    assert_never_above(&arrivals(&sink.taken(), |_| true)[before..], 60.0, 0.1);
    desk.infeed(&["job", "rate", &job, "none"]).run().expect_code(0);
    desk.wait_state(&job, "done");
    let ended = desk.infeed(&["job", "rate", &job, "5"]).run();
    assert!(ended.code != Some(0) && ended.stderr.contains("nothing more of it is sent"), "{}", ended.stderr);
    daemon.stop();
    sink.stop();
}

#[test]
fn without_a_daemon_a_rate_is_kept_by_the_command_itself_through_pause_and_resume() {
    let desk = Desk::new();
    let job = desk.submit_list("job", 60, MERGED, &["--merge"]);
    desk.infeed(&["job", "rate", &job, "30"]).run().expect_code(0);
    desk.infeed(&["job", "pause", &job]).run().expect_code(0);
    desk.infeed(&["job", "resume", &job]).run().expect_code(0);
    assert_eq!(desk.show(&job)["messages_per_second"], 30.0);
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    desk.draining(&sink.address(), 4).run().expect_code(0);
    let times = arrivals(&sink.stop().1, |_| true);
    assert_eq!(times.len(), 60);
    assert_never_above(&times, 30.0, 0.05);
}

#[test]
fn after_an_idle_spell_there_is_no_burst() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    desk.configure(&format!(
        "[mta]\naddress = \"{}\"\nconnections = 8\nmessages_per_second = 30\n",
        sink.address()
    ));
    let daemon = Daemon::configured(&desk);
    let first = desk.submit_list("first", 20, MERGED, &["--merge"]);
    desk.wait_state(&first, "done");
    // an idle spell is a time
    std::thread::sleep(Duration::from_millis(2_500));
    let second = desk.submit_list("second", 90, MERGED, &["--merge"]);
    desk.wait_state(&second, "done");
    daemon.stop();
    let times = arrivals(&sink.stop().1, |r| r.starts_with("second"));
    assert_eq!(times.len(), 90);
    // a tenth of a second's worth may go at once
    assert_never_above(&times, 30.0, 0.15);
}

#[test]
fn infeeds_that_wait_for_a_rate_use_no_processor() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--connections", "32"]);
    desk.submit_list("job", 2_000, MERGED, &["--merge", "--messages-per-second", "2"]);
    wait_until("4 arrivals", DEADLINE, || sink.tail().waiting() >= 4);
    let (before, begun) = (processor_s(daemon.pid()), Instant::now());
    let arrived = sink.tail().waiting();
    wait_until("10 more arrivals", DEADLINE, || sink.tail().waiting() >= arrived + 10);
    let part = (processor_s(daemon.pid()) - before) / begun.elapsed().as_secs_f64();
    // one that spins takes a whole processor, or what others leave of it
    assert!(part < 0.2, "{part:.3} of a processor");
    daemon.kill();
}

/// Processor time that a process has used.
fn processor_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("/proc");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks =
        |n: usize| fields.split_whitespace().nth(n).and_then(|t| t.parse::<f64>().ok()).expect("ticks");
    // the kernel's ticks are 100 a second wherever anybody reads them
    (ticks(11) + ticks(12)) / 100.0
}

#[test]
fn what_is_no_rate_is_refused_with_the_remedy_and_nothing_is_submitted() {
    let desk = Desk::new();
    let message = desk.file("m.eml", SHARED);
    let list = desk.file("l.csv", "email\na@example.org\n");
    for bad in ["0", "-5", "fast"] {
        let flag = format!("--messages-per-second={bad}");
        let run = desk.submitting(&message, &list, &[&flag]).run().expect_code(64);
        assert!(run.stderr.contains("50 or 0.5"), "{}", run.stderr);
    }
    assert!(desk.jobs().is_empty());
    let job = desk.submit(&message, &list, &[]);
    let run = desk.infeed(&["job", "rate", &job, "0"]).run().expect_code(64);
    assert!(run.stderr.contains("50 or 0.5"), "{}", run.stderr);
}
