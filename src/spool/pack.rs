//! A pack: many small jobs committed together, in one folder and, where they fit, one chunk.
//!
//! On disk a pack is one job. Its `message` holds the members' messages one after the other, `members`
//! says which part is whose, and each recipient's one value is the number of its member. So a pack is
//! submitted, claimed, recovered, counted, moved and removed by the code for jobs and under its
//! guarantees: all of it is committed, or nothing; a member is never in another state than its pack.
//!
//! | of a member | is |
//! | --- | --- |
//! | id | `<pack>.<number>`, numbers from 1 |
//! | recipients | neighbours: their ordinals are one range of the pack's |
//! | message | checked by its own SHA-1: damage to one costs no other member anything |
//!
//! `job.toml` of a pack is of format 2, and an infeed that doesn't know packs refuses it by that.
//!
//! Errors: [`SpoolError`]; [`Members::decode`] and [`PackContent::message`] give the reason as text.

use sha1::{Digest, Sha1};

use super::codec::{Dec, Enc, framed, unframe};
use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::id::JobId;
use super::job::JobMeta;
use super::layout::{JobDir, JobState};
use super::owner::{DirOwner, lock};
use super::submission::Begin;

const MAGIC: &[u8; 8] = b"IFPACK01";
/// Digits of a member's number, at most: of 64 octets of an id they take 8 with the dot.
const NUMBER_DIGITS_MAX: usize = 7;
/// The one column of a pack's recipients.
pub const MEMBER_COLUMN: &str = "member";

/// One small job, checked, as a pack takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedJob {
    /// Envelope sender; empty for the null sender.
    pub sender: String,
    /// Left-over placeholders in the message are meant literally.
    pub literal: bool,
    pub message: Vec<u8>,
    /// At least one, no address twice.
    pub recipients: Vec<String>,
}

/// What is to be committed as one pack.
#[derive(Debug, Clone)]
pub struct Pack {
    /// Never empty.
    pub jobs: Vec<PackedJob>,
    /// Who submits, and the policy of all members; what the spool knows better is filled in.
    pub meta: JobMeta,
}

/// What `members` says of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub sender: String,
    pub literal: bool,
    /// Where its message begins in `message`, in octets.
    pub start: u64,
    pub octets: u64,
    /// SHA-1 of its message.
    pub sha1: [u8; 20],
    pub first_ordinal: u64,
    pub recipients: u64,
}

impl Member {
    /// The place of a recipient of the pack among this member's, from 0; `None` for another member's.
    pub fn place(&self, ordinal: u64) -> Option<u64> {
        ordinal.checked_sub(self.first_ordinal).filter(|&place| place < self.recipients)
    }
}

/// The members of a pack, the first being number 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members(Vec<Member>);

impl Members {
    /// Lays the jobs out one after the other.
    pub fn of(jobs: &[PackedJob]) -> Self {
        let (mut start, mut first_ordinal) = (0, 0);
        let members = jobs.iter().map(|job| {
            let (octets, recipients) = (job.message.len() as u64, job.recipients.len() as u64);
            assert!(recipients > 0, "a member without recipients");
            let member = Member {
                sender: job.sender.clone(),
                literal: job.literal,
                start,
                octets,
                sha1: Sha1::digest(&job.message).into(),
                first_ordinal,
                recipients,
            };
            start += octets;
            first_ordinal += recipients;
            member
        });
        Self(members.collect())
    }

    /// The member of a number, from 1.
    pub fn get(&self, number: u32) -> Option<&Member> {
        self.0.get((number as usize).checked_sub(1)?)
    }

    /// All of them with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Member)> {
        (1..).zip(&self.0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file's bytes; it names the pack, so that it can't be taken for another's.
    pub fn encode(&self, pack: &JobId) -> Vec<u8> {
        let mut e = Enc(Vec::with_capacity(64 + 96 * self.0.len()));
        e.str16(pack.as_str()).u32(self.0.len() as u32);
        for m in &self.0 {
            e.str16(&m.sender).u8(u8::from(m.literal)).u64(m.start).u64(m.octets);
            e.raw(&m.sha1).u64(m.first_ordinal).u64(m.recipients);
        }
        framed(MAGIC, &e.0)
    }

    /// Reads the file's bytes; the reason when they are damaged, or not what `job.toml` speaks of.
    pub fn decode(bytes: &[u8], meta: &JobMeta) -> std::result::Result<Self, String> {
        let (header, rest) = unframe(MAGIC, bytes)?;
        let mut d = Dec(header);
        let early = || "it ends too early".to_owned();
        let pack = d.str16().ok_or_else(early)?;
        if pack != meta.id {
            return Err(format!("it is the pack {pack}'s"));
        }
        let n = d.u32().ok_or_else(early)?;
        let members = (0..n).map(|_| read_member(&mut d)).collect::<Option<Vec<_>>>().ok_or_else(early)?;
        if !d.is_empty() || !rest.is_empty() {
            return Err("something follows its last member".into());
        }
        let (mut octets, mut recipients) = (0_u64, 0_u64);
        for m in &members {
            if m.start != octets || m.first_ordinal != recipients {
                return Err("its members don't follow one another".into());
            }
            octets = octets.saturating_add(m.octets);
            recipients = recipients.saturating_add(m.recipients);
        }
        if meta.pack != Some(n) || octets != meta.message_bytes || recipients != meta.recipients {
            return Err(format!(
                "it counts {n} members, {octets} octets and {recipients} recipients, job.toml others"
            ));
        }
        Ok(Self(members))
    }
}

fn read_member(d: &mut Dec<'_>) -> Option<Member> {
    Some(Member {
        sender: d.str16()?.to_owned(),
        literal: d.u8()? != 0,
        start: d.u64()?,
        octets: d.u64()?,
        sha1: d.take(20)?.try_into().ok()?,
        first_ordinal: d.u64()?,
        recipients: d.u64()?,
    })
}

/// A pack's messages in memory, for its runner.
#[derive(Debug)]
pub struct PackContent {
    pub members: Members,
    message: Vec<u8>,
}

impl PackContent {
    /// The member of a number and its message; the reason when it is not there or damaged.
    pub fn message(&self, number: u32) -> std::result::Result<(&Member, &[u8]), String> {
        let member = self.members.get(number).ok_or_else(|| format!("the pack has no member {number}"))?;
        let octets = usize::try_from(member.start)
            .ok()
            .zip(usize::try_from(member.octets).ok())
            .and_then(|(start, n)| self.message.get(start..start.checked_add(n)?))
            .ok_or("its message lies beyond the end of the pack's")?;
        if <[u8; 20]>::from(Sha1::digest(octets)) != member.sha1 {
            return Err("the SHA-1 of its message is not the one in `members`".into());
        }
        Ok((member, octets))
    }
}

/// The id of a member.
pub fn member_id(pack: &JobId, number: u32) -> JobId {
    let id = format!("{pack}.{number}").parse();
    assert!(id.is_ok(), "the id of a pack leaves room for a number: {pack}");
    id.unwrap_or_else(|_: SpoolError| pack.clone())
}

/// Pack and number, where an id can be a member's.
pub fn split_member_id(id: &JobId) -> Option<(JobId, u32)> {
    let (pack, number) = id.as_str().rsplit_once('.')?;
    let is_number = (1..=NUMBER_DIGITS_MAX).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
        && !number.starts_with('0');
    if !is_number {
        return None;
    }
    Some((pack.parse().ok()?, number.parse().ok()?))
}

/// Where the pack of a member lies.
pub(super) struct PackPlace {
    pub pack: JobId,
    pub number: u32,
    pub state: JobState,
    pub dir: JobDir,
    pub meta: JobMeta,
}

impl DirSpool {
    /// Commits a pack, all or nothing: durable when this returns. Blocks on the disk.
    ///
    /// # Errors
    /// As a submission's; [`SpoolError::Unknown`]: it was made a job, and its durability is not known.
    pub fn commit_pack(&self, pack: &Pack) -> Result<JobMeta> {
        assert!(!pack.jobs.is_empty(), "a pack without members");
        let octets: usize = pack.jobs.iter().map(|job| job.message.len()).sum();
        self.preflight(octets as u64)?;
        let Begin::New(mut submission) = self.begin(None)? else { unreachable!("it has no key") };
        let mut message = Vec::with_capacity(octets);
        for (job, number) in pack.jobs.iter().zip(1_u32..) {
            message.extend_from_slice(&job.message);
            let number = number.to_string();
            for address in &job.recipients {
                submission.push(address, &[&number])?;
            }
        }
        let members = Members::of(&pack.jobs).encode(submission.id());
        let fingerprint = super::id::hex(&Sha1::digest(&members));
        submission.attach_members(members);
        submission.commit(&message, |_| JobMeta {
            merge: false,
            columns: vec![MEMBER_COLUMN.to_owned()],
            fingerprint,
            pack: Some(pack.jobs.len() as u32),
            ..pack.meta.clone()
        })
    }

    /// The pack that a member's id names, if it is there and has such a member.
    pub(super) fn pack_of(&self, member: &JobId) -> Result<Option<PackPlace>> {
        let Some((pack, number)) = split_member_id(member) else { return Ok(None) };
        // twice: it may be renamed between the two looks
        for _ in 0..2 {
            let (state, dir) = match self.find(&pack) {
                Ok(found) => found,
                Err(SpoolError::NoSuchJob(_) | SpoolError::PackMember { .. }) => return Ok(None),
                Err(e) => return Err(e),
            };
            match self.meta_of(&dir) {
                Ok(meta) => {
                    let has = meta.pack.is_some_and(|members| number <= members);
                    return Ok(has.then_some(PackPlace { pack, number, state, dir, meta }));
                }
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// What to say of an id under which no job lies: a member's names its pack.
    pub(super) fn not_found(&self, job: &JobId) -> SpoolError {
        match self.pack_of(job) {
            Ok(Some(place)) => SpoolError::PackMember {
                job: job.to_string(),
                pack: place.pack.to_string(),
                members: place.meta.pack.unwrap_or_default(),
            },
            Ok(None) => SpoolError::NoSuchJob(job.to_string()),
            Err(e) => e,
        }
    }

    pub(super) fn members_of(&self, dir: &JobDir, meta: &JobMeta) -> Result<Members> {
        let path = dir.members();
        let bytes = self.fs.read(&path).at("read", &path)?;
        Members::decode(&bytes, meta).map_err(|reason| SpoolError::damaged(&path, reason))
    }

    pub(super) fn pack_content(&self, dir: &JobDir) -> Result<PackContent> {
        let meta = self.meta_of(dir)?;
        let members = self.members_of(dir, &meta)?;
        let path = dir.message();
        let message = self.fs.read(&path).at("read", &path)?;
        Ok(PackContent { members, message })
    }
}

impl DirOwner {
    /// The members and messages of a pack. Blocks on the disk.
    pub fn pack_content(&self, pack: &JobId) -> Result<PackContent> {
        let dir = lock(&self.index).dir_of(pack)?;
        self.spool.pack_content(&dir)
    }
}
