//! Where things lie in a spool. No other stage knows a path.

use std::path::{Path, PathBuf};

use super::id::{ChunkName, JobId};

/// A job's state is the folder that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Active,
    Paused,
    Cancelled,
    Done,
}

impl JobState {
    pub const ALL: [JobState; 4] = [JobState::Active, JobState::Paused, JobState::Cancelled, JobState::Done];

    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Active => "active",
            JobState::Paused => "paused",
            JobState::Cancelled => "cancelled",
            JobState::Done => "done",
        }
    }
}

/// The paths of one spool.
#[derive(Debug, Clone)]
pub struct Layout {
    pub root: PathBuf,
}

impl Layout {
    pub fn meta(&self) -> PathBuf {
        self.root.join("meta.toml")
    }
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }
    /// Locked by the command whose turn it is to change a job's state.
    pub fn commands(&self) -> PathBuf {
        self.root.join("commands")
    }
    /// There while everything is paused.
    pub fn standstill(&self) -> PathBuf {
        self.root.join("standstill.toml")
    }
    pub fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }
    /// Jobs on their way out: unlinked bit by bit.
    pub fn removed(&self) -> PathBuf {
        self.root.join("removed")
    }
    /// What was submitted lately, by fingerprint.
    pub fn recent(&self) -> PathBuf {
        self.root.join("recent")
    }
    pub fn state(&self, state: JobState) -> PathBuf {
        self.root.join(state.as_str())
    }
    pub fn job(&self, state: JobState, job: &JobId) -> JobDir {
        JobDir(self.state(state).join(job.as_str()))
    }
    /// Every folder of a spool.
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut all = vec![self.incoming(), self.journal(), self.quarantine(), self.recent(), self.removed()];
        all.extend(JobState::ALL.map(|s| self.state(s)));
        all
    }
}

/// The paths of one job.
#[derive(Debug, Clone)]
pub struct JobDir(pub PathBuf);

impl JobDir {
    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn meta(&self) -> PathBuf {
        self.0.join("job.toml")
    }
    pub fn message(&self) -> PathBuf {
        self.0.join("message")
    }
    /// Of a pack: which part of `message`, and which recipients, are whose.
    pub fn members(&self) -> PathBuf {
        self.0.join("members")
    }
    pub fn manifest(&self) -> PathBuf {
        self.0.join("manifest")
    }
    /// The largest domains of each chunk; not in every job.
    pub fn domains(&self) -> PathBuf {
        self.0.join("domains")
    }
    /// What changed after the submission: why it is paused, what was allowed since.
    pub fn standing(&self) -> PathBuf {
        self.0.join("standing.toml")
    }
    pub fn summary(&self) -> PathBuf {
        self.0.join("summary.toml")
    }
    /// Locked, shared, by whoever has a chunk of the job in hand; exclusively by whoever renames it.
    pub fn hold(&self) -> PathBuf {
        self.0.join("hold")
    }
    /// There while somebody wants the job in another state.
    pub fn request(&self) -> PathBuf {
        self.0.join("request")
    }
    pub fn chunks(&self) -> PathBuf {
        self.0.join("chunks")
    }
    pub fn results(&self) -> PathBuf {
        self.0.join("results")
    }
    pub fn chunks_of(&self, xx: u8) -> PathBuf {
        self.chunks().join(format!("{xx:02x}"))
    }
    pub fn results_of(&self, xx: u8) -> PathBuf {
        self.results().join(format!("{xx:02x}"))
    }
    pub fn chunk(&self, name: ChunkName) -> PathBuf {
        self.chunks_of(name.xx()).join(name.to_string())
    }
    /// A retry or a remainder before its parent's results name it.
    pub fn chunk_tmp(&self, name: ChunkName) -> PathBuf {
        self.chunks_of(name.xx()).join(format!("{name}.tmp"))
    }
    pub fn result(&self, name: ChunkName) -> PathBuf {
        self.results_of(name.xx()).join(name.to_string())
    }
}
