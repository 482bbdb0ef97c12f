//! What is told to whom: a run's numbers, or a sink's, and whether it is ready.

use std::sync::{Arc, Mutex, PoisonError};

use super::catalogue::{BUILD_INFO, READY};
use super::spool::Reader;
use super::text::Text;
use super::{process, run, sink};
use crate::runner::{Progress, RunHandle, RunStatus};
use crate::sink::Snapshot;
use crate::slice::{XxRange, slice_of};
use crate::spool::DirSpool;

/// Answers the listener.
pub struct Exporter {
    command: &'static str,
    source: Source,
}

enum Source {
    Run(Arc<RunSource>),
    Sink(Box<dyn Fn() -> Snapshot + Send + Sync>),
}

/// A run that is waited for, goes on, or has ended.
pub struct RunSource {
    progress: Arc<Progress>,
    range: XxRange,
    slices: u32,
    reader: Arc<Reader>,
    state: Mutex<State>,
}

enum State {
    /// Why it hasn't begun.
    Waits(String),
    Runs(RunHandle),
}

impl RunSource {
    /// A run of these slices of the spool that hasn't begun; labels count `slices` of them.
    pub fn new(progress: Arc<Progress>, spool: DirSpool, range: XxRange, slices: u32) -> Arc<Self> {
        let reader = Reader::new(spool, slices);
        let state = Mutex::new(State::Waits("the slices are not owned yet".to_owned()));
        Arc::new(Self { progress, range, slices, reader, state })
    }

    /// It waits for something; `why` is for people.
    pub fn waits(&self, why: String) {
        *self.lock() = State::Waits(why);
    }

    /// It owns its slices, and answers.
    pub fn runs(&self, handle: RunHandle) {
        *self.lock() = State::Runs(handle);
    }

    /// It is ending, and takes no work.
    pub fn ends(&self) {
        self.waits("it is ending".to_owned());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn status(&self) -> Result<RunStatus, String> {
        let handle = match &*self.lock() {
            State::Waits(why) => return Err(why.clone()),
            State::Runs(handle) => handle.clone(),
        };
        handle.status().await.map_err(|e| e.to_string())
    }
}

/// Whether it takes work; if not, why.
fn readiness(status: &Result<RunStatus, String>) -> Result<(), String> {
    match status {
        Err(why) => Err(why.clone()),
        Ok(RunStatus { journal_error: Some(why), .. }) => Err(format!("the journal can't be written: {why}")),
        Ok(_) => Ok(()),
    }
}

impl Exporter {
    /// Of `serve`, `drain` or `send`.
    pub fn of_run(command: &'static str, source: Arc<RunSource>) -> Self {
        Self { command, source: Source::Run(source) }
    }

    /// Of `sink`.
    pub fn of_sink(counter: impl Fn() -> Snapshot + Send + Sync + 'static) -> Self {
        Self { command: "sink", source: Source::Sink(Box::new(counter)) }
    }

    /// What is to be kept up beside the listener; never ends.
    pub(super) async fn upkeep(&self) {
        match &self.source {
            Source::Run(run) => run.reader.clone().keep_fresh().await,
            Source::Sink(_) => std::future::pending().await,
        }
    }

    /// Whether it is ready for work; if not, why, in one line.
    ///
    /// # Errors
    /// The reason.
    pub async fn ready(&self) -> Result<(), String> {
        match &self.source {
            Source::Run(run) => readiness(&run.status().await),
            Source::Sink(_) => Ok(()),
        }
    }

    /// One scrape.
    pub async fn scrape(&self) -> String {
        let mut text = Text::default();
        text.family(&BUILD_INFO).sample(&[env!("CARGO_PKG_VERSION"), self.command], 1);
        match &self.source {
            Source::Sink(counter) => {
                text.one(&READY, 1);
                sink::write(&mut text, &counter());
            }
            Source::Run(source) => {
                let (status, figures) = (source.status().await, source.reader.figures().await);
                text.one(&READY, u8::from(readiness(&status).is_ok()));
                let recorder = &source.progress.recorder;
                run::write_counts(&mut text, recorder);
                if let Ok(status) = &status {
                    run::write_status(&mut text, recorder, status);
                }
                if let Some(figures) = figures {
                    let (first, last) = (source.range.first, source.range.last);
                    let slices = slice_of(first, source.slices)..=slice_of(last, source.slices);
                    run::write_spool(&mut text, &figures, slices);
                }
            }
        }
        process::write(&mut text);
        text.into_string()
    }
}
