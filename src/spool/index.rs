//! What an owner has to do: the chunks of its range whose pass has not ended, by job.
//!
//! Built once per job from the folders' listings and kept in memory, about 50 bytes a chunk; after
//! that a scan costs one listing of `active/` and one look per job in it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::domains::DomainKey;
use super::error::{At, Result, SpoolError};
use super::hold::Hold;
use super::id::{ChunkDigest, ChunkName, JobId};
use super::job::{JobMeta, Standing};
use super::layout::{JobDir, JobState};
use super::offer::{Offer, Waiting};
use super::owner::{DirOwner, lock};
use super::pass::{Listed, list_chunks};
use super::results::Child;
use super::whole::{check_whole, incomplete};
use crate::clock::{self, Micros, SECOND_US};
use crate::pressure::per_second::PerSecond;
use crate::slice::XxRange;

/// What is left of a chunk untried is named for a time less than this after the chunk's own.
const REMAINDER_US: Micros = 1_000;

pub(super) struct JobIndex {
    range: XxRange,
    jobs: BTreeMap<JobId, Entry>,
    /// Jobs that can't be drained as they lie there, and why: said once.
    unreadable: BTreeMap<JobId, String>,
    /// Jobs that couldn't be recovered at the start.
    left: BTreeSet<JobId>,
    /// Active jobs that are known to be durable.
    durable: BTreeSet<JobId>,
    /// The longest wait before a retry: what is due later was put off by a clock that was ahead.
    retry_delay_s_max: u64,
}

struct Entry {
    dir: JobDir,
    meta: Arc<JobMeta>,
    standing: Standing,
    waiting: BTreeSet<ChunkName>,
    /// The same, by domain.
    offer: Offer,
    /// By how much the job's clock stands ahead, as [`clock::lead_us`] has it.
    lead_us: Micros,
    /// Of them, those that a clock which was ahead put further off than any retry is; and when they are due.
    ahead: (Micros, Vec<ChunkName>),
    /// Those of them whose time has come.
    overdue: BTreeSet<ChunkName>,
    /// Those that were taken in hand since, by family: when their names say that they are due.
    early: HashMap<ChunkDigest, Micros>,
    /// What tells it from a later job of the same id.
    written: Written,
    /// Claimed chunks.
    open: usize,
    hold: Option<Hold>,
    /// Somebody wants the job in another state.
    requested: bool,
}

/// Inode and time of a job's `job.toml`, which is written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Written {
    inode: u64,
    s: i64,
    ns: i64,
}

impl Written {
    fn of(dir: &JobDir) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let found = std::fs::metadata(dir.meta()).ok()?;
        Some(Self { inode: found.ino(), s: found.mtime(), ns: found.mtime_nsec() })
    }
}

/// One active job, as an owner's scan finds it.
#[derive(Debug, Clone)]
pub struct JobDue {
    pub job: JobId,
    pub meta: Arc<JobMeta>,
    pub accept_refusals: bool,
    /// Messages a second, at most.
    pub messages_per_second: Option<PerSecond>,
    /// The hours in which it may be sent; always, if none.
    pub windows: Vec<String>,
    /// Chunks that are due now, not counting those in hand.
    pub due: usize,
    /// Chunks that are due later.
    pub later: usize,
    /// A command waits for its chunks to be let go: claim no more, end what is open.
    pub requested: bool,
    /// By how much the job's clock stands ahead, as [`clock::lead_us`] has it.
    pub lead_us: Micros,
}

impl JobIndex {
    pub fn new(range: XxRange, left: BTreeSet<JobId>, retry_delay_s_max: u64) -> Self {
        let (unreadable, durable) = (BTreeMap::new(), BTreeSet::new());
        Self { range, jobs: BTreeMap::new(), unreadable, left, durable, retry_delay_s_max }
    }

    pub fn dir_of(&self, job: &JobId) -> Result<JobDir> {
        self.jobs.get(job).map(|e| e.dir.clone()).ok_or_else(|| SpoolError::NoSuchJob(job.to_string()))
    }

    /// Takes a chunk out of the waiting ones, and the job's hold with the first.
    pub fn begin(&mut self, job: &JobId, name: ChunkName) -> Result<Option<JobDir>> {
        let Some(entry) = self.jobs.get_mut(job) else { return Ok(None) };
        if entry.requested || !entry.waiting.contains(&name) {
            return Ok(None);
        }
        if entry.hold.is_none() {
            entry.hold = Hold::shared(&entry.dir)?;
        }
        if entry.hold.is_none() {
            return Ok(None);
        }
        entry.waiting.remove(&name);
        if entry.overdue.remove(&name) {
            entry.early.insert(name.digest, name.due_us);
        }
        entry.offer.remove(name);
        entry.open += 1;
        Ok(Some(entry.dir.clone()))
    }

    /// A claimed chunk was let go, and these wait instead.
    pub fn passed(&mut self, job: &JobId, children: &[Child]) {
        self.let_go(job, children.iter().map(|c| (c.name, Some(c.recipients))));
    }

    /// A chunk that could not be claimed waits again, or was put aside.
    pub fn unclaimed(&mut self, job: &JobId, name: Option<ChunkName>) {
        self.let_go(job, name.into_iter().map(|name| (name, None)));
    }

    fn let_go(&mut self, job: &JobId, waiting: impl Iterator<Item = (ChunkName, Option<u16>)>) {
        let range = self.range;
        let Some(entry) = self.jobs.get_mut(job) else { panic!("job {job} is not in the index") };
        assert!(entry.open > 0, "job {job} has no chunk in hand");
        entry.open -= 1;
        if entry.open == 0 {
            entry.hold = None;
        }
        for (name, recipients) in waiting.filter(|(name, _)| range.contains(name.xx())) {
            entry.waiting.insert(name);
            entry.offer.insert(name, recipients);
            // itself, or what is left of it untried: due already, whatever its name says
            let taken_us = entry.early.get(&name.digest);
            if taken_us.is_some_and(|&due_us| (due_us..due_us + REMAINDER_US).contains(&name.due_us)) {
                entry.overdue.insert(name);
                entry.offer.release(name);
            }
        }
    }

    fn first_due(&self, job: &JobId) -> Option<ChunkName> {
        let entry = self.jobs.get(job)?;
        let now = entry.now();
        let due = entry.waiting.first().filter(|n| n.due_us <= now);
        due.or(entry.overdue.first()).copied().filter(|_| !entry.requested)
    }
}

impl Entry {
    /// The time by which the job's chunks are due.
    fn now(&self) -> Micros {
        clock::steady_us() + self.lead_us
    }

    /// Chunks that a clock put too far off are due when the longest wait is over.
    fn release(&mut self) {
        if !self.ahead.1.is_empty() && self.ahead.0 <= self.now() {
            for name in std::mem::take(&mut self.ahead.1) {
                if self.waiting.contains(&name) {
                    self.overdue.insert(name);
                    self.offer.release(name);
                }
            }
        }
    }
}

impl DirOwner {
    /// What there is to do. Finds new jobs, jobs that are gone, and requests. Blocks on the disk.
    pub fn scan(&self) -> Result<Vec<JobDue>> {
        let active: BTreeSet<JobId> = self.spool.list_state(JobState::Active)?.into_iter().collect();
        let mut index = lock(&self.index);
        // one that was removed, and submitted anew under its key, is another one
        index.jobs.retain(|id, e| {
            e.open > 0
                || active.contains(id) && Written::of(&e.dir).is_none_or(|written| written == e.written)
        });
        index.durable.retain(|job| active.contains(job));
        if active.iter().any(|job| !index.durable.contains(job)) {
            // whoever submitted it may have died before it was durable, and what is sent is to be known
            self.spool.sync_state(JobState::Active)?;
            index.durable.extend(active.iter().cloned());
        }
        for job in &active {
            if let Some(entry) = index.jobs.get_mut(job) {
                entry.release();
                let request = entry.dir.request();
                entry.requested = self.spool.fs.exists(&request).at("look at", &request)?;
                // `job resume --accept-refusals` may come at any time; most jobs have no such file
                match self.spool.standing_of(&entry.dir) {
                    Ok(standing) => entry.standing = standing,
                    Err(e) => tracing::error!("job {job} keeps its standing: {e}"),
                }
                continue;
            }
            if index.left.contains(job) {
                let why = "what was sent of it before the last death couldn't be read at the start: once it can, \
                           start this again";
                index.unreadable.insert(job.clone(), why.to_owned());
                continue;
            }
            match self.load(job, index.range, index.retry_delay_s_max) {
                Ok(Some(entry)) => {
                    index.unreadable.remove(job);
                    index.jobs.insert(job.clone(), entry);
                }
                Ok(None) => {}
                // it has ended, or was paused, since it was listed
                Err(e) if e.is_not_found() && !self.is_active(job)? => {}
                Err(e) => {
                    let why = e.to_string();
                    if index.unreadable.insert(job.clone(), why.clone()).as_ref() != Some(&why) {
                        tracing::error!("job {job} is left alone: {why}");
                    }
                }
            }
        }
        index.unreadable.retain(|job, _| active.contains(job));
        Ok(index.jobs.iter().map(|(job, e)| due_of(job, e)).collect())
    }

    fn is_active(&self, job: &JobId) -> Result<bool> {
        let dir = self.spool.layout.job(JobState::Active, job);
        self.spool.fs.exists(dir.path()).at("look at", dir.path())
    }

    /// Jobs that can't be drained as they lie there, by the last scan, and why.
    pub fn unreadable(&self) -> Vec<(JobId, String)> {
        lock(&self.index).unreadable.iter().map(|(job, why)| (job.clone(), why.clone())).collect()
    }

    fn load(&self, job: &JobId, range: XxRange, retry_delay_s_max: u64) -> Result<Option<Entry>> {
        let dir = self.spool.layout.job(JobState::Active, job);
        // nobody renames it while its folders are listed, and children get their names
        let Some(_hold) = Hold::shared(&dir)? else {
            let hold = dir.hold();
            return match self.spool.fs.exists(&hold).at("look at", &hold)? || !self.is_active(job)? {
                true => Ok(None),
                false => Err(incomplete(&hold, 1)),
            };
        };
        let written = Written::of(&dir).unwrap_or_default();
        let meta = Arc::new(self.spool.meta_of(&dir)?);
        let standing = self.spool.standing_of(&dir)?;
        let (mut waiting, mut ended) = (BTreeSet::new(), HashSet::new());
        for folder in self.spool.names(&dir.chunks())? {
            let Ok(xx) = u8::from_str_radix(&folder, 16) else { continue };
            if range.contains(xx) {
                let Listed { live, results } = list_chunks(&self.spool, &dir, xx)?;
                waiting.extend(live);
                ended.extend(results);
            }
        }
        let results = dir.results();
        if !self.spool.fs.exists(&results).at("look at", &results)? {
            return Err(incomplete(&results, 1));
        }
        match self.spool.manifest_of(&dir, &meta) {
            Ok(manifest) => check_whole(&dir, &manifest, job, range, &waiting, &ended)?,
            // chunks know their own damage
            Err(e @ SpoolError::Damaged { .. }) => {
                tracing::warn!("{e}; whether chunks of job {job} are missing can't be told");
            }
            Err(e) => return Err(e),
        }
        let compositions = if waiting.len() > 1 { self.spool.domains_of(&dir, &meta)? } else { None };
        let mut offer = Offer::new(job, meta.submitted_us, compositions.unwrap_or_default());
        waiting.iter().for_each(|&name| offer.insert(name, None));
        let delay_us_max = retry_delay_s_max.saturating_mul(SECOND_US);
        let (lead_us, wait_us_max) = (clock::lead_us(meta.submitted_us), delay_us_max / 10 * 11 + SECOND_US);
        let due_max = (clock::steady_us() + lead_us).saturating_add(wait_us_max);
        let ahead: Vec<ChunkName> =
            waiting.iter().rev().take_while(|n| n.due_us > due_max).copied().collect();
        if !ahead.is_empty() {
            let n = ahead.len();
            tracing::warn!(
                "job {job}: {n} chunks are due later than any retry: the clock was ahead when they were put off, or \
                 retry.delay_s_max was larger; they are tried after the longest wait from now"
            );
        }
        let request = dir.request();
        let requested = self.spool.fs.exists(&request).at("look at", &request)?;
        Ok(Some(Entry {
            dir,
            meta,
            standing,
            waiting,
            offer,
            lead_us,
            ahead: (due_max, ahead),
            overdue: BTreeSet::new(),
            early: HashMap::new(),
            written,
            open: 0,
            hold: None,
            requested,
        }))
    }

    /// The longest wait before a retry, from now on; jobs that were found before keep what was judged by another.
    pub fn set_retry_delay_s_max(&self, retry_delay_s_max: u64) {
        lock(&self.index).retry_delay_s_max = retry_delay_s_max;
    }

    /// The next chunk of a job that is due, first due first.
    pub fn next_due(&self, job: &JobId) -> Option<ChunkName> {
        lock(&self.index).first_due(job)
    }

    /// What of a job is due, by domain.
    pub fn waiting(&self, job: &JobId) -> Waiting {
        let mut index = lock(&self.index);
        let entry = index.jobs.get_mut(job).filter(|e| !e.requested);
        entry.map_or_else(Waiting::default, |e| e.offer.waiting(e.now()))
    }

    /// The next chunk of a job that is due, of those that hold most of one domain.
    pub fn next_due_of(&self, job: &JobId, class: DomainKey) -> Option<ChunkName> {
        let mut index = lock(&self.index);
        let entry = index.jobs.get_mut(job).filter(|e| !e.requested)?;
        entry.offer.next_of(class, entry.now())
    }

    /// Chunks of the job that wait, due or not, and those in hand.
    pub fn outstanding(&self, job: &JobId) -> (usize, usize) {
        lock(&self.index).jobs.get(job).map_or((0, 0), |e| (e.waiting.len(), e.open))
    }

    /// Recipients that wait in the range, by job; chunks in hand are not counted. Costs a digest per
    /// chunk of the jobs, and one read per retry chunk.
    pub fn waiting_recipients(&self) -> Result<Vec<(JobId, u64)>> {
        let index = lock(&self.index);
        let mut all = Vec::with_capacity(index.jobs.len());
        for (job, entry) in &index.jobs {
            let manifest = match self.spool.manifest_of(&entry.dir, &entry.meta) {
                Ok(manifest) => manifest,
                // it ended, or was paused, since the last scan
                Err(e) if e.is_not_found() => continue,
                Err(e) => {
                    tracing::error!("{e}");
                    continue;
                }
            };
            let (mut recipients, mut originals) = (0, 0);
            for (name, chunk) in manifest.names(job).zip(&manifest.chunks) {
                if entry.waiting.contains(&name) {
                    recipients += u64::from(chunk.recipients);
                    originals += 1;
                }
            }
            if originals < entry.waiting.len() {
                // every original has the job's own due time
                for &name in entry.waiting.iter().filter(|n| n.due_us != entry.meta.submitted_us) {
                    recipients += match super::pass::read_chunk(&self.spool, &entry.dir, name) {
                        Ok(Ok(chunk)) => chunk.len() as u64,
                        // at least one: it is not the end
                        Ok(Err(_)) | Err(_) => 1,
                    };
                }
            }
            all.push((job.clone(), recipients));
        }
        Ok(all)
    }

    /// The stored message of a job.
    pub fn message(&self, job: &JobId) -> Result<Vec<u8>> {
        let dir = lock(&self.index).dir_of(job)?;
        let meta = self.spool.meta_of(&dir)?;
        self.spool.message_of(&dir, &meta)
    }
}

fn due_of(job: &JobId, e: &Entry) -> JobDue {
    let now = e.now();
    let due = e.waiting.iter().take_while(|n| n.due_us <= now).count()
        + e.overdue.iter().filter(|n| n.due_us > now).count();
    JobDue {
        job: job.clone(),
        meta: e.meta.clone(),
        accept_refusals: e.meta.accept_refusals || e.standing.accept_refusals,
        messages_per_second: e.standing.rate(&e.meta),
        windows: e.standing.windows(&e.meta).to_vec(),
        due,
        later: e.waiting.len() - due,
        requested: e.requested,
        lead_us: e.lead_us,
    }
}
