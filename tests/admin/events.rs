//! The status as a stream: at once, again and again, to so many, until the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use infeed::admin::SUBSCRIBERS_MAX;
use serde_json::{Value, json};

use super::client::{Api, DEADLINE};
use crate::common::daemon::SHARED;
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;

/// A stream that stands.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// The stream, or the status that it was refused with.
    fn open(api: &Api) -> Result<Self, u16> {
        let mut stream = api.connect();
        stream.write_all((api.head("GET", "/api/v1/events") + "\r\n").as_bytes()).expect("sent");
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a head");
            if line == "\r\n" {
                break;
            }
            assert!(!line.is_empty(), "it ended in the head: {head:?}");
            head.push(line.to_ascii_lowercase());
        }
        let status = head[0].split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        if status != 200 {
            return Err(status);
        }
        assert!(head.iter().any(|line| line.trim() == "content-type: text/event-stream"), "{head:?}");
        Ok(Self(reader))
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).expect("a line") > 0).then(|| line.trim_end().to_owned())
    }

    /// One chunk of the answer; `None`: it has ended in order.
    fn chunk(&mut self) -> Option<String> {
        let size = self.line().expect("a chunk, not the end of the connection");
        let size = usize::from_str_radix(&size, 16).expect("a size");
        let mut octets = vec![0; size + 2];
        self.0.read_exact(&mut octets).expect("a chunk");
        octets.truncate(size);
        (size > 0).then(|| String::from_utf8(octets).expect("text"))
    }

    /// The next status.
    fn status(&mut self) -> Option<Value> {
        let text = self.chunk()?;
        let data = text.strip_prefix("event: status\ndata: ").and_then(|text| text.strip_suffix("\n\n"));
        let data = data.unwrap_or_else(|| panic!("no event: {text:?}"));
        assert!(!data.contains('\n'), "one line");
        Some(serde_json::from_str(data).expect("JSON"))
    }
}

#[test]
fn the_status_comes_at_once_and_goes_on_and_ends_with_the_daemon() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let api = Api::start(&desk, &["--mta", &sink.address()]);
    let mut streams: Vec<Stream> =
        (0..SUBSCRIBERS_MAX).map(|i| Stream::open(&api).unwrap_or_else(|e| panic!("{i}: {e}"))).collect();
    let first = streams[0].status().expect("a status");
    let asked = api.done("GET", "/api/v1/status", None);
    assert_eq!((&first["spool"], &first["owners"][0]["who"]), (&asked["spool"], &asked["owners"][0]["who"]));
    assert_eq!(Stream::open(&api).err(), Some(503), "so many, and no more");
    let job = desk.submit_list("job", 200, SHARED, &[]);
    desk.wait_state(&job, "done");
    for stream in &mut streams {
        wait_until("the end of the job in the stream", DEADLINE, || {
            stream.status().expect("it goes on")["outcomes"]["accepted"] == 200
        });
    }
    // one that goes makes room
    drop(streams.pop());
    wait_until("room for one more", DEADLINE, || Stream::open(&api).is_ok());
    api.done("POST", "/api/v1/shutdown", None);
    for stream in &mut streams {
        while stream.status().is_some() {}
        let rest = stream.line();
        assert!(rest.is_none(), "after the end: {rest:?}");
    }
    api.daemon.stop_by_itself();
    sink.stop();
}

#[test]
fn whoever_does_not_read_is_let_go_of_and_holds_nothing() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    // a long status, so that soon nothing of it fits into what the kernel holds
    for tag in ["a", "b", "c", "d", "e", "f"] {
        let job = desk.submit_list(tag, 1, SHARED, &[]);
        let reason = json!({ "reason": "x".repeat(60_000) });
        api.done("POST", &format!("/api/v1/jobs/{job}/pause"), Some(&reason));
    }
    let stalled: Vec<Stream> = (0..SUBSCRIBERS_MAX).map(|_| Stream::open(&api).expect("a stream")).collect();
    assert_eq!(Stream::open(&api).err(), Some(503));
    let mut reader = None;
    wait_until("their end", DEADLINE, || {
        reader = Stream::open(&api).ok();
        reader.is_some()
    });
    let status = reader.and_then(|mut stream| stream.status()).expect("a status");
    assert_eq!(status["jobs"]["paused"], 6);
    drop(stalled);
    let log = api.daemon.stop().stderr;
    assert!(log.contains("doesn't read its events"), "{log}");
}
