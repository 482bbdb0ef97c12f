//! Content by BDAT (RFC 3030): `MAIL RCPT… BDAT n LAST content` for one transaction or several in one
//! write, and all their replies.
//!
//! No 354 is waited for, so whoever's content is in the group is handed out before it is written. RSET
//! stands between two transactions: an MTA that refused all RCPTs of the first may keep its MAIL open
//! (Exim), and the second's recipients would join it. The first message of a session goes alone, and so
//! does the next one after an error, until one is accepted.
//!
//! Guarantees and errors as in `dialogue`; what a lost connection leaves of a group is `verdict`'s to say.

use std::collections::VecDeque;
use std::iter::{once, repeat_n};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Dialogue, End, Heard, Step};
use crate::infeed::config::PIPELINING_DEPTH_MAX;
use crate::infeed::envelope::{self, Ending};
use crate::infeed::error::InfeedError;
use crate::infeed::lent::Lent;
use crate::infeed::observed::Observed;
use crate::infeed::transaction::{Said, Stage, Transaction, Work};
use crate::infeed::verdict::{self, Context, Fate, Verdict};
use crate::message::Content;

/// The session ends.
pub(super) struct Broken {
    stage: Stage,
    error: InfeedError,
    /// Of the transaction at which it ended, if its content was not written.
    fate: Fate,
    /// RSET was refused, which no MTA does: an answer to something else, and so may others be that came
    /// before it in the group.
    out_of_step: bool,
}

impl From<(Stage, InfeedError)> for Broken {
    fn from((stage, error): (Stage, InfeedError)) -> Self {
        Self { stage, error, fate: Fate::Lost, out_of_step: false }
    }
}

/// What is kept from group to group.
pub(super) struct Chunks<W: Work> {
    /// Empty between two groups; its room is kept.
    group: VecDeque<Lent<W>>,
    /// Contents of the group, each to go in before `commands[at..]`.
    contents: Vec<(usize, Bytes)>,
    /// Those of the group whose BDAT was answered well: accepted, once the replies prove to be in step.
    taken: Vec<(Lent<W>, Heard)>,
    /// The last content whose dots had been stuffed, and the same without: shared content comes again.
    unstuffed: Option<(Bytes, Bytes)>,
    /// When the group was written.
    begun: Instant,
}

impl<W: Work> Chunks<W> {
    pub fn new() -> Self {
        Self {
            group: VecDeque::new(),
            contents: Vec::new(),
            taken: Vec::new(),
            unstuffed: None,
            begun: Instant::now(),
        }
    }

    fn octets_of(&mut self, content: &Content) -> Bytes {
        let same = |a: &Bytes, b: &Bytes| std::ptr::eq(a.as_ptr(), b.as_ptr()) && a.len() == b.len();
        match &self.unstuffed {
            // The copy that is kept holds the memory, so that no other content can be there.
            Some((wire, octets)) if same(wire, &content.wire) => octets.clone(),
            _ => {
                let octets = content.unstuffed();
                if !same(&octets, &content.wire) {
                    self.unstuffed = Some((content.wire.clone(), octets.clone()));
                }
                octets
            }
        }
    }
}

impl<W: Work> Dialogue<W> {
    /// BDAT needs PIPELINING: in lock step it would gain nothing over DATA.
    pub(super) fn speaks_bdat(&self) -> bool {
        self.capabilities.chunking && self.capabilities.pipelining
    }

    /// Transactions that the next group may hold.
    fn depth(&self) -> usize {
        let alone = self.cautious || self.probing || self.accepted == 0 || !self.shared.may_group();
        if alone {
            return 1;
        }
        let left = self.shared.messages_max().saturating_sub(self.messages);
        self.shared.config.pipelining_depth_max.min(left).clamp(1, PIPELINING_DEPTH_MAX)
    }

    /// One group, from `first` on, and all its replies.
    pub(super) async fn group(&mut self, first: Lent<W>) -> Step<W> {
        let mut group = std::mem::take(&mut self.chunks.group);
        let resets = self.needs_reset;
        self.gather(&mut group, first);
        let step = if group.is_empty() { Step::Idle } else { self.exchange(&mut group, resets).await };
        assert!(group.is_empty(), "every transaction of a group is settled");
        self.chunks.group = group;
        step
    }

    /// Encodes `first` and as many of what is at hand as the group may hold.
    fn gather(&mut self, group: &mut VecDeque<Lent<W>>, first: Lent<W>) {
        let depth = self.depth();
        self.commands.clear();
        self.chunks.contents.clear();
        let mut next = Some(first);
        while let Some(mut lent) = next.take() {
            let octets = self.chunks.octets_of(&lent.transaction().content);
            let start = (self.commands.octets.len(), self.commands.ends.len());
            if self.needs_reset || !group.is_empty() {
                self.commands.reset();
            }
            let ending = Ending::Bdat { octets: octets.len() };
            let recipients_max = self.capabilities.recipients_max;
            if !envelope::encode(&mut lent, &self.capabilities, recipients_max, &mut self.commands, ending) {
                self.commands.octets.truncate(start.0);
                self.commands.ends.truncate(start.1);
                lent.settle();
                return;
            }
            self.chunks.contents.push((self.commands.octets.len(), octets));
            group.push_back(lent);
            if group.len() < depth {
                let transaction = self.work.try_next(&self.capabilities);
                next = transaction.map(|transaction| Lent::new(self.work.clone(), transaction));
            }
        }
    }

    /// `resets`: the group begins with RSET.
    async fn exchange(&mut self, group: &mut VecDeque<Lent<W>>, resets: bool) -> Step<W> {
        let all: [&Transaction; PIPELINING_DEPTH_MAX] =
            std::array::from_fn(|i| group[i.min(group.len() - 1)].transaction());
        if let Err(error) = self.work.hand_out(&all[..group.len()]).await {
            give_back(group);
            return Step::End(End::Closed(error.into()));
        }
        if let Err(error) =
            self.wire.queue_chunks(Stage::Mail, &self.commands.octets, &mut self.chunks.contents)
        {
            give_back(group);
            return Step::End(End::Closed(error));
        }
        group.iter_mut().for_each(|lent| lent.content_begun = true);
        self.chunks.begun = Instant::now();
        self.replies_due = self.commands.ends.len();
        let count = group.len();
        for k in 0..count {
            if let Err(broken) = self.chunk(group, k, k > 0 || resets).await {
                self.settle_taken(broken.out_of_step.then_some(&broken.error));
                let answered = k + group.len() < count;
                return self.broken(group, count, answered, broken).await;
            }
        }
        match self.wire.quiet(Stage::Content) {
            Ok(()) => {
                self.settle_taken(None);
                Step::Idle
            }
            Err(error) => {
                // a farewell says nothing against what was said before it
                let is_farewell = matches!(error, InfeedError::Said { .. });
                self.settle_taken((!is_farewell).then_some(&error));
                Step::End(End::Closed(error))
            }
        }
    }

    /// The replies of the group are all there: what was answered well is accepted, or in doubt where one of
    /// them was not asked for, since nobody knows then which one. With DATA a 354 keeps both ends in step.
    fn settle_taken(&mut self, out_of_step: Option<&InfeedError>) {
        let mut taken = std::mem::take(&mut self.chunks.taken);
        for (mut lent, heard) in taken.drain(..) {
            match out_of_step {
                Some(error) => {
                    lent.doubt(&error.to_string());
                    lent.settle();
                }
                None => self.accepted(lent, heard),
            }
        }
        self.chunks.taken = taken;
    }

    /// The replies to transaction `k`, the first of `group`: it is settled and gone, or an error left it
    /// there, unless its own end was answered.
    async fn chunk(&mut self, group: &mut VecDeque<Lent<W>>, k: usize, reset: bool) -> Result<(), Broken> {
        if reset {
            let heard = self.hear(Stage::Mail).await.map_err(|e| (Stage::Mail, e))?;
            self.reset_answered(&heard).map_err(|error| Broken {
                out_of_step: !matches!(error, InfeedError::Said { .. }),
                ..(Stage::Mail, error).into()
            })?;
        }
        let Some(lent) = group.front_mut() else { unreachable!("as many as were written") };
        let mut context = Context {
            messages: self.messages,
            across_dot: k > 0,
            shared_content: lent.transaction().shared_content,
            chunk: true,
            xverp: lent.transaction().xverp.is_some(),
            rotating: self.rotate,
            ..Context::default()
        };
        let mail = self.hear(Stage::Mail).await.map_err(|e| (Stage::Mail, e))?;
        if !verdict::is_yes(mail.code) {
            let fate = match self.judge(Stage::Mail, &mail, &context) {
                Ok(verdict) => verdict.fate,
                Err((Verdict { fate, .. }, error)) => {
                    return Err(Broken { fate, ..(Stage::Mail, error).into() });
                }
            };
            return self.mail_refused(group, k, fate, &mail.said()).await;
        }
        self.messages += 1;
        self.needs_reset = true;
        let mut at = None;
        for _ in 0..lent.rcpts_sent {
            let heard = self.hear(Stage::Rcpt).await.map_err(|e| (Stage::Rcpt, e))?;
            if at.is_none() && k == 0 {
                self.shared.meter.first_rcpt(self.stopwatch.elapsed());
            }
            at = lent.next_live(at.map_or(0, |at| at + 1));
            let Some(i) = at else { unreachable!("an RCPT was written for every live recipient") };
            if verdict::is_yes(heard.code) {
                context.rcpts_accepted += 1;
                continue;
            }
            match self.judge(Stage::Rcpt, &heard, &context) {
                Ok(verdict) => lent.decide_one(i, Stage::Rcpt, verdict.fate, &heard.said()),
                Err((Verdict { fate, .. }, error)) => {
                    return Err(Broken { fate, ..(Stage::Rcpt, error).into() });
                }
            }
        }
        self.work.observed(&Observed::Envelope { took: self.chunks.begun.elapsed() });
        lent.rcpts_accepted = context.rcpts_accepted;
        let heard = self.hear(Stage::Content).await.map_err(|e| (Stage::Content, e))?;
        self.work.observed(&Observed::Content { took: self.chunks.begun.elapsed() });
        let early = !self.wire.content_is_written(k);
        let Some(lent) = group.pop_front() else { unreachable!("it was there") };
        self.needs_reset = heard.code >= 400;
        if lent.any_live() && verdict::is_yes(heard.code) && !early {
            self.chunks.taken.push((lent, heard));
            return Ok(());
        }
        if lent.any_live() {
            return Ok(self.content_end(lent, heard, true, early).map_err(|e| (Stage::Content, e))?);
        }
        // To nobody: whatever is said, nothing counts as accepted.
        self.answered(lent);
        self.refused_as_due(&heard, early)
    }

    /// The reply to content that could go to nobody: it decides nothing, but a farewell is news, and so is
    /// an answer to a part of it, after which the rest would be taken for commands.
    fn refused_as_due(&mut self, heard: &Heard, early: bool) -> Result<(), Broken> {
        let stage = Stage::Content;
        if heard.code >= 400 && !self.rotate {
            let first_chunk = self.accepted == 0;
            let context = Context { chunk: true, first_chunk, messages: self.messages, ..Context::default() };
            if let Err((Verdict { fate, .. }, error)) = self.judge(stage, heard, &context) {
                return Err(Broken { fate, ..(stage, error).into() });
            }
        }
        if early || heard.code == 354 {
            let Said { code, text } = heard.said();
            return Err((stage, InfeedError::Unexpected { stage, code, text }).into());
        }
        Ok(())
    }

    /// MAIL of transaction `k`, the first of `group`, was refused, with this fate: so should its RCPTs be,
    /// and its BDAT.
    async fn mail_refused(
        &mut self,
        group: &mut VecDeque<Lent<W>>,
        k: usize,
        fate: Fate,
        said: &Said,
    ) -> Result<(), Broken> {
        let Some(mut lent) = group.pop_front() else { unreachable!("its MAIL was answered") };
        let heard = self.refusals(&mut lent, k).await;
        match fate {
            // It goes back, and comes again in a group of its own.
            Fate::Again => lent.not_tried(),
            fate => lent.decide(Stage::Mail, fate, said),
        }
        self.answered(lent);
        heard
    }

    /// The replies to the RCPTs and the BDAT of transaction `k`, whose MAIL was refused.
    async fn refusals(&mut self, lent: &mut Lent<W>, k: usize) -> Result<(), Broken> {
        let mut taken = false;
        for _ in 0..lent.rcpts_sent {
            let heard = self.hear(Stage::Rcpt).await.map_err(|e| (Stage::Rcpt, e))?;
            self.farewell(Stage::Rcpt, &heard)?;
            taken |= heard.code < 300;
        }
        let heard = self.hear(Stage::Content).await.map_err(|e| (Stage::Content, e))?;
        if taken && heard.code < 400 {
            // In spite of the RSET its recipients joined an envelope that was open, and the content went
            // there: to the right people, from somebody else.
            let Said { code, text } = heard.said();
            let error = InfeedError::Unexpected { stage: Stage::Content, code, text };
            lent.doubt(&error.to_string());
            return Err((Stage::Content, error).into());
        }
        self.refused_as_due(&heard, !self.wire.content_is_written(k))
    }

    /// The session ends amid a group of `count`: settles what is left of it. `answered`: the one at which
    /// it ended is settled already.
    async fn broken(
        &mut self,
        group: &mut VecDeque<Lent<W>>,
        count: usize,
        answered: bool,
        Broken { stage, error, fate, .. }: Broken,
    ) -> Step<W> {
        let first = count - group.len();
        // QUIT behind content that is cut off would be taken for its end
        let is_whole = self.wire.is_written();
        let any_written = (first..count).any(|k| self.wire.content_is_written(k));
        let refused = any_written
            && match &error {
                InfeedError::Said { .. } => {
                    let behind = || group.iter().skip(usize::from(!answered)).map(|lent| lent.rcpts_sent + 2);
                    let rest = self.replies_due.saturating_sub(behind().map(|refusals| 1 + refusals).sum());
                    // RSET is no refusal, and no promise.
                    let each = behind().flat_map(|refusals| once(true).chain(repeat_n(false, refusals)));
                    self.wire.refuses_the_rest(stage, repeat_n(false, rest).chain(each)).await
                }
                // It closes after it has said that it takes no more messages.
                error => self.rotate && error.is_end(),
            };
        for (k, mut lent) in (first..count).zip(group.drain(..)) {
            match verdict::rest_of_group(self.wire.content_is_written(k), refused) {
                Fate::InDoubt => lent.doubt(&error.to_string()),
                // What the MTA may have choked on.
                _ if k == first && !answered && fate == Fate::Lost => {
                    self.count_loss(&mut lent, stage, &error)
                }
                _ => lent.not_tried(),
            }
            lent.settle();
        }
        Step::End(if self.rotate && is_whole { End::Rotate } else { End::Closed(error) })
    }
}

/// Nothing of them was written.
fn give_back<W: Work>(group: &mut VecDeque<Lent<W>>) {
    for mut lent in group.drain(..) {
        lent.not_tried();
        lent.settle();
    }
}
