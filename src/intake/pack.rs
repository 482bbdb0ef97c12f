//! Many small jobs a second: a packer gathers those that arrive together and commits them as one pack.
//!
//! ```text
//!  submit ─ check ─┐
//!  submit ─ check ─┼→ gather (linger, bounds) ─→ one durable commit ─→ every submit answers
//!  submit ─ check ─┘        ↑ what arrives meanwhile is the next pack
//! ```
//!
//! Guarantees:
//! - A submit that answers with an id is durable, like every job: files and folders synced, renamed,
//!   parents synced.
//! - A pack is all or nothing; a job that is refused by its checks is in none and spoils none.
//! - Memory is bounded: beyond `pending_bytes_max`, submits wait.
//! - Nothing is forgotten silently: what waits when the packer is shut down or dropped is committed, and
//!   a submit that can't know says so ([`PackError::is_unknown`]).
//!
//! A member goes out, and is shown and reported, like a job: `infeed job show PACK.3`. State is the
//! pack's: it is paused, cancelled, kept and removed as a whole. `docs/spool.md` has the rest.
//!
//! Errors: [`PackError`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::pack_check::{check, check_size, octets_of};
pub use super::pack_error::PackError;
use super::submit::submitter;
use crate::message::{CompileOptions, Template};
use crate::spool::pack::member_id;
use crate::spool::{JobId, JobMeta, OnDoubt, PRIORITY_DEFAULT, Pack, PackedJob, Spool, SpoolError};

/// What a job counts for in `pending_bytes_max`, at least: it bounds their number.
const PENDING_BYTES_MIN: usize = 1 << 10;

/// How packs are made, and the policy of the jobs in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackSettings {
    /// How long the first job of a pack waits for others, in milliseconds.
    pub linger_ms: u64,
    /// From the begin of one commit to that of the next, in milliseconds, unless a pack is full: it
    /// bounds the folders and syncs a second.
    pub interval_ms_min: u64,
    /// Jobs a pack: a number has four digits at most.
    pub members_max: usize,
    /// Recipients a pack, and so a small job.
    pub recipients_max: usize,
    /// Bytes of messages and recipients a pack, and so a small job. A drain holds up to 40 MiB of
    /// chunks in memory, and the messages of the packs among them.
    pub bytes_max: usize,
    /// Bytes of jobs that wait for their commit; beyond, `submit` waits.
    pub pending_bytes_max: usize,
    pub on_doubt: OnDoubt,
    /// The MTA's refusals are meant: they never pause a pack.
    pub accept_refusals: bool,
    /// Meant for the sink: never goes anywhere else.
    pub rehearsal: bool,
    /// The one MTA that they may go to, by its name; any, where none is named.
    pub mta: Option<String>,
    /// 0 to 9, 9 first.
    pub priority: u8,
    /// `bounces@host`, or a pattern with `{local}`, `{domain}` and `{job}`, the member's id.
    pub verp: Option<String>,
    /// `NEVER`, or a comma list of `SUCCESS`, `FAILURE`, `DELAY` (RFC 3461 §4.1).
    pub notify: Option<String>,
    /// `FULL` or `HDRS` (RFC 3461 §4.3).
    pub ret: Option<String>,
}

impl Default for PackSettings {
    fn default() -> Self {
        Self {
            linger_ms: 5,
            interval_ms_min: 50,
            members_max: 1_000,
            recipients_max: 1_000,
            bytes_max: 1 << 20,
            pending_bytes_max: 16 << 20,
            on_doubt: OnDoubt::Resend,
            accept_refusals: false,
            rehearsal: false,
            mta: None,
            priority: PRIORITY_DEFAULT,
            verp: None,
            notify: None,
            ret: None,
        }
    }
}

/// A message and its few recipients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SmallJob {
    /// Envelope sender in place of the address in From; empty for the null sender.
    pub sender: Option<String>,
    /// RFC 5322, finished: nothing is merged into it. Line ends may be LF.
    pub message: Vec<u8>,
    /// Addresses without brackets; one that stands twice counts once.
    pub recipients: Vec<String>,
    /// Left-over placeholders in the message are meant literally.
    pub literal: bool,
}

impl SmallJob {
    /// A job from the address in its From header.
    pub fn new(message: Vec<u8>, recipients: impl IntoIterator<Item = String>) -> Self {
        Self { sender: None, message, recipients: recipients.into_iter().collect(), literal: false }
    }
}

/// Commits small jobs together. Share it by reference or in an `Arc`; many submits at a time are what it
/// is for.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use infeed::intake::{PackSettings, Packer, SmallJob};
/// use infeed::spool::{DirSpool, Settings};
///
/// # let dir = tempfile::tempdir()?;
/// # let root = dir.path().join("spool");
/// let spool = DirSpool::open(&root, Settings::default())?;
/// let packer = Packer::start(spool, PackSettings::default())?;
/// let message = b"From: shop@example.org\nSubject: Your order\n\nIt is on its way.\n";
/// let job = SmallJob::new(message.to_vec(), ["ann@example.com".to_owned()]);
/// let id = packer.submit(job).await?;
/// println!("durable: infeed job show {id}");
/// packer.shutdown().await;
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug)]
pub struct Packer {
    settings: PackSettings,
    room: Arc<Semaphore>,
    /// `None` once it is shut down.
    queue: Mutex<Option<mpsc::UnboundedSender<Pending>>>,
    gathering: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// A job that waits for its commit.
struct Pending {
    job: PackedJob,
    octets: usize,
    duplicates: u64,
    arrived: Instant,
    answer: oneshot::Sender<Result<JobId, PackError>>,
    /// Given back once it is answered.
    _room: OwnedSemaphorePermit,
}

impl Packer {
    /// Starts a packer on the current tokio runtime; jobs go to `spool`.
    ///
    /// # Errors
    /// [`PackError::Setting`]: a setting that can't work.
    pub fn start<S: Spool>(spool: S, settings: PackSettings) -> Result<Self, PackError> {
        check_settings(&settings)?;
        let (queue, waiting) = mpsc::unbounded_channel();
        let gathering = tokio::spawn(gather(spool, settings.clone(), waiting));
        Ok(Self {
            room: Arc::new(Semaphore::new(settings.pending_bytes_max)),
            queue: Mutex::new(Some(queue)),
            gathering: tokio::sync::Mutex::new(Some(gathering)),
            settings,
        })
    }

    /// Submits a job: it is durable when this answers with its id, `<pack>.<number>`. Waits while too
    /// much else is pending.
    ///
    /// A submit that is dropped after it was taken may be committed nevertheless.
    ///
    /// # Errors
    /// [`PackError`]; nothing of the job was committed, unless [`PackError::is_unknown`].
    pub async fn submit(&self, job: SmallJob) -> Result<JobId, PackError> {
        check_size(&job, &self.settings)?;
        let octets = octets_of(&job);
        let weight = octets.max(PENDING_BYTES_MIN) as u32;
        let Ok(room) = self.room.clone().acquire_many_owned(weight).await else {
            return Err(PackError::Closed);
        };
        let (job, duplicates) = check(job, &self.settings)?;
        let (answer, answered) = oneshot::channel();
        let pending = Pending { job, octets, duplicates, arrived: Instant::now(), answer, _room: room };
        let queue = self.queue().clone().ok_or(PackError::Closed)?;
        if queue.send(pending).is_err() {
            return Err(PackError::Closed);
        }
        drop(queue);
        answered.await.unwrap_or(Err(PackError::Gone))
    }

    /// Takes no more jobs, commits those that wait, and returns when every one of them is answered.
    pub async fn shutdown(&self) {
        drop(self.queue().take());
        let mut gathering = self.gathering.lock().await;
        if let Some(task) = gathering.take()
            && let Err(e) = task.await
        {
            tracing::error!("the packer ended early: {e}");
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Option<mpsc::UnboundedSender<Pending>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_settings(s: &PackSettings) -> Result<(), PackError> {
    let wrong = |name, value: String, remedy: &str| {
        Err(PackError::Setting { name, value, remedy: remedy.to_owned() })
    };
    if !(1..=9_999).contains(&s.members_max) {
        return wrong("members_max", s.members_max.to_string(), "1 to 9999");
    }
    if s.recipients_max == 0 {
        return wrong("recipients_max", "0".into(), "at least 1");
    }
    if !(PENDING_BYTES_MIN..=64 << 20).contains(&s.bytes_max) {
        return wrong("bytes_max", s.bytes_max.to_string(), "1 KiB to 64 MiB");
    }
    if !(s.bytes_max..=1 << 30).contains(&s.pending_bytes_max) {
        return wrong("pending_bytes_max", s.pending_bytes_max.to_string(), "bytes_max to 1 GiB");
    }
    if let Some(ret) = s.ret.as_ref().filter(|r| !matches!(r.as_str(), "FULL" | "HDRS")) {
        return wrong("ret", ret.clone(), "FULL or HDRS");
    }
    let known = |n: &str| n == "NEVER" || n.split(',').all(|w| matches!(w, "SUCCESS" | "FAILURE" | "DELAY"));
    if let Some(notify) = s.notify.as_ref().filter(|n| !known(n)) {
        return wrong("notify", notify.clone(), "NEVER, or a comma list of SUCCESS, FAILURE, DELAY");
    }
    if let Some(verp) = &s.verp {
        let options = CompileOptions {
            merge: false,
            columns: &[],
            job: "j",
            submitted_us: 0,
            message_id_domain: "localhost",
            verp: Some(verp),
            sender: None,
            allow_placeholders: false,
        };
        if let Err(e) = Template::compile(b"From: a@example.org\r\n\r\n\r\n", &options) {
            return wrong("verp", verp.clone(), &e.to_string());
        }
    }
    Ok(())
}

/// Makes packs of what waits, one after the other, until nobody can submit any more and nothing waits.
async fn gather<S: Spool>(spool: S, settings: PackSettings, mut waiting: mpsc::UnboundedReceiver<Pending>) {
    let mut carried: Option<Pending> = None;
    let mut next_at = Instant::now();
    loop {
        let first = match carried.take() {
            Some(pending) => pending,
            None => match waiting.recv().await {
                Some(pending) => pending,
                None => return,
            },
        };
        let at = next_at.max(first.arrived + Duration::from_millis(settings.linger_ms));
        let mut batch = Batch::of(first);
        while !batch.is_full(&settings) {
            match tokio::time::timeout_at(at, waiting.recv()).await {
                Ok(Some(pending)) if batch.has_room_for(&pending, &settings) => batch.push(pending),
                Ok(Some(pending)) => {
                    carried = Some(pending);
                    break;
                }
                // shut down, or time
                Ok(None) | Err(_) => break,
            }
        }
        next_at = Instant::now() + Duration::from_millis(settings.interval_ms_min);
        batch.commit(&spool, &settings).await;
    }
}

/// The members of the next pack.
struct Batch {
    members: Vec<Pending>,
    recipients: usize,
    octets: usize,
}

impl Batch {
    fn of(first: Pending) -> Self {
        let mut batch = Self { members: Vec::new(), recipients: 0, octets: 0 };
        batch.push(first);
        batch
    }

    fn push(&mut self, pending: Pending) {
        self.recipients += pending.job.recipients.len();
        self.octets += pending.octets;
        self.members.push(pending);
    }

    fn is_full(&self, s: &PackSettings) -> bool {
        self.members.len() >= s.members_max
            || self.recipients >= s.recipients_max
            || self.octets >= s.bytes_max
    }

    fn has_room_for(&self, pending: &Pending, s: &PackSettings) -> bool {
        self.recipients + pending.job.recipients.len() <= s.recipients_max
            && self.octets + pending.octets <= s.bytes_max
    }

    /// Commits, and answers everybody.
    async fn commit<S: Spool>(self, spool: &S, settings: &PackSettings) {
        let duplicates = self.members.iter().map(|m| m.duplicates).sum();
        let mut waiting = Vec::with_capacity(self.members.len());
        let mut jobs = Vec::with_capacity(self.members.len());
        for pending in self.members {
            jobs.push(pending.job);
            waiting.push((pending.answer, pending._room));
        }
        let meta = describe(&jobs, settings, duplicates);
        let committed = spool.commit_pack(Pack { jobs, meta }).await;
        let answer = match committed.and_then(|meta| meta.job_id()) {
            Ok(pack) => Ok(pack),
            Err(SpoolError::Unknown { job, source }) => Err((job.parse::<JobId>().ok(), Arc::new(*source))),
            Err(e) => Err((None, Arc::new(e))),
        };
        for ((reply, _room), number) in waiting.into_iter().zip(1_u32..) {
            let answer = match &answer {
                Ok(pack) => Ok(member_id(pack, number)),
                Err((Some(pack), source)) => {
                    Err(PackError::Unknown { job: member_id(pack, number), source: source.clone() })
                }
                Err((None, source)) => Err(PackError::Spool(source.clone())),
            };
            if reply.send(answer).is_err() {
                tracing::debug!("member {number} of a pack was committed, and nobody waits for its id");
            }
        }
    }
}

fn describe(jobs: &[PackedJob], settings: &PackSettings, duplicates_dropped: u64) -> JobMeta {
    // what a listing shows of all of them: the one sender that they share, if they do
    let sender = match jobs.split_first() {
        Some((first, rest)) if rest.iter().all(|job| job.sender == first.sender) => first.sender.clone(),
        _ => String::new(),
    };
    JobMeta {
        submitted_by: submitter(),
        duplicates_dropped,
        rejected_lines: 0,
        merge: false,
        columns: Vec::new(),
        sender,
        verp: settings.verp.clone(),
        notify: settings.notify.clone(),
        ret: settings.ret.clone(),
        on_doubt: settings.on_doubt,
        accept_refusals: settings.accept_refusals,
        suppress: None,
        rehearsal: settings.rehearsal,
        mta: settings.mta.clone(),
        first: None,
        test_to: None,
        literal: false,
        messages_per_second: None,
        windows: Vec::new(),
        pack: None,
        priority: settings.priority,
        // what only the spool knows, and fills in
        fingerprint: String::new(),
        format: 0,
        id: String::new(),
        submitted_us: 0,
        recipients: 0,
        chunks: 0,
        message_sha1: String::new(),
        message_bytes: 0,
        manifest_crc32: 0,
    }
}
