//! What each command does: the SMTP state machine (RFC 5321 §4.1.4), and where misbehaviour strikes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::command::{Command, Complaint};
use super::conduct::{Act, Conduct};
use super::counters::add;
use super::parameters::{Of, Parameters};
use super::session::{Flow, Greeting, Session};
use super::settings::{Behaviour, Fault, SessionLimitStyle, Stage};

/// Postfix's `in_flow_delay`.
const IN_FLOW_DELAY: Duration = Duration::from_secs(1);

pub(super) const SEQUENCE_HELO: Complaint = Complaint::new(503, "5.5.1", "Error: send HELO/EHLO first");
const SEQUENCE_NESTED: Complaint = Complaint::new(503, "5.5.1", "Error: nested MAIL command");
pub(super) const SEQUENCE_MAIL: Complaint = Complaint::new(503, "5.5.1", "Error: need MAIL command");
pub(super) const UNWELCOME: Complaint = Complaint::new(503, "5.5.1", "Error: no service here; send QUIT");
const STORAGE_FULL: Complaint = Complaint::new(452, "4.3.1", "Insufficient system storage");
pub(super) const TOO_BIG: Complaint = Complaint::new(552, "5.3.4", "Error: message file too big");
const TOO_MANY_RECIPIENTS: Complaint = Complaint::new(452, "4.5.3", "Error: too many recipients");
const NEEDS_SMTPUTF8: Complaint = Complaint::new(553, "5.6.7", "Error: address needs SMTPUTF8");
const VERP_WITHOUT_SENDER: Complaint = Complaint::new(503, "5.5.4", "Error: XVERP requires non-null sender");
const RCPT_AFTER_BDAT: Complaint = Complaint::new(503, "5.5.1", "Error: RCPT after BDAT");

impl Session {
    pub(super) async fn obey(&mut self, command: Command<'_>) -> io::Result<Flow> {
        match command {
            Command::Quit => {
                self.say(221, "2.0.0", "Bye");
                return Ok(Flow::Close);
            }
            Command::Bdat(chunk) => return Ok(self.bdat(chunk)),
            _ if self.greeting == Greeting::Unwelcome => return Ok(self.complain(UNWELCOME)),
            Command::Ehlo => return Ok(self.ehlo()),
            Command::Helo => {
                self.envelope.clear();
                self.greeting = Greeting::Helo;
                let shared = Arc::clone(&self.shared);
                self.say(250, "", &shared.hostname);
            }
            Command::Mail { sender, parameters } => return Ok(self.mail(sender, parameters)),
            Command::Rcpt { recipient, parameters } => return self.rcpt(recipient, parameters).await,
            Command::Data => return Ok(self.data()),
            Command::Rset => {
                self.envelope.clear();
                self.say(250, "2.0.0", "Ok");
            }
            Command::Noop => self.say(250, "2.0.0", "Ok"),
            Command::Vrfy => self.say(252, "2.0.0", "Ok: cannot verify, send some mail"),
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
            (offers.chunking, "CHUNKING"),
            (offers.xverp, "XVERP"),
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
        if self.greeting == Greeting::None {
            return self.complain(SEQUENCE_HELO);
        }
        if self.envelope.is_open() {
            return self.complain(SEQUENCE_NESTED);
        }
        let offers = (self.greeting == Greeting::Ehlo).then_some(&self.behaviour.offers);
        let declared = match parameters.check(Of::Mail, offers) {
            Ok(declared) => declared,
            Err(complaint) => return self.complain(complaint),
        };
        if declared.verp.is_some() && sender.is_empty() {
            return self.complain(VERP_WITHOUT_SENDER);
        }
        if !declared.smtputf8 && !sender.is_ascii() {
            return self.complain(NEEDS_SMTPUTF8);
        }
        if self.behaviour.storage_full {
            return self.complain(STORAGE_FULL);
        }
        if let Some(over) = session_limit(&self.behaviour, self.mail_commands) {
            return self.complain(over);
        }
        if declared
            .size_octets
            .is_some_and(|o| self.behaviour.size_max_octets > 0 && o > self.behaviour.size_max_octets)
        {
            return self.complain(TOO_BIG);
        }
        if let Some(conduct @ Conduct { act: Act::Mail(code), .. }) = Conduct::of(sender)
            && self.shared.attempts.applies(sender, conduct)
        {
            return self.fail(Stage::Mail, Fault::Reply(code));
        }
        if let Some(fault) = self.behaviour.throw(Stage::Mail, &mut self.rng) {
            return self.fail(Stage::Mail, fault);
        }
        self.mail_commands += 1;
        add(&self.shared.counters.transactions, 1);
        self.envelope.open(sender, parameters, &declared, self.shared.ledger.keeps_envelopes());
        self.say(250, "2.1.0", "Ok");
        Flow::Go
    }

    async fn rcpt(&mut self, recipient: &str, parameters: Parameters<'_>) -> io::Result<Flow> {
        if !self.envelope.is_open() {
            return Ok(self.complain(SEQUENCE_MAIL));
        }
        if self.envelope.chunked {
            return Ok(self.complain(RCPT_AFTER_BDAT));
        }
        let offers = (self.greeting == Greeting::Ehlo).then_some(&self.behaviour.offers);
        if let Err(complaint) = parameters.check(Of::Rcpt, offers) {
            return Ok(self.complain(complaint));
        }
        if !self.envelope.smtputf8 && !recipient.is_ascii() {
            self.shared.counters.failed(NEEDS_SMTPUTF8.code, 1);
            return Ok(self.complain(NEEDS_SMTPUTF8));
        }
        self.envelope.rcpt_commands += 1;
        if self.envelope.rcpt_commands == 1 && self.queue_is_over() {
            self.pause(Instant::now() + IN_FLOW_DELAY).await?;
        }
        let max = self.behaviour.recipients_per_transaction_max;
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
        if let Some(fault) = self.behaviour.throw(Stage::Rcpt, &mut self.rng) {
            return Ok(self.fail_rcpt(fault));
        }
        self.envelope.add(recipient, parameters, later, self.shared.ledger.keeps_envelopes());
        self.say(250, "2.1.5", "Ok");
        Ok(Flow::Go)
    }

    fn fail_rcpt(&mut self, fault: Fault) -> Flow {
        if let Fault::Reply(code) = fault {
            self.shared.counters.failed(code, 1);
        }
        self.fail(Stage::Rcpt, fault)
    }

    fn queue_is_over(&self) -> bool {
        let rate = self.behaviour.drain_rate_per_s;
        rate > 0 && self.shared.backlog.level(self.shared.up(), rate) > self.behaviour.queue_max
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
