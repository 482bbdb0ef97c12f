//! The commands, one file each; here, the command line as a whole.
//!
//! Results go to standard output, progress and remarks to standard error. Each command returns its exit
//! code (see [`exit`]); an error travels up to `main`, which prints it.

pub mod config;
mod counts;
pub mod drain;
mod dry_run;
pub mod exit;
pub mod jobs;
pub mod make_list;
mod mta;
pub mod report;
pub mod send;
mod session;
pub mod sink;
pub mod spool;
pub mod submit;

use anyhow::Context;
use clap::{Parser, Subcommand};

pub use session::GlobalOptions;

/// Sends one message to many recipients through the local MTA, as fast as it takes them.
#[derive(Debug, Parser)]
#[command(
    name = "infeed",
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        infeed send newsletter.eml --merge --to list.csv --mta sink    a rehearsal\n  \
        infeed send newsletter.eml --merge --to list.csv --dry-run     look first\n  \
        infeed send newsletter.eml --merge --to list.csv               the real thing\n\n\
        Exit codes: 0 done, 1 done and some recipients were refused, 64 usage, 65 bad data, 66 no input,\n\
        69 MTA unavailable, 73 can't create, 74 I/O error, 75 recipients are pending (run again),\n\
        77 no permission, 78 bad configuration."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalOptions,
    #[command(subcommand)]
    command: Command,
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
        export-list | infeed submit notice.eml --to - --yes && infeed drain")]
    Submit(Box<submit::SubmitOptions>),
    /// Send what is due, and end: for cron
    #[command(after_help = "Examples:\n  \
        infeed drain --mta 127.0.0.1:25 --connections 8\n  \
        infeed drain --slices 0-7 & infeed drain --slices 8-15\n\n\
        Exit codes: 0 nothing is left (or another process drains), 75 recipients are pending,\n\
        69 the MTA is unavailable.")]
    Drain(drain::DrainArgs),
    /// List the jobs with their counts
    #[command(after_help = "Example:\n  infeed jobs --json")]
    Jobs,
    #[command(after_help = "Example:\n  infeed job report weekly-47 > report.csv")]
    Job(jobs::JobArgs),
    #[command(
        after_help = "Example:\n  infeed sink --listen 127.0.0.1:2525 --ledger arrived.ndjson --latency-ms 5"
    )]
    Sink(Box<sink::SinkArgs>),
    #[command(after_help = "Example:\n  infeed spool check")]
    Spool(spool::SpoolArgs),
    #[command(
        after_help = "Example:\n  infeed make-list --recipients 100000 --bad-percent 1 --output list.csv"
    )]
    MakeList(make_list::MakeListArgs),
    #[command(
        after_help = "Example:\n  infeed config sample > infeed.toml && infeed config check infeed.toml"
    )]
    Config(config::ConfigArgs),
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
        Command::Jobs => jobs::run_jobs(global),
        Command::Job(args) => jobs::run_job(&args, global),
        Command::Sink(args) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("the threads of the sink can't be started")?
            .block_on(sink::run(*args, global.json)),
        Command::Spool(args) => spool::run(&args, global),
        Command::MakeList(args) => make_list::run(args),
        Command::Config(args) => config::run(&args, &global.config),
    }
}
