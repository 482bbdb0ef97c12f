//! `top`: the status of the spool, live, on a terminal; a line of text an interval where there is none.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;

use super::exit::{self, ExitCode};
use super::session::{GlobalOptions, Session};
use super::status;
use crate::clock;
use crate::control::Status;
use crate::top::{self, Look};

mod asker;
mod live;

/// Watch the spool live, and turn its knobs: throughput, MTAs, jobs, refusals
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Seconds from one look to the next
    #[arg(long, value_name = "S", default_value = "1", value_parser = interval)]
    pub interval: Duration,
    /// Print one line, and end
    #[arg(long)]
    pub once: bool,
    /// One line of text each interval, without any escapes (also where TERM is dumb, and into a pipe)
    #[arg(long)]
    pub plain: bool,
}

const INTERVAL_S: std::ops::RangeInclusive<f64> = 0.1..=3_600.0;

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s| INTERVAL_S.contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("not a number of seconds from {} to {}", INTERVAL_S.start(), INTERVAL_S.end()))
}

/// Runs `top`, until it is told to end.
///
/// # Errors
/// Those of the first status, where lines are printed; a terminal that can't be used (74).
pub fn run(args: &TopArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let variable = |name: &str| std::env::var(name).ok();
    if args.plain || args.once || session.json || Look::is_dumb(variable) || !io::stdout().is_terminal() {
        return print_lines(args, &session);
    }
    live::run(args.interval, &session, Look::of(variable))
}

/// A line an interval, until nobody reads them any more.
fn print_lines(args: &TopArgs, session: &Session) -> anyhow::Result<u8> {
    let mut first = true;
    loop {
        let code = match status::current(session) {
            Ok(status) => {
                if !print_line(&line(status.as_ref(), session)?)? {
                    return Ok(exit::DONE);
                }
                status.as_ref().map_or(exit::DONE, status::exit_code)
            }
            // where nothing was ever heard, nothing will be
            Err(error) if first || args.once => return Err(error),
            Err(error) => {
                eprintln!("infeed: {}", exit::describe(&error));
                exit::DONE
            }
        };
        if args.once {
            return Ok(code);
        }
        first = false;
        std::thread::sleep(args.interval);
    }
}

fn line(status: Option<&Status>, session: &Session) -> anyhow::Result<String> {
    Ok(match status {
        _ if session.json => serde_json::to_string(&status)?,
        Some(status) => top::line(status, clock::now_us()),
        None => top::nothing(&session.spool_dir.display().to_string()),
    })
}

/// One line, at once; false: nobody reads it.
fn print_line(line: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(anyhow::Error::from(error).context("standard output can't be written")),
    }
    .exit_code(exit::IO_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_neither_nothing_nor_for_ever() {
        for good in ["0.1", "1", "2.5", "3600"] {
            assert!(interval(good).is_ok(), "{good}");
        }
        for bad in ["0", "-1", "nan", "inf", "1e9", "", "1s"] {
            let error = interval(bad).expect_err(bad);
            assert!(error.contains("from 0.1 to 3600"), "{error}");
        }
    }
}
