//! The exchange on one established session: transactions in, settlements out.
//!
//! Where PIPELINING is offered a message costs one write and one wait: `[content . MAIL RCPT… DATA]`.
//! With CHUNKING too, several messages do (`bdat`), where the settings ask for it. Else lock step: one
//! command a write. Without BDAT content never precedes its 354. Every reply of a group is read, and what
//! a reply means is asked of `verdict`. Each transaction taken is settled exactly once (`lent`). The
//! session ends with an [`End`]; it fails in no other way.

mod bdat;
mod replies;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use self::bdat::Chunks;
use super::envelope::{self, Commands, Ending};
use super::error::InfeedError;
use super::lent::Lent;
use super::meter::Stopwatch;
use super::observed::Observed;
use super::state::{Admission, Seat, Shared};
use super::transaction::{Capabilities, Said, Stage, Work};
use super::verdict::Context;
use super::wire::Wire;

/// Why a session ended.
#[derive(Debug)]
pub enum End {
    /// There is no more work.
    Drained,
    /// The pool stops.
    Stopped,
    /// As many messages as one connection may carry.
    Rotate,
    /// There was nothing to send for a while.
    Idle,
    /// There are more sessions than shall be.
    Surplus,
    /// The connection is of no use any more; it was not said goodbye.
    Closed(InfeedError),
}

pub struct Dialogue<W: Work> {
    wire: Wire,
    work: Arc<W>,
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    capabilities: Capabilities,
    commands: Commands,
    /// Messages begun (MAIL accepted) on this connection.
    messages: usize,
    /// Messages accepted on this connection.
    pub accepted: usize,
    /// No grouping until a message is accepted.
    cautious: bool,
    needs_reset: bool,
    rotate: bool,
    /// This session holds the probe of a held MTA.
    probing: bool,
    chunks: Chunks<W>,
    /// Replies of a BDAT group that are still to come.
    replies_due: usize,
    stopwatch: Stopwatch,
}

/// Where the session stands.
enum Step<W: Work> {
    Idle,
    /// To be sent in a group of its own.
    Begin(Lent<W>),
    /// Got its 354: the content is due.
    Content(Lent<W>),
    End(End),
}

/// A reply, free of the buffer; `said` where somebody may want the text.
struct Heard {
    code: u16,
    said: Option<Said>,
}

impl Heard {
    fn into_said(self) -> Said {
        self.said.unwrap_or(Said { code: self.code, text: String::new() })
    }

    fn said(&self) -> Said {
        self.said.clone().unwrap_or_else(|| Said { code: self.code, text: String::new() })
    }
}

/// The envelope's fate.
enum Opened {
    /// 354, and somebody to send to.
    Ready,
    /// 354, and nobody to send to.
    Nobody,
    /// Nothing is open.
    Shut,
    /// MAIL came too early after the final dot.
    Again,
}

impl<W: Work> Dialogue<W> {
    /// `cautious`: the connection before this one ended badly.
    pub fn new(
        wire: Wire,
        work: Arc<W>,
        shared: Arc<Shared>,
        seat: Arc<Seat>,
        capabilities: Capabilities,
        cautious: bool,
    ) -> Self {
        Self {
            wire,
            work,
            shared,
            seat,
            capabilities,
            commands: Commands::default(),
            messages: 0,
            accepted: 0,
            cautious,
            needs_reset: false,
            rotate: false,
            probing: false,
            chunks: Chunks::new(),
            replies_due: 0,
            stopwatch: Stopwatch::start(),
        }
    }

    /// Runs until the session ends, and says QUIT where that is in order. `first` goes out at once,
    /// unless the MTA is held meanwhile. Gives the reason and the number of messages accepted.
    pub async fn run(mut self, first: Option<Lent<W>>) -> (End, usize) {
        let mut step = match first.map(|first| (self.shared.try_admit_transaction(), first)) {
            Some((Ok(Admission::Go), first)) => Step::Begin(first),
            Some((Ok(Admission::Probe), first)) => {
                self.probing = true;
                Step::Begin(first)
            }
            _ => Step::Idle,
        };
        let end = loop {
            step = match step {
                Step::Idle => self.next().await,
                Step::Begin(lent) => self.begin(lent).await,
                Step::Content(lent) => self.content(lent).await,
                Step::End(end) => break end,
            };
        };
        self.release_probe();
        let accepted = self.accepted;
        if !matches!(end, End::Closed(_)) {
            self.wire.quit().await;
        }
        (end, accepted)
    }

    /// Every reply to it was read: it is counted, and settled.
    fn answered(&mut self, lent: Lent<W>) {
        let octets = if lent.content_begun { lent.transaction().content.wire.len() } else { 0 };
        self.seat.answered(self.stopwatch.answered(&self.shared.meter, lent.results(), octets));
        lent.settle();
    }

    fn release_probe(&mut self) {
        if std::mem::take(&mut self.probing) {
            self.shared.probe_ended();
        }
    }

    async fn next(&mut self) -> Step<W> {
        // A probe that was answered is over, whatever the answer: it asks for admission like others.
        self.release_probe();
        if self.rotate || self.messages >= self.shared.messages_max() {
            return Step::End(End::Rotate);
        }
        if self.seat.leaves() {
            return Step::End(End::Surplus);
        }
        let idle_end = Instant::now() + Duration::from_millis(self.shared.config.idle_timeout_ms);
        let admission = if self.shared.may_begin() {
            Admission::Go
        } else {
            let admission = tokio::select! {
                biased;
                admission = self.shared.admit_transaction() => admission,
                error = self.wire.idle_end() => return Step::End(End::Closed(error)),
                () = sleep_until(idle_end) => return Step::End(End::Idle),
            };
            self.stopwatch.held();
            admission
        };
        match admission {
            Admission::Stop => return Step::End(End::Stopped),
            Admission::Probe => self.probing = true,
            Admission::Go => (),
        }
        self.shared.learned(&mut self.capabilities);
        if let Some(transaction) = self.work.try_next(&self.capabilities) {
            return Step::Begin(Lent::new(self.work.clone(), transaction));
        }
        let transaction = tokio::select! {
            biased;
            // What is at hand stays there for another MTA; admission is asked for anew.
            () = self.shared.admission_of_sessions_over(&self.seat, self.probing) => return Step::Idle,
            transaction = self.work.next(&self.capabilities) => transaction,
            error = self.wire.idle_end() => return Step::End(End::Closed(error)),
            () = sleep_until(idle_end) => return Step::End(End::Idle),
        };
        self.stopwatch.idled(&self.shared.meter);
        let Some(transaction) = transaction else {
            self.shared.drained();
            return Step::End(End::Drained);
        };
        let lent = Lent::new(self.work.clone(), transaction);
        if self.probing || self.shared.may_begin() {
            return Step::Begin(lent);
        }
        // Held or paused in the moment that it came.
        lent.settle();
        Step::Idle
    }

    /// The next transaction for the group that a final dot opens, its commands encoded; only when one is
    /// at hand and nothing speaks against it.
    fn next_across_dot(&mut self) -> Option<Lent<W>> {
        if self.cautious
            || self.rotate
            || self.probing
            || !self.capabilities.pipelining
            || !self.shared.may_group()
            || self.seat.leaves()
            || self.messages >= self.shared.messages_max()
        {
            return None;
        }
        self.shared.learned(&mut self.capabilities);
        let transaction = self.work.try_next(&self.capabilities)?;
        let mut lent = Lent::new(self.work.clone(), transaction);
        if self.encode(&mut lent) {
            return Some(lent);
        }
        lent.settle();
        None
    }

    fn encode(&mut self, lent: &mut Lent<W>) -> bool {
        self.commands.clear();
        let recipients_max = self.capabilities.recipients_max;
        envelope::encode(lent, &self.capabilities, recipients_max, &mut self.commands, Ending::Data)
    }

    /// MAIL, RCPT… and DATA in a group of their own, or in lock step; or all of it, and more, by BDAT.
    async fn begin(&mut self, mut lent: Lent<W>) -> Step<W> {
        if self.speaks_bdat() {
            return self.group(lent).await;
        }
        if !self.encode(&mut lent) {
            lent.settle();
            return Step::Idle;
        }
        if self.needs_reset
            && let Err(error) = self.reset().await
        {
            return self.loss(lent, Stage::Mail, error);
        }
        if !self.capabilities.pipelining {
            let opened = self.envelope(&mut lent, false).await;
            return self.opened(lent, opened).await;
        }
        if let Err(error) = self.wire.queue(Stage::Mail, None, &self.commands.octets) {
            return self.loss(lent, Stage::Mail, error);
        }
        let opened = self.envelope(&mut lent, false).await;
        self.opened(lent, opened).await
    }

    /// RSET, alone in its write (Exim), before the MAIL that follows a transaction without content.
    async fn reset(&mut self) -> Result<(), InfeedError> {
        self.wire.queue(Stage::Mail, None, b"RSET\r\n")?;
        let heard = self.hear(Stage::Mail).await?;
        self.reset_answered(&heard)
    }

    fn reset_answered(&mut self, heard: &Heard) -> Result<(), InfeedError> {
        self.needs_reset = false;
        match heard.code {
            200..300 => Ok(()),
            // It takes no more messages here, and has said so.
            400.. if self.rotate => Ok(()),
            // As at the MAIL behind it: a complaint about pipelining is learned, and what the MTA refuses
            // or leaves unread of the group was not tried.
            400.. => {
                let context = Context { messages: self.messages, ..Context::default() };
                match self.judge(Stage::Mail, heard, &context) {
                    Ok(_) if self.rotate => Ok(()),
                    // A refusal of what can't be refused: the answer to something else.
                    Ok(_) => Err(Self::unexpected(heard)),
                    Err((_, error)) => Err(error),
                }
            }
            _ => Err(Self::unexpected(heard)),
        }
    }

    /// What RSET is never answered with.
    fn unexpected(heard: &Heard) -> InfeedError {
        let Said { code, text } = heard.said();
        InfeedError::Unexpected { stage: Stage::Mail, code, text }
    }

    async fn opened(&mut self, mut lent: Lent<W>, opened: Result<Opened, (Stage, InfeedError)>) -> Step<W> {
        match opened {
            Ok(Opened::Ready) => Step::Content(lent),
            Ok(Opened::Shut) => {
                self.needs_reset |= lent.mail_open;
                self.answered(lent);
                Step::Idle
            }
            Ok(Opened::Again) => {
                lent.begin_again();
                Step::Begin(lent)
            }
            Ok(Opened::Nobody) => {
                lent.not_tried();
                self.answered(lent);
                match self.lone_dot().await {
                    Ok(()) => Step::Idle,
                    Err(error) => Step::End(End::Closed(error)),
                }
            }
            Err((stage, error)) => self.loss(lent, stage, error),
        }
    }

    /// 354 came though nobody was accepted: an empty message to nobody. Whatever the MTA says to it,
    /// nothing counts as accepted.
    async fn lone_dot(&mut self) -> Result<(), InfeedError> {
        self.wire.queue(Stage::Content, None, b".\r\n")?;
        let heard = self.hear(Stage::Content).await?;
        self.needs_reset = false;
        if heard.code == 421 {
            return Err(InfeedError::Said { stage: Stage::Content, said: heard.said() });
        }
        Ok(())
    }

    /// Content with its final dot, and the next envelope in the same group where that may be.
    async fn content(&mut self, mut lent: Lent<W>) -> Step<W> {
        if let Err(error) = self.work.hand_out(&[lent.transaction()]).await {
            lent.not_tried();
            lent.settle();
            return Step::End(End::Closed(error.into()));
        }
        self.commands.clear();
        let next = self.next_across_dot();
        let content = lent.transaction().content.wire.clone();
        lent.content_begun = true;
        let begun = Instant::now();
        if let Err(error) = self.wire.queue(Stage::Content, Some(content), &self.commands.octets) {
            // `next` settles itself: not tried.
            return self.loss(lent, Stage::Content, error);
        }
        let heard = match self.hear(Stage::Content).await {
            Ok(heard) => heard,
            Err(error) => return self.loss(lent, Stage::Content, error),
        };
        let took = begun.elapsed();
        self.work.observed(&Observed::Content { took });
        if next.is_some() {
            self.shared.meter.grouped_dot(took);
        }
        if let Err(error) = self.content_end(lent, heard, false, !self.wire.content_is_written(0)) {
            return Step::End(End::Closed(error));
        }
        match next {
            Some(mut next) => {
                let opened = self.envelope(&mut next, true).await;
                self.opened(next, opened).await
            }
            None => Step::Idle,
        }
    }
}

impl<W: Work> Drop for Dialogue<W> {
    fn drop(&mut self) {
        self.release_probe();
    }
}
