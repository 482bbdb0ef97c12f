//! A scrape, as plain HTTP over a socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::wait::wait_for;

/// The longest that an answer may take, on a machine that is busy.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A status code, and the body.
pub type Answer = (u16, String);

/// `GET`; `None`: nobody listens, or nothing whole came back.
pub fn get(port: u16, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, body.to_owned()))
}

/// A scrape, once somebody listens.
pub fn scrape(port: u16) -> Scrape {
    let (code, text) = wait_for("scrape", DEADLINE, || get(port, "/metrics"));
    assert_eq!(code, 200, "{text}");
    Scrape { text }
}

/// What was scraped.
#[derive(Debug)]
pub struct Scrape {
    pub text: String,
}

impl Scrape {
    /// Samples of this name, as labels and value.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.text.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.parse().expect("a number")))
        })
    }

    /// The sum of those samples whose labels hold this one, such as `outcome="accepted"`.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        self.samples(name).filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum()
    }
}
