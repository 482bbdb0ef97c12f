//! `send`: submit, and drain that job alone, with progress and a summary.

use clap::Args;
use serde_json::{Value, json};

use super::counts::{counts_json, counts_text, paused_reason, remedy};
use super::drain::{
    self, DrainOptions, Drained, Job, Undrained, connections_text, drain_json, ended_reason, no_drain_json,
    rate,
};
use super::follow::{self, Followed};
use super::pause::standstill_text;
use super::session::{GlobalOptions, Session, print, print_json};
use super::submit::SubmitOptions;
use super::{control, exit};
use crate::config;
use crate::control::{MtaLine, Request, Status};
use crate::slice::XxRange;
use crate::spool::{JobState, JobView, Outcome};

/// Submit a message to a list, and send it
#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    #[command(flatten)]
    pub submit: SubmitOptions,
    #[command(flatten)]
    pub drain: DrainOptions,
}

/// Runs `send`.
///
/// # Errors
/// Those of submit and drain. What was committed stays, and `drain` sends it.
pub fn run(args: &SendArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let mut flags = args.submit.flags();
    flags.extend(args.drain.flags());
    let mut session = Session::new(global, &flags)?;
    if args.submit.dry_run {
        args.submit.mta.choose(&mut session)?;
        return args.submit.dry_run(&session);
    }
    let beside = beside(args, &mut session)?;
    // an owner of all has its own MTAs, and has said whether it has this one
    if beside != Beside::Whole {
        args.submit.mta.choose(&mut session)?;
    }
    // the job carries it: should a daemon come between, it stops there too
    let (spool, submitted) = args.submit.submit_first(&session, args.drain.first)?;
    let before = spool.view(&submitted.job)?;
    let job = Job {
        command: "send",
        rehearsal: args.submit.mta.is_sink(),
        range: XxRange::ALL,
        only_job: Some(submitted.job.clone()),
        real_into_sink: Vec::new(),
        addresses_are_meant: false,
        recipients: Some(before.counts.unfinished()),
    };
    let mut followed = None;
    let drained = if before.counts.unfinished() > 0 && before.state == JobState::Active {
        let drained = match beside {
            Beside::Whole => None,
            _ => Some(drain::drain(&spool, &session, &args.drain, job)?),
        };
        match drained {
            None => {
                let unfinished = before.counts.unfinished();
                followed = Some(follow::follow(&session, &submitted.job, unfinished)?);
                let named = spool.owners()?.into_iter().find(|owner| !owner.who.is_empty());
                let who = named.map(|owner| owner.who);
                Drained::Owned(who.unwrap_or_else(|| "it has ended".to_owned()))
            }
            Some(drained) => drained,
        }
    } else {
        // there before, and nothing of it is left to send
        Drained::Nothing
    };
    let view = spool.view(&submitted.job)?;
    summary(&view, &drained, &session)?;
    let code = match &drained {
        Drained::Owned(owner) if followed.is_none() => {
            eprintln!(
                "infeed: another process drains this spool ({owner}); job {} is committed, and is its to send",
                view.job
            );
            exit::PENDING
        }
        Drained::Owned(owner) => {
            tell_followed(followed.as_ref(), owner, &view);
            if view.counts.unfinished() > 0 { exit::PENDING } else { exit::DONE }
        }
        Drained::Standstill(standstill) => {
            eprintln!("infeed: {}; job {} is committed", standstill_text(standstill), view.job);
            exit::PENDING
        }
        Drained::Nothing if view.counts.unfinished() > 0 => exit::PENDING,
        Drained::Nothing => exit::DONE,
        Drained::Ended(report) => {
            drain::tell_left_alone(&report.left_alone, &session);
            let code = drain::exit_code(&report.ended, view.counts.unfinished());
            if let Some(reason) = ended_reason(&report.ended) {
                return Err(exit::coded(code, reason));
            }
            code
        }
    };
    if let Some(reason) = paused_reason(&view) {
        eprintln!("infeed: job {} is paused: {reason}; {}", view.job, remedy(view.job.as_str(), reason));
        return Ok(exit::PENDING);
    }
    Ok(if code == exit::DONE { code_of_counts(&view) } else { code })
}

/// Who drains the spool already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    /// Owners of some of the slices.
    Part,
    /// An owner of all: it sends what is submitted.
    Whole,
}

/// Who is to send what is submitted, and whether it can as it is asked to.
///
/// # Errors
/// It can't (64): nothing is submitted then.
fn beside(args: &SendArgs, session: &mut Session) -> anyhow::Result<Beside> {
    let Some(status) = control::ask::<Status>(session, &Request::Status)? else { return Ok(Beside::Nobody) };
    let all = XxRange::ALL.to_string();
    let owns_all = status.owners.iter().any(|owner| owner.command.is_some() && owner.slices == all);
    // one without MTAs is ending
    if !owns_all || status.mtas.is_empty() {
        return Ok(Beside::Part);
    }
    let refuse = |why: String| Err(exit::coded(exit::USAGE, format!("{why}; nothing was submitted")));
    let who = status.owners.iter().find(|owner| owner.command.is_some());
    let who = who.map_or_else(|| "another process".to_owned(), |owner| owner.who.clone());
    let named = |mta: &MtaLine| match mta.other_address() {
        Some(address) => format!("{} ({address})", mta.name),
        None => mta.name.clone(),
    };
    let names: Vec<String> = status.mtas.iter().map(named).collect();
    let has = |choice: &str| status.mtas.iter().find(|mta| mta.name == choice || mta.address == choice);
    if args.drain.sink_ledger.is_some() {
        return refuse(format!(
            "{who} drains this spool, and keeps its own ledger: `infeed serve --sink-ledger`"
        ));
    }
    if args.submit.mta.mta.len() > 1 {
        return refuse(format!("{who} drains this spool into the MTAs that it has: give --mta once, or not"));
    }
    if let [choice] = &args.submit.mta.mta[..] {
        let Some(mta) = has(choice) else {
            let names = names.join(", ");
            return refuse(format!("{who} drains this spool, and has no MTA {choice}, only {names}"));
        };
        if !args.submit.mta.is_sink() {
            session.pinned = Some(mta.name.clone());
        }
    }
    // the configuration of this command may be of another place than the daemon's
    let ours: Vec<&str> =
        session.config.mta_entries.iter().map(|entry| entry.settings.address.as_str()).collect();
    let is_default = ours == [config::Config::default().mta.address.as_str()];
    if args.submit.mta.mta.is_empty() && !is_default && !ours.iter().any(|address| has(address).is_some()) {
        let (ours, names) = (ours.join(", "), names.join(", "));
        return refuse(format!(
            "{who} drains this spool into {names}, and the configuration here says {ours}"
        ));
    }
    if args.drain.connections.is_some() {
        session.remark(format_args!("--connections is {who}'s to say; it has its own number"));
    }
    if args.drain.metrics.as_deref().is_some_and(|listen| listen != config::NO_LISTENER) {
        session.remark(format_args!("--metrics is {who}'s to answer: `infeed serve --metrics`"));
    }
    Ok(Beside::Whole)
}

fn tell_followed(followed: Option<&Followed>, owner: &str, view: &JobView) {
    let job = &view.job;
    match followed {
        Some(Followed::Detached) => {
            eprintln!(
                "infeed: job {job} goes on without this command ({owner}): `infeed job cancel {job}` ends it"
            );
        }
        Some(Followed::Stuck(why)) => {
            eprintln!("infeed: job {job} is committed, and waits: {why}; `infeed status` tells more");
        }
        Some(Followed::Ended) | None => {}
    }
}

fn code_of_counts(view: &JobView) -> u8 {
    let good = [Outcome::Accepted, Outcome::Suppressed];
    let others = Outcome::ALL.into_iter().filter(|outcome| !good.contains(outcome));
    exit::of_not_sent(others.map(|outcome| view.counts.of(outcome)).sum())
}

fn summary(view: &JobView, drained: &Drained, session: &Session) -> anyhow::Result<()> {
    if session.json {
        let mut object = counts_json(view);
        match drained {
            Drained::Ended(report) => drain_json(report, &mut object),
            Drained::Owned(owner) => {
                no_drain_json("owned", Undrained::ByAnother, &mut object);
                object.insert("owner".into(), json!(owner));
            }
            Drained::Standstill(standstill) => {
                no_drain_json("standstill", Undrained::Nothing, &mut object);
                object.insert("ended_reason".into(), json!(standstill_text(standstill)));
            }
            Drained::Nothing => no_drain_json("nothing_to_send", Undrained::Nothing, &mut object),
        }
        object.insert("state".into(), json!(view.state.as_str()));
        object.insert("paused_reason".into(), json!(paused_reason(view)));
        object.insert("spool".into(), json!(session.spool_dir));
        return print_json(&Value::Object(object));
    }
    let mut text = format!("job {}\n{}", view.job, counts_text(view));
    if let Drained::Ended(report) = drained {
        text.push_str(&format!(
            "{:.1} s, {:.0} deliveries/s over {}\n",
            report.seconds,
            rate(report),
            connections_text(report)
        ));
    }
    if view.counts.unfinished() > 0 && view.state == JobState::Active {
        text.push_str(match drained {
            Drained::Owned(_) => "the rest is sent when it is due\n",
            _ => "`infeed drain` sends the rest when it is due\n",
        });
    }
    text.push_str(&format!("`infeed job report {}` tells of each recipient\n", view.job));
    print(&text)
}
