//! `jobs`, and `job show|report|resume|cancel|remove`.

use std::fmt::Write;

use clap::{Args, Subcommand};

use super::counts::{job_json, job_text};
use super::exit;
use super::report::{self, ReportOptions};
use super::session::{GlobalOptions, Session, print, print_json};

use crate::clock;
use crate::spool::{DirSpool, JobId, JobView, Outcome};

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
    Show { id: JobId },
    /// Print one line per recipient: what became of it, and what the MTA said
    #[command(after_help = "Examples:\n  infeed job report weekly-47 > report.csv\n  \
                            infeed job report weekly-47 --format ndjson | grep '\"refused\"'")]
    Report {
        id: JobId,
        #[command(flatten)]
        options: ReportOptions,
    },
    /// Make a paused job active again: a drain then sends the rest
    #[command(after_help = "Example:\n  infeed job resume weekly-47 && infeed drain")]
    Resume {
        id: JobId,
        /// The MTA's refusals are meant: count them, and don't pause for them again
        #[arg(long)]
        accept_refusals: bool,
    },
    /// End a job: recipients not yet settled become cancelled
    #[command(after_help = "Example:\n  infeed job cancel weekly-47")]
    Cancel { id: JobId },
    /// Delete an ended job with its message, recipients and report
    #[command(after_help = "Example:\n  infeed job remove weekly-47")]
    Remove { id: JobId },
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
        | JobCommand::Resume { id, .. }
        | JobCommand::Cancel { id }
        | JobCommand::Remove { id } => id,
    };
    let spool = session.spool_of_job(id.as_str())?;
    match &args.command {
        JobCommand::Show { .. } => {
            let view = spool.view(id)?;
            if session.json { print_json(&job_json(&view))? } else { print(&job_text(&view)?)? }
        }
        JobCommand::Report { options, .. } => report::run(&spool, id, options, &session)?,
        JobCommand::Resume { accept_refusals, .. } => {
            spool.resume(id, *accept_refusals)?;
            said(&spool, id, &session, "is active: `infeed drain` sends what is pending")?;
        }
        JobCommand::Cancel { .. } => {
            spool.cancel(id)?;
            said(&spool, id, &session, "is cancelled")?;
        }
        JobCommand::Remove { .. } => {
            spool.remove(id)?;
            if session.json {
                print_json(&serde_json::json!({ "job": id.as_str(), "removed": true }))?;
            } else {
                print(&format!("job {id} is removed\n"))?;
            }
        }
    }
    Ok(exit::DONE)
}

fn said(spool: &DirSpool, id: &JobId, session: &Session, what: &str) -> anyhow::Result<()> {
    if session.json { print_json(&job_json(&spool.view(id)?)) } else { print(&format!("job {id} {what}\n")) }
}

/// Runs `jobs`. A job that can't be read is named on standard error, and the exit code is 65 then.
///
/// # Errors
/// Those of the spool; output that can't be written.
pub fn run_jobs(global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let all = match session.existing_spool()? {
        Some(spool) => spool.views()?,
        None => Vec::new(),
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
        // to the second: 2026-11-22T03:14:00Z
        let submitted = clock::rfc3339(view.meta.submitted_us);
        let submitted = submitted.get(..19).map_or_else(|| submitted.clone(), |s| format!("{s}Z"));
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
