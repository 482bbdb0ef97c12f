//! Lanes of domains that wait for a rate: parked, they have no turn, and whoever else there is goes past them.
//!
//! They don't count as what is at hand either, as long as the spool has others: else a domain that is slow would
//! fill the room that chunks have, and nobody else of the job would be claimed.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::Mixer;
use crate::pressure::rate::Moment;
use crate::spool::DomainKey;

impl Mixer {
    /// The same where domains may have to wait, as `until` says: those are passed over. With the lane that they
    /// are of.
    pub fn take_allowed(
        &mut self,
        max: usize,
        now: Moment,
        until: impl FnMut(DomainKey) -> Option<Moment>,
    ) -> Option<(u32, Vec<u16>, Option<DomainKey>)> {
        self.unpark(now);
        self.take_where(max, until)
    }

    /// Until when whoever waits for a rate has to.
    pub fn waits_until(&self) -> Option<Moment> {
        self.parked.iter().map(|(until, _)| *until).min()
    }

    /// Recipients that a claim of more has to look at: those that wait for a rate are no reason to leave the
    /// others in the spool, as long as there are others.
    pub fn at_hand(&self) -> u64 {
        self.queued - if self.others_wait() { self.aside } else { 0 }
    }

    /// Recipients of a chunk that wait for a rate, by chunk and domain.
    pub fn aside_by_chunk(&self) -> FxHashMap<u32, Vec<(DomainKey, Vec<u16>)>> {
        let mut by_chunk: FxHashMap<u32, Vec<(DomainKey, Vec<u16>)>> = FxHashMap::default();
        for (_, key) in &self.parked {
            for (handle, indices) in self.lanes.get(&Some(*key)).iter().flat_map(|lane| &lane.stock) {
                by_chunk.entry(*handle).or_default().push((*key, indices.iter().copied().collect()));
            }
        }
        by_chunk
    }

    /// Recipients in hand by the domain of their lane.
    pub fn queued_by_domain(&self) -> impl Iterator<Item = (DomainKey, u64)> + '_ {
        self.lanes.iter().filter_map(|(key, lane)| Some(((*key)?, lane.queued)))
    }

    /// Nobody waits for a rate any more, or it may have been changed.
    pub fn unpark_all(&mut self) {
        self.unpark(Moment(u64::MAX));
    }

    fn unpark(&mut self, now: Moment) {
        for i in (0..self.parked.len()).rev() {
            let (until, key) = self.parked[i];
            if until > now {
                continue;
            }
            self.parked.swap_remove(i);
            let Some(lane) = self.lanes.get_mut(&Some(key)) else { panic!("a parked lane that isn't there") };
            lane.parked = false;
            self.aside -= lane.queued;
            // nothing is made up for
            lane.turn = lane.turn.max(self.now);
            self.turns.push(Reverse((lane.turn, Some(key))));
        }
    }

    /// Whether the spool has recipients of this job who don't wait for the rates that those in hand wait for.
    pub(super) fn others_wait(&self) -> bool {
        let known = |(_, key): &(Moment, DomainKey)| self.by_domain.get(key).copied().unwrap_or(0);
        self.waiting.recipients > self.parked.iter().map(known).sum::<u64>()
    }
}
