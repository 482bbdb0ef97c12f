//! One chunk in hand: who of it still has to go out.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::order::Order;
use crate::spool::{Chunk, JobId};

/// A claimed chunk while its pass lasts.
pub(super) struct Hand {
    pub job: JobId,
    pub chunk: Arc<Chunk>,
    /// One recipient at a time.
    pub solo: bool,
    order: Order,
    next_index: usize,
    next_piece: usize,
    /// Came back untried: these go first.
    again: VecDeque<u16>,
    /// Recipients in transactions now.
    pub in_flight: usize,
    /// Recipients without an outcome in this pass, those in flight and held ones included.
    pub unsettled: usize,
    /// In doubt once in this pass and sent again: a second time they wait.
    pub resent: BTreeSet<u16>,
}

impl Hand {
    pub fn new(job: JobId, chunk: Arc<Chunk>, solo: bool, order: Order) -> Self {
        let unsettled = order.indices.len();
        Self {
            job,
            chunk,
            solo,
            order,
            next_index: 0,
            next_piece: 0,
            again: VecDeque::new(),
            in_flight: 0,
            unsettled,
            resent: BTreeSet::new(),
        }
    }

    /// Recipients that wait to be taken.
    pub fn queued(&self) -> usize {
        self.order.indices.len() - self.next_index + self.again.len()
    }

    /// Up to `max` recipients for one transaction; they are in flight from now on.
    pub fn take(&mut self, max: usize) -> Vec<u16> {
        if self.solo && self.in_flight > 0 {
            return Vec::new();
        }
        let max = if self.solo { 1 } else { max };
        let taken: Vec<u16> = if self.again.is_empty() {
            let Some(piece) = self.order.pieces.get_mut(self.next_piece) else { return Vec::new() };
            let n = usize::from(*piece).min(max);
            *piece -= n as u16;
            if *piece == 0 {
                self.next_piece += 1;
            }
            let from = self.next_index;
            self.next_index += n;
            self.order.indices[from..from + n].to_vec()
        } else {
            let n = self.again.len().min(max);
            self.again.drain(..n).collect()
        };
        self.in_flight += taken.len();
        taken
    }

    /// Takes back recipients that are to go out again in this pass.
    pub fn put_back(&mut self, indices: &[u16]) {
        self.again.extend(indices);
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
        let order = Order { indices: vec![4, 3, 2, 1, 0], pieces: vec![3, 2] };
        Hand::new(job, Arc::new(chunk), solo, order)
    }

    #[test]
    fn everybody_is_taken_once_and_what_comes_back_goes_first() {
        let mut h = hand(false);
        assert_eq!(h.take(2), [4, 3]);
        h.in_flight -= 2;
        h.put_back(&[3]);
        assert_eq!(h.queued(), 4);
        assert_eq!(h.take(9), [3]);
        assert_eq!(h.take(9), [2]);
        assert_eq!(h.take(9), [1, 0]);
        assert!(h.take(9).is_empty());
        assert_eq!(h.queued(), 0);
    }

    #[test]
    fn a_chunk_that_killed_the_process_goes_one_recipient_at_a_time() {
        let mut h = hand(true);
        assert_eq!(h.take(9), [4]);
        assert!(h.take(9).is_empty());
        h.in_flight -= 1;
        assert_eq!(h.take(9), [3]);
    }
}
