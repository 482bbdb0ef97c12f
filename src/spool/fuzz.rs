//! Fuzz targets: the files of the spool, damaged, with checksums put right where chance never would.

use std::io;

use super::chunk::{CHUNK_RECIPIENTS_MAX, Chunk, ChunkHeader, ChunkWriter, RecipientState};
use super::domains::{Composition, DomainKey};
use super::fs::FsFile;
use super::id::{ChunkDigest, ChunkName, JobId, Outcome};
use super::journal::{BadPlaces, Record, SegmentName, frame_for_tests, read_segment};
use super::results::{Child, Settled};
use super::{domains, results};
use crate::fuzzing::{Fuzz, as_it_is, is_not_quadratic};
use crate::slice::XxRange;

/// Octets of magic, length and checksum before the header of a chunk or results file.
const FRAME: usize = 8 + 4 + 4;

const CHUNKS: Fuzz = Fuzz { name: "chunks", words: WORDS, mend: mend_chunk, target: chunk };
const RESULTS: Fuzz = Fuzz { name: "results", words: WORDS, mend: mend_results, target: results_file };
const JOURNALS: Fuzz = Fuzz { name: "journals", words: WORDS, mend: mend_journal, target: journal };
const NAMES: Fuzz = Fuzz {
    name: "names",
    words: &[
        b"+",
        b".",
        b"-",
        b"..",
        b"/",
        b"0000000000000001",
        b"00-ff",
        b".lock",
        b"\0",
        b"\xc3\xa9",
        b"id-",
    ],
    mend: as_it_is,
    target: names,
};
const WORDS: &[&[u8]] =
    &[b"IFCHNK01", b"IFRSLT01", b"IFDOMS01", b"\xb5\x03", b"\xb5\x04", b"weekly", b"a@b.example"];

fn job() -> JobId {
    "weekly-47".parse().expect("a job's id")
}

fn name(number: u32) -> ChunkName {
    ChunkName { due_us: 1_795_317_240_000_000, digest: ChunkDigest::of(&job(), number) }
}

fn u32_at(octets: &[u8], at: usize) -> Option<usize> {
    octets.get(at..at + 4)?.try_into().ok().map(|four| u32::from_le_bytes(four) as usize)
}

fn put(octets: &mut [u8], at: usize, value: u32) {
    if let Some(four) = octets.get_mut(at..at + 4) {
        four.copy_from_slice(&value.to_le_bytes());
    }
}

/// The header's checksum; gives where the header ends.
fn mend_frame(octets: &mut [u8]) -> Option<usize> {
    let end = FRAME.checked_add(u32_at(octets, 8)?)?;
    let crc = crc32fast::hash(octets.get(FRAME..end)?);
    put(octets, 12, crc);
    Some(end)
}

fn mend_chunk(octets: &mut [u8]) {
    let Some(mut at) = mend_frame(octets) else { return };
    // the lengths of the records stand at the end of the header, after their number
    for n in (1..=CHUNK_RECIPIENTS_MAX).rev() {
        let Some(lengths) = at.checked_sub(4 * n + 2).filter(|from| *from >= FRAME) else { continue };
        if octets[lengths..lengths + 2] != (n as u16).to_le_bytes() {
            continue;
        }
        for i in 0..n {
            let Some(len) = u32_at(octets, lengths + 2 + 4 * i) else { return };
            let Some(end) = at.checked_add(len).filter(|end| *end <= octets.len() && len >= 4) else {
                return;
            };
            let crc = crc32fast::hash(&octets[at..end - 4]);
            put(octets, end - 4, crc);
            at = end;
        }
        return;
    }
}

fn mend_results(octets: &mut [u8]) {
    let Some(end) = mend_frame(octets) else { return };
    if end >= FRAME + 8 {
        let body = octets.len() - end;
        let crc = crc32fast::hash(&octets[end..]);
        put(octets, end - 8, body as u32);
        put(octets, end - 4, crc);
        mend_frame(octets);
    }
}

const SEGMENT: SegmentName = SegmentName { range: XxRange::ALL, epoch: 3, segment: 1 };

fn mend_journal(octets: &mut [u8]) {
    let mut at = 0;
    while let Some(marker) = octets.get(at..).and_then(|rest| memchr::memchr(0xB5, rest)) {
        at += marker;
        let Some(&[_, kind, low, high, ..]) = octets.get(at..) else { return };
        let end = at + 8 + usize::from(u16::from_le_bytes([low, high]));
        let Some(payload) = octets.get(at + 8..end) else {
            at += 1;
            continue;
        };
        let crc = super::journal::checksum_for_tests(SEGMENT, kind, payload);
        put(octets, at + 4, crc);
        at = end;
    }
}

fn chunk(input: &[u8]) {
    let Ok(chunk) = Chunk::parse(input.to_vec()) else { return };
    let mut writer = ChunkWriter::default();
    let mut readable = Vec::new();
    for i in 0..chunk.len() {
        match chunk.recipient(i) {
            Ok(record) => {
                assert_eq!(chunk.address(i), Ok(record.address));
                assert_eq!(chunk.state(i), record.state);
                readable.push(i);
            }
            Err(reason) => {
                assert_eq!(chunk.readable(i), Err(reason));
                assert_eq!(chunk.state(i), RecipientState::default());
            }
        }
    }
    // what can be read, written again, is read the same
    readable.truncate(CHUNK_RECIPIENTS_MAX);
    for &i in &readable {
        let record = chunk.recipient(i).expect("readable");
        let values: Vec<&str> = record.values().collect();
        writer.push(record.ordinal, record.address, values.into_iter(), &record.state);
    }
    if readable.is_empty() {
        return;
    }
    let again = Chunk::parse(writer.finish(&chunk.header)).expect("what was just written");
    assert_eq!(again.header, chunk.header);
    for (new, &old) in readable.iter().enumerate() {
        let (new, old) = (again.recipient(new).expect("whole"), chunk.recipient(old).expect("readable"));
        assert_eq!((new.ordinal, new.address, new.state), (old.ordinal, old.address, old.state));
        assert!(new.values().eq(old.values()));
    }
}

fn results_file(input: &[u8]) {
    if let Ok(listed) = domains::decode(input) {
        assert_eq!(domains::decode(&domains::encode(&listed)).as_ref(), Ok(&listed));
    }
    let Ok((header, settled)) = results::decode(input) else { return };
    assert_eq!(results::header(input).as_ref(), Ok(&header));
    // an index of 16 bits, and a record of some 40 octets at least: nothing is larger than its file asks for
    assert!(settled.capacity() <= input.len() / 16, "room for {} outcomes", settled.capacity());
    if settled.iter().all(|(_, s)| s.outcome.is_final()) {
        let (again, counts) = results::encode(&header.children, settled.iter().map(|(i, s)| (*i, s)));
        let (header_again, settled_again) = results::decode(&again).expect("what was just written");
        assert_eq!((header_again.children, header_again.counts), (header.children, counts));
        assert_eq!(settled_again, settled);
    }
}

/// A segment in memory.
struct InMemory(Vec<u8>);

impl FsFile for InMemory {
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = &self.0[usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len())..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

fn records(octets: &[u8]) -> (Vec<Record>, BadPlaces) {
    let mut found = Vec::new();
    let bad = read_segment(SEGMENT, &InMemory(octets.to_vec()), |record| found.push(record));
    (found, bad.expect("it is in memory"))
}

fn journal(input: &[u8]) {
    let (found, _) = records(input);
    let mut again = Vec::new();
    for record in &found {
        frame_for_tests(SEGMENT, record, &mut again);
    }
    assert_eq!(
        records(&again),
        (found, BadPlaces::default()),
        "what was read, written again, is read the same"
    );
    // damage before a sound record never hides it
    let whole = records(&again).0;
    let damaged = [&b"\xb5\x04\xff\xff junk \xb5"[..], &again].concat();
    assert!(records(&damaged).0.ends_with(&whole), "a record is hidden by the damage before it");
}

fn names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(name) = ChunkName::parse(&text) {
        assert_eq!(name.to_string(), text);
    }
    if let Some(name) = SegmentName::parse(&text) {
        assert_eq!(name.file_name(), text);
    }
    for id in [text.parse::<JobId>().ok(), Some(JobId::from_key(&text))].into_iter().flatten() {
        let id = id.as_str();
        assert!(id.len() <= 64 && !id.starts_with('.') && !id.contains(['/', '\0', '\n']), "{id:?}");
        assert!(std::path::Path::new(id).components().count() == 1);
        if let Ok(id) = id.parse() {
            drop(super::pack::split_member_id(&id));
        }
    }
}

/// Files as the spool writes them: what the corpora begin with.
fn keep_corpora() {
    let mut writer = ChunkWriter::default();
    writer.push(7, "a@example.org", ["Jane", ""].into_iter(), &RecipientState::default());
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
    writer.push(8, "b\u{fc}@example.org", ["\u{fc}", "z"].into_iter(), &state);
    CHUNKS.keep(
        "two",
        &writer.finish(&ChunkHeader { job: job(), number: 3, parent: Some(name(3)), deaths: 1 }),
    );
    writer.push(0, "a@example.org", std::iter::empty(), &RecipientState::default());
    CHUNKS.keep("one", &writer.finish(&ChunkHeader { job: job(), number: 0, parent: None, deaths: 0 }));

    let mut accepted = Settled::local(Outcome::Accepted, 1, 5, "2.0.0 Ok");
    accepted.queue_id = "4abc".into();
    let refused = Settled::local(Outcome::Refused, 2, 6, "5.1.1 no");
    let child = Child { name: name(1), recipients: 3, deferred: 2, marked: 1 };
    RESULTS.keep("two", &results::encode(&[child], [(4, &accepted), (9, &refused)].into_iter()).0);
    RESULTS.keep("none", &results::encode(&[], std::iter::empty()).0);
    let listed = Composition { recipients: 3, domains: [(DomainKey(7), 2), (DomainKey(9), 1)].into() };
    RESULTS.keep("domains", &domains::encode(&[listed, Composition::default()]));
    // a header that counts more outcomes than memory holds
    let mut huge = results::encode(&[], [(1, &accepted)].into_iter()).0;
    let counts = FRAME + 2;
    put(&mut huge, counts + 8, u32::MAX);
    mend_results(&mut huge);
    RESULTS.keep("counts-beyond-memory", &huge);

    let mut segment = Vec::new();
    for record in [
        Record::Segment { boot: "b007".into() },
        Record::Claim { handle: 1, job: job(), name: name(2), recipients: 3 },
        Record::Handed { handle: 1, indices: vec![0, 2] },
        Record::Outcome { handle: 1, index: 0, settled: accepted },
        Record::Released { handle: 1, indices: vec![2] },
        Record::Mark { handle: 1, indices: vec![1] },
        Record::Passed { handle: 1 },
        Record::Close,
    ] {
        frame_for_tests(SEGMENT, &record, &mut segment);
    }
    JOURNALS.keep("all-records", &segment);
    segment.extend([0; 300]);
    segment.splice(40..40, *b"torn \xb5\x02\x10\x00");
    JOURNALS.keep("torn-and-padded", &segment);
    NAMES.keep("chunk", name(3).to_string().as_bytes());
    NAMES.keep("segment", SEGMENT.file_name().as_bytes());
    NAMES.keep("member", b"weekly-47.12");
    NAMES.keep("key", b"../../etc/passwd");
}

#[test]
fn chunks_results_journals_and_names() {
    keep_corpora();
    for fuzz in [CHUNKS, RESULTS, JOURNALS, NAMES] {
        fuzz.run();
    }
}

#[test]
fn results_that_count_more_than_they_hold_reserve_no_memory_for_it() {
    let corpus = RESULTS.corpus();
    let (_, huge) = corpus.iter().find(|(name, _)| name == "counts-beyond-memory").expect("in the corpus");
    let (header, settled) = results::decode(huge).expect("its checksums are right");
    assert!(header.counts.total() > u64::from(u32::MAX) / 2);
    assert!(settled.len() == 1 && settled.capacity() < 10, "room for {}", settled.capacity());
}

#[test]
fn a_long_text_of_our_own_fits_a_record_of_the_journal() {
    let settled = Settled::local(Outcome::Quarantined, 1, 5, "\u{fc}".repeat(100_000));
    let mut segment = Vec::new();
    frame_for_tests(SEGMENT, &Record::Outcome { handle: 1, index: 0, settled }, &mut segment);
    assert_eq!(records(&segment).0.len(), 1);
}

#[test]
fn a_journal_of_markers_is_read_once() {
    is_not_quadratic("markers", |n| vec![0xB5; n], |octets| drop(records(octets)));
}
