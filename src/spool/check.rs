//! `spool check`: reads everything, changes nothing, and says what a drain would repair.

use std::collections::HashSet;

use super::dir::DirSpool;
use super::error::{At, Result};
use super::id::{ChunkName, JobId};
use super::journal::read_segment;
use super::layout::{JobDir, JobState};
use super::pass::read_chunk;
use super::results;
use crate::slice::XxRange;

/// What the check found in one place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub path: String,
    pub what: String,
    /// What the next drain does about it by itself; empty when a person has to.
    pub repair: String,
    /// Recipients or records were damaged: not just an unfinished step.
    pub damage: bool,
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    pub jobs: u64,
    pub chunks: u64,
    pub recipients: u64,
    pub results: u64,
    pub journal_segments: u64,
    pub findings: Vec<Finding>,
}

impl Checked {
    pub(super) fn add(
        &mut self,
        path: &std::path::Path,
        what: impl Into<String>,
        repair: &str,
        damage: bool,
    ) {
        self.findings.push(Finding {
            path: path.display().to_string(),
            what: what.into(),
            repair: repair.to_owned(),
            damage,
        });
    }

    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|f| f.damage)
    }
}

impl DirSpool {
    /// Verifies every record of the spool. `progress` is told of each chunk that was read.
    pub fn check(&self, progress: &mut dyn FnMut(&Checked)) -> Result<Checked> {
        let mut out = Checked::default();
        for (job, state) in self.list_jobs()? {
            out.jobs += 1;
            let dir = self.layout.job(state, &job);
            match self.check_job(&job, state, &dir, &mut out, progress) {
                Err(e) if e.is_not_found() && self.find(&job).is_ok_and(|(now, _)| now != state) => {}
                Err(e) => out.add(dir.path(), e.to_string(), "", true),
                Ok(()) => {}
            }
        }
        for name in self.segments()? {
            let path = self.layout.journal().join(name.file_name());
            let Ok(file) = self.fs.open(&path) else { continue };
            out.journal_segments += 1;
            let bad = read_segment(name, &*file, |_| {}).at("read the journal", &path)?;
            if bad.damaged > 0 {
                out.add(&path, format!("{} damaged places", bad.damaged), "they are skipped", true);
            }
            if bad.is_end_torn {
                out.add(&path, "unfinished last record (a crash)", "the next drain drops it", false);
            }
        }
        let open: usize = self.replay(XxRange::ALL)?.values().map(|c| c.len()).sum();
        if open > 0 && self.owners()?.is_empty() {
            let what = format!("a dead owner left {open} chunks open");
            out.add(&self.layout.journal(), what, "the next drain ends their passes", false);
        }
        for name in self.names(&self.layout.incoming())? {
            if !name.ends_with(".lock") {
                let path = self.layout.incoming().join(&name);
                out.add(
                    &path,
                    "a submission that is under way, or was cut short",
                    "swept once nobody writes it",
                    false,
                );
            }
        }
        for name in self.names(&self.layout.removed())? {
            let path = self.layout.removed().join(&name);
            out.add(&path, "a removal is under way, or was cut short", "it goes with the next one", false);
        }
        for name in self.names(&self.layout.quarantine())? {
            if !name.ends_with(".reason") {
                let path = self.layout.quarantine().join(&name);
                out.add(&path, "was put aside; the reason is in the file beside it", "", true);
            }
        }
        Ok(out)
    }

    fn check_job(
        &self,
        job: &JobId,
        state: JobState,
        dir: &JobDir,
        out: &mut Checked,
        progress: &mut dyn FnMut(&Checked),
    ) -> Result<()> {
        let meta = self.meta_of(dir)?;
        match meta.pack {
            Some(_) => self.check_pack(dir, out)?,
            None => drop(self.message_of(dir, &meta)?),
        }
        let manifest = self.manifest_of(dir, &meta)?;
        let family = self.family(dir, job, &meta)?;
        for damage in &family.damage {
            out.add(dir.path(), damage.clone(), "its recipients count as quarantined", true);
        }
        let mut counted = 0;
        for (name, entry) in manifest.names(job).zip(&manifest.chunks) {
            counted += u64::from(entry.recipients);
            self.check_chunk(dir, name, Some(entry.crc32), family.passed.contains_key(&name), out);
            progress(out);
        }
        if counted != meta.recipients {
            let what = format!("the manifest counts {counted} recipients, job.toml {}", meta.recipients);
            out.add(&dir.manifest(), what, "", true);
        }
        if let Ok(bytes) = self.fs.read(&dir.domains())
            && let Err(reason) = super::domains::decode(&bytes)
        {
            out.add(&dir.domains(), reason, "domains are mixed less well without it", false);
        }
        let originals: HashSet<ChunkName> = manifest.names(job).collect();
        for &name in family.passed.keys().chain(family.waiting.keys()).filter(|n| !originals.contains(n)) {
            self.check_chunk(dir, name, None, family.passed.contains_key(&name), out);
            progress(out);
        }
        for &name in family.passed.keys() {
            out.results += 1;
            let path = dir.result(name);
            let bytes = self.fs.read(&path).at("read", &path)?;
            if let Err(reason) = results::decode(&bytes) {
                out.add(&path, reason, "its recipients count as quarantined", true);
            }
        }
        let view = self.view_at(state, dir, job)?;
        if let Err(e) = view.check_sum() {
            out.add(dir.path(), e.to_string(), "", true);
        }
        self.check_strangers(dir, &family.passed.keys().chain(family.waiting.keys()).copied().collect(), out)
    }

    fn check_chunk(
        &self,
        dir: &JobDir,
        name: ChunkName,
        crc32: Option<u32>,
        passed: bool,
        out: &mut Checked,
    ) {
        out.chunks += 1;
        let path = dir.chunk(name);
        let repair = if passed { "" } else { "it is put aside, its recipients count as quarantined" };
        match read_chunk(self, dir, name) {
            Ok(Ok(chunk)) => {
                let bad = (0..chunk.len()).filter(|&i| chunk.recipient(i).is_err()).count();
                out.recipients += chunk.len() as u64;
                if bad > 0 {
                    out.add(
                        &path,
                        format!("{bad} recipients can't be read"),
                        "they count as quarantined",
                        true,
                    );
                } else if crc32.is_some_and(|crc| crc32fast::hash(chunk.bytes()) != crc) {
                    out.add(&path, "its checksum is not the manifest's", repair, true);
                }
            }
            Ok(Err(reason)) => out.add(&path, reason, repair, true),
            Err(_) if self.fs.exists(&dir.chunk_tmp(name)).unwrap_or(false) => {
                out.add(
                    &dir.chunk_tmp(name),
                    "a pass was cut short after its results",
                    "it gets its name",
                    false,
                );
            }
            Err(e) => out.add(&path, e.to_string(), "", true),
        }
    }

    /// Files that belong to no chunk.
    fn check_strangers(&self, dir: &JobDir, known: &HashSet<ChunkName>, out: &mut Checked) -> Result<()> {
        for folder in self.names(&dir.chunks())? {
            let path = dir.chunks().join(&folder);
            for name in self.names(&path)? {
                let tmp = name.strip_suffix(".tmp");
                match ChunkName::parse(tmp.unwrap_or(&name)) {
                    Some(chunk) if known.contains(&chunk) => {}
                    Some(_) if tmp.is_some() => {
                        out.add(&path.join(&name), "left by a pass that was cut short", "it is swept", false);
                    }
                    _ => out.add(&path.join(&name), "no results and no manifest name it", "", true),
                }
            }
        }
        Ok(())
    }
}
