//! A chunk: up to 1,000 recipients of one job in one immutable file.
//!
//! The header holds the length of every record and has a checksum, and so has each record: one that is
//! damaged costs one recipient, and a damaged header costs the chunk (both go to quarantine).

use std::collections::BTreeMap;

use super::codec::{Dec, Enc, framed, unframe};
use super::error::{Result, SpoolError};
use super::id::{ChunkDigest, ChunkName, JobId};
use crate::clock::Micros;

const MAGIC: &[u8; 8] = b"IFCHNK01";

/// Recipients a chunk, at most; an index fits 16 bits.
pub const CHUNK_RECIPIENTS_MAX: usize = 1_000;
/// Bytes of records a chunk, at most.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Deaths of the process with a chunk in hand and no outcome between, after which its recipients are
/// passed one at a time.
pub const DEATHS_BEFORE_SOLO: u8 = 3;

/// What is known of one recipient when its chunk is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecipientState<'a> {
    /// Deliveries tried so far.
    pub attempts: u16,
    /// May have been sent already.
    pub possible_repeat: bool,
    /// Deaths of the process with this recipient alone in hand.
    pub solo_deaths: u8,
    /// When it was first deferred; 0 = never.
    pub deferred_since_us: Micros,
    /// Not before; 0 = at once.
    pub due_us: Micros,
    /// When the last reply came; 0 = none yet.
    pub last_us: Micros,
    /// The last reply: code and text; code 0 = none yet.
    pub code: u16,
    pub text: &'a str,
}

/// One recipient, borrowed from its chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientRecord<'a> {
    /// Its place in the job, from 0.
    pub ordinal: u64,
    pub state: RecipientState<'a>,
    pub address: &'a str,
    values: Dec2<'a>,
    values_n: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Dec2<'a>(&'a [u8]);

impl<'a> RecipientRecord<'a> {
    /// The columns' values, in the order of the job's columns.
    pub fn values(&self) -> impl Iterator<Item = &'a str> {
        let mut d = Dec(self.values.0);
        (0..self.values_n).map_while(move |_| d.str32())
    }
}

/// Builds a chunk's file.
pub struct ChunkWriter {
    records: Vec<u8>,
    lengths: Vec<u32>,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self { records: Vec::with_capacity(128 << 10), lengths: Vec::with_capacity(CHUNK_RECIPIENTS_MAX) }
    }
}

/// What a chunk's header says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHeader {
    pub job: JobId,
    /// Its number in the job; retries keep it.
    pub number: u32,
    /// For a retry or a remainder: the chunk whose pass made it. It counts only if that one's results name it.
    pub parent: Option<ChunkName>,
    /// Deaths of the process with it in hand and no outcome between.
    pub deaths: u8,
}

impl ChunkWriter {
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Bytes of records so far.
    pub fn bytes(&self) -> usize {
        self.records.len()
    }

    /// The address of a recipient that was pushed since the last `finish`.
    pub fn address(&self, i: usize) -> &str {
        let start: usize = self.lengths[..i].iter().map(|&n| n as usize).sum();
        let record = parse_record(&self.records[start..start + self.lengths[i] as usize]);
        assert!(record.is_ok(), "a record that was just written");
        record.map_or("", |r| r.address)
    }

    /// Appends one recipient; the caller keeps to the bounds.
    pub fn push<'v>(
        &mut self,
        ordinal: u64,
        address: &str,
        values: impl ExactSizeIterator<Item = &'v str>,
        state: &RecipientState<'_>,
    ) {
        let start = self.records.len();
        let mut e = Enc(std::mem::take(&mut self.records));
        e.u64(ordinal).u16(state.attempts).u8(u8::from(state.possible_repeat) | state.solo_deaths << 1);
        e.u64(state.deferred_since_us)
            .u64(state.due_us)
            .u64(state.last_us)
            .u16(state.code)
            .str16(state.text)
            .str16(address);
        e.u16(values.len() as u16);
        for v in values {
            e.str32(v);
        }
        let crc = crc32fast::hash(&e.0[start..]);
        e.u32(crc);
        self.lengths.push((e.0.len() - start) as u32);
        self.records = e.0;
    }

    /// The finished file; the writer is empty again.
    pub fn finish(&mut self, header: &ChunkHeader) -> Vec<u8> {
        assert!(
            !self.is_empty() && self.len() <= CHUNK_RECIPIENTS_MAX,
            "{} recipients in a chunk",
            self.len()
        );
        let mut h = Enc(Vec::with_capacity(128 + 4 * self.len()));
        h.str16(header.job.as_str()).u32(header.number).u8(header.deaths);
        match header.parent {
            None => h.u8(0),
            Some(p) => h.u8(1).u64(p.due_us).raw(&p.digest.0),
        };
        h.u16(self.lengths.len() as u16);
        for &n in &self.lengths {
            h.u32(n);
        }
        let mut out = framed(MAGIC, &h.0);
        out.extend_from_slice(&self.records);
        self.records.clear();
        self.lengths.clear();
        out
    }
}

/// A chunk in memory: its file's bytes, and where each record begins.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub header: ChunkHeader,
    bytes: Vec<u8>,
    /// `len + 1` offsets into `bytes`.
    offsets: Vec<u32>,
    /// Records that can't be read, and why.
    damaged: BTreeMap<u16, &'static str>,
    /// Nobody in it was tried before, and all of it can be read: so are most.
    is_fresh: bool,
}

/// Octets of a record before its two strings, the reply's text and the address.
const RECORD_HEAD: usize = 8 + 2 + 1 + 3 * 8 + 2;

impl Chunk {
    /// Reads a file's bytes; the reason when its header is damaged.
    pub fn parse(bytes: Vec<u8>) -> std::result::Result<Self, String> {
        let (header, records) = unframe(MAGIC, &bytes)?;
        let mut d = Dec(header);
        let (header, lengths) = parse_header(&mut d).ok_or("its header ends too early")?;
        let mut at = (bytes.len() - records.len()) as u32;
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        offsets.push(at);
        for n in lengths {
            at = at.saturating_add(n);
            offsets.push(at);
        }
        // once: a recipient is looked at several times in a pass
        let (mut damaged, mut is_fresh) = (BTreeMap::new(), true);
        for (i, ends) in (0u16..).zip(offsets.windows(2)) {
            let record = bytes.get(ends[0] as usize..ends[1] as usize);
            match record.ok_or("its record lies beyond the end of the file").and_then(parse_record) {
                Ok(record) => is_fresh &= record.state == RecipientState::default(),
                Err(reason) => drop(damaged.insert(i, reason)),
            }
        }
        is_fresh &= damaged.is_empty();
        Ok(Self { header, bytes, offsets, damaged, is_fresh })
    }

    /// Recipients, readable or not.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The recipient at `i < len()`; the reason when its record is damaged.
    pub fn recipient(&self, i: usize) -> std::result::Result<RecipientRecord<'_>, &'static str> {
        self.readable(i)?;
        read_record(&mut Dec(self.record(i))).ok_or("its record ends too early")
    }

    /// The address of the recipient at `i < len()`, which costs less than all of it.
    pub fn address(&self, i: usize) -> std::result::Result<&str, &'static str> {
        self.readable(i)?;
        let mut d = Dec(&self.record(i)[RECORD_HEAD..]);
        d.u16()
            .and_then(|text| d.take(usize::from(text)))
            .and_then(|_| d.str16())
            .ok_or("its record ends too early")
    }

    /// What was known of the recipient at `i < len()`; nothing, when its record is damaged.
    pub fn state(&self, i: usize) -> RecipientState<'_> {
        match self.is_fresh {
            true => RecipientState::default(),
            false => self.recipient(i).map(|r| r.state).unwrap_or_default(),
        }
    }

    /// Whether the recipient at `i < len()` can be read; the reason when its record is damaged.
    pub fn readable(&self, i: usize) -> std::result::Result<(), &'static str> {
        self.damaged.get(&(i as u16)).map_or(Ok(()), |reason| Err(*reason))
    }

    fn record(&self, i: usize) -> &[u8] {
        &self.bytes[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
}

/// One record as it lies in a chunk's file, checksum and all.
pub fn parse_record(record: &[u8]) -> std::result::Result<RecipientRecord<'_>, &'static str> {
    let (payload, crc) = record.split_last_chunk::<4>().ok_or("its record is too short")?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*crc) {
        return Err("the checksum of its record doesn't match");
    }
    let mut d = Dec(payload);
    read_record(&mut d).ok_or("its record ends too early")
}

fn read_record<'a>(d: &mut Dec<'a>) -> Option<RecipientRecord<'a>> {
    let ordinal = d.u64()?;
    let attempts = d.u16()?;
    let flags = d.u8()?;
    let deferred_since_us = d.u64()?;
    let due_us = d.u64()?;
    let last_us = d.u64()?;
    let code = d.u16()?;
    let text = d.str16()?;
    let address = d.str16()?;
    let values_n = d.u16()?;
    let state = RecipientState {
        attempts,
        possible_repeat: flags & 1 != 0,
        solo_deaths: flags >> 1,
        deferred_since_us,
        due_us,
        last_us,
        code,
        text,
    };
    Some(RecipientRecord { ordinal, state, address, values: Dec2(d.0), values_n })
}

fn parse_header(d: &mut Dec<'_>) -> Option<(ChunkHeader, Vec<u32>)> {
    let job = d.str16()?.parse().ok()?;
    let number = d.u32()?;
    let deaths = d.u8()?;
    let parent = match d.u8()? {
        0 => None,
        _ => Some(ChunkName { due_us: d.u64()?, digest: ChunkDigest(d.take(20)?.try_into().ok()?) }),
    };
    let n = d.u16()?;
    let lengths = (0..n).map(|_| d.u32()).collect::<Option<Vec<_>>>()?;
    d.is_empty().then_some((ChunkHeader { job, number, parent, deaths }, lengths))
}

/// Refuses a recipient that no chunk could hold.
pub fn check_size(ordinal: u64, address: &str, values: &[&str]) -> Result<usize> {
    let bytes = 64 + address.len() + values.iter().map(|v| v.len() + 4).sum::<usize>();
    if bytes > CHUNK_BYTES_MAX || address.len() > usize::from(u16::MAX) {
        return Err(SpoolError::RecipientTooLarge { ordinal, bytes, max: CHUNK_BYTES_MAX });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> ChunkHeader {
        let job: JobId = "weekly".parse().unwrap();
        let parent = ChunkName { due_us: 5, digest: ChunkDigest::of(&job, 3) };
        ChunkHeader { job, number: 3, parent: Some(parent), deaths: 1 }
    }

    fn two() -> Vec<u8> {
        let mut w = ChunkWriter::default();
        w.push(7, "a@example.org", ["x", ""].into_iter(), &RecipientState::default());
        let state = RecipientState {
            attempts: 2,
            possible_repeat: true,
            solo_deaths: 3,
            deferred_since_us: 9,
            due_us: 10,
            last_us: 8,
            code: 451,
            text: "4.7.1 later",
        };
        w.push(8, "b@example.org", ["ü", "z"].into_iter(), &state);
        w.finish(&header())
    }

    #[test]
    fn a_chunk_is_read_as_it_was_written() {
        let chunk = Chunk::parse(two()).unwrap();
        assert_eq!(chunk.header, header());
        let b = chunk.recipient(1).unwrap();
        assert_eq!((b.ordinal, b.address, b.state.text), (8, "b@example.org", "4.7.1 later"));
        assert!(b.state.possible_repeat);
        assert_eq!(b.state.solo_deaths, 3);
        assert_eq!(b.values().collect::<Vec<_>>(), ["ü", "z"]);
        assert_eq!(chunk.recipient(0).unwrap().state, RecipientState::default());
    }

    #[test]
    fn a_damaged_record_costs_one_recipient() {
        let mut bytes = two();
        let n = bytes.len();
        bytes[n - 8] ^= 1;
        let chunk = Chunk::parse(bytes).unwrap();
        assert!(chunk.recipient(0).is_ok());
        assert!(chunk.recipient(1).is_err());
    }

    proptest! {
        #[test]
        fn no_damage_goes_unnoticed_or_panics(at in 0usize..400, bit in 0u8..8, cut in 0usize..400) {
            let good = two();
            let mut bytes = good.clone();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            bytes.truncate(bytes.len() - cut % bytes.len());
            if let Ok(chunk) = Chunk::parse(bytes) {
                let intact = (0..chunk.len()).filter(|&i| chunk.recipient(i).is_ok()).count();
                prop_assert!(intact < 2);
            }
        }
    }
}
