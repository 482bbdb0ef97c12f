//! A daemon with its admin API, and whoever calls it: HTTP by hand, so that it can be wrong, too.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::daemon::Daemon;
use crate::common::desk::Desk;
use crate::common::port::free_port;
use crate::common::wait::wait_for;

/// The longest that an answer may take, on a machine that is busy.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How a job is submitted that lasts until its rate is lifted.
pub const LASTS: &[&str] = &["--merge", "--messages-per-second", "20"];

/// A daemon that answers.
pub struct Api {
    pub daemon: Daemon,
    pub port: u16,
    pub token: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// In lower case, with their values.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// `None`: it is none.
    pub fn of(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let (first, rest) = head.split_once("\r\n")?;
        let status = first.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
        let pair = |line: &str| {
            let (name, value) = line.split_once(':').expect("a header");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Some(Self { status, headers: rest.split("\r\n").map(pair).collect(), body: body.to_owned() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Api {
    /// `infeed serve --admin … FLAGS` on the desk.
    pub fn start(desk: &Desk, flags: &[&str]) -> Self {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let daemon = Daemon::start(desk, &[&["--admin", &listen], flags].concat());
        Self { daemon, port, token: token(desk) }
    }

    /// `GET` with the token.
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    /// A call with the token.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let authorization = format!("Authorization: Bearer {}\r\n", self.token);
        let body = body.map(Value::to_string);
        let typed = if body.is_some() { "Content-Type: application/json\r\n" } else { "" };
        self.send(method, path, &(authorization + typed), body.as_deref())
    }

    /// The same, which is done, and its answer.
    pub fn done(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.call(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json()
    }

    /// The same, which is refused: status, error, exit code.
    pub fn refused(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String, u64) {
        let answer = self.call(method, path, body);
        let said = answer.json();
        let text = said["error"].as_str().unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
        (answer.status, text.to_owned(), said["exit_code"].as_u64().expect("an exit code"))
    }

    /// With these headers beside `Host` and the length.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: Option<&str>) -> Answer {
        let port = self.port;
        let length = body.map_or(String::new(), |body| format!("Content-Length: {}\r\n", body.len()));
        let says_host = headers.lines().any(|line| line.to_ascii_lowercase().starts_with("host:"));
        let host = if says_host { String::new() } else { format!("Host: localhost:{port}\r\n") };
        let body = body.unwrap_or_default();
        let text =
            format!("{method} {path} HTTP/1.1\r\n{host}{headers}{length}Connection: close\r\n\r\n{body}");
        let said = self.raw(text.as_bytes());
        Answer::of(&said).unwrap_or_else(|| panic!("{text:?}: no answer in {said:?}"))
    }

    /// A request head without its end, with the token.
    pub fn head(&self, method: &str, path: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: Bearer {}\r\n",
            self.port, self.token
        )
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    }

    /// All that comes back on one connection until it ends; it may be cut off in the middle.
    pub fn raw(&self, octets: &[u8]) -> String {
        let mut stream = self.connect();
        let sent = stream.write_all(octets);
        let mut text = Vec::new();
        let read = stream.read_to_end(&mut text);
        let kinds = [sent.err(), read.err()].map(|e| e.map(|e| e.kind()));
        assert!(!kinds.contains(&Some(std::io::ErrorKind::WouldBlock)), "it neither answers nor ends");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The job goes on without a rate.
    pub fn lift(&self, job: &str) {
        let none = json!({ "messages_per_second": null });
        self.done("POST", &format!("/api/v1/jobs/{job}/rate"), Some(&none));
    }

    /// What `status` says of one MTA.
    pub fn mta(&self, name: &str) -> Value {
        let status = self.done("GET", "/api/v1/status", None);
        let mtas = status["mtas"].as_array().expect("MTAs");
        mtas.iter().find(|mta| mta["name"] == name).unwrap_or_else(|| panic!("no {name}: {status}")).clone()
    }
}

/// The token of the desk's spool.
pub fn token(desk: &Desk) -> String {
    let path = desk.spool().join("admin.token");
    let text = wait_for("token", DEADLINE, || std::fs::read_to_string(&path).ok());
    text.trim().to_owned()
}

/// Asks on the control socket; the whole reply.
pub fn socket(desk: &Desk, request: &Value) -> Value {
    let mut stream = UnixStream::connect(desk.spool().join("control.sock")).expect("the daemon listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.write_all(format!("{request}\n").as_bytes()).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("an end");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    serde_json::from_str(&answer).expect("JSON")
}

/// What it answers to something that is done.
pub fn socket_ok(desk: &Desk, request: &Value) -> Value {
    let reply = socket(desk, request);
    assert!(reply["error"].is_null(), "{request}: {reply}");
    reply["ok"].clone()
}

/// A job as the control socket tells it.
pub fn socket_job(desk: &Desk, job: &str) -> Value {
    socket_ok(desk, &json!({ "do": "job", "job": job }))
}
