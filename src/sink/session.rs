//! One session: the banner, then commands and content as they come, until someone closes.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use memchr::memchr;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::command::{Command, Complaint, LINE_OCTETS_MAX};
use super::content::Content;
use super::counters::{Open, add};
use super::envelope::Envelope;
use super::ledger::Pen;
use super::receiver::Receiver;
use super::reply;
use super::server::Shared;
use super::settings::{Behaviour, Fault, Stage};
use super::transfer::Incoming;
use super::wire::{Fill, Wire};

/// The behaviour in force, in the session's own copy: its count is touched at each command, and sessions
/// on several cores would contend for a common one.
fn own(behaviours: &mut watch::Receiver<Arc<Behaviour>>) -> Arc<Behaviour> {
    Arc::new(Behaviour::clone(&behaviours.borrow_and_update()))
}

/// How a session goes on after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Go,
    /// The input is exhausted.
    More,
    /// Send what is gathered, then close.
    Close,
    /// Close at once; what is gathered is lost.
    Drop,
}

/// What the client said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    None,
    Helo,
    Ehlo,
    /// We greeted with 5xx: only QUIT is left.
    Unwelcome,
}

pub(super) struct Session {
    pub shared: Arc<Shared>,
    pub connection: u64,
    pub wire: Wire,
    pub behaviour: Arc<Behaviour>,
    behaviours: watch::Receiver<Arc<Behaviour>>,
    pub rng: fastrand::Rng,
    pub greeting: Greeting,
    pub envelope: Envelope,
    pub mail_commands: u64,
    /// 354 was said: input is content.
    pub receiving: bool,
    pub receiver: Receiver,
    /// BDAT was said: input is this chunk.
    pub incoming: Option<Incoming>,
    pub content: Content,
    pub pen: Pen,
    /// Close when content begins.
    pub drop_before_dot: bool,
    /// Octets of input that came in one group with the end of content and get 503 (`no_group_across_dot`).
    pub after_dot: usize,
    /// Until when the messages so far have kept the service busy.
    pub served_until: Instant,
    line: Vec<u8>,
    skipping_line: bool,
    open: Option<Open>,
}

impl Session {
    pub fn new(shared: Arc<Shared>, stream: TcpStream, connection: u64, open: Open) -> Self {
        let mut behaviours = shared.timeline.subscribe();
        let behaviour = own(&mut behaviours);
        Self {
            connection,
            wire: Wire::new(stream, shared.stop.subscribe()),
            behaviour,
            behaviours,
            rng: fastrand::Rng::with_seed(shared.seed ^ connection.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            greeting: Greeting::None,
            envelope: Envelope::default(),
            mail_commands: 0,
            receiving: false,
            receiver: Receiver::default(),
            incoming: None,
            content: Content::default(),
            pen: Pen::default(),
            drop_before_dot: false,
            after_dot: 0,
            served_until: Instant::now(),
            line: Vec::new(),
            skipping_line: false,
            open: Some(open),
            shared,
        }
    }

    /// Runs until the connection is closed. An error is the client's end of the connection.
    pub async fn run(mut self) -> io::Result<()> {
        let mut flow = self.greet().await?;
        loop {
            flow = match (flow, self.incoming) {
                (Flow::Go, Some(chunk)) => self.take_chunk(chunk).await?,
                (Flow::Go, None) if self.receiving => self.take_content().await?,
                (Flow::Go, None) => self.take_command().await?,
                (Flow::More, _) => {
                    self.wire.flush(self.behaviour.latency_ms).await?;
                    match self.wire.fill().await? {
                        Fill::More => Flow::Go,
                        Fill::End => Flow::Drop,
                        Fill::Idle => self.say_closing("4.4.2", "Error: timeout exceeded"),
                        Fill::Stop => self.say_closing("4.3.2", "Error: the sink is stopping"),
                    }
                }
                (Flow::Close, _) => {
                    // Counted out before the client can know, so that its next connection finds room.
                    self.open = None;
                    self.wire.flush(self.behaviour.latency_ms).await?;
                    return self.wire.close().await;
                }
                (Flow::Drop, _) => return Ok(()),
            };
        }
    }

    /// Adds a reply; the enhanced status code only where it was offered.
    pub fn reply(&mut self, code: u16, enhanced: &'static str, text: fmt::Arguments<'_>) {
        let enhanced = self.enhanced(enhanced);
        reply::append(&mut self.wire.out, code, enhanced, text);
    }

    /// The same with a fixed text.
    pub fn say(&mut self, code: u16, enhanced: &'static str, text: &str) {
        let enhanced = self.enhanced(enhanced);
        reply::append_str(&mut self.wire.out, code, enhanced, text);
    }

    pub fn enhanced(&self, enhanced: &'static str) -> &'static str {
        let offered = self.behaviour.offers.enhanced_status_codes && self.greeting != Greeting::Helo;
        if offered { enhanced } else { "" }
    }

    pub fn complain(&mut self, complaint: Complaint) -> Flow {
        self.say(complaint.code, complaint.enhanced, complaint.text);
        Flow::Go
    }

    pub fn say_closing(&mut self, enhanced: &'static str, text: &str) -> Flow {
        let host = Arc::clone(&self.shared);
        self.reply(421, enhanced, format_args!("{} {text}", host.hostname));
        Flow::Close
    }

    /// Says a failure on demand; 421 also closes.
    pub fn fail(&mut self, stage: Stage, fault: Fault) -> Flow {
        let Fault::Reply(code) = fault else { return Flow::Drop };
        let (enhanced, text) = reply::failure(stage, code);
        // RFC 2034 §4: no enhanced status code in the greeting or in the reply to EHLO.
        let bare = matches!(stage, Stage::Connect | Stage::Banner | Stage::Ehlo);
        self.say(code, if bare { "" } else { enhanced }, text);
        if code == 421 { Flow::Close } else { Flow::Go }
    }

    /// A wait of the service's own: what is gathered goes out first, since it is not what is late.
    pub async fn pause(&mut self, until: Instant) -> io::Result<()> {
        self.wire.flush(self.behaviour.latency_ms).await?;
        self.wire.wait_until(until).await;
        Ok(())
    }

    async fn greet(&mut self) -> io::Result<Flow> {
        let behaviour = Arc::clone(&self.behaviour);
        if let Some(fault) = behaviour.throw(Stage::Connect, &mut self.rng) {
            self.fail(Stage::Connect, fault);
            return Ok(if fault == Fault::Drop { Flow::Drop } else { Flow::Close });
        }
        if behaviour.banner_delay_ms > 0 {
            self.wire.wait_until(Instant::now() + Duration::from_millis(behaviour.banner_delay_ms)).await;
        }
        if behaviour.strict_sync {
            self.wire.take_what_came()?;
            if !self.wire.input.is_empty() {
                return Ok(self.synchronization_error());
            }
        }
        if let Some(fault) = behaviour.throw(Stage::Banner, &mut self.rng) {
            self.greeting = Greeting::Unwelcome;
            let flow = self.fail(Stage::Banner, fault);
            return Ok(flow);
        }
        let shared = Arc::clone(&self.shared);
        self.reply(220, "", format_args!("{} ESMTP infeed sink", shared.hostname));
        Ok(Flow::Go)
    }

    async fn take_command(&mut self) -> io::Result<Flow> {
        let Some(end) = memchr(b'\n', &self.wire.input) else {
            if self.skipping_line || self.wire.input.len() > LINE_OCTETS_MAX {
                self.skipping_line = true;
                self.wire.input.clear();
            }
            return Ok(Flow::More);
        };
        let octets = end + 1;
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        line.extend_from_slice(&self.wire.input[..octets.min(LINE_OCTETS_MAX)]);
        bytes::Buf::advance(&mut self.wire.input, octets);
        let too_long = std::mem::take(&mut self.skipping_line) || octets > LINE_OCTETS_MAX;
        if self.behaviours.has_changed().unwrap_or(false) {
            self.behaviour = own(&mut self.behaviours);
        }
        let flow = if self.after_dot > 0 {
            let chunk = match Command::parse(&line) {
                Ok(Command::Bdat(chunk)) => Some(chunk),
                _ => None,
            };
            Ok(self.refuse_after_dot(octets, chunk))
        } else if too_long {
            self.say(500, "5.5.2", "Error: line too long");
            Ok(Flow::Go)
        } else {
            match Command::parse(&line) {
                Ok(command) if self.is_out_of_sync(&command)? => Ok(self.synchronization_error()),
                Ok(command) => self.obey(command).await,
                Err(complaint) => Ok(self.complain(complaint)),
            }
        };
        self.line = line;
        flow
    }

    /// `strict_sync`: input has come that should have waited for the reply to `command`.
    fn is_out_of_sync(&mut self, command: &Command<'_>) -> io::Result<bool> {
        let alone = !self.behaviour.offers.pipelining && !matches!(command, Command::Bdat(_));
        let must_wait = alone || command.must_end_its_group();
        if !self.behaviour.strict_sync || !must_wait {
            return Ok(false);
        }
        self.wire.take_what_came()?;
        Ok(!self.wire.input.is_empty())
    }

    /// Exim's words, or OpenSMTPD's where no PIPELINING is offered.
    pub fn synchronization_error(&mut self) -> Flow {
        if self.behaviour.offers.pipelining {
            self.say(554, "", "SMTP synchronization error");
        } else {
            self.say(500, "5.5.1", "Invalid command: Pipelining not supported");
        }
        Flow::Close
    }

    async fn take_content(&mut self) -> io::Result<Flow> {
        if self.wire.input.is_empty() {
            return Ok(Flow::More);
        }
        if self.drop_before_dot {
            add(&self.shared.counters.dropped_before_dot, 1);
            return Ok(Flow::Drop);
        }
        let content = &mut self.content;
        let fed = self.receiver.feed(&self.wire.input, |octets| content.push(octets));
        bytes::Buf::advance(&mut self.wire.input, fed.used);
        if !fed.ended {
            return Ok(Flow::More);
        }
        self.receiving = false;
        let flow = self.end_of_content().await?;
        self.envelope.clear();
        self.end_group_here()?;
        Ok(flow)
    }
}
