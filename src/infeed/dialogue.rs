//! The exchange on one established session: transactions in, settlements out.
//!
//! Where PIPELINING is offered a message costs one write and one wait: `[content . MAIL RCPT… DATA]`.
//! Else lock step: one command a write. Content never precedes its 354, every reply of a group is read,
//! and what a reply means is asked of `verdict`. Each transaction taken is settled exactly once
//! (`lent`). The session ends with an [`End`]; it fails in no other way.

use std::sync::Arc;

use super::envelope::{self, Commands};
use super::error::InfeedError;
use super::lent::Lent;
use super::state::{Admission, Shared};
use super::transaction::{Capabilities, Said, Stage, Work};
use super::verdict::{self, Context, Fate, Mta, Session, Verdict};
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
    /// The connection is of no use any more; it was not said goodbye.
    Closed(InfeedError),
}

pub struct Dialogue<W: Work> {
    wire: Wire,
    work: Arc<W>,
    shared: Arc<Shared>,
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
        capabilities: Capabilities,
        cautious: bool,
    ) -> Self {
        Self {
            wire,
            work,
            shared,
            capabilities,
            commands: Commands::default(),
            messages: 0,
            accepted: 0,
            cautious,
            needs_reset: false,
            rotate: false,
            probing: false,
        }
    }

    /// Runs until the session ends, and says QUIT where that is in order. `first` goes out at once,
    /// unless the MTA is held meanwhile. Gives the reason and the number of messages accepted.
    pub async fn run(mut self, first: Option<Lent<W>>) -> (End, usize) {
        let mut step = match first {
            Some(first) if self.shared.may_begin() => Step::Begin(first),
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
        match self.shared.admit_transaction().await {
            Admission::Stop => return Step::End(End::Stopped),
            Admission::Probe => self.probing = true,
            Admission::Go => (),
        }
        self.shared.learned(&mut self.capabilities);
        if let Some(transaction) = self.work.try_next(&self.capabilities) {
            return Step::Begin(Lent::new(self.work.clone(), transaction));
        }
        loop {
            tokio::select! {
                biased;
                transaction = self.work.next(&self.capabilities) => return match transaction {
                    Some(transaction) => Step::Begin(Lent::new(self.work.clone(), transaction)),
                    None => {
                        self.shared.drained();
                        Step::End(End::Drained)
                    }
                },
                () = self.shared.stopped() => return Step::End(End::Stopped),
                () = self.wire.idle_end() => (),
            }
            if let Err(error) = self.wire.check_idle() {
                return Step::End(End::Closed(error));
            }
        }
    }

    /// The next transaction for the group that a final dot opens, its commands encoded; only when one is
    /// at hand and nothing speaks against it.
    fn next_across_dot(&mut self) -> Option<Lent<W>> {
        if self.cautious
            || self.rotate
            || self.probing
            || !self.capabilities.pipelining
            || !self.shared.may_group()
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
        envelope::encode(lent, &self.capabilities, self.capabilities.recipients_max, &mut self.commands)
    }

    /// MAIL, RCPT… and DATA in a group of their own, or in lock step.
    async fn begin(&mut self, mut lent: Lent<W>) -> Step<W> {
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
        self.needs_reset = false;
        match heard.code {
            200..300 => Ok(()),
            421 => Err(InfeedError::Said { stage: Stage::Mail, said: heard.said() }),
            code => Err(InfeedError::Unexpected { stage: Stage::Mail, code, text: heard.said().text }),
        }
    }

    async fn opened(&mut self, mut lent: Lent<W>, opened: Result<Opened, (Stage, InfeedError)>) -> Step<W> {
        match opened {
            Ok(Opened::Ready) => Step::Content(lent),
            Ok(Opened::Shut) => {
                self.needs_reset |= lent.mail_open;
                lent.settle();
                Step::Idle
            }
            Ok(Opened::Again) => {
                lent.begin_again();
                Step::Begin(lent)
            }
            Ok(Opened::Nobody) => {
                lent.not_tried();
                lent.settle();
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

    async fn hear(&mut self, stage: Stage) -> Result<Heard, InfeedError> {
        let reply = self.wire.reply(stage).await?;
        let said = (reply.code >= 400 || stage == Stage::Content).then(|| reply.said());
        Ok(Heard { code: reply.code, said })
    }

    /// The verdict on a reply; the MTA's and the session's part are carried out, the rest is left.
    /// `Err`: close.
    fn judge(
        &mut self,
        stage: Stage,
        heard: &Heard,
        context: &Context,
    ) -> Result<Verdict, (Verdict, InfeedError)> {
        let said = heard.said();
        let verdict = verdict::on_reply(stage, &said, context);
        if verdict.mta != Mta::Fine {
            let learned = if verdict.mta == Mta::LearnRecipientsMax {
                context.rcpts_accepted
            } else {
                context.messages
            };
            self.shared.obey(verdict.mta, &said, learned);
        }
        match verdict.session {
            Session::Go => (),
            Session::Cautious => self.cautious = true,
            Session::Rotate => self.rotate = true,
            Session::Close => {
                let Said { code, text } = said;
                return Err(match code {
                    400.. => (verdict, InfeedError::Said { stage, said: Said { code, text } }),
                    _ => (verdict, InfeedError::Unexpected { stage, code, text }),
                });
            }
        }
        Ok(verdict)
    }

    /// Asks for the reply to command `i` of the envelope; in lock step the command is written first.
    async fn ask(&mut self, stage: Stage, i: usize) -> Result<Heard, InfeedError> {
        if !self.capabilities.pipelining {
            self.wire.queue_commands(stage, &self.commands, i)?;
        }
        self.hear(stage).await
    }

    /// Reads the replies to MAIL, RCPT… and DATA, and decides what they decide. On an error everything
    /// that it decides is left to [`Dialogue::loss`], unless a reply decided it.
    async fn envelope(
        &mut self,
        lent: &mut Lent<W>,
        across_dot: bool,
    ) -> Result<Opened, (Stage, InfeedError)> {
        let lock_step = !self.capabilities.pipelining;
        let mut context = Context {
            rcpts_accepted: 0,
            messages: self.messages,
            across_dot,
            shared_content: lent.transaction().shared_content,
        };
        let mail = self.ask(Stage::Mail, 0).await.map_err(|e| (Stage::Mail, e))?;
        let mail = self.rule(lent, Stage::Mail, None, &mail, &context)?;
        lent.mail_open = mail == Fate::Taken;
        if lent.mail_open {
            self.messages += 1;
        } else if lock_step {
            return Ok(Opened::Shut);
        }
        let rcpts = self.commands.ends.len() - 2;
        let mut at = None;
        for k in 1..=rcpts {
            let heard = self.ask(Stage::Rcpt, k).await.map_err(|e| (Stage::Rcpt, e))?;
            if !lent.mail_open {
                // Said of MAIL already; only a farewell is news.
                self.farewell(Stage::Rcpt, &heard)?;
                continue;
            }
            at = lent.next_live(at.map_or(0, |at| at + 1));
            let Some(i) = at else { unreachable!("an RCPT was written for every live recipient") };
            let fate = self.rule(lent, Stage::Rcpt, Some(i), &heard, &context)?;
            context.rcpts_accepted += usize::from(fate == Fate::Taken);
        }
        lent.rcpts_accepted = context.rcpts_accepted;
        if lock_step && lent.rcpts_accepted == 0 {
            return Ok(Opened::Shut);
        }
        let data = self.ask(Stage::Data, rcpts + 1).await.map_err(|e| (Stage::Data, e))?;
        if data.code == 354 && lent.rcpts_accepted == 0 {
            lent.mail_open = false;
            return Ok(Opened::Nobody);
        }
        if !lent.mail_open {
            self.farewell(Stage::Data, &data)?;
            return Ok(if mail == Fate::Again { Opened::Again } else { Opened::Shut });
        }
        let fate = self.rule(lent, Stage::Data, None, &data, &context)?;
        if fate != Fate::Taken {
            return Ok(Opened::Shut);
        }
        assert!(lent.any_live(), "354 with accepted RCPTs leaves somebody to send to");
        lent.mail_open = false;
        Ok(Opened::Ready)
    }

    /// Judges a reply and decides for recipient `i` or, without, for the transaction.
    fn rule(
        &mut self,
        lent: &mut Lent<W>,
        stage: Stage,
        i: Option<usize>,
        heard: &Heard,
        context: &Context,
    ) -> Result<Fate, (Stage, InfeedError)> {
        // The common case without a copy of the text.
        let ready = if stage == Stage::Data { heard.code == 354 } else { (200..300).contains(&heard.code) };
        if ready && !(stage == Stage::Data && context.rcpts_accepted == 0) {
            return Ok(Fate::Taken);
        }
        let (verdict, closed) = match self.judge(stage, heard, context) {
            Ok(verdict) => (verdict, None),
            Err((verdict, error)) => (verdict, Some(error)),
        };
        let fate = verdict.fate;
        if let Some(error) = closed {
            if fate == Fate::Lost {
                // Counted where losses are, with the rest of the transaction.
                return Err((stage, error));
            }
            lent.not_tried();
            return Err((stage, error));
        }
        match i {
            Some(i) => lent.decide_one(i, stage, fate, &heard.said()),
            None => lent.decide(stage, fate, &heard.said()),
        }
        Ok(fate)
    }

    /// A 421 or a code out of place amid replies that decide nothing any more.
    fn farewell(&mut self, stage: Stage, heard: &Heard) -> Result<(), (Stage, InfeedError)> {
        if heard.code == 421 && !self.rotate {
            return Err((stage, InfeedError::Said { stage, said: heard.said() }));
        }
        if stage == Stage::Data && heard.code == 354 {
            let text = "354 to nobody".into();
            return Err((stage, InfeedError::Unexpected { stage, code: heard.code, text }));
        }
        Ok(())
    }

    /// Content with its final dot, and the next envelope in the same group where that may be.
    async fn content(&mut self, mut lent: Lent<W>) -> Step<W> {
        if let Err(error) = self.work.hand_out(lent.transaction()).await {
            lent.not_tried();
            lent.settle();
            return Step::End(End::Closed(error.into()));
        }
        self.commands.clear();
        let next = self.next_across_dot();
        let content = lent.transaction().content.wire.clone();
        lent.content_begun = true;
        if let Err(error) = self.wire.queue(Stage::Content, Some(content), &self.commands.octets) {
            // `next` settles itself: not tried.
            return self.loss(lent, Stage::Content, error);
        }
        let heard = match self.hear(Stage::Content).await {
            Ok(heard) => heard,
            Err(error) => return self.loss(lent, Stage::Content, error),
        };
        if let Err(error) = self.content_end(lent, &heard) {
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

    /// The reply to the final dot.
    fn content_end(&mut self, mut lent: Lent<W>, heard: &Heard) -> Result<(), InfeedError> {
        let said = heard.said();
        let early = !self.wire.dot_is_written();
        let context = Context {
            rcpts_accepted: lent.rcpts_accepted,
            messages: self.messages,
            across_dot: false,
            shared_content: lent.transaction().shared_content,
        };
        if early && said.code < 400 {
            // Taken before it was sent: this is no answer to it.
            let Said { code, text } = said;
            let error = InfeedError::Unexpected { stage: Stage::Content, code, text };
            self.count_loss(&mut lent, Stage::Content, &error);
            lent.settle();
            return Err(error);
        }
        if (200..300).contains(&said.code) {
            self.shared.succeeded(lent.transaction().recipients[0].token);
            self.probing = false;
            self.accepted += 1;
            self.cautious = false;
            lent.accept(said);
            lent.settle();
            return Ok(());
        }
        match self.judge(Stage::Content, heard, &context) {
            Ok(verdict) => {
                lent.decide(Stage::Content, verdict.fate, &said);
                lent.settle();
                // An answer to a part of it: the rest would be taken for commands.
                if early { Err(InfeedError::Said { stage: Stage::Content, said }) } else { Ok(()) }
            }
            Err((verdict, error)) => {
                match verdict.fate {
                    Fate::Lost => self.count_loss(&mut lent, Stage::Content, &error),
                    fate => lent.decide(Stage::Content, fate, &said),
                }
                lent.settle();
                Err(error)
            }
        }
    }

    /// The connection is lost with `lent` in flight: settles it.
    fn loss(&mut self, mut lent: Lent<W>, stage: Stage, error: InfeedError) -> Step<W> {
        let verdict = verdict::on_loss(lent.content_begun && self.wire.dot_is_written());
        let sent_away = matches!(&error, InfeedError::Said { said, .. } if said.code == 421)
            && !matches!(stage, Stage::Data | Stage::Content);
        match verdict.fate {
            Fate::InDoubt => lent.doubt(&error.to_string()),
            _ if sent_away => lent.not_tried(),
            _ => self.count_loss(&mut lent, stage, &error),
        }
        lent.settle();
        // An MTA that closes after it has said that this was its last message did no wrong.
        Step::End(if self.rotate { End::Rotate } else { End::Closed(error) })
    }

    /// Not tried, unless this transaction has lost its connection too often: then deferred, with the
    /// error as the text, so that a message that kills every connection does not come back for ever.
    fn count_loss(&mut self, lent: &mut Lent<W>, stage: Stage, error: &InfeedError) {
        if !lent.any_live() {
            return;
        }
        let token = lent.transaction().recipients[0].token;
        if self.shared.lost(token) >= super::state::LOSSES_MAX {
            let said = match error {
                InfeedError::Said { said, .. } => said.clone(),
                error => Said { code: 451, text: format!("4.4.2 {error}") },
            };
            lent.decide(stage, Fate::Deferred, &said);
        } else {
            lent.not_tried();
        }
    }
}

impl<W: Work> Drop for Dialogue<W> {
    fn drop(&mut self) {
        self.release_probe();
    }
}
