//! N infeeds to one MTA.
//!
//! Guarantees: every transaction taken from [`Work`] is settled exactly once, also when the pool is
//! stopped, dropped, or an infeed panics (it is begun anew). Errors never come out of here: they are in
//! the status, for the caller to judge how long is too long.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::config::InfeedConfig;
use super::connection;
use super::state::{MtaStatus, Shared};
use super::transaction::Work;
use crate::pressure::law::Totals;

/// Begins one more infeed.
type Begin = Box<dyn Fn(&mut JoinSet<()>) + Send + Sync>;

/// The infeeds of one MTA. Dropped, it aborts them: [`Pool::stop`] is the way to end it.
pub struct Pool {
    shared: Arc<Shared>,
    infeeds: JoinSet<()>,
    /// Infeeds begun; those beyond the target wait.
    begun: usize,
    begin: Begin,
}

/// How a pool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StopReport {
    /// Infeeds that finished what they had in flight.
    pub finished: usize,
    /// Infeeds that were cut off after the grace: what had content under way is in doubt.
    pub aborted: usize,
}

impl Pool {
    /// Spawns the infeeds, `config.connections` of them. Must be called within a tokio runtime.
    pub fn start<W: Work>(config: InfeedConfig, work: Arc<W>) -> Pool {
        let connections = config.connections;
        Self::start_with(config, work, connections)
    }

    /// As [`Pool::start`], with so many infeeds, which [`Pool::set_connections`] can change.
    pub fn start_with<W: Work>(config: InfeedConfig, work: Arc<W>, connections: usize) -> Pool {
        let shared = Shared::new(config);
        let for_infeeds = shared.clone();
        let begin = move |infeeds: &mut JoinSet<()>| {
            for_infeeds.infeed_begins();
            infeeds.spawn(infeed(work.clone(), for_infeeds.clone()));
        };
        let mut pool = Pool { shared, infeeds: JoinSet::new(), begun: 0, begin: Box::new(begin) };
        pool.set_connections(connections);
        pool
    }

    /// So many connections from now on, at least 1. Those beyond it say QUIT after what they
    /// have in flight; new ones connect when there is something to send.
    pub fn set_connections(&mut self, connections: usize) {
        let connections = connections.max(1);
        self.shared.set_target(connections);
        while self.begun < connections {
            (self.begin)(&mut self.infeeds);
            self.begun += 1;
        }
    }

    /// What was counted since the start.
    pub fn totals(&self) -> Totals {
        self.shared.meter.totals()
    }

    /// How the MTA is, now.
    pub fn status(&self) -> MtaStatus {
        self.shared.status()
    }

    /// Tells of every change of state; not of each message.
    pub fn changed(&self) -> watch::Receiver<MtaStatus> {
        self.shared.changed()
    }

    /// Ends a pause: the setting that the MTA complained of was changed.
    pub fn resume(&self) {
        self.shared.resume();
    }

    /// Resolves when every infeed has ended, which each does when `Work::next` gives `None`.
    /// Cancel-safe.
    pub async fn finished(&self) {
        let mut changed = self.shared.changed();
        // The sender lives in `self`, so this can't fail before the condition holds.
        if let Err(error) = changed.wait_for(|status| status.infeeds == 0).await {
            tracing::debug!(%error, "the pool is gone");
        }
    }

    /// Takes no more work, finishes the transactions in flight, says QUIT. What is not finished after
    /// `grace` is cut off: in doubt where content was under way, else not tried. When this returns,
    /// every transaction is settled.
    pub async fn stop(mut self, grace: Duration) -> StopReport {
        let deadline = Instant::now() + grace;
        let mut report = StopReport::default();
        self.shared.stop();
        loop {
            match timeout_at(deadline, self.infeeds.join_next()).await {
                Ok(Some(_)) => report.finished += 1,
                Ok(None) => return report,
                Err(_) => break,
            }
        }
        self.infeeds.abort_all();
        while let Some(ended) = self.infeeds.join_next().await {
            match ended {
                Err(error) if error.is_cancelled() => report.aborted += 1,
                _ => report.finished += 1,
            }
        }
        report
    }
}

/// One infeed, begun anew after a panic: `Lent` has settled what it held.
async fn infeed<W: Work>(work: Arc<W>, shared: Arc<Shared>) {
    let _counted = Counted(shared.clone());
    let mut panics = 0;
    while CatchPanic(Box::pin(connection::run(work.clone(), shared.clone()))).await.is_err() {
        shared.infeed_panicked();
        panics += 1;
        tokio::select! {
            () = tokio::time::sleep(shared.config.reconnect_delay(panics)) => (),
            () = shared.stopped() => return,
        }
    }
}

struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.infeed_ends();
    }
}

/// Resolves to `Err` when the future panics. Its state is dropped with it, so nothing half-made is seen
/// but what `Work` and `Shared` hold, and those are made for it.
struct CatchPanic<F>(Pin<Box<F>>);

/// The future panicked; the panic hook has printed why.
struct Panicked;

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}
