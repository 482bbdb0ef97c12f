//! `tune`: which number of connections this MTA wants, found with rehearsal messages.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;

use super::exit::{self, ExitCode};
use super::mta::MtaOption;
use super::session::{self, GlobalOptions, Session, print, print_json};
use super::threads;
use crate::clock::now_us;
use crate::config::TlsMode;
use crate::control;
use crate::infeed::InfeedConfig;
use crate::tune::{
    self, Ended, Letters, LettersConfig, Plan, PlanConfig, Report, SweepConfig, Trouble, TuneError,
};

/// Find the number of connections that this MTA wants, with rehearsal messages (docs/tune.md)
#[derive(Debug, Clone, Args)]
pub struct TuneArgs {
    /// The one MTA to measure: HOST:PORT, unix:/PATH, or a name that the configuration gives. Without it, the one that is
    /// configured
    #[arg(long, value_name = "MTA")]
    pub mta: Option<String>,
    /// Who gets the rehearsal messages: an address of yours, or one that the MTA throws away (may be repeated;
    /// %d in it becomes a number of its own for each message)
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub to: Vec<String>,
    /// Numbers of connections to try
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
    pub connections: Vec<usize>,
    /// Numbers of recipients a transaction to try
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1")]
    pub recipients_per_transaction: Vec<usize>,
    /// Size of a rehearsal message, about
    #[arg(long, value_name = "OCTETS", default_value_t = 4096)]
    pub size: usize,
    /// A finished message to rehearse with, in place of one of --size
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    pub message: Option<PathBuf>,
    /// Envelope sender, where bounces go [default: none, so that nothing bounces]
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// Time of each step; its first fifth is warm-up
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub seconds: f64,
    /// Rounds: each tries every number once, in an order of its own
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub rounds: usize,
    /// Rehearsal messages at most, each counted once for each of its recipients
    #[arg(long, value_name = "COUNT", default_value_t = 20_000)]
    pub messages_max: u64,
    /// Seed of the order of the steps
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Write a plot of it to FILE
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Take an MTA that is not on this host too
    #[arg(long)]
    pub not_loopback: bool,
    /// Don't ask
    #[arg(long)]
    pub yes: bool,
}

/// Runs `tune`.
///
/// # Errors
/// Wrong flags (64), a message that can't be used (65, 66), an MTA that isn't there (69), a plot that can't
/// be written (73). What stopped a sweep that had begun is told after its results: an address that the MTA
/// refuses (65), any other trouble with it (69).
pub fn run(args: &TuneArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let mut session = Session::new(global, &[])?;
    let (address, infeed) = target(args, &mut session)?;
    let plan = Plan::new(PlanConfig {
        connections: args.connections.clone(),
        recipients_per_transaction: args.recipients_per_transaction.clone(),
        seconds: args.seconds,
        rounds: args.rounds,
        recipients_max: args.messages_max,
        seed: args.seed,
    })?;
    let letters = Letters::new(LettersConfig {
        to: args.to.clone(),
        sender: args.sender.clone(),
        size_octets: args.size,
        message: args.message.clone(),
        domain: message_id_domain(&infeed.helo_name),
        now_us: now_us(),
        recipients_per_transaction_max: plan.recipients_per_transaction_max(),
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads(false))
        .enable_all()
        .build()
        .context("the threads of the sweep can't be started")?;
    let infeed = runtime.block_on(placed(infeed, args.not_loopback))?;
    if let Some(path) = &args.svg {
        can_write(path)?;
    }
    confirm(args, &session, &plan, &address)?;
    let report = runtime.block_on(swept(&session, &plan, letters, infeed, &address))?;
    tell(args, &session, &report)
}

/// The one MTA that is to be measured, as it was named, and how to talk to it.
fn target(args: &TuneArgs, session: &mut Session) -> anyhow::Result<(String, InfeedConfig)> {
    let choice = MtaOption { mta: args.mta.iter().cloned().collect() };
    if choice.is_sink() {
        let message = "--mta sink: a sink in the same process measures nothing; run `infeed sink` beside it, and \
                       give its address";
        return Err(exit::coded(exit::USAGE, message.to_owned()));
    }
    choice.choose(session)?;
    let mut mtas = session::mta_configs(&session.config);
    match (mtas.pop(), mtas.is_empty()) {
        (Some(mta), true) => Ok((mta.infeed.address.clone(), mta.infeed)),
        _ => {
            let message = "several MTAs are meant, and one is measured at a time: name it with --mta";
            Err(exit::coded(exit::USAGE, message.to_owned()))
        }
    }
}

/// The same MTA at the address that was checked.
async fn placed(infeed: InfeedConfig, elsewhere_too: bool) -> Result<InfeedConfig, TuneError> {
    let place = tune::place(&infeed.address, elsewhere_too).await?;
    let mut tls = infeed.tls.clone();
    if tls.mode != TlsMode::Off && tls.server_name.is_none() {
        tls.server_name = place.host;
    }
    Ok(InfeedConfig { address: place.address, tls, ..infeed })
}

fn message_id_domain(helo_name: &str) -> String {
    if helo_name.starts_with('[') { "infeed.invalid".to_owned() } else { helo_name.to_owned() }
}

/// Before a sweep that takes minutes, not after it.
fn can_write(path: &Path) -> anyhow::Result<()> {
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened
        .map(drop)
        .with_context(|| format!("--svg {}: can't be written", path.display()))
        .exit_code(exit::CANT_CREATE)
}

/// Says what is about to happen, and asks unless `--yes`.
fn confirm(args: &TuneArgs, session: &Session, plan: &Plan, address: &str) -> anyhow::Result<()> {
    session.remark(format_args!(
        "at most {} messages to {} through {address}, in {} steps and about {:.0} s",
        plan.recipients_max(),
        args.to.join(", "),
        plan.steps(),
        plan.seconds_max()
    ));
    if args.yes {
        return Ok(());
    }
    let not_now = |message: &str| Err(exit::coded(exit::USAGE, message.to_owned()));
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return not_now("nobody is there to confirm that: add --yes; nothing was sent");
    }
    eprint!("Type yes to go on: ");
    let mut typed = String::new();
    io::stderr()
        .flush()
        .and_then(|()| io::stdin().lock().read_line(&mut typed))
        .context("the terminal can't be read")?;
    if typed.trim() == "yes" { Ok(()) } else { not_now("not confirmed; nothing was sent") }
}

async fn swept(
    session: &Session,
    plan: &Plan,
    letters: Letters,
    infeed: InfeedConfig,
    address: &str,
) -> anyhow::Result<Report> {
    let stop = control::stop_on_signals(exit::PENDING).context("signals can't be handled")?.subscribe();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let grace = Duration::from_millis(session.config.drain.shutdown_grace_ms);
    let config = SweepConfig { infeed, grace, processors };
    let size_octets = letters.size_octets;
    let bar = session.shows_progress().then(|| {
        let bar = ProgressBar::new(plan.steps() as u64);
        session::styled(bar, "{bar:30} step {human_pos}/{human_len} ETA {eta} {msg}")
    });
    let rounds = plan.rounds();
    let swept = tune::sweep(plan, Arc::new(letters), &config, stop, |now| {
        if let Some(bar) = &bar {
            bar.set_position(now.done as u64);
            bar.set_message(format!(
                "round {}/{rounds}: {} connections, {} recipients a transaction; {} accepted",
                now.round + 1,
                now.point.connections,
                now.point.recipients_per_transaction,
                now.accepted
            ));
        }
    })
    .await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(Report::new(plan, swept, address, processors, size_octets))
}

/// Prints the results, writes the plot, and gives the exit code.
fn tell(args: &TuneArgs, session: &Session, report: &Report) -> anyhow::Result<u8> {
    if session.json {
        print_json(report)?;
    } else {
        print(&tune::text(report))?;
    }
    if let Some(path) = &args.svg {
        if report.knee().is_some() {
            std::fs::write(path, tune::svg(report)?)
                .with_context(|| format!("--svg {}: can't be written", path.display()))
                .exit_code(exit::CANT_CREATE)?;
        } else {
            session.remark(format_args!("nothing was measured: there is no plot"));
        }
    }
    match &report.ended {
        Ended::Done => Ok(exit::DONE),
        Ended::Stopped => {
            session.remark(format_args!("stopped: the results are of what was measured until then"));
            Ok(exit::PENDING)
        }
        Ended::Trouble { trouble, .. } => {
            let is_address = matches!(trouble, Trouble::Refused { stage, .. } if stage == "RCPT");
            let code = if is_address { exit::BAD_DATA } else { exit::UNAVAILABLE };
            let remedy = report.trouble_remedy.as_deref().unwrap_or_default();
            let stopped = report.stopped().unwrap_or_default();
            Err(exit::coded(code, format!("{stopped}; {remedy}")))
        }
    }
}
