//! A job's change of state: one rename, under its exclusive hold.
//!
//! A command that finds the job in a runner's hand leaves a request beside it; the runner lets go
//! (transactions in flight end first), and whoever gets the hold, command or runner, renames.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::hold::Hold;
use super::id::JobId;
use super::job::{Request, Standing, Summary};
use super::layout::{JobDir, JobState};
use super::submission::IncomingLock;
use crate::clock;

/// How long a command waits for a runner to let go of a job.
const RELEASE_WAIT: Duration = Duration::from_secs(60);

impl DirSpool {
    /// `job cancel`: what isn't final becomes `cancelled`.
    pub fn cancel(&self, job: &JobId) -> Result<()> {
        let (state, dir) = self.find(job)?;
        match state {
            JobState::Active | JobState::Paused => self.ask(job, &dir, JobState::Cancelled),
            JobState::Cancelled => Ok(()),
            JobState::Done => Err(wrong(job, state, "there is nothing left to cancel")),
        }
    }

    /// `job resume`: pending recipients are sent again from now on.
    pub fn resume(&self, job: &JobId, accept_refusals: bool) -> Result<()> {
        let (state, dir) = self.find(job)?;
        match state {
            JobState::Paused => {
                let standing = Standing { accept_refusals, ..Standing::default() };
                self.replace_toml(&dir.standing(), &standing)?;
                self.ask(job, &dir, JobState::Active)
            }
            JobState::Active => {
                if accept_refusals {
                    // the next drain honours it
                    let standing = Standing { accept_refusals, ..self.standing_of(&dir)? };
                    self.replace_toml(&dir.standing(), &standing)?;
                }
                Ok(())
            }
            JobState::Cancelled | JobState::Done => {
                Err(wrong(job, state, "only a paused job can be resumed; submit it again"))
            }
        }
    }

    /// Pauses a job with the reason; for its owner, when no chunk of it is in hand.
    pub fn pause(&self, job: &JobId, reason: &str) -> Result<()> {
        let (state, dir) = self.find(job)?;
        if state != JobState::Active {
            return Ok(());
        }
        let standing = Standing {
            paused_reason: Some(reason.to_owned()),
            paused_us: clock::now_us(),
            accept_refusals: false,
        };
        self.replace_toml(&dir.standing(), &standing)?;
        self.ask(job, &dir, JobState::Paused)
    }

    /// Whether somebody asked for a change of state, and whether it has been carried out now.
    pub fn carry_out_request(&self, job: &JobId) -> Result<bool> {
        let dir = self.layout.job(JobState::Active, job);
        let Some(request) = self.read_optional::<Request>(&dir.request())? else { return Ok(false) };
        let Some(to) = JobState::ALL.into_iter().find(|s| s.as_str() == request.state) else {
            return Err(SpoolError::damaged(&dir.request(), format!("it asks for `{}`", request.state)));
        };
        self.try_move(job, &dir, to)
    }

    /// `job remove`: deletes a finished job, its message, recipients and report.
    pub fn remove(&self, job: &JobId) -> Result<()> {
        let (state, dir) = self.find(job)?;
        if matches!(state, JobState::Active | JobState::Paused) {
            return Err(wrong(job, state, "cancel it first, then remove it"));
        }
        let Some(_hold) = Hold::exclusive(&dir)? else {
            return Err(SpoolError::Busy { job: job.to_string(), seconds: 0 });
        };
        let view = self.view_at(state, &dir, job)?;
        if view.may_have_reached_somebody() {
            self.note_sent(&view.meta)?;
        }
        let Some(lock) = IncomingLock::take(&self.layout.incoming(), job)? else {
            return Err(SpoolError::SubmitUnderWay(job.to_string()));
        };
        // out of sight in one step; a removal that is cut short is swept from `incoming`
        let away = self.layout.incoming().join(job.as_str());
        self.fs.rename(dir.path(), &away).at("move away", dir.path())?;
        let state_dir = self.layout.state(state);
        self.fs.sync_dir(&state_dir).at("sync", &state_dir)?;
        self.fs.remove_dir_all(&away).at("remove", &away)?;
        lock.remove(self.fs.as_ref())
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
        self.replace_toml(&dir.summary(), &Summary::new(clock::now_us(), &view.counts))?;
        self.rename_job(&dir, &self.layout.job(JobState::Done, job))?;
        Ok(true)
    }

    fn ask(&self, job: &JobId, dir: &JobDir, to: JobState) -> Result<()> {
        if self.try_move(job, dir, to)? {
            return Ok(());
        }
        self.replace_toml(&dir.request(), &Request { state: to.as_str().into(), asked_us: clock::now_us() })?;
        let until = Instant::now() + RELEASE_WAIT;
        while Instant::now() < until {
            // another command may have moved it meanwhile
            match self.find(job)? {
                (now, _) if now == to => return Ok(()),
                (JobState::Active | JobState::Paused, dir) => {
                    if self.try_move(job, &dir, to)? {
                        return Ok(());
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                (other, _) => return Err(wrong(job, other, "it ended meanwhile")),
            }
        }
        Err(SpoolError::Busy { job: job.to_string(), seconds: RELEASE_WAIT.as_secs() })
    }

    fn try_move(&self, job: &JobId, dir: &JobDir, to: JobState) -> Result<bool> {
        let Some(_hold) = Hold::exclusive(dir)? else { return Ok(false) };
        let request = dir.request();
        self.rename_job(dir, &self.layout.job(to, job))?;
        let moved = self.layout.job(to, job).request();
        match self.fs.remove_file(&moved) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at("remove", &request),
            _ => Ok(true),
        }
    }

    fn rename_job(&self, from: &JobDir, to: &JobDir) -> Result<()> {
        self.fs.rename_new(from.path(), to.path()).at("rename", from.path())?;
        for folder in [to.path().parent(), from.path().parent()].into_iter().flatten() {
            self.fs.sync_dir(folder).at("sync", folder)?;
        }
        Ok(())
    }
}

fn wrong(job: &JobId, state: JobState, remedy: &str) -> SpoolError {
    SpoolError::WrongState { job: job.to_string(), state: state.as_str(), remedy: remedy.to_owned() }
}
