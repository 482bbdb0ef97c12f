//! Which sessions end when there are too many: those that have waited longest for an answer.
//!
//! An MTA may hold single sessions up for a second while it answers others (Postfix's `in_flow_delay`). The
//! first to come to the end of a transaction would be the ones that go well: were they to leave, those that
//! stand still would be all that is left, and nothing would go for as long as they do.
//!
//! Nothing here fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What the pool knows of one session.
#[derive(Debug, Default)]
pub struct Seat {
    /// How many transactions of all sessions had been answered when this one was answered last.
    answered: AtomicU64,
    leaves: AtomicBool,
}

impl Seat {
    /// The session's transaction was answered, as the `count`th of all.
    pub fn answered(&self, count: u64) {
        self.answered.store(count, Relaxed);
    }

    /// The session is to end once it has nothing in flight. It may be taken back as long as it hasn't.
    pub fn leaves(&self) -> bool {
        self.leaves.load(Relaxed)
    }
}

/// The seats of all sessions that stand.
#[derive(Debug, Default)]
pub struct Seats(Vec<Arc<Seat>>);

impl Seats {
    /// Sessions that stand.
    pub fn all(&self) -> usize {
        self.0.len()
    }

    /// Those that are not to end.
    pub fn staying(&self) -> usize {
        self.0.iter().filter(|seat| !seat.leaves()).count()
    }

    /// A session stands from now on.
    pub fn take(&mut self, count: u64) -> Arc<Seat> {
        let seat = Arc::new(Seat::default());
        seat.answered(count);
        self.0.push(seat.clone());
        seat
    }

    /// It has ended.
    pub fn free(&mut self, seat: &Arc<Seat>) {
        let at = self.0.iter().position(|other| Arc::ptr_eq(other, seat));
        assert!(at.is_some(), "a session ends that doesn't stand");
        at.map(|at| self.0.swap_remove(at));
    }

    /// Lets so many stay as shall, or all there are: of those too many the ones that were answered longest
    /// ago are to end; of those that were to end and are wanted after all, the ones answered last may stay.
    pub fn fit(&mut self, target: usize) {
        let age = |seat: &&Arc<Seat>| seat.answered.load(Relaxed);
        while self.staying() > target {
            let oldest = self.0.iter().filter(|seat| !seat.leaves()).min_by_key(age);
            let Some(seat) = oldest else { return };
            seat.leaves.store(true, Relaxed);
        }
        while self.staying() < target {
            let Some(seat) = self.0.iter().filter(|seat| seat.leaves()).max_by_key(age) else { return };
            seat.leaves.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_wait_longest_for_an_answer_leave_and_come_back_last() {
        let mut seats = Seats::default();
        let all: Vec<Arc<Seat>> = (0..5).map(|_| seats.take(0)).collect();
        let leaving = || -> Vec<usize> { (0..5).filter(|&at| all[at].leaves()).collect() };
        for (seat, count) in all.iter().zip([30, 10, 50, 20, 40]) {
            seat.answered(count);
        }
        seats.fit(2);
        assert_eq!(leaving(), [0, 1, 3]);
        // one of those that stay is lost: the liveliest of the others takes its place
        seats.free(&all[2]);
        seats.fit(2);
        assert_eq!(leaving(), [1, 3]);
        seats.free(&all[1]);
        seats.fit(9);
        assert_eq!(leaving(), [1], "gone, whatever is wanted");
        assert_eq!((seats.all(), seats.staying()), (3, 3));
    }
}
