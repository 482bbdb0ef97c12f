//! The progress journal: what a runner did, before it counts.
//!
//! A file a segment, `<xx range>.<epoch>.<segment>`, preallocated, one writer. A record is
//! `0xB5 | type | u16 length | u32 CRC-32 | payload`; the checksum is seeded with epoch and segment, so
//! that what an old file left on the disk is never taken for a record. Records:
//!
//! | record | written | guarantees |
//! | --- | --- | --- |
//! | `Segment` | first | whose it is: range, epoch, boot id |
//! | `Claim` | synced before the chunk's first transaction | after a power cut the unsettled of claimed chunks are a superset of what may have been sent |
//! | `Handed` | `write`n before content that can complete it | after a kill what may have been sent is known exactly |
//! | `Outcome` | `write`n before its slot is used again (with the `Handed` of that), synced as a group | settled recipients are not sent again |
//! | `Released` | when content was not taken for certain | no mark for what was never sent |
//! | `Mark` | with a claim that is carried forward | a possible repeat stays marked |
//! | `Passed` | after the results are on disk | |
//! | `Close` | at an orderly end | nothing was in hand |
//!
//! A new segment begins with all that is open (carried forward), and is synced before the older one is
//! unlinked: a replay never reads more than one or two segments. A file whose write or sync failed is
//! never written again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chunk::Chunk;
use super::codec::{Dec, Enc};
use super::error::{At, Result};
use super::fs::{Fs, FsFile};
use super::id::{ChunkDigest, ChunkName, JobId};
use super::results::{Settled, decode_settled, encode_settled};
use crate::slice::XxRange;

const MARKER: u8 = 0xB5;
const HEAD: usize = 8;
/// A record's length is two octets.
const RECORD_BYTES_MAX: usize = HEAD + u16::MAX as usize;
/// Of a segment, read at a time.
const WINDOW_BYTES: usize = 4 * RECORD_BYTES_MAX;

/// `<first>-<last>.<epoch>.<segment>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentName {
    pub range: XxRange,
    pub epoch: u32,
    pub segment: u32,
}

impl SegmentName {
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let range = XxRange::parse(parts.next()?)?;
        let epoch = parts.next()?.parse().ok()?;
        let segment = parts.next()?.parse().ok()?;
        let parsed = Self { range, epoch, segment };
        (parts.next().is_none() && parsed.file_name() == name).then_some(parsed)
    }

    pub fn file_name(&self) -> String {
        format!("{}.{:08}.{:08}", self.range, self.epoch, self.segment)
    }

    fn seed(&self) -> u32 {
        self.epoch.wrapping_mul(0x9E37_79B1) ^ self.segment
    }
}

/// One record, as replay hands it out.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Segment { boot: String },
    Claim { handle: u32, job: JobId, name: ChunkName, recipients: u16 },
    Handed { handle: u32, indices: Vec<u16> },
    Outcome { handle: u32, index: u16, settled: Settled },
    Released { handle: u32, indices: Vec<u16> },
    Mark { handle: u32, indices: Vec<u16> },
    Passed { handle: u32 },
    Close,
}

/// Kinds of records that are written without a [`Record`] in between: one of each goes with a message.
const HANDED: u8 = 3;
const OUTCOME: u8 = 4;
/// Every kind that there is.
const KINDS: std::ops::RangeInclusive<u8> = 1..=8;

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Record::Segment { .. } => 1,
            Record::Claim { .. } => 2,
            Record::Handed { .. } => HANDED,
            Record::Outcome { .. } => OUTCOME,
            Record::Released { .. } => 5,
            Record::Mark { .. } => 6,
            Record::Passed { .. } => 7,
            Record::Close => 8,
        }
    }

    fn encode(&self, e: &mut Enc) {
        match self {
            Record::Segment { boot } => {
                e.u16(1).str16(boot);
            }
            Record::Claim { handle, job, name, recipients } => {
                e.u32(*handle).str16(job.as_str()).u64(name.due_us).raw(&name.digest.0).u16(*recipients);
            }
            Record::Handed { handle, indices }
            | Record::Released { handle, indices }
            | Record::Mark { handle, indices } => encode_indices(e, *handle, indices),
            Record::Outcome { handle, index, settled } => encode_outcome(e, *handle, *index, settled),
            Record::Passed { handle } => {
                e.u32(*handle);
            }
            Record::Close => {}
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Option<Self> {
        let mut d = Dec(payload);
        let indices = |d: &mut Dec<'_>| -> Option<Vec<u16>> {
            let n = d.u16()?;
            (0..n).map(|_| d.u16()).collect()
        };
        Some(match kind {
            1 => {
                d.u16()?;
                Record::Segment { boot: d.str16()?.to_owned() }
            }
            2 => Record::Claim {
                handle: d.u32()?,
                job: d.str16()?.parse().ok()?,
                name: ChunkName { due_us: d.u64()?, digest: ChunkDigest(d.take(20)?.try_into().ok()?) },
                recipients: d.u16()?,
            },
            HANDED => Record::Handed { handle: d.u32()?, indices: indices(&mut d)? },
            OUTCOME => {
                let handle = d.u32()?;
                let (index, settled) = decode_settled(&mut d)?;
                Record::Outcome { handle, index, settled }
            }
            5 => Record::Released { handle: d.u32()?, indices: indices(&mut d)? },
            6 => Record::Mark { handle: d.u32()?, indices: indices(&mut d)? },
            7 => Record::Passed { handle: d.u32()? },
            8 => Record::Close,
            _ => return None,
        })
    }
}

fn encode_indices(e: &mut Enc, handle: u32, indices: &[u16]) {
    e.u32(handle).u16(indices.len() as u16);
    for i in indices {
        e.u16(*i);
    }
}

fn encode_outcome(e: &mut Enc, handle: u32, index: u16, settled: &Settled) {
    e.u32(handle);
    encode_settled(e, index, settled);
}

/// Appends one framed record.
fn frame(e: &mut Enc, seed: u32, record: &Record) {
    framed(e, seed, record.kind(), |e| record.encode(e));
}

/// Appends a record of this kind with what `encode` makes of it.
fn framed(e: &mut Enc, seed: u32, kind: u8, encode: impl FnOnce(&mut Enc)) {
    let start = e.0.len();
    e.u8(MARKER).u8(kind).u16(0).u32(0);
    encode(e);
    let len = e.0.len() - start - HEAD;
    assert!(len <= usize::from(u16::MAX), "a journal record of {len} bytes");
    e.0[start + 2..start + 4].copy_from_slice(&(len as u16).to_le_bytes());
    let crc = checksum(seed, e.0[start + 1], &e.0[start + HEAD..]);
    e.0[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(seed: u32, kind: u8, payload: &[u8]) -> u32 {
    let [low, high] = (payload.len() as u16).to_le_bytes();
    let mut h = crc32fast::Hasher::new_with_initial(seed);
    h.update(&[kind, low, high]);
    h.update(payload);
    h.finalize()
}

/// Where a segment holds something else than records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BadPlaces {
    /// Before a sound record: something was damaged.
    pub damaged: u64,
    /// After the last one: a crash cut its writing short, and nothing was said to hang on it.
    pub is_end_torn: bool,
}

impl BadPlaces {
    pub fn none(self) -> bool {
        self == Self::default()
    }
}

/// Hands every sound record of a segment to `each`, in order; what is torn or bad is stepped over, and
/// told. A piece of the file is in memory at a time.
///
/// # Errors
/// Those of reading.
pub fn read_segment(
    name: SegmentName,
    file: &dyn FsFile,
    mut each: impl FnMut(Record),
) -> io::Result<BadPlaces> {
    let mut scan = Scan { seed: name.seed(), ..Scan::default() };
    let mut window = vec![0; WINDOW_BYTES];
    let (mut held, mut offset) = (0, 0);
    loop {
        let read = file.read_at(&mut window[held..], offset)?;
        offset += read as u64;
        let filled = held + read;
        let used = scan.take(&window[..filled], read == 0, &mut each);
        if read == 0 {
            let is_end_torn = scan.in_bad || scan.junk;
            return Ok(BadPlaces { damaged: scan.bad_places - u64::from(scan.in_bad), is_end_torn });
        }
        window.copy_within(used..filled, 0);
        held = filled - used;
    }
}

/// How far a segment has been read.
#[derive(Debug, Default)]
struct Scan {
    seed: u32,
    bad_places: u64,
    /// The bad place is counted already.
    in_bad: bool,
    /// Something other than zeros came since the last record.
    junk: bool,
}

impl Scan {
    /// Reads records until less is left than one may need; gives the octets that were used. `is_last`:
    /// nothing follows, all of it is used.
    fn take(&mut self, bytes: &[u8], is_last: bool, each: &mut impl FnMut(Record)) -> usize {
        let mut at = 0;
        while at < bytes.len() && (is_last || bytes.len() - at >= RECORD_BYTES_MAX) {
            let skip = memchr::memchr(MARKER, &bytes[at..]).unwrap_or(bytes.len() - at);
            self.junk |= !is_zeros(&bytes[at..at + skip]);
            at += skip;
            if at == bytes.len() || !(is_last || bytes.len() - at >= RECORD_BYTES_MAX) {
                break;
            }
            if std::mem::take(&mut self.junk) && !self.in_bad {
                self.bad_places += 1;
                self.in_bad = true;
            }
            match record_at(self.seed, &bytes[at..]) {
                Some((record, len)) => {
                    each(record);
                    at += len;
                    self.in_bad = false;
                }
                None => {
                    at += 1;
                    self.bad_places += u64::from(!self.in_bad);
                    self.in_bad = true;
                }
            }
        }
        at
    }
}

/// A segment is preallocated: most of it may be zeros.
fn is_zeros(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|part| *part == ZEROS[..part.len()])
}

fn record_at(seed: u32, bytes: &[u8]) -> Option<(Record, usize)> {
    let head = bytes.get(..HEAD)?;
    let kind = head[1];
    let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let payload = bytes.get(HEAD..HEAD + len)?;
    // what can't be a record is not summed up: 64 KiB for each octet of a place that is full of markers
    if !KINDS.contains(&kind) {
        return None;
    }
    if checksum(seed, kind, payload) != crc {
        return None;
    }
    Record::decode(kind, payload).map(|r| (r, HEAD + len))
}

/// A claimed chunk, and all that happened to its recipients since.
#[derive(Debug, Clone)]
pub struct OpenChunk {
    pub job: JobId,
    pub name: ChunkName,
    pub chunk: Arc<Chunk>,
    /// By index; `Deferred` counts as settled for this pass.
    pub settled: Vec<Option<Settled>>,
    /// Content may have gone out, and no outcome is known.
    pub handed: Vec<bool>,
    /// May have been sent before.
    pub marked: Vec<bool>,
}

impl OpenChunk {
    pub fn new(job: JobId, name: ChunkName, chunk: Arc<Chunk>) -> Self {
        let n = chunk.len();
        let marked = (0..n).map(|i| chunk.state(i).possible_repeat).collect();
        Self { job, name, chunk, settled: vec![None; n], handed: vec![false; n], marked }
    }

    fn indices(flags: &[bool]) -> Vec<u16> {
        flags.iter().enumerate().filter(|(_, set)| **set).map(|(i, _)| i as u16).collect()
    }

    /// All of it as records, for a new segment.
    fn carry(&self, handle: u32, e: &mut Enc, seed: u32) {
        let claim = Record::Claim {
            handle,
            job: self.job.clone(),
            name: self.name,
            recipients: self.chunk.len() as u16,
        };
        frame(e, seed, &claim);
        frame(e, seed, &Record::Mark { handle, indices: Self::indices(&self.marked) });
        for (index, settled) in self.settled.iter().enumerate() {
            if let Some(s) = settled {
                frame(e, seed, &Record::Outcome { handle, index: index as u16, settled: s.clone() });
            }
        }
        frame(e, seed, &Record::Handed { handle, indices: Self::indices(&self.handed) });
    }
}

/// The writing side: one segment open at a time.
pub struct JournalWriter {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    name: SegmentName,
    file: Arc<dyn FsFile>,
    at: u64,
    size: u64,
    segment_bytes: u64,
    boot: String,
    /// Noted and not yet written.
    pending: Enc,
    /// Segments that this writer made and that are still there, this one last.
    live: Vec<SegmentName>,
}

impl JournalWriter {
    /// Creates the first segment of a new epoch; durable when it returns.
    pub fn create(
        fs: Arc<dyn Fs>,
        dir: &Path,
        range: XxRange,
        epoch: u32,
        segment_bytes: u64,
        boot: &str,
    ) -> Result<Self> {
        let name = SegmentName { range, epoch, segment: 0 };
        let (file, at, size) =
            new_segment(fs.as_ref(), dir, name, segment_bytes, boot, &mut std::iter::empty())?;
        Ok(Self {
            fs,
            dir: dir.to_path_buf(),
            name,
            file,
            at,
            size,
            segment_bytes,
            boot: boot.to_owned(),
            pending: Enc::default(),
            live: vec![name],
        })
    }

    /// The file to sync; syncing it needs no lock on the writer.
    pub fn file(&self) -> Arc<dyn FsFile> {
        self.file.clone()
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.dir.join(self.name.file_name())
    }

    /// Whether the next records want a new segment first.
    pub fn is_full(&self) -> bool {
        self.at + self.pending.0.len() as u64 + (64 << 10) > self.size
    }

    pub fn epoch(&self) -> u32 {
        self.name.epoch
    }

    /// Notes a record, for the next flush.
    pub fn note(&mut self, record: &Record) {
        frame(&mut self.pending, self.name.seed(), record);
    }

    /// Notes an outcome, for the next flush.
    pub fn note_outcome(&mut self, handle: u32, index: u16, settled: &Settled) {
        let seed = self.name.seed();
        framed(&mut self.pending, seed, OUTCOME, |e| encode_outcome(e, handle, index, settled));
    }

    /// Notes recipients that are handed out, for the next flush.
    pub fn note_handed(&mut self, handle: u32, indices: &[u16]) {
        framed(&mut self.pending, self.name.seed(), HANDED, |e| encode_indices(e, handle, indices));
    }

    /// Octets that were noted and not yet written.
    pub fn pending(&self) -> usize {
        self.pending.0.len()
    }

    /// `write`s what was noted, in one call. On an error the segment must not be used again.
    pub fn flush(&mut self) -> Result<()> {
        if self.pending.0.is_empty() {
            return Ok(());
        }
        if let Err(e) = self.file.write_at(&self.pending.0, self.at) {
            return Err(e).at("write the journal", &self.path());
        }
        self.at += self.pending.0.len() as u64;
        self.pending.0.clear();
        Ok(())
    }

    /// Begins a new segment with everything that is open, makes it durable, then unlinks the older
    /// ones. On an error nothing has changed but for a file that replay reads without harm.
    pub fn rotate(&mut self, open: &mut dyn Iterator<Item = (u32, &OpenChunk)>) -> Result<()> {
        let last = self.live.last().map_or(0, |s| s.segment);
        let name = SegmentName { segment: last + 1, ..self.name };
        self.live.push(name);
        let (file, at, size) =
            new_segment(self.fs.as_ref(), &self.dir, name, self.segment_bytes, &self.boot, open)?;
        (self.file, self.at, self.size, self.name) = (file, at, size, name);
        // what was noted is part of what is open
        self.pending.0.clear();
        for old in std::mem::take(&mut self.live) {
            if old == name {
                self.live.push(old);
            } else if let Err(e) = self.fs.remove_file(&self.dir.join(old.file_name()))
                && e.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!("a covered journal segment stays: {}: {e}", old.file_name());
                self.live.insert(0, old);
            }
        }
        Ok(())
    }

    /// Ends the journal: nothing is open. The segments go; what stays by an error is harmless.
    pub fn close(mut self) -> Result<()> {
        self.note(&Record::Close);
        self.flush()?;
        self.file.sync().at("sync the journal", &self.path())?;
        for name in &self.live {
            let path = self.dir.join(name.file_name());
            match self.fs.remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).at("remove", &path),
                _ => {}
            }
        }
        Ok(())
    }
}

fn new_segment(
    fs: &dyn Fs,
    dir: &Path,
    name: SegmentName,
    segment_bytes: u64,
    boot: &str,
    open: &mut dyn Iterator<Item = (u32, &OpenChunk)>,
) -> Result<(Arc<dyn FsFile>, u64, u64)> {
    let mut e = Enc::default();
    frame(&mut e, name.seed(), &Record::Segment { boot: boot.to_owned() });
    for (handle, chunk) in open {
        chunk.carry(handle, &mut e, name.seed());
    }
    let size = segment_bytes.max(2 * e.0.len() as u64);
    let path = dir.join(name.file_name());
    let file: Arc<dyn FsFile> = Arc::from(fs.create_new(&path).at("create", &path)?);
    file.allocate(size).at("reserve space for the journal", &path)?;
    file.write_at(&e.0, 0).at("write the journal", &path)?;
    file.sync().at("sync the journal", &path)?;
    fs.sync_dir(dir).at("sync", dir)?;
    Ok((file, e.0.len() as u64, size))
}

/// Changes with every boot: tells a dead process from a power cut. Empty where the kernel has none.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|s| s.trim().to_owned())
        .unwrap_or_default()
}

/// Appends a record as it stands in a segment.
#[cfg(test)]
pub fn frame_for_tests(name: SegmentName, record: &Record, out: &mut Vec<u8>) {
    let mut e = Enc(std::mem::take(out));
    frame(&mut e, name.seed(), record);
    *out = e.0;
}

#[cfg(test)]
pub fn checksum_for_tests(name: SegmentName, kind: u8, payload: &[u8]) -> u32 {
    checksum(name.seed(), kind, payload)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
