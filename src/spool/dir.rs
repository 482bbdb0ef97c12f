//! A spool in a folder: opening and creating one, and reading what it says of its jobs.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use serde::{Deserialize, Serialize};

use super::error::{At, Result, SpoolError};
use super::fs::{self, Fs, RealFs};
use super::id::JobId;
use super::job::{FORMAT, FORMAT_PLAIN, JobMeta, Manifest, Standing, Summary};
use super::journal::boot_id;
use super::layout::{JobDir, JobState, Layout};
use super::watch::JobWatch;

/// A spool in a folder. Cheap to clone.
#[derive(Clone)]
pub struct DirSpool {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) layout: Layout,
    pub(super) settings: Settings,
    /// The kernel's boot id: tells a dead process from a power cut.
    pub(super) boot: String,
    /// Jobs whose folders for results are there, and durable, by what this process has done.
    pub(super) results_dirs: Arc<Mutex<HashSet<PathBuf>>>,
    /// The spool's own folders are durable, by what this process has done.
    pub(super) is_durable: Arc<AtomicBool>,
    /// Told of changes of state.
    pub(super) watch: Option<Arc<dyn JobWatch>>,
}

/// What the spool needs of the configuration; units in the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub chunk_recipients_max: usize,
    pub chunk_bytes_max: usize,
    pub progress_commit_ms: u64,
    pub progress_unsynced_max: u64,
    pub journal_segment_bytes: u64,
    pub free_bytes_min: u64,
    pub free_inodes_min: u64,
    pub again_window_s: u64,
    /// The longest wait before a retry. What is due later than that was put off by a clock that was ahead.
    pub retry_delay_s_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            chunk_recipients_max: super::chunk::CHUNK_RECIPIENTS_MAX,
            chunk_bytes_max: super::chunk::CHUNK_BYTES_MAX,
            progress_commit_ms: 50,
            progress_unsynced_max: 10_000,
            journal_segment_bytes: 16 << 20,
            free_bytes_min: 64 << 20,
            free_inodes_min: 1_000,
            again_window_s: 86_400,
            retry_delay_s_max: 3_600,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SpoolMeta {
    pub format: u32,
    pub uuid: String,
    #[serde(default)]
    pub machine_id: String,
}

impl DirSpool {
    /// Opens the spool at `root`, and creates it when the folder is absent or empty.
    pub fn open(root: &Path, settings: Settings) -> Result<Self> {
        Self::open_on(Arc::new(RealFs), root, settings)
    }

    /// The same on any file system.
    pub fn open_on(fs: Arc<dyn Fs>, root: &Path, settings: Settings) -> Result<Self> {
        let layout = Layout { root: root.to_path_buf() };
        let spool = Self {
            fs,
            layout,
            settings,
            boot: boot_id(),
            results_dirs: Arc::default(),
            is_durable: Arc::default(),
            watch: None,
        };
        check_access(root)?;
        super::doors::check(&spool.layout)?;
        let missing = spool.missing()?;
        spool.fs.create_dir_all(root).at("create", root)?;
        spool.check_file_system()?;
        let path = spool.layout.meta();
        if !spool.fs.exists(&path).at("look at", &path)? {
            spool.check_absent()?;
            spool.create(&missing)?;
        }
        let meta: SpoolMeta = spool.read_toml(&path)?;
        if meta.format > FORMAT_PLAIN {
            return Err(SpoolError::NewerFormat {
                path: spool.layout.root,
                found: meta.format,
                known: FORMAT_PLAIN,
            });
        }
        let here = machine_id();
        if !meta.machine_id.is_empty() && !here.is_empty() && meta.machine_id != here {
            return Err(SpoolError::OtherMachine { path: spool.layout.root });
        }
        // they were all there before `meta.toml` was; but for one that an older infeed didn't know
        for folder in spool.layout.folders() {
            if folder == spool.layout.removed() || folder == spool.layout.recent() {
                spool.ensure_dir(&folder)?;
            } else if !spool.fs.exists(&folder).at("look at", &folder)? {
                let why = "it is missing: was the spool copied incompletely? Put it back from where it was \
                           copied; if it was empty there, make it again";
                return Err(SpoolError::damaged(&folder, why));
            }
        }
        Ok(spool)
    }

    /// Whether there is a spool at `root`. An error where that isn't ours to see, or where there are jobs
    /// without what makes them a spool.
    pub fn exists(root: &Path) -> Result<bool> {
        check_access(root)?;
        let layout = Layout { root: root.to_path_buf() };
        super::doors::check(&layout)?;
        let meta = layout.meta();
        if RealFs.exists(&meta).at("look at", &meta)? {
            return Ok(true);
        }
        let spool = Self {
            fs: Arc::new(RealFs),
            layout,
            settings: Settings::default(),
            boot: String::new(),
            results_dirs: Arc::default(),
            is_durable: Arc::default(),
            watch: None,
        };
        spool.check_absent().map(|()| false)
    }

    /// Where there is no `meta.toml`, there are no jobs either.
    fn check_absent(&self) -> Result<()> {
        for state in JobState::ALL {
            let folder = self.layout.state(state);
            // another process may be making it, and have submitted to it, just now
            if !self.names(&folder)?.is_empty()
                && !self.fs.exists(&self.layout.meta()).at("look at", &folder)?
            {
                let why = format!(
                    "it is missing, and {} holds jobs: was the spool copied incompletely? Put the file back \
                     from where it was copied",
                    folder.display()
                );
                return Err(SpoolError::damaged(&self.layout.meta(), why));
            }
        }
        Ok(())
    }

    /// Takes a spool that was written on another machine as this one's.
    pub fn adopt(root: &Path) -> Result<()> {
        check_access(root)?;
        let layout = Layout { root: root.to_path_buf() };
        super::doors::check(&layout)?;
        let (fs, path) = (RealFs, layout.meta());
        let bytes = fs.read(&path).at("read", &path)?;
        let mut meta: SpoolMeta = parse_toml(&path, &bytes)?;
        meta.machine_id = machine_id();
        fs::replace(&fs, &path, to_toml(&meta).as_bytes()).at("write", &path)
    }

    /// Free space on its file system.
    pub fn space(&self) -> Result<fs::Space> {
        let root = &self.layout.root;
        self.fs.space(root).at("look at the file system of", root)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Jobs in a state, by a listing alone.
    pub fn count(&self, state: JobState) -> Result<u64> {
        Ok(self.list_state(state)?.len() as u64)
    }

    pub fn root(&self) -> &Path {
        &self.layout.root
    }

    /// Every job's id and state. A job that changes state meanwhile is listed once.
    pub(super) fn list_jobs(&self) -> Result<Vec<(JobId, JobState)>> {
        let mut all: Vec<(JobId, JobState)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for state in JobState::ALL {
            for id in self.list_state(state)? {
                if seen.insert(id.clone()) {
                    all.push((id, state));
                }
            }
        }
        all.sort();
        Ok(all)
    }

    pub(super) fn list_state(&self, state: JobState) -> Result<Vec<JobId>> {
        let path = self.layout.state(state);
        let names = self.fs.read_dir(&path).at("list", &path)?;
        Ok(names.iter().filter_map(|n| n.parse().ok()).collect())
    }

    /// Where a job lies now.
    pub fn find(&self, job: &JobId) -> Result<(JobState, JobDir)> {
        // twice: between two looks it may have moved to a folder that was looked at before
        for _ in 0..2 {
            for state in JobState::ALL {
                let dir = self.layout.job(state, job);
                if self.fs.exists(dir.path()).at("look at", dir.path())? {
                    return Ok((state, dir));
                }
            }
        }
        Err(self.not_found(job))
    }

    pub(super) fn meta_of(&self, dir: &JobDir) -> Result<JobMeta> {
        let path = dir.meta();
        let meta: JobMeta = self.read_toml(&path)?;
        if meta.format > FORMAT {
            return Err(SpoolError::NewerFormat { path, found: meta.format, known: FORMAT });
        }
        Ok(meta)
    }

    pub(super) fn standing_of(&self, dir: &JobDir) -> Result<Standing> {
        self.read_optional(&dir.standing()).map(Option::unwrap_or_default)
    }

    pub(super) fn summary_of(&self, dir: &JobDir) -> Result<Option<Summary>> {
        self.read_optional(&dir.summary())
    }

    pub(super) fn manifest_of(&self, dir: &JobDir, meta: &JobMeta) -> Result<Manifest> {
        let path = dir.manifest();
        let bytes = self.fs.read(&path).at("read", &path)?;
        Manifest::decode(&bytes, meta).map_err(|reason| SpoolError::damaged(&path, reason))
    }

    pub(super) fn message_of(&self, dir: &JobDir, meta: &JobMeta) -> Result<Vec<u8>> {
        use sha1::Digest;
        let path = dir.message();
        let bytes = self.fs.read(&path).at("read", &path)?;
        if super::id::hex(&sha1::Sha1::digest(&bytes)) != meta.message_sha1 {
            return Err(SpoolError::damaged(&path, "its SHA-1 is not the one in job.toml"));
        }
        Ok(bytes)
    }

    pub(super) fn read_toml<T: serde::de::DeserializeOwned>(&self, path: &Path) -> Result<T> {
        let bytes = self.fs.read(path).at("read", path)?;
        parse_toml(path, &bytes)
    }

    pub(super) fn read_optional<T: serde::de::DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        match self.read_toml(path) {
            Err(e) if e.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    pub(super) fn replace_toml<T: Serialize>(&self, path: &Path, value: &T) -> Result<()> {
        fs::replace(self.fs.as_ref(), path, to_toml(value).as_bytes()).at("write", path)
    }

    /// The names in a folder, none when it isn't there.
    pub(super) fn names(&self, path: &Path) -> Result<Vec<String>> {
        match self.fs.read_dir(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.at("list", path),
        }
    }

    /// Puts a file aside that can't be read, with the reason beside it.
    pub(super) fn quarantine(&self, path: &Path, job: &JobId, reason: &str) -> Result<PathBuf> {
        let name = path.file_name().map_or_else(|| "file".into(), |n| n.to_string_lossy().into_owned());
        let to = self.layout.quarantine().join(format!("{job}.{name}"));
        let note = format!("from {}\nreason: {reason}\n", path.display());
        fs::replace(self.fs.as_ref(), &to.with_extension("reason"), note.as_bytes()).at("write", &to)?;
        if self.fs.exists(path).at("look at", path)? {
            self.fs.rename(path, &to).at("move to quarantine", path)?;
            self.fs.sync_dir(&self.layout.quarantine()).at("sync", &to)?;
        }
        tracing::error!("{} put aside as {}: {reason}", path.display(), to.display());
        Ok(to)
    }
}

/// A spool is its user's alone: for anybody else there is no use in trying.
fn check_access(root: &Path) -> Result<()> {
    let Ok(metadata) = std::fs::metadata(root) else { return Ok(()) };
    let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    match accessat(CWD, root, wanted, AtFlags::EACCESS) {
        Err(rustix::io::Errno::ACCESS) if metadata.is_dir() => {
            let name = user_name(metadata.uid());
            let owner =
                name.as_ref().map_or_else(|| format!("user {}", metadata.uid()), |n| format!("the user {n}"));
            let user = name.unwrap_or_else(|| format!("'#{}'", metadata.uid()));
            Err(SpoolError::NotOurs { path: root.to_path_buf(), owner, user })
        }
        _ => Ok(()),
    }
}

/// The name of a local user; `None` when /etc/passwd doesn't tell.
fn user_name(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn parse_toml<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(bytes).map_err(|e| SpoolError::damaged(path, e.to_string()))?;
    toml::from_str(text).map_err(|e| SpoolError::damaged(path, e.to_string()))
}

pub(super) fn to_toml<T: Serialize>(value: &T) -> String {
    let text = toml::to_string(value);
    assert!(text.is_ok(), "plain structs are always TOML: {text:?}");
    text.unwrap_or_default()
}

pub(super) fn machine_id() -> String {
    std::fs::read_to_string("/etc/machine-id").map(|s| s.trim().to_owned()).unwrap_or_default()
}
