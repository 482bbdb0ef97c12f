//! What a run counts while it sends: by MTA and by job, in atomics that whoever counts holds.
//!
//! Guarantees: after its handle was taken, counting looks nothing up, formats nothing and takes no lock;
//! no series ever goes backwards; there are at most [`JOB_SERIES_MAX`] and [`MTA_SERIES_MAX`] of them, and
//! what is beyond counts as `other`. Nothing here fails.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::catalogue::{JOURNAL_SYNC, PHASE, TRANSACTION_RECIPIENTS};
use super::histogram::Histogram;
use crate::clock::{self, Micros, SECOND_US};
use crate::infeed::{Observed, RcptResult, Settlement};
use crate::spool::Outcome;

/// Jobs that have a series of their own at a time.
pub const JOB_SERIES_MAX: usize = 20;
/// MTAs that are told apart, those called `none` and `other` among them.
pub const MTA_SERIES_MAX: usize = 64;
/// A job that was let go so long ago makes room for another one.
const IDLE_S: u64 = 600;
/// What is counted where there is no series for it.
const OTHER: &str = "other";
/// What no MTA had a part in.
const NONE: &str = "none";
/// Reply codes that are counted one by one, from 200 on.
const CODES: usize = 400;

/// All of one run.
#[derive(Debug)]
pub struct Recorder {
    begun_us: Micros,
    mtas: Mutex<Vec<Arc<MtaSeries>>>,
    jobs: Mutex<Vec<Arc<JobSeries>>>,
    pub possible_repeats: AtomicU64,
    pub submitted_jobs: AtomicU64,
    pub submitted: AtomicU64,
    /// Of the slices that the run owns; set once it does.
    pub journal_sync: OnceLock<Arc<Histogram>>,
}

/// One MTA's.
#[derive(Debug)]
pub struct MtaSeries {
    pub name: String,
    place: usize,
    codes: Box<[AtomicU64]>,
    pub transactions: AtomicU64,
    pub content_bytes: AtomicU64,
    pub recipients: Histogram,
    /// Transactions that infeeds have.
    pub taken: AtomicU64,
    pub settled: AtomicU64,
    pub failed: AtomicU64,
    pub lost: AtomicU64,
    pub connect: Histogram,
    pub greeting: Histogram,
    pub envelope: Histogram,
    pub content: Histogram,
}

/// One job's deliveries, by MTA and outcome.
#[derive(Debug)]
pub struct JobSeries {
    pub job: String,
    by_mta: Box<[OnceLock<Box<[AtomicU64; Outcome::ALL.len()]>>]>,
    /// When it was taken in hand last.
    taken_us: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            begun_us: clock::now_us(),
            mtas: Mutex::new(vec![Arc::new(MtaSeries::new(NONE, 0))]),
            jobs: Mutex::new(vec![Arc::new(JobSeries::new(OTHER))]),
            possible_repeats: AtomicU64::new(0),
            submitted_jobs: AtomicU64::new(0),
            submitted: AtomicU64::new(0),
            journal_sync: OnceLock::new(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// An empty histogram for the syncs of a journal.
    pub fn journal_histogram() -> Arc<Histogram> {
        Arc::new(Histogram::of(&JOURNAL_SYNC))
    }

    /// The series of an MTA; one of the same name goes on with what there is.
    pub fn mta(&self, name: &str) -> Arc<MtaSeries> {
        let mut mtas = lock(&self.mtas);
        let known = |name: &str| mtas.iter().find(|series| series.name == name).cloned();
        let is_full = mtas.len() >= MTA_SERIES_MAX - 1;
        if let Some(known) = known(name).or_else(|| known(OTHER).filter(|_| is_full)) {
            return known;
        }
        let name = if is_full { OTHER } else { name };
        let series = Arc::new(MtaSeries::new(name, mtas.len()));
        mtas.push(series.clone());
        series
    }

    /// The series of a job, to be held as long as it is in hand: its own where there is room, else that of
    /// the others.
    pub fn job(&self, job: &str) -> Arc<JobSeries> {
        self.job_at(job, clock::steady_us())
    }

    fn job_at(&self, job: &str, now_us: Micros) -> Arc<JobSeries> {
        let mut jobs = lock(&self.jobs);
        if let Some(known) = jobs.iter().find(|series| series.job == job) {
            known.taken_us.store(now_us, Relaxed);
            return known.clone();
        }
        let is_past = |series: &Arc<JobSeries>| {
            let idle_us = now_us.saturating_sub(series.taken_us.load(Relaxed));
            series.job != OTHER && Arc::strong_count(series) == 1 && idle_us >= IDLE_S * SECOND_US
        };
        if jobs.len() > JOB_SERIES_MAX {
            let past = (0..jobs.len()).filter(|at| is_past(&jobs[*at]));
            match past.min_by_key(|at| jobs[*at].taken_us.load(Relaxed)) {
                Some(at) => drop(jobs.remove(at)),
                None => return jobs[0].clone(),
            }
        }
        let series = Arc::new(JobSeries::new(job));
        series.taken_us.store(now_us, Relaxed);
        jobs.push(series.clone());
        series
    }

    /// A job that this run meets for the first time.
    pub fn met(&self, submitted_us: Micros, recipients: u64) {
        if submitted_us >= self.begun_us {
            self.submitted_jobs.fetch_add(1, Relaxed);
            self.submitted.fetch_add(recipients, Relaxed);
        }
    }

    pub(super) fn mtas(&self) -> Vec<Arc<MtaSeries>> {
        lock(&self.mtas).clone()
    }

    pub(super) fn each_job(&self, mut each: impl FnMut(&JobSeries)) {
        lock(&self.jobs).iter().for_each(|series| each(series));
    }
}

impl JobSeries {
    fn new(job: &str) -> Self {
        let by_mta = (0..MTA_SERIES_MAX).map(|_| OnceLock::new()).collect();
        Self { job: job.to_owned(), by_mta, taken_us: AtomicU64::new(0) }
    }

    /// Recipients that came to this outcome; `None`: no MTA had a part in it.
    pub fn count(&self, mta: Option<&MtaSeries>, outcome: Outcome, n: u64) {
        let counts = self.by_mta[mta.map_or(0, |mta| mta.place)].get_or_init(Box::default);
        counts[outcome as usize].fetch_add(n, Relaxed);
    }

    /// What was counted: place of the MTA, outcome, recipients.
    pub(super) fn each(&self, mut each: impl FnMut(usize, Outcome, u64)) {
        for (place, counts) in self.by_mta.iter().enumerate() {
            let Some(counts) = counts.get() else { continue };
            for outcome in Outcome::ALL {
                each(place, outcome, counts[outcome as usize].load(Relaxed));
            }
        }
    }
}

impl MtaSeries {
    fn new(name: &str, place: usize) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            name: name.to_owned(),
            place,
            codes: (0..CODES).map(|_| zero()).collect(),
            transactions: zero(),
            content_bytes: zero(),
            recipients: Histogram::of(&TRANSACTION_RECIPIENTS),
            taken: zero(),
            settled: zero(),
            failed: zero(),
            lost: zero(),
            connect: Histogram::of(&PHASE),
            greeting: Histogram::of(&PHASE),
            envelope: Histogram::of(&PHASE),
            content: Histogram::of(&PHASE),
        }
    }

    /// The one that stands for no MTA.
    pub(super) fn is_none(&self) -> bool {
        self.place == 0
    }

    /// An infeed has a transaction.
    pub fn took(&self) {
        self.taken.fetch_add(1, Relaxed);
    }

    /// An infeed gave it back.
    pub fn gave_back(&self, settlement: &Settlement) {
        self.settled.fetch_add(1, Relaxed);
        let (mut tried, mut accepted) = (false, false);
        for result in &settlement.results {
            let said = match result {
                RcptResult::Accepted { said, .. } => {
                    accepted = true;
                    said
                }
                RcptResult::Refused { said, .. } | RcptResult::Deferred { said, .. } => said,
                RcptResult::NotTried | RcptResult::InDoubt { .. } => continue,
            };
            tried = true;
            if let Some(count) = usize::from(said.code).checked_sub(200).and_then(|at| self.codes.get(at)) {
                count.fetch_add(1, Relaxed);
            }
        }
        if tried {
            self.transactions.fetch_add(1, Relaxed);
            self.recipients.observe_count(settlement.results.len());
        }
        if accepted {
            self.content_bytes.fetch_add(settlement.transaction.content.wire.len() as u64, Relaxed);
        }
    }

    /// What an infeed tells of how it goes.
    pub fn observed(&self, observed: &Observed<'_>) {
        let at = |histogram: &Histogram, took: Duration| histogram.observe(took);
        match observed {
            Observed::Session(opened) => {
                at(&self.connect, opened.connect);
                at(&self.greeting, opened.greeting);
            }
            Observed::NoSession(_) => drop(self.failed.fetch_add(1, Relaxed)),
            Observed::SessionLost(_) => drop(self.lost.fetch_add(1, Relaxed)),
            Observed::Envelope { took } => at(&self.envelope, *took),
            Observed::Content { took } => at(&self.content, *took),
        }
    }

    /// Transactions that infeeds have now.
    pub(super) fn in_hand(&self) -> u64 {
        // settled first: what is taken meanwhile makes it more, never less than none
        let settled = self.settled.load(Relaxed);
        self.taken.load(Relaxed).saturating_sub(settled)
    }

    /// What each phase took, by the name that it has in metrics and status.
    pub(super) fn phases(&self) -> [(&'static str, &Histogram); 4] {
        [
            ("connect", &self.connect),
            ("greeting", &self.greeting),
            ("envelope", &self.envelope),
            ("content", &self.content),
        ]
    }

    /// Each code that was seen, with how often.
    pub(super) fn each_code(&self, mut each: impl FnMut(usize, u64)) {
        for (at, count) in self.codes.iter().enumerate() {
            let count = count.load(Relaxed);
            if count > 0 {
                each(200 + at, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recipients of each job that has a series.
    fn sums(recorder: &Recorder) -> Vec<(String, u64)> {
        let mut sums = Vec::new();
        recorder.each_job(|series| {
            let mut sum = 0;
            series.each(|_, _, n| sum += n);
            sums.push((series.job.clone(), sum));
        });
        sums
    }

    #[test]
    fn a_thousand_jobs_make_no_more_series_than_there_may_be_and_nobody_is_left_out() {
        let (recorder, begun_us) = (Recorder::default(), 0);
        let held: Vec<_> = (0..1_000).map(|i| recorder.job_at(&format!("job-{i}"), begun_us)).collect();
        held.iter().for_each(|series| series.count(None, Outcome::Accepted, 1));
        let sums = sums(&recorder);
        assert_eq!(sums.len(), JOB_SERIES_MAX + 1);
        assert_eq!(sums[0], (OTHER.to_owned(), 1_000 - JOB_SERIES_MAX as u64));
        assert_eq!(sums.iter().map(|(_, n)| n).sum::<u64>(), 1_000);
    }

    #[test]
    fn a_job_that_is_in_hand_or_was_lately_keeps_its_series() {
        let recorder = Recorder::default();
        let held = recorder.job_at("held", 0);
        for i in 1..JOB_SERIES_MAX {
            drop(recorder.job_at(&format!("past-{i}"), i as u64));
        }
        assert_eq!(recorder.job_at("too-soon", IDLE_S * SECOND_US - 1).job, OTHER);
        let later = 2 * IDLE_S * SECOND_US;
        assert_eq!(recorder.job_at("next", later).job, "next");
        let names: Vec<String> = sums(&recorder).into_iter().map(|(job, _)| job).collect();
        assert!(names.contains(&held.job), "{names:?}");
        assert!(!names.contains(&"past-1".to_owned()), "the one let go longest ago goes: {names:?}");
        assert_eq!(names.len(), JOB_SERIES_MAX + 1);
    }

    #[test]
    fn a_job_called_other_is_one_of_the_others() {
        let recorder = Recorder::default();
        assert!(Arc::ptr_eq(&recorder.job("other"), &lock(&recorder.jobs)[0]));
        assert_eq!(sums(&recorder).len(), 1);
    }

    #[test]
    fn mtas_beyond_the_bound_count_as_one() {
        let recorder = Recorder::default();
        let all: Vec<_> = (0..200).map(|i| recorder.mta(&format!("m{i}"))).collect();
        assert_eq!(recorder.mtas().len(), MTA_SERIES_MAX);
        assert_eq!(all[0].name, "m0");
        assert_eq!((all[199].name.as_str(), all[199].place), (OTHER, MTA_SERIES_MAX - 1));
        assert!(recorder.mta("none").is_none(), "an MTA of that name shares its series");
    }

    #[test]
    fn a_job_of_before_the_start_was_not_submitted_since() {
        let recorder = Recorder::default();
        recorder.met(recorder.begun_us - 1, 10);
        recorder.met(recorder.begun_us, 7);
        assert_eq!(recorder.submitted.load(Relaxed), 7);
        assert_eq!(recorder.submitted_jobs.load(Relaxed), 1);
    }
}
