//! What is asked of a running infeed, carried out: the one implementation behind the control socket and the
//! admin API.
//!
//! Changes of state are asked of the spool; where a job is in the runner's hand, the runner lets go first
//! (transactions in flight end), and this process renames. Requests are served side by side; one that
//! waits for a job keeps nobody else waiting. Changes outlive the run: one that is asked for while it ends
//! is carried out here when the run has let go. Only what needs a run (reload, MTAs, progress) is answered
//! `ending` then. Errors: [`Trouble`].

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use super::protocol::{AllPaused, JobCounts, Reply, Request};
use super::status::Status;
use crate::clock::{self, Micros};
use crate::config::{self, Value};
use crate::intake::address::check_domain_only;
use crate::logs;
use crate::pressure::window::Windows;
use crate::runner::{MtaChange, RunEnded, RunHandle, RunStatus};
use crate::spool::{Change, DirSpool, JobId, JobState, Pacing, Requested, SpoolError};

/// How long a job in hand is waited for: its transactions end within their timeouts.
const RELEASE_WAIT: Duration = Duration::from_secs(60);
/// Between two looks at whether it has been let go of; they double.
const RELEASE_LOOK_MIN: Duration = Duration::from_millis(20);
const RELEASE_LOOK_MAX: Duration = Duration::from_millis(500);

/// What requests are carried out on.
pub struct Desk {
    pub spool: DirSpool,
    pub run: RunHandle,
    /// `serve`, `drain` or `send`.
    pub command: &'static str,
    pub begun_us: Micros,
    /// The slices, as the status names them.
    pub slices: String,
    /// Reads the configuration again; `None` where it can't be changed.
    pub reload: Option<mpsc::Sender<oneshot::Sender<Result<(), String>>>>,
    /// Ends the run in order.
    pub stop: watch::Sender<bool>,
    /// The exit code of a spool's error.
    pub exit_code: fn(&SpoolError) -> u8,
    /// The exit code of a configuration that is bad, or can't be read again.
    pub exit_code_config: u8,
    /// The exit code of a request that makes no sense.
    pub exit_code_usage: u8,
    /// The exit code of anything else: bad requests.
    pub exit_code_other: u8,
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{0}")]
    BadRequest(String),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("{0}: ask again, the spool is then without an owner, or with another")]
    Ending(#[from] RunEnded),
    #[error("no MTA {name} here; there are {known}")]
    NoSuchMta { name: String, known: String },
    #[error("{0}")]
    Reload(String),
    #[error("the answer can't be written: {0}")]
    Answer(#[from] serde_json::Error),
}

fn ok(value: impl Serialize) -> Result<Reply, Trouble> {
    Ok(Reply::Ok(serde_json::to_value(value)?))
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, SpoolError> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

impl Desk {
    /// What is answered to a request that was not carried out.
    pub fn refusal(&self, trouble: &Trouble) -> Reply {
        let exit_code = match trouble {
            Trouble::Spool(e) => (self.exit_code)(e),
            Trouble::Reload(_) => self.exit_code_config,
            Trouble::BadRequest(_) | Trouble::NoSuchMta { .. } => self.exit_code_usage,
            Trouble::Ending(_) => return Reply::Ending { text: trouble.to_string() },
            _ => self.exit_code_other,
        };
        Reply::Error { text: trouble.to_string(), exit_code }
    }

    /// Carries a request out; `Ok` when it is done and durable.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn answer(&self, request: Request) -> Result<Reply, Trouble> {
        let spool = self.spool.clone();
        match request {
            Request::Status => ok(self.status().await?),
            Request::Jobs => {
                let views = blocking(move || spool.views()).await?;
                ok(views.into_iter().map(|view| view.map_err(|e| e.to_string())).collect::<Vec<_>>())
            }
            Request::Job { job } => {
                let job: JobId = job.parse()?;
                ok(blocking(move || spool.view(&job)).await?)
            }
            Request::Progress { job } => ok(self.progress(job.parse()?).await?),
            Request::Pause { job, reason } => {
                let reason = reason.unwrap_or_else(|| "paused by hand".to_owned());
                self.change(job.parse()?, Change::Pause { reason }).await
            }
            Request::Resume { job, accept_refusals } => {
                self.change(job.parse()?, Change::Resume { accept_refusals }).await
            }
            Request::Cancel { job } => self.change(job.parse()?, Change::Cancel).await,
            Request::Rate { job, messages_per_second } => {
                self.pace(job.parse()?, Pacing::Rate(messages_per_second)).await
            }
            Request::Window { job, windows } => {
                Windows::parse(&windows).map_err(|e| Trouble::BadRequest(e.to_string()))?;
                self.pace(job.parse()?, Pacing::Windows(windows)).await
            }
            Request::Remove { job } => {
                let job: JobId = job.parse()?;
                ok(blocking(move || spool.remove(&job)).await?)
            }
            Request::PauseAll { reason } => {
                let reason = reason.unwrap_or_else(|| "paused by hand".to_owned());
                let before = blocking(move || spool.standstill()).await?;
                let spool = self.spool.clone();
                let standstill = blocking(move || spool.pause_all(&reason)).await?;
                self.nudge().await;
                let in_flight = self.in_flight().await;
                let spool = self.spool.clone();
                let of = move || AllPaused::of(&spool, Some(standstill), before.is_none(), in_flight);
                ok(blocking(of).await?)
            }
            Request::ResumeAll => {
                let ended = blocking(move || spool.resume_all()).await?;
                self.nudge().await;
                let in_flight = self.in_flight().await;
                let spool = self.spool.clone();
                ok(blocking(move || AllPaused::resumed(&spool, ended, in_flight)).await?)
            }
            Request::ResumeMta { mta } => {
                self.knows_mta(mta.as_deref()).await?;
                ok(self.run.resume_mta(mta).await?)
            }
            Request::MtaConnections { mta, connections } => {
                self.knows_mta(mta.as_deref()).await?;
                ok(self.run.set_connections(mta, connections).await?)
            }
            Request::MtaSet { mta, address, weight, messages_per_second, queue_target } => {
                let change = MtaChange { address, weight, messages_per_second, queue_target };
                self.change_mta(mta, change).await
            }
            Request::DomainRate { domain, messages_per_second } => {
                let wrong = |fault| Trouble::BadRequest(format!("{domain:?} is no domain: {fault}"));
                check_domain_only(&domain).map_err(wrong)?;
                let domain = domain.to_ascii_lowercase();
                self.run.set_domain_rate(domain.clone(), messages_per_second).await?;
                let said =
                    messages_per_second.map_or("no rate".to_owned(), |rate| format!("{rate} messages/s"));
                tracing::info!(target: logs::STATE, "domain {domain}: {said}");
                ok(())
            }
            Request::Reload => self.reload().await,
            Request::Drain => {
                tracing::info!("asked to end once what is due was sent; new jobs are left");
                ok(self.run.drain().await?)
            }
            Request::Shutdown => {
                if !self.stop.send_replace(true) {
                    tracing::info!("asked to stop: transactions in flight are finished");
                }
                ok(())
            }
        }
    }

    /// An MTA of this name is there, where there is a name.
    async fn knows_mta(&self, name: Option<&str>) -> Result<(), Trouble> {
        let Some(name) = name else { return Ok(()) };
        let mtas = self.run.status().await?.mtas;
        if mtas.iter().any(|mta| mta.name == name) {
            return Ok(());
        }
        let known: Vec<String> = mtas.into_iter().map(|mta| mta.name).collect();
        Err(Trouble::NoSuchMta { name: name.to_owned(), known: known.join(", ") })
    }

    /// Gives one MTA other settings, within the bounds that the configuration has for them.
    async fn change_mta(&self, name: String, change: MtaChange) -> Result<Reply, Trouble> {
        if change == MtaChange::default() {
            return Err(Trouble::BadRequest(format!("nothing to change of MTA {name}")));
        }
        self.knows_mta(Some(&name)).await?;
        let values = [
            ("address", change.address.clone().map(Value::Text)),
            ("weight", change.weight.map(Value::Integer)),
            ("queue_target", change.queue_target.map(Value::Integer)),
        ];
        for (setting, value) in values {
            let Some(value) = value else { continue };
            let known = config::mta_table().find(|known| known.name == setting);
            if let Some(known) = known.filter(|known| !known.bound.holds(&value)) {
                let text = format!("{setting} = {value}: it takes {}", known.takes());
                return Err(Trouble::BadRequest(text));
            }
        }
        let mtas = self.run.status().await?.mtas;
        let (asked, others): (Vec<_>, Vec<_>) = mtas.into_iter().partition(|mta| mta.name == name);
        let beyond_rate =
            change.address.is_some() || change.weight.is_some() || change.queue_target.is_some();
        if beyond_rate && asked.iter().any(|mta| mta.sink) {
            let text =
                format!("{name} is the built-in sink: nothing of it can be set but messages_per_second");
            return Err(Trouble::BadRequest(text));
        }
        let address = change.address.as_deref();
        if let Some(same) =
            others.iter().find(|mta| address.is_some_and(|a| mta.address.eq_ignore_ascii_case(a)))
        {
            let text = format!("{} is the address of MTA {}: give each its own", same.address, same.name);
            return Err(Trouble::BadRequest(text));
        }
        ok(self.run.change_mta(name, change).await?)
    }

    /// Gives a job another rate or window: durable, and the run is told.
    async fn pace(&self, job: JobId, pacing: Pacing) -> Result<Reply, Trouble> {
        let said = match &pacing {
            Pacing::Rate(None) => "no rate of its own".to_owned(),
            Pacing::Rate(Some(rate)) => format!("{rate} messages/s at most"),
            Pacing::Windows(windows) => format!("its sending windows are {windows:?}"),
        };
        let (spool, id) = (self.spool.clone(), job.clone());
        blocking(move || spool.set_pacing(&id, &pacing)).await?;
        tracing::info!(target: logs::STATE, %job, "job {job}: {said}");
        self.nudge().await;
        let spool = self.spool.clone();
        ok(blocking(move || spool.view(&job)).await?)
    }

    /// Tells the run to look at the spool again; one that ends lets go of everything anyway.
    async fn nudge(&self) {
        if let Err(e) = self.run.nudge().await {
            tracing::debug!("not told of a change: {e}");
        }
    }

    /// `None`: it ends, or has ended.
    async fn run_status(&self) -> Option<RunStatus> {
        let status = self.run.status().await;
        status.inspect_err(|e| tracing::debug!("no figures: {e}")).ok()
    }

    async fn status(&self) -> Result<Status, Trouble> {
        let run = self.run_status().await;
        let spool = self.spool.clone();
        let mut status = blocking(move || Status::of_spool(&spool)).await?;
        match &run {
            Some(run) => status.add_run(run),
            None => status.note = Some(format!("`infeed {}` is ending", self.command)),
        }
        // once we have let go, the same slices may be somebody else's
        let me = format!("process {} ", std::process::id());
        let mut owners = status.owners.iter_mut();
        if let Some(mine) = owners.find(|o| o.slices == self.slices && o.who.starts_with(&me)) {
            mine.command = Some(self.command.to_owned());
            mine.uptime_s = Some(clock::now_us().saturating_sub(self.begun_us) / clock::SECOND_US);
        }
        Ok(status)
    }

    async fn progress(&self, job: JobId) -> Result<JobCounts, Trouble> {
        let progress = self.run.progress(job.clone()).await?;
        let run = self.run.status().await?;
        let left_alone = run.left_alone.into_iter().find(|(id, _)| *id == job).map(|(_, reason)| reason);
        let spool = self.spool.clone();
        let (state, standstill) =
            blocking(move || Ok((spool.state_of(&job)?, spool.standstill()?.is_some()))).await?;
        Ok(JobCounts {
            state: state.as_str().to_owned(),
            progress: progress.counts,
            under_way: progress.under_way,
            waits_for_rate: run.waits_for_rate,
            left_alone,
            standstill,
            note: run.progress.note,
        })
    }

    /// Brings a job into another state, through the run where it has the job in hand.
    async fn change(&self, job: JobId, change: Change) -> Result<Reply, Trouble> {
        let until = Instant::now() + RELEASE_WAIT;
        let (mut asked, mut wait) = (false, RELEASE_LOOK_MIN);
        loop {
            let (spool, id, wish) = (self.spool.clone(), job.clone(), change.clone());
            let requested =
                blocking(
                    move || {
                        if asked { spool.follow(&id, wish.to()) } else { spool.request(&id, &wish) }
                    },
                );
            let requested = requested.await?;
            asked = true;
            // the run lets go of what is to stop, and takes up what may go on
            self.nudge().await;
            match requested {
                Requested::Done => {
                    let spool = self.spool.clone();
                    return ok(blocking(move || spool.view(&job)).await?);
                }
                Requested::InHand if Instant::now() >= until => {
                    let seconds = RELEASE_WAIT.as_secs();
                    return Err(SpoolError::Busy { job: job.to_string(), seconds }.into());
                }
                Requested::InHand => {
                    if change.to() != JobState::Active
                        && let Err(e) = self.run.stop_job(job.clone()).await
                    {
                        tracing::debug!("{e}: it lets go of all it has");
                    }
                    // each look makes the run look at the spool
                    tokio::time::sleep(wait).await;
                    wait = (2 * wait).min(RELEASE_LOOK_MAX);
                }
            }
        }
    }

    /// How many recipients of a job are in transactions, as of now.
    async fn in_flight(&self) -> impl Fn(&JobId) -> u64 + Send + 'static {
        let run = self.run_status().await;
        move |job: &JobId| run.as_ref().map_or(0, |run| run.in_flight_of(job))
    }

    async fn reload(&self) -> Result<Reply, Trouble> {
        let Some(reload) = &self.reload else {
            let text =
                format!("`infeed {}` reads its configuration once: end it and begin anew", self.command);
            return Err(Trouble::Reload(text));
        };
        let (answer, answered) = oneshot::channel();
        reload.send(answer).await.map_err(|_| RunEnded)?;
        answered.await.map_err(|_| RunEnded)?.map_err(Trouble::Reload)?;
        ok(())
    }
}
