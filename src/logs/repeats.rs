//! How often one place in the program may say the same.
//!
//! Pure. A disk that fails is met every second, and whoever may not use a socket can try as often as they like:
//! each place says [`SAME_MAX`] lines of one text and [`LINES_MAX`] in all in [`WINDOW_US`]; what is left out is
//! counted, and told with the next line of that place.

use std::collections::HashMap;
use std::hash::Hash;

use crate::clock::{Micros, SECOND_US};

pub(super) const WINDOW_US: Micros = 60 * SECOND_US;
/// Lines of the same text from one place, in a window.
pub(super) const SAME_MAX: u32 = 5;
/// Lines from one place, in a window.
pub(super) const LINES_MAX: u32 = 20;

/// What each place has said lately.
#[derive(Debug)]
pub(super) struct Repeats<P>(HashMap<P, Said>);

#[derive(Debug, Default)]
struct Said {
    since_us: Micros,
    lines: u32,
    /// Hashes of the texts, and how often each was said; at most [`LINES_MAX`] of them.
    texts: Vec<(u64, u32)>,
    left_out: u64,
}

impl<P> Default for Repeats<P> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<P: Hash + Eq> Repeats<P> {
    /// Whether a text may be said now, and how many of this place were left out before it; `None`: it is left
    /// out too. The number of places is that of the program's.
    pub fn admit(&mut self, place: P, text_hash: u64, now_us: Micros) -> Option<u64> {
        let said = self.0.entry(place).or_default();
        // a clock that was set back begins anew as well
        if now_us.checked_sub(said.since_us).is_none_or(|age| age >= WINDOW_US) {
            (said.since_us, said.lines) = (now_us, 0);
            said.texts.clear();
        }
        let known = said.texts.iter_mut().find(|(hash, _)| *hash == text_hash);
        let is_enough = said.lines >= LINES_MAX || known.as_ref().is_some_and(|(_, n)| *n >= SAME_MAX);
        if is_enough {
            said.left_out += 1;
            return None;
        }
        said.lines += 1;
        match known {
            Some((_, n)) => *n += 1,
            None => said.texts.push((text_hash, 1)),
        }
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_every_second_is_said_a_few_times_a_minute_and_the_rest_is_counted() {
        let mut repeats = Repeats::default();
        let said: Vec<(u64, u64)> = (0..180)
            .filter_map(|s| repeats.admit("disk", 7, s * SECOND_US).map(|left_out| (s, left_out)))
            .collect();
        let expected: Vec<u64> = [0, 60, 120].iter().flat_map(|at| *at..*at + 5).collect();
        assert_eq!(said.iter().map(|(s, _)| *s).collect::<Vec<_>>(), expected);
        assert_eq!(said.iter().map(|(_, left_out)| left_out).sum::<u64>(), 2 * 55);
        assert_eq!(said[5], (60, 55));
    }

    #[test]
    fn texts_that_differ_are_bounded_together_and_places_apart() {
        let mut repeats = Repeats::default();
        let count = |place, repeats: &mut Repeats<&str>| {
            (0..1000).filter(|i| repeats.admit(place, *i, 5).is_some()).count()
        };
        assert_eq!(count("a", &mut repeats), LINES_MAX as usize);
        assert_eq!(count("b", &mut repeats), LINES_MAX as usize);
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nobody() {
        let mut repeats = Repeats::default();
        for _ in 0..10 {
            repeats.admit("a", 1, 1_000 * SECOND_US);
        }
        assert_eq!(repeats.admit("a", 1, SECOND_US), Some(5));
    }
}
