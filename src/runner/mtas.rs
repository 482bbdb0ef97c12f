//! The MTAs of one run: which jobs may go to which, and who may take the next transaction.
//!
//! Each MTA has infeeds of its own, which pull through its [`Outlet`]. So one that is slow takes less,
//! one that is down takes nothing, and neither keeps the others waiting: chunks in hand are bounded by
//! [`Target`], not in sum. Nothing here fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::supply::{State, Supply};
use crate::config::Connections;
use crate::infeed::{
    Capabilities, InfeedConfig, NoRecord, Observed, RcptResult, Settlement, Transaction, Work,
};
use crate::metrics::MtaSeries;
use crate::pressure::per_second::PerSecond;
use crate::pressure::queue::QueueConfig;
use crate::pressure::rate::{Limiter, Moment};
use crate::spool::{JobId, JobMeta, Owner, PRIORITY_MAX};

/// One MTA of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct MtaConfig {
    /// What jobs, status and errors call it.
    pub name: String,
    /// Its part of what may go to any MTA, beside the weights of the others.
    pub weight: u64,
    /// The built-in sink: rehearsals go there, and nothing else does unless somebody insists.
    pub sink: bool,
    /// `Auto` finds the number while it works.
    pub connections: Connections,
    /// What `Auto` may come to, at most.
    pub connections_max: usize,
    /// Where its queue is looked for, and how much it may hold; `Auto` keeps it below.
    pub queue: QueueConfig,
    pub infeed: InfeedConfig,
    /// Transactions a second, at most.
    pub messages_per_second: Option<PerSecond>,
    /// How long a drain waits for it while it has not answered in this run.
    pub wait_first: Duration,
    /// How long a drain waits for it once it was there and is gone, or holds.
    pub wait: Duration,
    /// How long it is left alone after it refused us as a whole, in a run that doesn't end.
    pub pause_probe: Duration,
}

impl MtaConfig {
    /// An MTA like any other: weight 1, and as patient as the settings are by default.
    pub fn new(name: impl Into<String>, infeed: InfeedConfig) -> Self {
        Self {
            name: name.into(),
            weight: 1,
            sink: false,
            connections: Connections::Fixed(infeed.connections),
            connections_max: 64,
            queue: QueueConfig::off(),
            infeed,
            messages_per_second: None,
            wait_first: Duration::from_secs(15),
            wait: Duration::from_secs(300),
            pause_probe: Duration::from_secs(300),
        }
    }
}

/// Where a job may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Any real MTA.
    Any,
    Named(String),
    Sink,
}

impl Target {
    /// `addresses_are_meant`: somebody said at the command line where this run's mail goes, also what was
    /// submitted for another address.
    pub fn of(job: &JobId, meta: &JobMeta, real_into_sink: &[JobId], addresses_are_meant: bool) -> Self {
        match &meta.mta {
            _ if meta.rehearsal || real_into_sink.contains(job) => Target::Sink,
            // no name has a colon in it
            Some(name) if addresses_are_meant && name.contains(':') => Target::Any,
            Some(name) => Target::Named(name.clone()),
            None => Target::Any,
        }
    }

    pub fn admits(&self, mta: &Mta) -> bool {
        match self {
            Target::Any => !mta.sink,
            Target::Named(name) => !mta.sink && (mta.name == *name || mta.address == *name),
            Target::Sink => mta.sink,
        }
    }

    /// Whether this run had an MTA for it.
    pub fn was_given_up(&self, state: &State) -> bool {
        match self {
            Target::Sink => false,
            Target::Named(name) => state.gone.iter().any(|(gone, _)| gone == name),
            Target::Any => !state.gone.is_empty(),
        }
    }

    /// Why a job is left alone that no MTA of the run may take.
    pub fn why_not(&self, state: &State) -> String {
        let names: Vec<&str> =
            state.mtas.iter().filter(|m| !m.mta.sink).map(|m| m.mta.name.as_str()).collect();
        let gone = |name: &str| state.gone.iter().find(|(n, _)| n == name).map(|(_, why)| why);
        match self {
            Target::Sink => "it was submitted for the sink: only `--mta sink` drains it".to_owned(),
            Target::Named(name) => match gone(name) {
                Some(why) => format!("it is for the MTA {name}: {why}"),
                None if names.is_empty() => {
                    format!("it is for the MTA {name}, and this run has only the sink")
                }
                None => {
                    format!(
                        "it is for the MTA {name}, which this run doesn't have (it has {})",
                        names.join(", ")
                    )
                }
            },
            Target::Any => match state.gone.first() {
                Some((name, why)) => format!("no MTA is left for it; {name}: {why}"),
                None => "it is for a real MTA, and the sink would throw its mail away".to_owned(),
            },
        }
    }
}

/// What is in hand for one target.
#[derive(Debug)]
pub(super) struct Group {
    pub target: Target,
    /// Recipients that wait in hands, by priority.
    queued: [usize; PRIORITY_MAX as usize + 1],
}

impl Group {
    pub fn new(target: Target) -> Self {
        Self { target, queued: Default::default() }
    }

    /// Recipients that wait in hands.
    pub fn queued(&self) -> usize {
        self.queued.iter().sum()
    }

    pub fn queued_of(&self, priority: u8) -> usize {
        self.queued[level(priority)]
    }

    pub fn add(&mut self, priority: u8, recipients: usize) {
        self.queued[level(priority)] += recipients;
    }

    pub fn sub(&mut self, priority: u8, recipients: usize) {
        self.queued[level(priority)] -= recipients;
    }
}

fn level(priority: u8) -> usize {
    usize::from(priority.min(PRIORITY_MAX))
}

/// An MTA as the supply knows it.
#[derive(Debug)]
pub(super) struct Mta {
    pub name: String,
    pub address: String,
    weight: AtomicU64,
    pub sink: bool,
    pub recipients_max: usize,
    pub counts: MtaCounts,
    /// What its settings let it take in a second, as the bits of an `f64`; 0: no limit.
    rate: AtomicU64,
    /// One of its infeeds is to look again: something may have come to be allowed.
    pub paced: Notify,
    /// It met us without XVERP, or has lost it since.
    no_xverp: AtomicBool,
}

/// What became of recipients at one MTA in this run.
#[derive(Debug, Default)]
pub(super) struct MtaCounts {
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    pub deferred: AtomicU64,
    pub in_doubt: AtomicU64,
}

impl Mta {
    pub fn new(config: &MtaConfig) -> Arc<Self> {
        Arc::new(Self {
            name: config.name.clone(),
            address: config.infeed.address.clone(),
            weight: AtomicU64::new(config.weight.max(1)),
            sink: config.sink,
            recipients_max: config.infeed.recipients_per_transaction_max.max(1),
            counts: MtaCounts::default(),
            rate: AtomicU64::new(rate_bits(config.messages_per_second)),
            paced: Notify::new(),
            no_xverp: AtomicBool::new(!config.infeed.xverp),
        })
    }

    /// Its part beside the weights of the others.
    pub fn weight(&self) -> u64 {
        self.weight.load(Relaxed)
    }

    /// Another part from now on; the supply is to be told.
    pub fn set_weight(&self, weight: u64) {
        self.weight.store(weight.max(1), Relaxed);
    }

    /// The settings let it take so many transactions a second from now on.
    pub fn set_rate(&self, rate: Option<PerSecond>) {
        self.rate.store(rate_bits(rate), Relaxed);
    }

    /// Transactions a second that its settings let it take.
    pub fn rate(&self) -> Option<PerSecond> {
        PerSecond::new(f64::from_bits(self.rate.load(Relaxed)))
    }

    /// What a session found.
    pub fn met(&self, capabilities: &Capabilities) {
        // seldom written, since all infeeds read it
        if self.no_xverp.load(Relaxed) == capabilities.xverp {
            self.no_xverp.store(!capabilities.xverp, Relaxed);
        }
    }

    /// It makes senders itself, as far as is known: before the first session, that it may.
    pub fn may_make_senders(&self) -> bool {
        !self.no_xverp.load(Relaxed)
    }
}

fn rate_bits(rate: Option<PerSecond>) -> u64 {
    rate.map_or(0.0, PerSecond::as_f64).to_bits()
}

/// An MTA's turn among the others.
#[derive(Debug)]
pub(super) struct Turn {
    pub mta: Arc<Mta>,
    /// Recipients taken of what may go anywhere, by weight.
    taken: f64,
    asked: Option<Instant>,
    /// Of its transactions.
    pub limiter: Limiter,
    /// What it is fed at most, as pressure found it.
    pub pace: Option<PerSecond>,
    /// Some of its infeeds wait for a rate.
    pub waits: bool,
    /// When one of them is to be woken.
    pub wake_at: Option<Moment>,
}

/// An MTA that hasn't asked for so long takes what it can: it holds nobody back.
const ASKED_LATELY: Duration = Duration::from_millis(250);

impl Turn {
    pub fn new(mta: Arc<Mta>) -> Self {
        let limiter = Limiter::new(mta.rate());
        Self { mta, taken: 0.0, asked: None, limiter, pace: None, waits: false, wake_at: None }
    }

    /// Parts are counted anew, rates are not; the pace of one whose settings changed is found anew.
    pub fn succeeded_by(self, mta: Arc<Mta>) -> Self {
        let pace = self.pace.filter(|_| Arc::ptr_eq(&self.mta, &mta));
        Self { mta, taken: 0.0, asked: None, pace, ..self }
    }

    /// Its part is counted from here on.
    pub fn begin_anew(&mut self) {
        self.taken = 0.0;
    }

    pub fn mta_rate(&self) -> Option<PerSecond> {
        self.mta.rate()
    }

    /// It can't take now whatever there is: it holds nobody back.
    pub fn stands_aside(&mut self) {
        self.asked = None;
    }
}

/// Whether the MTA at `at` may take of what may go to any, by weight. With equal weights whoever is
/// free takes. With others nobody runs ahead of one that is behind its part and asks.
pub(super) fn may_take(turns: &mut [Turn], at: usize, now: Instant) -> bool {
    let lately = |t: &Turn| t.asked.is_some_and(|asked| now.duration_since(asked) < ASKED_LATELY);
    let others = |i: usize, t: &Turn| i != at && !t.mta.sink && lately(t);
    let least = turns.iter().enumerate().filter(|(i, t)| others(*i, t)).map(|(_, t)| t.taken);
    let least = least.fold(f64::INFINITY, f64::min);
    let mine = &mut turns[at];
    if !lately(mine) && least.is_finite() {
        // no credit for the time that it didn't ask
        mine.taken = mine.taken.max(least);
    }
    mine.asked = Some(now);
    mine.taken <= least
}

/// Counts what was taken.
pub(super) fn took(turn: &mut Turn, recipients: usize) {
    turn.taken += recipients as f64 / turn.mta.weight() as f64;
}

/// Whether weights say anything.
pub(super) fn weights_differ(turns: &[Turn]) -> bool {
    let mut weights = turns.iter().filter(|t| !t.mta.sink).map(|t| t.mta.weight());
    let first = weights.next();
    weights.any(|w| Some(w) != first)
}

/// One MTA's end of the supply.
pub(super) struct Outlet<O: Owner> {
    pub supply: Arc<Supply<O>>,
    pub mta: Arc<Mta>,
    pub series: Arc<MtaSeries>,
}

impl<O: Owner> Outlet<O> {
    pub fn new(supply: &Arc<Supply<O>>, mta: &Arc<Mta>) -> Self {
        let series = supply.progress.recorder.mta(&mta.name);
        Self { supply: supply.clone(), mta: mta.clone(), series }
    }

    fn taken(&self, transaction: Option<Transaction>) -> Option<Transaction> {
        transaction.inspect(|_| self.series.took())
    }
}

impl<O: Owner> Work for Outlet<O> {
    fn try_next(&self, capabilities: &Capabilities) -> Option<Transaction> {
        self.taken(self.supply.try_next(&self.mta, capabilities))
    }

    async fn next(&self, capabilities: &Capabilities) -> Option<Transaction> {
        self.taken(self.supply.next(&self.mta, capabilities).await)
    }

    async fn hand_out(&self, transactions: &[&Transaction]) -> Result<(), NoRecord> {
        self.supply.hand_out(transactions).await
    }

    fn settle(&self, settlement: Settlement) {
        let counts = &self.mta.counts;
        for result in &settlement.results {
            match result {
                RcptResult::Accepted { .. } => counts.accepted.fetch_add(1, Relaxed),
                RcptResult::Refused { .. } => counts.refused.fetch_add(1, Relaxed),
                RcptResult::Deferred { .. } => counts.deferred.fetch_add(1, Relaxed),
                RcptResult::InDoubt { .. } => counts.in_doubt.fetch_add(1, Relaxed),
                RcptResult::NotTried => 0,
            };
        }
        self.series.gave_back(&settlement);
        self.supply.settle_all(settlement, &self.series);
    }

    fn observed(&self, what: &Observed<'_>) {
        self.series.observed(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u64]) -> Vec<Turn> {
        let mta = |(i, &weight): (usize, &u64)| {
            Turn::new(Arc::new(Mta {
                name: format!("m{i}"),
                address: String::new(),
                weight: AtomicU64::new(weight),
                sink: false,
                recipients_max: 1,
                counts: MtaCounts::default(),
                rate: AtomicU64::new(0),
                paced: Notify::new(),
                no_xverp: AtomicBool::new(false),
            }))
        };
        weights.iter().enumerate().map(mta).collect()
    }

    #[test]
    fn a_reload_lifts_the_pace_of_an_mta_that_changed_and_of_no_other() {
        let mut both = turns(&[1, 1]);
        let (other, mut turn) = (both.remove(1).mta, both.remove(0));
        [&turn.mta, &other].map(|mta| mta.set_rate(PerSecond::new(50.0)));
        turn.pace = PerSecond::new(2.0);
        let same = turn.mta.clone();
        let mut limit_after = |mta| {
            let before = std::mem::replace(&mut turn, Turn::new(other.clone()));
            turn = before.succeeded_by(mta);
            turn.apply_limit(Moment(0));
            turn.limiter.rate()
        };
        assert_eq!(limit_after(same), PerSecond::new(2.0), "whoever found it has found no other");
        assert_eq!(limit_after(other.clone()), PerSecond::new(50.0));
    }

    #[test]
    fn mtas_that_keep_asking_get_their_parts_by_weight() {
        let (mut turns, now) = (turns(&[3, 1, 6]), Instant::now());
        let mut got = [0u32; 3];
        for round in 0..3_000 {
            let at = round % 3;
            if may_take(&mut turns, at, now) {
                took(&mut turns[at], 1);
                got[at] += 1;
            }
        }
        let all: u32 = got.iter().sum();
        for (n, weight) in got.iter().zip([3.0, 1.0, 6.0]) {
            assert!((f64::from(*n) / f64::from(all) - weight / 10.0).abs() < 0.01, "{got:?}");
        }
    }

    #[test]
    fn one_that_asks_no_more_holds_nobody_back_and_comes_back_without_credit() {
        let (mut turns, begun) = (turns(&[9, 1]), Instant::now());
        assert!(may_take(&mut turns, 0, begun));
        took(&mut turns[0], 1);
        let later = begun + Duration::from_secs(1);
        for _ in 0..100 {
            assert!(may_take(&mut turns, 1, later));
            took(&mut turns[1], 1);
        }
        assert!(may_take(&mut turns, 0, later));
        let mut in_a_row = 0;
        while may_take(&mut turns, 0, later) {
            took(&mut turns[0], 1);
            in_a_row += 1;
        }
        assert!(in_a_row <= 10, "{in_a_row} in a row, of a part of 9 to 1");
    }
}
