//! Whether a job is whole: that every chunk, and every retry chunk that results name, is there or has results.
//!
//! A spool that was copied incompletely shows here. Such a job is left alone, with the first file that is missing
//! and what to do; none of its mail goes twice, and none is taken for sent. Errors: [`SpoolError::Damaged`], and
//! those of reading.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use super::error::{Result, SpoolError};
use super::id::{ChunkDigest, ChunkName, JobId};
use super::job::Manifest;
use super::layout::{JobDir, JobState};
use super::owner::DirOwner;
use crate::slice::XxRange;

impl DirOwner {
    /// Looks for what a job of which nothing waits still wants: an error names the first of the retry chunks
    /// that its results name and that isn't there. Reads all its results in the range.
    pub fn find_missing(&self, job: &JobId) -> Result<()> {
        let dir = self.spool.layout.job(JobState::Active, job);
        match self.find_missing_in(&dir) {
            // it has ended, or was paused, meanwhile
            Err(e) if e.is_not_found() => Ok(()),
            found => found,
        }
    }

    fn find_missing_in(&self, dir: &JobDir) -> Result<()> {
        for folder in self.spool.names(&dir.results())? {
            let Ok(xx) = u8::from_str_radix(&folder, 16) else { continue };
            if !self.range.contains(xx) {
                continue;
            }
            let chunks = self.spool.names(&dir.chunks_of(xx))?;
            let chunks: HashSet<ChunkName> =
                chunks.iter().filter_map(|name| ChunkName::parse(name)).collect();
            let results = self.spool.names(&dir.results_of(xx))?;
            let results: HashSet<ChunkName> =
                results.iter().filter_map(|name| ChunkName::parse(name)).collect();
            for &name in &results {
                // one that can't be read counts as quarantined
                let Ok(header) = self.spool.results_header(dir, name)? else { continue };
                let is_there = |name: &ChunkName| chunks.contains(name) || results.contains(name);
                let mut missing = header.children.iter().map(|child| child.name).filter(|n| !is_there(n));
                if let Some(first) = missing.next() {
                    return Err(incomplete(&dir.chunk(first), 1 + missing.count()));
                }
            }
        }
        Ok(())
    }
}

/// Each chunk as submitted is there, or its results are; and none is there as if it had not been passed, beside
/// what was made of it when it was.
pub(super) fn check_whole(
    dir: &JobDir,
    manifest: &Manifest,
    job: &JobId,
    range: XxRange,
    waiting: &BTreeSet<ChunkName>,
    ended: &HashSet<ChunkName>,
) -> Result<()> {
    let ours = |name: &ChunkName| range.contains(name.xx());
    let is_there = |name: &ChunkName| waiting.contains(name) || ended.contains(name);
    let mut missing = manifest.names(job).filter(|name| ours(name) && !is_there(name));
    if let Some(first) = missing.next() {
        return Err(incomplete(&dir.chunk(first), 1 + missing.count()));
    }
    let originals: HashSet<ChunkName> = manifest.names(job).collect();
    let made_since = waiting.iter().chain(ended).filter(|name| !originals.contains(name));
    let families: HashSet<ChunkDigest> = made_since.map(|name| name.digest).collect();
    let mut unpassed = waiting.iter().filter(|n| originals.contains(n) && families.contains(&n.digest));
    match unpassed.next() {
        Some(&first) => Err(incomplete(&dir.result(first), 1 + unpassed.count())),
        None => Ok(()),
    }
}

/// What is missing first, of `n` files.
pub(super) fn incomplete(first: &Path, n: usize) -> SpoolError {
    let reason = format!(
        "it is missing ({n} files of this job are): was the spool copied incompletely? Put the files back from \
         where it was copied, or cancel the job"
    );
    SpoolError::damaged(first, reason)
}
