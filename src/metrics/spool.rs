//! What waits in the spool, read aside: a scrape takes what was read last.
//!
//! Guarantees: after the first, no scrape waits for the disk; reading takes a hundredth of one core at
//! most, and none while nobody scrapes. What can't be read is logged, and the last figures stay.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::{self, Micros};
use crate::control::{Status, is_the_breakers};
use crate::slice::slice_of;
use crate::spool::{DirSpool, JobState, SpoolError, SpoolSpace};

/// How often it is read, at most.
const READ_EVERY: Duration = Duration::from_secs(5);
/// Reading takes one part of so many of the time.
const PART: u32 = 100;
/// Nobody has scraped for so long: it is not read.
const SCRAPED_LATELY: Duration = Duration::from_secs(150);

/// One look.
#[derive(Debug)]
pub(super) struct Figures {
    pub status: Status,
    /// Recipients in chunks that wait, by slice and priority.
    pub backlog: BTreeMap<(u32, u8), u64>,
    /// Deferred recipients in chunks that are due, and in those that are due later.
    pub retries: (u64, u64),
    /// Jobs that the refusal breaker paused, and others that are paused.
    pub paused: (u64, u64),
    pub space: SpoolSpace,
    pub used_bytes: u64,
    pub inodes: u64,
    pub read_us: Micros,
}

/// Reads a spool now and then.
pub(super) struct Reader {
    spool: DirSpool,
    /// Slices that labels count in.
    slices: u32,
    latest: Mutex<Option<Arc<Figures>>>,
    asked: Mutex<Instant>,
    /// One reads at a time.
    reading: tokio::sync::Mutex<()>,
}

impl Reader {
    pub fn new(spool: DirSpool, slices: u32) -> Arc<Self> {
        Arc::new(Self {
            spool,
            slices,
            latest: Mutex::default(),
            asked: Mutex::new(Instant::now()),
            reading: tokio::sync::Mutex::default(),
        })
    }

    /// What was read last; reads it where nothing was. `None`: it can't be read.
    pub async fn figures(self: &Arc<Self>) -> Option<Arc<Figures>> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if let Some(latest) = self.latest() {
            return Some(latest);
        }
        let _reading = self.reading.lock().await;
        if self.latest().is_none() {
            self.read().await;
        }
        self.latest()
    }

    fn latest(&self) -> Option<Arc<Figures>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read(self: &Arc<Self>) {
        let reader = self.clone();
        let read = tokio::task::spawn_blocking(move || look(&reader.spool, reader.slices)).await;
        match read {
            Ok(Ok(figures)) => {
                *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(figures));
            }
            Ok(Err(e)) => tracing::warn!("the metrics of the spool stay as they were: {e}"),
            Err(e) => tracing::error!("a defect while the spool was read for metrics: {e}"),
        }
    }

    /// Keeps it fresh while somebody scrapes; never ends.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut wait = READ_EVERY;
        loop {
            tokio::time::sleep(wait).await;
            let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.elapsed() < SCRAPED_LATELY {
                let begun = Instant::now();
                let reading = self.reading.lock().await;
                self.read().await;
                drop(reading);
                wait = READ_EVERY.max(begun.elapsed() * PART);
            } else {
                // nobody is told old figures: the next scrape reads
                *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = None;
                wait = READ_EVERY;
            }
        }
    }
}

/// Reads it all; blocks on the disk.
fn look(spool: &DirSpool, slices: u32) -> Result<Figures, SpoolError> {
    let views = spool.views_of(&[JobState::Active, JobState::Paused])?;
    let now = clock::now_us();
    let (mut backlog, mut retries, mut paused) = (BTreeMap::new(), (0, 0), (0, 0));
    for view in views.iter().flatten() {
        if view.state == JobState::Paused {
            let reason = view.standing.paused_reason.as_deref().unwrap_or_default();
            let count = if is_the_breakers(reason) { &mut paused.0 } else { &mut paused.1 };
            *count += 1;
            continue;
        }
        for chunk in &view.waiting {
            let key = (slice_of(chunk.name.xx(), slices), view.meta.priority);
            *backlog.entry(key).or_default() += u64::from(chunk.recipients);
            let due = if chunk.name.due_us > now { &mut retries.1 } else { &mut retries.0 };
            *due += u64::from(chunk.deferred);
        }
    }
    let mut used = (0, 0);
    weigh(spool.root(), &mut used);
    Ok(Figures {
        status: Status::of_views(spool, views)?,
        backlog,
        retries,
        paused,
        space: spool.space()?,
        used_bytes: used.0,
        inodes: used.1,
        read_us: now,
    })
}

/// Adds bytes on disk and inodes of what lies below. Files come and go meanwhile: what is gone is not
/// counted.
fn weigh(folder: &Path, used: &mut (u64, u64)) {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        used.0 += metadata.blocks() * 512;
        used.1 += 1;
        if metadata.is_dir() {
            weigh(&entry.path(), used);
        }
    }
}
