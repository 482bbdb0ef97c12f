//! The journal's records against damage.

use super::*;
use crate::spool::id::Outcome;
use proptest::prelude::*;

fn name() -> SegmentName {
    SegmentName { range: XxRange::ALL, epoch: 3, segment: 1 }
}

fn records() -> Vec<Record> {
    let job: JobId = "weekly".parse().unwrap();
    let chunk = ChunkName { due_us: 5, digest: ChunkDigest::of(&job, 0) };
    vec![
        Record::Segment { boot: "b".into() },
        Record::Claim { handle: 1, job, name: chunk, recipients: 9 },
        Record::Handed { handle: 1, indices: vec![0, 3] },
        Record::Outcome {
            handle: 1,
            index: 3,
            settled: Settled::local(Outcome::Accepted, 1, 7, "2.0.0 Ok: queued as 4X"),
        },
        Record::Released { handle: 1, indices: vec![0] },
        Record::Mark { handle: 1, indices: vec![] },
        Record::Passed { handle: 1 },
        Record::Close,
    ]
}

fn bytes() -> (Vec<u8>, Vec<usize>) {
    let mut e = Enc::default();
    let mut ends = Vec::new();
    for r in records() {
        frame(&mut e, name().seed(), &r);
        ends.push(e.0.len());
    }
    e.0.resize(e.0.len() + 4096, 0);
    (e.0, ends)
}

/// A file that gives so many octets at a time.
struct Given<'a>(&'a [u8], usize);

impl FsFile for Given<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len()).min(self.1);
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn read_in(bytes: &[u8], octets: usize) -> (Vec<Record>, BadPlaces) {
    let mut out = Vec::new();
    let bad = read_segment(name(), &Given(bytes, octets), |r| out.push(r)).unwrap();
    (out, bad)
}

fn read(bytes: &[u8]) -> (Vec<Record>, BadPlaces) {
    read_in(bytes, usize::MAX)
}

#[test]
fn a_journal_is_read_as_it_was_written() {
    assert_eq!(read(&bytes().0), (records(), BadPlaces::default()));
}

#[test]
fn a_journal_longer_than_what_is_held_of_it_is_read_to_its_end() {
    let (mut e, mut expected) = (Enc::default(), Vec::new());
    while e.0.len() < 3 * WINDOW_BYTES {
        let indices = (0..fastrand::u16(0..2_000)).collect();
        let record = Record::Handed { handle: fastrand::u32(..), indices };
        frame(&mut e, name().seed(), &record);
        expected.push(record);
    }
    e.0.resize(e.0.len() + 2 * WINDOW_BYTES, 0);
    for octets in [usize::MAX, 60_000, 4_001] {
        assert!(
            read_in(&e.0, octets) == (expected.clone(), BadPlaces::default()),
            "{octets} octets at a time"
        );
    }
}

#[test]
fn records_of_another_segment_are_not_taken_for_its_own() {
    let other = SegmentName { segment: 2, ..name() };
    let mut n = 0;
    read_segment(other, &Given(&bytes().0, usize::MAX), |_| n += 1).unwrap();
    assert_eq!(n, 0);
}

proptest! {
    #[test]
    fn a_bad_record_is_skipped_and_not_taken_as_the_end(at in 0usize..200, bit in 0u8..8) {
        let (mut b, ends) = bytes();
        let last = ends[ends.len() - 1];
        let at = at % last;
        b[at] ^= 1 << bit;
        let hit = ends.iter().filter(|&&e| e <= at).count();
        let mut expected = records();
        expected.remove(hit);
        let (got, bad) = read(&b);
        prop_assert_eq!(got, expected);
        prop_assert!(!bad.none());
        // the last one may as well have been cut short
        prop_assert!((bad.damaged > 0) != (hit == ends.len() - 1), "{bad:?}");
    }

    #[test]
    fn a_last_record_that_was_cut_short_is_no_damage(cut in 1usize..200, lost in 0usize..40, zeros in 0usize..300) {
        let (mut b, ends) = bytes();
        let cut = cut % b.len();
        b.truncate(cut);
        // sectors are written in any order
        let last = ends.iter().copied().filter(|&end| end <= cut).max().unwrap_or(0);
        b.iter_mut().skip(last).take(lost).for_each(|octet| *octet = 0);
        b.resize(b.len() + zeros, 0);
        // a record whose own last octets are zeros may be there all the same
        let original = bytes().0;
        let whole = ends.iter().take_while(|&&end| b.get(..end) == Some(&original[..end])).count();
        let read_to = whole.checked_sub(1).map_or(0, |i| ends[i]);
        let is_torn = b[read_to..].iter().any(|octet| *octet != 0);
        prop_assert_eq!(read(&b), (records()[..whole].to_vec(), BadPlaces { damaged: 0, is_end_torn: is_torn }));
    }

    #[test]
    fn damage_is_the_same_however_a_file_is_read(at in 0usize..4_000, n in 0usize..40, octets in 1usize..70) {
        let (mut b, _) = bytes();
        for octet in b.iter_mut().skip(at).take(n) {
            *octet = octet.wrapping_mul(31).wrapping_add(MARKER);
        }
        prop_assert_eq!(read_in(&b, octets), read(&b));
    }

    #[test]
    fn random_bytes_give_no_records(b in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(read(&b).0.len(), 0);
    }
}

#[test]
fn a_segments_name_is_read_as_it_is_written() {
    assert_eq!(SegmentName::parse(&name().file_name()), Some(name()));
    assert_eq!(SegmentName::parse("00-ff.3.1"), None);
}
