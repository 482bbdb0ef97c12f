//! What a run can be told and asked while it goes on.

use std::fmt;

use tokio::sync::{mpsc, oneshot};

use super::{DomainRates, MtaConfig, ProgressSnapshot, Refusal, RetryPolicy};
use crate::config::Connections;
use crate::infeed::{MtaStatus, StreakLimits};
use crate::metrics::PhaseLately;
use crate::pressure::law::{Cuts, Totals};
use crate::pressure::per_second::PerSecond;
use crate::pressure::queue::Reading;
use crate::spool::JobId;

/// One wish; where there is an answer, it goes to the sender that it carries.
#[derive(Debug)]
pub enum RunCommand {
    /// Something in the spool has changed: look at it now.
    Nudge,
    /// A command wants the job: begin nothing more of it, and let it go.
    StopJob(JobId),
    /// How it goes.
    Status(oneshot::Sender<RunStatus>),
    /// How far a job has come in this run; zero for one that it hasn't met.
    Progress(JobId, oneshot::Sender<JobUnderWay>),
    /// The setting that an MTA complained of was changed: call on it again. Every one without a name;
    /// the answer: how many were paused.
    ResumeMta(Option<String>, oneshot::Sender<usize>),
    /// So many connections to one MTA, or to each; the answer: how many MTAs it is.
    SetConnections(Option<String>, Connections, oneshot::Sender<usize>),
    /// Other settings for the MTA of this name; the answer: how many MTAs it is.
    ChangeMta(String, Box<MtaChange>, oneshot::Sender<usize>),
    /// So many messages a second to a domain (in lower case); `None`: no limit.
    SetDomainRate(String, Option<PerSecond>, oneshot::Sender<()>),
    /// Go on with other settings.
    Reload(Box<Reload>, oneshot::Sender<()>),
    /// Take up no job that is submitted from now on, and end when nothing is due.
    Drain(oneshot::Sender<()>),
}

/// The end that wishes are sent to; clones share it.
#[derive(Debug, Clone)]
pub struct RunHandle(mpsc::Sender<RunCommand>);

/// A run that has ended, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the run is ending")]
pub struct RunEnded;

impl RunHandle {
    /// A handle, and what [`super::drain_owned`] takes.
    pub fn new() -> (Self, mpsc::Receiver<RunCommand>) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), receiver)
    }

    async fn send(&self, command: RunCommand) -> Result<(), RunEnded> {
        self.0.send(command).await.map_err(|_| RunEnded)
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> RunCommand) -> Result<T, RunEnded> {
        let (answer, answered) = oneshot::channel();
        self.send(make(answer)).await?;
        answered.await.map_err(|_| RunEnded)
    }

    /// See [`RunCommand::Nudge`].
    ///
    /// # Errors
    /// [`RunEnded`], here and below.
    pub async fn nudge(&self) -> Result<(), RunEnded> {
        self.send(RunCommand::Nudge).await
    }

    pub async fn stop_job(&self, job: JobId) -> Result<(), RunEnded> {
        self.send(RunCommand::StopJob(job)).await
    }

    pub async fn status(&self) -> Result<RunStatus, RunEnded> {
        self.ask(RunCommand::Status).await
    }

    pub async fn progress(&self, job: JobId) -> Result<JobUnderWay, RunEnded> {
        self.ask(|answer| RunCommand::Progress(job, answer)).await
    }

    pub async fn resume_mta(&self, name: Option<String>) -> Result<usize, RunEnded> {
        self.ask(|answer| RunCommand::ResumeMta(name, answer)).await
    }

    /// So many connections to the MTA of this name, or to each, until it is reloaded with other settings;
    /// gives how many MTAs there are of it.
    pub async fn set_connections(
        &self,
        name: Option<String>,
        connections: Connections,
    ) -> Result<usize, RunEnded> {
        self.ask(|answer| RunCommand::SetConnections(name, connections, answer)).await
    }

    /// Other settings for the MTA of this name, until it is reloaded; gives how many MTAs there are of it.
    pub async fn change_mta(&self, name: String, change: MtaChange) -> Result<usize, RunEnded> {
        self.ask(|answer| RunCommand::ChangeMta(name, Box::new(change), answer)).await
    }

    /// So many messages a second to a domain, given in lower case, until a reload; `None`: no limit.
    pub async fn set_domain_rate(&self, domain: String, rate: Option<PerSecond>) -> Result<(), RunEnded> {
        self.ask(|answer| RunCommand::SetDomainRate(domain, rate, answer)).await
    }

    /// See [`RunCommand::Drain`].
    pub async fn drain(&self) -> Result<(), RunEnded> {
        self.ask(RunCommand::Drain).await
    }

    pub async fn reload(&self, reload: Reload) -> Result<(), RunEnded> {
        self.ask(|answer| RunCommand::Reload(Box::new(reload), answer)).await
    }
}

/// The settings that a run can change while it goes on.
#[derive(Debug, Clone)]
pub struct Reload {
    pub mtas: Vec<MtaConfig>,
    pub domain_rates: DomainRates,
    pub retry: RetryPolicy,
    pub breaker: StreakLimits,
}

/// What is to change of one MTA while a run goes on; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MtaChange {
    /// What is in flight ends at the old one; the connections begin anew.
    pub address: Option<String>,
    /// 1 or more.
    pub weight: Option<u64>,
    /// `Some(None)`: no limit.
    pub messages_per_second: Option<Option<PerSecond>>,
    pub queue_target: Option<u64>,
}

/// `weight = 2, messages_per_second = 50`
impl fmt::Display for MtaChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.messages_per_second.map(|rate| rate.map_or("no limit".to_owned(), |r| r.to_string()));
        let parts = [
            ("address", self.address.clone()),
            ("weight", self.weight.map(|weight| weight.to_string())),
            ("messages_per_second", rate),
            ("queue_target", self.queue_target.map(|target| target.to_string())),
        ];
        let said: Vec<String> =
            parts.into_iter().filter_map(|(name, value)| Some(format!("{name} = {}", value?))).collect();
        f.write_str(&said.join(", "))
    }
}

/// How a run goes.
#[derive(Debug, Clone)]
pub struct RunStatus {
    /// What was settled since it began.
    pub progress: ProgressSnapshot,
    /// Accepted recipients a second, over the last ten seconds and the last minute.
    pub rate_10_s: f64,
    pub rate_60_s: f64,
    pub mtas: Vec<MtaRunStatus>,
    /// Recipients in transactions now.
    pub in_flight: usize,
    /// The same by job.
    pub in_flight_by_job: Vec<(JobId, usize)>,
    /// Jobs that are left alone, with the reason.
    pub left_alone: Vec<(JobId, String)>,
    /// Domains that have a rate.
    pub domains: Vec<DomainRunStatus>,
    /// Jobs in hand that have a rate, and whether they wait for it now.
    pub limited_jobs: Vec<(JobId, PerSecond, bool)>,
    /// Infeeds wait for a rate.
    pub waits_for_rate: bool,
    /// Why the journal can't be written, while it can't.
    pub journal_error: Option<String>,
    /// The last who were not accepted, the newest first.
    pub refusals: Vec<Refusal>,
    /// What the MTAs' replies took lately.
    pub phases: Vec<PhaseLately>,
}

/// A domain that has a rate.
#[derive(Debug, Clone, PartialEq)]
pub struct DomainRunStatus {
    pub domain: String,
    pub messages_per_second: PerSecond,
    /// Recipients in hand who wait for it.
    pub waiting: u64,
}

impl RunStatus {
    /// Recipients of one job in transactions now.
    pub fn in_flight_of(&self, job: &JobId) -> u64 {
        self.in_flight_by_job.iter().find(|(id, _)| id == job).map_or(0, |(_, n)| *n as u64)
    }
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobUnderWay {
    pub counts: JobProgress,
    /// Chunks of it are in hand or due.
    pub under_way: bool,
}

/// One MTA of a run.
#[derive(Debug, Clone)]
pub struct MtaRunStatus {
    pub name: String,
    pub address: String,
    pub weight: u64,
    pub sink: bool,
    /// What somebody wants of their number.
    pub asked: Connections,
    /// Infeeds that it may have now.
    pub connections: usize,
    /// Why so many, in one line.
    pub connections_why: String,
    /// Its own queue; `None`: it is not looked at.
    pub queue: Option<Reading>,
    /// Transactions a second that it may take now.
    pub messages_per_second: Option<PerSecond>,
    /// Most that it may ever have.
    pub connections_max: usize,
    /// The word for the last change of their number; see `Steering::changed`.
    pub connections_changed: &'static str,
    pub cuts: Cuts,
    /// Since its connections were begun: at the start, or at a reload that changed it.
    pub totals: Totals,
    /// `None`: there was nothing for it yet.
    pub status: Option<MtaStatus>,
    pub accepted: u64,
    pub refused: u64,
    pub deferred: u64,
    pub in_doubt: u64,
    /// Accepted recipients a second, over the last ten seconds.
    pub rate_10_s: f64,
}

/// Recipients of one job, since the run met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct JobProgress {
    /// With an outcome of any kind, `deferred` included.
    pub outcomes: u64,
    pub accepted: u64,
    pub deferred: u64,
}
