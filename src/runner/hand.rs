//! One chunk in hand: how many of it still have to go out, and are out.
//!
//! Which of them is next is the job's `Mixer`'s to say, but for chunks that are passed one recipient at
//! a time: those keep their own order.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::spool::{Chunk, JobId};

/// A claimed chunk while its pass lasts.
pub(super) struct Hand {
    pub job: JobId,
    pub chunk: Arc<Chunk>,
    /// One recipient at a time.
    pub solo: bool,
    /// Of a solo one, those that wait.
    alone: VecDeque<u16>,
    queued: usize,
    /// Recipients in transactions now.
    pub in_flight: usize,
    /// Recipients without an outcome in this pass, those in flight and held ones included.
    pub unsettled: usize,
    /// In doubt once in this pass and sent again: a second time they wait.
    pub resent: BTreeSet<u16>,
    /// When each of those in flight was taken, as a count of what happened in the run.
    taken_at: FxHashMap<u16, u64>,
}

impl Hand {
    /// `waiting`: recipients that have to go out.
    pub fn new(
        job: JobId,
        chunk: Arc<Chunk>,
        solo: bool,
        waiting: impl ExactSizeIterator<Item = u16>,
    ) -> Self {
        let queued = waiting.len();
        let alone = if solo { waiting.collect() } else { VecDeque::new() };
        Self {
            job,
            chunk,
            solo,
            alone,
            queued,
            in_flight: 0,
            unsettled: queued,
            resent: BTreeSet::new(),
            taken_at: FxHashMap::default(),
        }
    }

    /// These were taken at this moment.
    pub fn note_taken(&mut self, indices: &[u16], moment: u64) {
        self.taken_at.extend(indices.iter().map(|&index| (index, moment)));
    }

    /// When this one, which comes back, was taken.
    pub fn came_back(&mut self, index: u16) -> u64 {
        self.taken_at.remove(&index).unwrap_or(0)
    }

    /// Recipients that wait to be taken.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Whether one of them may be taken now.
    pub fn is_ready(&self) -> bool {
        self.queued > 0 && !(self.solo && self.in_flight > 0)
    }

    /// The mixer gave so many of it out: they are in flight from now on.
    pub fn taken(&mut self, n: usize) {
        assert!(!self.solo && n <= self.queued, "{n} taken of {}", self.queued);
        self.queued -= n;
        self.in_flight += n;
    }

    /// Recipients just taken wait again: they were never out.
    pub fn untaken(&mut self, indices: &[u16]) {
        assert!(indices.len() <= self.in_flight, "{} untaken of {}", indices.len(), self.in_flight);
        self.in_flight -= indices.len();
        self.put_back(indices);
    }

    /// Who [`Hand::take_alone`] would give.
    pub fn alone(&self) -> Option<u16> {
        if self.in_flight > 0 { None } else { self.alone.front().copied() }
    }

    /// The next recipient of a solo chunk; nobody while one is in flight.
    pub fn take_alone(&mut self) -> Option<u16> {
        if self.in_flight > 0 {
            return None;
        }
        let index = self.alone.pop_front()?;
        self.queued -= 1;
        self.in_flight += 1;
        Some(index)
    }

    /// Takes back recipients that are to go out again in this pass.
    pub fn put_back(&mut self, indices: &[u16]) {
        self.queued += indices.len();
        if self.solo {
            self.alone.extend(indices);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::chunk::{ChunkHeader, ChunkWriter, RecipientState};

    fn hand(solo: bool) -> Hand {
        let job: JobId = "j".parse().unwrap();
        let mut w = ChunkWriter::default();
        for i in 0..5 {
            w.push(i, "a@example.org", std::iter::empty(), &RecipientState::default());
        }
        let header = ChunkHeader { job: job.clone(), number: 0, parent: None, deaths: 0 };
        let chunk = Chunk::parse(w.finish(&header)).unwrap();
        Hand::new(job, Arc::new(chunk), solo, (0..5).rev())
    }

    #[test]
    fn whoever_is_taken_is_in_flight_and_whoever_comes_back_waits() {
        let mut h = hand(false);
        h.taken(2);
        assert_eq!((h.queued(), h.in_flight, h.unsettled), (3, 2, 5));
        h.in_flight -= 2;
        h.put_back(&[3]);
        assert!(h.is_ready());
        assert_eq!(h.queued(), 4);
    }

    #[test]
    fn a_chunk_that_killed_the_process_goes_one_recipient_at_a_time() {
        let mut h = hand(true);
        assert_eq!(h.take_alone(), Some(4));
        assert!(!h.is_ready());
        assert_eq!(h.take_alone(), None);
        h.in_flight -= 1;
        h.put_back(&[4]);
        assert_eq!(h.take_alone(), Some(3));
        assert_eq!(h.queued(), 4);
    }
}
