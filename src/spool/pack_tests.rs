//! Packs under the spool's tests: all or nothing at every fault, every member accounted for, damage that
//! costs one member, changes of state that are the pack's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::dir::{DirSpool, Settings};
use super::error::SpoolError;
use super::faulty::{Fault, FaultyFs};
use super::id::{JobId, Outcome};
use super::job::{FORMAT, FORMAT_PLAIN, JobMeta, OnDoubt};
use super::layout::JobState;
use super::owner::{Claim, DirOwner};
use super::pack::{Members, Pack, PackedJob, member_id, split_member_id};
use super::results::Settled;
use crate::slice::XxRange;

fn open(root: &Path) -> DirSpool {
    DirSpool::open(root, settings()).unwrap()
}

/// Chunks of four: a pack, and even a member, may lie in several.
fn settings() -> Settings {
    Settings { chunk_recipients_max: 4, free_bytes_min: 0, free_inodes_min: 0, ..Settings::default() }
}

fn meta() -> JobMeta {
    JobMeta {
        format: 0,
        id: String::new(),
        submitted_us: 0,
        submitted_by: "tester".into(),
        recipients: 0,
        chunks: 0,
        duplicates_dropped: 0,
        rejected_lines: 0,
        merge: false,
        columns: vec![],
        sender: String::new(),
        verp: None,
        notify: None,
        ret: None,
        on_doubt: OnDoubt::Resend,
        accept_refusals: false,
        suppress: None,
        rehearsal: false,
        mta: None,
        first: None,
        test_to: None,
        literal: false,
        messages_per_second: None,
        windows: Vec::new(),
        pack: None,
        priority: 5,
        fingerprint: String::new(),
        message_sha1: String::new(),
        message_bytes: 0,
        manifest_crc32: 0,
    }
}

/// Members of as many recipients as `sizes` says.
pub(super) fn pack(sizes: &[usize]) -> Pack {
    let jobs = sizes.iter().enumerate().map(|(m, &n)| PackedJob {
        sender: format!("s{m}@example.org"),
        literal: false,
        message: format!("From: s{m}@example.org\r\n\r\nmember {m}\r\n").into_bytes(),
        recipients: (0..n).map(|r| format!("m{m}r{r}@example.org")).collect(),
    });
    Pack { jobs: jobs.collect(), meta: meta() }
}

fn commit(spool: &DirSpool, sizes: &[usize]) -> JobId {
    spool.commit_pack(&pack(sizes)).unwrap().job_id().unwrap()
}

/// Outcomes of a job or a member; its view must say the same.
fn report(spool: &DirSpool, job: &JobId) -> BTreeMap<String, Outcome> {
    let mut lines = BTreeMap::new();
    spool
        .report(job, &mut |l| {
            assert!(lines.insert(format!("{}{}", l.address, l.ordinal), l.outcome).is_none());
            Ok(())
        })
        .unwrap();
    let view = spool.view(job).unwrap();
    view.check_sum().unwrap();
    for outcome in Outcome::ALL {
        let n = lines.values().filter(|o| **o == outcome).count() as u64;
        assert_eq!(view.counts.of(outcome), n, "{job} {outcome:?}: report and counts differ");
    }
    lines
}

/// Passes what is due: recipients that `accept` names are accepted, the rest refused.
fn pass(owner: &DirOwner, job: &JobId, accept: &dyn Fn(&str) -> bool) {
    owner.scan().unwrap();
    while let Some(name) = owner.next_due(job) {
        let Claim::Claimed(c) = owner.claim(job, name).unwrap() else { continue };
        for i in 0..c.chunk.len() {
            let Ok(r) = c.chunk.recipient(i) else { continue };
            let outcome = if accept(r.address) { Outcome::Accepted } else { Outcome::Refused };
            owner.record(c.handle, vec![(i as u16, Settled::local(outcome, 1, 1, "said"))]);
        }
        owner.finish(c.handle).unwrap();
    }
}

#[test]
fn a_pack_that_dies_anywhere_is_there_with_all_its_members_or_not_at_all() {
    for fault in [Fault::Death, Fault::TornWrite, Fault::Once(nix::libc::ENOSPC)] {
        for at in 0.. {
            let dir = tempfile::tempdir().unwrap();
            open(dir.path());
            let fs = FaultyFs::new(fault, at);
            let made = DirSpool::open_on(Arc::new(fs.clone()), dir.path(), settings())
                .and_then(|spool| spool.commit_pack(&pack(&[1, 2, 3])));
            let spool = open(dir.path());
            spool.sweep_incoming().unwrap();
            assert_eq!(spool.names(&spool.layout.incoming()).unwrap(), Vec::<String>::new());
            let there = spool.list_jobs().unwrap();
            assert!(there.len() <= 1, "call {at}");
            match &made {
                Ok(meta) => assert_eq!(meta.id, there[0].0.as_str()),
                Err(SpoolError::Unknown { job, .. }) => assert_eq!(job, there[0].0.as_str()),
                Err(_) => assert!(there.is_empty(), "call {at}: refused and yet there"),
            }
            for (job, _) in there {
                assert_eq!(report(&spool, &job).len(), 6);
                for (number, n) in [(1, 1), (2, 2), (3, 3)] {
                    assert_eq!(report(&spool, &member_id(&job, number)).len(), n);
                }
                assert_eq!(spool.check(&mut |_| {}).unwrap().findings, []);
            }
            if fs.calls() <= at {
                made.unwrap();
                break;
            }
            assert!(at < 500, "the pack never ends");
        }
    }
}

#[test]
fn a_member_has_its_own_counts_in_every_state_of_its_pack() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = commit(&spool, &[1, 6, 2]);
    let member = |n| member_id(&job, n);
    assert!(report(&spool, &member(2)).values().all(|o| *o == Outcome::Pending));
    spool.pause(&job, "for a test").unwrap();
    assert_eq!(spool.view(&member(3)).unwrap().state, JobState::Paused);
    spool.resume(&job, false).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    pass(&owner, &job, &|a| !a.starts_with("m1r5"));
    assert!(spool.try_complete(&job).unwrap());
    owner.close().unwrap();
    let view = spool.view(&member(2)).unwrap();
    assert_eq!((view.state, view.meta.sender.as_str()), (JobState::Done, "s1@example.org"));
    assert_eq!((view.counts.of(Outcome::Accepted), view.counts.of(Outcome::Refused)), (5, 1));
    assert_eq!(report(&spool, &member(2))["m1r5@example.org5"], Outcome::Refused);
    assert_eq!(report(&spool, &member(1)).len() + report(&spool, &member(3)).len(), 3);
    assert_eq!(report(&spool, &job).len(), 9);
    let other = commit(&spool, &[1, 1]);
    spool.cancel(&other).unwrap();
    assert_eq!(report(&spool, &member_id(&other, 1)).values().next(), Some(&Outcome::Cancelled));
}

#[test]
fn a_change_of_one_members_state_is_refused_and_names_the_pack() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = commit(&spool, &[1, 1]);
    let member = member_id(&job, 2);
    let refused = [
        spool.cancel(&member),
        spool.pause(&member, "x"),
        spool.resume(&member, false),
        spool.remove(&member),
    ];
    for result in refused {
        let Err(e @ SpoolError::PackMember { .. }) = result else { panic!("{result:?}") };
        assert!(e.to_string().contains(&format!("name {job} to")), "{e}");
    }
    for none in [member_id(&job, 3), member_id(&member, 1), "weekly.1".parse().unwrap()] {
        assert!(matches!(spool.view(&none), Err(SpoolError::NoSuchJob(_))), "{none}");
    }
    // a key that is a member's id doesn't shadow it
    let begun = spool.begin(Some(member.as_str())).unwrap();
    assert!(matches!(begun, super::submission::Begin::Exists(..)));
}

#[test]
fn an_infeed_that_knows_no_packs_refuses_one_by_its_format() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = commit(&spool, &[1]);
    assert_eq!(spool.view(&job).unwrap().meta.format, FORMAT);
    const { assert!(FORMAT > FORMAT_PLAIN) };
    // the spool itself, and ordinary jobs in it, it can use
    let spool_toml = std::fs::read_to_string(spool.layout.meta()).unwrap();
    assert!(spool_toml.contains("format = 1\n"), "{spool_toml}");
}

#[test]
fn damage_to_one_members_message_or_record_costs_that_member_alone() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = commit(&spool, &[1, 1, 2]);
    let place = spool.layout.job(JobState::Active, &job);
    let mut message = std::fs::read(place.message()).unwrap();
    let at = message.windows(8).position(|w| w == b"member 1").unwrap();
    message[at] ^= 1;
    std::fs::write(place.message(), &message).unwrap();
    let content = spool.pack_content(&place).unwrap();
    assert!(content.message(1).is_ok() && content.message(3).is_ok());
    assert!(content.message(2).unwrap_err().contains("SHA-1"));
    assert_eq!(spool.check(&mut |_| {}).unwrap().findings.len(), 1);
    // the last octets of the one chunk are the second recipient of member 3
    let name = spool.view(&job).unwrap().waiting[0].name;
    let path = place.chunk(name);
    let mut chunk = std::fs::read(&path).unwrap();
    let end = chunk.len();
    chunk[end - 8] ^= 1;
    std::fs::write(&path, &chunk).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    pass(&owner, &job, &|_| true);
    let third = spool.view(&member_id(&job, 3)).unwrap();
    third.check_sum().unwrap();
    assert_eq!((third.counts.of(Outcome::Accepted), third.counts.of(Outcome::Quarantined)), (1, 1));
    assert_eq!(report(&spool, &member_id(&job, 1)).values().next(), Some(&Outcome::Accepted));
}

#[test]
fn a_pack_goes_with_all_its_members() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = commit(&spool, &[1, 1]);
    spool.cancel(&job).unwrap();
    spool.remove(&job).unwrap();
    assert!(matches!(spool.view(&member_id(&job, 1)), Err(SpoolError::NoSuchJob(_))));
    assert_eq!(spool.names(&spool.layout.recent()).unwrap(), Vec::<String>::new());
}

proptest! {
    #[test]
    fn members_are_read_as_written_or_not_at_all(
        sizes in proptest::collection::vec(1_usize..4, 1..6),
        at in 0_usize..2_000,
        bit in 0_u8..8,
        cut in 0_usize..2_000,
    ) {
        let id: JobId = "20261122-031400-aaaaaa".parse().unwrap();
        let members = Members::of(&pack(&sizes).jobs);
        let last = members.iter().last().unwrap().1.clone();
        let meta = JobMeta {
            id: id.to_string(),
            pack: Some(sizes.len() as u32),
            message_bytes: last.start + last.octets,
            recipients: sizes.iter().sum::<usize>() as u64,
            ..meta()
        };
        let good = members.encode(&id);
        prop_assert_eq!(&Members::decode(&good, &meta).unwrap(), &members);
        let mut bad = good.clone();
        let at = at % bad.len();
        bad[at] ^= 1 << bit;
        bad.truncate(bad.len() - cut % bad.len());
        prop_assert!(Members::decode(&bad, &meta).is_err());
        let other: JobId = "20261122-031400-bbbbbb".parse().unwrap();
        prop_assert!(Members::decode(&members.encode(&other), &meta).is_err());
    }

    #[test]
    fn a_members_id_names_its_pack_and_number(number in 1_u32..9_999_999) {
        let pack = JobId::generate();
        prop_assert_eq!(split_member_id(&member_id(&pack, number)), Some((pack, number)));
    }
}

#[test]
fn what_only_looks_like_a_members_id_is_none() {
    for id in ["weekly-47", "a.0", "a.01", "a.b", "a.12345678", "a."] {
        assert_eq!(split_member_id(&id.parse().unwrap()), None, "{id}");
    }
}
