//! Refused recipients on their way into a batch: bounded, and never waited for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::mpsc;

use crate::delivery_log::Line;
use crate::metrics::Told;

/// Refused recipients that wait to be told of, at most.
pub const REFUSALS_QUEUED_MAX: usize = 10_000;

/// Where refused recipients go. Clones go to the same webhook.
#[derive(Clone)]
pub struct Refusals {
    queue: mpsc::Sender<Line>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Put, and neither taken by the webhook nor given up.
    waiting: AtomicUsize,
    /// Left out, and no event has told so.
    untold: AtomicU64,
    is_dropping: AtomicBool,
    told: Arc<Told>,
}

/// The other end.
pub(super) struct Refused {
    pub queue: mpsc::Receiver<Line>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusals").field("waiting", &self.shared.waiting).finish_non_exhaustive()
    }
}

pub(super) fn channel(told: Arc<Told>) -> (Refusals, Refused) {
    let (queue, refused) = mpsc::channel(REFUSALS_QUEUED_MAX);
    let shared = Arc::new(Shared { told, ..Shared::default() });
    (Refusals { queue, shared: shared.clone() }, Refused { queue: refused, shared })
}

impl Refusals {
    /// Somebody was refused. Without room, nobody is told so, and that is counted.
    pub fn put(&self, line: Line) {
        let shared = &self.shared;
        shared.waiting.fetch_add(1, Relaxed);
        if self.queue.try_send(line).is_ok() {
            return;
        }
        shared.waiting.fetch_sub(1, Relaxed);
        shared.drop_some(1);
        if !shared.is_dropping.swap(true, Relaxed) {
            tracing::warn!(
                "the webhook can't keep up: refused recipients are left out of its events, which tell how many; \
                 the report has them all"
            );
        }
    }

    /// Recipients that wait to be told of.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Relaxed)
    }
}

impl Shared {
    fn drop_some(&self, n: u64) {
        self.told.recipients_dropped.fetch_add(n, Relaxed);
        self.untold.fetch_add(n, Relaxed);
    }
}

impl Refused {
    /// The webhook knows of these.
    pub fn taken(&self, n: usize) {
        self.shared.waiting.fetch_sub(n, Relaxed);
        self.shared.is_dropping.store(false, Relaxed);
    }

    /// These will never be told of.
    pub fn given_up(&self, n: usize) {
        self.shared.waiting.fetch_sub(n, Relaxed);
        self.shared.drop_some(n as u64);
    }

    /// How many were left out since this was asked for last.
    pub fn take_untold(&self) -> u64 {
        self.shared.untold.swap(0, Relaxed)
    }

    /// The event that was to tell of them never will.
    pub fn put_back_untold(&self, n: u64) {
        self.shared.untold.fetch_add(n, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::{Outcome, Settled};

    #[test]
    fn whoever_finds_no_room_is_counted_once_and_told_of_once() {
        let told = Arc::<Told>::default();
        let (refusals, mut refused) = channel(told.clone());
        let settled = Settled::local(Outcome::Refused, 1, 0, "no");
        let line = Line { job: "j".into(), pack: None, address: "a@example.org".into(), mta: None, settled };
        for _ in 0..REFUSALS_QUEUED_MAX + 7 {
            refusals.put(line.clone());
        }
        assert_eq!(refusals.waiting(), REFUSALS_QUEUED_MAX);
        assert_eq!((told.recipients_dropped.load(Relaxed), refused.take_untold()), (7, 7));
        assert_eq!(refused.take_untold(), 0);
        let batch: Vec<Line> = std::iter::from_fn(|| refused.queue.try_recv().ok()).take(100).collect();
        refused.taken(batch.len());
        refusals.put(line);
        assert_eq!(refusals.waiting(), REFUSALS_QUEUED_MAX - 99);
        refused.given_up(1);
        assert_eq!((told.recipients_dropped.load(Relaxed), refused.take_untold()), (8, 1));
    }
}
