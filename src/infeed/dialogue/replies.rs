//! The listening half of the dialogue: reads replies in their order, asks `verdict` what they mean, and
//! writes it into the transaction.
//!
//! Errors: any of [`InfeedError`], with the stage; after one the session is closed. Who is touched by it
//! is decided in [`Dialogue::loss`], unless a reply decided it before.

use tokio::time::Instant;

use super::{Dialogue, End, Heard, Opened, Step};
use crate::infeed::error::InfeedError;
use crate::infeed::lent::Lent;
use crate::infeed::observed::Observed;
use crate::infeed::state::LOSSES_MAX;
use crate::infeed::transaction::{Said, Stage, Work};
use crate::infeed::verdict::{self, Context, Fate, Mta, Session, Verdict};

impl<W: Work> Dialogue<W> {
    pub(super) async fn hear(&mut self, stage: Stage) -> Result<Heard, InfeedError> {
        let reply = self.wire.reply(stage).await?;
        self.replies_due = self.replies_due.saturating_sub(1);
        let said = (reply.code >= 400 || stage == Stage::Content).then(|| reply.said());
        Ok(Heard { code: reply.code, said })
    }

    /// The verdict on a reply; the MTA's and the session's part are carried out, the rest is left.
    /// `Err`: close.
    pub(super) fn judge(
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
        self.shared.meter.refused(stage, &said, verdict.mta, true);
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
    pub(super) async fn envelope(
        &mut self,
        lent: &mut Lent<W>,
        across_dot: bool,
    ) -> Result<Opened, (Stage, InfeedError)> {
        let lock_step = !self.capabilities.pipelining;
        let begun = Instant::now();
        let mut context = Context {
            rcpts_accepted: 0,
            messages: self.messages,
            across_dot,
            shared_content: lent.transaction().shared_content,
            xverp: lent.transaction().xverp.is_some(),
            ..Context::default()
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
            if k == 1 {
                self.shared.meter.first_rcpt(self.stopwatch.elapsed());
            }
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
        self.work.observed(&Observed::Envelope { took: begun.elapsed() });
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
        let ready = if stage == Stage::Data { heard.code == 354 } else { verdict::is_yes(heard.code) };
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
    pub(super) fn farewell(&mut self, stage: Stage, heard: &Heard) -> Result<(), (Stage, InfeedError)> {
        if heard.code == 421 && !self.rotate {
            return Err((stage, InfeedError::Said { stage, said: heard.said() }));
        }
        if stage == Stage::Data && heard.code == 354 {
            let text = "354 to nobody".into();
            return Err((stage, InfeedError::Unexpected { stage, code: heard.code, text }));
        }
        Ok(())
    }

    /// The reply to the final dot or, to the last `chunk`, to BDAT. `early`: it came before all of the
    /// content was written.
    pub(super) fn content_end(
        &mut self,
        mut lent: Lent<W>,
        heard: Heard,
        chunk: bool,
        early: bool,
    ) -> Result<(), InfeedError> {
        let context = Context {
            rcpts_accepted: lent.rcpts_accepted,
            messages: self.messages,
            shared_content: lent.transaction().shared_content,
            chunk,
            first_chunk: chunk && self.accepted == 0,
            ..Context::default()
        };
        if early && heard.code < 400 {
            // Taken before it was sent: this is no answer to it.
            let Said { code, text } = heard.said();
            let error = InfeedError::Unexpected { stage: Stage::Content, code, text };
            self.count_loss(&mut lent, Stage::Content, &error);
            lent.settle();
            return Err(error);
        }
        if verdict::is_yes(heard.code) {
            self.accepted(lent, heard);
            return Ok(());
        }
        let said = heard.said();
        match self.judge(Stage::Content, &heard, &context) {
            Ok(verdict) => {
                lent.decide(Stage::Content, verdict.fate, &said);
                self.answered(lent);
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

    /// Whoever of it is live was accepted.
    pub(super) fn accepted(&mut self, mut lent: Lent<W>, heard: Heard) {
        self.shared.succeeded(lent.transaction().recipients[0].token);
        self.probing = false;
        self.accepted += 1;
        self.cautious = false;
        lent.accept(heard.into_said());
        self.answered(lent);
    }

    /// The connection is lost with `lent` in flight: settles it.
    pub(super) fn loss(&mut self, mut lent: Lent<W>, stage: Stage, error: InfeedError) -> Step<W> {
        let verdict = verdict::on_loss(lent.content_begun && self.wire.content_is_written(0));
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
    pub(super) fn count_loss(&mut self, lent: &mut Lent<W>, stage: Stage, error: &InfeedError) {
        if !lent.any_live() {
            return;
        }
        let token = lent.transaction().recipients[0].token;
        if self.shared.lost(token) >= LOSSES_MAX {
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
