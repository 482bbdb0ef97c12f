//! The spool against a plain model: submitted, claimed, settled, ended, killed and recovered at every
//! call that changes something, and every recipient is accounted for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::dir::{DirSpool, Settings};
use super::error::{Result, SpoolError};
use super::faulty::{Fault, FaultyFs};
use super::fs::{Fs, RealFs};
use super::id::{JobId, Outcome};
use super::job::{JobMeta, OnDoubt, PRIORITY_DEFAULT};
use super::layout::JobState;
use super::owner::{Claim, Claimed, DirOwner};
use super::results::Settled;
use super::submission::{Begin, Submission};
use crate::clock;
use crate::slice::XxRange;

mod checked;
mod cut;
mod disk_errors;
mod retention;
mod retries;
mod state;

fn settings() -> Settings {
    Settings {
        chunk_recipients_max: 3,
        free_bytes_min: 0,
        free_inodes_min: 0,
        journal_segment_bytes: 128 << 10,
        ..Settings::default()
    }
}

fn open(root: &Path) -> DirSpool {
    DirSpool::open(root, settings()).unwrap()
}

fn meta(_: &Submission) -> JobMeta {
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
        columns: vec!["name".into()],
        sender: "list@example.org".into(),
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
        priority: PRIORITY_DEFAULT,
        pack: None,
        fingerprint: "f".into(),
        message_sha1: String::new(),
        message_bytes: 0,
        manifest_crc32: 0,
    }
}

fn submit(spool: &DirSpool, key: &str, n: usize) -> Result<JobId> {
    let mut submission = match spool.begin(Some(key))? {
        Begin::New(s) => s,
        Begin::Exists(id, _) => return Ok(id),
    };
    for i in 0..n {
        submission.push(&format!("r{i}@example.org"), &[&format!("name {i}")])?;
    }
    submission.commit(b"Subject: x\r\n\r\ny\r\n", meta)?.job_id()
}

fn report(spool: &DirSpool, job: &JobId) -> BTreeMap<String, (Outcome, bool)> {
    let mut lines = BTreeMap::new();
    spool
        .report(job, &mut |l| {
            let before = lines.insert(l.address.clone(), (l.outcome, l.possible_repeat));
            assert!(before.is_none(), "{} is reported twice", l.address);
            Ok(())
        })
        .unwrap();
    let view = spool.view(job).unwrap();
    view.check_sum().unwrap();
    for outcome in Outcome::ALL {
        let n = lines.values().filter(|(o, _)| *o == outcome).count() as u64;
        assert_eq!(view.counts.of(outcome), n, "{outcome:?}: report and counts differ");
    }
    assert_eq!(view.counts.possible_repeats, lines.values().filter(|(_, r)| *r).count() as u64);
    lines
}

fn claim_next(owner: &DirOwner, job: &JobId) -> Result<Option<Claimed>> {
    let Some(name) = owner.next_due(job) else { return Ok(None) };
    match owner.claim(job, name)? {
        Claim::Claimed(c) => Ok(Some(c)),
        Claim::PutAside | Claim::Gone => Ok(None),
    }
}

fn hand_out(owner: &DirOwner, c: &Claimed, i: u16) -> std::result::Result<(), String> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(owner.hand_out(&[(c.handle, vec![i])]))
}

/// A tiny runner: sends every due recipient to `sent`, and defers those that `defer` names the first time.
fn drain(owner: &DirOwner, job: &JobId, sent: &mut Vec<String>, defer: &dyn Fn(&str) -> bool) -> Result<()> {
    owner.scan()?;
    while let Some(c) = claim_next(owner, job)? {
        for i in 0..c.chunk.len() {
            let r = c.chunk.recipient(i).unwrap();
            if hand_out(owner, &c, i as u16).is_err() {
                continue;
            }
            let now = clock::now_us();
            let attempts = r.state.attempts + 1;
            let settled = if attempts == 1 && defer(r.address) {
                Settled { due_us: now, ..Settled::local(Outcome::Deferred, attempts, now, "later") }
            } else {
                sent.push(r.address.to_owned());
                Settled::local(Outcome::Accepted, attempts, now, "Ok")
            };
            owner.record(c.handle, vec![(i as u16, settled)]);
        }
        owner.finish(c.handle)?;
    }
    Ok(())
}

#[test]
fn a_job_goes_from_submit_to_done_and_its_report_names_everybody_once() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "a", 10).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    let mut sent = Vec::new();
    drain(&owner, &job, &mut sent, &|a| a.starts_with("r3")).unwrap();
    assert_eq!(sent.len(), 10);
    assert!(spool.try_complete(&job).unwrap());
    assert_eq!(spool.find(&job).unwrap().0, JobState::Done);
    owner.close().unwrap();
    let lines = report(&spool, &job);
    assert_eq!(lines.len(), 10);
    assert!(lines.values().all(|l| *l == (Outcome::Accepted, false)));
    assert_eq!(spool.segments().unwrap(), []);
    let checked = spool.check(&mut |_| {}).unwrap();
    assert_eq!(checked.findings, []);
    spool.remove(&job).unwrap();
    assert!(matches!(spool.find(&job), Err(SpoolError::NoSuchJob(_))));
}

#[test]
fn a_submit_that_dies_anywhere_leaves_nothing_or_the_whole_job() {
    for fault in [Fault::Death, Fault::TornWrite, Fault::Once(nix::libc::ENOSPC)] {
        for at in 0.. {
            let dir = tempfile::tempdir().unwrap();
            open(dir.path());
            let fs = FaultyFs::new(fault, at);
            let made = DirSpool::open_on(Arc::new(fs.clone()), dir.path(), settings())
                .and_then(|spool| submit(&spool, "key", 8));
            let spool = open(dir.path());
            spool.sweep_incoming().unwrap();
            let there = spool.find(&"key".parse().unwrap());
            match &made {
                Ok(id) => assert_eq!(report(&spool, id).len(), 8),
                Err(SpoolError::Unknown { .. }) => assert!(there.is_ok()),
                Err(_) => assert!(there.is_err(), "call {at}: refused and yet there"),
            }
            assert_eq!(spool.names(&spool.layout.incoming()).unwrap(), Vec::<String>::new());
            // the same key again is harmless, and afterwards the job is whole
            let id = submit(&spool, "key", 8).unwrap();
            assert_eq!(report(&spool, &id).len(), 8);
            if fs.calls() <= at {
                break;
            }
            assert!(at < 500, "the submission never ends");
        }
    }
}

#[test]
fn a_drain_that_dies_anywhere_loses_nothing_and_marks_every_repeat() {
    for fault in [Fault::Death, Fault::TornWrite] {
        for at in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let job = submit(&open(dir.path()), "key", 8).unwrap();
            let fs = FaultyFs::new(fault, at);
            let mut sent = Vec::new();
            let defer = |a: &str| a.starts_with("r2") || a.starts_with("r5");
            let faulty: Arc<dyn Fs> = Arc::new(fs.clone());
            let died = DirSpool::open_on(faulty, dir.path(), settings()).and_then(|spool| {
                let owner = spool.own(XxRange::ALL)?;
                drain(&owner, &job, &mut sent, &defer)?;
                spool.try_complete(&job)?;
                owner.close()
            });
            let spool = open(dir.path());
            spool.check(&mut |_| {}).unwrap();
            let before = report(&spool, &job);
            assert_eq!(before.len(), 8, "call {at}");
            let owner = spool.own(XxRange::ALL).unwrap();
            assert_eq!(report(&spool, &job), before, "call {at}: recovery changed the report");
            drain(&owner, &job, &mut sent, &defer).unwrap();
            if spool.find(&job).unwrap().0 == JobState::Active {
                assert!(spool.try_complete(&job).unwrap(), "call {at}");
            }
            owner.close().unwrap();
            let after = report(&spool, &job);
            let mut times: BTreeMap<&str, usize> = BTreeMap::new();
            for a in &sent {
                *times.entry(a).or_default() += 1;
            }
            for (address, (outcome, repeat)) in &after {
                assert_eq!(*outcome, Outcome::Accepted, "call {at}: {address}");
                let n = times.get(address.as_str()).copied().unwrap_or(0);
                assert!(n >= 1, "call {at}: {address} was lost");
                assert!(n == 1 || *repeat, "call {at}: {address} went out {n} times and is not marked");
            }
            // one in flight at a time here: N x D x R is one
            assert!(times.values().map(|n| n - 1).sum::<usize>() <= 1, "call {at}: {times:?}");
            if fs.calls() <= at {
                died.unwrap();
                break;
            }
            assert!(at < 500, "the drain never ends");
        }
    }
}

#[test]
fn no_space_anywhere_in_a_drain_costs_nothing() {
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let job = submit(&open(dir.path()), "key", 8).unwrap();
        let fs = FaultyFs::new(Fault::Once(nix::libc::ENOSPC), at);
        let mut sent = Vec::new();
        let faulty: Arc<dyn Fs> = Arc::new(fs.clone());
        let outcome = DirSpool::open_on(faulty, dir.path(), settings()).and_then(|spool| {
            let owner = spool.own(XxRange::ALL)?;
            let mut ended = drain(&owner, &job, &mut sent, &|_| false);
            for _ in 0..3 {
                let open: Vec<u32> = owner.open_handles();
                for handle in open {
                    ended = owner.finish(handle).map(drop);
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            ended.and(owner.close())
        });
        drop(outcome);
        let spool = open(dir.path());
        let owner = spool.own(XxRange::ALL).unwrap();
        drain(&owner, &job, &mut sent, &|_| false).unwrap();
        owner.close().unwrap();
        let lines = report(&spool, &job);
        assert!(lines.values().all(|l| l.0 == Outcome::Accepted), "call {at}: {lines:?}");
        sent.sort();
        sent.dedup();
        assert_eq!(sent.len(), 8, "call {at}");
        if fs.calls() <= at {
            break;
        }
        assert!(at < 500, "the drain never ends");
    }
}

#[test]
fn k_changes_between_two_owners_and_the_journal_is_honoured() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 60).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let mut sent = Vec::new();
    for _ in 0..6 {
        let c = claim_next(&owner, &job).unwrap().unwrap();
        let r = c.chunk.recipient(0).unwrap();
        sent.push(r.address.to_owned());
        hand_out(&owner, &c, 0).unwrap();
        owner.record(c.handle, vec![(0, Settled::local(Outcome::Accepted, 1, 1, "Ok"))]);
    }
    // dies: the journal of 00-ff stays, six chunks are open in it
    drop(owner);
    assert_eq!(report(&spool, &job).values().filter(|l| l.0 == Outcome::Accepted).count(), 6);
    let halves = [XxRange { first: 0, last: 127 }, XxRange { first: 128, last: 255 }];
    let owners = halves.map(|r| spool.own(r).unwrap());
    assert!(matches!(spool.own(XxRange { first: 64, last: 64 }), Err(SpoolError::Owned { .. })));
    for owner in &owners {
        drain(owner, &job, &mut sent, &|_| false).unwrap();
    }
    assert!(spool.try_complete(&job).unwrap());
    for owner in owners {
        owner.close().unwrap();
    }
    assert_eq!(sent.len(), 60, "an outcome of the older journal was forgotten");
    assert!(report(&spool, &job).values().all(|l| *l == (Outcome::Accepted, false)));
    assert_eq!(spool.segments().unwrap(), []);
}

/// Flips bits in the header of one waiting chunk.
fn damage_a_chunk(spool: &DirSpool, job: &JobId) {
    let name = spool.view(job).unwrap().waiting[1].name;
    let path = spool.layout.job(JobState::Active, job).chunk(name);
    let mut bytes = RealFs.read(&path).unwrap();
    bytes[20] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_damaged_chunk_goes_to_quarantine_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 9).unwrap();
    damage_a_chunk(&spool, &job);
    assert!(spool.check(&mut |_| {}).unwrap().is_damaged());
    let owner = spool.own(XxRange::ALL).unwrap();
    let mut sent = Vec::new();
    for _ in 0..4 {
        drain(&owner, &job, &mut sent, &|_| false).unwrap();
    }
    assert_eq!(sent.len(), 6);
    let view = spool.view(&job).unwrap();
    assert_eq!(view.counts.of(Outcome::Quarantined), 3);
    assert!(spool.try_complete(&job).unwrap());
    assert_eq!(spool.names(&spool.layout.quarantine()).unwrap().len(), 2);
}

#[test]
fn a_chunk_at_three_deaths_is_passed_one_at_a_time_and_then_only_the_culprit_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 3).unwrap();
    for death in 0..6 {
        let owner = spool.own(XxRange::ALL).unwrap();
        owner.scan().unwrap();
        let c = claim_next(&owner, &job).unwrap().unwrap();
        assert_eq!(c.solo, death >= 3, "death {death}");
        hand_out(&owner, &c, 0).unwrap();
    }
    let owner = spool.own(XxRange::ALL).unwrap();
    assert_eq!(owner.recovered.quarantined, 1);
    let mut sent = Vec::new();
    drain(&owner, &job, &mut sent, &|_| false).unwrap();
    assert_eq!(sent.len(), 2);
    assert_eq!(spool.view(&job).unwrap().counts.of(Outcome::Quarantined), 1);
}

#[test]
fn on_doubt_hold_never_sends_twice() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let Begin::New(mut s) = spool.begin(None).unwrap() else { panic!("new") };
    s.push("a@example.org", &[""]).unwrap();
    s.push("b@example.org", &[""]).unwrap();
    let hold = |s: &Submission| JobMeta { on_doubt: OnDoubt::Hold, ..meta(s) };
    let job = s.commit(b"x", hold).unwrap().job_id().unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let c = claim_next(&owner, &job).unwrap().unwrap();
    hand_out(&owner, &c, 1).unwrap();
    drop(owner);
    let owner = spool.own(XxRange::ALL).unwrap();
    let mut sent = Vec::new();
    drain(&owner, &job, &mut sent, &|_| false).unwrap();
    assert_eq!(sent, ["a@example.org"]);
    assert_eq!(report(&spool, &job)["b@example.org"], (Outcome::InDoubt, true));
}

#[test]
fn a_cancelled_job_sends_no_more_and_forgets_no_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 9).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let c = claim_next(&owner, &job).unwrap().unwrap();
    hand_out(&owner, &c, 0).unwrap();
    owner.record(c.handle, vec![(0, Settled::local(Outcome::Accepted, 1, 1, "Ok"))]);
    let asked = std::thread::spawn({
        let (spool, job) = (spool.clone(), job.clone());
        move || spool.cancel(&job)
    });
    while !owner.scan().unwrap()[0].requested {
        std::thread::yield_now();
    }
    assert!(claim_next(&owner, &job).unwrap().is_none());
    owner.finish(c.handle).unwrap();
    asked.join().unwrap().unwrap();
    assert!(owner.scan().unwrap().is_empty());
    let counts = spool.view(&job).unwrap().counts;
    assert_eq!((counts.of(Outcome::Accepted), counts.of(Outcome::Cancelled)), (1, 8));
    assert_eq!(report(&spool, &job).len(), 9);
}

#[test]
fn a_full_segment_is_followed_by_one_that_holds_all_that_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let small = Settings { journal_segment_bytes: 70 << 10, progress_commit_ms: 1, ..settings() };
    let spool = DirSpool::open(dir.path(), small).unwrap();
    let job = submit(&spool, "key", 300).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let mut n = 0;
    let text = "t".repeat(1000);
    while let Some(c) = claim_next(&owner, &job).unwrap() {
        for i in 0..2.min(c.chunk.len()) as u16 {
            hand_out(&owner, &c, i).unwrap();
            owner.record(c.handle, vec![(i, Settled::local(Outcome::Accepted, 1, 1, text.clone()))]);
            n += 1;
        }
    }
    drop(owner);
    let segments = spool.segments().unwrap();
    assert!(segments.len() <= 2 && segments.last().unwrap().segment > 1, "{segments:?}");
    let accepted = report(&spool, &job).values().filter(|l| l.0 == Outcome::Accepted).count();
    assert_eq!(accepted, n);
}

#[test]
fn the_same_submission_within_a_day_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    assert_eq!(spool.submitted_lately("f").unwrap(), None);
    let job = submit(&spool, "key", 2).unwrap();
    assert_eq!(spool.submitted_lately("f").unwrap().map(|(j, _)| j), Some(job.clone()));
    spool.cancel(&job).unwrap();
    assert_eq!(spool.submitted_lately("f").unwrap(), None);
}

/// What a power cut leaves of a journal: nothing behind `kept`, the rest zeros, as preallocated.
fn forget_behind(path: &Path, kept: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[kept..].fill(0);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn after_a_power_cut_the_unsettled_of_claimed_chunks_are_marked() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 9).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let c = claim_next(&owner, &job).unwrap().unwrap();
    let segment = spool.layout.journal().join(spool.segments().unwrap()[0].file_name());
    let used = |path: &Path| std::fs::read(path).unwrap().iter().rposition(|&b| b != 0).unwrap() + 1;
    let claimed = used(&segment);
    let mut sent = Vec::new();
    for i in 0..2 {
        hand_out(&owner, &c, i).unwrap();
        sent.push(c.chunk.recipient(usize::from(i)).unwrap().address.to_owned());
        owner.record(c.handle, vec![(i, Settled::local(Outcome::Accepted, 1, 1, "Ok"))]);
    }
    drop(owner);
    // the claim was synced before anything was sent; what followed was not yet
    forget_behind(&segment, claimed);
    let rebooted = DirSpool { boot: "another boot".into(), ..open(dir.path()) };
    let marked = report(&rebooted, &job).values().filter(|l| l.1).count();
    assert_eq!(marked, 3, "the chunk in hand, and no other");
    let owner = rebooted.own(XxRange::ALL).unwrap();
    drain(&owner, &job, &mut sent, &|_| false).unwrap();
    owner.close().unwrap();
    let lines = report(&rebooted, &job);
    for address in lines.keys() {
        let n = sent.iter().filter(|a| *a == address).count();
        assert!(n == 1 || lines[address].1, "{address} went out {n} times and is not marked");
    }
}

#[test]
fn after_an_orderly_end_a_reboot_marks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 9).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let c = claim_next(&owner, &job).unwrap().unwrap();
    owner.finish(c.handle).unwrap();
    owner.close().unwrap();
    let rebooted = DirSpool { boot: "another boot".into(), ..open(dir.path()) };
    drop(rebooted.own(XxRange::ALL).unwrap());
    assert!(report(&rebooted, &job).values().all(|l| *l == (Outcome::Pending, false)));
}

#[test]
fn a_quarantine_that_dies_anywhere_keeps_everybody_accounted_for() {
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        let job = submit(&spool, "key", 9).unwrap();
        damage_a_chunk(&spool, &job);
        let fs = FaultyFs::new(Fault::Death, at);
        let faulty: Arc<dyn Fs> = Arc::new(fs.clone());
        let mut sent = Vec::new();
        let died = DirSpool::open_on(faulty, dir.path(), settings()).and_then(|spool| {
            let owner = spool.own(XxRange::ALL)?;
            for _ in 0..4 {
                drain(&owner, &job, &mut sent, &|_| false)?;
            }
            owner.close()
        });
        spool.view(&job).unwrap().check_sum().unwrap();
        let owner = spool.own(XxRange::ALL).unwrap();
        for _ in 0..4 {
            drain(&owner, &job, &mut sent, &|_| false).unwrap();
        }
        assert!(spool.try_complete(&job).unwrap(), "call {at}");
        let counts = spool.view(&job).unwrap().counts;
        assert_eq!((counts.of(Outcome::Quarantined), counts.of(Outcome::Accepted)), (3, 6), "call {at}");
        if fs.calls() <= at {
            died.unwrap();
            break;
        }
        assert!(at < 500, "the drain never ends");
    }
}

#[test]
fn a_retry_chunk_whose_name_was_lost_in_a_power_cut_is_not_sent_again_unmarked() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 3).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let first = claim_next(&owner, &job).unwrap().unwrap();
    // nobody tried: all of it goes into a remainder
    let child = owner.finish(first.handle).unwrap().children[0].name;
    let c = claim_next(&owner, &job).unwrap().unwrap();
    for i in 0..3 {
        hand_out(&owner, &c, i).unwrap();
        owner.record(c.handle, vec![(i, Settled::local(Outcome::Accepted, 1, 1, "Ok"))]);
    }
    drop(owner);
    let at = spool.layout.job(JobState::Active, &job);
    std::fs::rename(at.chunk(child), at.chunk_tmp(child)).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    let mut sent = Vec::new();
    drain(&owner, &job, &mut sent, &|_| false).unwrap();
    owner.close().unwrap();
    assert_eq!(sent, Vec::<String>::new(), "outcomes that were on disk were forgotten");
    assert_eq!(spool.view(&job).unwrap().counts.of(Outcome::Accepted), 3);
}

#[test]
fn cancelling_after_a_death_leaves_what_was_in_flight_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 3).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let c = claim_next(&owner, &job).unwrap().unwrap();
    hand_out(&owner, &c, 1).unwrap();
    drop(owner);
    spool.cancel(&job).unwrap();
    let counts = |spool: &DirSpool| {
        let lines = report(spool, &job);
        (lines["r1@example.org"], lines["r0@example.org"])
    };
    let expected = ((Outcome::InDoubt, true), (Outcome::Cancelled, false));
    assert_eq!(counts(&spool), expected);
    drop(spool.own(XxRange::ALL).unwrap());
    assert_eq!(counts(&spool), expected);
}

#[test]
fn a_job_that_cant_be_recovered_at_the_start_is_not_sent_from_before_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 3).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let c = claim_next(&owner, &job).unwrap().unwrap();
    hand_out(&owner, &c, 0).unwrap();
    owner.record(c.handle, vec![(0, Settled::local(Outcome::Accepted, 1, 1, "Ok"))]);
    drop(owner);
    let at = spool.layout.job(JobState::Active, &job).meta();
    let away = at.with_extension("away");
    std::fs::rename(&at, &away).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    std::fs::rename(&away, &at).unwrap();
    let mut sent = Vec::new();
    drain(&owner, &job, &mut sent, &|_| false).unwrap();
    assert_eq!(sent, Vec::<String>::new(), "its outcomes are in a journal that nobody read");
    owner.close().unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    drain(&owner, &job, &mut sent, &|_| false).unwrap();
    assert_eq!(sent.len(), 2);
}
