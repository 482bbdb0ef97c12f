//! The runner's API, until the runner is there: every drain ends with an error.

use std::sync::Arc;
use std::time::Duration;

use crate::slice::XxRange;
use crate::spool::{JobId, Spool, SpoolError};

/// What a drain is to do.
#[derive(Debug, Clone)]
pub struct DrainConfig {
    pub infeed: crate::infeed::InfeedConfig,
    pub range: XxRange,
    pub only_job: Option<JobId>,
    pub first: Option<u64>,
    /// The MTA is the embedded sink.
    pub rehearsal: bool,
    pub retry: RetryPolicy,
    pub wait_first: Duration,
    pub wait: Duration,
    pub shutdown_grace: Duration,
}

/// When what is deferred is tried again.
#[derive(Debug, Clone, Default)]
pub struct RetryPolicy {}

/// Numbers of a drain under way.
#[derive(Debug, Default)]
pub struct Progress {}

/// [`Progress`] at one moment.
#[derive(Debug, Clone, Default)]
pub struct ProgressSnapshot {
    pub accepted: u64,
    pub refused: u64,
    pub deferred: u64,
    pub expired: u64,
    pub suppressed: u64,
    pub quarantined: u64,
    pub in_doubt: u64,
    pub connections: usize,
    pub note: Option<String>,
}

impl Progress {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn snapshot(&self) -> ProgressSnapshot {
        ProgressSnapshot::default()
    }
}

/// Why a drain ended.
#[derive(Debug, Clone)]
pub enum Ended {
    Drained,
    FirstReached,
    Stopped,
    MtaPaused(String),
    MtaUnavailable(String),
    JournalFailed(String),
}

/// What a drain came to.
#[derive(Debug, Clone)]
pub struct DrainReport {
    pub ended: Ended,
    pub connections: usize,
    pub seconds: f64,
    pub settled: u64,
    pub accepted: u64,
    pub unfinished: u64,
    pub paused: Vec<(JobId, String)>,
}

/// What a drain can fail with.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("this build has no runner")]
    Absent,
}

/// Drains what is due.
pub async fn drain<S: Spool>(
    _spool: &S,
    _config: DrainConfig,
    _progress: Arc<Progress>,
    _stop: tokio::sync::watch::Receiver<bool>,
) -> Result<DrainReport, RunnerError> {
    Err(RunnerError::Absent)
}
