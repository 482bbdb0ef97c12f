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

fn read(bytes: &[u8]) -> (Vec<Record>, u64) {
    let mut out = Vec::new();
    let bad = read_segment(name(), bytes, |r| out.push(r));
    (out, bad)
}

#[test]
fn a_journal_is_read_as_it_was_written() {
    assert_eq!(read(&bytes().0), (records(), 0));
}

#[test]
fn records_of_another_segment_are_not_taken_for_its_own() {
    let other = SegmentName { segment: 2, ..name() };
    let mut n = 0;
    read_segment(other, &bytes().0, |_| n += 1);
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
        prop_assert!(bad >= 1);
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
