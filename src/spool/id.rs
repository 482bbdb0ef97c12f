//! Names in the spool: a job's id, a chunk's name, an outcome.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha1::{Digest, Sha1};

use super::error::SpoolError;
use crate::clock::{self, Micros};

/// A job's id: 1 to 64 of `[A-Za-z0-9._-]`, the first a letter or digit; also a folder's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl TryFrom<String> for JobId {
    type Error = SpoolError;

    fn try_from(text: String) -> Result<Self, SpoolError> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl JobId {
    /// `20261122-031400-7f3k2q`: sorts by time; 30 random bits tell submissions of one second apart.
    pub fn generate() -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let tail: String = (0..6).map(|_| ALPHABET[fastrand::usize(..32)] as char).collect();
        Self(format!("{}-{tail}", clock::compact(clock::now_us())))
    }

    /// The id that `--id KEY` stands for: KEY itself where it can be one, else its SHA-1.
    pub fn from_key(key: &str) -> Self {
        key.parse().unwrap_or_else(|_| {
            let digest = Sha1::digest(key.as_bytes());
            Self(format!("id-{}", hex(&digest[..10])))
        })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = SpoolError;

    fn from_str(text: &str) -> Result<Self, SpoolError> {
        let ok = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && !text.ends_with(".lock");
        if ok { Ok(Self(text.to_owned())) } else { Err(SpoolError::BadJobId(text.to_owned())) }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-1 of job id and chunk number: the chunk's place in hash space, the same for all its retries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkDigest(pub [u8; 20]);

impl ChunkDigest {
    pub fn of(job: &JobId, number: u32) -> Self {
        let mut h = Sha1::new();
        h.update(job.as_str().as_bytes());
        h.update([0]);
        h.update(number.to_be_bytes());
        Self(h.finalize().into())
    }

    /// The first byte: the folder it lies in, and what slices are made of.
    pub fn xx(&self) -> u8 {
        self.0[0]
    }
}

impl fmt::Debug for ChunkDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// `<due µs, 16 digits>+<sha1>`: a listing in order of names is first due, first served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChunkName {
    pub due_us: Micros,
    pub digest: ChunkDigest,
}

impl ChunkName {
    pub fn xx(&self) -> u8 {
        self.digest.xx()
    }

    /// `None` for what is not a chunk's name.
    pub fn parse(text: &str) -> Option<Self> {
        let (due, digest) = text.split_once('+')?;
        if due.len() != 16 || digest.len() != 40 || !due.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let mut bytes = [0; 20];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digest.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        let name = Self { due_us: due.parse().ok()?, digest: ChunkDigest(bytes) };
        (name.to_string() == text).then_some(name)
    }
}

impl TryFrom<String> for ChunkName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is no chunk's name"))
    }
}

impl From<ChunkName> for String {
    fn from(name: ChunkName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}+{}", self.due_us, hex(&self.digest.0))
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What became of one recipient. `Pending` and `Deferred` are not final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    Pending = 0,
    Deferred = 1,
    /// Taken by the local MTA; not yet the inbox.
    Accepted = 2,
    Refused = 3,
    Expired = 4,
    Cancelled = 5,
    Suppressed = 6,
    Quarantined = 7,
    InDoubt = 8,
}

impl Outcome {
    pub const ALL: [Outcome; 9] = [
        Outcome::Pending,
        Outcome::Deferred,
        Outcome::Accepted,
        Outcome::Refused,
        Outcome::Expired,
        Outcome::Cancelled,
        Outcome::Suppressed,
        Outcome::Quarantined,
        Outcome::InDoubt,
    ];

    pub fn is_final(self) -> bool {
        !matches!(self, Outcome::Pending | Outcome::Deferred)
    }

    pub fn from_u8(n: u8) -> Option<Self> {
        Self::ALL.get(usize::from(n)).copied()
    }

    /// As reports and `--json` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Pending => "pending",
            Outcome::Deferred => "deferred",
            Outcome::Accepted => "accepted",
            Outcome::Refused => "refused",
            Outcome::Expired => "expired",
            Outcome::Cancelled => "cancelled",
            Outcome::Suppressed => "suppressed",
            Outcome::Quarantined => "quarantined",
            Outcome::InDoubt => "in_doubt",
        }
    }
}

/// What JSON calls [`Counts::possible_repeats`].
const POSSIBLE_REPEATS: &str = "possible_repeats";

/// Recipients by outcome; they always sum to the job's recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(from = "BTreeMap<String, u64>", into = "BTreeMap<String, u64>")]
pub struct Counts {
    by_outcome: [u64; 9],
    /// Of all of them, those marked: may have been sent twice.
    pub possible_repeats: u64,
}

impl Counts {
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.by_outcome[outcome as usize]
    }

    pub fn add(&mut self, outcome: Outcome, n: u64) {
        self.by_outcome[outcome as usize] += n;
    }

    pub fn sub(&mut self, outcome: Outcome, n: u64) {
        let slot = &mut self.by_outcome[outcome as usize];
        assert!(*slot >= n, "{outcome:?}: {n} taken from {slot}");
        *slot -= n;
    }

    pub fn merge(&mut self, other: &Counts) {
        for (a, b) in self.by_outcome.iter_mut().zip(other.by_outcome) {
            *a += b;
        }
        self.possible_repeats += other.possible_repeats;
    }

    pub fn total(&self) -> u64 {
        self.by_outcome.iter().sum()
    }

    /// Pending and deferred.
    pub fn unfinished(&self) -> u64 {
        self.of(Outcome::Pending) + self.of(Outcome::Deferred)
    }
}

/// In JSON each of them by its name.
impl From<Counts> for BTreeMap<String, u64> {
    fn from(counts: Counts) -> Self {
        let named = Outcome::ALL.into_iter().map(|outcome| (outcome.as_str(), counts.of(outcome)));
        let all = named.chain([(POSSIBLE_REPEATS, counts.possible_repeats)]);
        all.map(|(name, n)| (name.to_owned(), n)).collect()
    }
}

impl From<BTreeMap<String, u64>> for Counts {
    fn from(named: BTreeMap<String, u64>) -> Self {
        let of = |name: &str| named.get(name).copied().unwrap_or_default();
        let by_outcome = Outcome::ALL.map(|outcome| of(outcome.as_str()));
        Self { by_outcome, possible_repeats: of(POSSIBLE_REPEATS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_named_in_json_and_come_back_from_it() {
        let mut counts = Counts { possible_repeats: 3, ..Counts::default() };
        Outcome::ALL.into_iter().enumerate().for_each(|(i, outcome)| counts.add(outcome, i as u64 + 7));
        let json = serde_json::to_value(counts).expect("JSON");
        assert_eq!((&json["accepted"], &json["in_doubt"]), (&9.into(), &15.into()), "{json}");
        assert_eq!(serde_json::from_value::<Counts>(json).expect("counts"), counts);
    }

    #[test]
    fn a_chunk_name_survives_the_round_trip_and_sorts_by_due_time() {
        let job: JobId = "weekly-47".parse().unwrap();
        let early = ChunkName { due_us: 999, digest: ChunkDigest::of(&job, 7) };
        let late = ChunkName { due_us: 1_000_000, digest: ChunkDigest::of(&job, 1) };
        assert_eq!(ChunkName::parse(&early.to_string()), Some(early));
        assert!(early.to_string() < late.to_string());
        assert_eq!(ChunkName::parse(&format!("{early}.tmp")), None);
        assert_eq!(ChunkName::parse(&early.to_string().to_uppercase()), None);
    }

    #[test]
    fn a_job_id_can_never_leave_its_folder() {
        for bad in ["", ".", "..", "a/b", "-x", "a\0", "a.lock", &"x".repeat(65)] {
            assert!(bad.parse::<JobId>().is_err(), "{bad:?}");
            let made = JobId::from_key(bad);
            assert!(made.as_str().parse::<JobId>().is_ok(), "{bad:?} became {made}");
        }
        assert_eq!(JobId::from_key("weekly-47").as_str(), "weekly-47");
        assert_ne!(JobId::from_key("a/b"), JobId::from_key("a/c"));
    }
}
