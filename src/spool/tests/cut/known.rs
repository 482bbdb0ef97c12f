//! What somebody outside knows at a moment of the log: what was answered, what was sent, and which
//! outcomes lie in a journal that was synced. That is what a recovery has to honour.

use std::collections::{BTreeMap, BTreeSet};

use crate::spool::disk::{Ino, Step};
use crate::spool::id::{JobId, Outcome};
use crate::spool::layout::JobState;
use crate::spool::recorder::Moment;

/// Where a job is; `None`: it is not there.
pub type Place = Option<JobState>;

/// What the test does or learns.
#[derive(Debug, Clone)]
pub enum Mark {
    /// A job is submitted, by so many recipients.
    Begun(JobId, usize),
    /// It is answered: it is durable.
    Submitted(JobId, usize),
    /// A change is asked for.
    Asked(JobId, Place),
    /// It is answered: it is durable.
    Is(JobId, Place),
    /// Content that completes a delivery goes out.
    Sent(JobId, String),
    Recorded(JobId, String, Outcome),
    /// The pass has ended with these outcomes: they are durable.
    Finished(JobId, Vec<(String, Outcome)>),
}

#[derive(Debug, Clone, Default)]
pub struct KnownJob {
    pub recipients: usize,
    pub submitted: bool,
    pub places: BTreeSet<Place>,
    /// How often content went out.
    pub sent: BTreeMap<String, usize>,
    /// Outcomes that must not be forgotten.
    pub durable: BTreeMap<String, Outcome>,
}

impl KnownJob {
    pub fn repeats(&self) -> usize {
        self.sent.values().map(|n| n - 1).sum()
    }
}

type Told = Vec<(JobId, String, Outcome)>;

/// What is known after a part of the log.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub jobs: BTreeMap<JobId, KnownJob>,
    /// Outcomes since the log began: a new segment holds all of them that are not in results.
    recorded: Told,
    /// Those of them that no segment was told yet.
    unwritten: Told,
    segments: BTreeMap<Ino, Segment>,
}

#[derive(Debug, Clone, Default)]
struct Segment {
    /// Its name is durable.
    named: bool,
    written: Told,
    synced: Told,
}

impl Known {
    pub fn learn(&mut self, moment: &Moment<Mark>) {
        match moment {
            Moment::Call(step) => self.see(step),
            Moment::Mark(mark) => self.hear(mark),
        }
    }

    /// Another process: what the former one had in memory is nowhere.
    pub fn forget_memory(&mut self) {
        self.recorded.clear();
        self.unwritten.clear();
        self.segments.clear();
    }

    pub fn repeats(&self) -> usize {
        self.jobs.values().map(KnownJob::repeats).sum()
    }

    fn job(&mut self, job: &JobId) -> &mut KnownJob {
        self.jobs.entry(job.clone()).or_default()
    }

    fn hear(&mut self, mark: &Mark) {
        match mark {
            Mark::Begun(job, n) => {
                let known = self.job(job);
                if known.places.contains(&None) && known.submitted {
                    // the job of that id was removed: this is another one
                    *known = KnownJob::default();
                }
                known.recipients = *n;
                known.places.extend([None, Some(JobState::Active)]);
            }
            Mark::Submitted(job, n) => {
                let known = self.job(job);
                (known.recipients, known.submitted) = (*n, true);
                known.places = BTreeSet::from([Some(JobState::Active)]);
            }
            Mark::Asked(job, place) => {
                self.job(job).places.insert(*place);
            }
            Mark::Is(job, place) => self.job(job).places = BTreeSet::from([*place]),
            Mark::Sent(job, address) => {
                *self.job(job).sent.entry(address.clone()).or_default() += 1;
            }
            Mark::Recorded(job, address, outcome) => {
                let told = (job.clone(), address.clone(), *outcome);
                self.recorded.push(told.clone());
                self.unwritten.push(told);
            }
            Mark::Finished(job, outcomes) => self.job(job).durable.extend(outcomes.iter().cloned()),
        }
    }

    fn see(&mut self, step: &Step) {
        match step {
            Step::Create(path, ino) if path.parent().is_some_and(|p| p.ends_with("journal")) => {
                self.segments.insert(*ino, Segment::default());
            }
            Step::Write(ino, at, _) => {
                if let Some(segment) = self.segments.get_mut(ino) {
                    segment.written.append(&mut self.unwritten);
                    if *at == 0 {
                        segment.written.clone_from(&self.recorded);
                    }
                }
            }
            Step::SyncFile(ino) => {
                if let Some(segment) = self.segments.get_mut(ino) {
                    segment.synced.append(&mut segment.written);
                }
                self.settle();
            }
            Step::SyncFileFailed(ino) => {
                if let Some(segment) = self.segments.get_mut(ino) {
                    segment.written.clear();
                }
            }
            Step::SyncDir(path) if path.ends_with("journal") => {
                self.segments.values_mut().for_each(|s| s.named = true);
                self.settle();
            }
            // its name is lost, whatever a later sync says
            Step::SyncDirFailed(path) if path.ends_with("journal") => {
                self.segments.retain(|_, s| s.named);
            }
            _ => {}
        }
    }

    fn settle(&mut self) {
        let segments = self.segments.values_mut().filter(|s| s.named);
        let durable: Told = segments.flat_map(|s| std::mem::take(&mut s.synced)).collect();
        for (job, address, outcome) in durable {
            self.job(&job).durable.insert(address, outcome);
        }
    }
}
