//! `status`: who drains, how fast, what waits and what stands still and why, on one screen. Also
//! `reload` and `mta resume`, which speak to the daemon alone.

use std::fmt::{self, Write};

use clap::{Args, Subcommand};

use super::session::{GlobalOptions, Session, print, print_json};
use super::steer::{self, MtaSetArgs};
use super::{control, exit};
use crate::clock::{self, Micros, SECOND_US};
use crate::config::Connections;
use crate::control::{JobLine, Request, Status};

/// Refusals that a screen shows; `--json` has more of them.
const REFUSALS_SHOWN: usize = 3;

/// Look at the MTAs, or call on one again
#[derive(Debug, Clone, Args)]
pub struct MtaArgs {
    #[command(subcommand)]
    command: MtaCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum MtaCommand {
    /// Call again on an MTA that refused us as a whole: its setting was mended
    #[command(after_help = "Examples:\n  infeed mta resume\n  infeed mta resume primary")]
    Resume {
        /// Its name [default: every one that is paused]
        name: Option<String>,
    },
    /// So many connections from now on, until a reload or the daemon's end
    #[command(after_help = "Examples:\n  infeed mta connections 12\n  infeed mta connections auto primary")]
    Connections {
        /// A number, or auto
        #[arg(value_name = "N")]
        connections: Connections,
        /// The MTA's name [default: each]
        name: Option<String>,
    },
    /// Give one MTA other settings, until a reload or the daemon's end
    #[command(after_help = "Examples:\n  infeed mta set primary --messages-per-second 50\n  \
                            infeed mta set second --address 127.0.0.1:2526 --weight 2")]
    Set(MtaSetArgs),
}

/// Runs `status`.
///
/// # Errors
/// Those of the spool and the control socket; output that can't be written.
pub fn run(global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let Some(status) = current(&session)? else {
        session.remark_no_spool();
        return Ok(exit::DONE);
    };
    if session.json {
        print_json(&status)?
    } else {
        print(&screen(&status)?)?
    }
    Ok(exit_code(&status))
}

/// What all owners of the spool answer, as one; without owners, what the spool says of itself. `None`: there
/// is no spool.
///
/// # Errors
/// Those of the spool and the control socket.
pub(super) fn current(session: &Session) -> anyhow::Result<Option<Status>> {
    let mut status: Option<Status> = None;
    for answer in control::ask_each::<Status>(session, &Request::Status)? {
        match &mut status {
            None => status = Some(answer),
            Some(status) => status.merge(answer),
        }
    }
    match status {
        Some(status) => Ok(Some(status)),
        None => Ok(session.spool_if_any()?.map(|spool| Status::of_spool(&spool)).transpose()?),
    }
}

/// What a command that shows a status ends with: jobs that can't be read are bad data.
pub(super) fn exit_code(status: &Status) -> u8 {
    if status.damaged.is_empty() { exit::DONE } else { exit::BAD_DATA }
}

/// Runs `reload`.
///
/// # Errors
/// No daemon (69), a configuration that is bad (78).
pub fn run_reload(global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    if control::ask_each::<()>(&session, &Request::Reload)?.is_empty() {
        return Err(nobody_serves());
    }
    if session.json {
        print_json(&serde_json::json!({ "reloaded": true }))?;
    } else {
        print("the configuration was read again\n")?;
    }
    Ok(exit::DONE)
}

/// Runs `mta …`.
///
/// # Errors
/// No daemon (69).
pub fn run_mta(args: &MtaArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = Session::new(global, &[])?;
    let name = match &args.command {
        MtaCommand::Resume { name } => name,
        MtaCommand::Connections { connections, name } => {
            return set_connections(&session, *connections, name.clone());
        }
        MtaCommand::Set(args) => return steer::mta_set(&session, args),
    };
    let answers = control::ask_each::<u64>(&session, &Request::ResumeMta { mta: name.clone() })?;
    if answers.is_empty() {
        return Err(nobody_serves());
    }
    let resumed: u64 = answers.into_iter().sum();
    if session.json {
        print_json(&serde_json::json!({ "resumed": resumed }))?;
    } else {
        print(&match resumed {
            0 => "no MTA was paused\n".to_owned(),
            1 => "1 MTA is called on again\n".to_owned(),
            n => format!("{n} MTAs are called on again\n"),
        })?;
    }
    Ok(exit::DONE)
}

/// So many connections to an MTA, or to each; gives how many MTAs it is.
///
/// # Errors
/// No owner (69), no such MTA (64).
pub(super) fn ask_connections(
    session: &Session,
    mta: Option<String>,
    connections: Connections,
) -> anyhow::Result<u64> {
    let answers = control::ask_each::<u64>(session, &Request::MtaConnections { mta, connections })?;
    if answers.is_empty() {
        return Err(nobody_serves());
    }
    Ok(answers.into_iter().sum())
}

fn set_connections(session: &Session, connections: Connections, mta: Option<String>) -> anyhow::Result<u8> {
    let mtas = ask_connections(session, mta, connections)?;
    if session.json {
        print_json(&serde_json::json!({ "connections": connections, "mtas": mtas }))?;
    } else {
        let to = if mtas == 1 { "the MTA".to_owned() } else { format!("each of {mtas} MTAs") };
        print(&format!("{connections} connections to {to}, until a reload\n"))?;
    }
    Ok(exit::DONE)
}

pub(super) fn nobody_serves() -> anyhow::Error {
    exit::coded(exit::UNAVAILABLE, "nobody serves this spool now: start `infeed serve`".to_owned())
}

/// One screen of text.
fn screen(s: &Status) -> Result<String, fmt::Error> {
    let (mut out, now) = (String::new(), clock::now_us());
    if s.owners.is_empty() {
        writeln!(out, "{}: nobody drains it (`infeed serve`, or `infeed drain` from cron)", s.spool)?;
    }
    for owner in &s.owners {
        let command = owner
            .command
            .as_deref()
            .unwrap_or("an infeed that doesn't answer (yet: at its start it reads what a dead one left)");
        let up = owner.uptime_s.map(|s| format!(", up {}", duration(s))).unwrap_or_default();
        let slices =
            if owner.slices == "00-ff" { String::new() } else { format!(", slices {}", owner.slices) };
        writeln!(out, "{}: {command}, {}{slices}{up}", s.spool, owner.who)?;
    }
    if let Some(standstill) = &s.standstill {
        let since = standstill.since_us.map(clock::rfc3339).unwrap_or_default();
        writeln!(out, "EVERYTHING IS PAUSED since {since}: {}; `infeed resume --all`", standstill.reason)?;
    }
    if let Some(note) = &s.note {
        writeln!(out, "NOTE {note}")?;
    }
    let jobs = &s.jobs;
    writeln!(
        out,
        "jobs      {} active, {} paused, {} done, {} cancelled",
        jobs.active, jobs.paused, jobs.done, jobs.cancelled
    )?;
    let b = &s.backlog;
    let when = match (b.due, b.next_due_us) {
        (0, Some(next)) => format!(", the first in {}", in_s(next, now)),
        _ => String::new(),
    };
    writeln!(
        out,
        "backlog   {} recipients, {} due, {} deferred{when}{}",
        b.recipients,
        b.due,
        b.deferred,
        match b.oldest_due_us {
            Some(oldest) if b.due > 0 => format!("; the oldest is due since {}", in_s(now, oldest)),
            _ => String::new(),
        }
    )?;
    if !s.mtas.is_empty() {
        writeln!(
            out,
            "rate      {:.0}/s (10 s), {:.0}/s (1 min), {} in flight",
            s.rate_10_s, s.rate_60_s, s.in_flight
        )?;
        let outcomes: Vec<String> =
            s.outcomes.iter().filter(|(_, n)| **n > 0).map(|(name, n)| format!("{n} {name}")).collect();
        let none = if outcomes.is_empty() { "none yet" } else { "" };
        writeln!(out, "outcomes  {}{none} since its start", outcomes.join(", "))?;
    }
    for mta in &s.mtas {
        writeln!(
            out,
            "mta       {}{} {}, N {}/{}, {:.0}/s{}, {} accepted, {} refused, {} deferred{}",
            mta.name,
            mta.other_address().map(|address| format!(" {address}")).unwrap_or_default(),
            mta.state,
            mta.established,
            mta.connections,
            mta.rate_10_s,
            mta.messages_per_second.map(|rate| format!(" (rate {rate}/s)")).unwrap_or_default(),
            mta.accepted,
            mta.refused,
            mta.deferred,
            [("", &mta.why), ("N is ", &mta.connections_why), ("queue ", &mta.queue_why)]
                .into_iter()
                .filter_map(|(what, why)| Some(format!("\n          {what}{}", why.as_ref()?)))
                .collect::<String>()
        )?;
    }
    for refusal in s.refusals.iter().take(REFUSALS_SHOWN) {
        let (word, job, mta) = (&refusal.outcome, &refusal.job, &refusal.mta);
        let ago = in_s(now, refusal.at_us);
        writeln!(
            out,
            "{word:<9} {}: {} (job {job}, at {mta}, {ago} ago)",
            refusal.recipient,
            refusal.said()
        )?;
    }
    for domain in &s.domains {
        let (name, rate, waiting) = (&domain.domain, domain.messages_per_second, domain.waiting);
        writeln!(out, "domain    {name}: rate {rate}/s, {waiting} recipients in hand")?;
    }
    for job in &s.active {
        writeln!(
            out,
            "active    {}: {} of {} accepted, {} refused, {} deferred, {} pending{}",
            job.job,
            job.accepted,
            job.recipients,
            job.refused,
            job.deferred,
            job.pending,
            pacing(job)
        )?;
    }
    if (s.active.len() as u64) < jobs.active {
        writeln!(out, "          and {} more: `infeed jobs`", jobs.active - s.active.len() as u64)?;
    }
    for paused in &s.paused {
        writeln!(out, "paused    {}: {}; `infeed job resume {}`", paused.job, paused.reason, paused.job)?;
    }
    for left in &s.left_alone {
        writeln!(out, "left      {}: {}", left.job, left.reason)?;
    }
    for damaged in &s.damaged {
        writeln!(out, "damaged   {damaged}; `infeed spool check`")?;
    }
    let inodes = s.space.inodes_free.map(|n| format!(", {n} inodes")).unwrap_or_default();
    let full = s.space.bytes_free <= s.space.bytes_free_min
        || s.space.inodes_free.is_some_and(|n| n <= s.space.inodes_free_min);
    writeln!(
        out,
        "space     {} free{inodes}{}",
        bytes(s.space.bytes_free),
        if full { ": FULL, nothing can be submitted" } else { "" }
    )?;
    Ok(out)
}

/// A job's own rate and window.
fn pacing(job: &JobLine) -> String {
    let mut text = String::new();
    if let Some(rate) = job.messages_per_second {
        text.push_str(&format!(", rate {rate}/s"));
        text.push_str(if job.waits_for_rate { ", which it waits for" } else { "" });
    }
    match &job.waits_for_window {
        Some(why) => text.push_str(&format!(", {why}")),
        None if !job.windows.is_empty() => text.push_str(&format!(", window {}", job.windows.join("; "))),
        None => {}
    }
    text
}

fn in_s(later: Micros, earlier: Micros) -> String {
    duration(later.saturating_sub(earlier) / SECOND_US)
}

/// `3 d 4 h`, `12 min 5 s`, `7 s`: the two largest units.
pub fn duration(s: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = s;
    let mut parts = Vec::new();
    for (size, name) in units {
        if left >= size && parts.len() < 2 {
            parts.push(format!("{} {name}", left / size));
        } else if !parts.is_empty() {
            break;
        }
        left %= size;
    }
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

fn bytes(n: u64) -> String {
    match n {
        _ if n >= 1 << 30 => format!("{:.1} GiB", n as f64 / (1u64 << 30) as f64),
        _ => format!("{:.0} MiB", n as f64 / (1u64 << 20) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mta_that_is_named_by_its_address_is_named_once() {
        let mut status = crate::top::sample::status();
        let screen = super::screen(&status).expect("a screen");
        assert!(screen.contains("mta       main 127.0.0.1:25 up, "), "{screen}");
        status.mtas[0].name = status.mtas[0].address.clone();
        let screen = super::screen(&status).expect("a screen");
        assert!(screen.contains("mta       127.0.0.1:25 up, "), "{screen}");
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        for (s, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3_600, "1 h"),
            (90_061, "1 d 1 h"),
            (86_401, "1 d"),
        ] {
            assert_eq!(duration(s), text);
        }
    }
}
