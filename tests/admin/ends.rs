//! How a daemon ends that is told to: at once, or when nothing is due.

use serde_json::{Value, json};

use super::client::{Api, DEADLINE, LASTS};
use crate::common::daemon::{Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;

#[test]
fn shutdown_ends_it_in_order_and_the_rest_waits() {
    for by_command in [false, true] {
        let desk = Desk::new();
        let sink = SinkProcess::start(&desk.path("sink"), &[]);
        let api = Api::start(&desk, &["--mta", &sink.address(), "--connections", "2"]);
        let job = desk.submit_list("job", 300, MERGED, LASTS);
        wait_until("a delivery", DEADLINE, || sink.tail().waiting() > 0);
        if by_command {
            desk.infeed(&["stop"]).run().expect_code(0);
        } else {
            assert_eq!(api.done("POST", "/api/v1/shutdown", None), Value::Null);
        }
        let log = api.daemon.stop_by_itself().stderr;
        assert!(log.contains("asked to stop") && log.contains("stopped: "), "{log}");
        assert_eq!(desk.show(&job)["state"], "active");
        // in order: nobody is sent to twice by the next run
        desk.infeed(&["job", "rate", &job, "none"]).run().expect_code(0);
        desk.draining(&sink.address(), 4).run().expect_code(0);
        let tally = Tally::of(&sink.stop().1);
        assert_eq!(tally.judge(&desk, &job, "job", Repeats::None).accepted, 300);
    }
}

#[test]
fn a_drain_finishes_what_is_there_leaves_what_comes_and_ends() {
    for by_command in [false, true] {
        let desk = Desk::new();
        let sink = SinkProcess::start(&desk.path("sink"), &[]);
        let api = Api::start(&desk, &["--mta", &sink.address(), "--connections", "2"]);
        let job = desk.submit_list("job", 300, MERGED, LASTS);
        // somebody waits for a retry that is far off
        let (message, list) =
            (desk.file("m.eml", SHARED), desk.file("list.txt", "defer-451-99x.a@d.example\n"));
        let deferred = desk.submit(&message, &list, &[]);
        wait_until("a delivery", DEADLINE, || sink.tail().waiting() > 0);
        if by_command {
            desk.infeed(&["stop", "--drain"]).run().expect_code(0);
        } else {
            assert_eq!(api.done("POST", "/api/v1/drain", None), Value::Null);
        }
        let status = desk.status();
        assert!(status["note"].as_str().is_none_or(|note| note.contains("drain")), "{status}");
        let late = desk.submit_list("late", 10, SHARED, &[]);
        assert_ne!(desk.show(&job)["state"], "done", "it is at it still");
        api.lift(&job);
        let log = api.daemon.stop_by_itself().stderr;
        assert!(log.contains("new jobs are left"), "{log}");
        assert_eq!(desk.show(&job)["state"], "done", "what was there is sent");
        assert_eq!(desk.show(&deferred)["deferred"], 1, "what was deferred waits");
        let show = desk.show(&late);
        assert_eq!((&show["state"], &show["pending"]), (&"active".into(), &10.into()), "what came waits");
        // the next one takes it up
        let next = Daemon::start(&desk, &["--mta", &sink.address()]);
        desk.wait_state(&late, "done");
        next.stop();
        let tally = Tally::of(&sink.stop().1);
        assert_eq!(tally.judge(&desk, &job, "job", Repeats::None).accepted, 300);
        desk.check();
    }
}

#[test]
fn nobody_to_stop_is_said() {
    let desk = Desk::new();
    for command in [&["stop"][..], &["stop", "--drain"], &["domain", "rate", "d.example", "none"]] {
        let run = desk.infeed(command).run().expect_code(69);
        assert!(run.stderr.contains("infeed serve"), "{}", run.stderr);
    }
}

#[test]
fn whoever_waits_for_the_spool_says_so_and_takes_over() {
    let desk = Desk::new();
    let first = Daemon::start(&desk, &["--mta", "127.0.0.1:1"]);
    let port = crate::common::port::free_port();
    let listen = format!("127.0.0.1:{port}");
    let running = desk.infeed(&["serve", "--mta", "127.0.0.1:1", "--admin", &listen]).spawn();
    let token = super::client::token(&desk);
    let api = Api { daemon: Daemon::of(running), port, token };
    wait_until("its port", DEADLINE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let (status, text, _) = api.refused("GET", "/api/v1/status", None);
    assert!(status == 503 && text.contains("another process"), "{status} {text}");
    assert_eq!(api.refused("GET", "/api/v1/events", None).0, 503);
    assert_eq!(api.get("/").status, 200, "the page is there");
    first.stop();
    wait_until("its turn", DEADLINE, || api.get("/api/v1/status").status == 200);
    assert_eq!(api.done("POST", "/api/v1/shutdown", Some(&json!({}))), Value::Null);
    api.daemon.stop_by_itself();
}
