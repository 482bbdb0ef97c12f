//! Parses the command line, runs the command, prints its error, ends with its exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::FromArgMatches;
use infeed::cli::{self, Cli, exit, help};
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    let parsed = help::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::DONE };
            // help into a pipe that is closed is no help, and no error
            return match error.print() {
                Ok(()) => code.into(),
                Err(_) if code == exit::DONE => code.into(),
                Err(_) => exit::IO_ERROR.into(),
            };
        }
    };
    // a daemon tells what happens, since nobody looks on
    let log_more = cli.global.log_more + u8::from(cli.is_daemon());
    let level = match (cli.global.quiet, log_more) {
        (true, _) => LevelFilter::ERROR,
        (_, 0) => LevelFilter::WARN,
        (_, 1) => LevelFilter::INFO,
        (_, 2) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    if let Err(error) = infeed::logs::init(level) {
        eprintln!("infeed: a defect of the log: {error}");
        return exit::INTERNAL.into();
    }
    if let Some(format) = cli.global.log_format {
        infeed::logs::set_format(format);
    }
    match cli::run(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("infeed: {}", exit::describe(&error));
            exit::code_of(&error).into()
        }
    }
}
