//! `pause --all` and `resume --all`: a standstill of the whole queue, and what went before it.

use std::fmt::Write;

use clap::Args;
use serde_json::{Map, Value, json};

use super::session::{GlobalOptions, Session, print, print_json};
use super::{control, exit};
use crate::clock;
use crate::control::{AllPaused, Request, Went};
use crate::spool::{DirSpool, Standstill};

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

/// `jobs` (a list of `job`, `recipients`, `accepted`, `in_flight`, `waiting`), and their sums.
fn went_json(all: &AllPaused) -> Map<String, Value> {
    let sum = sum(all);
    let mut map = Map::new();
    map.insert("jobs".into(), json!(all.went));
    map.insert("accepted".into(), json!(sum.accepted));
    map.insert("in_flight".into(), json!(sum.in_flight));
    map.insert("waiting".into(), json!(sum.waiting));
    map
}

fn sum(all: &AllPaused) -> Went {
    let mut sum = Went { job: "all jobs".to_owned(), recipients: 0, accepted: 0, in_flight: 0, waiting: 0 };
    for went in &all.went {
        sum.recipients += went.recipients;
        sum.accepted += went.accepted;
        sum.in_flight += went.in_flight;
        sum.waiting += went.waiting;
    }
    sum
}

/// One line a job, and their sum.
fn went_text(all: &AllPaused) -> String {
    let width = all.went.iter().map(|went| went.job.len()).max().unwrap_or(0).max("all jobs".len());
    let mut out = String::new();
    for Went { job, accepted, in_flight, waiting, .. } in all.went.iter().chain([&sum(all)]) {
        let ending = if *in_flight > 0 { format!("  {in_flight} in flight") } else { String::new() };
        // writing to a String can't fail
        writeln!(out, "{job:width$}  {accepted:>10} went  {waiting:>10} wait{ending}").unwrap_or_default();
    }
    out
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

/// Runs `pause --all`: through every owner that runs, else on the spool.
///
/// # Errors
/// There is no spool (66); those of the spool; output that can't be written.
pub fn run_pause(args: &PauseArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let all = pause_all(&session, args.reason.as_deref())?;
    tell_unreadable(&all);
    if session.json {
        let mut map = standstill_json(all.standstill.as_ref(), all.changed);
        map.append(&mut went_json(&all));
        print_json(&map)?;
        return Ok(exit::DONE);
    }
    let (since, reason) =
        all.standstill.as_ref().map_or((0, ""), |standstill| (standstill.since_us, &*standstill.reason));
    let began = if all.changed {
        "is paused".to_owned()
    } else {
        format!("was paused since {}", clock::rfc3339(since))
    };
    print(&format!(
        "everything {began}: {reason}; nothing is sent until `infeed resume --all`\n{}",
        went_text(&all)
    ))?;
    Ok(exit::DONE)
}

/// Pauses everything, through every owner that runs, else on the spool.
///
/// # Errors
/// As [`run_pause`].
pub(super) fn pause_all(session: &Session, reason: Option<&str>) -> anyhow::Result<AllPaused> {
    let request = Request::PauseAll { reason: reason.map(str::to_owned) };
    if let Some(all) = ask_all(session, &request)? {
        return Ok(all);
    }
    let spool = spool(session)?;
    let before = spool.standstill()?;
    let standstill = spool.pause_all(reason.unwrap_or(NO_REASON))?;
    // it holds from here on, whatever becomes of the rest
    Ok(AllPaused::of(&spool, Some(standstill), before.is_none(), |_| 0)?)
}

/// Resumes everything, likewise; also whether an owner did it.
///
/// # Errors
/// As [`run_pause`].
pub(super) fn resume_all(session: &Session) -> anyhow::Result<(AllPaused, bool)> {
    if let Some(all) = ask_all(session, &Request::ResumeAll)? {
        return Ok((all, true));
    }
    let spool = spool(session)?;
    let ended = spool.resume_all()?;
    Ok((AllPaused::resumed(&spool, ended, |_| 0)?, false))
}

/// Runs `resume --all`.
///
/// # Errors
/// As [`run_pause`].
pub fn run_resume(_args: &ResumeArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let (all, served) = resume_all(&session)?;
    tell_unreadable(&all);
    if session.json {
        let mut map = standstill_json(None, all.changed);
        map.append(&mut went_json(&all));
        print_json(&map)?;
    } else {
        // a daemon of before told what it ended as what holds
        let ended = all.ended.as_ref().or(all.standstill.as_ref().filter(|_| all.changed));
        let said = match ended {
            Some(s) => format!("everything goes on, after a pause since {}", clock::rfc3339(s.since_us)),
            None => "nothing was paused with `infeed pause --all`".to_owned(),
        };
        print(&format!("{said}\n{}", went_text(&all)))?;
    }
    if !served && sum(&all).waiting > 0 {
        session.remark(format_args!("nobody drains just now: `infeed drain` sends what waits"));
    }
    Ok(exit::DONE)
}

/// Asks every owner, so that each knows at once; what the first answers holds for the whole spool.
fn ask_all(session: &Session, request: &Request) -> anyhow::Result<Option<AllPaused>> {
    let mut first: Option<AllPaused> = None;
    for answer in control::ask_each::<AllPaused>(session, request)? {
        match &mut first {
            None => first = Some(answer),
            Some(first) => {
                for (ours, theirs) in first.went.iter_mut().zip(answer.went) {
                    let more = theirs.in_flight.min(ours.waiting);
                    (ours.in_flight, ours.waiting) = (ours.in_flight + more, ours.waiting - more);
                }
            }
        }
    }
    Ok(first)
}

fn tell_unreadable(all: &AllPaused) {
    for error in &all.unreadable {
        eprintln!("infeed: {error}; `infeed spool check` says more");
    }
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

/// What a drain says that must not send.
pub fn standstill_text(standstill: &Standstill) -> String {
    format!(
        "everything is paused since {} ({}); nothing was sent: `infeed resume --all` ends that",
        clock::rfc3339(standstill.since_us),
        standstill.reason
    )
}
