//! The commands, one file each; here, the command line as a whole.
//!
//! Results go to standard output, progress and remarks to standard error. Each command returns its exit
//! code (see [`exit`]); an error travels up to `main`, which prints it.

mod admin;
pub mod completions;
pub mod config;
mod control;
mod counts;
pub mod drain;
mod dry_run;
pub mod exit;
mod follow;
pub mod help;
pub mod jobs;
pub mod make_list;
pub mod man;
mod metrics;
mod mta;
mod outlets;
mod owner;
pub mod pause;
mod prune;
pub mod report;
pub mod send;
pub mod serve;
mod session;
pub mod sink;
pub mod spool;
pub mod status;
pub mod steer;
pub mod submit;
pub mod top;
pub mod tune;

use anyhow::Context;
use clap::{Parser, Subcommand};

pub use session::GlobalOptions;

/// Sends one message to many recipients through the local MTA, as fast as it takes them.
#[derive(Debug, Parser)]
#[command(
    name = "infeed",
    version,
    arg_required_else_help = true,
    after_help = help::after_help()
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// Whether this goes on until it is told to stop.
    pub fn is_daemon(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit a message to a list, and send it
    #[command(after_help = "Examples:\n  \
        infeed send examples/newsletter.eml --merge --to examples/recipients.csv --mta sink\n  \
        infeed send newsletter.eml --merge --to list.csv --test-to me@example.org --samples 3\n  \
        infeed send newsletter.eml --merge --to list.csv --expect-recipients 100000 --yes\n\n\
        Exit codes: 0 all accepted, 1 some were not, 75 some are pending (`infeed drain` goes on).")]
    Send(Box<send::SendArgs>),
    /// Submit a message to a list; prints the job's id once all of it is durable
    #[command(after_help = "Examples:\n  \
        infeed submit newsletter.eml --merge --to list.csv --id weekly-47\n  \
        export-list | infeed submit notice.eml --to - --yes && infeed drain\n  \
        infeed submit offers.eml --to list.csv --messages-per-second 50 --window '08:00-20:00 Europe/Berlin'")]
    Submit(Box<submit::SubmitOptions>),
    /// Send what is due, and end: for cron
    #[command(after_help = "Examples:\n  \
        infeed drain --mta 127.0.0.1:25\n  \
        infeed drain --slices 0-7 & infeed drain --slices 8-15\n  \
        infeed drain --metrics 127.0.0.1:9925\n\n\
        Exit codes: 0 nothing is left (or another process drains), 75 recipients are pending,\n\
        69 the MTA is unavailable.")]
    Drain(drain::DrainArgs),
    /// Drain whatever is submitted, until told to stop: the daemon
    #[command(after_help = "Examples:\n  \
        infeed serve --mta 127.0.0.1:25\n  \
        infeed serve --config /etc/infeed/infeed.toml\n  \
        infeed serve --metrics 127.0.0.1:9925 & curl -s http://127.0.0.1:9925/metrics\n  \
        infeed serve --admin 127.0.0.1:9926\n\n\
        SIGTERM and SIGINT (or `infeed stop`) end it in order, SIGHUP (or `infeed reload`) reads the configuration again.")]
    Serve(serve::ServeArgs),
    /// Who drains, how fast, what waits, what stands still and why
    #[command(after_help = "Example:\n  watch -n 1 infeed status")]
    Status,
    #[command(after_help = "Examples:\n  \
        infeed top\n  \
        infeed top --plain --interval 60 >> infeed.log\n  \
        infeed top --once --json | jq .rate_60_s\n\n\
        Exit codes: 0 ended by a key or a signal; with --once 65 where a job can't be read.")]
    Top(top::TopArgs),
    /// Have the daemon read its configuration again
    #[command(after_help = "Example:\n  infeed config check /etc/infeed/infeed.toml && infeed reload")]
    Reload,
    #[command(after_help = "Example:\n  infeed mta resume primary")]
    Mta(status::MtaArgs),
    #[command(after_help = "Example:\n  infeed domain rate gmail.com 20")]
    Domain(steer::DomainArgs),
    #[command(after_help = "Examples:\n  infeed stop\n  infeed stop --drain")]
    Stop(steer::StopArgs),
    #[command(after_help = "Examples:\n  infeed jobs --json\n  infeed jobs prune --older-than-days 7")]
    Jobs(jobs::JobsArgs),
    #[command(after_help = "Example:\n  infeed job report weekly-47 > report.csv")]
    Job(jobs::JobArgs),
    #[command(after_help = "Example:\n  infeed pause --all --reason 'the MTA is being moved'")]
    Pause(pause::PauseArgs),
    #[command(after_help = "Example:\n  infeed resume --all")]
    Resume(pause::ResumeArgs),
    #[command(after_help = "Examples:\n  \
            infeed sink --listen 127.0.0.1:2525 --ledger arrived.ndjson --latency-ms 5\n  \
            infeed sink --metrics 127.0.0.1:9926")]
    Sink(Box<sink::SinkArgs>),
    #[command(after_help = "Example:\n  infeed spool check")]
    Spool(spool::SpoolArgs),
    #[command(after_help = "Examples:\n  \
        infeed tune --mta 127.0.0.1:25 --to rehearsal+%d@example.org\n  \
        infeed tune --mta 127.0.0.1:2500 --to bench%d@discard.invalid --rounds 5 --messages-max 500000 \
        --svg tune.svg --yes\n  \
        infeed tune --to a%d@discard.invalid --connections 4,5,6,7,8 --recipients-per-transaction 1,10,50 \
        --messages-max 200000\n\n\
        Exit codes: 0 measured, 75 stopped by a signal (what was measured is printed), 65 the MTA refuses the\n\
        address, 69 any other trouble with the MTA.")]
    Tune(Box<tune::TuneArgs>),
    #[command(
        after_help = "Example:\n  infeed make-list --recipients 100000 --bad-percent 1 --output list.csv"
    )]
    MakeList(make_list::MakeListArgs),
    #[command(
        after_help = "Example:\n  infeed config sample > infeed.toml && infeed config check infeed.toml"
    )]
    Config(config::ConfigArgs),
    #[command(after_help = "Examples:\n  infeed man | man -l -\n  infeed man --output /usr/local/share/man")]
    Man(man::ManArgs),
    #[command(after_help = "Examples:\n  \
        infeed completions bash > /etc/bash_completion.d/infeed\n  \
        infeed completions zsh > /usr/local/share/zsh/site-functions/_infeed\n  \
        infeed completions fish > ~/.config/fish/completions/infeed.fish")]
    Completions(completions::CompletionsArgs),
}

/// Runs the command, and gives its exit code.
///
/// # Errors
/// What `main` prints; [`exit::code_of`] says the exit code.
pub fn run(cli: Cli) -> anyhow::Result<u8> {
    let global = &cli.global;
    match cli.command {
        Command::Send(args) => send::run(&args, global),
        Command::Submit(options) => submit::run(&options, global),
        Command::Drain(args) => drain::run(&args, global),
        Command::Serve(args) => serve::run(&args, global),
        Command::Status => status::run(global),
        Command::Top(args) => top::run(&args, global),
        Command::Reload => status::run_reload(global),
        Command::Mta(args) => status::run_mta(&args, global),
        Command::Domain(args) => steer::run_domain(&args, global),
        Command::Stop(args) => steer::run_stop(&args, global),
        Command::Jobs(args) => jobs::run_jobs(&args, global),
        Command::Job(args) => jobs::run_job(&args, global),
        Command::Pause(args) => pause::run_pause(&args, global),
        Command::Resume(args) => pause::run_resume(&args, global),
        Command::Sink(args) => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads(false))
            .enable_all()
            .build()
            .context("the threads of the sink can't be started")?
            .block_on(sink::run(*args, global.json)),
        Command::Spool(args) => spool::run(&args, global),
        Command::Tune(args) => tune::run(&args, global),
        Command::MakeList(args) => without_json(global, "make-list").and_then(|()| make_list::run(args)),
        Command::Config(args) => config::run(&args, global),
        Command::Man(args) => without_json(global, "man").and_then(|()| man::run(&args)),
        Command::Completions(args) => {
            without_json(global, "completions").and_then(|()| completions::run(&args))
        }
    }
}

/// Refuses `--json` for a command whose output has a form of its own.
fn without_json(global: &GlobalOptions, command: &str) -> anyhow::Result<()> {
    if global.json {
        let message = format!("{command} has no result to print as JSON: leave out --json");
        return Err(exit::coded(exit::USAGE, message));
    }
    Ok(())
}

/// What may still be under way beside a run that has ended (a name that nobody resolves, say) is waited for so long.
const AFTERMATH_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Threads for the connections: half the processors, since whoever is at the other end needs the others,
/// and threads that share a processor only wake each other; all where the `sink_is_inside`.
fn threads(sink_is_inside: bool) -> usize {
    let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if sink_is_inside { all } else { all.div_ceil(2) }
}
