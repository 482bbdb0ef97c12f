//! `jobs`, and `job show|report|pause|resume|cancel|remove`.

use std::fmt::Write;

use clap::{Args, Subcommand};

use super::counts::{job_json, job_text, pacing_text, paused_reason};
use super::pause::NO_REASON;
use super::prune::{self, PruneArgs};
use super::report::{self, ReportOptions};
use super::session::{GlobalOptions, Session, print, print_json};
use super::{control, exit};
use crate::clock;
use crate::control::Request;
use crate::pressure::per_second::{PerSecond, PerSecondError};
use crate::pressure::window::{Window, WindowError};
use crate::spool::{JobId, JobState, JobView, Outcome, Pacing};

/// List the jobs with their counts
#[derive(Debug, Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// Delete ended jobs after their time, with message, recipients and report
    #[command(after_help = "Examples:\n  infeed jobs prune --dry-run\n  \
                            infeed jobs prune --older-than-days 7")]
    Prune(PruneArgs),
}

/// Look at one job, or change it
#[derive(Debug, Args)]
pub struct JobArgs {
    #[command(subcommand)]
    command: JobCommand,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// Print a job's state and counts
    #[command(after_help = "Example:\n  infeed job show 20261122-031400-7f3k2q --json\n  \
                            infeed job show 20261122-031400-7f3k2q.3   (one job of a pack)")]
    Show {
        /// The job, or the key that it was submitted with (`--id KEY`)
        #[arg(value_parser = job_of_key)]
        id: JobId,
    },
    /// Print one line per recipient: what became of it, and what the MTA said
    #[command(after_help = "Examples:\n  infeed job report weekly-47 > report.csv\n  \
                            infeed job report weekly-47 --format ndjson | grep '\"refused\"'\n  \
                            infeed job report weekly-47 --queue-ids | postsuper -d -    call it back")]
    Report {
        /// The job, or the key that it was submitted with (`--id KEY`)
        #[arg(value_parser = job_of_key)]
        id: JobId,
        #[command(flatten)]
        options: ReportOptions,
    },
    /// Stop sending a job, until `infeed job resume`; what is in flight ends first
    #[command(after_help = "Example:\n  infeed job pause weekly-47 --reason 'wrong link in the footer'")]
    Pause {
        /// The job, or the key that it was submitted with (`--id KEY`)
        #[arg(value_parser = job_of_key)]
        id: JobId,
        /// Why; `jobs` and `job show` tell it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Make a paused job active again: a drain then sends the rest
    #[command(after_help = "Example:\n  infeed job resume weekly-47 && infeed drain")]
    Resume {
        /// The job, or the key that it was submitted with (`--id KEY`)
        #[arg(value_parser = job_of_key)]
        id: JobId,
        /// The MTA's refusals are meant: count them, and don't pause for them again
        #[arg(long)]
        accept_refusals: bool,
    },
    /// Limit how fast a job is sent, or lift the limit; at once, and for good
    #[command(after_help = "Examples:\n  infeed job rate weekly-47 20\n  infeed job rate weekly-47 0.5\n  \
                            infeed job rate weekly-47 none")]
    Rate {
        /// The job, or the key that it was submitted with (`--id KEY`)
        #[arg(value_parser = job_of_key)]
        id: JobId,
        /// Messages a second, at most, or `none`
        #[arg(value_name = "RATE", value_parser = rate_or_none)]
        messages_per_second: RateOrNone,
    },
    /// Say in which hours a job is sent, or lift that; at once, and for good
    #[command(after_help = "Examples:\n  infeed job window weekly-47 '08:00-20:00 Europe/Berlin'\n  \
                            infeed job window weekly-47 'Mon-Fri 22:00-06:00 UTC' 'Sun 00:00-24:00 UTC'\n  \
                            infeed job window weekly-47 none")]
    Window {
        /// The job, or the key that it was submitted with (`--id KEY`)
        #[arg(value_parser = job_of_key)]
        id: JobId,
        /// The hours and their time zone, or `none`
        #[arg(value_name = "HOURS", required = true, value_parser = window_or_none)]
        windows: Vec<WindowOrNone>,
    },
    /// End a job: recipients not yet settled become cancelled
    #[command(after_help = "Example:\n  infeed job cancel weekly-47")]
    Cancel {
        /// The job, or the key that it was submitted with (`--id KEY`)
        #[arg(value_parser = job_of_key)]
        id: JobId,
    },
    /// Delete an ended job with its message, recipients and report
    #[command(after_help = "Example:\n  infeed job remove weekly-47")]
    Remove {
        /// The job, or the key that it was submitted with (`--id KEY`)
        #[arg(value_parser = job_of_key)]
        id: JobId,
    },
}

/// What `submit --id KEY` made of the key.
fn job_of_key(key: &str) -> Result<JobId, std::convert::Infallible> {
    Ok(JobId::from_key(key))
}

/// `none`, or a rate.
#[derive(Debug, Clone, Copy)]
pub struct RateOrNone(pub Option<PerSecond>);

pub(super) fn rate_or_none(text: &str) -> Result<RateOrNone, PerSecondError> {
    if text == "none" { Ok(RateOrNone(None)) } else { text.parse().map(Some).map(RateOrNone) }
}

/// `none`, or a window as a job keeps it.
#[derive(Debug, Clone)]
struct WindowOrNone(Option<String>);

fn window_or_none(text: &str) -> Result<WindowOrNone, WindowError> {
    let window = |text: &str| text.parse().map(|window: Window| Some(window.to_string()));
    if text == "none" { Ok(WindowOrNone(None)) } else { window(text).map(WindowOrNone) }
}

/// Runs `job …`.
///
/// # Errors
/// Those of the spool; output that can't be written.
pub fn run_job(args: &JobArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let id = match &args.command {
        JobCommand::Show { id }
        | JobCommand::Report { id, .. }
        | JobCommand::Pause { id, .. }
        | JobCommand::Resume { id, .. }
        | JobCommand::Rate { id, .. }
        | JobCommand::Window { id, .. }
        | JobCommand::Cancel { id }
        | JobCommand::Remove { id } => id,
    };
    let name = id.to_string();
    match &args.command {
        JobCommand::Show { .. } => {
            let view = show(&session, id)?;
            if session.json { print_json(&job_json(&view))? } else { print(&job_text(&view)?)? }
        }
        JobCommand::Report { options, .. } => {
            report::run(&session.spool_of_job(id.as_str())?, id, options, &session)?;
        }
        JobCommand::Pause { reason, .. } => {
            let (view, _) = pause(&session, id, reason.as_deref())?;
            let why = paused_reason(&view).unwrap_or_default();
            said(&view, &session, &format!("is paused ({why}): `infeed job resume {id}` goes on"))?;
        }
        JobCommand::Resume { accept_refusals, .. } => {
            let (view, served) = resume(&session, id, *accept_refusals)?;
            let next = if served {
                "is active, and goes on"
            } else {
                "is active: `infeed drain` sends what is pending"
            };
            said(&view, &session, next)?;
        }
        JobCommand::Rate { messages_per_second: RateOrNone(rate), .. } => {
            let request = Request::Rate { job: name, messages_per_second: *rate };
            let view = pace(&session, request, id, &Pacing::Rate(*rate))?;
            said(
                &view,
                &session,
                &match rate {
                    Some(rate) => format!("is sent at {rate} messages a second, at most"),
                    None => "has no rate of its own any more".to_owned(),
                },
            )?;
        }
        JobCommand::Window { windows, .. } => {
            let texts: Vec<String> = windows.iter().filter_map(|window| window.0.clone()).collect();
            if !texts.is_empty() && texts.len() < windows.len() {
                let message = "give windows, or `none`, and not both".to_owned();
                return Err(exit::coded(exit::USAGE, message));
            }
            let request = Request::Window { job: name, windows: texts.clone() };
            let view = pace(&session, request, id, &Pacing::Windows(texts.clone()))?;
            said(
                &view,
                &session,
                &match texts.is_empty() {
                    false => format!("is sent in its window ({})", texts.join("; ")),
                    true => "is sent at any hour".to_owned(),
                },
            )?;
        }
        JobCommand::Cancel { .. } => {
            let (view, _) = cancel(&session, id)?;
            said(&view, &session, "is cancelled")?;
        }
        JobCommand::Remove { .. } => {
            if control::ask::<()>(&session, &Request::Remove { job: name })?.is_none() {
                session.spool_of_job(id.as_str())?.remove(id)?;
            }
            if session.json {
                print_json(&serde_json::json!({ "job": id.as_str(), "removed": true }))?;
            } else {
                print(&format!("job {id} is removed\n"))?;
            }
        }
    }
    Ok(exit::DONE)
}

/// A job as it is now.
///
/// # Errors
/// No such job (66); those of the spool and the owner.
pub(super) fn show(session: &Session, id: &JobId) -> anyhow::Result<JobView> {
    let request = Request::Job { job: id.to_string() };
    let (view, _) = act(session, request, || Ok(session.spool_of_job(id.as_str())?.view(id)?))?;
    Ok(view)
}

/// Pauses a job: gives it as it is then, and whether an owner did it.
///
/// # Errors
/// As [`show`]; it is in no state for that.
pub(super) fn pause(session: &Session, id: &JobId, reason: Option<&str>) -> anyhow::Result<(JobView, bool)> {
    let request = Request::Pause { job: id.to_string(), reason: reason.map(str::to_owned) };
    act(session, request, || {
        let spool = session.spool_of_job(id.as_str())?;
        spool.pause(id, reason.unwrap_or(NO_REASON))?;
        Ok(spool.view(id)?)
    })
}

/// Makes a paused job active again, likewise.
///
/// # Errors
/// As [`pause`].
pub(super) fn resume(
    session: &Session,
    id: &JobId,
    accept_refusals: bool,
) -> anyhow::Result<(JobView, bool)> {
    let request = Request::Resume { job: id.to_string(), accept_refusals };
    act(session, request, || {
        let spool = session.spool_of_job(id.as_str())?;
        spool.resume(id, accept_refusals)?;
        Ok(spool.view(id)?)
    })
}

/// Ends a job, likewise.
///
/// # Errors
/// As [`pause`].
pub(super) fn cancel(session: &Session, id: &JobId) -> anyhow::Result<(JobView, bool)> {
    act(session, Request::Cancel { job: id.to_string() }, || {
        let spool = session.spool_of_job(id.as_str())?;
        spool.cancel(id)?;
        Ok(spool.view(id)?)
    })
}

/// Gives a job another rate or window.
fn pace(session: &Session, request: Request, id: &JobId, pacing: &Pacing) -> anyhow::Result<JobView> {
    let (view, _) = act(session, request, || {
        let spool = session.spool_of_job(id.as_str())?;
        spool.set_pacing(id, pacing)?;
        Ok(spool.view(id)?)
    })?;
    Ok(view)
}

/// Through the owner, where there is one, and then true; else on the spool itself.
fn act(
    session: &Session,
    request: Request,
    directly: impl FnOnce() -> anyhow::Result<JobView>,
) -> anyhow::Result<(JobView, bool)> {
    match control::ask(session, &request)? {
        Some(view) => Ok((view, true)),
        None => Ok((directly()?, false)),
    }
}

fn said(view: &JobView, session: &Session, what: &str) -> anyhow::Result<()> {
    if session.json { print_json(&job_json(view)) } else { print(&format!("job {} {what}\n", view.job)) }
}

/// Runs `jobs`. A job that can't be read is named on standard error, and the exit code is 65 then.
///
/// # Errors
/// Those of the spool; output that can't be written.
pub fn run_jobs(args: &JobsArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    if let Some(JobsCommand::Prune(args)) = &args.command {
        return prune::run(args, global);
    }
    let session = Session::new(global, &[])?;
    let all: Vec<Result<JobView, String>> = match control::ask(&session, &Request::Jobs)? {
        Some(all) => all,
        None => match session.existing_spool()? {
            Some(spool) => spool.views()?.into_iter().map(|view| view.map_err(|e| e.to_string())).collect(),
            None => Vec::new(),
        },
    };
    let (mut views, mut code) = (Vec::new(), exit::DONE);
    for view in all {
        match view {
            Ok(view) => views.push(view),
            Err(error) => {
                eprintln!("infeed: {error}; `infeed spool check` says more");
                code = exit::BAD_DATA;
            }
        }
    }
    if session.json {
        print_json(&views.iter().map(job_json).collect::<Vec<_>>())?;
    } else {
        print(&table(&views)?)?;
    }
    Ok(code)
}

fn table(views: &[JobView]) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    if views.is_empty() {
        writeln!(out, "no jobs")?;
        return Ok(out);
    }
    let width = views.iter().map(|view| view.job.as_str().len()).max().unwrap_or(0).max(3);
    writeln!(
        out,
        "{:width$}  {:9}  {:20}  {:>10}  {:>10}  {:>8}  {:>8}  {:>8}  other",
        "job", "state", "submitted", "recipients", "accepted", "refused", "deferred", "pending"
    )?;
    for view in views {
        let count = |outcome| view.counts.of(outcome);
        let others = [
            Outcome::Expired,
            Outcome::Cancelled,
            Outcome::Suppressed,
            Outcome::Quarantined,
            Outcome::InDoubt,
        ];
        let mut other: Vec<String> = others
            .into_iter()
            .filter(|&outcome| count(outcome) > 0)
            .map(|outcome| format!("{} {}", count(outcome), outcome.as_str()))
            .collect();
        other.extend(view.meta.pack.map(|members| format!("a pack of {members} jobs")));
        if matches!(view.state, JobState::Active | JobState::Paused) {
            other.extend(pacing_text(view));
        }
        other.extend(view.deferred_due_us().map(|us| format!("deferred due {}", to_the_second(us))));
        let submitted = to_the_second(view.meta.submitted_us);
        let line = format!(
            "{:width$}  {:9}  {submitted:20}  {:>10}  {:>10}  {:>8}  {:>8}  {:>8}  {}",
            view.job.as_str(),
            view.state.as_str(),
            view.meta.recipients,
            count(Outcome::Accepted),
            count(Outcome::Refused),
            count(Outcome::Deferred),
            count(Outcome::Pending),
            other.join(", "),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(out)
}

/// `2026-11-22T03:14:00Z`.
fn to_the_second(us: clock::Micros) -> String {
    let text = clock::rfc3339(us);
    text.get(..19).map_or_else(|| text.clone(), |s| format!("{s}Z"))
}
