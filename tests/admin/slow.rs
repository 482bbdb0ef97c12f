//! Clients that never come to the point, and many of them: others are served all the same, and mail flows.

use std::io::{Read, Write};
use std::net::TcpStream;

use infeed::admin::CHANGES_MAX;
use infeed::http::CONNECTIONS_MAX;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use super::client::{Api, DEADLINE};
use crate::common::daemon::MERGED;
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;

/// Room for many sockets in this process.
fn room_for_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("as much as there may be");
}

/// Sockets of the daemon, and whatever else it has open.
fn open_files(api: &Api) -> usize {
    api.daemon.footprint().1
}

#[test]
fn a_thousand_slow_clients_are_bounded_and_neither_calls_nor_mail_wait_for_them() {
    room_for_files();
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "5"]);
    let api = Api::start(&desk, &["--mta", &sink.address(), "--connections", "2"]);
    let before = open_files(&api);
    let job = desk.submit_list("job", 1_000, MERGED, &["--merge"]);
    let mut slow: Vec<TcpStream> = Vec::new();
    for i in 0..1_000 {
        let mut stream = api.connect();
        let part: &[u8] = match i % 4 {
            // a head that doesn't end, a body that doesn't come, not a word, and an answer that isn't read
            0 => b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nX: ",
            1 => b"POST /api/v1/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
            2 => b"",
            _ => b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
        };
        // whoever made room for others can't write any more
        if let Err(e) = stream.write_all(part) {
            assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock);
        }
        slow.push(stream);
        if i % 100 == 99 {
            assert_eq!(api.get("/api/v1/status").status, 200, "after {i}");
            let now = open_files(&api);
            assert!(now <= before + 2 * CONNECTIONS_MAX + 64, "{before} files, and {now} after {i} clients");
        }
    }
    assert_eq!(api.done("POST", "/api/v1/connections", Some(&json!({ "connections": 6 }))), 1);
    desk.wait_state(&job, "done");
    assert_eq!(api.get("/api/v1/status").status, 200);
    drop(slow);
    api.daemon.stop();
    let tally = Tally::of(&sink.stop().1);
    assert_eq!(tally.judge(&desk, &job, "job", Repeats::None).accepted, 1_000);
}

#[test]
fn a_head_or_a_body_that_does_not_come_is_not_waited_for_without_end() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    let typed = "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"reason\":";
    let (mut head, mut body) = (api.connect(), api.connect());
    head.write_all(b"GET / HTTP/1.1\r\nHost: ").expect("sent");
    body.write_all((api.head("POST", "/api/v1/pause") + typed).as_bytes()).expect("sent");
    let ends = |stream: &mut TcpStream| {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).expect("an end, before the deadline");
        String::from_utf8_lossy(&text).into_owned()
    };
    let said = ends(&mut body);
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    let said = ends(&mut head);
    assert!(!said.contains(" 200 "), "{said}");
    assert_eq!(desk.status()["standstill"], serde_json::Value::Null, "half a call is none");
    api.daemon.stop();
}

/// A cancellation is answered once what is in flight has ended; whoever hangs up before leaves it behind.
#[test]
fn changes_that_wait_are_bounded_those_of_callers_that_hung_up_among_them() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--service-us", "300000000"]);
    let api = Api::start(&desk, &["--mta", &sink.address(), "--connections", "1"]);
    let job = desk.submit_list("job", 10, MERGED, &["--merge"]);
    wait_until("transaction in flight", DEADLINE, || {
        api.get("/api/v1/status").json()["in_flight"].as_u64() >= Some(1)
    });
    let cancel = api.head("POST", &format!("/api/v1/jobs/{job}/cancel")) + "Content-Length: 0\r\n\r\n";
    // some more than there is room for: what asks below may have a place while one of them comes
    let mut wait: Vec<TcpStream> = (0..CHANGES_MAX + 8).map(|_| api.connect()).collect();
    for caller in &mut wait {
        caller.write_all(cancel.as_bytes()).expect("sent");
    }
    wait_until("refusal", DEADLINE, || {
        let answer = api.call("POST", "/api/v1/connections", Some(&json!({ "connections": 6 })));
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        answer.status == 503
    });
    drop(wait);
    let (status, text, _) = api.refused("POST", "/api/v1/connections", Some(&json!({ "connections": 7 })));
    assert_eq!((status, text.starts_with(&CHANGES_MAX.to_string())), (503, true), "{text}");
    assert_eq!(api.get("/api/v1/status").status, 200, "who only looks is answered");
    drop(api);
    drop(sink);
}
