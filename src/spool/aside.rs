//! Chunks that can't be read: put aside, their recipients accounted for as quarantined. Errors: those of the disk.

use std::collections::BTreeMap;

use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::id::{ChunkName, JobId, Outcome};
use super::layout::JobDir;
use super::results::{self, Settled};
use crate::clock;

impl DirSpool {
    /// Puts a chunk aside that can't be read; its recipients count as quarantined from now on.
    pub(super) fn quarantine_chunk(
        &self,
        dir: &JobDir,
        job: &JobId,
        name: ChunkName,
        reason: &str,
        settled: &BTreeMap<u16, Settled>,
    ) -> Result<()> {
        let recipients = self.recipients_of(dir, job, name)?;
        let now = clock::now_us();
        let lost = Settled::local(Outcome::Quarantined, 0, now, format!("its chunk can't be read: {reason}"));
        // what is known of some of them is kept
        let known = |i: &u16| settled.get(i).filter(|s| s.outcome.is_final());
        let (bytes, _) = results::encode(&[], (0..recipients).map(|i| (i, known(&i).unwrap_or(&lost))));
        self.ensure_result_dirs(dir, name.xx())?;
        // the results first: its recipients are accounted for at every moment; a death before the move
        // leaves the file where it was, which harms nobody
        let result = dir.result(name);
        super::fs::replace(self.fs.as_ref(), &result, &bytes).at("write", &result)?;
        if let Err(e) = self.quarantine(&dir.chunk(name), job, reason) {
            tracing::error!("{e}");
        }
        Ok(())
    }

    /// How many recipients a chunk held, by the manifest or by its parent's results.
    pub(super) fn recipients_of(&self, dir: &JobDir, job: &JobId, name: ChunkName) -> Result<u16> {
        let meta = self.meta_of(dir)?;
        let manifest = self.manifest_of(dir, &meta)?;
        if let Some((_, entry)) = manifest.names(job).zip(&manifest.chunks).find(|(found, _)| *found == name)
        {
            return Ok(entry.recipients);
        }
        for result in self.names(&dir.results_of(name.xx()))?.iter().filter_map(|n| ChunkName::parse(n)) {
            if result.digest != name.digest {
                continue;
            }
            let path = dir.result(result);
            let bytes = self.fs.read(&path).at("read", &path)?;
            if let Ok(header) = results::header(&bytes)
                && let Some(child) = header.children.iter().find(|c| c.name == name)
            {
                return Ok(child.recipients);
            }
        }
        Err(SpoolError::damaged(&dir.chunk(name), "nothing says how many recipients it held"))
    }
}
