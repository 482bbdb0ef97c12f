//! What `status` tells, on one screen or as JSON: the same numbers, whoever counts them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod lines;

pub use lines::{
    Backlog, DomainLine, JobLine, JobsByState, MtaLine, OwnerLine, PausedLine, PhaseLine, RefusalLine,
    SpaceLine,
};

use crate::clock::{self, Micros};
use crate::infeed::MtaState;
use crate::pressure::window::Windows;
use crate::runner::{REFUSALS_MAX, RunStatus};
use crate::spool::{DirSpool, JobState, JobView, Outcome, SpoolError};

/// Jobs that are shown one by one, at most; the counts are of all.
const JOBS_SHOWN_MAX: usize = 20;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub spool: String,
    /// Who drains; none: nobody does now.
    pub owners: Vec<OwnerLine>,
    /// `pause --all`: since when, and why.
    pub standstill: Option<PausedLine>,
    pub jobs: JobsByState,
    pub backlog: Backlog,
    /// Outcomes since the owner began.
    pub outcomes: BTreeMap<String, u64>,
    /// Accepted recipients a second.
    pub rate_10_s: f64,
    pub rate_60_s: f64,
    /// Recipients in transactions now.
    pub in_flight: u64,
    /// What holds things up, in words.
    pub note: Option<String>,
    pub mtas: Vec<MtaLine>,
    /// What the MTAs' replies took in the last ten seconds, by MTA and phase; those that didn't occur are left
    /// out.
    #[serde(default)]
    pub phases: Vec<PhaseLine>,
    /// The last who were refused, deferred or expired, the newest first.
    #[serde(default)]
    pub refusals: Vec<RefusalLine>,
    /// Domains that have a rate.
    #[serde(default)]
    pub domains: Vec<DomainLine>,
    /// Active jobs, those with the most left first.
    pub active: Vec<JobLine>,
    /// Paused jobs, and why.
    pub paused: Vec<PausedLine>,
    /// Jobs that the owner can't drain, and why.
    pub left_alone: Vec<PausedLine>,
    pub space: SpaceLine,
    /// Jobs that can't be read.
    pub damaged: Vec<String>,
}

impl Status {
    /// What the spool says; [`Status::add_run`] adds what its owner knows. Blocks on the disk.
    ///
    /// # Errors
    /// The spool's.
    pub fn of_spool(spool: &DirSpool) -> Result<Self, SpoolError> {
        let views = spool.views_of(&[JobState::Active, JobState::Paused])?;
        Self::of_views(spool, views)
    }

    /// The same of active and paused jobs that were looked at already.
    ///
    /// # Errors
    /// The spool's.
    pub fn of_views(spool: &DirSpool, views: Vec<Result<JobView, SpoolError>>) -> Result<Self, SpoolError> {
        let (space, settings) = (spool.space()?, spool.settings());
        let space = SpaceLine {
            bytes_free: space.bytes_free,
            inodes_free: (space.inodes_free < u64::MAX).then_some(space.inodes_free),
            bytes_free_min: settings.free_bytes_min,
            inodes_free_min: settings.free_inodes_min,
        };
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            spool: spool.root().display().to_string(),
            owners: Vec::new(),
            standstill: spool.standstill()?.map(|s| PausedLine {
                job: "all".to_owned(),
                reason: s.reason,
                since_us: Some(s.since_us),
            }),
            jobs: JobsByState::default(),
            backlog: Backlog::default(),
            outcomes: BTreeMap::new(),
            rate_10_s: 0.0,
            rate_60_s: 0.0,
            in_flight: 0,
            note: None,
            mtas: Vec::new(),
            phases: Vec::new(),
            refusals: Vec::new(),
            domains: Vec::new(),
            active: Vec::new(),
            paused: Vec::new(),
            left_alone: Vec::new(),
            space,
            damaged: Vec::new(),
        };
        for owner in spool.owners()? {
            status.owners.push(OwnerLine {
                command: None,
                who: if owner.who.is_empty() { "another process".to_owned() } else { owner.who },
                slices: owner.range.to_string(),
                uptime_s: None,
            });
        }
        let now = clock::now_us();
        status.jobs.done = spool.count(JobState::Done)?;
        status.jobs.cancelled = spool.count(JobState::Cancelled)?;
        for view in views {
            match view {
                Ok(view) => status.add_job(&view, now),
                Err(e) => status.damaged.push(e.to_string()),
            }
        }
        status.active.sort_by_key(|job| std::cmp::Reverse(job.pending + job.deferred));
        status.active.truncate(JOBS_SHOWN_MAX);
        Ok(status)
    }

    fn add_job(&mut self, view: &JobView, now: Micros) {
        let job = view.job.to_string();
        if view.state == JobState::Paused {
            self.jobs.paused += 1;
            let reason = view.standing.paused_reason.clone();
            self.paused.push(PausedLine {
                job,
                reason: reason.unwrap_or_else(|| "no reason was noted".to_owned()),
                since_us: (view.standing.paused_us > 0).then_some(view.standing.paused_us),
            });
            return;
        }
        self.jobs.active += 1;
        let of = |outcome| view.counts.of(outcome);
        let backlog = &mut self.backlog;
        backlog.recipients += view.counts.unfinished();
        backlog.deferred += of(Outcome::Deferred);
        let windows = view.standing.windows(&view.meta);
        let waits_for_window = match Windows::parse(windows) {
            Ok(windows) => windows.why_shut(now),
            Err(e) => Some(format!("its window can't be read: {e}")),
        };
        let mut later = 0;
        for chunk in &view.waiting {
            let due_us = chunk.name.due_us;
            let is_later = due_us > now;
            // nobody is late with what may not go yet
            let is_shut = waits_for_window.is_some();
            later += if is_later || is_shut { u64::from(chunk.recipients) } else { 0 };
            let slot = match (is_later, is_shut) {
                (true, _) => &mut backlog.next_due_us,
                (false, true) => continue,
                (false, false) => &mut backlog.oldest_due_us,
            };
            *slot = Some(slot.map_or(due_us, |earliest| earliest.min(due_us)));
        }
        backlog.due += view.counts.unfinished().saturating_sub(later);
        self.active.push(JobLine {
            job,
            messages_per_second: view.standing.rate(&view.meta),
            waits_for_rate: false,
            windows: windows.to_vec(),
            waits_for_window,
            recipients: view.meta.recipients,
            accepted: of(Outcome::Accepted),
            refused: of(Outcome::Refused),
            deferred: of(Outcome::Deferred),
            pending: of(Outcome::Pending),
        });
    }

    /// Adds what a run knows of itself.
    pub fn add_run(&mut self, run: &RunStatus) {
        let p = &run.progress;
        for (outcome, n) in [
            (Outcome::Accepted, p.accepted),
            (Outcome::Refused, p.refused),
            (Outcome::Deferred, p.deferred),
            (Outcome::Expired, p.expired),
            (Outcome::Suppressed, p.suppressed),
            (Outcome::Quarantined, p.quarantined),
            (Outcome::InDoubt, p.in_doubt),
        ] {
            *self.outcomes.entry(outcome.as_str().to_owned()).or_default() += n;
        }
        self.rate_10_s += run.rate_10_s;
        self.rate_60_s += run.rate_60_s;
        self.in_flight += run.in_flight as u64;
        self.note = self.note.take().or_else(|| p.note.clone());
        self.mtas.extend(run.mtas.iter().map(MtaLine::from));
        self.phases.extend(run.phases.iter().map(PhaseLine::from));
        self.add_refusals(run.refusals.iter().map(RefusalLine::from));
        self.domains.extend(run.domains.iter().map(DomainLine::from));
        for (job, _, waits) in &run.limited_jobs {
            if let Some(line) = self.active.iter_mut().find(|line| line.job == job.as_str()) {
                line.waits_for_rate |= waits;
            }
        }
        for (job, reason) in &run.left_alone {
            let (job, reason) = (job.to_string(), reason.clone());
            self.left_alone.push(PausedLine { job, reason, since_us: None });
        }
    }

    /// The newest of both come first, and no more than one run tells.
    fn add_refusals(&mut self, refusals: impl IntoIterator<Item = RefusalLine>) {
        self.refusals.extend(refusals);
        self.refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.at_us));
        self.refusals.truncate(REFUSALS_MAX);
    }

    /// Adds what another owner of disjoint slices answered; what the spool says is the same for both.
    pub fn merge(&mut self, other: Status) {
        for (outcome, n) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += n;
        }
        self.rate_10_s += other.rate_10_s;
        self.rate_60_s += other.rate_60_s;
        self.in_flight += other.in_flight;
        self.note = self.note.take().or(other.note);
        self.mtas.extend(other.mtas);
        self.phases.extend(other.phases);
        self.add_refusals(other.refusals);
        for theirs in other.domains {
            match self.domains.iter_mut().find(|ours| ours.domain == theirs.domain) {
                Some(ours) => ours.waiting += theirs.waiting,
                None => self.domains.push(theirs),
            }
        }
        for theirs in other.active.into_iter().filter(|line| line.waits_for_rate) {
            let ours = self.active.iter_mut().find(|line| line.job == theirs.job);
            ours.into_iter().for_each(|line| line.waits_for_rate = true);
        }
        self.left_alone.extend(other.left_alone);
        for theirs in other.owners.into_iter().filter(|o| o.command.is_some()) {
            if let Some(ours) = self.owners.iter_mut().find(|o| o.slices == theirs.slices) {
                *ours = theirs;
            }
        }
    }
}

/// The word for an MTA's state, and the reason where it isn't up.
pub fn state_of(state: &MtaState, established: usize) -> (&'static str, Option<String>) {
    match state {
        MtaState::Up => ("up", None),
        MtaState::Connecting if established == 0 => ("idle", None),
        MtaState::Connecting => ("connecting", None),
        MtaState::Down { error, .. } => ("down", Some(error.clone())),
        MtaState::Paused { said } => ("paused", Some(format!("{} {}", said.code, said.text))),
        MtaState::Held { why, .. } => ("held", Some(why.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(at_us: Micros) -> RefusalLine {
        RefusalLine {
            at_us,
            job: "weekly-47".into(),
            recipient: format!("{at_us}@d.example"),
            outcome: "refused".into(),
            mta: "main".into(),
            code: 550,
            enhanced: Some("5.1.1".into()),
            text: "no such user".into(),
        }
    }

    fn status() -> Status {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = DirSpool::open(folder.path(), Default::default()).expect("a spool");
        Status::of_spool(&spool).expect("its status")
    }

    #[test]
    fn of_several_owners_the_newest_refusals_are_told() {
        let (mut ours, mut theirs) = (status(), status());
        ours.add_refusals((0..15).map(|i| refused(2 * i)));
        theirs.add_refusals((0..15).map(|i| refused(2 * i + 1)));
        ours.merge(theirs);
        let told: Vec<Micros> = ours.refusals.iter().map(|refusal| refusal.at_us).collect();
        assert_eq!(told, (10..30).rev().collect::<Vec<_>>());
    }

    #[test]
    fn an_older_infeeds_status_is_read() {
        let mut older = serde_json::to_value(status()).expect("JSON");
        let fields = older.as_object_mut().expect("an object");
        for new in ["refusals", "phases"] {
            assert!(fields.remove(new).is_some(), "{new}");
        }
        let read: Status = serde_json::from_value(older).expect("a status");
        assert_eq!((read.refusals.len(), read.phases.len()), (0, 0));
    }
}
