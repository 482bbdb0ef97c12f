//! How content comes: DATA and its lone dot, BDAT and its chunks (RFC 3030); and what becomes of it.
//!
//! A chunk's octets are read whatever becomes of it: its reply, also a refusal, comes after them. A chunk
//! that fails ends its transaction, so the message's other chunks get 503 until the next MAIL.

use std::io;
use std::time::Duration;

use bytes::Buf;
use tokio::time::Instant;

use super::command::{BDAT_SYNTAX, Chunk, Complaint, NOT_IMPLEMENTED};
use super::conduct::Act;
use super::counters::add;
use super::dialogue::{SEQUENCE_HELO, SEQUENCE_MAIL, TOO_BIG, UNWELCOME};
use super::ledger::Taken;
use super::reply;
use super::session::{Flow, Greeting, Session};
use super::settings::{Fault, Stage};
use crate::clock;

/// A service that fell further behind than this was idle, not late: timers oversleep by a few ms.
const SERVICE_LAG_MAX: Duration = Duration::from_millis(5);

const SEQUENCE_RCPT: Complaint = Complaint::new(503, "5.5.1", "Error: need RCPT command");
const NO_RECIPIENTS: Complaint = Complaint::new(554, "5.5.1", "Error: no valid recipients");
const DATA_AFTER_BDAT: Complaint = Complaint::new(503, "5.5.1", "Error: DATA after BDAT");
const AFTER_DOT: Complaint = Complaint::new(503, "5.5.1", "Error: command pipelined after end of DATA");
const NOT_WRITTEN: Complaint = Complaint::new(451, "4.3.0", "Error: the ledger could not be written");

/// A chunk whose octets are being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Incoming {
    left: u64,
    octets: u64,
    last: bool,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Content,
    /// Read and thrown away, then this is said.
    Complain(Complaint),
    /// The same, on demand.
    Fail(Fault),
}

impl Session {
    pub(super) fn data(&mut self) -> Flow {
        if let Err(complaint) = self.may_begin() {
            return self.complain(complaint);
        }
        if self.envelope.chunked {
            return self.complain(DATA_AFTER_BDAT);
        }
        if let Some(fault) = self.begin_content() {
            // RFC 5321 §4.1.1.4 leaves the transaction open; Postfix, Exim and sendmail end it, and so do we.
            self.envelope.clear();
            return self.fail(Stage::Data, fault);
        }
        self.receiving = true;
        self.say(354, "", "End data with <CR><LF>.<CR><LF>");
        Flow::Go
    }

    /// BDAT was read: what becomes of the chunk, once its octets have come.
    pub(super) fn bdat(&mut self, chunk: Chunk) -> Flow {
        let offered = self.behaviour.offers.chunking && self.greeting != Greeting::Helo;
        if !offered && self.greeting != Greeting::Unwelcome {
            return self.complain(NOT_IMPLEMENTED);
        }
        let fate = self.fate(chunk);
        self.incoming = Some(Incoming { left: chunk.octets, octets: chunk.octets, last: chunk.last, fate });
        Flow::Go
    }

    fn fate(&mut self, chunk: Chunk) -> Fate {
        match self.greeting {
            Greeting::None => return Fate::Complain(SEQUENCE_HELO),
            Greeting::Unwelcome => return Fate::Complain(UNWELCOME),
            Greeting::Helo | Greeting::Ehlo => {}
        }
        if self.after_dot > 0 {
            return Fate::Complain(AFTER_DOT);
        }
        if chunk.junk {
            return Fate::Complain(BDAT_SYNTAX);
        }
        if let Err(complaint) = self.may_begin() {
            return Fate::Complain(complaint);
        }
        if !self.envelope.chunked {
            if let Some(fault) = self.begin_content() {
                return Fate::Fail(fault);
            }
            self.envelope.chunked = true;
        }
        if self.content.has_room_for(chunk.octets) { Fate::Content } else { Fate::Complain(TOO_BIG) }
    }

    fn may_begin(&self) -> Result<(), Complaint> {
        match (self.envelope.is_open(), self.envelope.recipients, self.envelope.rcpt_commands) {
            (false, _, _) => Err(SEQUENCE_MAIL),
            (true, 0, 0) => Err(SEQUENCE_RCPT),
            (true, 0, _) => Err(NO_RECIPIENTS),
            (true, _, _) => Ok(()),
        }
    }

    /// Content begins, or fails on demand.
    fn begin_content(&mut self) -> Option<Fault> {
        let fault = match self.conduct(|act| matches!(act, Act::Data(_))) {
            Some(Act::Data(code)) => Some(Fault::Reply(code)),
            _ => self.behaviour.throw(Stage::Data, &mut self.rng),
        };
        if fault.is_some() {
            self.count_failed(fault);
            return fault;
        }
        self.drop_before_dot = self.conduct(|act| act == Act::DropBeforeDot).is_some()
            || self.behaviour.drop_before_dot.hits(&mut self.rng);
        self.content.begin(self.shared.ledger.keeps_content(), self.behaviour.size_max_octets);
        None
    }

    /// Reads what has come of the chunk in hand.
    pub(super) async fn take_chunk(&mut self, mut incoming: Incoming) -> io::Result<Flow> {
        let here =
            usize::try_from(incoming.left).map_or(self.wire.input.len(), |l| l.min(self.wire.input.len()));
        if incoming.fate == Fate::Content {
            if self.drop_before_dot && (here > 0 || incoming.octets == 0) {
                add(&self.shared.counters.dropped_before_dot, 1);
                return Ok(Flow::Drop);
            }
            self.content.push(&self.wire.input[..here]);
        }
        self.wire.input.advance(here);
        self.after_dot = self.after_dot.saturating_sub(here);
        incoming.left -= here as u64;
        if incoming.left > 0 {
            self.incoming = Some(incoming);
            return Ok(Flow::More);
        }
        self.incoming = None;
        self.end_of_chunk(incoming).await
    }

    async fn end_of_chunk(&mut self, chunk: Incoming) -> io::Result<Flow> {
        let flow = match chunk.fate {
            Fate::Content if !chunk.last => {
                self.reply(250, "2.0.0", format_args!("Ok: {} bytes", chunk.octets));
                return self.in_step(Flow::Go);
            }
            Fate::Content => self.end_of_content().await?,
            Fate::Complain(complaint) => {
                if complaint == TOO_BIG {
                    self.shared.counters.failed(TOO_BIG.code, self.envelope.recipients);
                }
                self.complain(complaint)
            }
            Fate::Fail(fault) => self.fail(Stage::Data, fault),
        };
        self.envelope.clear();
        if chunk.fate == Fate::Content {
            self.end_group_here()?;
        }
        self.in_step(flow)
    }

    /// `strict_sync` without PIPELINING: the chunk's reply must be waited for too.
    fn in_step(&mut self, flow: Flow) -> io::Result<Flow> {
        if flow != Flow::Go || !self.behaviour.strict_sync || self.behaviour.offers.pipelining {
            return Ok(flow);
        }
        self.wire.take_what_came()?;
        Ok(if self.wire.input.is_empty() { flow } else { self.synchronization_error() })
    }

    /// `no_group_across_dot`: what has come with the end of content gets 503.
    pub(super) fn end_group_here(&mut self) -> io::Result<()> {
        if self.behaviour.no_group_across_dot {
            self.wire.take_what_came()?;
            self.after_dot = self.wire.input.len();
        }
        Ok(())
    }

    /// The 503 to a command that came in one group with the end of content; a chunk among them is read.
    pub(super) fn refuse_after_dot(&mut self, octets: usize, chunk: Option<Chunk>) -> Flow {
        let flow = match chunk {
            Some(chunk) => self.bdat(chunk),
            None => self.complain(AFTER_DOT),
        };
        self.after_dot = self.after_dot.saturating_sub(octets);
        flow
    }

    /// The first act of the recipients in hand that `wanted` picks and that applies this time.
    fn conduct(&self, wanted: impl Fn(Act) -> bool) -> Option<Act> {
        let picked = self.envelope.conducts.iter().filter(|(_, c)| wanted(c.act));
        picked.filter(|(address, c)| self.shared.attempts.applies(address, *c)).map(|(_, c)| c.act).next()
    }

    fn count_failed(&self, fault: Option<Fault>) {
        if let Some(Fault::Reply(code)) = fault {
            self.shared.counters.failed(code, self.envelope.recipients);
        }
    }

    /// The final dot or the last chunk has come: the message is taken, or not, and then the reply is said.
    pub(super) async fn end_of_content(&mut self) -> io::Result<Flow> {
        let service_us =
            self.behaviour.service.us(self.shared.open(), self.content.octets, || self.rng.f64());
        if service_us > 0 {
            let now = Instant::now();
            let from = self.served_until.max(now.checked_sub(SERVICE_LAG_MAX).unwrap_or(now));
            self.served_until = from + Duration::from_micros(service_us);
            if self.served_until > now {
                self.pause(self.served_until).await?;
            }
        }
        if self.content.too_big() {
            self.shared.counters.failed(TOO_BIG.code, self.envelope.recipients);
            return Ok(self.complain(TOO_BIG));
        }
        let fault = match self.conduct(|act| matches!(act, Act::Content(_))) {
            Some(Act::Content(code)) => Some(Fault::Reply(code)),
            _ => self.behaviour.throw(Stage::Content, &mut self.rng),
        };
        if let Some(fault) = fault {
            self.count_failed(Some(fault));
            return Ok(self.fail(Stage::Content, fault));
        }
        let dropped = self.conduct(|act| act == Act::DropAfterDot).is_some()
            || self.behaviour.drop_after_dot.hits(&mut self.rng);
        self.take(dropped)
    }

    /// Writes the message down, and only then says so.
    fn take(&mut self, dropped: bool) -> io::Result<Flow> {
        let shared = &self.shared;
        let (transaction, queue_id) = shared.next_queue_id();
        let mut room = [0; 20];
        let queue_id = reply::digits::<16>(queue_id, &mut room);
        if shared.ledger.keeps_content() {
            let taken = Taken {
                time_us: clock::now_us(),
                connection: self.connection,
                transaction,
                queue_id,
                reply: if dropped { "dropped" } else { "250" },
                envelope: &self.envelope,
                content: self.content.as_bytes(),
            };
            if let Err(e) = shared.ledger.record(&mut self.pen, &taken) {
                tracing::error!("the sink's ledger or store could not be written: {e}");
                add(&shared.counters.ledger_errors, 1);
                shared.counters.failed(NOT_WRITTEN.code, self.envelope.recipients);
                return Ok(self.complain(NOT_WRITTEN));
            }
        }
        // when its octets came: the clock is read once a read, not once a message
        let up = shared.up_at(self.wire.last_read);
        let messages = shared.counters.message(self.envelope.recipients, self.content.octets, up);
        if self.behaviour.drain_rate_per_s > 0 {
            shared.backlog.add(up, self.behaviour.drain_rate_per_s);
        }
        shared.timeline.taken(messages, up);
        if dropped {
            add(&shared.counters.dropped_after_dot, 1);
            return Ok(Flow::Drop);
        }
        let octets = self.envelope.chunked.then_some(self.content.octets);
        let enhanced = self.enhanced("2.0.0");
        reply::append_taken(&mut self.wire.out, enhanced, octets, queue_id);
        Ok(Flow::Go)
    }
}
