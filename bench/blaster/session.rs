//! One session: a group is written, its replies are read, the next group follows.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use memchr::memchr;
use mio::net::TcpStream;

use crate::Failure;
use crate::script::{Body, Expected, Group, Script};

/// Octets read at a time: the replies to a group of 1,000 recipients fit.
pub const BUFFER_OCTETS: usize = 64 * 1024;
/// Octets of an unfinished line that are carried to the next read, at most.
const LINE_OCTETS_MAX: usize = 4096;

/// What all sessions count together.
#[derive(Debug, Default)]
pub struct Tally {
    /// Messages that no session has begun.
    pub left: u64,
    /// Messages whose end was answered with 250.
    pub messages: u64,
}

/// The group that a session is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Greeting,
    Ehlo,
    First,
    Next,
    Last,
    /// So many messages.
    Batch(usize),
    Quit,
    Over,
}

#[derive(Debug)]
pub struct Session {
    number: usize,
    stream: TcpStream,
    at: At,
    /// Octets of the group that are written, and replies to it that are read.
    written: usize,
    replied: usize,
    /// What was read of an unfinished line.
    carried: Vec<u8>,
    /// EHLO named what the script needs.
    offered: bool,
    /// The sink sends its replies in pieces: the next piece may wait for our acknowledgement.
    in_pieces: bool,
}

impl Session {
    /// Begins to connect.
    ///
    /// # Errors
    /// No socket, or no connection to be had at once.
    pub fn connect(number: usize, address: SocketAddr) -> Result<Session, Failure> {
        let stream = TcpStream::connect(address)
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| Failure::Io { place: format!("connect to {address}"), source })?;
        Ok(Session {
            number,
            stream,
            at: At::Greeting,
            written: 0,
            replied: 0,
            carried: Vec::new(),
            offered: false,
            in_pieces: false,
        })
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// Reads and writes what can be read and written now. True: the session has just ended.
    ///
    /// # Errors
    /// A reply that must not be, or no connection.
    pub fn go_on(&mut self, script: &Script, tally: &mut Tally, buffer: &mut [u8]) -> Result<bool, Failure> {
        loop {
            self.write(script)?;
            let held = self.carried.len();
            buffer[..held].copy_from_slice(&self.carried);
            let read = match self.stream.read(&mut buffer[held..]) {
                Ok(0) => return Err(self.closed(script)),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
                Err(error) => return Err(self.io("read", error)),
            };
            let drained = held + read < buffer.len();
            self.replies(script, tally, &buffer[..held + read])?;
            if self.at == At::Over {
                return Ok(true);
            }
            // A short read emptied the socket: what comes later is a new event.
            if drained {
                if self.replied > 0 {
                    self.in_pieces = true;
                }
                self.write(script)?;
                if self.in_pieces {
                    self.acknowledge()?;
                }
                return Ok(false);
            }
        }
    }

    /// Takes the replies in `octets`, and goes on to the next group when all are there.
    fn replies(&mut self, script: &Script, tally: &mut Tally, octets: &[u8]) -> Result<(), Failure> {
        let mut rest = octets;
        while let Some(end) = memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            let group = self.group(script);
            let Some(&expected) = group.replies.get(self.replied) else {
                return Err(Failure::NotAsked { session: self.number, line: shown(line) });
            };
            let [a, b, c, after, ..] = *line else { return Err(self.wrong(expected, line)) };
            let digit = |d: u8| u16::from(d.wrapping_sub(b'0'));
            if digit(a) * 100 + digit(b) * 10 + digit(c) != expected.code
                || !matches!(after, b' ' | b'-' | b'\r')
            {
                return Err(self.wrong(expected, line));
            }
            if self.at == At::Ehlo {
                self.offered |= line[4..].trim_ascii().eq_ignore_ascii_case(script.needs().as_bytes());
            }
            if after == b'-' {
                continue;
            }
            // the whole group was written, or this is no answer to it
            if self.written < group.octets.len() && self.replied + 1 == group.replies.len() {
                return Err(Failure::NotAsked { session: self.number, line: shown(line) });
            }
            self.replied += 1;
            tally.messages += u64::from(expected.accepts);
            if self.replied == group.replies.len() {
                self.advance(script, tally)?;
                if self.at == At::Over {
                    break;
                }
                if !rest.is_empty() {
                    return Err(Failure::NotAsked { session: self.number, line: shown(rest) });
                }
            }
        }
        if rest.len() > LINE_OCTETS_MAX {
            return Err(Failure::NotAsked { session: self.number, line: shown(rest) });
        }
        self.carried.clear();
        self.carried.extend_from_slice(rest);
        Ok(())
    }

    fn advance(&mut self, script: &Script, tally: &mut Tally) -> Result<(), Failure> {
        if self.at == At::Ehlo && !self.offered {
            return Err(Failure::NotOffered(script.needs()));
        }
        self.at = match (self.at, &script.body) {
            (At::Greeting, _) => At::Ehlo,
            (At::Last | At::Quit | At::Over, _) => At::Over,
            (at, Body::Data { .. }) => match (at, take(tally, 1)) {
                (At::Ehlo, 1) => At::First,
                (At::Ehlo, _) => At::Quit,
                (_, 1) => At::Next,
                _ => At::Last,
            },
            (_, Body::Bdat { batches }) => match take(tally, batches.len() as u64) {
                0 => At::Quit,
                messages => At::Batch(messages as usize),
            },
        };
        (self.written, self.replied) = (0, 0);
        Ok(())
    }

    fn group<'s>(&self, script: &'s Script) -> &'s Group {
        match (self.at, &script.body) {
            (At::Greeting, _) => &script.greeting,
            (At::Ehlo, _) => &script.ehlo,
            (At::First, Body::Data { first, .. }) => first,
            (At::Next, Body::Data { next, .. }) => next,
            (At::Last, Body::Data { last, .. }) => last,
            (At::Batch(messages), Body::Bdat { batches }) => &batches[messages - 1],
            _ => &script.quit,
        }
    }

    /// Writes what the socket takes of the group.
    fn write(&mut self, script: &Script) -> Result<(), Failure> {
        let octets = &self.group(script).octets;
        while self.written < octets.len() {
            match self.stream.write(&octets[self.written..]) {
                Ok(written) => self.written += written,
                // not connected yet, or full: an event says when it goes on
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io("write", error)),
            }
        }
        Ok(())
    }

    fn acknowledge(&self) -> Result<(), Failure> {
        rustix::net::sockopt::set_tcp_quickack(&self.stream, true)
            .map_err(|error| self.io("TCP_QUICKACK", error.into()))
    }

    fn closed(&self, script: &Script) -> Failure {
        let command = self.group(script).replies.get(self.replied).map_or("nothing", |e| e.command);
        Failure::Closed { session: self.number, command }
    }

    fn wrong(&self, expected: Expected, line: &[u8]) -> Failure {
        let Expected { command, code, .. } = expected;
        Failure::Reply { session: self.number, command, expected: code, line: shown(line) }
    }

    fn io(&self, what: &str, source: io::Error) -> Failure {
        Failure::Io { place: format!("session {}: {what}", self.number), source }
    }
}

/// Takes up to `messages_max` of what is left to send.
fn take(tally: &mut Tally, messages_max: u64) -> u64 {
    let taken = tally.left.min(messages_max);
    tally.left -= taken;
    taken
}

/// A reply line as an error shows it.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
    text.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
