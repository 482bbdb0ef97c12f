//! HTTP that is wrong: heads and bodies that are too large, and requests that two readers could read in two ways.

use serde_json::{Value, json};

use super::client::{Answer, Api};
use crate::common::desk::Desk;

/// Status lines in what came back: each is one request that was read.
fn answers(said: &str) -> usize {
    said.matches("HTTP/1.1 ").count()
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_read_in_none() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    // what would be smuggled in: a call of its own, with the token
    let hidden = api.head("POST", "/api/v1/pause") + "Content-Length: 0\r\n\r\n";
    let length = hidden.len();
    let head = |headers: &str| api.head("POST", "/api/v1/resume") + headers + "\r\n";
    let cases = [
        // two lengths
        head(&format!("Content-Length: 0\r\nContent-Length: {length}\r\n")),
        head(&format!("Content-Length: {length}\r\nContent-Length: 0\r\n")),
        head(&format!("Content-Length: 0, {length}\r\n")),
        head("Content-Length: +0\r\n"),
        head("Content-Length: -1\r\n"),
        head("Content-Length: 0x10\r\n"),
        head("Content-Length: 99999999999999999999\r\n"),
        // a length, and chunks
        head(&format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n")) + "0\r\n\r\n",
        head(&format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n")) + "0\r\n\r\n",
        head("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n",
        head("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") + "0\r\n\r\n",
        head("Transfer-Encoding: xchunked\r\n"),
        head("Transfer-Encoding: gzip, chunked\r\n") + "0\r\n\r\n",
        head("Transfer-Encoding:\tchunked\r\n") + "0\r\n\r\n",
        // a header that another reader sees elsewhere, or not at all
        head(&format!("Content-Length : {length}\r\n")),
        head(&format!("X: y\r\n Content-Length: {length}\r\n")),
        head(&format!("X: y\r\n\tContent-Length: {length}\r\n")),
        head("X: y\rContent-Length: 7\r\n"),
        head("X: a\0b\r\n"),
        head("X y: z\r\n"),
        head(": z\r\n"),
        head("Transfer\u{a0}Encoding: chunked\r\n"),
        " GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        api.head("GET", "/api/v1/status").replace("HTTP/1.1", "HTTP/1.1 x") + "\r\n",
        api.head("GET", "/api/v1/status").replace("HTTP/1.1", "HTTP/2.0") + "\r\n",
        api.head("GET", "/api/v1/sta\0tus") + "\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ];
    for case in &cases {
        let said = api.raw((case.clone() + &hidden).as_bytes());
        let first = Answer::of(&said).map_or(400, |answer| answer.status);
        assert!(matches!(first, 400 | 411 | 413 | 505), "{case:?}: {said}");
        assert!(answers(&said) <= 1, "{case:?}: {said}");
    }
    // a line that ends in LF alone ends; either it is no request, or it is the one that it looks like
    let bare =
        api.head("POST", "/api/v1/resume").replace("\r\n", "\n") + "Content-Length: 0\nConnection: close\n\n";
    let said = api.raw((bare + &hidden).as_bytes());
    assert_eq!(answers(&said), 1, "{said}");
    assert_eq!(desk.status()["standstill"], Value::Null, "nothing was smuggled in");
    // to make sure: what was hidden is a call that would have been carried out
    let said = api.raw(hidden.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes());
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert!(desk.status()["standstill"]["reason"].is_string());
    api.daemon.stop();
}

#[test]
fn what_is_too_large_is_refused_before_it_is_there() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    let max = infeed::admin::BODY_BYTES_MAX;
    let typed = "Content-Type: application/json\r\n";
    let reason = |octets: usize| json!({ "reason": "x".repeat(octets) }).to_string();
    // as large as may be, and larger by one
    let around = reason(0).len();
    let answer = api.call("POST", "/api/v1/pause", Some(&json!({ "reason": "x".repeat(max - around) })));
    assert_eq!(answer.status, 200);
    let head = api.head("POST", "/api/v1/pause") + typed;
    for length in [max + 1, 10 * max, 1 << 40] {
        let said = api.raw(format!("{head}Content-Length: {length}\r\n\r\n").as_bytes());
        assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    }
    // a client that waits to be asked isn't asked
    let expects = format!("{head}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", max + 1);
    assert!(api.raw(expects.as_bytes()).starts_with("HTTP/1.1 413 "));
    // without the token nobody looks at a body
    let open =
        format!("POST /api/v1/pause HTTP/1.1\r\nHost: localhost\r\n{typed}Content-Length: {max}\r\n\r\n");
    assert!(api.raw(open.as_bytes()).starts_with("HTTP/1.1 401 "));
    // chunks without end
    let mut endless = (head.clone() + "Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..64 {
        endless.extend_from_slice(format!("1000\r\n{}\r\n", "x".repeat(0x1000)).as_bytes());
    }
    let said = api.raw(&endless);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 411 "), "{said}");
    assert!(answers(&said) <= 1, "{said}");
    // heads
    for large in [
        format!("X: {}\r\n", "x".repeat(infeed::http::HEAD_BYTES_MAX)),
        (0..5_000).map(|i| format!("X{i}: y\r\n")).collect(),
        (0..200).map(|i| format!("X{i}: y\r\n")).collect(),
    ] {
        let said = api.raw((api.head("GET", "/api/v1/status") + &large + "\r\n").as_bytes());
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431 "), "{said}");
    }
    let said =
        api.raw(format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(100_000)).as_bytes());
    assert!(!said.contains(" 200 "), "{said}");
    // JSON that goes down without end
    let deep = "[".repeat(max);
    let said = api.raw(format!("{head}Content-Length: {max}\r\nConnection: close\r\n\r\n{deep}").as_bytes());
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    for (body, word) in
        [("[]", "object"), ("null", "object"), ("{", "JSON"), ("{}{}", "JSON"), ("\u{feff}{}", "JSON")]
    {
        let answer = api.send(
            "POST",
            "/api/v1/pause",
            &format!("Authorization: Bearer {}\r\n{typed}", api.token),
            Some(body),
        );
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.body.contains(word), "{answer:?}");
    }
    assert_eq!(api.get("/api/v1/status").status, 200);
    api.daemon.stop();
}

#[test]
fn one_connection_serves_call_after_call() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    let one = api.head("GET", "/api/v1/jobs") + "\r\n";
    let last = api.head("GET", "/api/v1/jobs") + "Connection: close\r\n\r\n";
    let said = api.raw((one.repeat(3) + &last).as_bytes());
    assert_eq!(said.matches("HTTP/1.1 200 ").count(), 4, "{said}");
    assert_eq!(said.matches("\r\n\r\n[]\n").count(), 4, "{said}");
    api.daemon.stop();
}
