//! Fuzz target: what comes over the control socket, at either end. (`tests/doors.rs` says the same corpus to
//! a running owner.)

use super::protocol::{JobCounts, REQUEST_BYTES_MAX, Reply, Request};
use super::status::Status;
use crate::fuzzing::{Fuzz, as_it_is, is_not_quadratic};

const CONTROL: Fuzz = Fuzz {
    name: "control",
    words: &[
        b"{\"do\":\"",
        b"\"job\":\"",
        b"\"reason\":",
        b"\"mta\":null",
        b"\"accept_refusals\":true",
        b"status",
        b"pause",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\u0000",
        b"\\ud800",
        b"..",
        b"/",
        b"\n",
        b"1e400",
        b"-0",
        b"{\"ok\":",
        b"{\"error\":{\"text\":\"x\",\"exit_code\":",
    ],
    mend: as_it_is,
    target: control,
};

fn control(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(request) = serde_json::from_str::<Request>(text) {
        let again = serde_json::to_string(&request).expect("plain data");
        assert!(again.len() as u64 <= REQUEST_BYTES_MAX + 6 * input.len() as u64);
        assert_eq!(serde_json::from_str::<Request>(&again).ok(), Some(request));
        assert!(!again.contains('\n'), "a request is one line");
    }
    if let Ok(reply) = serde_json::from_str::<Reply>(text) {
        let again = serde_json::to_string(&reply).expect("plain data");
        assert!(serde_json::from_str::<Reply>(&again).is_ok(), "{again}");
    }
    drop(serde_json::from_str::<Status>(text));
    drop(serde_json::from_str::<JobCounts>(text));
}

#[test]
fn requests_and_replies() {
    CONTROL.run();
}

#[test]
fn a_request_of_brackets_is_refused_and_not_followed_down() {
    for bracket in ["[", "{\"a\":"] {
        is_not_quadratic("brackets", |n| bracket.repeat(n / bracket.len()).into_bytes(), control);
    }
}
