//! Ended jobs go when their time has come, and nothing else does.

use super::*;
use crate::spool::job::Summary;
use crate::spool::retention::{Pace, RetentionSettings, SWEEP_MAX, before_us, run};

const DAY_US: u64 = 86_400 * clock::SECOND_US;

fn at_once<T>(f: impl FnOnce(&mut Pace<'_>) -> T) -> T {
    f(&mut Pace::new(0, &|| false))
}

/// A job of `n` recipients that is done.
pub(super) fn done(spool: &DirSpool, key: &str, n: usize) -> JobId {
    let job = submit(spool, key, n).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    drain(&owner, &job, &mut Vec::new(), &|_| false).unwrap();
    owner.close().unwrap();
    assert!(spool.try_complete(&job).unwrap());
    job
}

/// As if it had ended `days` ago.
fn age(spool: &DirSpool, job: &JobId, days: u64) {
    let (state, dir) = spool.find(job).unwrap();
    let ended_us = clock::now_us() - days * DAY_US;
    if state == JobState::Done {
        let summary = spool.summary_of(&dir).unwrap().unwrap();
        spool.replace_toml(&dir.summary(), &Summary { finished_us: ended_us, ..summary }).unwrap();
    } else {
        let mut standing = spool.standing_of(&dir).unwrap();
        standing.ended_us = Some(ended_us);
        spool.replace_toml(&dir.standing(), &standing).unwrap();
    }
}

fn leftovers(spool: &DirSpool) -> usize {
    spool.names(&spool.layout.removed()).unwrap().len()
}

#[test]
fn only_ended_jobs_go_and_only_after_their_days() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let (old, young, gone) = (done(&spool, "old", 7), done(&spool, "young", 7), done(&spool, "gone", 4));
    let cancelled = submit(&spool, "cancelled", 5).unwrap();
    spool.cancel(&cancelled).unwrap();
    let late = submit(&spool, "late", 5).unwrap();
    spool.cancel(&late).unwrap();
    let active = submit(&spool, "active", 5).unwrap();
    let paused = submit(&spool, "paused", 5).unwrap();
    spool.pause(&paused, "why").unwrap();
    age(&spool, &old, 31);
    age(&spool, &gone, 40);
    age(&spool, &cancelled, 31);
    age(&spool, &late, 29);
    // however long ago they were submitted or paused
    for job in [&active, &paused] {
        age(&spool, job, 400);
    }
    let expired = at_once(|pace| spool.expired_jobs(before_us(30), pace)).unwrap();
    let ids: Vec<_> = expired.iter().map(|e| &e.job).collect();
    assert_eq!(ids, [&gone, &old, &cancelled]);
    assert_eq!(at_once(|pace| spool.prune(before_us(30), pace)).unwrap(), expired);
    let left: Vec<_> = spool.list_jobs().unwrap().into_iter().map(|(job, _)| job).collect();
    assert_eq!(left, [active, late, paused, young]);
    assert_eq!(leftovers(&spool), 0);
    // the catch against sending it twice outlives the job
    assert!(spool.submitted_lately("f").unwrap().is_some());
}

#[test]
fn a_report_that_is_being_read_keeps_its_job() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = done(&spool, "key", 6);
    age(&spool, &job, 99);
    let mut lines = 0;
    spool
        .report(&job, &mut |_| {
            lines += 1;
            assert!(matches!(spool.remove(&job), Err(SpoolError::BeingRead { .. })));
            assert_eq!(at_once(|pace| spool.prune(before_us(30), pace))?, []);
            Ok(())
        })
        .unwrap();
    assert_eq!(lines, 6);
    spool.remove(&job).unwrap();
}

#[test]
fn a_removal_that_dies_anywhere_leaves_the_whole_job_or_none_and_the_rest_goes_later() {
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        let job = done(&spool, "key", 5);
        let fs = FaultyFs::new(Fault::Death, at);
        let faulty: Arc<dyn Fs> = Arc::new(fs.clone());
        let died = DirSpool::open_on(faulty, dir.path(), settings()).and_then(|spool| spool.remove(&job));
        if spool.find(&job).is_ok() {
            assert_eq!(report(&spool, &job).len(), 5, "call {at}");
            spool.remove(&job).unwrap();
        } else {
            // the id is free again, whatever is left of the job
            submit(&spool, "key", 2).unwrap();
            spool.cancel(&job).unwrap();
            spool.remove(&job).unwrap();
        }
        assert_eq!(leftovers(&spool), 0, "call {at}");
        if fs.calls() <= at {
            died.unwrap();
            break;
        }
        assert!(at < 200, "the removal never ends");
    }
}

#[test]
fn a_start_unlinks_a_bounded_part_of_what_a_removal_left() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let left = spool.layout.removed().join("big.0000");
    std::fs::create_dir(&left).unwrap();
    let files = 3 * SWEEP_MAX as usize;
    for n in 0..files {
        std::fs::write(left.join(n.to_string()), "").unwrap();
    }
    let owner = spool.own(XxRange::ALL).unwrap();
    let after_start = std::fs::read_dir(&left).unwrap().count();
    assert!((files - SWEEP_MAX as usize..files).contains(&after_start), "{after_start}");
    owner.close().unwrap();
    at_once(|pace| spool.prune(0, pace)).unwrap();
    assert_eq!(leftovers(&spool), 0);
}

#[test]
fn a_removal_unlinks_its_own_files_and_leaves_those_of_a_prune_to_its_pace() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = done(&spool, "key", 5);
    let left = spool.layout.removed().join("other.0000");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("message"), "a prune's").unwrap();
    spool.remove(&job).unwrap();
    assert_eq!((leftovers(&spool), left.join("message").exists()), (1, true));
    at_once(|pace| spool.prune(before_us(30), pace)).unwrap();
    assert_eq!(leftovers(&spool), 0);
}

#[test]
fn a_prune_that_is_stopped_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = done(&spool, "key", 9);
    let steps = std::cell::Cell::new(0);
    let stopped = || steps.replace(steps.get() + 1) > 6;
    let gone = spool.prune(clock::now_us(), &mut Pace::new(0, &stopped)).unwrap();
    assert_eq!(gone.len(), 1);
    assert!(spool.find(&job).is_err());
    assert_eq!(leftovers(&spool), 1);
    assert_eq!(at_once(|pace| spool.prune(0, pace)).unwrap(), []);
    assert_eq!(leftovers(&spool), 0);
}

#[test]
fn steps_come_at_their_rate_and_not_in_a_burst() {
    let ms = std::time::Duration::from_millis;
    let mut pace = Pace::new(1000, &|| false);
    assert_eq!(pace.wait(ms(0)), ms(0));
    for _ in 0..100 {
        assert!(pace.step());
    }
    assert_eq!(pace.wait(ms(30)), ms(70));
    assert_eq!(pace.wait(ms(100)), ms(0));
    // a wait of less than a few milliseconds is put off, and adds up
    assert_eq!(pace.wait(ms(98)), ms(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_task_removes_what_is_old_and_ends_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 5).unwrap();
    spool.cancel(&job).unwrap();
    age(&spool, &job, 31);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let never = RetentionSettings { days: 0, unlinks_per_s_max: 1000 };
    run(spool.clone(), never, stopped.clone()).await;
    assert!(spool.find(&job).is_ok());
    let task = tokio::spawn(run(spool.clone(), RetentionSettings { days: 30, ..never }, stopped));
    while spool.find(&job).is_ok() || leftovers(&spool) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stop.send_replace(true);
    task.await.unwrap();
}
