//! The control socket against whoever doesn't speak its language.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::common::daemon::{DEADLINE, Daemon};
use crate::common::desk::Desk;

/// Says something, and gives the answer.
fn say(desk: &Desk, octets: &[u8]) -> String {
    let mut stream = UnixStream::connect(desk.spool().join("control.sock")).expect("the daemon listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.write_all(octets).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("an end");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, or none");
    answer
}

#[test]
fn what_is_no_request_is_answered_with_an_error_and_harms_nobody() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &["--mta", "127.0.0.1:1"]);
    let long = [b'x'; 64 * 1024];
    let cases: [&[u8]; 6] = [
        b"hello\n",
        b"\xff\xfe\n",
        b"{\"do\":\"fly\"}\n",
        b"{\"do\":\"pause\",\"job\":\"../../etc\"}\n",
        b"{\"do\":\"pause\",\"job\":\"no-such-job\"}\n",
        &long,
    ];
    for case in cases {
        let answer = say(&desk, case);
        let start = String::from_utf8_lossy(&case[..case.len().min(40)]).into_owned();
        // what isn't UTF-8 isn't read at all
        if std::str::from_utf8(case).is_err() {
            assert_eq!(answer, "", "{start:?}");
            continue;
        }
        let answer: serde_json::Value =
            serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{start}: {e}"));
        assert!(answer["error"]["text"].is_string(), "{start}: {answer}");
    }
    assert_eq!(say(&desk, b""), "", "a probe");
    // more than it serves side by side, none of them with a word to say
    let silent: Vec<_> = (0..80)
        .map(|_| UnixStream::connect(desk.spool().join("control.sock")).expect("in its backlog"))
        .collect();
    drop(silent);
    assert_eq!(desk.status()["owners"][0]["command"], "serve");
    daemon.stop();
}

#[test]
fn whatever_the_fuzz_corpus_says_the_owner_goes_on_answering() {
    let desk = Desk::new();
    let daemon = Daemon::start(&desk, &["--mta", "127.0.0.1:1"]);
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/control");
    for entry in std::fs::read_dir(corpus).expect("the corpus") {
        let path = entry.expect("a file of it").path();
        let input = std::fs::read(&path).expect("a file that can be read");
        let answer = say(&desk, &input);
        // what isn't UTF-8 isn't read at all; all else has one line for an answer
        assert!(answer.is_empty() || answer.ends_with('\n') && answer.lines().count() == 1, "{answer}");
        let is_text = std::str::from_utf8(&input).is_ok();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&answer).is_ok(), is_text, "{}", path.display());
    }
    assert_eq!(desk.status()["owners"][0]["command"], "serve");
    daemon.stop();
}
