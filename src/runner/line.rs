//! Jobs in line for the next transaction: pure.
//!
//! Between priorities it is strict: the highest that has anything ready goes first, a lower one gets
//! what that one can't use. Jobs of one priority share by recipients, not by transactions: each has a
//! start, the recipients that it had before, and the smallest goes first (start-time fair queueing). A
//! job that enters, or comes back after it had nothing, starts where the others are: it is owed nothing
//! for the time before, and owes nothing.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::spool::PRIORITY_MAX;

/// A job's place; the least is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// 0 for the highest priority.
    level: u8,
    start: u64,
    /// The job, by its number in this run.
    pub serial: u32,
}

/// Jobs that have something ready. What is done costs the logarithm of their number.
#[derive(Debug, Default)]
pub(super) struct Line {
    places: BTreeSet<Place>,
    /// The start of whoever was served last, by level.
    now: [u64; PRIORITY_MAX as usize + 1],
}

impl Line {
    /// Enters a job that is not in line; `start` is what [`Line::served`] said last, or 0.
    pub fn enter(&mut self, priority: u8, start: u64, serial: u32) -> Place {
        let level = PRIORITY_MAX - priority.min(PRIORITY_MAX);
        let start = start.max(self.now[usize::from(level)]);
        let place = Place { level, start, serial };
        assert!(self.places.insert(place), "job {serial} is in line twice");
        place
    }

    /// Whoever comes after `last`, or first.
    pub fn next(&self, last: Option<Place>) -> Option<Place> {
        match last {
            None => self.places.first(),
            Some(last) => self.places.range((Bound::Excluded(last), Bound::Unbounded)).next(),
        }
        .copied()
    }

    /// A job got `recipients`, and leaves the line; its start for the next time.
    pub fn served(&mut self, place: Place, recipients: usize) -> u64 {
        self.leave(place);
        let now = &mut self.now[usize::from(place.level)];
        *now = place.start.max(*now);
        place.start + recipients as u64
    }

    /// A job leaves the line.
    pub fn leave(&mut self, place: Place) {
        assert!(self.places.remove(&place), "job {} is not in line", place.serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Serves the first so many times; the order of jobs, which take so many recipients each time.
    fn serve(line: &mut Line, times: usize, takes: impl Fn(u32) -> usize) -> Vec<u32> {
        (0..times)
            .filter_map(|_| {
                let place = line.next(None)?;
                let start = line.served(place, takes(place.serial));
                line.enter(PRIORITY_MAX - place.level, start, place.serial);
                Some(place.serial)
            })
            .collect()
    }

    fn times(order: &[u32], serial: u32) -> usize {
        order.iter().filter(|s| **s == serial).count()
    }

    #[test]
    fn jobs_share_by_recipients_not_by_transactions() {
        let mut line = Line::default();
        line.enter(5, 0, 1);
        line.enter(5, 0, 2);
        let order = serve(&mut line, 5_100, |serial| if serial == 1 { 50 } else { 1 });
        assert_eq!((times(&order, 1), times(&order, 2)), (100, 5_000));
    }

    #[test]
    fn a_job_that_joins_late_has_neither_credit_nor_debt() {
        let mut line = Line::default();
        line.enter(5, 0, 1);
        serve(&mut line, 10_000, |_| 1);
        line.enter(5, 0, 2);
        let order = serve(&mut line, 200, |_| 1);
        assert!(order.chunks(2).all(|pair| times(pair, 1) == 1), "{order:?}");
    }

    #[test]
    fn a_thousand_small_jobs_beside_a_huge_one_get_their_parts() {
        let mut line = Line::default();
        line.enter(5, 0, 0);
        serve(&mut line, 1_000, |_| 50);
        for serial in 1..=1_000 {
            line.enter(5, 0, serial);
        }
        let order = serve(&mut line, 5_005, |serial| if serial == 0 { 50 } else { 1 });
        assert!(times(&order, 0) <= 2, "{} turns of the huge one", times(&order, 0));
        assert!((1..=1_000).all(|serial| times(&order, serial) >= 5));
    }

    #[test]
    fn a_higher_priority_goes_first_as_long_as_it_has_anything() {
        let mut line = Line::default();
        line.enter(4, 0, 1);
        let high = line.enter(6, 0, 2);
        let place = line.next(None).unwrap();
        assert_eq!(place.serial, 2);
        assert_eq!(line.next(Some(place)).unwrap().serial, 1, "who can't use it leaves it to the next");
        line.leave(high);
        assert_eq!(line.next(None).unwrap().serial, 1);
    }

    proptest! {
        #[test]
        fn at_every_moment_jobs_that_are_ready_are_within_one_turn_of_each_other(
            takes in proptest::collection::vec(1usize..60, 2..8),
            turns in 1usize..500,
        ) {
            let mut line = Line::default();
            for serial in 0..takes.len() {
                line.enter(5, 0, serial as u32);
            }
            let order = serve(&mut line, turns, |serial| takes[serial as usize]);
            let got: Vec<usize> = (0..takes.len()).map(|s| times(&order, s as u32) * takes[s]).collect();
            let largest = takes.iter().max().copied().unwrap_or(0);
            let (low, high) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            prop_assert!(high - low <= largest, "{:?} of {:?}", got, takes);
        }
    }
}
