//! The hours in which a job is sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::daemon::{DEADLINE, Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;
use crate::pace::arrivals;

const DAY_S: u64 = 86_400;

/// Seconds since the epoch.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// From and until, as seconds since the epoch, in UTC.
fn window(from: u64, until: u64) -> String {
    let time = |s: u64| format!("{:02}:{:02}:{:02}", s % DAY_S / 3_600, s % 3_600 / 60, s % 60);
    format!("{}-{} UTC", time(from), time(until))
}

/// One that is shut for hours.
fn shut() -> String {
    window(now_s() + 4 * 3_600, now_s() + 5 * 3_600)
}

#[test]
fn outside_its_window_a_job_waits_while_others_go_and_a_drain_ends_with_75() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let job = desk.submit_list("job", 50, MERGED, &["--merge", "--window", &shut()]);
    desk.submit_list("other", 50, MERGED, &["--merge"]);
    let run = desk.draining(&sink.address(), 2).run().expect_code(75);
    assert!(run.stderr.contains(&job) && run.stderr.contains("waits for its window"), "{}", run.stderr);
    let said = run.json();
    assert_eq!((&said["accepted"], &said["unfinished"]), (&50.into(), &50.into()), "{said}");
    assert!(said["left_alone"][0]["reason"].as_str().expect("why").contains("until"), "{said}");
    let jobs = desk.infeed(&["jobs"]).run().expect_code(0).stdout;
    assert!(jobs.contains("waits for its window"), "{jobs}");
    let status = desk.status();
    assert!(status["active"][0]["waits_for_window"].as_str().expect("why").contains("until"), "{status}");
    // nobody is late with it
    assert_eq!((&status["backlog"]["recipients"], &status["backlog"]["due"]), (&50.into(), &0.into()));
    assert_eq!(status["backlog"]["oldest_due_us"], serde_json::Value::Null, "{status}");
    // lifted, it goes
    desk.infeed(&["job", "window", &job, "none"]).run().expect_code(0);
    desk.draining(&sink.address(), 2).run().expect_code(0);
    assert_eq!(sink.stop().1.len(), 100);
}

#[test]
fn a_daemon_stops_a_job_where_its_window_closes_and_goes_on_where_it_opens() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "5"]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--connections", "2"]);
    let begins = now_s() + 3;
    let (closes, opens) = (begins + 2, begins + 8);
    let windows = [window(begins, closes), window(opens, opens + 3_600)];
    let flags = ["--merge", "--window", &windows[0], "--window", &windows[1]];
    let job = desk.submit_list("job", 3_000, MERGED, &flags);
    desk.wait_state(&job, "done");
    daemon.stop();
    let times = arrivals(&sink.stop().1, |_| true);
    assert_eq!(times.len(), 3_000);
    assert!(times[0] >= begins * 1_000_000, "the first came before its window");
    // a second is promised; a busy machine is given a little more
    let late = times.iter().filter(|at| (closes + 3) * 1_000_000 < **at && **at < opens * 1_000_000).count();
    assert_eq!(late, 0, "sent outside the window");
}

#[test]
fn a_window_that_is_shut_by_command_stops_the_job_and_one_that_is_open_lets_it_go_on() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "10"]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--connections", "2"]);
    let job = desk.submit_list("job", 1_500, MERGED, &["--merge"]);
    wait_until("50 arrivals", DEADLINE, || sink.tail().waiting() >= 50);
    desk.infeed(&["job", "window", &job, &shut()]).run().expect_code(0);
    let is_shut =
        || desk.status()["left_alone"][0]["reason"].as_str().is_some_and(|why| why.contains("window"));
    wait_until("job that waits for its window", DEADLINE, is_shut);
    let none_in_flight = || desk.status()["in_flight"] == 0;
    wait_until("end of what is in flight", DEADLINE, none_in_flight);
    let went = sink.tail().waiting();
    let other = desk.submit_list("other", 100, MERGED, &["--merge"]);
    desk.wait_state(&other, "done");
    assert_eq!(sink.tail().waiting(), went + 100, "the job went on");
    desk.infeed(&["job", "window", &job, "00:00-24:00 UTC"]).run().expect_code(0);
    desk.wait_state(&job, "done");
    assert!(desk.status()["left_alone"].as_array().expect("a list").is_empty());
    daemon.stop();
    assert_eq!(sink.stop().1.len(), 1_600);
}

#[test]
fn send_beside_a_daemon_ends_with_75_where_the_job_waits_for_its_window() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    let (message, list) = (desk.file("m.eml", SHARED), desk.file("l.csv", "email\na@example.org\n"));
    let (message, list) = (message.display().to_string(), list.display().to_string());
    let run = desk
        .infeed(&["send", &message, "--to", &list, "--yes", "--window", &shut(), "--mta", &sink.address()])
        .deadline(Duration::from_secs(60))
        .run()
        .expect_code(75);
    assert!(run.stderr.contains("waits for its window"), "{}", run.stderr);
    daemon.stop();
    assert!(sink.stop().1.is_empty());
}

#[test]
fn what_is_no_window_is_refused_at_submit_with_the_remedy() {
    let desk = Desk::new();
    let (message, list) = (desk.file("m.eml", SHARED), desk.file("l.csv", "email\na@example.org\n"));
    for (bad, said) in [
        ("08:00-20:00 Europe/Berln", "IANA"),
        ("8-20 UTC", "HH:MM"),
        ("08:00-08:00 UTC", "00:00-24:00"),
        ("always", "Europe/Berlin"),
    ] {
        let run = desk.submitting(&message, &list, &["--window", bad]).run().expect_code(64);
        assert!(
            run.stderr.contains(said) && run.stderr.contains(bad.split(' ').next().expect("a word")),
            "{}",
            run.stderr
        );
    }
    assert!(desk.jobs().is_empty());
    let job =
        desk.submit(&message, &list, &["--window", "Mon-Fri 08:00-20:00, Sat 10:00-14:00 Europe/Berlin"]);
    assert_eq!(desk.show(&job)["windows"][0], "Mon-Fri 08:00-20:00, Sat 10:00-14:00 Europe/Berlin");
    let run = desk.infeed(&["job", "window", &job, "25:00-26:00 UTC"]).run().expect_code(64);
    assert!(run.stderr.contains("HH:MM"), "{}", run.stderr);
}
