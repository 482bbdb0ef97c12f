//! The runner: drains the slices that it owns into the infeeds.
//!
//! ```text
//!  feeder: scan → claim ─→ supply ─→ try_next/next → infeeds
//!            ↑               ↑ settle ←──────────────┘
//!          finish ←── a chunk whose recipients are all settled
//! ```
//!
//! | file | is |
//! | --- | --- |
//! | `drain` | one run: owner, feeder, pools; when to end, and how |
//! | `command` | what a run can be told and asked while it goes on |
//! | `slot` | the pools, one an MTA: started, judged, given up, exchanged |
//! | `steer` | how many connections one MTA has, as the law of `pressure` wants it |
//! | `mtas` | which job may go to which MTA, and whose turn it is |
//! | `feeder` | claims chunks ahead of the infeeds, ends their passes, watches for new jobs and requests |
//! | `pick` | who is next: a job, and recipients of it |
//! | `supply` | the chunks in hand: composes transactions |
//! | `settle` | what a result means for the recipient, the job and the chunk |
//! | `refusals` | the last who were not accepted, and why, for `status` |
//! | `hand` | one chunk in hand |
//! | `line`, `mixing`, `room` | pure: jobs in turn; domains mixed; how much is in hand |
//! | `limits` | who waits for a rate, and the one timer that wakes |
//! | `pack` | what makes the messages: one template, or one for each member of a pack |
//! | `retry`, `rate` | pure: when to try again |
//!
//! Guarantees: a recipient is in one transaction at a time; every one that is taken comes back, once;
//! memory is bounded by [`FIRST_HANDS_MAX`] and [`HANDS_BYTES_MAX`], whatever waits. Errors: [`RunnerError`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::infeed::StreakLimits;
use crate::metrics::{JobSeries, MtaSeries, Recorder};
use crate::pressure::law::Cuts;
use crate::slice::XxRange;
use crate::spool::{JobId, Outcome, SpoolError};

mod command;
mod drain;
mod feeder;
mod hand;
mod limits;
mod line;
mod mixing;
mod mtas;
mod pack;
mod pick;
mod rate;
mod refusals;
mod retry;
mod room;
mod settle;
mod slot;
mod steer;
mod supply;
mod xverp;

pub use command::{
    DomainRunStatus, JobProgress, JobUnderWay, MtaChange, MtaRunStatus, Reload, RunCommand, RunEnded,
    RunHandle, RunStatus,
};
pub use drain::{drain, drain_owned};
pub use limits::DomainRates;
pub use mtas::MtaConfig;
pub use refusals::{REFUSALS_MAX, Refusal, Refusals};
pub use retry::RetryPolicy;
pub use room::{FIRST_HANDS_MAX, HANDS_BYTES_MAX, HANDS_MAX, HANDS_PER_JOB_MAX};

/// How one run drains.
#[derive(Debug, Clone)]
pub struct DrainConfig {
    /// Where to; never empty, the names all different.
    pub mtas: Vec<MtaConfig>,
    pub range: XxRange,
    /// Drain this job alone.
    pub only_job: Option<JobId>,
    /// End after so many recipients were tried.
    pub first: Option<u64>,
    /// Jobs for a real MTA that may go into the embedded sink all the same: somebody insists.
    pub real_into_sink: Vec<JobId>,
    /// The MTAs were given by hand: jobs that were submitted for another address may go there too.
    pub addresses_are_meant: bool,
    /// When the refusal breaker trips.
    pub breaker: StreakLimits,
    pub retry: RetryPolicy,
    /// Transactions a second for recipients of these domains.
    pub domain_rates: DomainRates,
    /// How long transactions in flight may take once a stop was asked for.
    pub shutdown_grace: Duration,
    /// Wait for more when nothing is due, and for MTAs and disks to come back: a daemon.
    pub forever: bool,
}

impl DrainConfig {
    /// A drain of all that is due, of every slice, into these MTAs.
    pub fn new(mtas: Vec<MtaConfig>) -> Self {
        Self {
            mtas,
            range: XxRange::ALL,
            only_job: None,
            first: None,
            real_into_sink: Vec::new(),
            addresses_are_meant: false,
            breaker: StreakLimits::default(),
            retry: RetryPolicy::default(),
            domain_rates: DomainRates::new(),
            shutdown_grace: Duration::from_secs(30),
            forever: false,
        }
    }
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Nothing more was due.
    Drained,
    /// `first` recipients were tried.
    FirstReached,
    /// A stop was asked for.
    Stopped,
    /// A 5xx at banner or EHLO: no recipient was touched by it.
    MtaPaused(String),
    MtaUnavailable(String),
    /// Progress could not be recorded: nothing is sent without.
    JournalFailed(String),
    /// Somebody said `pause --all`.
    Standstill,
}

impl Ended {
    /// What the MTA or the disk said, where one of them ended the run.
    pub fn why(&self) -> Option<&str> {
        match self {
            Ended::MtaPaused(why) | Ended::MtaUnavailable(why) | Ended::JournalFailed(why) => Some(why),
            Ended::Drained | Ended::FirstReached | Ended::Stopped | Ended::Standstill => None,
        }
    }
}

/// What one run did.
#[derive(Debug, Clone)]
pub struct DrainReport {
    pub ended: Ended,
    /// Connections opened, one after the other; rotation makes them more.
    pub connections_opened: usize,
    /// Connections that stood at a time, at most, and on average while any did; of several MTAs in sum.
    pub connections_peak: usize,
    pub connections_mean: f64,
    /// How often the number of connections was cut, by reason.
    pub cuts: Cuts,
    pub seconds: f64,
    /// Final outcomes in this run.
    pub settled: u64,
    pub accepted: u64,
    /// Those of them that were neither accepted nor suppressed, as was asked for.
    pub not_sent: u64,
    /// Recipients of active jobs that are still pending or deferred.
    pub unfinished: u64,
    /// Jobs that the refusal breaker paused, with what the MTA said.
    pub paused: Vec<(JobId, String)>,
    /// Jobs that were left alone, with the reason.
    pub left_alone: Vec<(JobId, String)>,
    /// How many of them can't be drained as they lie there.
    pub unreadable: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Live counts of one run, for a progress bar.
#[derive(Debug, Default)]
pub struct Progress {
    /// The same by job and MTA, and whatever else is counted for the metrics.
    pub recorder: Recorder,
    /// The last who were not accepted.
    pub refusals: Refusals,
    by_outcome: [AtomicU64; 9],
    connections: AtomicUsize,
    note: Mutex<Option<String>>,
}

/// What [`Progress`] said at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProgressSnapshot {
    pub accepted: u64,
    pub refused: u64,
    pub deferred: u64,
    pub expired: u64,
    pub suppressed: u64,
    pub quarantined: u64,
    pub in_doubt: u64,
    /// Sessions that stand.
    pub connections: usize,
    /// What holds the run up, for people.
    pub note: Option<String>,
}

impl Progress {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn snapshot(&self) -> ProgressSnapshot {
        let of = |o: Outcome| self.by_outcome[o as usize].load(Relaxed);
        ProgressSnapshot {
            accepted: of(Outcome::Accepted),
            refused: of(Outcome::Refused),
            deferred: of(Outcome::Deferred),
            expired: of(Outcome::Expired),
            suppressed: of(Outcome::Suppressed),
            quarantined: of(Outcome::Quarantined),
            in_doubt: of(Outcome::InDoubt),
            connections: self.connections.load(Relaxed),
            note: self.note.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The one place where a recipient's outcome is counted.
    fn count(&self, job: &JobSeries, mta: Option<&MtaSeries>, outcome: Outcome, n: u64) {
        job.count(mta, outcome, n);
        self.by_outcome[outcome as usize].fetch_add(n, Relaxed);
    }

    /// Final outcomes so far.
    fn settled(&self) -> u64 {
        let finals = Outcome::ALL.into_iter().filter(|o| o.is_final());
        finals.map(|o| self.by_outcome[o as usize].load(Relaxed)).sum()
    }

    fn set_connections(&self, n: usize) {
        self.connections.store(n, Relaxed);
    }

    fn set_note(&self, note: Option<String>) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note;
    }
}
