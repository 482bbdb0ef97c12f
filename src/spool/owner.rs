//! An owner: the one process that drains a range of a spool.
//!
//! It holds the range's kernel lock, writes the range's journal, and is the only one that ends passes
//! in it. `hand_out` is one `write` for all that was noted since the last one, and never waits for the
//! disk; a committer thread syncs as a group every `progress_commit_ms`. When a write or a sync fails, a
//! new segment is begun from memory, and until that has worked nothing is handed out.
//!
//! An outcome is noted, and `write`n with the next `hand_out` of anybody: an infeed that goes on hands
//! out first, so what a killed process leaves in doubt is what its infeeds had in flight, no more.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::chunk::{Chunk, DEATHS_BEFORE_SOLO};
use super::committer::{Shared, State, commit_loop};
use super::dir::DirSpool;
use super::error::{Result, SpoolError};
use super::id::{ChunkName, JobId};
use super::index::JobIndex;
use super::journal::{JournalWriter, OpenChunk, Record};
use super::layout::JobDir;
use super::own::RangeLock;
use super::pass::{self, PassEnd};
use super::recover::Recovered;
use super::results::Settled;
use crate::metrics::{Histogram, Recorder};
use crate::slice::XxRange;

/// A claimed chunk, in the hand of the runner.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub handle: u32,
    pub job: JobId,
    pub chunk: Arc<Chunk>,
    /// Passed one recipient at a time: the process has died with it too often.
    pub solo: bool,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claim {
    Claimed(Claimed),
    /// It could not be read and was put aside: its recipients are quarantined.
    PutAside,
    /// The job has been paused, cancelled or removed meanwhile.
    Gone,
}

/// See the module.
pub struct DirOwner {
    pub(super) spool: DirSpool,
    _lock: RangeLock,
    pub range: XxRange,
    pub recovered: Recovered,
    shared: Arc<Shared>,
    pub(super) index: Mutex<JobIndex>,
    committer: Option<JoinHandle<()>>,
}

impl DirSpool {
    /// Takes the range, recovers what a dead owner left, and begins a journal.
    pub fn own(&self, range: XxRange) -> Result<DirOwner> {
        let lock = RangeLock::take(&self.layout.locks(), range)?;
        self.ensure_durable()?;
        self.sweep_incoming()?;
        let epoch = self.segments()?.iter().map(|s| s.epoch).max().unwrap_or(0);
        let (recovered, left) = self.recover(range)?;
        let journal = self.first_segment(range, epoch + 1)?;
        let state = State {
            journal: Some(journal),
            broken: None,
            open: BTreeMap::new(),
            next_handle: 0,
            appended: 0,
            unsynced: 0,
            urgent: false,
            idle: false,
            closing: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
            synced: watch::Sender::new(0),
            commit_every: Duration::from_millis(self.settings.progress_commit_ms),
            unsynced_max: self.settings.progress_unsynced_max,
            sync_latency: Recorder::journal_histogram(),
        });
        let committer = std::thread::spawn({
            let shared = shared.clone();
            move || commit_loop(&shared)
        });
        Ok(DirOwner {
            spool: self.clone(),
            _lock: lock,
            range,
            recovered,
            shared,
            index: Mutex::new(JobIndex::new(range, left, self.settings.retry_delay_s_max)),
            committer: Some(committer),
        })
    }

    fn first_segment(&self, range: XxRange, mut epoch: u32) -> Result<JournalWriter> {
        loop {
            // owners of disjoint ranges may choose the same number: the file's name holds the range too
            let made = JournalWriter::create(
                self.fs.clone(),
                &self.layout.journal(),
                range,
                epoch,
                self.settings.journal_segment_bytes,
                &self.boot,
            );
            match made {
                Err(SpoolError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                    epoch += 1;
                }
                other => return other,
            }
        }
    }
}

impl DirOwner {
    /// How long each sync of the journal took.
    pub fn sync_latency(&self) -> Arc<Histogram> {
        self.shared.sync_latency.clone()
    }

    /// Claims a chunk: its claim is on disk when this returns. Blocks on the disk.
    pub fn claim(&self, job: &JobId, name: ChunkName) -> Result<Claim> {
        let Some(dir) = lock(&self.index).begin(job, name)? else { return Ok(Claim::Gone) };
        match self.claim_in(&dir, job, name) {
            Ok(Some(claimed)) => Ok(Claim::Claimed(claimed)),
            Ok(None) => {
                lock(&self.index).unclaimed(job, None);
                Ok(Claim::PutAside)
            }
            Err(e) => {
                lock(&self.index).unclaimed(job, Some(name));
                Err(e)
            }
        }
    }

    fn claim_in(&self, dir: &JobDir, job: &JobId, name: ChunkName) -> Result<Option<Claimed>> {
        let chunk = match pass::read_chunk(&self.spool, dir, name)? {
            Ok(chunk) if chunk.header.job == *job => Arc::new(chunk),
            Ok(_) => {
                self.spool.quarantine_chunk(dir, job, name, "it is another job's", &BTreeMap::new())?;
                return Ok(None);
            }
            Err(reason) => {
                self.spool.quarantine_chunk(dir, job, name, &reason, &BTreeMap::new())?;
                return Ok(None);
            }
        };
        let solo = chunk.header.deaths >= DEATHS_BEFORE_SOLO;
        let recipients = chunk.len() as u16;
        let mut state = self.shared.lock();
        if let Some(why) = &state.broken {
            return Err(SpoolError::damaged(&self.spool.layout.journal(), why.clone()));
        }
        let handle = state.next_handle;
        state.next_handle += 1;
        state.open.insert(handle, Arc::new(OpenChunk::new(job.clone(), name, chunk.clone())));
        let claim = Record::Claim { handle, job: job.clone(), name, recipients };
        self.shared.note(&mut state, 0, |journal| journal.note(&claim));
        self.shared.hurry(&mut state);
        let mine = state.appended;
        let (mut state, synced) = self.shared.wait_synced(state, mine);
        if !synced {
            // never handed out: a claim that did reach the disk is ended by the next recovery
            state.open.remove(&handle);
            let why = state.broken.clone().unwrap_or_else(|| "it isn't synced in time".into());
            return Err(SpoolError::damaged(&self.spool.layout.journal(), why));
        }
        Ok(Some(Claimed { handle, job: job.clone(), chunk, solo }))
    }

    /// Records that these recipients' content, of one chunk or several, is about to go out. Waits while
    /// too much is unsynced.
    pub async fn hand_out(&self, parts: &[(u32, Vec<u16>)]) -> std::result::Result<(), String> {
        if self.try_hand_out(parts)? {
            return Ok(());
        }
        let mut synced = self.shared.synced.subscribe();
        while !self.try_hand_out(parts)? {
            if synced.changed().await.is_err() {
                return Err("the spool is closed".into());
            }
        }
        Ok(())
    }

    /// The same without waiting: false when too much is unsynced. On an error nothing was handed out.
    pub fn try_hand_out(&self, parts: &[(u32, Vec<u16>)]) -> std::result::Result<bool, String> {
        let mut state = self.shared.lock();
        if let Some(why) = &state.broken {
            return Err(why.clone());
        }
        if state.unsynced >= self.shared.unsynced_max {
            self.shared.hurry(&mut state);
            return Ok(false);
        }
        for (handle, indices) in parts {
            let n = indices.len() as u64;
            self.shared.note(&mut state, n, |journal| journal.note_handed(*handle, indices));
        }
        self.shared.flush(&mut state);
        if let Some(why) = &state.broken {
            return Err(why.clone());
        }
        for (handle, indices) in parts {
            let (open, _) = state.open_mut(*handle);
            for &i in indices {
                open.handed[usize::from(i)] = true;
            }
        }
        Ok(true)
    }

    /// Writes what was noted: an infeed has nothing to go on with.
    pub fn flush(&self) {
        self.shared.flush(&mut self.shared.lock());
    }

    /// Why the journal can't be written now, if so.
    pub fn journal_error(&self) -> Option<String> {
        self.shared.lock().broken.clone()
    }

    /// Records the outcomes of recipients of one chunk; `Deferred` ones are settled for this pass.
    pub fn record(&self, handle: u32, outcomes: Vec<(u16, Settled)>) {
        let mut state = self.shared.lock();
        let n = outcomes.len() as u64;
        let broken = state.broken.is_some();
        let (open, journal) = state.open_mut(handle);
        let mut handed = false;
        for (index, mut settled) in outcomes {
            let at = usize::from(index);
            settled.possible_repeat |= open.marked[at];
            // a deferred one that is in doubt as well stays marked in its retry chunk
            open.marked[at] |= settled.possible_repeat;
            handed |= std::mem::take(&mut open.handed[at]);
            if let Some(journal) = journal
                && !broken
            {
                journal.note_outcome(handle, index, &settled);
            }
            open.settled[at] = Some(settled);
        }
        self.shared.note(&mut state, n, |_| ());
        if !handed {
            // no content went out, so perhaps none goes out next either
            self.shared.flush(&mut state);
        }
    }

    /// Takes back recipients of whom it is certain that nothing was delivered.
    pub fn release(&self, handle: u32, indices: &[u16]) {
        let mut state = self.shared.lock();
        let (open, _) = state.open_mut(handle);
        let handed = indices.iter().any(|&i| open.handed[usize::from(i)]);
        for &i in indices {
            open.handed[usize::from(i)] = false;
        }
        if handed {
            let released = Record::Released { handle, indices: indices.to_vec() };
            self.shared.note(&mut state, 0, |journal| journal.note(&released));
            self.shared.flush(&mut state);
        }
    }

    /// Takes back recipients that may have been delivered and are to be sent again.
    pub fn mark(&self, handle: u32, indices: &[u16]) {
        let mut state = self.shared.lock();
        let (open, _) = state.open_mut(handle);
        for &i in indices {
            open.marked[usize::from(i)] = true;
            open.handed[usize::from(i)] = false;
        }
        let mark = Record::Mark { handle, indices: indices.to_vec() };
        let released = Record::Released { handle, indices: indices.to_vec() };
        self.shared.note(&mut state, 0, |journal| {
            journal.note(&mark);
            journal.note(&released);
        });
        self.shared.flush(&mut state);
    }

    /// Ends the pass of a chunk, complete or not: what isn't settled goes into a remainder. Blocks on
    /// the disk; on an error the chunk stays open and this can be called again.
    pub fn finish(&self, handle: u32) -> Result<PassEnd> {
        let open = {
            let state = self.shared.lock();
            let Some(open) = state.open.get(&handle) else { panic!("handle {handle} is not open") };
            assert!(!open.handed.contains(&true), "chunk {} is ended with content in flight", open.name);
            open.clone()
        };
        let dir = lock(&self.index).dir_of(&open.job)?;
        let settled = open.settled.iter().any(Option::is_some);
        let deaths = if settled { 0 } else { open.chunk.header.deaths };
        let ended = pass::end_pass(&self.spool, &dir, &open, deaths, None)?;
        {
            let mut state = self.shared.lock();
            state.open.remove(&handle);
            self.shared.note(&mut state, 0, |journal| journal.note(&Record::Passed { handle }));
        }
        lock(&self.index).passed(&open.job, &ended.children);
        Ok(ended)
    }

    /// The chunks in hand.
    #[cfg(test)]
    pub fn open_handles(&self) -> Vec<u32> {
        self.shared.lock().open.keys().copied().collect()
    }

    /// Ends the ownership in order: nothing may be open. The journal goes.
    pub fn close(mut self) -> Result<()> {
        self.stop_committer();
        let journal = {
            let mut state = self.shared.lock();
            assert!(state.open.is_empty(), "{} chunks are open at the end", state.open.len());
            state.journal.take()
        };
        match journal {
            Some(journal) => journal.close(),
            None => Ok(()),
        }
    }

    fn stop_committer(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_all();
        if let Some(thread) = self.committer.take() {
            assert!(thread.join().is_ok(), "the committer panicked");
        }
    }
}

impl Drop for DirOwner {
    fn drop(&mut self) {
        if self.committer.is_some() {
            self.stop_committer();
        }
    }
}

pub(super) fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}
