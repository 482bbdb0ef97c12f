//! Following a job that somebody else sends: the progress of `send` beside a daemon.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::ProgressBar;
use tokio::sync::watch;

use super::session::{self, Session};
use super::{control as owners, exit};
use crate::control::{self, Client, JobCounts, Request};
use crate::spool::{JobId, JobState, SpoolError};

/// How often the owner is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long nobody may answer before the follower gives up: a restart takes less.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How following a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// Nothing of it is under way any more.
    Ended,
    /// A signal came; the job goes on.
    Detached,
    /// Nothing moves, for this reason; the job goes on when that is mended.
    Stuck(String),
}

/// Follows until nothing of the job is under way, a signal comes, the owner leaves the job alone, or nothing
/// has moved for `mta.wait_s`.
///
/// # Errors
/// Those of the control socket, but for an owner that restarts.
pub fn follow(session: &Session, job: &JobId, recipients: u64) -> anyhow::Result<Followed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the thread that listens for signals can't be started")?;
    let stop = {
        let _inside = runtime.enter();
        control::stop_on_signals(exit::PENDING).context("signals can't be handled")?.subscribe()
    };
    let bar = (session.shows_progress() && std::io::stderr().is_terminal()).then(|| {
        session::styled(
            ProgressBar::new(recipients),
            "{bar:30} {human_pos}/{human_len} {rate} ETA {eta} {msg}",
        )
    });
    let followed = look_on(session, job, &stop, bar.as_ref());
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    followed
}

fn look_on(
    session: &Session,
    job: &JobId,
    stop: &watch::Receiver<bool>,
    bar: Option<&ProgressBar>,
) -> anyhow::Result<Followed> {
    let patience = Duration::from_secs(session.config.mta.wait_s);
    let (mut moved, mut answered) = (Instant::now(), Instant::now());
    let mut last: Option<JobCounts> = None;
    loop {
        if *stop.borrow() {
            return Ok(Followed::Detached);
        }
        match ask(session, job)? {
            None if answered.elapsed() > SILENCE_MAX => {
                return Ok(Followed::Stuck("nobody drains the spool any more".to_owned()));
            }
            None if has_ended(session, job)? => return Ok(Followed::Ended),
            None => {}
            Some(counts) => {
                answered = Instant::now();
                if let Some(bar) = bar {
                    bar.set_position(counts.progress.outcomes - counts.progress.deferred);
                    let note = counts.note.as_deref().map(|n| format!(", {n}")).unwrap_or_default();
                    bar.set_message(format!("{} accepted{note}", counts.progress.accepted));
                }
                if let Some(end) = end_by(&counts) {
                    return Ok(end);
                }
                if counts.waits_for_rate || last.as_ref().map(|l| l.progress) != Some(counts.progress) {
                    moved = Instant::now();
                }
                if moved.elapsed() > patience {
                    let why = counts.note.unwrap_or_else(|| "nothing moves".to_owned());
                    return Ok(Followed::Stuck(why));
                }
                last = Some(counts);
            }
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// Whether there is nothing to wait for, by what the owner says.
fn end_by(counts: &JobCounts) -> Option<Followed> {
    if counts.standstill {
        return Some(Followed::Stuck("everything is paused: `infeed resume --all`".to_owned()));
    }
    if counts.state != JobState::Active.as_str() {
        return Some(Followed::Ended);
    }
    if let Some(why) = &counts.left_alone {
        return Some(Followed::Stuck(why.clone()));
    }
    (!counts.under_way).then_some(Followed::Ended)
}

/// `None`: nobody answers now.
fn ask(session: &Session, job: &JobId) -> anyhow::Result<Option<JobCounts>> {
    let Some(owner) = owners::owners(session)?.into_iter().next() else { return Ok(None) };
    answer(&owner, job)
}

/// Whether it ended before its owner did, as the spool has it.
fn has_ended(session: &Session, job: &JobId) -> anyhow::Result<bool> {
    match session.spool_of_job(job.as_str())?.state_of(job) {
        Ok(state) => Ok(state != JobState::Active),
        // removed
        Err(SpoolError::NoSuchJob(_)) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

fn answer(owner: &Client, job: &JobId) -> anyhow::Result<Option<JobCounts>> {
    match owner.ask(&Request::Progress { job: job.to_string() }) {
        Ok(counts) => Ok(Some(counts)),
        Err(e) if e.is_passing() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_left_alone_is_not_waited_for_and_its_reason_is_told() {
        let counts = JobCounts {
            state: "active".to_owned(),
            progress: crate::runner::JobProgress::default(),
            under_way: true,
            waits_for_rate: false,
            left_alone: None,
            standstill: false,
            note: None,
        };
        assert_eq!(end_by(&counts), None);
        let why = Some("it is for the MTA eu-2 alone".to_owned());
        for under_way in [true, false] {
            let left = JobCounts { left_alone: why.clone(), under_way, ..counts.clone() };
            assert_eq!(end_by(&left), why.clone().map(Followed::Stuck));
        }
        // what has ended has ended, whatever the run thinks of it still
        let done = JobCounts { state: "done".to_owned(), left_alone: why, ..counts };
        assert_eq!(end_by(&done), Some(Followed::Ended));
    }
}
