//! Several processes that want the same slices: at no moment do two have one.

use std::time::Duration;

use rustix::process::Signal;

use crate::common::daemon::{Daemon, list};
use crate::common::seed::Seed;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;
use crate::rounds::{Campaign, DEADLINE, MERGED};

/// How many are started in one moment.
const AT_ONCE: usize = 5;
const ROUNDS: usize = 8;

#[test]
fn of_many_drains_started_together_no_two_ever_have_a_slice_whatever_their_ranges() {
    let seed = Seed::new();
    let mut random = seed.random();
    let mut campaign = Campaign::new(4_000, MERGED, &["--merge"], 4);
    let (mut refused, mut had) = (0, 0);
    for _ in 0..ROUNDS {
        // overlapping at different k: slices of 1/16, 1/4 and 1/256 of the whole
        let mut drains = Vec::new();
        for _ in 0..AT_ONCE {
            let (count, slices) = match random.usize(0..4) {
                0 => ("16", "0-15".to_owned()),
                1 => ("16", "3-9".to_owned()),
                2 => ("4", format!("{}", random.usize(0..4))),
                _ => ("256", format!("{}-{}", random.usize(0..100), random.usize(100..256))),
            };
            let drain = campaign
                .desk
                .draining(&campaign.sink.address(), 2)
                .args(["--slices", &slices])
                .env("INFEED_SPOOL_SLICES", count)
                .spawn();
            drains.push(drain);
        }
        campaign.wait_taken(random.usize(1..200), &mut drains);
        for drain in &mut drains {
            // those that were refused have ended
            if drain.try_wait().is_none() {
                drain.signal(Signal::TERM);
            }
        }
        for drain in drains {
            let run = drain.wait(DEADLINE);
            let said = run.json();
            if said["ended"] == "owned" {
                assert!(said["owner"].as_str().is_some_and(|who| who.contains("process ")), "{said}");
                refused += 1;
            } else {
                assert!(matches!(run.code, Some(0 | 75)), "{run:?}");
                had += 1;
            }
        }
        // two owners of a slice would have sent somebody twice; nobody may be, for nobody was killed
        campaign.end_round(0);
    }
    assert!(refused > 0 && had >= ROUNDS, "{refused} refused, {had} drained: this proves nothing");
    assert_eq!(campaign.finish(), 0);
}

#[test]
fn a_stopped_owner_is_named_and_not_replaced_and_goes_on_where_it_was() {
    let mut campaign = Campaign::new(2_000, MERGED, &["--merge"], 4);
    let mut first = campaign.start(&["0-15"], 4, 1, 1);
    assert!(campaign.wait_taken(100, &mut first));
    first[0].signal(Signal::STOP);
    for slices in ["0-15", "7", "0-3"] {
        let second = campaign
            .desk
            .draining(&campaign.sink.address(), 4)
            .args(["--slices", slices])
            .run()
            .expect_code(0);
        let said = second.json();
        let pid = first[0].pid().to_string();
        assert_eq!(said["ended"], "owned", "{said}");
        assert!(said["owner"].as_str().is_some_and(|owner| owner.contains(&pid)), "{said}");
    }
    first[0].signal(Signal::CONT);
    for drain in first {
        drain.wait(DEADLINE).expect_code(0);
    }
    campaign.end_round(0);
    assert_eq!(campaign.finish(), 0);
}

#[test]
fn what_a_killed_owner_left_in_the_locks_blocks_nobody() {
    let mut campaign = Campaign::new(2_000, MERGED, &["--merge"], 4);
    for _ in 0..3 {
        let mut first = campaign.start(&["0-15"], 4, 1, 1);
        assert!(campaign.wait_taken(20, &mut first));
        first[0].signal(Signal::KILL);
        for drain in first {
            assert_eq!(drain.wait(DEADLINE).code, None);
        }
        campaign.end_round(4);
    }
    // its name is still there, and anything else that somebody may have written
    let locks = campaign.desk.spool().join("locks");
    let mut octets = std::fs::read(&locks).expect("the locks");
    octets.resize(4096 + 256 * 64, 0);
    for (at, octet) in octets.iter_mut().enumerate().skip(4096) {
        *octet = b"process 1 since 2026-01-01T00:00:00.000Z "[at % 41];
    }
    std::fs::write(&locks, octets).expect("the locks");
    assert!(campaign.finish() <= 12);
}

#[test]
fn a_daemon_that_is_stopped_while_its_mta_hangs_up_goes_on_and_marks_what_it_must() {
    let desk = crate::common::desk::Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "4"]);
    let port = sink.port();
    let (message, list) = (desk.file("m.eml", MERGED), desk.file("list.csv", list("s", 4_000)));
    let job = desk.submit(&message, &list, &["--merge"]);
    let flags = ["--mta", &sink.address(), "--connections", "4", "--set", "mta.reconnect_delay_ms_max=200"];
    let daemon = Daemon::start(&desk, &flags);
    let tail = sink.tail();
    wait_until("deliveries", DEADLINE, || tail.waiting() > 200);
    daemon.signal(Signal::STOP);
    // minutes in a long run; what matters is that the MTA is gone, and another one there, when it wakes
    sink.stop();
    let sink = SinkProcess::start_at(&desk.path("sink"), port, &[]);
    let pause = if crate::common::mta::is_long() { 150 } else { 2 };
    std::thread::sleep(Duration::from_secs(pause));
    daemon.signal(Signal::CONT);
    let show = desk.wait_state(&job, "done");
    assert_eq!(show["accepted"], 4_000, "{show}");
    daemon.stop();
    let report = desk.report(&job);
    let (_, ledger) = sink.stop();
    let mut times = std::collections::HashMap::new();
    for entry in &ledger {
        *times.entry(entry.recipient.as_str()).or_insert(0) += 1;
    }
    for row in &report {
        let times = times.get(row.address.as_str()).copied().unwrap_or(0);
        assert!(times == 1 || times == 2 && row.possible_repeat, "{times} times: {row:?}");
    }
    assert!(ledger.len() <= report.len() + 4, "{} deliveries", ledger.len());
}
