//! What is written of a job: `job.toml` (once, last), the manifest of its chunks, its standing.

use serde::{Deserialize, Serialize};

use super::codec::{Dec, Enc};
use super::id::{ChunkDigest, ChunkName, Counts, JobId, Outcome};
use super::layout::JobState;
use crate::clock::Micros;
use crate::pressure::per_second::PerSecond;

/// The newest format of jobs that this infeed reads; it writes packs in it.
pub const FORMAT: u32 = 2;
/// The format of spools, and of jobs that are no packs: what an infeed that knows no packs reads as well.
pub const FORMAT_PLAIN: u32 = 1;

/// `job.toml`: who, what and under which policy. Never changed once written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMeta {
    pub format: u32,
    pub id: String,
    pub submitted_us: Micros,
    /// The user who submitted it.
    pub submitted_by: String,
    pub recipients: u64,
    pub chunks: u32,
    pub duplicates_dropped: u64,
    pub rejected_lines: u64,
    /// The message is a template over the recipient's columns.
    pub merge: bool,
    /// Names of the values that every recipient has, in order.
    pub columns: Vec<String>,
    /// Envelope sender.
    pub sender: String,
    /// 9 goes first, 0 last.
    #[serde(default = "default_priority")]
    pub priority: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<String>,
    pub on_doubt: OnDoubt,
    pub accept_refusals: bool,
    /// Read again at claim time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppress: Option<String>,
    /// Submitted for the sink: never drained into anything else.
    pub rehearsal: bool,
    /// The one MTA that it may go to; any, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mta: Option<String>,
    /// `--first`: it pauses once so many recipients were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Every message goes to this address instead of its recipient's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_to: Option<String>,
    /// Placeholders in an unmerged message are meant literally.
    #[serde(default)]
    pub literal: bool,
    /// Messages a second, at most; no limit without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<PerSecond>,
    /// The hours in which it may be sent, as [`crate::pressure::window::Window`] reads them; always, if none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<String>,
    /// A pack of so many small jobs; `members` tells them apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<u32>,
    /// SHA-1 over message, list and options: the same submission twice is noticed by it.
    pub fingerprint: String,
    pub message_sha1: String,
    pub message_bytes: u64,
    pub manifest_crc32: u32,
}

/// The priority of a job that doesn't name one.
pub const PRIORITY_DEFAULT: u8 = 5;
/// The highest priority; the lowest is 0.
pub const PRIORITY_MAX: u8 = 9;

fn default_priority() -> u8 {
    PRIORITY_DEFAULT
}

/// What to do with a recipient whose connection was lost between the final dot and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum OnDoubt {
    /// Send again, marked as a possible repeat.
    #[default]
    Resend,
    /// Leave it: the outcome is `in_doubt`.
    Hold,
}

/// `standing.toml`: what was decided about a job after its submission. Replaced as a whole, and believed
/// only as far as [`Standing::in_state`] lets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Standing {
    /// Why it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_reason: Option<String>,
    #[serde(default)]
    pub paused_us: Micros,
    /// `job resume --accept-refusals`.
    #[serde(default)]
    pub accept_refusals: bool,
    /// When it was cancelled; in the view of a job that is done, when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_us: Option<Micros>,
    /// It was resumed after the first so many: the rest may go.
    #[serde(default)]
    pub first_lifted: bool,
    /// `job rate`: instead of what it was submitted with; the inner `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rate_or_none")]
    pub messages_per_second: Option<Option<PerSecond>>,
    /// `job window`: instead of what it was submitted with; empty is always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Vec<String>>,
}

/// A rate, or 0 for no limit.
mod rate_or_none {
    use super::PerSecond;
    use serde::{Deserialize, Deserializer, Serializer, de};

    type Rate = Option<Option<PerSecond>>;

    pub fn serialize<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
        match rate {
            None => serializer.serialize_none(),
            Some(rate) => serializer.serialize_some(&rate.map_or(0.0, PerSecond::as_f64)),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        let wrong = |n: f64| de::Error::custom(format!("{n} is no rate of messages a second"));
        match Option::<f64>::deserialize(deserializer)? {
            None => Ok(None),
            Some(0.0) => Ok(Some(None)),
            Some(n) => PerSecond::new(n).map(|rate| Some(Some(rate))).ok_or_else(|| wrong(n)),
        }
    }
}

impl Standing {
    /// What of it holds in this state: the rest is of an earlier one, or of a change that was cut short.
    pub fn in_state(self, state: JobState) -> Self {
        let is_paused = state == JobState::Paused;
        Self {
            paused_reason: self.paused_reason.filter(|_| is_paused),
            paused_us: if is_paused { self.paused_us } else { 0 },
            accept_refusals: self.accept_refusals,
            ended_us: self.ended_us.filter(|_| state == JobState::Cancelled),
            first_lifted: self.first_lifted,
            messages_per_second: self.messages_per_second,
            windows: self.windows,
        }
    }

    /// How many messages a second the job may send, at most.
    pub fn rate(&self, meta: &JobMeta) -> Option<PerSecond> {
        self.messages_per_second.unwrap_or(meta.messages_per_second)
    }

    /// The hours in which the job may be sent.
    pub fn windows<'a>(&'a self, meta: &'a JobMeta) -> &'a [String] {
        self.windows.as_deref().unwrap_or(&meta.windows)
    }
}

/// `request`: a command that a running infeed is asked to make room for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub state: String,
    pub asked_us: Micros,
    /// Why it is to be paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default)]
    pub accept_refusals: bool,
}

/// `summary.toml`: the counts of a job that is done, so that a listing needs no more of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub finished_us: Micros,
    pub possible_repeats: u64,
    pub outcomes: std::collections::BTreeMap<String, u64>,
}

impl Summary {
    pub fn new(finished_us: Micros, counts: &Counts) -> Self {
        let outcomes = Outcome::ALL.iter().map(|&o| (o.as_str().to_owned(), counts.of(o))).collect();
        Self { finished_us, possible_repeats: counts.possible_repeats, outcomes }
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        counts.possible_repeats = self.possible_repeats;
        for o in Outcome::ALL {
            counts.add(o, self.outcomes.get(o.as_str()).copied().unwrap_or(0));
        }
        counts
    }
}

/// Recipients and checksum of every chunk as submitted, by number: a chunk that is missing or damaged
/// is known by it, and how many recipients it held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    pub chunks: Vec<ManifestEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestEntry {
    pub recipients: u16,
    /// CRC-32 of the chunk's file.
    pub crc32: u32,
    /// When it was due, which its name begins with.
    pub due_us: Micros,
}

/// Octets of an entry of `manifest`.
const ENTRY_OCTETS: usize = 2 + 4 + 8;

impl Manifest {
    /// The names of the chunks, by number.
    pub fn names(&self, job: &JobId) -> impl Iterator<Item = ChunkName> {
        let named = |(number, entry): (usize, &ManifestEntry)| ChunkName {
            due_us: entry.due_us,
            digest: ChunkDigest::of(job, number as u32),
        };
        self.chunks.iter().enumerate().map(named)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut e = Enc::default();
        for c in &self.chunks {
            e.u16(c.recipients).u32(c.crc32).u64(c.due_us);
        }
        e.0
    }

    /// The reason when it isn't the one that `job.toml` was written for.
    pub fn decode(bytes: &[u8], meta: &JobMeta) -> Result<Self, String> {
        if crc32fast::hash(bytes) != meta.manifest_crc32 {
            return Err("its checksum is not the one in job.toml".into());
        }
        let mut d = Dec(bytes);
        // by what is there: job.toml may have been edited
        let mut chunks = Vec::with_capacity(bytes.len() / ENTRY_OCTETS);
        while !d.is_empty() {
            let entry =
                (|| Some(ManifestEntry { recipients: d.u16()?, crc32: d.u32()?, due_us: d.u64()? }))();
            chunks.push(entry.ok_or("it ends too early")?);
        }
        if chunks.len() != meta.chunks as usize {
            return Err(format!("it lists {} chunks, job.toml {}", chunks.len(), meta.chunks));
        }
        Ok(Self { chunks })
    }
}

impl JobMeta {
    pub fn job_id(&self) -> Result<JobId, super::error::SpoolError> {
        self.id.parse()
    }
}
