//! What each command does: the SMTP state machine (RFC 5321 §4.1.4), and where misbehaviour strikes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::command::{Command, Complaint};
use super::conduct::{Act, Conduct};
use super::counters::add;
use super::ledger::Taken;
use super::parameters::{Of, Parameters};
use super::session::{Flow, Greeting, Session};
use super::settings::{Behaviour, Fault, SessionLimitStyle, Stage};
use crate::clock;

/// Postfix's `in_flow_delay`.
const IN_FLOW_DELAY: Duration = Duration::from_secs(1);
/// A service that fell further behind than this was idle, not late: timers oversleep by a few ms.
const SERVICE_LAG_MAX: Duration = Duration::from_millis(5);

const SEQUENCE_HELO: Complaint = Complaint::new(503, "5.5.1", "Error: send HELO/EHLO first");
const SEQUENCE_NESTED: Complaint = Complaint::new(503, "5.5.1", "Error: nested MAIL command");
const SEQUENCE_MAIL: Complaint = Complaint::new(503, "5.5.1", "Error: need MAIL command");
const SEQUENCE_RCPT: Complaint = Complaint::new(503, "5.5.1", "Error: need RCPT command");
const NO_RECIPIENTS: Complaint = Complaint::new(554, "5.5.1", "Error: no valid recipients");
const UNWELCOME: Complaint = Complaint::new(503, "5.5.1", "Error: no service here; send QUIT");
const STORAGE_FULL: Complaint = Complaint::new(452, "4.3.1", "Insufficient system storage");
const TOO_BIG: Complaint = Complaint::new(552, "5.3.4", "Error: message file too big");
const TOO_MANY_RECIPIENTS: Complaint = Complaint::new(452, "4.5.3", "Error: too many recipients");
const NEEDS_SMTPUTF8: Complaint = Complaint::new(553, "5.6.7", "Error: address needs SMTPUTF8");
const NOT_WRITTEN: Complaint = Complaint::new(451, "4.3.0", "Error: the ledger could not be written");

impl Session {
    pub(super) async fn obey(&mut self, command: Command<'_>) -> io::Result<Flow> {
        match command {
            Command::Quit => {
                self.reply(221, "2.0.0", "Bye");
                return Ok(Flow::Close);
            }
            _ if self.greeting == Greeting::Unwelcome => return Ok(self.complain(UNWELCOME)),
            Command::Ehlo => return Ok(self.ehlo()),
            Command::Helo => {
                self.envelope.clear();
                self.greeting = Greeting::Helo;
                let shared = Arc::clone(&self.shared);
                self.reply(250, "", &shared.hostname);
            }
            Command::Mail { sender, parameters } => return Ok(self.mail(sender, parameters)),
            Command::Rcpt { recipient, parameters } => return self.rcpt(recipient, parameters).await,
            Command::Data => return Ok(self.data()),
            Command::Rset => {
                self.envelope.clear();
                self.reply(250, "2.0.0", "Ok");
            }
            Command::Noop => self.reply(250, "2.0.0", "Ok"),
            Command::Vrfy => self.reply(252, "2.0.0", "Ok: cannot verify, send some mail"),
        }
        Ok(Flow::Go)
    }

    fn ehlo(&mut self) -> Flow {
        let behaviour = Arc::clone(&self.behaviour);
        if let Some(fault) = behaviour.throw(Stage::Ehlo, &mut self.rng) {
            return self.fail(Stage::Ehlo, fault);
        }
        self.envelope.clear();
        self.greeting = Greeting::Ehlo;
        let offers = behaviour.offers;
        let size = match behaviour.size_max_octets {
            0 => "SIZE".to_owned(),
            octets => format!("SIZE {octets}"),
        };
        let mut lines = vec![self.shared.hostname.as_str()];
        for (offered, keyword) in [
            (offers.pipelining, "PIPELINING"),
            (offers.size, size.as_str()),
            (offers.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
            (offers.eight_bit_mime, "8BITMIME"),
            (offers.dsn, "DSN"),
            (offers.smtputf8, "SMTPUTF8"),
        ] {
            if offered {
                lines.push(keyword);
            }
        }
        for (i, line) in lines.iter().enumerate() {
            let code: &[u8] = if i + 1 < lines.len() { b"250-" } else { b"250 " };
            for part in [code, line.as_bytes(), b"\r\n"] {
                self.wire.out.extend_from_slice(part);
            }
        }
        Flow::Go
    }

    fn mail(&mut self, sender: &str, parameters: Parameters<'_>) -> Flow {
        let behaviour = Arc::clone(&self.behaviour);
        if self.greeting == Greeting::None {
            return self.complain(SEQUENCE_HELO);
        }
        if self.envelope.is_open() {
            return self.complain(SEQUENCE_NESTED);
        }
        let offers = (self.greeting == Greeting::Ehlo).then_some(&behaviour.offers);
        let declared = match parameters.check(Of::Mail, offers) {
            Ok(declared) => declared,
            Err(complaint) => return self.complain(complaint),
        };
        if !declared.smtputf8 && !sender.is_ascii() {
            return self.complain(NEEDS_SMTPUTF8);
        }
        if behaviour.storage_full {
            return self.complain(STORAGE_FULL);
        }
        if let Some(over) = session_limit(&behaviour, self.mail_commands) {
            return self.complain(over);
        }
        if declared
            .size_octets
            .is_some_and(|o| behaviour.size_max_octets > 0 && o > behaviour.size_max_octets)
        {
            return self.complain(TOO_BIG);
        }
        if let Some(conduct @ Conduct { act: Act::Mail(code), .. }) = Conduct::of(sender)
            && self.shared.attempts.applies(sender, conduct)
        {
            return self.fail(Stage::Mail, Fault::Reply(code));
        }
        if let Some(fault) = behaviour.throw(Stage::Mail, &mut self.rng) {
            return self.fail(Stage::Mail, fault);
        }
        self.mail_commands += 1;
        add(&self.shared.counters.transactions, 1);
        self.envelope.open(sender, parameters, declared.smtputf8, self.shared.ledger.keeps_envelopes());
        self.reply(250, "2.1.0", "Ok");
        Flow::Go
    }

    async fn rcpt(&mut self, recipient: &str, parameters: Parameters<'_>) -> io::Result<Flow> {
        let behaviour = Arc::clone(&self.behaviour);
        if !self.envelope.is_open() {
            return Ok(self.complain(SEQUENCE_MAIL));
        }
        let offers = (self.greeting == Greeting::Ehlo).then_some(&behaviour.offers);
        if let Err(complaint) = parameters.check(Of::Rcpt, offers) {
            return Ok(self.complain(complaint));
        }
        if !self.envelope.smtputf8 && !recipient.is_ascii() {
            self.shared.counters.failed(NEEDS_SMTPUTF8.code, 1);
            return Ok(self.complain(NEEDS_SMTPUTF8));
        }
        self.envelope.rcpt_commands += 1;
        if self.envelope.rcpt_commands == 1 && self.queue_is_over(&behaviour) {
            self.pause(Instant::now() + IN_FLOW_DELAY).await?;
        }
        let max = behaviour.recipients_per_transaction_max;
        if max > 0 && self.envelope.recipients >= max {
            self.shared.counters.failed(TOO_MANY_RECIPIENTS.code, 1);
            return Ok(self.complain(TOO_MANY_RECIPIENTS));
        }
        let mut later = None;
        if let Some(conduct) = Conduct::of(recipient) {
            match conduct.act {
                Act::Rcpt(code) if self.shared.attempts.applies(recipient, conduct) => {
                    return Ok(self.fail_rcpt(Fault::Reply(code)));
                }
                Act::Close(code) if self.shared.attempts.applies(recipient, conduct) => {
                    self.fail_rcpt(Fault::Reply(code));
                    return Ok(Flow::Close);
                }
                Act::Slow(ms) if self.shared.attempts.applies(recipient, conduct) => {
                    self.pause(Instant::now() + Duration::from_millis(ms)).await?;
                }
                Act::Data(_) | Act::Content(_) | Act::DropBeforeDot | Act::DropAfterDot => {
                    later = Some(conduct);
                }
                Act::Rcpt(_) | Act::Close(_) | Act::Slow(_) | Act::Mail(_) => {}
            }
        }
        if let Some(fault) = behaviour.throw(Stage::Rcpt, &mut self.rng) {
            return Ok(self.fail_rcpt(fault));
        }
        self.envelope.add(recipient, parameters, later, self.shared.ledger.keeps_envelopes());
        self.reply(250, "2.1.5", "Ok");
        Ok(Flow::Go)
    }

    fn fail_rcpt(&mut self, fault: Fault) -> Flow {
        if let Fault::Reply(code) = fault {
            self.shared.counters.failed(code, 1);
        }
        self.fail(Stage::Rcpt, fault)
    }

    fn queue_is_over(&self, behaviour: &Behaviour) -> bool {
        let rate = behaviour.drain_rate_per_s;
        rate > 0 && self.shared.backlog.level(self.shared.up(), rate) > behaviour.queue_max
    }

    fn data(&mut self) -> Flow {
        let behaviour = Arc::clone(&self.behaviour);
        if !self.envelope.is_open() {
            return self.complain(SEQUENCE_MAIL);
        }
        if self.envelope.recipients == 0 {
            let none_came = self.envelope.rcpt_commands == 0;
            return self.complain(if none_came { SEQUENCE_RCPT } else { NO_RECIPIENTS });
        }
        let by_address = self.conduct(|act| matches!(act, Act::Data(_)));
        let fault = match by_address {
            Some(Act::Data(code)) => Some(Fault::Reply(code)),
            _ => behaviour.throw(Stage::Data, &mut self.rng),
        };
        if let Some(fault) = fault {
            if let Fault::Reply(code) = fault {
                self.shared.counters.failed(code, self.envelope.recipients);
            }
            // RFC 5321 §4.1.1.4 leaves the transaction open; Postfix, Exim and sendmail end it, and so do we.
            self.envelope.clear();
            return self.fail(Stage::Data, fault);
        }
        self.drop_before_dot = self.conduct(|act| act == Act::DropBeforeDot).is_some()
            || behaviour.drop_before_dot.hits(&mut self.rng);
        self.receiving = true;
        self.content.begin(self.shared.ledger.keeps_content(), behaviour.size_max_octets);
        self.reply(354, "", "End data with <CR><LF>.<CR><LF>");
        Flow::Go
    }

    /// The first act of the recipients in hand that `wanted` picks and that applies this time.
    fn conduct(&self, wanted: impl Fn(Act) -> bool) -> Option<Act> {
        let picked = self.envelope.conducts.iter().filter(|(_, c)| wanted(c.act));
        picked.filter(|(address, c)| self.shared.attempts.applies(address, *c)).map(|(_, c)| c.act).next()
    }

    /// The final dot has come: the message is taken, or not, and then the reply is said.
    pub(super) async fn end_of_data(&mut self) -> io::Result<Flow> {
        let behaviour = Arc::clone(&self.behaviour);
        let recipients = self.envelope.recipients;
        let service_us = behaviour.service_us(self.shared.open());
        if service_us > 0 {
            let now = Instant::now();
            let from = self.served_until.max(now.checked_sub(SERVICE_LAG_MAX).unwrap_or(now));
            self.served_until = from + Duration::from_micros(service_us);
            if self.served_until > now {
                self.pause(self.served_until).await?;
            }
        }
        if self.content.too_big() {
            self.shared.counters.failed(TOO_BIG.code, recipients);
            return Ok(self.complain(TOO_BIG));
        }
        let fault = match self.conduct(|act| matches!(act, Act::Content(_))) {
            Some(Act::Content(code)) => Some(Fault::Reply(code)),
            _ => behaviour.throw(Stage::Content, &mut self.rng),
        };
        if let Some(fault) = fault {
            if let Fault::Reply(code) = fault {
                self.shared.counters.failed(code, recipients);
            }
            return Ok(self.fail(Stage::Content, fault));
        }
        let dropped = self.conduct(|act| act == Act::DropAfterDot).is_some()
            || behaviour.drop_after_dot.hits(&mut self.rng);
        self.take(&behaviour, dropped)
    }

    /// Writes the message down, and only then says so.
    fn take(&mut self, behaviour: &Behaviour, dropped: bool) -> io::Result<Flow> {
        let shared = Arc::clone(&self.shared);
        let (transaction, queue_id) = shared.next_queue_id();
        if shared.ledger.keeps_content() {
            let taken = Taken {
                time_us: clock::now_us(),
                connection: self.connection,
                transaction,
                queue_id: &queue_id,
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
        let messages = shared.counters.message(self.envelope.recipients, self.content.octets, shared.up());
        if behaviour.drain_rate_per_s > 0 {
            shared.backlog.add(shared.up(), behaviour.drain_rate_per_s);
        }
        shared.timeline.taken(messages, shared.up());
        if dropped {
            add(&shared.counters.dropped_after_dot, 1);
            return Ok(Flow::Drop);
        }
        self.reply(250, "2.0.0", format_args!("Ok: queued as {queue_id}"));
        Ok(Flow::Go)
    }
}

/// The complaint to a MAIL past the connection's limit.
fn session_limit(behaviour: &Behaviour, mail_commands: u64) -> Option<Complaint> {
    let max = behaviour.messages_per_connection_max;
    if max == 0 || mail_commands < max {
        return None;
    }
    Some(match behaviour.session_limit_style {
        SessionLimitStyle::Exim => Complaint::new(421, "", "too many messages in this connection"),
        SessionLimitStyle::Opensmtpd => {
            Complaint::new(452, "4.5.3", "Command not allowed: Too many messages sent")
        }
    })
}
