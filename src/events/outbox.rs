//! Events of jobs, on disk until they are taken: a file each in the spool's folder `events`.
//!
//! | name | is |
//! | --- | --- |
//! | `TIME-TYPE-ID.json` | an event that waits |
//! | `TIME-TYPE-ID.PID.next` | one whose change of state is just being made, by the process that holds its lock |
//! | `….next.new` | one that is just being written |
//! | `lock` | held by the one process that sends |
//!
//! Guarantees: an event is on disk before its change of state is made, and counts only afterwards; what a process
//! left in between by its death is decided by the state that the job is in. Nothing here fails a change of state:
//! an event that can't be kept is told of in the log. Errors: `io::Error`.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::sync::Notify;

use super::EventsError;
use super::event::{Event, Kind};
use crate::clock::Micros;
use crate::spool::fs::give_away;
use crate::spool::{DirSpool, JobChange, JobId, JobState, JobWatch, SpoolError, Watched};

/// What has been written for so long is of a process that died over it.
const WRITE_WAIT: Duration = Duration::from_secs(60);
/// Octets of a file, at most: a reason has some hundreds.
const FILE_OCTETS_MAX: u64 = 1024 * 1024;

/// The outbox of one spool.
pub struct Outbox {
    me: Weak<Outbox>,
    folder: PathBuf,
    /// Those that this process is making, each with its lock.
    making: Mutex<HashMap<String, File>>,
    /// There is another event.
    pub(super) changed: Notify,
}

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// Of its file; sorts by time.
    pub(super) name: String,
    pub(super) at_us: Micros,
}

impl Outbox {
    /// The outbox of the spool at `root`; made where there is none.
    ///
    /// # Errors
    /// It can't be made, or is no folder.
    pub fn open(root: &Path) -> Result<Arc<Self>, EventsError> {
        let folder = root.join("events");
        let made = match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // what root makes in the spool of somebody else is theirs
            other => other.and_then(|()| give_away(&File::open(&folder)?, &folder)).and_then(|()| sync(root)),
        };
        let is_folder = fs::symlink_metadata(&folder).map(|there| there.is_dir());
        let checked = made.and(is_folder).and_then(|is_folder| {
            if is_folder { Ok(()) } else { Err(io::Error::other("it is no folder; move it away")) }
        });
        if let Err(source) = checked {
            return Err(EventsError::Outbox { path: folder, source });
        }
        let (making, changed) = Default::default();
        Ok(Arc::new_cyclic(|me| Self { me: me.clone(), folder, making, changed }))
    }

    fn making(&self) -> MutexGuard<'_, HashMap<String, File>> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // a name of ours is ASCII
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What waits, the oldest first. Blocks on the disk.
    pub fn list(&self) -> io::Result<Vec<Waiting>> {
        let of = |name: String| {
            let stem = name.strip_suffix(".json")?;
            let at_us = stem.split('-').next()?.parse().ok()?;
            Some(Waiting { at_us, name })
        };
        Ok(self.names()?.into_iter().filter_map(of).collect())
    }

    /// One that waits; `None`: it has gone, or can't be read and was put out of the way.
    pub(super) fn read(&self, waiting: &Waiting) -> io::Result<Option<Event>> {
        let octets = match self.octets(&waiting.name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let event = Event::of_kept(&octets);
        if event.is_none() {
            tracing::error!("{} is no event; it is removed", self.folder.join(&waiting.name).display());
            self.remove(&waiting.name)?;
        }
        Ok(event)
    }

    fn octets(&self, name: &str) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.folder.join(name))?;
        let mut octets = Vec::new();
        file.take(FILE_OCTETS_MAX).read_to_end(&mut octets)?;
        Ok(octets)
    }

    /// It was taken, or given up.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => sync(&self.folder),
        }
    }

    /// The right to send, as long as it is held; `None`: another process has it.
    pub(super) fn try_lock(&self) -> io::Result<Option<File>> {
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let path = self.folder.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(&path)?;
        give_away(&file, &path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Decides on what dead processes left half done. Blocks on the disk.
    pub(super) fn settle_left(&self, spool: &DirSpool) -> io::Result<()> {
        for name in self.names()? {
            if name.ends_with(".new") {
                self.remove_if_old(&name)?;
            }
            let Some((stem, _)) = name.strip_suffix(".next").and_then(|rest| rest.rsplit_once('.')) else {
                continue;
            };
            // a process can't be asked for: it may be another user's, or of another container
            let Some(_lock) = self.try_take_over(&name)? else { continue };
            let event = match self.octets(&name) {
                // its process has finished it just now
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                octets => Event::of_kept(&octets?),
            };
            let path = self.folder.join(&name);
            if event.is_some_and(|event| has_come_about(&event, spool)) {
                fs::rename(path, self.folder.join(format!("{stem}.json")))?;
            } else {
                fs::remove_file(path)?;
            }
            sync(&self.folder)?;
        }
        Ok(())
    }

    /// The lock of what is left of a change; `None`: it is being made, or has gone.
    fn try_take_over(&self, name: &str) -> io::Result<Option<File>> {
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(self.folder.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn remove_if_old(&self, name: &str) -> io::Result<()> {
        let written = fs::metadata(self.folder.join(name)).and_then(|there| there.modified());
        let is_old = written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > WRITE_WAIT));
        if is_old { self.remove(name) } else { Ok(()) }
    }

    /// Its file, which is locked for as long as it is open.
    fn stage(&self, name: &str, event: &Event) -> io::Result<File> {
        let path = self.folder.join(format!("{name}.new"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        give_away(&file, &path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(&event.to_kept())?;
        file.sync_all()?;
        fs::rename(path, self.folder.join(name))?;
        sync(&self.folder)?;
        Ok(file)
    }

    fn finish(&self, staged: &str, stem: &str, is_made: bool) -> io::Result<()> {
        let path = self.folder.join(staged);
        if is_made {
            fs::rename(path, self.folder.join(format!("{stem}.json")))?;
        } else {
            fs::remove_file(path)?;
        }
        // not synced: what is found under its old name after a crash is decided by the state of the job
        Ok(())
    }
}

impl JobWatch for Outbox {
    fn begins(&self, change: &JobChange<'_>) -> Option<Watched> {
        let event = Event::of_change(change)?;
        let me = self.me.upgrade()?;
        let stem = format!("{:020}-{}-{}", event.at_us, event.kind.as_str(), event.id);
        let staged = format!("{stem}.{}.next", std::process::id());
        let kind = event.kind;
        match self.stage(&staged, &event) {
            Ok(file) => drop(self.making().insert(staged.clone(), file)),
            Err(e) => {
                tell_lost(change.job, kind, &e);
                return None;
            }
        }
        let job = change.job.clone();
        Some(Box::new(move |is_made| {
            if let Err(e) = me.finish(&staged, &stem, is_made) {
                tell_lost(&job, kind, &e);
            }
            me.making().remove(&staged);
            me.changed.notify_one();
        }))
    }
}

fn tell_lost(job: &JobId, kind: Kind, e: &io::Error) {
    tracing::error!(
        "the event {} of job {job} can't be kept in the spool: {e}; it may not be told",
        kind.as_str()
    );
}

/// Whether the job is in the state that the event tells of.
fn has_come_about(event: &Event, spool: &DirSpool) -> bool {
    let Some(Ok(job)) = event.job().map(str::parse::<JobId>) else { return false };
    match (event.kind, spool.state_of(&job)) {
        (Kind::JobDone, Ok(state)) => state == JobState::Done,
        // done, and removed since
        (Kind::JobDone, Err(SpoolError::NoSuchJob(_))) => true,
        (Kind::JobPaused, Ok(state)) => state == JobState::Paused,
        _ => false,
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::{JobMeta, Settings};

    fn meta(id: &str) -> JobMeta {
        let text = format!(
            "format = 1\nid = '{id}'\nsubmitted_us = 7\nsubmitted_by = 'me'\nrecipients = 3\nchunks = 1\n\
             duplicates_dropped = 0\nrejected_lines = 0\nmerge = false\ncolumns = []\nsender = 'a@example.org'\n\
             on_doubt = 'resend'\naccept_refusals = false\nrehearsal = false\nfingerprint = ''\n\
             message_sha1 = ''\nmessage_bytes = 1\nmanifest_crc32 = 0\n"
        );
        toml::from_str(&text).unwrap()
    }

    struct Desk {
        _folder: tempfile::TempDir,
        spool: DirSpool,
        outbox: Arc<Outbox>,
    }

    fn desk() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let spool = DirSpool::open(&folder.path().join("spool"), Settings::default()).unwrap();
        let outbox = Outbox::open(spool.root()).unwrap();
        Desk { _folder: folder, spool, outbox }
    }

    fn begin(outbox: &Outbox, job: &JobId, to: JobState, at_us: Micros) -> Option<Watched> {
        let meta = meta(job.as_str());
        outbox.begins(&JobChange { job, meta: Some(&meta), to, at_us, reason: Some("by hand"), counts: None })
    }

    #[test]
    fn an_event_waits_once_its_change_has_come_about_and_not_before() {
        let Desk { _folder, outbox, .. } = desk();
        let job: JobId = "weekly".parse().unwrap();
        let watched = begin(&outbox, &job, JobState::Paused, 5).unwrap();
        assert_eq!(outbox.list().unwrap(), []);
        watched(true);
        let waiting = outbox.list().unwrap();
        assert_eq!((waiting.len(), waiting[0].at_us), (1, 5));
        let event = outbox.read(&waiting[0]).unwrap().unwrap();
        assert_eq!((event.kind, event.job()), (Kind::JobPaused, Some("weekly")));
        assert_eq!(event.data["by"], "hand");
        begin(&outbox, &job, JobState::Done, 6).unwrap()(false);
        assert_eq!(outbox.list().unwrap().len(), 1, "a change that failed is no event");
        assert!(begin(&outbox, &job, JobState::Cancelled, 7).is_none());
        outbox.remove(&waiting[0].name).unwrap();
        assert_eq!(outbox.names().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_a_dead_process_left_is_decided_by_the_state_of_the_job() {
        let Desk { _folder, spool, outbox } = desk();
        // a process that is no more, which had told the disk, and died before or after the rename
        for (job, to) in [("gone", JobState::Done), ("never", JobState::Paused)] {
            drop(begin(&outbox, &job.parse().unwrap(), to, 5).unwrap());
        }
        outbox.settle_left(&spool).unwrap();
        assert_eq!(outbox.names().unwrap().len(), 2, "they are being made by us");
        outbox.making().clear();
        outbox.settle_left(&spool).unwrap();
        let waiting = outbox.list().unwrap();
        assert_eq!(waiting.len(), 1);
        let event = outbox.read(&waiting[0]).unwrap().unwrap();
        assert_eq!(event.job(), Some("gone"), "done, and removed since");
        assert_eq!(outbox.names().unwrap().len(), 1);
    }

    #[test]
    fn the_same_change_has_the_same_id_and_another_one_has_another() {
        let change = |job: &str, to, at_us| {
            let (job, meta) = (job.parse().unwrap(), meta(job));
            Event::of_change(&JobChange {
                job: &job,
                meta: Some(&meta),
                to,
                at_us,
                reason: None,
                counts: None,
            })
            .unwrap()
            .id
        };
        let done = change("a", JobState::Done, 5);
        assert_eq!(done, change("a", JobState::Done, 6), "done again after a crash: the same");
        assert_ne!(done, change("b", JobState::Done, 5));
        assert_ne!(change("a", JobState::Paused, 5), change("a", JobState::Paused, 6));
    }

    #[test]
    fn an_event_is_kept_as_it_is_and_what_is_none_is_put_out_of_the_way() {
        let Desk { _folder, outbox, .. } = desk();
        let event = Event {
            id: "evt_1".into(),
            kind: Kind::JobDone,
            at_us: 5,
            data: serde_json::Map::from_iter([("job".to_owned(), "a".into())]),
        };
        assert_eq!(Event::of_kept(&event.to_kept()), Some(event));
        fs::write(outbox.folder.join("00000000000000000001-job.done-x.json"), "{").unwrap();
        fs::write(outbox.folder.join("what is this"), "").unwrap();
        let waiting = outbox.list().unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!(outbox.read(&waiting[0]).unwrap(), None);
        assert_eq!(outbox.list().unwrap(), []);
    }

    #[test]
    fn one_process_sends_at_a_time() {
        let Desk { _folder, outbox, .. } = desk();
        let held = outbox.try_lock().unwrap();
        assert!(held.is_some());
        assert!(outbox.try_lock().unwrap().is_none());
        drop(held);
        assert!(outbox.try_lock().unwrap().is_some());
    }
}
