//! Recovery: what a dead owner had in hand is brought to a state that needs no journal.
//!
//! Every open pass is ended: settled recipients get their results, the rest a remainder chunk in which
//! those that may have been sent are marked (or, under `on_doubt = hold`, are `in_doubt` for good).
//! It can be cut short at any point and run again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::chunk::DEATHS_BEFORE_SOLO;
use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::hold::{Hold, Turn};
use super::id::{ChunkName, JobId, Outcome};
use super::job::{JobMeta, OnDoubt};
use super::journal::OpenChunk;
use super::layout::{JobDir, JobState};
use super::pass::{complete, end_pass, list_chunks, read_chunk};
use super::replay::Replayed;
use super::results::Settled;
use crate::clock;
use crate::slice::XxRange;

/// How long a command that renames the job is waited for.
const HOLD_WAIT: Duration = Duration::from_secs(10);

/// What recovery did, for the log and the summary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    pub chunks: u64,
    pub settled: u64,
    /// Recipients marked as possible repeats, or held in doubt.
    pub doubtful: u64,
    pub quarantined: u64,
}

impl DirSpool {
    /// Ends every pass that a dead owner left open in the range, then unlinks the journals that nobody
    /// needs any more. Only for the owner of the range. Gives the jobs that it had to leave: until the next
    /// start nothing of them may be sent, for what was sent is in the journal alone.
    pub(super) fn recover(&self, range: XxRange) -> Result<(Recovered, BTreeSet<JobId>)> {
        let mut did = Recovered::default();
        let mut left = BTreeSet::new();
        for (job, chunks) in self.replay(range)? {
            // no command renames the job while this is held
            let Some((state, dir, _hold)) = self.hold_where_it_is(&job)? else { continue };
            let mut meta = match self.meta_of(&dir) {
                Ok(meta) => meta,
                Err(e) if e.is_of_one_job() => {
                    // its journal stays, the other jobs go on
                    tracing::error!("job {job} is left as it is until the next start: {e}");
                    left.insert(job);
                    continue;
                }
                Err(e) => return Err(e),
            };
            if state == JobState::Cancelled {
                // nobody sends to them again: what may have gone out is in doubt for good
                meta.on_doubt = OnDoubt::Hold;
            }
            for (name, replayed) in chunks {
                // its journal goes: from then on the results alone say what was sent, so they must be on disk
                match complete(self, &dir, name) {
                    Ok(Some(_)) => continue,
                    Ok(None) => {}
                    Err(e @ SpoolError::Damaged { .. }) => {
                        tracing::error!("{e}: its recipients count as quarantined");
                        continue;
                    }
                    Err(e) => return Err(e),
                }
                let chunk = dir.chunk(name);
                if !self.fs.exists(&chunk).at("look at", &chunk)? {
                    // should it come back, what was sent of it is in the journal, which stays
                    tracing::error!(
                        "{} is gone, and was in hand: job {job} is left as it is until the next start",
                        chunk.display()
                    );
                    left.insert(job.clone());
                    continue;
                }
                self.recover_chunk(&job, &meta, &dir, name, &replayed, &mut did)?;
            }
        }
        self.unlink_resolved(range)?;
        if did.chunks > 0 {
            tracing::info!(
                "recovered {} chunks of a dead owner: {} outcomes kept, {} recipients in doubt",
                did.chunks,
                did.settled,
                did.doubtful
            );
        }
        Ok((did, left))
    }

    /// Holds a job in the state that it is in, whatever commands make of it meanwhile; `None` when it is gone.
    fn hold_where_it_is(&self, job: &JobId) -> Result<Option<(JobState, JobDir, Hold)>> {
        let until = Instant::now() + HOLD_WAIT;
        loop {
            let Some((state, dir)) = self.find_surely(job)? else { return Ok(None) };
            if let Some(hold) = Hold::shared(&dir)? {
                return Ok(Some((state, dir, hold)));
            }
            if Instant::now() > until {
                return Err(SpoolError::Busy { job: job.to_string(), seconds: HOLD_WAIT.as_secs() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where a job is; `None` when it is nowhere.
    fn find_surely(&self, job: &JobId) -> Result<Option<(JobState, JobDir)>> {
        match self.find(job) {
            Err(SpoolError::NoSuchJob(_)) => {}
            found => return found.map(Some),
        }
        // it may have moved from place to place while it was looked for: nobody moves it now
        let _turn = Turn::take(&self.layout.commands())?;
        match self.find(job) {
            Err(SpoolError::NoSuchJob(_)) => Ok(None),
            found => found.map(Some),
        }
    }

    fn recover_chunk(
        &self,
        job: &JobId,
        meta: &JobMeta,
        dir: &JobDir,
        name: ChunkName,
        replayed: &Replayed,
        did: &mut Recovered,
    ) -> Result<()> {
        // an older pass of the same family may have been cut short before its children had their names
        list_chunks(self, dir, name.xx())?;
        let chunk = match read_chunk(self, dir, name) {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(reason)) => return self.quarantine_chunk(dir, job, name, &reason, &replayed.settled),
            Err(e) => return Err(e),
        };
        let mut open = OpenChunk::new(job.clone(), name, chunk.into());
        let n = open.chunk.len() as u16;
        for (&i, s) in replayed.settled.iter().filter(|(i, _)| **i < n) {
            open.settled[usize::from(i)] = Some(s.clone());
        }
        for &i in replayed.marked.iter().filter(|i| **i < n) {
            open.marked[usize::from(i)] = true;
        }
        let deaths = if replayed.settled.is_empty() { open.chunk.header.deaths.saturating_add(1) } else { 0 };
        let solo = open.chunk.header.deaths >= DEATHS_BEFORE_SOLO && replayed.handed.len() == 1;
        let solo_died = replayed.handed.first().copied().filter(|_| solo);
        let now = clock::now_us();
        for i in 0..n {
            let at = usize::from(i);
            if open.settled[at].is_some() || !(replayed.power_cut || replayed.handed.contains(&i)) {
                continue;
            }
            did.doubtful += 1;
            open.marked[at] = true;
            let attempts = open.chunk.recipient(at).map_or(0, |r| r.state.attempts);
            let solo_deaths = open.chunk.recipient(at).map_or(0, |r| r.state.solo_deaths);
            if meta.on_doubt == OnDoubt::Hold {
                let why = if replayed.power_cut {
                    "the machine went down with it in hand"
                } else {
                    "the process died with it in hand"
                };
                open.settled[at] =
                    Some(Settled::local(Outcome::InDoubt, attempts.saturating_add(1), now, why));
            } else if solo_died == Some(i) && solo_deaths + 1 >= DEATHS_BEFORE_SOLO {
                let why =
                    format!("the process died {} times with this recipient alone in hand", solo_deaths + 1);
                open.settled[at] = Some(Settled::local(Outcome::Quarantined, attempts, now, why));
                did.quarantined += 1;
            }
        }
        did.chunks += 1;
        did.settled += replayed.settled.len() as u64;
        end_pass(self, dir, &open, deaths, solo_died).map(drop)
    }

    /// Unlinks segments of dead owners in which every claim has its results.
    fn unlink_resolved(&self, range: XxRange) -> Result<()> {
        for name in self.segments()? {
            if !name.range.overlaps(range) {
                continue;
            }
            // it may reach beyond this range, or hold claims of a job that can't be read now
            if !self.claims_resolved(name.range)? {
                continue;
            }
            let path = self.layout.journal().join(name.file_name());
            match self.fs.remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).at("remove", &path),
                _ => {}
            }
        }
        Ok(())
    }

    fn claims_resolved(&self, range: XxRange) -> Result<bool> {
        for (job, chunks) in self.replay(range)? {
            let Some((_, dir)) = self.find_surely(&job)? else { continue };
            for name in chunks.into_keys() {
                let result = dir.result(name);
                if !self.fs.exists(&result).at("look at", &result)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
