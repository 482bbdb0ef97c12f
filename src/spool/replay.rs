//! What the journals say of chunks whose pass has not ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::dir::DirSpool;
use super::error::{At, Result};
use super::id::{ChunkName, JobId};
use super::journal::{Record, SegmentName, read_segment};
use super::results::Settled;
use crate::slice::XxRange;

/// One chunk's state by the journals.
#[derive(Debug, Clone, Default)]
pub struct Replayed {
    pub recipients: u16,
    pub settled: BTreeMap<u16, Settled>,
    /// Content may have gone out, no outcome is known.
    pub handed: BTreeSet<u16>,
    pub marked: BTreeSet<u16>,
    /// Claimed before the last boot and not closed: the journal's tail may have been lost.
    pub power_cut: bool,
}

/// Open chunks by job and name.
pub type OpenByJob = HashMap<JobId, BTreeMap<ChunkName, Replayed>>;

impl DirSpool {
    /// The journal's segments, oldest first.
    pub(super) fn segments(&self) -> Result<Vec<SegmentName>> {
        let mut all: Vec<_> =
            self.names(&self.layout.journal())?.iter().filter_map(|n| SegmentName::parse(n)).collect();
        all.sort_by_key(|s| (s.epoch, s.segment));
        Ok(all)
    }

    /// Reads every journal that overlaps the range. Writes nothing.
    pub(super) fn replay(&self, range: XxRange) -> Result<OpenByJob> {
        let mut open = OpenByJob::new();
        // a handle belongs to its epoch
        let mut handles: HashMap<(u32, u32), (JobId, ChunkName)> = HashMap::new();
        for name in self.segments()?.into_iter().filter(|s| s.range.overlaps(range)) {
            let path = self.layout.journal().join(name.file_name());
            let file = match self.fs.open(&path) {
                // a running owner rotates, or another has just finished with it
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.at("read the journal", &path)?,
            };
            let mut rebooted = false;
            let bad = read_segment(name, &*file, |record| {
                apply(record, name.epoch, &self.boot, &mut rebooted, &mut handles, &mut open);
            })
            .at("read the journal", &path)?;
            if bad.damaged > 0 {
                tracing::warn!("{}: {} damaged places skipped", path.display(), bad.damaged);
            }
        }
        open.retain(|_, chunks| {
            chunks.retain(|name, _| range.contains(name.xx()));
            !chunks.is_empty()
        });
        Ok(open)
    }
}

fn apply(
    record: Record,
    epoch: u32,
    boot_now: &str,
    rebooted: &mut bool,
    handles: &mut HashMap<(u32, u32), (JobId, ChunkName)>,
    open: &mut OpenByJob,
) {
    let mut with = |handle: u32, f: &mut dyn FnMut(&mut Replayed)| {
        if let Some((job, name)) = handles.get(&(epoch, handle))
            && let Some(chunk) = open.get_mut(job).and_then(|c| c.get_mut(name))
        {
            f(chunk);
        }
    };
    match record {
        Record::Segment { boot } => *rebooted = boot != boot_now,
        Record::Claim { handle, job, name, recipients } => {
            let chunk = open.entry(job.clone()).or_default().entry(name).or_default();
            chunk.recipients = recipients;
            chunk.power_cut |= *rebooted;
            handles.insert((epoch, handle), (job, name));
        }
        Record::Handed { handle, indices } => with(handle, &mut |c| {
            let unsettled = indices.iter().filter(|i| !c.settled.contains_key(i));
            c.handed.extend(unsettled.copied().collect::<Vec<_>>());
        }),
        Record::Released { handle, indices } => {
            with(handle, &mut |c| c.handed.retain(|i| !indices.contains(i)))
        }
        Record::Mark { handle, indices } => with(handle, &mut |c| c.marked.extend(&indices)),
        Record::Outcome { handle, index, settled } => with(handle, &mut |c| {
            c.handed.remove(&index);
            c.settled.insert(index, settled.clone());
        }),
        Record::Passed { handle } => {
            if let Some((job, name)) = handles.remove(&(epoch, handle))
                && let Some(chunks) = open.get_mut(&job)
            {
                chunks.remove(&name);
            }
        }
        // an orderly end: whatever was open had its pass ended before
        Record::Close => handles.retain(|(e, _), _| *e != epoch),
    }
}
