//! `job pause`, `resume` and `cancel` while the job is sent, and several of them at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::daemon::{DEADLINE, Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::seed::Seed;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;

/// A slow sink, a daemon that sends into it, and a job in the middle of it.
fn in_mid_flight(desk: &Desk, recipients: usize) -> (SinkProcess, Daemon, String) {
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "10"]);
    let daemon = Daemon::start(desk, &["--mta", &sink.address(), "--connections", "6"]);
    let job = desk.submit_list("job", recipients, MERGED, &["--merge"]);
    wait_until("100 deliveries", DEADLINE, || sink.tail().waiting() >= 100);
    (sink, daemon, job)
}

/// Deliveries of the job so far; with another job sent in between, that there be time for more.
fn deliveries_now_and_later(desk: &Desk, sink: &SinkProcess, canary: &str) -> usize {
    let now = Tally::of(&sink.taken()).deliveries("job");
    let other = desk.submit_list(canary, 150, MERGED, &["--merge"]);
    desk.wait_state(&other, "done");
    assert_eq!(Tally::of(&sink.taken()).deliveries("job"), now, "mail went out after the command returned");
    now
}

#[test]
fn nothing_of_a_job_arrives_once_pause_has_returned_and_resume_sends_the_rest() {
    let desk = Desk::new();
    let (sink, daemon, job) = in_mid_flight(&desk, 3_000);
    for round in 0..3 {
        let said = desk.infeed(&["job", "pause", &job, "--json"]).run().expect_code(0).json();
        let now = deliveries_now_and_later(&desk, &sink, &format!("canary{round}"));
        assert_eq!((&said["state"], &said["accepted"]), (&"paused".into(), &now.into()), "{said}");
        let judged = Tally::of(&sink.taken()).judge(&desk, &job, "job", Repeats::None);
        assert!(judged.accepted < 3_000, "the job ended before it was paused: {judged:?}");
        desk.infeed(&["job", "resume", &job]).run().expect_code(0);
        wait_until("more deliveries", DEADLINE, || Tally::of(&sink.taken()).deliveries("job") > now + 100);
    }
    all_arrive_once(&desk, &job, daemon, sink);
}

#[test]
fn nothing_of_a_job_arrives_once_cancel_has_returned_and_the_report_is_complete() {
    let desk = Desk::new();
    let (sink, daemon, job) = in_mid_flight(&desk, 3_000);
    let said = desk.infeed(&["job", "cancel", &job, "--json"]).run().expect_code(0).json();
    let now = deliveries_now_and_later(&desk, &sink, "canary");
    assert_eq!(said["state"], "cancelled");
    daemon.stop();
    let tally = Tally::of(&sink.stop().1);
    let judged = tally.judge(&desk, &job, "job", Repeats::None);
    assert_eq!((judged.accepted, judged.recipients), (now, 3_000));
    assert_eq!(desk.show(&job)["cancelled"], 3_000 - now);
    desk.infeed(&["job", "remove", &job]).run().expect_code(0);
    assert!(desk.jobs().iter().all(|other| other["job"] != job.as_str()));
    desk.check();
}

/// Runs these commands on a job from eight places at once, a few times each.
fn race(desk: &Desk, job: &str, commands: &[&str], rounds: usize) {
    let seed = Seed::new();
    let carried_out = AtomicUsize::new(0);
    let mut random = seed.random();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (carried_out, mut random) = (&carried_out, random.fork());
            scope.spawn(move || {
                for _ in 0..rounds {
                    let command = commands[random.usize(0..commands.len())];
                    let run = desk.infeed(&["job", command, job]).run();
                    // one that lost its race says why; it neither breaks off nor is it a defect
                    assert!(matches!(run.code, Some(0 | 64..=69 | 75)), "{command}: {run:?}");
                    carried_out.fetch_add(usize::from(run.code == Some(0)), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(carried_out.into_inner() > 0, "every command lost its race");
}

#[test]
fn racing_pauses_and_resumes_lose_nobody_and_repeat_nobody() {
    let desk = Desk::new();
    let (sink, daemon, job) = in_mid_flight(&desk, 3_000);
    race(&desk, &job, &["pause", "resume"], 8);
    let show = desk.show(&job);
    assert!(matches!(show["state"].as_str(), Some("active" | "paused" | "done")), "{show}");
    if show["state"] != "done" {
        desk.infeed(&["job", "resume", &job]).run().expect_code(0);
    }
    all_arrive_once(&desk, &job, daemon, sink);
}

#[test]
fn racing_pauses_resumes_and_cancels_leave_one_end_and_a_complete_report() {
    let desk = Desk::new();
    let (sink, daemon, job) = in_mid_flight(&desk, 3_000);
    race(&desk, &job, &["pause", "resume", "pause", "resume", "cancel"], 6);
    let end = desk.show(&job)["state"].clone();
    if end != "done" && end != "cancelled" {
        desk.infeed(&["job", "cancel", &job]).run().expect_code(0);
    }
    let now = Tally::of(&sink.taken()).deliveries("job");
    daemon.stop();
    let tally = Tally::of(&sink.stop().1);
    let judged = tally.judge(&desk, &job, "job", Repeats::None);
    assert_eq!((judged.accepted, judged.recipients), (now, 3_000));
    let show = desk.show(&job);
    assert_eq!((&show["pending"], &show["deferred"]), (&0.into(), &0.into()), "{show}");
    desk.check();
}

#[test]
fn commands_without_an_owner_act_on_the_spool() {
    let desk = Desk::new();
    let job = desk.submit_list("job", 60, SHARED, &[]);
    let act = |command: &str| desk.infeed(&["job", command, &job, "--json"]).run().expect_code(0).json();
    assert_eq!(act("pause")["state"], "paused");
    assert_eq!(act("resume")["state"], "active");
    let all = |command: &str| desk.infeed(&[command, "--all", "--json"]).run().expect_code(0).json();
    assert_eq!((&all("pause")["paused"], &all("resume")["paused"]), (&true.into(), &false.into()));
    let status = desk.status();
    assert_eq!((&status["owners"], &status["backlog"]["recipients"]), (&Vec::<u8>::new().into(), &60.into()));
    assert_eq!(act("cancel")["cancelled"], 60);
    desk.infeed(&["job", "remove", &job]).run().expect_code(0);
    // these two are for a daemon alone
    for command in [&["reload"][..], &["mta", "resume"]] {
        let run = desk.infeed(command).run().expect_code(69);
        assert!(run.stderr.contains("infeed serve"), "{}", run.stderr);
    }
}

/// The job ends, and each of its 3,000 was sent to once.
fn all_arrive_once(desk: &Desk, job: &str, daemon: Daemon, sink: SinkProcess) {
    desk.wait_state(job, "done");
    daemon.stop();
    let tally = Tally::of(&sink.stop().1);
    assert_eq!(tally.judge(desk, job, "job", Repeats::None).accepted, 3_000);
    desk.check();
}
