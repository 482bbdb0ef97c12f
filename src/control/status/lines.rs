//! The lines of a status: one owner, one MTA, one job, one refusal …
//!
//! They are JSON on the control socket and over HTTP: names stay, and what is new has a default.

use serde::{Deserialize, Serialize};

use crate::clock::Micros;
use crate::config::Connections;
use crate::metrics::PhaseLately;
use crate::pressure::per_second::PerSecond;
use crate::runner::{DomainRunStatus, MtaRunStatus, Refusal};

/// One owner of slices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerLine {
    /// `serve`, `drain` or `send`; `None`: it doesn't answer.
    pub command: Option<String>,
    /// As its lock says it.
    pub who: String,
    /// Of hash space.
    pub slices: String,
    pub uptime_s: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsByState {
    pub active: u64,
    pub paused: u64,
    pub cancelled: u64,
    pub done: u64,
}

/// What waits in active jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// Pending and deferred recipients.
    pub recipients: u64,
    /// Of them, those in chunks that are due now or in hand.
    pub due: u64,
    /// Of them, those that were deferred.
    pub deferred: u64,
    /// When the first of what isn't due yet is.
    pub next_due_us: Option<Micros>,
    /// Since when the longest waits of what is due.
    pub oldest_due_us: Option<Micros>,
}

/// One MTA.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MtaLine {
    pub name: String,
    pub address: String,
    pub weight: u64,
    /// `up`, `idle`, `connecting`, `down`, `paused` or `held`.
    pub state: String,
    /// The reason, where it isn't up.
    pub why: Option<String>,
    /// Connections that stand, and that may.
    pub established: usize,
    pub connections: usize,
    /// What is asked for: `auto`, or `fixed`, which is that many. Empty in the answer of an older infeed.
    #[serde(default)]
    pub target: String,
    /// Why so many may, in one line.
    #[serde(default)]
    pub connections_why: Option<String>,
    /// Messages in its own queue, where that can be seen.
    #[serde(default)]
    pub queue: Option<u64>,
    /// The same for people: how many, and from where; or why not.
    #[serde(default)]
    pub queue_why: Option<String>,
    /// Messages a second that it may take at most.
    #[serde(default)]
    pub messages_per_second: Option<PerSecond>,
    pub accepted: u64,
    pub refused: u64,
    pub deferred: u64,
    pub in_doubt: u64,
    pub rate_10_s: f64,
    pub last_success_us: Option<Micros>,
    /// The last trouble with it, and when that was: it stays when the MTA is fine again.
    pub last_error: Option<String>,
    #[serde(default)]
    pub last_error_us: Option<Micros>,
}

impl MtaLine {
    /// Its address, where that is not what it is called: `--mta ADDRESS` gives no name.
    pub fn other_address(&self) -> Option<&str> {
        Some(self.address.as_str()).filter(|address| *address != self.name)
    }
}

/// One domain that has a rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainLine {
    pub domain: String,
    pub messages_per_second: PerSecond,
    /// Recipients in hand who wait for it.
    pub waiting: u64,
}

/// One active job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLine {
    pub job: String,
    pub recipients: u64,
    pub accepted: u64,
    pub refused: u64,
    pub deferred: u64,
    pub pending: u64,
    /// Messages a second that it may send at most.
    #[serde(default)]
    pub messages_per_second: Option<PerSecond>,
    /// It waits for that just now.
    #[serde(default)]
    pub waits_for_rate: bool,
    /// The hours in which it may be sent.
    #[serde(default)]
    pub windows: Vec<String>,
    /// Why nothing of it goes at this hour.
    #[serde(default)]
    pub waits_for_window: Option<String>,
}

/// Something that stands still, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedLine {
    pub job: String,
    pub reason: String,
    pub since_us: Option<Micros>,
}

/// The spool's file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceLine {
    pub bytes_free: u64,
    /// `None` where the file system doesn't count them.
    pub inodes_free: Option<u64>,
    /// What a submission leaves free.
    pub bytes_free_min: u64,
    pub inodes_free_min: u64,
}

/// One recipient who was refused, deferred, or deferred for too long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalLine {
    pub at_us: Micros,
    pub job: String,
    pub recipient: String,
    /// `refused`, `deferred` or `expired`.
    pub outcome: String,
    /// The MTA's name.
    pub mta: String,
    /// The reply's code; 0 when the MTA said nothing.
    pub code: u16,
    /// Its enhanced status code, such as `5.1.1`.
    pub enhanced: Option<String>,
    /// The rest of the reply, on one line; without a reply what went wrong.
    pub text: String,
}

impl RefusalLine {
    /// Codes and text, as the MTA said them.
    pub fn said(&self) -> String {
        let code = (self.code > 0).then(|| self.code.to_string());
        let parts = [code.as_deref(), self.enhanced.as_deref(), Some(self.text.as_str())];
        let parts: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        parts.join(" ")
    }
}

impl From<&Refusal> for RefusalLine {
    fn from(refusal: &Refusal) -> Self {
        Self {
            at_us: refusal.at_us,
            job: refusal.job.to_string(),
            recipient: refusal.recipient.clone(),
            outcome: refusal.outcome.as_str().to_owned(),
            mta: refusal.mta.clone(),
            code: refusal.code,
            enhanced: refusal.enhanced.clone(),
            text: refusal.text.clone(),
        }
    }
}

/// What the replies of one MTA took in one phase, in the last ten seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseLine {
    /// The MTA's name.
    pub mta: String,
    /// As `infeed_phase_seconds` names it: `connect`, `greeting`, `envelope` or `content`.
    pub phase: String,
    /// How often.
    pub count: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
}

impl From<&PhaseLately> for PhaseLine {
    fn from(lately: &PhaseLately) -> Self {
        Self {
            mta: lately.mta.clone(),
            phase: lately.phase.to_owned(),
            count: lately.count,
            p50_ms: lately.p50_ms,
            p90_ms: lately.p90_ms,
            p99_ms: lately.p99_ms,
        }
    }
}

impl From<&MtaRunStatus> for MtaLine {
    fn from(mta: &MtaRunStatus) -> Self {
        let (state, why) =
            mta.status.as_ref().map_or(("idle", None), |s| super::state_of(&s.state, s.established));
        Self {
            name: mta.name.clone(),
            address: mta.address.clone(),
            weight: mta.weight,
            state: state.to_owned(),
            why,
            established: mta.status.as_ref().map_or(0, |s| s.established),
            connections: mta.connections,
            target: match mta.asked {
                Connections::Auto => "auto".to_owned(),
                Connections::Fixed(_) => "fixed".to_owned(),
            },
            connections_why: Some(mta.connections_why.clone()),
            queue: mta.queue.as_ref().and_then(|queue| queue.messages),
            queue_why: mta.queue.as_ref().map(ToString::to_string),
            messages_per_second: mta.messages_per_second,
            accepted: mta.accepted,
            refused: mta.refused,
            deferred: mta.deferred,
            in_doubt: mta.in_doubt,
            rate_10_s: mta.rate_10_s,
            last_success_us: mta.status.as_ref().and_then(|s| s.last_success),
            last_error: mta.status.as_ref().and_then(|s| s.last_error.clone()),
            last_error_us: mta.status.as_ref().and_then(|s| s.last_error_us),
        }
    }
}

impl From<&DomainRunStatus> for DomainLine {
    fn from(domain: &DomainRunStatus) -> Self {
        Self {
            domain: domain.domain.clone(),
            messages_per_second: domain.messages_per_second,
            waiting: domain.waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16, enhanced: Option<&str>, text: &str) -> RefusalLine {
        RefusalLine {
            at_us: 1,
            job: "weekly-47".into(),
            recipient: "a@b".into(),
            outcome: "refused".into(),
            mta: "main".into(),
            code,
            enhanced: enhanced.map(str::to_owned),
            text: text.into(),
        }
    }

    #[test]
    fn what_was_said_is_told_as_it_was_said() {
        for (code, enhanced, text, said) in [
            (550, Some("5.1.1"), "no such user", "550 5.1.1 no such user"),
            (550, None, "no such user", "550 no such user"),
            (0, None, "the connection was lost", "the connection was lost"),
            (451, Some("4.7.1"), "", "451 4.7.1"),
        ] {
            assert_eq!(refusal(code, enhanced, text).said(), said);
        }
    }
}
