//! `pause --all` and `resume --all`: a standstill of the whole queue, and what went before it.

use std::fmt::Write;

use clap::Args;
use serde_json::{Map, Value, json};

use super::exit;
use super::session::{GlobalOptions, Session, print, print_json};
use crate::clock;
use crate::spool::{DirSpool, JobState, JobView, Outcome, SpoolError, Standstill};

/// What `pause` and `job pause` note without `--reason`.
pub const NO_REASON: &str = "paused by hand";

/// Send nothing more, of any job, until `infeed resume --all`
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Pause everything (one job alone: `infeed job pause ID`)
    #[arg(long, required = true)]
    pub all: bool,
    /// Why; `status`, `jobs` and `drain` show it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Send again, after `infeed pause --all`
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// End the standstill; jobs that are paused by themselves stay so
    #[arg(long, required = true)]
    pub all: bool,
}

/// What of the active jobs went so far, and what waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Went {
    /// Job, recipients accepted, recipients that wait (pending or deferred).
    pub jobs: Vec<(String, u64, u64)>,
    /// Jobs that can't be read.
    pub unreadable: Vec<String>,
}

impl Went {
    /// Counts the active jobs among these.
    pub fn of(views: Vec<Result<JobView, SpoolError>>) -> Self {
        let mut went = Self { jobs: Vec::new(), unreadable: Vec::new() };
        for view in views {
            match view {
                Ok(view) if view.state == JobState::Active => went.jobs.push((
                    view.job.to_string(),
                    view.counts.of(Outcome::Accepted),
                    view.counts.unfinished(),
                )),
                Ok(_) => {}
                Err(error) => went.unreadable.push(error.to_string()),
            }
        }
        went
    }

    fn sum(&self) -> (u64, u64) {
        self.jobs.iter().fold((0, 0), |(went, wait), (_, w, p)| (went + w, wait + p))
    }

    /// `jobs` (a list of `job`, `accepted`, `waiting`), `accepted`, `waiting`.
    pub fn json(&self) -> Map<String, Value> {
        let (accepted, waiting) = self.sum();
        let jobs: Vec<_> = self
            .jobs
            .iter()
            .map(|(job, accepted, waiting)| json!({ "job": job, "accepted": accepted, "waiting": waiting }))
            .collect();
        let mut map = Map::new();
        map.insert("jobs".into(), json!(jobs));
        map.insert("accepted".into(), json!(accepted));
        map.insert("waiting".into(), json!(waiting));
        map
    }

    /// One line a job, and their sum.
    pub fn text(&self) -> String {
        let width = self.jobs.iter().map(|(job, ..)| job.len()).max().unwrap_or(0).max("all jobs".len());
        let mut out = String::new();
        let (went, wait) = self.sum();
        for (job, went, wait) in
            self.jobs.iter().map(|(job, a, b)| (job.as_str(), a, b)).chain([("all jobs", &went, &wait)])
        {
            // writing to a String can't fail
            writeln!(out, "{job:width$}  {went:>10} went  {wait:>10} wait").unwrap_or_default();
        }
        out
    }
}

/// `paused`, `since`, `reason`, and `changed`: whether this command made it so.
fn standstill_json(standstill: Option<&Standstill>, changed: bool) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("paused".into(), json!(standstill.is_some()));
    map.insert("since".into(), json!(standstill.map(|s| clock::rfc3339(s.since_us))));
    map.insert("reason".into(), json!(standstill.map(|s| &s.reason)));
    map.insert("changed".into(), json!(changed));
    map
}

/// Runs `pause --all`.
///
/// # Errors
/// There is no spool (66); those of the spool; output that can't be written.
pub fn run_pause(args: &PauseArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let spool = spool(&session)?;
    let before = spool.standstill()?;
    let standstill = spool.pause_all(args.reason.as_deref().unwrap_or(NO_REASON))?;
    // it holds from here on, whatever becomes of the rest
    let went = went(&spool)?;
    if session.json {
        let mut map = standstill_json(Some(&standstill), before.is_none());
        map.append(&mut went.json());
        print_json(&map)?;
    } else {
        let began = if before.is_some() {
            format!("was paused since {}", clock::rfc3339(standstill.since_us))
        } else {
            "is paused".to_owned()
        };
        print(&format!(
            "everything {began}: {}; nothing is sent until `infeed resume --all`\n{}",
            standstill.reason,
            went.text()
        ))?;
    }
    if !spool.owners()?.is_empty() {
        session.remark(format_args!(
            "somebody drains just now, and begins no transaction from the next second on; those in flight end"
        ));
    }
    Ok(exit::DONE)
}

/// Runs `resume --all`.
///
/// # Errors
/// As [`run_pause`].
pub fn run_resume(_args: &ResumeArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let spool = spool(&session)?;
    let ended = spool.resume_all()?;
    let went = went(&spool)?;
    if session.json {
        let mut map = standstill_json(None, ended.is_some());
        map.append(&mut went.json());
        print_json(&map)?;
    } else {
        let said = match &ended {
            Some(s) => format!("everything goes on, after a pause since {}", clock::rfc3339(s.since_us)),
            None => "nothing was paused with `infeed pause --all`".to_owned(),
        };
        print(&format!("{said}\n{}", went.text()))?;
    }
    let paused = spool.paused()?.len();
    if paused > 0 {
        session.remark(format_args!("jobs that stay paused by themselves: {paused} (`infeed jobs`)"));
    }
    if spool.owners()?.is_empty() && went.sum().1 > 0 {
        session.remark(format_args!("nobody drains just now: `infeed drain` sends what waits"));
    }
    Ok(exit::DONE)
}

fn spool(session: &Session) -> anyhow::Result<DirSpool> {
    match session.existing_spool()? {
        Some(spool) => Ok(spool),
        None => {
            let dir = session.spool_dir.display();
            Err(exit::coded(exit::NO_INPUT, format!("there is no spool at {dir}: name another with --spool")))
        }
    }
}

fn went(spool: &DirSpool) -> anyhow::Result<Went> {
    let went = Went::of(spool.views_of(&[JobState::Active])?);
    for error in &went.unreadable {
        eprintln!("infeed: {error}; `infeed spool check` says more");
    }
    Ok(went)
}

/// What a drain says that must not send.
pub fn standstill_text(standstill: &Standstill) -> String {
    format!(
        "everything is paused since {} ({}); nothing was sent: `infeed resume --all` ends that",
        clock::rfc3339(standstill.since_us),
        standstill.reason
    )
}
