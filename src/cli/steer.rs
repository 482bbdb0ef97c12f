//! What is turned while a daemon runs, and what ends it: `mta set`, `domain rate`, `stop`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::jobs::{RateOrNone, rate_or_none};
use super::session::{GlobalOptions, Session, print, print_json};
use super::status::nobody_serves;
use super::{control, exit};
use crate::control::Request;

/// Other settings for one MTA.
#[derive(Debug, Clone, Args)]
pub struct MtaSetArgs {
    /// The MTA's name
    pub name: String,
    /// Mail goes here from now on; what is in flight ends where it was
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// Its part of the recipients, beside the weights of the others: 1 to 1000
    #[arg(long, value_name = "N")]
    pub weight: Option<u64>,
    /// Messages a second, at most, or `none`
    #[arg(long, value_name = "RATE", value_parser = rate_or_none)]
    pub messages_per_second: Option<RateOrNone>,
    /// Messages that its own queue may hold before `auto` slows down; 0: its queue is not looked at
    #[arg(long, value_name = "N")]
    pub queue_target: Option<u64>,
}

/// Limit how fast mail goes to a domain
#[derive(Debug, Clone, Args)]
pub struct DomainArgs {
    #[command(subcommand)]
    command: DomainCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum DomainCommand {
    /// Limit how fast mail goes to recipients of a domain, until a reload or the daemon's end
    #[command(
        after_help = "Examples:\n  infeed domain rate gmail.com 20\n  infeed domain rate gmail.com none"
    )]
    Rate {
        /// The part of the addresses behind the @
        domain: String,
        /// Messages a second, at most, or `none`
        #[arg(value_name = "RATE", value_parser = rate_or_none)]
        messages_per_second: RateOrNone,
    },
}

/// End the daemon, as SIGTERM does: what is in flight ends first
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// First send what is due of the jobs that are there; what was deferred waits for the next run
    #[arg(long)]
    pub drain: bool,
}

/// Runs `mta set`.
///
/// # Errors
/// No daemon (69), no such MTA or a bad value (64).
pub fn mta_set(session: &Session, args: &MtaSetArgs) -> anyhow::Result<u8> {
    let request = Request::MtaSet {
        mta: args.name.clone(),
        address: args.address.clone(),
        weight: args.weight,
        messages_per_second: args.messages_per_second.map(|RateOrNone(rate)| rate),
        queue_target: args.queue_target,
    };
    let mtas: u64 = asked::<u64>(session, &request)?.into_iter().sum();
    if session.json {
        print_json(&json!({ "mtas": mtas }))?;
    } else {
        print(&format!("MTA {} has its new settings, until a reload\n", args.name))?;
    }
    Ok(exit::DONE)
}

/// Runs `domain …`.
///
/// # Errors
/// No daemon (69), no domain (64).
pub fn run_domain(args: &DomainArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let DomainCommand::Rate { domain, messages_per_second: RateOrNone(rate) } = &args.command;
    let request = Request::DomainRate { domain: domain.clone(), messages_per_second: *rate };
    asked::<()>(&session, &request)?;
    if session.json {
        print_json(&json!({ "domain": domain, "messages_per_second": rate }))?;
    } else {
        print(&match rate {
            Some(rate) => format!("{domain} gets {rate} messages a second at most, until a reload\n"),
            None => format!("{domain} has no limit, until a reload\n"),
        })?;
    }
    Ok(exit::DONE)
}

/// Runs `stop`.
///
/// # Errors
/// No daemon (69).
pub fn run_stop(args: &StopArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let request = if args.drain { Request::Drain } else { Request::Shutdown };
    asked::<()>(&session, &request)?;
    if session.json {
        print_json(&json!({ "asked": if args.drain { "drain" } else { "shutdown" } }))?;
    } else if args.drain {
        print(
            "it takes up no new jobs, and ends once nothing is due (`infeed status` shows how far it is)\n",
        )?;
    } else {
        print("it ends once what is in flight has ended\n")?;
    }
    Ok(exit::DONE)
}

/// What each owner answers; there is one at least.
fn asked<T: serde::de::DeserializeOwned>(session: &Session, request: &Request) -> anyhow::Result<Vec<T>> {
    let answers = control::ask_each(session, request)?;
    if answers.is_empty() { Err(nobody_serves()) } else { Ok(answers) }
}
