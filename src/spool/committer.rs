//! The committer: syncs an owner's journal as a group, off the async threads, and begins a new segment
//! when one is full or has failed.
//!
//! Records are noted in memory, and `write`n by `flush`, all of them in one call that never waits for the
//! disk: so what a message came to and that the next one of its infeed goes out is one system call. After a failed write or sync the file is not
//! trusted: all that is open is carried into a new segment, and until that has worked `broken` says why
//! nothing may be handed out.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::At;
use super::journal::{JournalWriter, OpenChunk};
use super::owner::lock;
use crate::metrics::Histogram;

/// The wait before a new segment is tried again after an error.
const ROTATE_AGAIN: Duration = Duration::from_millis(100);
/// Records that are noted and not written, at most: a bound for memory, hardly ever reached.
const PENDING_BYTES_MAX: usize = 256 << 10;

/// What the owner and its committer share.
pub(super) struct Shared {
    pub state: Mutex<State>,
    /// Wakes the committer.
    pub work: Condvar,
    /// Wakes whoever waits for a sync on a blocking thread.
    pub done: Condvar,
    /// The highest record that is on disk, and whether the journal can be written.
    pub synced: watch::Sender<u64>,
    pub commit_every: Duration,
    pub unsynced_max: u64,
    pub sync_latency: Arc<Histogram>,
}

pub(super) struct State {
    pub journal: Option<JournalWriter>,
    /// Why the journal can't be written now.
    pub broken: Option<String>,
    /// Shared with whoever ends a pass, by when nothing of it changes any more.
    pub open: BTreeMap<u32, Arc<OpenChunk>>,
    pub next_handle: u32,
    /// Records appended so far.
    pub appended: u64,
    /// Recipients settled or handed out since the last sync.
    pub unsynced: u64,
    pub urgent: bool,
    /// The committer waits for something to commit.
    pub idle: bool,
    pub closing: bool,
}

impl State {
    /// A chunk in hand, to be changed.
    pub fn open_mut(&mut self, handle: u32) -> (&mut OpenChunk, &mut Option<JournalWriter>) {
        let Some(open) = self.open.get_mut(&handle) else { panic!("handle {handle} is not open") };
        (Arc::make_mut(open), &mut self.journal)
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Notes records of so many recipients; `flush` writes them.
    pub fn note(&self, state: &mut State, recipients: u64, note: impl FnOnce(&mut JournalWriter)) {
        state.appended += 1;
        state.unsynced += recipients;
        // a broken one begins anew from memory, which holds what isn't noted
        if state.broken.is_none()
            && let Some(journal) = &mut state.journal
        {
            note(journal);
            if journal.pending() > PENDING_BYTES_MAX {
                self.flush(state);
            }
        }
        // a wake-up costs a system call: only when the committer sleeps without a time limit
        if state.idle {
            state.idle = false;
            self.work.notify_one();
        }
    }

    /// Writes what was noted, and on an error leaves it to the committer to begin a new segment.
    pub fn flush(&self, state: &mut State) {
        if state.broken.is_none()
            && let Some(journal) = &mut state.journal
            && let Err(e) = journal.flush()
        {
            tracing::error!("{e}; a new journal segment is begun");
            state.broken = Some(e.to_string());
            state.urgent = true;
            state.idle = false;
            self.work.notify_one();
        }
    }

    pub fn hurry(&self, state: &mut State) {
        if !state.urgent {
            state.urgent = true;
            state.idle = false;
            self.work.notify_one();
        }
    }

    /// Waits until a record is on disk; false when the journal can't be written.
    pub fn wait_synced<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        record: u64,
    ) -> (MutexGuard<'a, State>, bool) {
        // a new segment is tried at once after an error; beyond that the caller comes again
        let until = Instant::now() + Duration::from_millis(100);
        loop {
            if *self.synced.borrow() >= record {
                return (state, true);
            }
            if state.closing || (state.broken.is_some() && Instant::now() > until) {
                return (state, false);
            }
            let (next, _) =
                self.done.wait_timeout(state, Duration::from_millis(20)).unwrap_or_else(|e| e.into_inner());
            state = next;
        }
    }
}

/// Syncs what was appended, as a group, until the owner closes.
pub(super) fn commit_loop(shared: &Shared) {
    let mut last = Instant::now();
    loop {
        let (file, path, upto, recipients) = {
            let mut state = shared.lock();
            while !state.closing && (state.appended == *shared.synced.borrow() && state.broken.is_none()) {
                state.idle = true;
                state = shared.work.wait(state).unwrap_or_else(|e| e.into_inner());
            }
            if state.closing && state.appended == *shared.synced.borrow() {
                return;
            }
            // gather a group, unless somebody waits
            while !state.urgent && !state.closing && last.elapsed() < shared.commit_every {
                let left = shared.commit_every.saturating_sub(last.elapsed());
                let (next, _) = shared.work.wait_timeout(state, left).unwrap_or_else(|e| e.into_inner());
                state = next;
            }
            state.urgent = false;
            state.idle = false;
            last = Instant::now();
            if state.broken.is_some() || state.journal.as_ref().is_some_and(JournalWriter::is_full) {
                rotate(shared, &mut state);
                if state.broken.is_some() && state.closing {
                    return;
                }
                if state.broken.is_some() {
                    // woken early only to close
                    let wait = shared.work.wait_timeout(state, ROTATE_AGAIN);
                    drop(wait.unwrap_or_else(|e| e.into_inner()));
                }
                continue;
            }
            shared.flush(&mut state);
            if state.broken.is_some() {
                continue;
            }
            let Some(journal) = &state.journal else { return };
            (journal.file(), journal.path(), state.appended, state.unsynced)
        };
        let begun = Instant::now();
        match file.sync().at("sync the journal", &path) {
            Ok(()) => {
                shared.sync_latency.observe(begun.elapsed());
                let mut state = shared.lock();
                state.unsynced -= recipients.min(state.unsynced);
                shared.synced.send_replace(upto);
                drop(state);
                shared.done.notify_all();
            }
            Err(e) => {
                tracing::error!("{e}; a new journal segment is begun");
                let mut state = shared.lock();
                state.broken = Some(e.to_string());
                // somebody may wait for it
                state.urgent = true;
            }
        }
    }
}

/// Begins a new segment with everything that is open; on an error the journal stays broken.
fn rotate(shared: &Shared, state: &mut State) {
    let State { journal, open, .. } = state;
    let Some(journal) = journal else { return };
    match journal.rotate(&mut open.iter().map(|(h, c)| (*h, c.as_ref()))) {
        Ok(()) => {
            state.broken = None;
            state.unsynced = 0;
            shared.synced.send_replace(state.appended);
            shared.done.notify_all();
        }
        Err(e) => {
            if state.broken.is_none() {
                tracing::error!("no new journal segment: {e}; nothing is sent until there is one");
            }
            state.broken = Some(e.to_string());
            shared.synced.send_modify(|_| {});
        }
    }
}
