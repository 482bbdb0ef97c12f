//! A job's change of state: one rename, under its exclusive hold.
//!
//! A command that finds the job in a runner's hand leaves a request beside it; the runner lets go
//! (transactions in flight end first), and whoever gets the hold, command or runner, renames. What comes
//! with the change (a reason, a time) is written under the same hold just before the rename, and is
//! believed only in the state that it belongs to: a death between the two leaves the state that was.
//!
//! Commands take turns ([`Turn`]), so that no request is lost between two of them. Of two that
//! contradict each other the later one holds, except that nothing takes back a cancel; the earlier one
//! is told. Errors: [`SpoolError::WrongState`], [`SpoolError::Busy`], and those of the file system.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::hold::{Hold, Turn};
use super::id::{JobId, Outcome};
use super::job::{Request, Standing, Summary};
use super::layout::{JobDir, JobState};
use super::watch::JobChange;
use crate::clock;
use crate::pressure::per_second::PerSecond;

/// How long a command waits for a runner to let go of a job.
const RELEASE_WAIT: Duration = Duration::from_secs(60);

/// What a command wants of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `job pause`: nothing more of it is sent. The reason is shown by `jobs`.
    Pause { reason: String },
    /// `job resume`: pending recipients are sent again from now on.
    Resume { accept_refusals: bool },
    /// `job cancel`: what isn't final becomes `cancelled`.
    Cancel,
}

/// What a command wants of a job's pace; its state stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pacing {
    /// Messages a second, at most; `None`: no limit.
    Rate(Option<PerSecond>),
    /// The hours in which it may be sent; empty: always.
    Windows(Vec<String>),
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    /// It is done, and durable.
    Done,
    /// Somebody has a part of the job in hand; the request stands, and is carried out when it is let go.
    InHand,
}

impl Change {
    /// The state that it leads to.
    pub fn to(&self) -> JobState {
        match self {
            Change::Pause { .. } => JobState::Paused,
            Change::Resume { .. } => JobState::Active,
            Change::Cancel => JobState::Cancelled,
        }
    }

    fn written(&self) -> Request {
        let (reason, accept_refusals) = match self {
            Change::Pause { reason } => (Some(reason.clone()), false),
            Change::Resume { accept_refusals } => (None, *accept_refusals),
            Change::Cancel => (None, false),
        };
        Request { state: self.to().as_str().into(), asked_us: clock::now_us(), reason, accept_refusals }
    }

    fn read(request: Request) -> Option<Self> {
        match JobState::ALL.into_iter().find(|s| s.as_str() == request.state)? {
            JobState::Paused => Some(Change::Pause { reason: request.reason.unwrap_or_default() }),
            JobState::Active => Some(Change::Resume { accept_refusals: request.accept_refusals }),
            JobState::Cancelled => Some(Change::Cancel),
            JobState::Done => None,
        }
    }
}

impl DirSpool {
    /// `job cancel`: what isn't final becomes `cancelled`. Waits for a runner to let go.
    pub fn cancel(&self, job: &JobId) -> Result<()> {
        self.ask(job, &Change::Cancel)
    }

    /// `job resume`: pending recipients are sent again from now on.
    pub fn resume(&self, job: &JobId, accept_refusals: bool) -> Result<()> {
        self.ask(job, &Change::Resume { accept_refusals })
    }

    /// `job pause`: nothing more of it is sent. Waits for a runner to let go. A job that is paused
    /// keeps the reason that it has.
    pub fn pause(&self, job: &JobId, reason: &str) -> Result<()> {
        self.ask(job, &Change::Pause { reason: reason.to_owned() })
    }

    /// `job rate` and `job window`: durable when this returns. Whoever has the job in hand reads it at its next
    /// look at the spool, which no request has to make room for.
    ///
    /// # Errors
    /// [`SpoolError::WrongState`]: it has ended.
    pub fn set_pacing(&self, job: &JobId, pacing: &Pacing) -> Result<()> {
        let _turn = Turn::take(&self.layout.commands())?;
        let (state, dir) = self.find(job)?;
        if matches!(state, JobState::Cancelled | JobState::Done) {
            return Err(wrong(job, state, "nothing more of it is sent"));
        }
        let before = self.standing_of(&dir)?;
        let standing = match pacing.clone() {
            Pacing::Rate(rate) => Standing { messages_per_second: Some(rate), ..before },
            Pacing::Windows(windows) => Standing { windows: Some(windows), ..before },
        };
        self.replace_toml(&dir.standing(), &standing)
    }

    /// The refusal breaker's pause, when no chunk of the job is in hand: what a person asked for
    /// meanwhile goes before it.
    pub(super) fn pause_by_owner(&self, job: &JobId, reason: &str) -> Result<()> {
        if self.carry_out_request(job)? {
            return Ok(());
        }
        // where another owner has a part of it in hand, the request stands, and is carried out later
        match self.request(job, &Change::Pause { reason: reason.to_owned() }) {
            // it ended by itself, or by a command
            Err(SpoolError::WrongState { .. } | SpoolError::NoSuchJob(_)) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The state that a job is in now.
    pub fn state_of(&self, job: &JobId) -> Result<JobState> {
        Ok(self.find(job)?.0)
    }

    /// Makes the change at once where nothing of the job is in hand, else leaves the request for whoever
    /// has it. Never waits for a runner; [`DirSpool::follow`] tells how it goes on.
    pub fn request(&self, job: &JobId, change: &Change) -> Result<Requested> {
        let _turn = Turn::take(&self.layout.commands())?;
        let (state, dir) = self.find(job)?;
        let to = change.to();
        if matches!(state, JobState::Cancelled | JobState::Done) {
            if state != to {
                return Err(wrong(job, state, ended(to)));
            }
            self.sync_state(to)?;
            return Ok(Requested::Done);
        }
        let pending = self.pending(&dir)?;
        if pending == Some(Change::Cancel) && to != JobState::Cancelled {
            return Err(wrong(job, state, "it is being cancelled"));
        }
        if state == to {
            // whoever made it so may have died before it was durable
            self.sync_state(to)?;
            // whoever asked otherwise has been overtaken
            self.withdraw(&dir)?;
            if let Change::Resume { accept_refusals: true } = change {
                let standing = Standing { accept_refusals: true, ..self.standing_of(&dir)? };
                self.replace_toml(&dir.standing(), &standing)?;
            }
            return Ok(Requested::Done);
        }
        match Hold::exclusive(&dir)? {
            Some(hold) => {
                self.withdraw(&dir)?;
                self.move_job(job, &dir, change, &hold)?;
                Ok(Requested::Done)
            }
            None => {
                // the first of two equal ones stands, with its reason
                if pending.is_none_or(|p| p.to() != to) {
                    self.replace_toml(&dir.request(), &change.written())?;
                }
                Ok(Requested::InHand)
            }
        }
    }

    /// Looks how a request goes on, and carries it out when the job has been let go. An error when the
    /// job ended otherwise, or when another command overtook this one.
    pub fn follow(&self, job: &JobId, to: JobState) -> Result<Requested> {
        let _turn = Turn::take(&self.layout.commands())?;
        let (state, dir) = self.find(job)?;
        if state == to {
            self.sync_state(to)?;
            return Ok(Requested::Done);
        }
        if matches!(state, JobState::Cancelled | JobState::Done) {
            return Err(wrong(job, state, "it ended meanwhile"));
        }
        let Some(change) = self.pending(&dir)?.filter(|p| p.to() == to) else {
            return Err(wrong(job, state, "another command overtook this one"));
        };
        let Some(hold) = Hold::exclusive(&dir)? else { return Ok(Requested::InHand) };
        self.move_job(job, &dir, &change, &hold)?;
        Ok(Requested::Done)
    }

    fn ask(&self, job: &JobId, change: &Change) -> Result<()> {
        let mut requested = self.request(job, change)?;
        let until = Instant::now() + RELEASE_WAIT;
        while requested == Requested::InHand {
            if Instant::now() >= until {
                return Err(SpoolError::Busy { job: job.to_string(), seconds: RELEASE_WAIT.as_secs() });
            }
            std::thread::sleep(Duration::from_millis(50));
            requested = self.follow(job, change.to())?;
        }
        Ok(())
    }

    /// Whether somebody asked for a change of state, and whether it has been carried out now.
    pub fn carry_out_request(&self, job: &JobId) -> Result<bool> {
        let _turn = Turn::take(&self.layout.commands())?;
        for state in [JobState::Active, JobState::Paused] {
            let dir = self.layout.job(state, job);
            let Some(change) = self.pending(&dir)? else { continue };
            let Some(hold) = Hold::exclusive(&dir)? else { return Ok(false) };
            if change.to() == state {
                // the rename was done, and a death came before the request went
                self.withdraw(&dir)?;
            } else {
                self.move_job(job, &dir, &change, &hold)?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Makes a job `done` when nothing of it is left to do in any slice; true when it is done now.
    pub fn try_complete(&self, job: &JobId) -> Result<bool> {
        let dir = self.layout.job(JobState::Active, job);
        let Some(_hold) = Hold::exclusive(&dir)? else { return Ok(false) };
        // what a journal knows of is a chunk without results: it waits, and that is all that counts here
        let view = self.view_with(JobState::Active, &dir, job, &BTreeMap::new())?;
        if view.counts.unfinished() > 0 || view.counts.total() != view.meta.recipients {
            return Ok(false);
        }
        let now = clock::now_us();
        self.replace_toml(&dir.summary(), &Summary::new(now, &view.counts))?;
        let _turn = Turn::take(&self.layout.commands())?;
        // nothing is left to pause or to cancel: whoever asked is told that it has ended
        self.withdraw(&dir)?;
        let (meta, counts) = (Some(&view.meta), Some(&view.counts));
        let told = JobChange { job, meta, to: JobState::Done, at_us: now, reason: None, counts };
        self.change_watched(&told, || self.rename_job(&dir, &self.layout.job(JobState::Done, job)))?;
        Ok(true)
    }

    /// What somebody asked for and nobody has carried out yet. A request that can't be read is none: the
    /// command that left it is told so, and asks again.
    fn pending(&self, dir: &JobDir) -> Result<Option<Change>> {
        let path = dir.request();
        match self.read_optional::<Request>(&path) {
            Ok(Some(request)) => match Change::read(request) {
                Some(change) => Ok(Some(change)),
                None => self.forget_unreadable(dir, "it asks for no state that there is"),
            },
            Ok(None) => Ok(None),
            Err(SpoolError::Damaged { reason, .. }) => self.forget_unreadable(dir, &reason),
            Err(e) => Err(e),
        }
    }

    fn forget_unreadable(&self, dir: &JobDir, reason: &str) -> Result<Option<Change>> {
        tracing::error!("{}: {reason}: the request is dropped", dir.request().display());
        self.withdraw(dir)?;
        Ok(None)
    }

    /// Durably: a request that came back with a power cut would undo what was answered since.
    fn withdraw(&self, dir: &JobDir) -> Result<()> {
        let path = dir.request();
        match self.fs.remove_file(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.at("remove", &path)?,
        }
        let synced = self.fs.sync_dir(dir.path()).at("sync", dir.path());
        if synced.is_err()
            && let Err(e) = self.fs.create_new(&path)
        {
            // an empty one is none, and is removed anew by the next try
            tracing::debug!("{}: {e}", path.display());
        }
        synced
    }

    /// The standing first, then the rename; the request goes last, and a death before that is harmless:
    /// it asks for what is already so.
    fn move_job(&self, job: &JobId, dir: &JobDir, change: &Change, _hold: &Hold) -> Result<()> {
        let before = self.standing_of(dir)?;
        let now = clock::now_us();
        let standing = match change {
            Change::Pause { reason } => {
                Standing { paused_reason: Some(reason.clone()), paused_us: now, ..before.clone() }
            }
            // the reason stays until it is active: a death before that leaves a paused job that has one
            Change::Resume { accept_refusals } => Standing {
                accept_refusals: before.accept_refusals || *accept_refusals,
                first_lifted: before.first_lifted || self.first_left(job, dir, JobState::Paused)? == Some(0),
                ..before.clone()
            },
            Change::Cancel => Standing { ended_us: Some(now), ..before.clone() },
        };
        if standing != before {
            self.replace_toml(&dir.standing(), &standing)?;
        }
        let moved = self.layout.job(change.to(), job);
        // one that can't be read can be paused and cancelled like any other
        let meta = self.meta_of(dir).ok();
        let meta = meta.as_ref();
        let reason = if let Change::Pause { reason } = change { Some(reason.as_str()) } else { None };
        let told = JobChange { job, meta, to: change.to(), at_us: now, reason, counts: None };
        self.change_watched(&told, || self.rename_job(dir, &moved))?;
        self.withdraw(&moved)
    }

    /// What `--first` leaves to be tried before the job pauses; `None` without it, and once it was resumed
    /// after that.
    pub(super) fn first_left(&self, job: &JobId, dir: &JobDir, state: JobState) -> Result<Option<u64>> {
        let meta = self.meta_of(dir)?;
        let Some(first) = meta.first.filter(|_| !matches!(self.standing_of(dir), Ok(s) if s.first_lifted))
        else {
            return Ok(None);
        };
        let counts = self.view_at(state, dir, job)?.counts;
        let untried = [Outcome::Pending, Outcome::Suppressed, Outcome::Quarantined, Outcome::Cancelled];
        let untried: u64 = untried.iter().map(|&outcome| counts.of(outcome)).sum();
        Ok(Some(first.saturating_sub(counts.total() - untried)))
    }

    fn rename_job(&self, from: &JobDir, to: &JobDir) -> Result<()> {
        self.rename_durably(from.path(), to.path(), "rename")
    }

    /// Moves a folder and makes that durable. When the disk refuses, the folder goes back: its new name may
    /// be lost although the next sync reports success, so whoever tries again is to rename it anew.
    pub(super) fn rename_durably(&self, from: &Path, to: &Path, what: &'static str) -> Result<()> {
        self.fs.rename_new(from, to).at(what, from)?;
        let (Some(new), Some(old)) = (to.parent(), from.parent()) else { return Ok(()) };
        let synced = self.fs.sync_dir(new).at("sync", new);
        if synced.is_err()
            && let Err(e) = self.fs.rename_new(to, from)
        {
            tracing::error!("{} can't go back to {}: {e}", to.display(), from.display());
        }
        synced?;
        self.fs.sync_dir(old).at("sync", old)
    }

    /// Makes durable which jobs are in a state.
    pub(super) fn sync_state(&self, state: JobState) -> Result<()> {
        let folder = self.layout.state(state);
        self.fs.sync_dir(&folder).at("sync", &folder)
    }
}

fn ended(wanted: JobState) -> &'static str {
    match wanted {
        JobState::Paused => "only an active job can be paused",
        JobState::Active => "only a paused job can be resumed; submit it again",
        JobState::Cancelled | JobState::Done => "there is nothing left to cancel",
    }
}

pub(super) fn wrong(job: &JobId, state: JobState, remedy: &str) -> SpoolError {
    SpoolError::WrongState { job: job.to_string(), state: state.as_str(), remedy: remedy.to_owned() }
}
