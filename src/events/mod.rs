//! Events for another program, by HTTP POST: a job is done or paused, recipients were refused.
//!
//! ```text
//!  spool: a job's change of state → outbox (a file each, in the spool) ─┐
//!  runner: a refused recipient → refusals (memory, bounded) → a batch  ─┴→ sender → sign → post
//! ```
//!
//! | file | is |
//! | --- | --- |
//! | `event` | what is told, as JSON |
//! | `outbox` | events of jobs, on disk until they are taken |
//! | `refusals` | refused recipients on their way into a batch |
//! | `sender` | who is next, and when it is tried again |
//! | `retry` | pure: what an answer means, how long to wait |
//! | `sign` | the key, and the signature (Standard Webhooks: HMAC-SHA256 over id, time and body) |
//! | `post` | one POST, bounded in time and in what is read of the answer |
//!
//! Guarantees: a delivery never waits for any of it. An event of a job is on disk before the change of state that
//! it tells of, is posted only once that has come about, and stays until it is taken or `webhook.retry_for_s` is
//! over: over restarts and crashes; it may be posted twice, with the same id. Refused recipients are told of
//! as long as there is room for them in memory; how many were left out is counted, and told with the next event. No
//! redirect is followed, no proxy asked, nothing of an answer's body read. Neither the key nor anything of the URL
//! but its host stands in a log. Errors: [`EventsError`], at the start alone.

mod event;
mod outbox;
mod post;
mod refusals;
mod retry;
mod sender;
mod sign;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Webhook;
use crate::metrics::Told;
use crate::spool::DirSpool;
pub use outbox::Outbox;
use post::Target;
pub use refusals::{REFUSALS_QUEUED_MAX, Refusals};
use sender::Sender;
pub use sign::Secret;

/// Where events go, and how patiently.
#[derive(Debug, Clone)]
pub struct EventsConfig {
    target: Target,
    secret_file: PathBuf,
    batch_max: usize,
    batch_wait: Duration,
    timeout: Duration,
    retry_for: Duration,
    end_wait: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    #[error("webhook.url: {reason}")]
    Url { reason: String },
    #[error(
        "webhook.url is set, and webhook.secret_file is not: events are signed; `openssl rand -base64 32` makes a key"
    )]
    NoSecret,
    #[error("webhook.secret_file: {}: {reason}", path.display())]
    Secret { path: PathBuf, reason: String },
    #[error("webhook.tls_ca_file: {}: {reason}", path.display())]
    Roots { path: PathBuf, reason: String },
    #[error("webhook.url: https can't be spoken: {reason}")]
    Tls { reason: String },
    #[error("events can't be kept in {}: {source}", path.display())]
    Outbox { path: PathBuf, source: io::Error },
}

impl EventsConfig {
    /// What the settings come to; `None`: there is no webhook. Reads the files that they name.
    ///
    /// # Errors
    /// The key or the roots can't be used, or the key is missing.
    pub fn of(webhook: &Webhook) -> Result<Option<Self>, EventsError> {
        let Some(url) = &webhook.url else { return Ok(None) };
        let secret_file = webhook.secret_file.clone().ok_or(EventsError::NoSecret)?;
        // for its faults; it is read again for each event
        Secret::read(&secret_file)?;
        Ok(Some(Self {
            target: Target::new(url, webhook.tls_ca_file.as_deref())?,
            secret_file,
            batch_max: webhook.batch_max,
            batch_wait: Duration::from_millis(webhook.batch_wait_ms),
            timeout: Duration::from_millis(webhook.timeout_ms),
            retry_for: Duration::from_secs(webhook.retry_for_s),
            end_wait: Duration::from_millis(webhook.end_wait_ms),
        }))
    }
}

/// Events that are being sent.
pub struct Events {
    refusals: Refusals,
    outbox: Arc<Outbox>,
    told: Arc<Told>,
    end_wait: Duration,
    ending: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Events {
    /// Begins to send what waits in the outbox, and what comes. Needs a tokio runtime.
    ///
    /// # Errors
    /// There can be no outbox in the spool.
    pub fn start(config: EventsConfig, spool: &DirSpool, told: Arc<Told>) -> Result<Self, EventsError> {
        if !config.target.is_private() {
            tracing::warn!(
                "webhook.url: {} is http to another host: whoever is between reads the addresses of refused \
                 recipients; https keeps them",
                config.target
            );
        }
        let outbox = Outbox::open(spool.root())?;
        let (refusals, refused) = refusals::channel(told.clone());
        let (ending, ended) = watch::channel(false);
        let end_wait = config.end_wait;
        let sender = Sender::new(config, outbox.clone(), spool.clone(), refused, told.clone());
        let task = tokio::spawn(sender.run(ended));
        Ok(Self { refusals, outbox, told, end_wait, ending, task })
    }

    /// Where refused recipients go.
    pub fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }

    /// Who is to be told of jobs' changes of state.
    pub fn outbox(&self) -> Arc<Outbox> {
        self.outbox.clone()
    }

    /// Sends what waits, for as long as `webhook.end_wait_ms` at most. Events of jobs that are left go out with the
    /// next run.
    pub async fn finish(mut self) {
        self.ending.send_replace(true);
        match tokio::time::timeout(self.end_wait, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::error!("a defect of the events: {e}"),
            Err(_) => self.task.abort(),
        }
        let lost = self.refusals.waiting();
        if lost > 0 {
            self.told.recipients_dropped.fetch_add(lost as u64, Relaxed);
            tracing::warn!(
                "no event told of {lost} refused recipients: the webhook did not take them in time; the report has them"
            );
        }
        match self.outbox.list() {
            Ok(waiting) if waiting.is_empty() => {}
            Ok(waiting) => tracing::warn!("{} events of jobs wait for the next start", waiting.len()),
            Err(e) => tracing::warn!("whether events wait can't be told: {e}"),
        }
    }
}
