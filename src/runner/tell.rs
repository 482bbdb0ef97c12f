//! Outcomes for whoever wants to hear of them one by one: the delivery log, and the webhook.
//!
//! Guarantees: where nobody listens it costs one look at a flag a transaction; nothing here waits or fails, and
//! nothing is told that was not recorded. What was put off for a rate is no outcome, and is not told.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use super::hand::Hand;
use super::supply::{State, Supply};
use crate::delivery_log::{Line, Lines};
use crate::events::Refusals;
use crate::metrics::MtaSeries;
use crate::spool::pack::member_id;
use crate::spool::{Chunk, JobId, Outcome, Owner, Settled};

/// Who listens to a run; set before it begins.
#[derive(Debug, Default)]
pub struct Listeners {
    pub delivery_log: OnceLock<Lines>,
    pub refusals: OnceLock<Refusals>,
}

impl Listeners {
    fn are_there(&self) -> bool {
        self.delivery_log.get().is_some() || self.refusals.get().is_some()
    }
}

/// Whose outcomes they are.
pub(super) struct Whose {
    chunk: Arc<Chunk>,
    job: JobId,
    is_pack: bool,
    /// Sent again in this pass though they may have been delivered.
    resent: BTreeSet<u16>,
}

impl Whose {
    pub fn of(hand: &Hand, is_pack: bool) -> Self {
        Self { chunk: hand.chunk.clone(), job: hand.job.clone(), is_pack, resent: hand.resent.clone() }
    }

    /// Of a chunk that is just being taken in hand.
    pub fn fresh(job: &JobId, chunk: &Arc<Chunk>, is_pack: bool) -> Self {
        Self { chunk: chunk.clone(), job: job.clone(), is_pack, resent: BTreeSet::new() }
    }

    fn lines(&self, mta: Option<&Arc<MtaSeries>>, settled: &[(u16, Settled)]) -> Vec<Line> {
        let job: Arc<str> = self.job.as_str().into();
        settled
            .iter()
            .map(|(index, s)| {
                let (i, mut settled) = (usize::from(*index), s.clone());
                settled.possible_repeat |= self.resent.contains(index) || self.chunk.state(i).possible_repeat;
                let member = self.is_pack.then(|| self.member(i)).flatten();
                Line {
                    pack: member.is_some().then(|| job.clone()),
                    job: member.unwrap_or_else(|| job.clone()),
                    address: self.chunk.address(i).unwrap_or_default().to_owned(),
                    mta: mta.cloned(),
                    settled,
                }
            })
            .collect()
    }

    /// The member of a pack that this recipient is one of.
    fn member(&self, i: usize) -> Option<Arc<str>> {
        let number = self.chunk.recipient(i).ok()?.values().next()?.parse().ok()?;
        Some(member_id(&self.job, number).as_str().into())
    }
}

impl State {
    /// Whose outcomes those of a chunk in hand are.
    pub fn whose(&self, handle: u32) -> Whose {
        let Some(hand) = self.hands.get(&handle) else { panic!("chunk {handle} is not in hand") };
        let is_pack = self.jobs.get(&hand.job).is_some_and(|job| job.template.is_pack());
        Whose::of(hand, is_pack)
    }
}

impl<O: Owner> Supply<O> {
    /// Whether anybody wants to hear of outcomes.
    pub fn somebody_listens(&self) -> bool {
        self.progress.listeners.are_there()
    }

    /// Tells them of what was recorded.
    pub fn tell(&self, whose: &Whose, mta: Option<&Arc<MtaSeries>>, settled: &[(u16, Settled)]) {
        if settled.is_empty() {
            return;
        }
        let listeners = &self.progress.listeners;
        let lines = whose.lines(mta, settled);
        if let Some(refusals) = listeners.refusals.get() {
            let refused = lines.iter().filter(|line| line.settled.outcome == Outcome::Refused);
            refused.for_each(|line| refusals.put(line.clone()));
        }
        if let Some(log) = listeners.delivery_log.get() {
            log.put(lines);
        }
    }
}
