//! `drain`: sends what is due and ends, for cron; and what `send` shares with it.

mod json;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Map, json};

pub use json::{Undrained, drain_json, ended_word, no_drain_json, rate, thousandths};

use json::no_run_json;

use super::mta::MtaOption;
use super::pause::standstill_text;
use super::session::{self, GlobalOptions, Session, print, print_json};
use super::{counts, exit, metrics, outlets, owner, threads};
use crate::config::Connections;
use crate::control;
use crate::runner::{DrainConfig, DrainReport, Ended, Progress, ProgressSnapshot};
use crate::sink::{Sink, SinkConfig};
use crate::slice::{XxRange, parse_slices};
use crate::spool::{DirSpool, JobId, JobState, Standstill};

/// How to drain.
#[derive(Debug, Clone, Args)]
pub struct DrainOptions {
    #[arg(long, value_name = "N")]
    pub connections: Option<Connections>,
    /// End after K recipients; the rest stays pending
    #[arg(long, value_name = "K")]
    pub first: Option<u64>,
    /// With `--mta sink`: append a line of JSON per accepted recipient to FILE
    #[arg(long, value_name = "FILE")]
    pub sink_ledger: Option<PathBuf>,
    // its help comes from the table of settings
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
}

/// Send what is due, and end
#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    #[command(flatten)]
    pub mta: MtaOption,
    /// Drain a part of the queue: A-B or A, of spool.slices; others may drain the rest
    #[arg(long, value_name = "A-B")]
    pub slices: Option<String>,
    /// With `--mta sink`: throw away mail for a real MTA too
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub options: DrainOptions,
}

impl DrainOptions {
    /// The settings that have a flag here.
    pub fn flags(&self) -> Vec<(&'static str, Option<String>, &'static str)> {
        vec![
            ("mta.connections", self.connections.map(|n| n.to_string()), "--connections"),
            ("metrics.listen", self.metrics.clone(), "--metrics"),
        ]
    }
}

/// How a drain went.
pub enum Drained {
    /// Another process drains this.
    Owned(String),
    /// There was nothing to send, and nobody was asked to.
    Nothing,
    /// `pause --all` holds: nobody was asked to.
    Standstill(Standstill),
    Ended(DrainReport),
}

/// What is drained, and where to.
pub struct Job {
    /// `drain` or `send`, as the status names it.
    pub command: &'static str,
    /// Into the built-in sink.
    pub rehearsal: bool,
    pub range: XxRange,
    pub only_job: Option<JobId>,
    /// Jobs for a real MTA that go into the sink all the same.
    pub real_into_sink: Vec<JobId>,
    /// `--mta` was given.
    pub addresses_are_meant: bool,
    /// Recipients that wait, for the progress bar; unknown without.
    pub recipients: Option<u64>,
}

/// Drains on a runtime of its own, with progress, until nothing is due or a signal comes.
///
/// # Errors
/// Those of the runner, of the sink, and of the process (signals, threads).
pub fn drain(
    spool: &DirSpool,
    session: &Session,
    options: &DrainOptions,
    job: Job,
) -> anyhow::Result<Drained> {
    if let Some(standstill) = spool.standstill()? {
        return Ok(Drained::Standstill(standstill));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads(job.rehearsal))
        .enable_all()
        .build()
        .context("the threads of the drain can't be started")?;
    let ended = runtime.block_on(drain_async(spool, session, options, job));
    runtime.shutdown_timeout(super::AFTERMATH_WAIT);
    ended
}

async fn drain_async(
    spool: &DirSpool,
    session: &Session,
    options: &DrainOptions,
    job: Job,
) -> anyhow::Result<Drained> {
    let stop = control::stop_on_signals(exit::PENDING).context("signals can't be handled")?;
    let stopped = stop.subscribe();
    let sink = if job.rehearsal {
        let mut config = SinkConfig::new(([127, 0, 0, 1], 0).into());
        config.ledger.clone_from(&options.sink_ledger);
        Some(Sink::start(config)?)
    } else {
        None
    };
    let mtas = match &sink {
        Some(sink) => vec![session::sink_mta_config(&session.config, sink.local_addr().to_string())],
        None => session::mta_configs(&session.config),
    };
    let config = DrainConfig {
        range: job.range,
        only_job: job.only_job,
        first: options.first,
        real_into_sink: job.real_into_sink,
        addresses_are_meant: job.addresses_are_meant,
        ..session::drain_config(&session.config, mtas)
    };
    let metrics = metrics::start(spool, session, &config, job.command).await?;
    let outlets = outlets::start(&session.config, spool, &metrics.progress).await?;
    let spool = &outlets.watched(spool);
    let owned = match owner::own(spool, session, &config, job.command, None, &stop).await {
        Ok(owned) => owned,
        Err(error) => {
            return match owner::owned_by_other(&error) {
                Some(who) => Ok(Drained::Owned(who.to_owned())),
                None => Err(error),
            };
        }
    };
    let progress = metrics.progress.clone();
    let bar = session.shows_progress().then(|| tokio::spawn(show(Arc::clone(&progress), job.recipients)));
    let ended = owned.drain(config, &metrics, stopped).await;
    if let Some(bar) = bar {
        bar.abort();
        // the bar is taken off the terminal when its task is dropped
        if let Err(error) = bar.await
            && error.is_panic()
        {
            tracing::error!("a defect of the progress bar: {error}");
        }
    }
    outlets.finish().await;
    if let Some(sink) = sink {
        sink.shutdown().await?;
    }
    Ok(Drained::Ended(ended?))
}

/// Draws the bar five times a second; never ends by itself.
async fn show(progress: Arc<Progress>, recipients: Option<u64>) {
    struct Cleared(ProgressBar);
    impl Drop for Cleared {
        fn drop(&mut self) {
            self.0.finish_and_clear();
        }
    }
    let (bar, template) = match recipients {
        Some(n) => (ProgressBar::new(n), "{bar:30} {human_pos}/{human_len} {rate} ETA {eta} {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} {rate} {msg}"),
    };
    let bar = Cleared(session::styled(bar, template));
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        ticks.tick().await;
        let now = progress.snapshot();
        bar.0.set_position(settled(&now));
        bar.0.set_message(outcomes(&now));
    }
}

fn settled(now: &ProgressSnapshot) -> u64 {
    now.accepted + now.refused + now.expired + now.suppressed + now.quarantined + now.in_doubt
}

fn outcomes(now: &ProgressSnapshot) -> String {
    let counts = [
        (now.accepted, "accepted"),
        (now.refused, "refused"),
        (now.deferred, "deferred"),
        (now.expired, "expired"),
        (now.suppressed, "suppressed"),
        (now.quarantined, "quarantined"),
        (now.in_doubt, "in doubt"),
    ];
    let mut text: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}")).collect();
    text.push(format!("{} connections", now.connections));
    text.extend(now.note.clone());
    text.join(", ")
}

/// What the operator should know of an end that isn't plain.
pub fn ended_reason(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Drained | Ended::FirstReached | Ended::Stopped => None,
        Ended::MtaPaused(text) => Some(format!(
            "the MTA takes no mail from us: {text}; no recipient was touched: mend it and drain again"
        )),
        Ended::MtaUnavailable(text) => Some(format!(
            "the MTA is unavailable: {text}; the recipients stay pending: start it and drain again"
        )),
        Ended::JournalFailed(text) => Some(format!(
            "the spool can't be written: {text}; the recipients stay pending: mend it and drain again"
        )),
        Ended::Standstill => {
            Some("everything is paused; the recipients stay pending: `infeed resume --all`".to_owned())
        }
    }
}

/// The exit code of a drain that left `unfinished` recipients.
pub fn exit_code(ended: &Ended, unfinished: u64) -> u8 {
    match ended {
        Ended::JournalFailed(_) => exit::IO_ERROR,
        Ended::MtaPaused(_) | Ended::MtaUnavailable(_) => exit::UNAVAILABLE,
        Ended::Standstill => exit::PENDING,
        Ended::Drained | Ended::FirstReached | Ended::Stopped if unfinished > 0 => exit::PENDING,
        Ended::Drained | Ended::FirstReached | Ended::Stopped => exit::DONE,
    }
}

/// How many connections it took.
pub fn connections_text(report: &DrainReport) -> String {
    let (peak, mean) = (report.connections_peak, report.connections_mean);
    let s = if peak == 1 { "" } else { "s" };
    if peak as f64 - mean < 1.0 {
        return format!("{peak} connection{s}");
    }
    format!("{mean:.1} connections, at most {peak}")
}

/// Runs `drain`.
///
/// # Errors
/// Bad configuration or `--slices`; those of the spool, the runner, the sink.
pub fn run(args: &DrainArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let mut session = Session::new(global, &args.options.flags())?;
    args.mta.choose(&mut session)?;
    let range = match &args.slices {
        Some(text) => {
            use exit::ExitCode;
            parse_slices(text, session::slices(&session.config)).context("--slices").exit_code(exit::USAGE)?
        }
        None => XxRange::ALL,
    };
    let Some(spool) = session.existing_spool()? else {
        if session.json {
            let mut object = no_run_json(&session, "no_spool", Undrained::Nothing);
            object.insert("unfinished".into(), json!(0));
            print_json(&object)?;
        }
        return Ok(exit::DONE);
    };
    let rehearsal = args.mta.is_sink();
    let real_into_sink = if rehearsal { real_jobs(&spool, &session, args.yes)? } else { Vec::new() };
    let job = Job {
        command: "drain",
        rehearsal,
        range,
        only_job: None,
        real_into_sink,
        addresses_are_meant: !args.mta.mta.is_empty() && !rehearsal,
        recipients: None,
    };
    match drain(&spool, &session, &args.options, job)? {
        Drained::Owned(owner) => {
            session.remark(format_args!("another process drains this: {owner}"));
            if session.json {
                let mut object = no_run_json(&session, "owned", Undrained::ByAnother);
                object.insert("owner".into(), json!(owner));
                print_json(&object)?;
            }
            Ok(exit::DONE)
        }
        Drained::Nothing => Ok(exit::DONE),
        Drained::Standstill(standstill) => {
            if session.json {
                let mut object = no_run_json(&session, "standstill", Undrained::Nothing);
                object.insert("ended_reason".into(), json!(standstill_text(&standstill)));
                print_json(&object)?;
            }
            Err(exit::coded(exit::PENDING, standstill_text(&standstill)))
        }
        Drained::Ended(report) => {
            let code = exit_code(&report.ended, report.unfinished);
            if session.json {
                let mut object = Map::new();
                object.insert("accepted".into(), json!(report.accepted));
                object.insert("settled".into(), json!(report.settled));
                object.insert("unfinished".into(), json!(report.unfinished));
                drain_json(&report, &mut object);
                let paused: Vec<_> = report
                    .paused
                    .iter()
                    .map(|(id, why)| json!({ "job": id.as_str(), "reason": why }))
                    .collect();
                object.insert("paused".into(), json!(paused));
                let left: Vec<_> = report
                    .left_alone
                    .iter()
                    .map(|(id, why)| json!({ "job": id.as_str(), "reason": why }))
                    .collect();
                object.insert("left_alone".into(), json!(left));
                object.insert("spool".into(), json!(session.spool_dir));
                print_json(&object)?;
            } else {
                print(&format!(
                    "{} settled, {} of them accepted, in {:.1} s ({:.0}/s over {}); {} wait\n",
                    report.settled,
                    report.accepted,
                    report.seconds,
                    rate(&report),
                    connections_text(&report),
                    report.unfinished
                ))?;
            }
            tell_paused(&report.paused);
            tell_left_alone(&report.left_alone, &session);
            let paused = spool.paused()?.len().saturating_sub(report.paused.len());
            if paused > 0 {
                session.remark(format_args!("paused jobs, not drained: {paused} (`infeed jobs` says why)"));
            }
            if let Some(reason) = ended_reason(&report.ended) {
                return Err(exit::coded(code, reason));
            }
            // what a job paused just now leaves is not in `unfinished`, which counts active jobs
            Ok(match code {
                exit::DONE if !report.paused.is_empty() => exit::PENDING,
                exit::DONE if report.unreadable > 0 => exit::BAD_DATA,
                exit::DONE => exit::of_not_sent(report.not_sent),
                code => code,
            })
        }
    }
}

/// The sink throws away what it takes. Jobs that were submitted for a real MTA go there only where
/// somebody insists.
fn real_jobs(spool: &DirSpool, session: &Session, yes: bool) -> anyhow::Result<Vec<JobId>> {
    let mut jobs = Vec::new();
    let mut recipients = 0;
    for view in spool.views()?.into_iter().flatten() {
        if view.state == JobState::Active && !view.meta.rehearsal {
            recipients += view.counts.unfinished();
            jobs.push(view.job);
        }
    }
    if recipients > 0 && !yes {
        let message = format!(
            "{recipients} recipients wait for a real MTA, and the sink would throw their mail away; nothing was \
             sent: drain into the MTA; to rehearse, `submit --mta sink`; to throw them away, --yes"
        );
        return Err(exit::coded(exit::BAD_DATA, message));
    }
    if recipients > 0 {
        session.remark(format_args!(
            "{recipients} recipients of jobs for a real MTA go into the sink, and nowhere else"
        ));
    }
    Ok(jobs)
}

/// Names the jobs that the runner left alone, with the reason.
pub fn tell_left_alone(left_alone: &[(JobId, String)], session: &Session) {
    for (job, reason) in left_alone {
        session.remark(format_args!("job {job} was left alone: {reason}"));
    }
}

/// Names the jobs that the refusal breaker paused.
fn tell_paused(paused: &[(JobId, String)]) {
    for (job, reason) in paused {
        eprintln!("infeed: job {job} is paused: {reason}; {}", counts::remedy(job.as_str(), reason));
    }
}
