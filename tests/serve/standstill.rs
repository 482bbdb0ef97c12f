//! `pause --all`: everything stands still until `resume --all`, also what comes later and over a restart.

use crate::common::daemon::{DEADLINE, Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;

#[test]
fn pause_all_stops_everything_until_resume_all_and_its_numbers_are_the_sinks() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "10"]);
    let flags = ["--mta", &sink.address(), "--connections", "6"];
    let daemon = Daemon::start(&desk, &flags);
    let first = desk.submit_list("first", 1_500, MERGED, &["--merge"]);
    let second = desk.submit_list("second", 1_500, MERGED, &["--merge"]);
    wait_until("200 deliveries", DEADLINE, || sink.tail().waiting() >= 200);

    let pause = ["pause", "--all", "--json", "--reason", "the MTA is being moved"];
    let said = desk.infeed(&pause).run().expect_code(0).json();
    assert_eq!((&said["paused"], &said["changed"]), (&true.into(), &true.into()), "{said}");
    let third = desk.submit_list("third", 40, SHARED, &[]);
    // what was in transactions ends, and is all that still does
    wait_until("end of what was in flight", DEADLINE, || desk.status()["in_flight"] == 0);
    let went = sink.tail().waiting() as u64;
    let count = |name: &str| said[name].as_u64().expect("a count");
    let least = count("accepted");
    assert!(least <= went && went <= least + count("in_flight"), "{went} went; said was {said}");
    assert_eq!(least + count("in_flight") + count("waiting"), 3_000, "{said}");
    let again = desk.infeed(&pause).run().expect_code(0).json();
    assert_eq!((&again["changed"], &again["accepted"]), (&false.into(), &went.into()), "{again}");
    let status = desk.status();
    assert_eq!(status["standstill"]["reason"], "the MTA is being moved", "{status}");
    let screen = desk.infeed(&["status"]).run().expect_code(0).stdout;
    assert!(screen.contains("EVERYTHING IS PAUSED") && screen.contains("infeed resume --all"), "{screen}");
    assert!(daemon_is_asked_in_vain(&desk));

    // the standstill is the spool's, not the process's
    daemon.stop();
    let daemon = Daemon::start(&desk, &flags);
    let fourth = desk.submit_list("fourth", 40, SHARED, &[]);
    assert!(daemon_is_asked_in_vain(&desk));
    assert_eq!(sink.tail().waiting() as u64, went, "mail went out while everything was paused");

    let said = desk.infeed(&["resume", "--all", "--json"]).run().expect_code(0).json();
    assert_eq!((&said["paused"], &said["changed"]), (&false.into(), &true.into()), "{said}");
    let jobs = [(&first, "first"), (&second, "second"), (&third, "third"), (&fourth, "fourth")];
    for (job, _) in jobs {
        desk.wait_state(job, "done");
    }
    daemon.stop();
    let tally = Tally::of(&sink.stop().1);
    for (job, tag) in jobs {
        tally.judge(&desk, job, tag, Repeats::None);
    }
    assert_eq!(tally.all(), 3_080);
    desk.check();
}

/// A `send` that follows is told of the standstill, and ends with 75.
fn daemon_is_asked_in_vain(desk: &Desk) -> bool {
    let (message, list) = (desk.file("vain.eml", SHARED), desk.file("vain.txt", "vain@x.example\n"));
    let send = desk.infeed(&["send", "--yes", "--again"]).arg(message).arg("--to").arg(list).run();
    let send = send.expect_code(75);
    let job = desk.jobs().iter().find(|job| job["recipients"] == 1).expect("committed")["job"].clone();
    desk.infeed(&["job", "cancel", job.as_str().expect("an id")]).run().expect_code(0);
    desk.infeed(&["job", "remove", job.as_str().expect("an id")]).run().expect_code(0);
    send.stderr.contains("everything is paused")
}
