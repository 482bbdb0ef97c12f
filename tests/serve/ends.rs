//! How a daemon ends, in order and not, and what the next one finds.

use rustix::process::Signal;

use crate::common::daemon::{DEADLINE, Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::seed::Seed;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;

const CONNECTIONS: usize = 6;

/// A job of 6,000 that is sent by one daemon after the other, each ended after some growth of the ledger;
/// gives repeats and marks.
fn ended_again_and_again(rounds: usize, repeats: Repeats, end: impl Fn(Daemon, usize)) -> (usize, usize) {
    let seed = Seed::new();
    let mut random = seed.random();
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "5"]);
    let connections = CONNECTIONS.to_string();
    let flags = ["--mta", &sink.address(), "--connections", &connections];
    let job = desk.submit_list("job", 6_000, MERGED, &["--merge"]);
    for round in 0..rounds {
        let daemon = Daemon::start(&desk, &flags);
        let goal = sink.tail().waiting() + random.usize(1..400);
        wait_until("growth of the ledger", DEADLINE, || sink.tail().waiting() >= goal);
        end(daemon, round);
        sink.wait_alone();
        if repeats == Repeats::None {
            assert_eq!(desk.show(&job)["accepted"], sink.tail().waiting(), "an outcome was forgotten");
        }
    }
    let daemon = Daemon::start(&desk, &flags);
    desk.wait_state(&job, "done");
    daemon.stop();
    desk.check();
    let judged = Tally::of(&sink.stop().1).judge(&desk, &job, "job", repeats);
    assert_eq!(judged.accepted, 6_000);
    (judged.repeats, judged.marked)
}

#[test]
fn sigterm_in_mid_flight_repeats_nobody() {
    let end = |daemon: Daemon, round: usize| {
        if round.is_multiple_of(2) {
            daemon.stop();
        } else {
            daemon.signal(Signal::INT);
            daemon.stop_by_itself();
        }
    };
    assert_eq!(ended_again_and_again(6, Repeats::None, end), (0, 0));
}

#[test]
fn a_killed_daemon_repeats_at_most_one_a_connection_and_marks_each() {
    let (repeats, marked) = ended_again_and_again(6, Repeats::Marked, |daemon, _| daemon.kill());
    eprintln!("6 kills: {repeats} repeats, {marked} marked");
    assert!(repeats <= 6 * CONNECTIONS, "{repeats}");
    assert!(marked > 0, "no kill hit a transaction: this test proves nothing");
}

#[test]
fn a_dead_daemons_socket_is_taken_over_and_misleads_no_command() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let socket = desk.spool().join("control.sock");
    let flags = ["--mta", &sink.address()];
    Daemon::start(&desk, &flags).kill();
    assert!(socket.exists(), "a kill leaves the socket's name");
    // with the name there, and nobody behind it
    let job = desk.submit_list("job", 30, SHARED, &[]);
    desk.infeed(&["job", "pause", &job]).run().expect_code(0);
    desk.infeed(&["job", "resume", &job]).run().expect_code(0);
    assert_eq!(desk.status()["owners"], serde_json::json!([]));
    let daemon = Daemon::start(&desk, &flags);
    desk.wait_state(&job, "done");
    daemon.stop();
    assert!(!socket.exists(), "an orderly end takes the name away");
    assert_eq!(sink.stop().1.len(), 30);
}

#[test]
fn commands_that_meet_a_daemons_end_are_carried_out_all_the_same() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "1000"]);
    let mut daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--connections", "2"]);
    let job = desk.submit_list("job", 400, MERGED, &["--merge"]);
    wait_until("mail in flight", DEADLINE, || desk.status()["in_flight"] != 0);
    daemon.signal(Signal::TERM);
    let mut ended = false;
    while !ended {
        // once more, when it has ended
        ended = daemon.has_ended();
        for command in [
            &["job", "pause", &job][..],
            &["job", "show", &job],
            &["job", "resume", &job],
            &["pause", "--all"],
            &["status"],
            &["jobs"],
            &["resume", "--all"],
        ] {
            desk.infeed(command).run().expect_code(0);
        }
    }
    daemon.stop_by_itself();
    let show = desk.infeed(&["job", "cancel", &job, "--json"]).run().expect_code(0).json();
    assert_eq!((&show["state"], &show["pending"]), (&"cancelled".into(), &0.into()), "{show}");
    Tally::of(&sink.stop().1).judge(&desk, &job, "job", Repeats::None);
    desk.check();
}

#[test]
fn silent_connections_keep_no_command_out() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    let socket = desk.spool().join("control.sock");
    let connect = || std::os::unix::net::UnixStream::connect(&socket).expect("the daemon listens");
    let silent: Vec<_> = (0..100).map(|_| connect()).collect();
    assert_eq!(desk.status()["owners"][0]["command"], "serve");
    // each was shown the door
    for mut stream in silent {
        stream.set_read_timeout(Some(DEADLINE)).expect("a time limit");
        assert_eq!(std::io::Read::read(&mut stream, &mut [0; 1]).expect("an end"), 0);
    }
    daemon.stop();
}
