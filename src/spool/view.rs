//! What a job has come to, read from the disk: results, waiting chunks, and the journal's last word.
//!
//! One definition of the counts for every command. Reads only; may run beside an owner, and then tells
//! a moment that was.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::id::{ChunkName, Counts, JobId, Outcome};
use super::job::{JobMeta, OnDoubt, Standing};
use super::layout::{JobDir, JobState};
use super::own;
use super::pass::find_chunk;
use super::replay::{OpenByJob, Replayed};
use super::results::{self, Child, ResultsHeader};
use crate::clock::Micros;
use crate::slice::XxRange;

/// How often a job is looked for that changes its state meanwhile.
const LOOKS_MAX: usize = 20;

/// A job as `jobs` and `job show` tell it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct JobView {
    pub job: JobId,
    pub state: JobState,
    pub meta: JobMeta,
    pub standing: Standing,
    pub counts: Counts,
    /// Chunks whose pass has not ended, with when they are due.
    pub waiting: Vec<Child>,
    /// What could not be read while counting.
    pub damage: Vec<String>,
    /// Of a member: the pack that it is in.
    pub pack: Option<JobId>,
}

/// The chunks of a job: those passed, with their results' headers, and those that wait.
pub(super) struct Family {
    pub passed: HashMap<ChunkName, ResultsHeader>,
    pub waiting: BTreeMap<ChunkName, Child>,
    pub damage: Vec<String>,
}

impl DirSpool {
    /// Every job, in the order of ids. One that can't be read is reported by its error.
    pub fn views(&self) -> Result<Vec<Result<JobView>>> {
        self.views_of(&JobState::ALL)
    }

    /// Every job in one of these states, in the order of ids; the journals are read once for all.
    pub fn views_of(&self, states: &[JobState]) -> Result<Vec<Result<JobView>>> {
        // the journals before the folders: a pass that ends meanwhile is then found in its results
        let mut overlays = self.overlays()?;
        let mut views = Vec::new();
        for (job, state) in self.list_jobs()? {
            if !states.contains(&state) {
                continue;
            }
            let overlay = overlays.remove(&job).unwrap_or_default();
            let dir = self.layout.job(state, &job);
            match self.view_with(state, &dir, &job, &overlay) {
                // renamed while we looked
                Err(e) if e.is_not_found() => match self.view(&job) {
                    Ok(view) if !states.contains(&view.state) => {}
                    // removed
                    Err(SpoolError::NoSuchJob(_)) => {}
                    other => views.push(other),
                },
                other => views.push(other),
            }
        }
        Ok(views)
    }

    /// A job, or one member of a pack.
    pub fn view(&self, job: &JobId) -> Result<JobView> {
        // renamed while we looked, perhaps more than once: then it is looked at again
        let mut looks = LOOKS_MAX;
        loop {
            let (state, dir) = match self.find(job) {
                Err(SpoolError::PackMember { .. }) => return self.member_view(job),
                found => found?,
            };
            let view = self.view_at(state, &dir, job);
            looks -= 1;
            let is_torn = match &view {
                Ok(view) => state == JobState::Paused && view.standing.paused_reason.is_none(),
                Err(e) => e.is_not_found(),
            };
            if !is_torn || looks == 0 {
                return view;
            }
        }
    }

    pub(super) fn view_at(&self, state: JobState, dir: &JobDir, job: &JobId) -> Result<JobView> {
        let overlay = if state == JobState::Done { BTreeMap::new() } else { self.overlay(job)? };
        self.view_with(state, dir, job, &overlay)
    }

    /// The same with what the journals say of the job's open chunks.
    pub(super) fn view_with(
        &self,
        state: JobState,
        dir: &JobDir,
        job: &JobId,
        overlay: &BTreeMap<ChunkName, Replayed>,
    ) -> Result<JobView> {
        let meta = self.meta_of(dir)?;
        let standing = self.standing_of(dir)?.in_state(state);
        if state == JobState::Done
            && let Some(summary) = self.summary_of(dir)?
        {
            let counts = summary.counts();
            let standing = Standing { ended_us: Some(summary.finished_us), ..standing };
            return Ok(JobView {
                job: job.clone(),
                state,
                meta,
                standing,
                counts,
                waiting: vec![],
                damage: vec![],
                pack: None,
            });
        }
        let family = self.family(dir, job, &meta)?;
        let mut counts = Counts::default();
        for header in family.passed.values() {
            counts.merge(&header.counts);
        }
        for child in family.waiting.values() {
            match overlay.get(&child.name) {
                Some(replayed) => {
                    let on_doubt = on_doubt_of(state, &meta);
                    self.count_open(dir, child, replayed, on_doubt, &mut counts)?;
                }
                None => {
                    counts.add(Outcome::Deferred, u64::from(child.deferred));
                    counts.add(Outcome::Pending, u64::from(child.recipients - child.deferred));
                    counts.possible_repeats += u64::from(child.marked);
                }
            }
        }
        if state == JobState::Cancelled {
            for open in [Outcome::Pending, Outcome::Deferred] {
                let n = counts.of(open);
                counts.sub(open, n);
                counts.add(Outcome::Cancelled, n);
            }
        }
        let waiting = family.waiting.into_values().collect();
        let damage = family.damage;
        Ok(JobView { job: job.clone(), state, meta, standing, counts, waiting, damage, pack: None })
    }

    /// What the journals say of this job's open chunks. Of chunks in a running owner's hand nothing is
    /// in doubt yet.
    pub(super) fn overlay(&self, job: &JobId) -> Result<BTreeMap<ChunkName, Replayed>> {
        Ok(self.overlays()?.remove(job).unwrap_or_default())
    }

    /// The same of every job.
    fn overlays(&self) -> Result<OpenByJob> {
        let mut open = self.replay(XxRange::ALL)?;
        if !open.is_empty() {
            let owned = own::owners(&self.layout.locks())?;
            for (name, replayed) in open.values_mut().flatten() {
                if owned.iter().any(|o| o.range.contains(name.xx())) {
                    replayed.handed.clear();
                    replayed.power_cut = false;
                }
            }
        }
        Ok(open)
    }

    fn count_open(
        &self,
        dir: &JobDir,
        child: &Child,
        replayed: &Replayed,
        on_doubt: OnDoubt,
        counts: &mut Counts,
    ) -> Result<()> {
        let chunk = match find_chunk(self, dir, child.name)? {
            Ok(chunk) => chunk,
            Err(_) => {
                counts.add(Outcome::Pending, u64::from(child.recipients));
                return Ok(());
            }
        };
        for i in 0..chunk.len() {
            let (outcome, repeat) = state_of(&chunk, i, Some(replayed), on_doubt);
            counts.add(outcome, 1);
            counts.possible_repeats += u64::from(repeat);
        }
        Ok(())
    }

    /// Lists a job's chunks and results, and reads every results' header.
    pub(super) fn family(&self, dir: &JobDir, job: &JobId, meta: &JobMeta) -> Result<Family> {
        let manifest = self.manifest_of(dir, meta)?;
        let mut family = Family { passed: HashMap::new(), waiting: BTreeMap::new(), damage: Vec::new() };
        let mut known: Vec<Child> = Vec::with_capacity(manifest.chunks.len());
        for (name, entry) in manifest.names(job).zip(&manifest.chunks) {
            known.push(Child { name, recipients: entry.recipients, deferred: 0, marked: 0 });
        }
        let mut results = HashSet::new();
        for folder in self.names(&dir.results())? {
            let path = dir.results().join(&folder);
            results.extend(self.names(&path)?.iter().filter_map(|n| ChunkName::parse(n)));
        }
        while let Some(child) = known.pop() {
            if !results.contains(&child.name) {
                family.waiting.insert(child.name, child);
                continue;
            }
            match self.results_header(dir, child.name)? {
                Ok(header) => {
                    known.extend(header.children.iter().copied());
                    family.passed.insert(child.name, header);
                }
                Err(reason) => {
                    // passed, and nobody knows how: never sent again by itself
                    let mut counts = Counts::default();
                    counts.add(Outcome::Quarantined, u64::from(child.recipients));
                    family.passed.insert(child.name, ResultsHeader { children: vec![], counts });
                    family.damage.push(format!("{}: {reason}", dir.result(child.name).display()));
                }
            }
        }
        Ok(family)
    }

    pub(super) fn results_header(
        &self,
        dir: &JobDir,
        name: ChunkName,
    ) -> Result<std::result::Result<ResultsHeader, String>> {
        let path = dir.result(name);
        let file = self.fs.open(&path).at("open", &path)?;
        // a header with a few children fits; else all of it is read
        let mut head = [0; 1024];
        let n = file.read_at(&mut head, 0).at("read", &path)?;
        if let Ok(header) = results::header(&head[..n]) {
            return Ok(Ok(header));
        }
        let bytes = self.fs.read(&path).at("read", &path)?;
        Ok(results::header(&bytes))
    }

    /// How many jobs, chunks and recipients wait in each of `slices`, and the oldest due time.
    pub fn backlog(&self, slices: u32) -> Result<Vec<SliceBacklog>> {
        let mut all = vec![SliceBacklog::default(); slices as usize];
        for view in self.views_of(&[JobState::Active])?.into_iter().flatten() {
            for child in &view.waiting {
                let slot = &mut all[crate::slice::slice_of(child.name.xx(), slices) as usize];
                slot.chunks += 1;
                slot.recipients += u64::from(child.recipients);
                let due = child.name.due_us;
                slot.oldest_due_us = Some(slot.oldest_due_us.map_or(due, |d| d.min(due)));
            }
        }
        Ok(all)
    }

    /// The jobs that are paused now.
    pub fn paused(&self) -> Result<Vec<JobId>> {
        self.list_state(JobState::Paused)
    }

    /// The ranges that are owned now.
    pub fn owners(&self) -> Result<Vec<own::OwnedRange>> {
        own::owners(&self.layout.locks())
    }
}

/// What waits in a slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SliceBacklog {
    pub chunks: u64,
    pub recipients: u64,
    pub oldest_due_us: Option<u64>,
}

/// Nobody of a cancelled job is sent to again: what may have gone out stays in doubt.
pub(super) fn on_doubt_of(state: JobState, meta: &JobMeta) -> OnDoubt {
    if state == JobState::Cancelled { OnDoubt::Hold } else { meta.on_doubt }
}

/// Where one recipient of an unended pass stands, and whether it may have been sent before.
pub(super) fn state_of(
    chunk: &super::chunk::Chunk,
    i: usize,
    replayed: Option<&Replayed>,
    on_doubt: OnDoubt,
) -> (Outcome, bool) {
    let Ok(record) = chunk.recipient(i) else { return (Outcome::Quarantined, false) };
    let waiting = if record.state.attempts > 0 { Outcome::Deferred } else { Outcome::Pending };
    let Some(replayed) = replayed else { return (waiting, record.state.possible_repeat) };
    let index = i as u16;
    let marked = record.state.possible_repeat || replayed.marked.contains(&index);
    match replayed.settled.get(&index) {
        // put off, and never tried
        Some(s) if s.outcome == Outcome::Deferred && s.attempts == 0 => (Outcome::Pending, marked),
        Some(s) => (s.outcome, marked || s.possible_repeat),
        None if replayed.power_cut || replayed.handed.contains(&index) => match on_doubt {
            OnDoubt::Resend => (waiting, true),
            OnDoubt::Hold => (Outcome::InDoubt, true),
        },
        None => (waiting, marked),
    }
}

impl JobView {
    /// When the first of the deferred recipients are due; `None` when there are none, and once it ended.
    pub fn deferred_due_us(&self) -> Option<Micros> {
        if !matches!(self.state, JobState::Active | JobState::Paused) {
            return None;
        }
        self.waiting.iter().filter(|c| c.deferred > 0).map(|c| c.name.due_us).min()
    }

    /// Somebody may have got it.
    pub fn may_have_reached_somebody(&self) -> bool {
        let reached = [Outcome::Accepted, Outcome::InDoubt].map(|o| self.counts.of(o)).iter().sum::<u64>();
        reached + self.counts.possible_repeats > 0
    }

    /// Fails when the counts don't sum to the job's recipients.
    pub fn check_sum(&self) -> Result<()> {
        if self.counts.total() == self.meta.recipients {
            return Ok(());
        }
        Err(SpoolError::Damaged {
            path: self.job.as_str().into(),
            reason: format!(
                "{} recipients are accounted for, of {}",
                self.counts.total(),
                self.meta.recipients
            ),
        })
    }
}
