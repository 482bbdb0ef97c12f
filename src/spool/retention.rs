//! Ended jobs go: by `job remove`, by `jobs prune`, or when `retention.days` have passed.
//!
//! A removal takes the job out of sight by one rename into `removed/`, then unlinks its files bit by
//! bit. Cut short, nothing of it is listed any more, and the rest goes with the next prune, start or
//! submit; two at once do no harm. So a start never waits for a million unlinks, and mail that is sent meanwhile keeps the disk
//! (`retention.unlinks_per_s_max`). Active and paused jobs, and one whose report is being read, stay.
//! Errors: those of the file system, [`SpoolError::WrongState`], [`SpoolError::BeingRead`].

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::watch;

use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::hold::Hold;
use super::id::JobId;
use super::layout::{JobDir, JobState};
use super::state::wrong;
use crate::clock::{self, Micros, SECOND_US};

/// How often a daemon looks for jobs whose time has come.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// Leftovers that a start or a submit unlinks, at most: a few milliseconds' worth.
pub(super) const SWEEP_MAX: u64 = 200;

/// When ended jobs go, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionSettings {
    /// 0: never.
    pub days: u64,
    pub unlinks_per_s_max: u64,
}

/// A job whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredJob {
    pub job: JobId,
    pub state: JobState,
    pub ended_us: Micros,
}

/// Steps at an even rate from the first one on, without a burst; or an end, when told to stop.
pub struct Pace<'a> {
    per_s: u64,
    steps: u64,
    began: Instant,
    stopped: &'a dyn Fn() -> bool,
}

impl<'a> Pace<'a> {
    /// `per_s` steps a second; 0 is without bound.
    pub fn new(per_s: u64, stopped: &'a dyn Fn() -> bool) -> Self {
        Self { per_s, steps: 0, began: Instant::now(), stopped }
    }

    /// Waits for the next step's time; false when it is to stop. Blocks.
    pub(super) fn step(&mut self) -> bool {
        if (self.stopped)() {
            return false;
        }
        let wait = self.wait(self.began.elapsed());
        if wait > Duration::ZERO {
            std::thread::sleep(wait);
        }
        self.steps += 1;
        true
    }

    /// How long the next step is to wait, `passed` after the first one. A few milliseconds' worth of them
    /// go in one go: each sleep costs more than an unlink.
    pub(super) fn wait(&self, passed: Duration) -> Duration {
        let due = self.steps.saturating_mul(1_000_000).checked_div(self.per_s).unwrap_or(0);
        let wait = Duration::from_micros(due).saturating_sub(passed);
        if wait > Duration::from_millis(5) { wait } else { Duration::ZERO }
    }
}

impl DirSpool {
    /// `job remove`: deletes an ended job, its message, recipients and report.
    pub fn remove(&self, job: &JobId) -> Result<()> {
        let away = self.take_away(job)?;
        // its own files only: what a prune has under way goes at the prune's pace
        self.unlink_all(&away, &mut Pace::new(0, &|| false)).map(drop)
    }

    /// The ended jobs that ended before `before_us`, the oldest first. One small read per ended job.
    pub fn expired_jobs(&self, before_us: Micros, pace: &mut Pace<'_>) -> Result<Vec<ExpiredJob>> {
        let mut expired = Vec::new();
        for state in [JobState::Done, JobState::Cancelled] {
            for job in self.list_state(state)? {
                if !pace.step() {
                    return Ok(Vec::new());
                }
                match self.ended_us(state, &self.layout.job(state, &job)) {
                    Ok(ended_us) if ended_us < before_us => expired.push(ExpiredJob { job, state, ended_us }),
                    Ok(_) => {}
                    // removed meanwhile
                    Err(e) if e.is_not_found() => {}
                    Err(e) => tracing::warn!("job {job} is kept: {e}"),
                }
            }
        }
        expired.sort_by(|a, b| (a.ended_us, &a.job).cmp(&(b.ended_us, &b.job)));
        Ok(expired)
    }

    /// Removes the jobs that ended before `before_us`; gives those that are gone. One that can't be
    /// removed now is named in the log, and the others go.
    pub fn prune(&self, before_us: Micros, pace: &mut Pace<'_>) -> Result<Vec<ExpiredJob>> {
        let mut gone = Vec::new();
        // what an earlier one left
        self.unlink_removed(pace)?;
        for expired in self.expired_jobs(before_us, pace)? {
            if !pace.step() {
                break;
            }
            let away = match self.take_away(&expired.job) {
                Ok(away) => away,
                Err(SpoolError::NoSuchJob(_)) => continue,
                Err(e) => {
                    tracing::warn!("job {} is kept for now: {e}", expired.job);
                    continue;
                }
            };
            gone.push(expired);
            // one job after the other: what a death leaves is one job's files
            self.unlink_all(&away, pace)?;
        }
        Ok(gone)
    }

    /// When a job ended: by its summary, its standing, or, of an older infeed, its folder's last change.
    fn ended_us(&self, state: JobState, dir: &JobDir) -> Result<Micros> {
        if let Some(summary) = self.summary_of(dir)?
            && state == JobState::Done
        {
            return Ok(summary.finished_us);
        }
        if let Some(ended_us) = self.standing_of(dir)?.in_state(state).ended_us {
            return Ok(ended_us);
        }
        let changed = std::fs::metadata(dir.path()).and_then(|m| m.modified()).at("look at", dir.path())?;
        Ok(changed.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as Micros))
    }

    /// Out of sight in one step; gives where its files are now. The hold is enough: no command changes the state of a job that ended.
    fn take_away(&self, job: &JobId) -> Result<PathBuf> {
        let (state, dir) = self.find(job)?;
        if matches!(state, JobState::Active | JobState::Paused) {
            return Err(wrong(job, state, "cancel it first, then remove it"));
        }
        let Some(_hold) = Hold::exclusive(&dir)? else {
            // or somebody else removes it just now
            self.find(job)?;
            return Err(SpoolError::BeingRead { job: job.to_string() });
        };
        let view = self.view_at(state, &dir, job)?;
        if view.may_have_reached_somebody() {
            self.note_sent(&view.meta)?;
        }
        // the id may be used again, and its next job removed too, before this one's files are gone
        let away = self.layout.removed().join(format!("{job}.{:08x}", fastrand::u32(..)));
        self.rename_durably(dir.path(), &away, "move away")?;
        Ok(away)
    }

    /// A bounded part of what removals that were cut short have left.
    pub(super) fn sweep_removed(&self) -> Result<()> {
        let left = std::cell::Cell::new(SWEEP_MAX);
        let stopped = || left.replace(left.get().saturating_sub(1)) == 0;
        self.unlink_removed(&mut Pace::new(0, &stopped)).map(drop)
    }

    /// Unlinks what is on its way out; false when it was told to stop before the end.
    fn unlink_removed(&self, pace: &mut Pace<'_>) -> Result<bool> {
        let removed = self.layout.removed();
        let left = self.names(&removed)?;
        if !left.is_empty() {
            // whoever moved them here may have died before that was durable: a job that came back with a
            // power cut must not lack what is unlinked now
            self.fs.sync_dir(&removed).at("sync", &removed)?;
        }
        for name in left {
            if !self.unlink_all(&removed.join(name), pace)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A file, or a folder with all that is in it. Somebody else may be at it too.
    fn unlink_all(&self, path: &Path, pace: &mut Pace<'_>) -> Result<bool> {
        if !pace.step() {
            return Ok(false);
        }
        match self.fs.remove_file(path) {
            Err(e) if e.kind() == ErrorKind::IsADirectory => {}
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).at("remove", path),
            _ => return Ok(true),
        }
        for name in self.names(path)? {
            if !self.unlink_all(&path.join(name), pace)? {
                return Ok(false);
            }
        }
        match self.fs.remove_dir(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e).at("remove", path),
            _ => Ok(true),
        }
    }
}

/// The moment before which an ended job has had its days.
pub fn before_us(days: u64) -> Micros {
    clock::now_us().saturating_sub(days.saturating_mul(86_400 * SECOND_US))
}

/// Prunes now and every hour, until `stop` becomes true: a daemon's background task. Errors are logged,
/// and the next round tries again. Does nothing with `days` = 0.
pub async fn run(spool: DirSpool, settings: RetentionSettings, mut stop: watch::Receiver<bool>) {
    while settings.days > 0 && !*stop.borrow() {
        let round = tokio::task::spawn_blocking({
            let (spool, stop) = (spool.clone(), stop.clone());
            move || {
                // whoever could stop it is gone: so is what it was for
                let stopped = || *stop.borrow() || stop.has_changed().is_err();
                spool.prune(before_us(settings.days), &mut Pace::new(settings.unlinks_per_s_max, &stopped))
            }
        });
        match round.await {
            Ok(Ok(gone)) if gone.is_empty() => {}
            Ok(Ok(gone)) => tracing::info!(
                "{} jobs that ended more than {} days ago are removed",
                gone.len(),
                settings.days
            ),
            Ok(Err(error)) => tracing::error!("old jobs stay for now: {error}"),
            Err(error) => tracing::error!("a defect in removing old jobs: {error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            ended = stop.wait_for(|stop| *stop) => {
                if ended.is_err() {
                    return;
                }
            }
        }
    }
}
