//! Which changes of an MTA's state are logged: each, but of one that goes up and down all the time, some.
//!
//! Pure. In [`Said::WINDOW`] there are [`Said::CHANGES_MAX`] lines at most; what comes beyond is counted, and told
//! in one line with the state that it came to, once the window is over. What was said last is true, then.

use std::time::{Duration, Instant};

/// What was said of one MTA.
#[derive(Debug, Default)]
pub(super) struct Said {
    state: &'static str,
    /// When the window began, and lines and changes in it.
    since: Option<Instant>,
    lines: u32,
    changes: u64,
    /// The last changes were not said.
    behind: bool,
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Changed,
    /// So many changes in a window, not all of which were said.
    Flapped {
        changes: u64,
    },
}

impl News {
    /// Changes that the line stands for.
    pub fn changes(self) -> u64 {
        match self {
            News::Changed => 1,
            News::Flapped { changes } => changes,
        }
    }
}

impl Said {
    pub const WINDOW: Duration = Duration::from_secs(60);
    pub const CHANGES_MAX: u32 = 10;

    /// The state at the last look; empty before the first.
    pub fn state(&self) -> &'static str {
        self.state
    }

    /// It is in this state now: is there anything to say?
    pub fn look(&mut self, now: Instant, state: &'static str) -> Option<News> {
        let is_change = self.state != state;
        self.state = state;
        let is_over = self.since.is_none_or(|since| now.duration_since(since) >= Self::WINDOW);
        self.changes += u64::from(is_change);
        if is_over && self.behind {
            let changes = std::mem::replace(&mut self.changes, 0);
            (self.since, self.lines, self.behind) = (Some(now), 1, false);
            return Some(News::Flapped { changes });
        }
        if !is_change {
            return None;
        }
        if is_over {
            (self.since, self.lines, self.changes) = (Some(now), 0, 1);
        }
        if self.lines >= Self::CHANGES_MAX {
            self.behind = true;
            return None;
        }
        self.lines += 1;
        Some(News::Changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_an_mta_that_is_steady_is_said_once() {
        let (mut said, begun) = (Said::default(), Instant::now());
        let at = |s: u64| begun + Duration::from_secs(s);
        let states =
            [(0, "up"), (1, "up"), (2, "down"), (3, "down"), (100, "down"), (101, "up"), (5000, "up")];
        let told: Vec<u64> =
            states.iter().filter(|(s, state)| said.look(at(*s), state).is_some()).map(|(s, _)| *s).collect();
        assert_eq!(told, [0, 2, 101]);
    }

    #[test]
    fn of_one_that_flaps_a_bounded_number_is_said_and_what_it_came_to() {
        let (mut said, begun) = (Said::default(), Instant::now());
        let mut news = Vec::new();
        // ten minutes, ten changes a second; then it is down for good
        for tenth in 0..6_000u64 {
            let state = if tenth % 2 == 0 { "up" } else { "down" };
            news.extend(said.look(begun + Duration::from_millis(100 * tenth), state));
        }
        for s in 600..800 {
            news.extend(said.look(begun + Duration::from_secs(s), "down"));
        }
        assert!(news.len() <= 11 * 11, "{}", news.len());
        let flapped: Vec<u64> =
            news.iter().filter(|news| **news != News::Changed).map(|news| news.changes()).collect();
        assert_eq!(flapped.len(), 10, "{flapped:?}");
        assert!(matches!(news.last(), Some(News::Flapped { .. })), "the last word is what holds");
        assert!(!said.behind);
    }

    #[test]
    fn no_change_is_lost_from_the_count() {
        let (mut said, begun) = (Said::default(), Instant::now());
        let mut told = 0;
        for tenth in 0..650u64 {
            let state = if tenth % 2 == 0 { "up" } else { "down" };
            if let Some(News::Flapped { changes }) =
                said.look(begun + Duration::from_millis(100 * tenth), state)
            {
                told = changes;
            }
        }
        assert_eq!(told, 601, "those of the window, and the one that ended it");
    }
}
