//! A process that works on a recorded spool: it submits, drains and commands, and marks in the log what it
//! was told and what it sent.

use std::path::Path;
use std::sync::Arc;

use super::known::{Mark, Place};
use crate::clock;
use crate::spool::dir::{DirSpool, Settings};
use crate::spool::error::{Result, SpoolError};
use crate::spool::id::{JobId, Outcome};
use crate::spool::layout::JobState;
use crate::spool::owner::{Claim, Claimed, DirOwner};
use crate::spool::recorder::Recorder;
use crate::spool::results::Settled;
use crate::spool::state::{Change, Requested};

/// Messages in flight: N x D x R.
pub const IN_FLIGHT: usize = 2;
/// `progress_unsynced_max`.
pub const UNSYNCED_MAX: usize = 6;
/// A try after an error, of so many.
const TRIES: usize = 50;

pub fn settings() -> Settings {
    Settings {
        chunk_recipients_max: 3,
        free_bytes_min: 0,
        free_inodes_min: 0,
        progress_unsynced_max: UNSYNCED_MAX as u64,
        // so that much is unsynced: claims and a full measure of unsynced recipients hurry it
        progress_commit_ms: 1_000,
        journal_segment_bytes: 70 << 10,
        ..Settings::default()
    }
}

/// Who is deferred at the first attempt.
fn is_deferred(address: &str, attempts: u16) -> bool {
    attempts == 1 && ["r2@", "r5@", "r6@"].iter().any(|r| address.starts_with(r))
}

pub struct Actor {
    pub spool: DirSpool,
    pub recorder: Recorder<Mark>,
    /// What each reply of the MTA says: long ones fill a segment soon.
    reply: String,
}

impl Actor {
    /// `boot` tells one start of the machine from another.
    pub fn start(recorder: &Recorder<Mark>, root: &Path, boot: usize, settings: Settings) -> Result<Self> {
        let mut spool = DirSpool::open_on(Arc::new(recorder.clone()), root, settings)?;
        spool.boot = format!("boot {boot}");
        Ok(Self { spool, recorder: recorder.clone(), reply: "Ok".into() })
    }

    /// The same, of an MTA that says this.
    pub fn with_reply(&self, reply: String) -> Self {
        Self { spool: self.spool.clone(), recorder: self.recorder.clone(), reply }
    }

    /// Tries until it works: only after a sync that was made to fail may it fail at all.
    pub fn again<T>(&self, mut act: impl FnMut() -> Result<T>) -> T {
        for _ in 0..TRIES {
            match act() {
                Ok(done) => return done,
                Err(e) => assert!(self.recorder.has_failed(), "{e}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("it fails for ever, though one sync failed: {:?}", act().err().map(|e| e.to_string()))
    }

    pub fn submit(&self, key: &str, n: usize) -> JobId {
        let job = JobId::from_key(key);
        self.recorder.mark(Mark::Begun(job.clone(), n));
        self.again(|| crate::spool::tests::submit(&self.spool, key, n));
        self.recorder.mark(Mark::Submitted(job.clone(), n));
        job
    }

    pub fn own(&self) -> DirOwner {
        self.again(|| self.spool.own(crate::slice::XxRange::ALL))
    }

    fn claim_next(&self, owner: &DirOwner, job: &JobId) -> Option<Claimed> {
        self.again(|| {
            owner.scan()?;
            let Some(name) = owner.next_due(job) else { return Ok(None) };
            match owner.claim(job, name)? {
                Claim::Claimed(c) => Ok(Some(c)),
                other => panic!("{job}: {other:?} of a sound chunk"),
            }
        })
    }

    /// Drains up to so many chunks of a job; gives how many it did.
    pub fn drain(&self, owner: &DirOwner, job: &JobId, chunks_max: usize) -> usize {
        for done in 0..chunks_max {
            let Some(c) = self.claim_next(owner, job) else { return done };
            self.pass(owner, &c, c.chunk.len());
        }
        chunks_max
    }

    /// Claims a chunk, sends to the first `n` of it, and ends its pass.
    pub fn drain_part(&self, owner: &DirOwner, job: &JobId, n: usize) {
        let c = self.claim_next(owner, job).expect("a chunk is due");
        self.pass(owner, &c, n);
    }

    /// Claims a chunk and sends to the first of it.
    pub fn take_in_hand(&self, owner: &DirOwner, job: &JobId) -> Claimed {
        let c = self.claim_next(owner, job).expect("a chunk is due");
        self.send(owner, &c, &[0]);
        c
    }

    fn pass(&self, owner: &DirOwner, c: &Claimed, n: usize) {
        let indices: Vec<u16> = (0..n as u16).collect();
        for group in indices.chunks(IN_FLIGHT) {
            self.send(owner, c, group);
        }
        self.finish(owner, c, n);
    }

    fn outcome(&self, c: &Claimed, i: u16) -> (String, Outcome, u16) {
        let r = c.chunk.recipient(usize::from(i)).unwrap();
        let attempts = r.state.attempts + 1;
        let deferred = is_deferred(r.address, attempts);
        (r.address.to_owned(), if deferred { Outcome::Deferred } else { Outcome::Accepted }, attempts)
    }

    fn send(&self, owner: &DirOwner, c: &Claimed, indices: &[u16]) {
        for &i in indices {
            let (address, outcome, _) = self.outcome(c, i);
            self.again(|| match owner.try_hand_out(&[(c.handle, vec![i])]) {
                Ok(true) => Ok(()),
                Ok(false) => loop {
                    std::thread::yield_now();
                    match owner.try_hand_out(&[(c.handle, vec![i])]) {
                        Ok(true) => return Ok(()),
                        Ok(false) => {}
                        Err(e) => return Err(SpoolError::damaged(Path::new("journal"), e)),
                    }
                },
                Err(e) => Err(SpoolError::damaged(Path::new("journal"), e)),
            });
            if outcome == Outcome::Accepted {
                self.recorder.mark(Mark::Sent(c.job.clone(), address));
            }
        }
        for &i in indices {
            let (address, outcome, attempts) = self.outcome(c, i);
            let now = clock::now_us();
            let due_us = if outcome == Outcome::Deferred { now } else { 0 };
            let settled = Settled { due_us, ..Settled::local(outcome, attempts, now, self.reply.clone()) };
            owner.record(c.handle, vec![(i, settled)]);
            self.recorder.mark(Mark::Recorded(c.job.clone(), address, outcome));
        }
    }

    /// Ends a pass of which the first `n` were sent.
    pub fn finish(&self, owner: &DirOwner, c: &Claimed, n: usize) {
        self.again(|| owner.finish(c.handle));
        let outcomes = (0..n as u16).map(|i| self.outcome(c, i)).map(|(a, o, _)| (a, o)).collect();
        self.recorder.mark(Mark::Finished(c.job.clone(), outcomes));
    }

    /// A command's change of state, of a job of which nothing is in hand.
    pub fn change(&self, job: &JobId, change: &Change) {
        self.asked(job, Some(change.to()));
        let done = self.again(|| self.spool.request(job, change));
        assert_eq!(done, Requested::Done);
        self.is(job, Some(change.to()));
    }

    /// The same while a chunk is in hand: the request stands.
    pub fn request(&self, job: &JobId, change: &Change) {
        self.asked(job, Some(change.to()));
        let stands = self.again(|| self.spool.request(job, change));
        assert_eq!(stands, Requested::InHand);
    }

    pub fn carry_out(&self, job: &JobId, place: JobState) {
        self.again(|| self.spool.carry_out_request(job));
        self.is(job, Some(place));
    }

    pub fn complete(&self, job: &JobId) {
        self.asked(job, Some(JobState::Done));
        let done = self.again(|| match self.spool.try_complete(job) {
            // a try that failed may have done it all the same
            Ok(false) if self.recorder.has_failed() => Ok(self.spool.state_of(job)? == JobState::Done),
            other => other,
        });
        assert!(done, "{job} is not done");
        if !self.recorder.has_failed() {
            self.is(job, Some(JobState::Done));
        }
    }

    pub fn remove(&self, job: &JobId) {
        self.asked(job, None);
        self.again(|| match self.spool.remove(job) {
            // the same
            Err(SpoolError::NoSuchJob(_)) if self.recorder.has_failed() => Ok(()),
            other => other,
        });
        if !self.recorder.has_failed() {
            self.is(job, None);
        }
    }

    pub fn asked(&self, job: &JobId, place: Place) {
        self.recorder.mark(Mark::Asked(job.clone(), place));
    }

    fn is(&self, job: &JobId, place: Place) {
        self.recorder.mark(Mark::Is(job.clone(), place));
    }
}
