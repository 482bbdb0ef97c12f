//! What was submitted lately: the catch against sending the same message to the same list twice.

use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::id::JobId;
use super::job::JobMeta;
use super::layout::JobState;
use crate::clock::{self, Micros, SECOND_US};

#[derive(serde::Serialize, serde::Deserialize)]
struct Note {
    job: String,
    submitted_us: Micros,
    /// Somebody may have got it, and the job is gone.
    #[serde(default)]
    sent: bool,
}

impl DirSpool {
    /// The job of the same fingerprint that was submitted within `again_window_s`, unless it was
    /// cancelled or removed before anybody could get it.
    pub fn submitted_lately(&self, fingerprint: &str) -> Result<Option<(JobId, Micros)>> {
        let path = self.layout.recent().join(fingerprint);
        let Some(note) = self.read_optional::<Note>(&path)? else { return Ok(None) };
        let age = clock::now_us().saturating_sub(note.submitted_us);
        if age > self.settings.again_window_s.saturating_mul(SECOND_US) {
            return Ok(None);
        }
        let job: JobId = note.job.parse()?;
        match self.find(&job) {
            Ok((JobState::Cancelled, _)) if !self.view(&job)?.may_have_reached_somebody() => Ok(None),
            Err(SpoolError::NoSuchJob(_)) if !note.sent => Ok(None),
            Err(SpoolError::NoSuchJob(_)) => Ok(Some((job, note.submitted_us))),
            Ok(_) => Ok(Some((job, note.submitted_us))),
            Err(e) => Err(e),
        }
    }

    /// The job goes, and the catch stays.
    pub(super) fn note_sent(&self, meta: &JobMeta) -> Result<()> {
        if meta.pack.is_some() {
            return Ok(());
        }
        let note = Note { job: meta.id.clone(), submitted_us: meta.submitted_us, sent: true };
        self.replace_toml(&self.layout.recent().join(&meta.fingerprint), &note)
    }

    /// Written before the rename that makes the job: a note without a job means nothing. The catch is
    /// for lists: the small jobs of a pack may well be alike.
    pub(super) fn note_recent(&self, meta: &JobMeta) -> Result<()> {
        if meta.pack.is_some() {
            return Ok(());
        }
        let recent = self.layout.recent();
        let note = Note { job: meta.id.clone(), submitted_us: meta.submitted_us, sent: false };
        self.replace_toml(&recent.join(&meta.fingerprint), &note)?;
        // a few old ones each time: the folder stays small without a long sweep
        for name in self.names(&recent)?.into_iter().take(16) {
            let path = recent.join(&name);
            let old = match self.read_optional::<Note>(&path) {
                Ok(note) => note.is_none_or(|n| {
                    clock::now_us().saturating_sub(n.submitted_us)
                        // kept for a day at least, whatever this command's window is
                        > self.settings.again_window_s.max(86_400).saturating_mul(SECOND_US)
                }),
                Err(SpoolError::Damaged { .. }) => true,
                Err(e) => return Err(e),
            };
            if old
                && let Err(e) = self.fs.remove_file(&path)
                && e.kind() != std::io::ErrorKind::NotFound
            {
                return Err(e).at("remove", &path);
            }
        }
        Ok(())
    }
}
