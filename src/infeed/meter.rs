//! What the infeeds of one MTA count for whoever decides how many there shall be.
//!
//! Guarantees: a transaction that was answered counts once; the time that a session waits for work, or is
//! not let send, is never counted as the MTA's. Nothing here fails.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use super::transaction::{RcptResult, Said, Stage};
use super::verdict::Mta;
use crate::pressure::law::{Mark, Totals};

/// A connect with its banner that takes as long is a sign of strain.
const SLOW: Duration = Duration::from_millis(900);

/// Postfix's brake (`in_flow_delay`): one second, and what the reply takes besides.
const BRAKE: std::ops::Range<Duration> = Duration::from_millis(980)..Duration::from_millis(1_500);
/// A reply that comes sooner than this was not braked.
const QUICK: Duration = Duration::from_millis(300);
/// Of the latest replies, so many are remembered, and halved then.
const RECENT_MAX: u64 = 400;
/// So many of them must be there, and one in so many must have been quick: else a second is what this MTA's
/// replies take.
const RECENT_MIN: u64 = 50;
const QUICK_ONE_IN: u64 = 10;

/// How quick replies of one kind were lately.
#[derive(Debug, Default)]
struct Pulse {
    all: AtomicU64,
    quick: AtomicU64,
}

impl Pulse {
    /// Notes one reply; whether it was braked: about a second late, where others lately were quick.
    fn is_braked(&self, took: Duration) -> bool {
        let quick = self.quick.fetch_add(u64::from(took < QUICK), Relaxed) + u64::from(took < QUICK);
        let all = self.all.fetch_add(1, Relaxed) + 1;
        if all >= RECENT_MAX {
            // two at once may both halve: a rough memory will do
            self.all.store(all / 2, Relaxed);
            self.quick.store(quick / 2, Relaxed);
        }
        BRAKE.contains(&took) && all >= RECENT_MIN && quick * QUICK_ONE_IN >= all
    }
}

/// Totals since the pool's start, added to by all its sessions.
#[derive(Debug, Default)]
pub struct Meter {
    transactions: AtomicU64,
    recipients: AtomicU64,
    octets: AtomicU64,
    busy_us: AtomicU64,
    idle_us: AtomicU64,
    marks: [AtomicU64; Mark::COUNT],
    rcpts: Pulse,
    dots: Pulse,
}

impl Meter {
    /// Transactions that were answered so far.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Relaxed)
    }

    /// What was counted so far.
    pub fn totals(&self) -> Totals {
        Totals {
            transactions: self.transactions.load(Relaxed),
            recipients: self.recipients.load(Relaxed),
            octets: self.octets.load(Relaxed),
            busy_us: self.busy_us.load(Relaxed),
            idle_us: self.idle_us.load(Relaxed),
            marks: std::array::from_fn(|i| self.marks[i].load(Relaxed)),
        }
    }

    /// One sign of strain.
    pub fn mark(&self, mark: Mark) {
        self.marks[mark.index()].fetch_add(1, Relaxed);
    }

    /// A session that stands came of a connect that took so long.
    pub fn connected(&self, took: Duration) {
        if took >= SLOW {
            self.mark(Mark::ConnectSlow);
        }
    }

    /// The first RCPT of a transaction was answered after so long.
    pub fn first_rcpt(&self, took: Duration) {
        if self.rcpts.is_braked(took) {
            self.mark(Mark::SlowRcpt);
        }
    }

    /// The final dot was answered after so long, with the next envelope in its group. Postfix sends the
    /// replies to both together, so that what it brakes at RCPT shows here. An MTA whose replies all take a
    /// second is slow, and not braking.
    pub fn grouped_dot(&self, took: Duration) {
        if self.dots.is_braked(took) {
            self.mark(Mark::SlowRcpt);
        }
    }

    /// What the MTA said that it has enough of us, or what `mta` makes of no session at all.
    pub fn refused(&self, stage: Stage, said: &Said, mta: Mta, others_stand: bool) {
        let session = !matches!(stage, Stage::Connect | Stage::Banner | Stage::Ehlo);
        match mta {
            Mta::StopAndProbe => self.mark(Mark::StorageFull),
            Mta::Strain => self.mark(Mark::Load),
            Mta::LearnMessagesMax | Mta::Pause => (),
            _ if session && said.code == 421 => self.mark(Mark::Closing),
            _ if !session && others_stand && (400..500).contains(&said.code) => {
                self.mark(Mark::TooManyConnections);
            }
            _ => (),
        }
    }
}

/// Where one session's time goes.
#[derive(Debug)]
pub struct Stopwatch {
    since: Instant,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { since: Instant::now() }
    }

    /// So much is past since the last lap; it goes on.
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.since, now))
    }

    /// Time since the last lap, that goes on.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// What is past was a wait for work.
    pub fn idled(&mut self, meter: &Meter) {
        meter.idle_us.fetch_add(micros(self.lap()), Relaxed);
    }

    /// What is past was nobody's: the MTA is held or paused.
    pub fn held(&mut self) {
        self.lap();
    }

    /// What is past was one transaction, which was answered so; gives how many were answered, of all.
    pub fn answered(&mut self, meter: &Meter, results: &[Option<RcptResult>], octets: usize) -> u64 {
        // who is greylisted at RCPT was answered; a 4xx to all of it may be the MTA's load
        let is_answered = |r: &&Option<RcptResult>| match r {
            Some(RcptResult::Accepted { .. } | RcptResult::Refused { .. }) => true,
            Some(RcptResult::Deferred { stage, .. }) => *stage == Stage::Rcpt,
            _ => false,
        };
        let recipients = results.iter().filter(is_answered).count();
        meter.busy_us.fetch_add(micros(self.lap()), Relaxed);
        meter.recipients.fetch_add(recipients as u64, Relaxed);
        meter.octets.fetch_add(octets as u64, Relaxed);
        meter.transactions.fetch_add(1, Relaxed) + 1
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(meter: &Meter) -> Vec<Mark> {
        let totals = meter.totals();
        Mark::ALL.into_iter().filter(|mark| totals.marks[mark.index()] > 0).collect()
    }

    #[test]
    fn each_refusal_is_the_mark_that_it_is() {
        let said = |code| Said { code, text: String::new() };
        for (stage, code, mta, others_stand, expected) in [
            (Stage::Banner, 421, Mta::CapConnections, true, Some(Mark::TooManyConnections)),
            (Stage::Banner, 421, Mta::HoldConnects, true, Some(Mark::TooManyConnections)),
            (Stage::Banner, 421, Mta::BackOff, false, None),
            (Stage::Banner, 554, Mta::Pause, true, None),
            (Stage::Mail, 421, Mta::BackOff, true, Some(Mark::Closing)),
            (Stage::Mail, 421, Mta::LearnMessagesMax, true, None),
            (Stage::Mail, 452, Mta::StopAndProbe, true, Some(Mark::StorageFull)),
            (Stage::Content, 451, Mta::Strain, true, Some(Mark::Load)),
            (Stage::Rcpt, 450, Mta::Fine, true, None),
        ] {
            let meter = Meter::default();
            meter.refused(stage, &said(code), mta, others_stand);
            assert_eq!(marks(&meter), Vec::from_iter(expected), "{stage} {code}");
        }
    }

    #[test]
    fn a_second_late_is_a_brake_only_where_replies_are_quick_otherwise() {
        for note in [Meter::first_rcpt, Meter::grouped_dot] {
            let (slow, braking, slowed) = (Meter::default(), Meter::default(), Meter::default());
            let ms = Duration::from_millis;
            (0..1_000).for_each(|_| note(&slow, ms(1_010)));
            assert!(marks(&slow).is_empty(), "each reply takes a second");
            (0..200).chain([1_004, 600, 2_000]).for_each(|t| note(&braking, ms(t)));
            assert_eq!(braking.totals().marks[Mark::SlowRcpt.index()], 1);
            (0..200).for_each(|t| note(&slowed, ms(t)));
            (0..5_000).for_each(|_| note(&slowed, ms(1_100)));
            let marked = slowed.totals().marks[Mark::SlowRcpt.index()];
            assert!(marked < 2_000, "{marked} of an MTA that has become slow");
        }
    }
}
