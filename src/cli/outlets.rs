//! What `serve`, `drain` and `send` tell others while they work: the delivery log and the webhook.

use std::sync::Arc;
use std::time::Duration;

use super::exit::{self, ExitCode};
use crate::config::Config;
use crate::delivery_log::{DeliveryLog, DeliveryLogConfig, DeliveryLogError, Lines};
use crate::events::{Events, EventsConfig, EventsError, Outbox};
use crate::runner::Progress;
use crate::spool::DirSpool;

/// How long lines that wait keep an infeed that ends.
const LOG_WAIT: Duration = Duration::from_secs(5);

/// Those of one run.
pub struct Outlets {
    log: Option<DeliveryLog>,
    events: Option<Events>,
}

/// Begins to tell, before the run begins.
///
/// # Errors
/// The log's file can't be opened (73); the webhook can't be used as it is set (78).
pub async fn start(config: &Config, spool: &DirSpool, progress: &Progress) -> anyhow::Result<Outlets> {
    let told = &progress.recorder.told;
    let events = match events_config(config).await.exit_code(exit::BAD_CONFIG)? {
        Some(events) => Some(Events::start(events, spool, told.clone()).exit_code(exit::CANT_CREATE)?),
        None => None,
    };
    let log = match log_config(config) {
        Some(log) => Some(DeliveryLog::start(&log, told.clone()).map_err(coded)?),
        None => None,
    };
    let listeners = &progress.listeners;
    let log_is_new = log.as_ref().is_none_or(|log| listeners.delivery_log.set(log.lines()).is_ok());
    let events_are_new =
        events.as_ref().is_none_or(|events| listeners.refusals.set(events.refusals()).is_ok());
    assert!(log_is_new && events_are_new, "a run has one log and one webhook");
    Ok(Outlets { log, events })
}

fn coded(error: DeliveryLogError) -> anyhow::Error {
    exit::coded(exit::CANT_CREATE, error.to_string())
}

fn log_config(config: &Config) -> Option<DeliveryLogConfig> {
    let log = &config.delivery_log;
    let file = log.file.clone()?;
    Some(DeliveryLogConfig { file, bytes_max: log.bytes_max, keep: log.keep })
}

/// Files are read.
async fn events_config(config: &Config) -> Result<Option<EventsConfig>, EventsError> {
    let webhook = config.webhook.clone();
    match tokio::task::spawn_blocking(move || EventsConfig::of(&webhook)).await {
        Ok(read) => read,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

/// What is wrong with the files that the settings name, for `config check`.
pub fn check(config: &Config) -> Option<EventsError> {
    EventsConfig::of(&config.webhook).err()
}

/// The spool, told to keep events of changes of state where there is a webhook: whoever makes them, they are told of
/// by the next run. Where they can't be kept, that is said, and nothing else is kept from being done.
pub fn watched(spool: DirSpool, config: &Config) -> DirSpool {
    if config.webhook.url.is_none() {
        return spool;
    }
    match Outbox::open(spool.root()) {
        Ok(outbox) => spool.watched_by(outbox),
        Err(e) => {
            tracing::warn!("{e}");
            spool
        }
    }
}

impl Outlets {
    /// The same spool, whose changes of state are told at once.
    pub fn watched(&self, spool: &DirSpool) -> DirSpool {
        match &self.events {
            Some(events) => {
                let outbox: Arc<Outbox> = events.outbox();
                spool.clone().watched_by(outbox)
            }
            None => spool.clone(),
        }
    }

    /// The delivery log, to be opened anew when it was moved.
    pub fn log(&self) -> Option<Lines> {
        self.log.as_ref().map(DeliveryLog::lines)
    }

    /// Tells the rest, for a while at most.
    pub async fn finish(self) {
        if let Some(log) = self.log {
            let closed = tokio::task::spawn_blocking(move || log.close(LOG_WAIT)).await;
            if let Err(e) = closed {
                tracing::error!("a defect of the delivery log: {e}");
            }
        }
        if let Some(events) = self.events {
            events.finish().await;
        }
    }
}
