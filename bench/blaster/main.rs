//! The blaster: how fast a sink takes mail from a client that does nothing else.
//!
//! No queue, no list, no journal, one message written over and over: the ceiling that `bench/run wire`
//! holds the engine against. One thread over N sessions; a message costs one write
//! (`[content . MAIL RCPT… DATA]`, or `MAIL RCPT… BDAT content`, several of these with `--depth`) and one
//! wait for its replies.
//!
//! Guarantees: a message counts when the reply to its end was 250, and each of its RCPTs too. A reply that
//! is not the one expected ends the run with [`Failure`] and a code other than 0; so does a session that
//! closes early or stands still. It speaks to loopback alone.

mod script;
mod session;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use mio::{Events, Interest, Poll, Token};
use script::{Script, Shape};
use session::{Session, Tally};

/// Pipelined SMTP as fast as the sink takes it, with nothing behind it: the ceiling of a sink.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  blaster -s 8 -m 100000 127.0.0.1:2525")]
struct Asked {
    /// Sessions side by side
    #[arg(short = 's', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    sessions: u32,
    /// Messages, over all sessions
    #[arg(short = 'm', long, default_value_t = 1)]
    messages: u64,
    /// Recipients of each message
    #[arg(short = 'r', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    recipients: u32,
    /// Octets of the body, line ends included
    #[arg(short = 'l', long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(2..=16_777_216))]
    length: u32,
    /// BDAT instead of DATA (RFC 3030)
    #[arg(long)]
    bdat: bool,
    /// With --bdat: messages in one write, before the wait for their replies
    #[arg(long, default_value_t = 1, requires = "bdat", value_parser = clap::value_parser!(u32).range(1..=64))]
    depth: u32,
    /// Give up when nothing has moved for so long, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience_s: u64,
    /// Where the sink listens, on loopback
    address: SocketAddr,
}

/// Why a run does not count.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0} is not on loopback: the blaster is for sinks on this machine")]
    NotLoopback(SocketAddr),
    #[error("{place}: {source}")]
    Io { place: String, source: io::Error },
    #[error("session {session}: {expected} to {command} expected, not: {line}")]
    Reply { session: usize, command: &'static str, expected: u16, line: String },
    #[error("session {session}: a reply that nobody asked for: {line}")]
    NotAsked { session: usize, line: String },
    #[error("session {session}: closed by the sink, {command} unanswered")]
    Closed { session: usize, command: &'static str },
    #[error("the sink offers no {0}: without it there is nothing to measure here")]
    NotOffered(&'static str),
    #[error("nothing moved for {0} s")]
    Standstill(u64),
    #[error("{accepted} of {asked} messages were accepted")]
    Short { accepted: u64, asked: u64 },
}

impl Failure {
    /// In the manner of sysexits.
    fn exit_code(&self) -> u8 {
        match self {
            Failure::NotLoopback(_) => 64,
            Failure::Io { .. } | Failure::Standstill(_) => 69,
            _ => 76,
        }
    }
}

fn main() -> ExitCode {
    let asked = match Asked::try_parse() {
        Ok(asked) => asked,
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            // nobody is left to tell when even this can't be written
            return if error.print().is_ok() { code.into() } else { 74.into() };
        }
    };
    let began = Instant::now();
    let mut tally = Tally::default();
    let came = blast(&asked, &mut tally);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        r#"{{"messages":{},"recipients":{},"seconds":{seconds:.6}}}"#,
        tally.messages,
        tally.messages * u64::from(asked.recipients)
    );
    match came {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("blaster: {failure}");
            failure.exit_code().into()
        }
    }
}

/// Sends all that was asked for.
///
/// # Errors
/// What made a message, or all of them, not count; `tally` holds those that did.
fn blast(asked: &Asked, tally: &mut Tally) -> Result<(), Failure> {
    if !asked.address.ip().is_loopback() {
        return Err(Failure::NotLoopback(asked.address));
    }
    let shape = Shape {
        recipients: asked.recipients as usize,
        octets: asked.length as usize,
        bdat_depth: asked.bdat.then_some(asked.depth as usize),
    };
    let script = Script::new(&shape);
    tally.left = asked.messages;
    let io = |place: &str, source| Failure::Io { place: place.to_owned(), source };
    let mut poll = Poll::new().map_err(|e| io("epoll", e))?;
    let mut sessions = Vec::with_capacity(asked.sessions as usize);
    for number in 0..asked.sessions as usize {
        let mut session = Session::connect(number, asked.address)?;
        poll.registry()
            .register(session.stream(), Token(number), Interest::READABLE | Interest::WRITABLE)
            .map_err(|e| io("epoll", e))?;
        sessions.push(session);
    }
    let mut open = sessions.len();
    let mut events = Events::with_capacity(sessions.len());
    let mut buffer = vec![0; session::BUFFER_OCTETS];
    let patience = Duration::from_secs(asked.patience_s);
    while open > 0 {
        match poll.poll(&mut events, Some(patience)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io("epoll", error)),
        }
        if events.is_empty() {
            return Err(Failure::Standstill(asked.patience_s));
        }
        for event in &events {
            let session = &mut sessions[event.token().0];
            if !session.is_over() && session.go_on(&script, tally, &mut buffer)? {
                open -= 1;
            }
        }
    }
    if tally.messages != asked.messages {
        return Err(Failure::Short { accepted: tally.messages, asked: asked.messages });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
