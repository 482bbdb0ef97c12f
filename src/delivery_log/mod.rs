//! The delivery log: a line of JSON for each outcome of a recipient, as it comes, for whoever follows a run.
//!
//! | file | is |
//! | --- | --- |
//! | `line` | one outcome, and how it is written |
//! | `file` | the file: opened, put aside by size, opened anew |
//! | `writer` | the thread that writes |
//!
//! Guarantees: whoever delivers never waits for it, and fails no delivery for it: lines wait in memory, at most
//! [`LINES_QUEUED_MAX`] of them, and what finds no room is left out, counted and said. A line that is in the file is
//! whole. A file that was moved away gets no line after it, and its successor has the next one: none is lost by that,
//! none doubled. The journal and the report are what counts: lines that wait are lost with the process. Errors:
//! [`DeliveryLogError`], at the start alone.

mod file;
mod line;
mod writer;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::metrics::Told;
use file::LogFile;
pub use line::Line;

/// Lines that wait to be written, at most.
pub const LINES_QUEUED_MAX: usize = 50_000;
/// Batches that wait, at most: each is of one transaction.
const BATCHES_QUEUED_MAX: usize = LINES_QUEUED_MAX;

/// Where it is, and how it is put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryLogConfig {
    pub file: PathBuf,
    /// Size at which the file is put aside; 0: never.
    pub bytes_max: u64,
    /// Files that are kept beside it.
    pub keep: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum DeliveryLogError {
    #[error(
        "delivery_log.file: {} can't be opened: {source}; its folder must be there, and infeed's user must be able \
         to write in it",
        path.display()
    )]
    Open { path: PathBuf, source: io::Error },
    #[error("delivery_log.file: {} is not written to: {reason}", path.display())]
    Unfit { path: PathBuf, reason: &'static str },
    #[error("the thread of the delivery log can't be started: {0}")]
    Thread(io::Error),
}

/// A delivery log that is written.
pub struct DeliveryLog {
    lines: Lines,
    thread: JoinHandle<()>,
}

/// Where lines go. Clones go to the same log.
#[derive(Clone)]
pub struct Lines {
    queue: SyncSender<Vec<Line>>,
    shared: Arc<Shared>,
}

/// What writer and deliverers share.
struct Shared {
    /// Lines in the queue.
    queued: AtomicUsize,
    /// Somebody wants it opened anew.
    reopen: AtomicBool,
    closing: AtomicBool,
    /// Lines are being left out, and that was said.
    is_dropping: AtomicBool,
    told: Arc<Told>,
    ended: Mutex<bool>,
    end: Condvar,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("queued", &self.shared.queued).finish_non_exhaustive()
    }
}

impl DeliveryLog {
    /// Opens the file, and begins to write. Blocks on the disk.
    ///
    /// # Errors
    /// It can't be opened, or is no file of ours.
    pub fn start(config: &DeliveryLogConfig, told: Arc<Told>) -> Result<Self, DeliveryLogError> {
        let file = LogFile::open(config)?;
        let (queue, lines) = mpsc::sync_channel(BATCHES_QUEUED_MAX);
        let shared = Arc::new(Shared {
            queued: AtomicUsize::new(0),
            reopen: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            is_dropping: AtomicBool::new(false),
            told,
            ended: Mutex::new(false),
            end: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name("delivery-log".to_owned()).spawn({
            let shared = shared.clone();
            move || writer::run(file, &lines, &shared)
        });
        let thread = thread.map_err(DeliveryLogError::Thread)?;
        Ok(Self { lines: Lines { queue, shared }, thread })
    }

    /// Where lines go.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Writes what waits, for as long as this at most.
    pub fn close(self, wait: Duration) {
        let shared = &self.lines.shared;
        shared.closing.store(true, Relaxed);
        self.thread.thread().unpark();
        let ended = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = shared.end.wait_timeout_while(ended, wait, |ended| !*ended);
        let has_ended = *waited.unwrap_or_else(PoisonError::into_inner).0;
        if !has_ended {
            let lines = shared.queued.load(Relaxed);
            shared.told.lines_dropped.fetch_add(lines as u64, Relaxed);
            tracing::warn!("the delivery log was not written to its end: {lines} lines or more are missing");
            return;
        }
        if self.thread.join().is_err() {
            tracing::error!("a defect of the delivery log ended it before its time");
        }
    }
}

impl Lines {
    /// These go to the log, in this order; or, where it can't keep up, nowhere. Never waits.
    pub fn put(&self, lines: Vec<Line>) {
        let (shared, n) = (&self.shared, lines.len());
        let queued = shared.queued.fetch_add(n, Relaxed);
        if queued + n <= LINES_QUEUED_MAX && self.queue.try_send(lines).is_ok() {
            return;
        }
        shared.queued.fetch_sub(n, Relaxed);
        shared.told.lines_dropped.fetch_add(n as u64, Relaxed);
        if !shared.is_dropping.swap(true, Relaxed) {
            tracing::warn!(
                "the delivery log can't keep up: lines are left out of it; deliveries go on, and the report has all"
            );
        }
    }

    /// The file was moved away: opens its successor, at once.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Relaxed);
        // wakes the writer; one that has something to do looks anyhow
        if self.queue.try_send(Vec::new()).is_err() {
            tracing::debug!("the delivery log is busy, and opened anew with its next line");
        }
    }
}

#[cfg(test)]
mod tests;
