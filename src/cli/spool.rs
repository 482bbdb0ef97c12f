//! `spool check|show|adopt`.

use std::fmt::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;

use super::exit;
use super::session::{GlobalOptions, Session, print, print_json, slices};
use crate::clock;
use crate::spool::{Checked, DirSpool, JobState};

/// Verify the queue, or look at it as a whole
#[derive(Debug, Args)]
pub struct SpoolArgs {
    #[command(subcommand)]
    command: SpoolCommand,
}

#[derive(Debug, Subcommand)]
enum SpoolCommand {
    /// Read every record, change nothing, say what a drain would repair; exit code 65 when damaged
    #[command(after_help = "Example:\n  infeed spool check --spool /var/spool/infeed")]
    Check,
    /// Print jobs by state, the backlog of each slice, the oldest due, and who drains
    #[command(after_help = "Example:\n  infeed spool show --json")]
    Show,
    /// Take over a spool that was written on another machine, or copied
    #[command(after_help = "Make sure that no other host drains it, then:\n  \
                            infeed spool adopt --spool /var/spool/infeed")]
    Adopt,
}

/// Runs `spool …`.
///
/// # Errors
/// Those of the spool; output that can't be written.
pub fn run(args: &SpoolArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    if matches!(args.command, SpoolCommand::Adopt) {
        DirSpool::adopt(&session.spool_dir)?;
        if session.json {
            print_json(&json!({ "spool": session.spool_dir, "adopted": true }))?;
        } else {
            print(&format!("{} is this machine's now\n", session.spool_dir.display()))?;
        }
        return Ok(exit::DONE);
    }
    let spool = session.existing_spool()?;
    match args.command {
        SpoolCommand::Check => check(spool.as_ref(), &session),
        SpoolCommand::Show | SpoolCommand::Adopt => show(spool.as_ref(), &session),
    }
}

fn check(spool: Option<&DirSpool>, session: &Session) -> anyhow::Result<u8> {
    let bar = session.shows_progress().then(|| {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    });
    let checked = match spool {
        Some(spool) => spool.check(&mut |so_far| {
            if let Some(bar) = &bar {
                bar.set_message(format!("{} chunks, {} recipients", so_far.chunks, so_far.recipients));
            }
        }),
        None => Ok(Checked::default()),
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let checked = checked?;
    let damaged = checked.is_damaged();
    if session.json {
        let mut object = serde_json::to_value(&checked)?;
        if let Some(map) = object.as_object_mut() {
            map.insert("spool".into(), json!(session.spool_dir));
            map.insert("damaged".into(), json!(damaged));
        }
        print_json(&object)?;
    } else {
        print(&findings(&checked, session)?)?;
    }
    Ok(if damaged { exit::BAD_DATA } else { exit::DONE })
}

fn findings(checked: &Checked, session: &Session) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    for finding in &checked.findings {
        let kind = if finding.damage { "damaged" } else { "unfinished" };
        write!(out, "{kind}: {}: {}", finding.path, finding.what)?;
        if !finding.repair.is_empty() {
            write!(out, "; {}", finding.repair)?;
        }
        out.push('\n');
    }
    writeln!(
        out,
        "{}: {} jobs, {} chunks, {} recipients, {} results, {} journal segments: {}",
        session.spool_dir.display(),
        checked.jobs,
        checked.chunks,
        checked.recipients,
        checked.results,
        checked.journal_segments,
        match (checked.is_damaged(), checked.findings.is_empty()) {
            (true, _) => "damaged",
            (false, false) => "good, with unfinished steps",
            (false, true) => "good",
        }
    )?;
    Ok(out)
}

fn show(spool: Option<&DirSpool>, session: &Session) -> anyhow::Result<u8> {
    let slices = slices(&session.config);
    let (views, backlog, owners) = match spool {
        Some(spool) => (spool.views()?, spool.backlog(slices)?, spool.owners()?),
        None => Default::default(),
    };
    let unreadable = views.iter().filter(|view| view.is_err()).count();
    let of_state = |state: JobState| views.iter().flatten().filter(|view| view.state == state).count();
    let oldest = backlog.iter().filter_map(|slice| slice.oldest_due_us).min();
    let range = |owned: &crate::slice::XxRange| {
        let (first, last) = owned.slices(slices);
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    if session.json {
        let jobs: serde_json::Map<_, _> =
            JobState::ALL.iter().map(|&s| (s.as_str().to_owned(), json!(of_state(s)))).collect();
        let waiting: Vec<_> = backlog
            .iter()
            .enumerate()
            .map(|(slice, b)| {
                json!({
                    "slice": slice,
                    "chunks": b.chunks,
                    "recipients": b.recipients,
                    "oldest_due": b.oldest_due_us.map(clock::rfc3339),
                })
            })
            .collect();
        let owners: Vec<_> =
            owners.iter().map(|o| json!({ "slices": range(&o.range), "owner": o.who })).collect();
        print_json(&json!({
            "spool": session.spool_dir,
            "jobs": jobs,
            "unreadable_jobs": unreadable,
            "slices": waiting,
            "oldest_due": oldest.map(clock::rfc3339),
            "owners": owners,
        }))?;
        return Ok(exit::DONE);
    }
    let mut out = String::new();
    writeln!(out, "spool      {}", session.spool_dir.display())?;
    let jobs: Vec<String> =
        JobState::ALL.iter().map(|&s| format!("{} {}", of_state(s), s.as_str())).collect();
    writeln!(out, "jobs       {}", jobs.join(", "))?;
    if unreadable > 0 {
        writeln!(out, "unreadable {unreadable} jobs: `infeed spool check` says more")?;
    }
    let recipients: u64 = backlog.iter().map(|slice| slice.recipients).sum();
    let chunks: u64 = backlog.iter().map(|slice| slice.chunks).sum();
    writeln!(out, "backlog    {recipients} recipients in {chunks} chunks of active jobs")?;
    writeln!(out, "oldest due {}", oldest.map_or_else(|| "none".to_owned(), clock::rfc3339))?;
    match &owners[..] {
        [] => writeln!(out, "owner      none: nobody drains")?,
        owners => {
            for owned in owners {
                writeln!(out, "owner      slices {}: {}", range(&owned.range), owned.who)?;
            }
        }
    }
    for (number, slice) in backlog.iter().enumerate().filter(|(_, slice)| slice.chunks > 0) {
        let due = slice.oldest_due_us.map(clock::rfc3339).unwrap_or_default();
        writeln!(
            out,
            "slice {number:>3}  {:>10} recipients in {:>6} chunks, due {due}",
            slice.recipients, slice.chunks
        )?;
    }
    print(&out)?;
    Ok(exit::DONE)
}
