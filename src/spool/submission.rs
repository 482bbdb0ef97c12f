//! A job being written: all or nothing.
//!
//! It grows in `incoming/<job>/` under a kernel lock; one rename makes it a job. A writer that dies
//! leaves a folder that nobody locks, which the next one sweeps. Runs on a blocking thread.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use super::chunk::{Chunk, ChunkHeader, ChunkWriter, RecipientState, check_size};
use super::dir::DirSpool;
use super::domains::{self, Composition, DomainTally};
use super::error::{At, Result, SpoolError};
use super::fs::{self, Fs};
use super::hold::Hold;
use super::id::{ChunkDigest, ChunkName, JobId};
use super::job::{JobMeta, Manifest, ManifestEntry};
use super::layout::{JobDir, JobState};
use crate::clock::{self, Micros};

/// Threads that write and sync chunks behind the reader of the list.
const WRITERS: usize = 2;

/// What `begin` finds.
pub enum Begin {
    New(Box<Submission>),
    /// `--id` names a job that is there already.
    Exists(JobId, JobState),
}

/// A submission under way. Dropping it leaves nothing.
pub struct Submission {
    spool: DirSpool,
    id: JobId,
    dir: JobDir,
    lock: IncomingLock,
    submitted_us: Micros,
    writer: ChunkWriter,
    /// The first ordinal of each finished chunk.
    starts: Vec<u32>,
    manifest: Manifest,
    /// Domains of the chunk that is being written, and of each finished one.
    tally: DomainTally,
    domains: Vec<Composition>,
    recipients: u64,
    folders: HashSet<u8>,
    pool: Option<WriterPool>,
    look_back: Option<(u32, Chunk)>,
    /// Of a pack: the file that tells its members apart.
    members: Option<Vec<u8>>,
    committed: bool,
}

impl DirSpool {
    /// Begins a submission; `key` is `--id`.
    pub fn begin(&self, key: Option<&str>) -> Result<Begin> {
        self.ensure_durable()?;
        self.sweep_incoming()?;
        self.preflight(0)?;
        loop {
            let id = key.map_or_else(JobId::generate, JobId::from_key);
            let Some(lock) = IncomingLock::take(&self.layout.incoming(), &id)? else {
                if key.is_some() {
                    return Err(SpoolError::SubmitUnderWay(id.to_string()));
                }
                continue;
            };
            match self.find(&id) {
                Ok((state, _)) if key.is_some() => {
                    // whoever submitted it may have died before it was durable
                    self.sync_state(state)?;
                    return Ok(Begin::Exists(id, state));
                }
                Ok(_) => continue,
                Err(SpoolError::NoSuchJob(_)) => {}
                Err(SpoolError::PackMember { .. }) => {
                    // there is such a job: what is submitted under its id is compared with it
                    let state = self.view(&id)?.state;
                    return Ok(Begin::Exists(id, state));
                }
                Err(e) => return Err(e),
            }
            let dir = JobDir(self.layout.incoming().join(id.as_str()));
            if self.fs.exists(dir.path()).at("look at", dir.path())? {
                // its writer is dead: we hold its lock
                self.fs.remove_dir_all(dir.path()).at("remove", dir.path())?;
            }
            for folder in [dir.0.clone(), dir.chunks(), dir.results()] {
                self.fs.create_dir(&folder).at("create", &folder)?;
            }
            return Ok(Begin::New(Box::new(Submission {
                spool: self.clone(),
                pool: Some(WriterPool::start(self.fs.clone())),
                id,
                dir,
                lock,
                submitted_us: clock::now_us(),
                writer: ChunkWriter::default(),
                starts: Vec::new(),
                manifest: Manifest::default(),
                tally: DomainTally::default(),
                domains: Vec::new(),
                recipients: 0,
                folders: HashSet::new(),
                look_back: None,
                members: None,
                committed: false,
            })));
        }
    }

    /// Removes what dead submits left, and a part of what removals did.
    pub(super) fn sweep_incoming(&self) -> Result<()> {
        self.sweep_removed()?;
        let incoming = self.layout.incoming();
        let left = self.names(&incoming)?;
        if !left.is_empty() {
            // what was taken back here must not be a job again, after a power cut, without its files
            self.fs.sync_dir(&incoming).at("sync", &incoming)?;
        }
        for name in left {
            let id = name.strip_suffix(".lock").unwrap_or(&name);
            let Ok(id) = id.parse::<JobId>() else { continue };
            if let Some(lock) = IncomingLock::take(&incoming, &id)? {
                let dir = incoming.join(id.as_str());
                match self.fs.remove_dir_all(&dir) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).at("remove", &dir),
                    _ => lock.remove(self.fs.as_ref())?,
                }
            }
        }
        Ok(())
    }

    /// Space and inodes for `bytes` more, with the reserve that the configuration asks for.
    pub fn preflight(&self, bytes: u64) -> Result<()> {
        let path = &self.layout.root;
        let space = self.fs.space(path).at("look at the space of", path)?;
        let needed = self.settings.free_bytes_min.saturating_add(bytes);
        let short = |found, needed, unit| SpoolError::NoSpace { path: path.clone(), found, needed, unit };
        if space.bytes_free < needed {
            return Err(short(space.bytes_free, needed, "bytes"));
        }
        if space.inodes_free < self.settings.free_inodes_min {
            return Err(short(space.inodes_free, self.settings.free_inodes_min, "inodes"));
        }
        Ok(())
    }
}

impl Submission {
    pub fn id(&self) -> &JobId {
        &self.id
    }

    pub fn submitted_us(&self) -> Micros {
        self.submitted_us
    }

    pub fn recipients(&self) -> u64 {
        self.recipients
    }

    /// Adds a recipient; its ordinal is how many came before it. `values` are those of the job's columns.
    pub fn push(&mut self, address: &str, values: &[&str]) -> Result<()> {
        let bytes = check_size(self.recipients, address, values)?;
        let settings = &self.spool.settings;
        if !self.writer.is_empty()
            && (self.writer.len() >= settings.chunk_recipients_max
                || self.writer.bytes() + bytes > settings.chunk_bytes_max)
        {
            self.finish_chunk()?;
        }
        let state = RecipientState::default();
        self.writer.push(self.recipients, address, values.iter().copied(), &state);
        self.tally.add(address);
        self.recipients += 1;
        Ok(())
    }

    /// Makes it a pack; `meta.pack` of the commit says of how many.
    pub(super) fn attach_members(&mut self, members: Vec<u8>) {
        self.members = Some(members);
    }

    /// Hands the address of an earlier recipient to `same`.
    pub fn with_address<T>(&mut self, ordinal: u32, same: impl FnOnce(&str) -> T) -> Result<T> {
        let number = self.starts.partition_point(|&s| s <= ordinal);
        let first_open = self.starts_next();
        if ordinal >= first_open {
            let at = (ordinal - first_open) as usize;
            let address = self.writer.address(at);
            return Ok(same(address));
        }
        let number = (number - 1) as u32;
        if self.look_back.as_ref().is_none_or(|(n, _)| *n != number) {
            if let Some(pool) = &self.pool {
                pool.wait_written(number)?;
            }
            let path = self.dir.chunk(self.name(number));
            let bytes = self.spool.fs.read(&path).at("read", &path)?;
            let chunk = Chunk::parse(bytes).map_err(|reason| SpoolError::damaged(&path, reason))?;
            self.look_back = Some((number, chunk));
        }
        let Some((_, chunk)) = &self.look_back else { unreachable!("just read") };
        let at = (ordinal - self.starts[number as usize]) as usize;
        let record = chunk
            .recipient(at)
            .map_err(|reason| SpoolError::damaged(&self.dir.chunk(self.name(number)), reason))?;
        Ok(same(record.address))
    }

    /// The ordinal of the first recipient that is not in a finished chunk.
    fn starts_next(&self) -> u32 {
        (self.recipients - self.writer.len() as u64) as u32
    }

    fn name(&self, number: u32) -> ChunkName {
        ChunkName { due_us: self.submitted_us, digest: ChunkDigest::of(&self.id, number) }
    }

    fn finish_chunk(&mut self) -> Result<()> {
        let number = self.manifest.chunks.len() as u32;
        let recipients = self.writer.len() as u16;
        let start = self.starts_next();
        let header = ChunkHeader { job: self.id.clone(), number, parent: None, deaths: 0 };
        let bytes = self.writer.finish(&header);
        let name = self.name(number);
        if self.folders.insert(name.xx()) {
            let folder = self.dir.chunks_of(name.xx());
            self.spool.fs.create_dir(&folder).at("create", &folder)?;
        }
        if number % 256 == 255 {
            self.spool.preflight(64 << 20)?;
        }
        let crc32 = crc32fast::hash(&bytes);
        self.manifest.chunks.push(ManifestEntry { recipients, crc32, due_us: self.submitted_us });
        self.starts.push(start);
        self.domains.push(self.tally.take());
        match &self.pool {
            Some(pool) => pool.write(number, self.dir.chunk(name), bytes),
            None => unreachable!("the pool lives until commit"),
        }
    }

    /// Makes it a job. `meta` comes from `describe`, which is told what only the spool knows; on
    /// `SpoolError::Unknown` the rename happened and its durability is not known.
    pub fn commit(
        mut self: Box<Self>,
        message: &[u8],
        describe: impl FnOnce(&Submission) -> JobMeta,
    ) -> Result<JobMeta> {
        use sha1::Digest;
        if !self.writer.is_empty() {
            self.finish_chunk()?;
        }
        if let Some(pool) = self.pool.take() {
            pool.finish()?;
        }
        let fs = self.spool.fs.clone();
        let fs = fs.as_ref();
        let manifest = self.manifest.encode();
        let mut meta = describe(&self);
        assert!(meta.pack.is_some() == self.members.is_some(), "a pack and its members go together");
        meta.format = if meta.pack.is_some() { super::job::FORMAT } else { super::job::FORMAT_PLAIN };
        meta.id = self.id.to_string();
        meta.submitted_us = self.submitted_us;
        meta.recipients = self.recipients;
        meta.chunks = self.manifest.chunks.len() as u32;
        meta.manifest_crc32 = crc32fast::hash(&manifest);
        meta.message_sha1 = super::id::hex(&sha1::Sha1::digest(message));
        meta.message_bytes = message.len() as u64;
        let put = |path: PathBuf, bytes: &[u8]| fs::write_new(fs, &path, bytes).at("write", &path);
        put(self.dir.message(), message)?;
        if let Some(members) = &self.members {
            put(self.dir.members(), members)?;
        }
        put(self.dir.manifest(), &manifest)?;
        if self.domains.len() > 1 {
            put(self.dir.domains(), &domains::encode(&self.domains))?;
        }
        put(self.dir.hold(), b"")?;
        put(self.dir.meta(), super::dir::to_toml(&meta).as_bytes())?;
        for &xx in &self.folders {
            let folder = self.dir.chunks_of(xx);
            fs.sync_dir(&folder).at("sync", &folder)?;
        }
        for folder in [self.dir.chunks(), self.dir.results(), self.dir.0.clone()] {
            fs.sync_dir(&folder).at("sync", &folder)?;
        }
        self.spool.note_recent(&meta)?;
        let to = self.spool.layout.job(JobState::Active, &self.id);
        let (incoming, active) = (self.spool.layout.incoming(), self.spool.layout.state(JobState::Active));
        fs.sync_dir(&incoming).at("sync", &incoming)?;
        // nobody takes it in hand before it is durable
        let hold = Hold::exclusive(&self.dir)?;
        fs.rename_new(self.dir.path(), to.path()).at("make a job of", self.dir.path())?;
        self.committed = true;
        let unknown = |e| SpoolError::Unknown { job: self.id.to_string(), source: Box::new(e) };
        if let Err(e) = fs.sync_dir(&active).at("sync", &active) {
            // its name may be lost although the next sync reports success: it is taken back, to be
            // submitted anew
            let back = fs
                .rename_new(to.path(), self.dir.path())
                .at("take back", to.path())
                .and_then(|()| fs.sync_dir(&incoming).at("sync", &incoming));
            self.committed = back.is_err();
            return Err(if self.committed { unknown(e) } else { e });
        }
        fs.sync_dir(&incoming).at("sync", &incoming).map_err(unknown)?;
        drop(hold);
        Ok(meta)
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        drop(self.pool.take());
        let fs = self.spool.fs.as_ref();
        if !self.committed
            && let Err(e) = fs.remove_dir_all(self.dir.path())
        {
            tracing::warn!("{} stays until the next sweep: {e}", self.dir.path().display());
            return;
        }
        if let Err(e) = self.lock.unlink(fs) {
            tracing::warn!("{e}");
        }
    }
}

/// The kernel lock that tells a submit under way from what a dead one left.
pub(super) struct IncomingLock {
    _file: File,
    path: PathBuf,
}

impl IncomingLock {
    /// `None` when another process holds it.
    pub(super) fn take(incoming: &Path, id: &JobId) -> Result<Option<Self>> {
        let path = incoming.join(format!("{id}.lock"));
        let file = fs::open_lockable(&path).at("open", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e).at("lock", &path),
        }
        // whoever held it may have unlinked it between our open and our lock
        let ours = file.metadata().at("look at", &path)?.ino();
        match std::fs::metadata(&path) {
            Ok(m) if m.ino() == ours => Ok(Some(Self { _file: file, path })),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("look at", &path),
        }
    }

    fn unlink(&self, fs: &dyn Fs) -> Result<()> {
        match fs.remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at("remove", &self.path),
            _ => Ok(()),
        }
    }

    fn remove(self, fs: &dyn Fs) -> Result<()> {
        self.unlink(fs)
    }
}

type Write = (u32, PathBuf, Vec<u8>);

/// Writes and syncs chunks in the background; the first error ends the submission.
struct WriterPool {
    queue: Option<SyncSender<Write>>,
    threads: Vec<JoinHandle<()>>,
    done: Arc<(Mutex<Written>, Condvar)>,
}

#[derive(Default)]
struct Written {
    numbers: HashSet<u32>,
    error: Option<SpoolError>,
}

impl WriterPool {
    fn start(fs: Arc<dyn Fs>) -> Self {
        let (queue, jobs) = sync_channel::<Write>(2 * WRITERS);
        let jobs = Arc::new(Mutex::new(jobs));
        let done: Arc<(Mutex<Written>, Condvar)> = Arc::default();
        let threads = (0..WRITERS)
            .map(|_| {
                let (fs, jobs, done) = (fs.clone(), jobs.clone(), done.clone());
                std::thread::spawn(move || {
                    loop {
                        let next = lock(&jobs).recv();
                        let Ok((number, path, bytes)) = next else { return };
                        let written = fs::write_new(fs.as_ref(), &path, &bytes).at("write", &path);
                        let mut state = lock(&done.0);
                        match written {
                            Ok(()) => {
                                state.numbers.insert(number);
                            }
                            Err(e) => {
                                state.error.get_or_insert(e);
                            }
                        }
                        done.1.notify_all();
                    }
                })
            })
            .collect();
        Self { queue: Some(queue), threads, done }
    }

    fn write(&self, number: u32, path: PathBuf, bytes: Vec<u8>) -> Result<()> {
        if let Some(e) = lock(&self.done.0).error.take() {
            return Err(e);
        }
        let sent = self.queue.as_ref().map(|q| q.send((number, path, bytes)));
        assert!(matches!(sent, Some(Ok(()))), "the writers of chunks are gone");
        Ok(())
    }

    fn wait_written(&self, number: u32) -> Result<()> {
        let mut state = lock(&self.done.0);
        loop {
            if let Some(e) = state.error.take() {
                return Err(e);
            }
            if state.numbers.contains(&number) {
                return Ok(());
            }
            state = self.done.1.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    fn finish(mut self) -> Result<()> {
        self.join();
        match lock(&self.done.0).error.take() {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    fn join(&mut self) {
        drop(self.queue.take());
        for t in self.threads.drain(..) {
            assert!(t.join().is_ok(), "a writer of chunks panicked");
        }
    }
}

impl Drop for WriterPool {
    fn drop(&mut self) {
        self.join();
    }
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}
