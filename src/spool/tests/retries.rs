//! Retries whose limit changes while an owner runs: none is tried before it is due.

use std::time::Duration;

use super::*;
use crate::clock::SECOND_US;

/// A spool whose retries wait up to `retry_delay_s_max` at the start.
fn open_with(root: &Path, retry_delay_s_max: u64) -> DirSpool {
    DirSpool::open(root, Settings { retry_delay_s_max, ..settings() }).unwrap()
}

/// Passes the only chunk of a job: all are taken but for the first, who is deferred for three hours.
fn put_off(owner: &DirOwner, job: &JobId) {
    owner.scan().unwrap();
    let c = claim_next(owner, job).unwrap().unwrap();
    let now = clock::now_us();
    for i in 0..c.chunk.len() as u16 {
        hand_out(owner, &c, i).unwrap();
        let settled = match i {
            0 => Settled {
                due_us: now + 3 * 3_600 * SECOND_US,
                ..Settled::local(Outcome::Deferred, 1, now, "later")
            },
            _ => Settled::local(Outcome::Accepted, 1, now, "Ok"),
        };
        owner.record(c.handle, vec![(i, settled)]);
    }
    owner.finish(c.handle).unwrap();
}

fn assert_waits(owner: &DirOwner, job: &JobId) {
    let due = owner.scan().unwrap();
    assert_eq!((due[0].due, due[0].later), (0, 1));
    assert_eq!(owner.next_due(job), None);
    assert_eq!(owner.waiting(job).domains.len(), 0);
}

#[test]
fn a_retry_put_off_further_than_the_limit_at_the_start_is_not_tried_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open_with(dir.path(), 3_600);
    let job = submit(&spool, "key", 3).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    put_off(&owner, &job);
    assert_waits(&owner, &job);
}

#[test]
fn a_job_resumed_after_the_limit_was_raised_has_no_retry_that_a_clock_put_off() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open_with(dir.path(), 0);
    let job = submit(&spool, "key", 3).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.set_retry_delay_s_max(3 * 3_600);
    put_off(&owner, &job);
    spool.pause(&job, "why").unwrap();
    assert_eq!(owner.scan().unwrap().len(), 0);
    spool.resume(&job, false).unwrap();
    assert_waits(&owner, &job);
    // by the limit of the start it would be tried a second after it was found
    std::thread::sleep(Duration::from_millis(1_100));
    assert_waits(&owner, &job);
}
