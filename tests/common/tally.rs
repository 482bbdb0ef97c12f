//! What arrived, against what the report says of it: recipient by recipient.

use std::collections::HashMap;

use super::desk::Desk;
use super::ledger::Entry;

/// How often each recipient was delivered to.
#[derive(Debug, Default)]
pub struct Tally(HashMap<String, usize>);

/// Whether repeats are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// Nothing was killed: nobody gets it twice, and nobody is marked.
    None,
    /// Something was killed: whoever got it twice is marked.
    Marked,
}

/// What the judgement of a job came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judged {
    pub recipients: usize,
    pub accepted: usize,
    /// Deliveries beyond the first.
    pub repeats: usize,
    /// Recipients that are marked `possible_repeat`.
    pub marked: usize,
}

impl Tally {
    pub fn of(entries: &[Entry]) -> Self {
        let mut tally = Self::default();
        tally.add(entries);
        tally
    }

    pub fn add(&mut self, entries: &[Entry]) {
        for entry in entries {
            *self.0.entry(entry.recipient.clone()).or_default() += 1;
        }
    }

    /// Deliveries to recipients of a job: those that begin with its tag.
    pub fn deliveries(&self, tag: &str) -> usize {
        let prefix = format!("{tag}-");
        self.0.iter().filter(|(address, _)| address.starts_with(&prefix)).map(|(_, n)| n).sum()
    }

    pub fn all(&self) -> usize {
        self.0.values().sum()
    }

    /// Holds a job's report against what arrived of it.
    ///
    /// # Panics
    /// When somebody was lost, got it although the report says otherwise, or twice without a mark; when the
    /// totals of `job show` aren't those of the report.
    pub fn judge(&self, desk: &Desk, job: &str, tag: &str, repeats: Repeats) -> Judged {
        let report = desk.report(job);
        let show = desk.show(job);
        let mut judged = Judged { recipients: report.len(), ..Judged::default() };
        let (mut outcomes, mut arrived) = (HashMap::<&str, usize>::new(), 0);
        for row in &report {
            let times = self.0.get(&row.address).copied().unwrap_or(0);
            arrived += times;
            let is_accepted = row.outcome == "accepted";
            *outcomes.entry(&row.outcome).or_default() += 1;
            judged.accepted += usize::from(is_accepted);
            judged.marked += usize::from(row.possible_repeat);
            judged.repeats += times.saturating_sub(1);
            let marked = repeats == Repeats::Marked && row.possible_repeat;
            assert!(!is_accepted || times > 0, "{job}: lost: {row:?}");
            assert!(is_accepted || times == 0 || marked, "{job}: arrived {times} times: {row:?}");
            assert!(times <= 1 || marked, "{job}: arrived {times} times: {row:?}");
            assert!(repeats == Repeats::Marked || !row.possible_repeat, "{job}: {row:?}");
        }
        assert_eq!(arrived, self.deliveries(tag), "{job}: deliveries to people who aren't in the report");
        for (outcome, n) in &outcomes {
            assert_eq!(show[*outcome], *n, "{outcome}: {show}");
        }
        assert_eq!(
            (&show["recipients"], &show["possible_repeats"]),
            (&report.len().into(), &judged.marked.into())
        );
        judged
    }
}
