//! Whoever is told of a job's changes of state: the log, and a watch that is set from outside.
//!
//! Guarantees: the log has one line of each change, in the process that makes it. A watch is told of each change
//! twice: before it, so that it can make durable that it is to be told of, and after it, with whether it has come
//! about; a death between the two leaves the job in the one state or the other, which tells which it was. A watch
//! can't fail a change.

use std::sync::Arc;

use super::dir::DirSpool;
use super::error::Result;
use super::id::{Counts, JobId, Outcome};
use super::job::JobMeta;
use super::layout::JobState;
use crate::clock::Micros;
use crate::logs::{self, without_local_parts};

/// A change of a job's state.
#[derive(Debug, Clone, Copy)]
pub struct JobChange<'a> {
    pub job: &'a JobId,
    /// `None`: its `job.toml` can't be read.
    pub meta: Option<&'a JobMeta>,
    pub to: JobState,
    pub at_us: Micros,
    /// Why it is paused.
    pub reason: Option<&'a str>,
    /// What became of its recipients; known of one that is done.
    pub counts: Option<&'a Counts>,
}

/// Told whether a change has come about.
pub type Watched = Box<dyn FnOnce(bool) + Send>;

/// Wants to know of changes of state.
pub trait JobWatch: Send + Sync {
    /// The change is about to be made. Blocks on the disk, if it likes; `None`: it is of no interest.
    fn begins(&self, change: &JobChange<'_>) -> Option<Watched>;
}

impl DirSpool {
    /// The same spool, with somebody who is told of every change of state that is made through it.
    pub fn watched_by(self, watch: Arc<dyn JobWatch>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Makes the change, and tells of it.
    pub(super) fn change_watched(
        &self,
        change: &JobChange<'_>,
        make: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let watched = self.watch.as_ref().and_then(|watch| watch.begins(change));
        let made = make();
        if let Some(watched) = watched {
            watched(made.is_ok());
        }
        if made.is_ok() {
            log(change);
        }
        made
    }
}

/// Whether a job was paused by the refusal breaker: its reason begins with what the MTA said.
pub fn is_the_breakers(paused_reason: &str) -> bool {
    paused_reason.starts_with(['4', '5'])
}

/// One line of the change.
fn log(change: &JobChange<'_>) {
    let JobChange { job, meta, .. } = change;
    let recipients = meta.map(|meta| meta.recipients);
    match change.to {
        JobState::Done => {
            let counts = change.counts.cloned().unwrap_or_default();
            let of = |outcome| counts.of(outcome);
            let others: String = Outcome::ALL
                .into_iter()
                .filter(|outcome| *outcome != Outcome::Accepted && of(*outcome) > 0)
                .map(|outcome| format!(", {} {}", of(outcome), outcome.as_str()))
                .collect();
            tracing::info!(
                target: logs::STATE,
                %job,
                state = "done",
                recipients,
                accepted = of(Outcome::Accepted),
                refused = of(Outcome::Refused),
                expired = of(Outcome::Expired),
                cancelled = of(Outcome::Cancelled),
                suppressed = of(Outcome::Suppressed),
                quarantined = of(Outcome::Quarantined),
                in_doubt = of(Outcome::InDoubt),
                possible_repeats = counts.possible_repeats,
                "job {job} is done: {} accepted{others}",
                of(Outcome::Accepted)
            );
        }
        JobState::Paused => {
            let reason = without_local_parts(change.reason.unwrap_or_default());
            if is_the_breakers(&reason) {
                tracing::warn!(
                    target: logs::STATE,
                    %job,
                    state = "paused",
                    by = "breaker",
                    reason,
                    recipients,
                    "job {job} is paused by the refusal breaker: {reason}"
                );
            } else {
                tracing::info!(
                    target: logs::STATE,
                    %job,
                    state = "paused",
                    reason,
                    recipients,
                    "job {job} is paused: {reason}"
                );
            }
        }
        JobState::Active => {
            tracing::info!(target: logs::STATE, %job, state = "resumed", recipients, "job {job} is resumed");
        }
        JobState::Cancelled => {
            tracing::info!(target: logs::STATE, %job, state = "cancelled", recipients, "job {job} is cancelled");
        }
    }
}
