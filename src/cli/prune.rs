//! `jobs prune`: what a daemon's retention does, once, for who has no daemon.

use clap::Args;
use serde_json::json;

use super::exit;
use super::session::{GlobalOptions, Session, print, print_json, retention_settings};
use crate::clock;
use crate::spool::retention::before_us;
use crate::spool::{ExpiredJob, Pace};

/// Delete ended jobs after their time, with message, recipients and report
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Days since a job's end, instead of the configured ones (retention.days)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    older_than_days: Option<u64>,
    /// Say which would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs `jobs prune`.
///
/// # Errors
/// Those of the spool; output that can't be written.
pub fn run(args: &PruneArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let retention = retention_settings(&session.config);
    let days = args.older_than_days.unwrap_or(retention.days);
    let mut jobs = Vec::new();
    if days == 0 {
        session.remark(format_args!(
            "retention.days is 0, which keeps every job for ever; --older-than-days N overrides it"
        ));
    } else if let Some(spool) = session.existing_spool()? {
        let never = || false;
        let mut pace = Pace::new(retention.unlinks_per_s_max, &never);
        let before = before_us(days);
        jobs = if args.dry_run {
            spool.expired_jobs(before, &mut pace)?
        } else {
            spool.prune(before, &mut pace)?
        };
    }
    let removed = !args.dry_run;
    if session.json {
        let all: Vec<_> = jobs
            .iter()
            .map(|expired| {
                json!({
                    "job": expired.job.as_str(),
                    "state": expired.state.as_str(),
                    "ended": clock::rfc3339(expired.ended_us),
                    "removed": removed,
                })
            })
            .collect();
        print_json(&all)?;
        return Ok(exit::DONE);
    }
    let line = |expired: &ExpiredJob| {
        let what = if removed { "removed" } else { "would go" };
        let (state, ended) = (expired.state.as_str(), clock::rfc3339(expired.ended_us));
        format!("{}  {state} since {ended}  {what}\n", expired.job)
    };
    print(&jobs.iter().map(line).collect::<String>())?;
    Ok(exit::DONE)
}
