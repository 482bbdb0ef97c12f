//! Errors of the disk at each call, once and until somebody mends it: each names the place and what to do,
//! nothing is lost, nobody gets it twice, and the process that met it goes on by itself.

use nix::libc::{EDQUOT, EIO, EMFILE, ENOSPC, EROFS};

use super::*;
use crate::spool::state::Change;

/// What may go wrong, and whether calls that only look fail as well. What can't be read because of EIO is
/// damage, and goes to quarantine: that has tests of its own.
const ERRORS: [(i32, bool); 5] =
    [(ENOSPC, false), (EDQUOT, false), (EIO, false), (EROFS, false), (EMFILE, true)];
/// Tries that fail before it is mended.
const FAILURES: usize = 3;
const TRIES: usize = 200;

/// A disk on which the `at`-th call fails.
struct Trouble {
    fs: FaultyFs,
    failures: usize,
    errno: i32,
}

impl Trouble {
    /// All of them, at a call.
    fn at(at: u64) -> Vec<Self> {
        let mut all = Vec::new();
        for (errno, reads) in ERRORS {
            for fault in [Fault::Once(errno), Fault::UntilMended(errno)] {
                let fs = if reads { FaultyFs::with_reads(fault, at) } else { FaultyFs::new(fault, at) };
                all.push(Self { fs, failures: 0, errno });
            }
        }
        all
    }

    fn fs(&self) -> Arc<dyn Fs> {
        Arc::new(self.fs.clone())
    }

    /// Tries until it works, as a runner or a person does; after a few failures the disk is mended.
    fn again<T>(&mut self, root: &Path, mut act: impl FnMut() -> Result<T>) -> T {
        for _ in 0..TRIES {
            match act() {
                Ok(done) => return done,
                Err(e) => self.fails(root, &e.to_string()),
            }
        }
        panic!("it never works again")
    }

    fn fails(&mut self, root: &Path, message: &str) {
        let folder = root.parent().unwrap_or(root).display().to_string();
        assert!(message.contains(&folder), "no place: {message}");
        let remedies = ["free some", "quota", "dmesg", "ulimit", "mount it"];
        assert!(remedies.iter().any(|r| message.contains(r)), "errno {}: no remedy: {message}", self.errno);
        self.met();
    }

    fn met(&mut self) {
        self.failures += 1;
        assert!(self.failures < TRIES, "it never works again");
        if self.failures >= FAILURES {
            self.fs.mend();
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Runs `act` on each trouble at each of its calls; `act` says whether the trouble has come.
fn everywhere(act: impl Fn(&mut Trouble, &Path) + Sync) {
    for at in 0.. {
        // side by side: mostly they wait
        let came = std::thread::scope(|scope| {
            let act = &act;
            let each = Trouble::at(at).into_iter().map(|mut trouble| {
                scope.spawn(move || {
                    let dir = cut::folder();
                    act(&mut trouble, &dir.path().join("spool"));
                    trouble.fs.calls() > at
                })
            });
            let each: Vec<_> = each.collect();
            each.into_iter().map(|t| t.join().expect("no panic")).fold(false, |any, came| any | came)
        });
        if !came {
            return;
        }
        assert!(at < 1_000, "it never ends");
    }
}

#[test]
fn a_submission_that_meets_an_error_anywhere_says_so_and_works_once_that_is_mended() {
    everywhere(|trouble, root| {
        let fs = trouble.fs();
        let spool = trouble.again(root, || DirSpool::open_on(fs.clone(), root, settings()));
        let job = trouble.again(root, || submit(&spool, "key", 8));
        trouble.fs.mend();
        assert_eq!(report(&spool, &job).len(), 8);
        spool.sweep_incoming().unwrap();
        assert_eq!(spool.names(&spool.layout.incoming()).unwrap(), Vec::<String>::new());
        assert_eq!(spool.check(&mut |_| {}).unwrap().findings, []);
    });
}

/// Sends to everybody of a job, with one owner through all errors.
fn drain_through(trouble: &mut Trouble, root: &Path, owner: &DirOwner, job: &JobId) -> Vec<String> {
    let mut sent = Vec::new();
    loop {
        trouble.again(root, || owner.scan());
        let Some(c) = trouble.again(root, || claim_next(owner, job)) else {
            let view = trouble.again(root, || owner.spool.view(job));
            if view.counts.unfinished() == 0 {
                return sent;
            }
            // the job was left alone in this scan, and that is in the log
            trouble.met();
            continue;
        };
        for i in 0..c.chunk.len() as u16 {
            let r = c.chunk.recipient(usize::from(i)).unwrap();
            while let Err(e) = hand_out(owner, &c, i) {
                trouble.fails(root, &e);
            }
            let now = clock::now_us();
            let attempts = r.state.attempts + 1;
            let outcome = if attempts == 1 && i == 1 { Outcome::Deferred } else { Outcome::Accepted };
            if outcome == Outcome::Accepted {
                sent.push(r.address.to_owned());
            }
            let settled = Settled { due_us: now, ..Settled::local(outcome, attempts, now, "so") };
            owner.record(c.handle, vec![(i, settled)]);
        }
        trouble.again(root, || owner.finish(c.handle));
    }
}

#[test]
fn a_drain_that_meets_an_error_anywhere_goes_on_by_itself_and_sends_to_everybody_once() {
    everywhere(|trouble, root| {
        let job = submit(&open(root), "key", 8).unwrap();
        let fs = trouble.fs();
        let spool = trouble.again(root, || DirSpool::open_on(fs.clone(), root, settings()));
        let owner = trouble.again(root, || spool.own(XxRange::ALL));
        let mut sent = drain_through(trouble, root, &owner, &job);
        let done = trouble.again(root, || match spool.state_of(&job)? {
            JobState::Done => Ok(true),
            _ => spool.try_complete(&job),
        });
        assert!(done);
        trouble.fs.mend();
        owner.close().unwrap();
        sent.sort();
        assert_eq!(sent.len(), 8, "errno {}: {sent:?}", trouble.errno);
        sent.dedup();
        assert_eq!(sent.len(), 8, "errno {}: somebody got it twice", trouble.errno);
        assert!(report(&spool, &job).values().all(|l| *l == (Outcome::Accepted, false)));
        assert_eq!(spool.check(&mut |_| {}).unwrap().findings, []);
    });
}

#[test]
fn a_change_of_state_that_meets_an_error_anywhere_works_once_that_is_mended() {
    everywhere(|trouble, root| {
        let job = submit(&open(root), "key", 4).unwrap();
        let fs = trouble.fs();
        let spool = trouble.again(root, || DirSpool::open_on(fs.clone(), root, settings()));
        let changes = [
            Change::Pause { reason: "why".into() },
            Change::Resume { accept_refusals: false },
            Change::Cancel,
        ];
        for change in changes {
            trouble.again(root, || spool.request(&job, &change));
            let view = trouble.again(root, || spool.view(&job));
            assert_eq!(view.state, change.to());
            view.check_sum().unwrap();
        }
        trouble.again(root, || match spool.remove(&job) {
            // gone, though the last step of it failed
            Err(SpoolError::NoSuchJob(_)) => Ok(()),
            other => other,
        });
        trouble.again(root, || spool.pause_all("why"));
        trouble.again(root, || spool.resume_all());
        trouble.fs.mend();
        spool.sweep_removed().unwrap();
        assert_eq!(spool.standstill().unwrap(), None);
        assert_eq!(spool.check(&mut |_| {}).unwrap().findings, []);
    });
}

#[test]
fn a_recovery_that_meets_an_error_anywhere_is_done_by_the_next_try() {
    everywhere(|trouble, root| {
        let spool = open(root);
        let job = submit(&spool, "key", 8).unwrap();
        let owner = spool.own(XxRange::ALL).unwrap();
        owner.scan().unwrap();
        let mut sent = Vec::new();
        // two chunks in hand: an outcome in the one, one in flight in the other
        let c = claim_next(&owner, &job).unwrap().unwrap();
        hand_out(&owner, &c, 0).unwrap();
        owner.record(c.handle, vec![(0, Settled::local(Outcome::Accepted, 1, 1, "Ok"))]);
        sent.push(c.chunk.recipient(0).unwrap().address.to_owned());
        let c = claim_next(&owner, &job).unwrap().unwrap();
        hand_out(&owner, &c, 1).unwrap();
        let in_flight = c.chunk.recipient(1).unwrap().address.to_owned();
        drop(owner);

        let fs = trouble.fs();
        let spool = trouble.again(root, || DirSpool::open_on(fs.clone(), root, settings()));
        let owner = trouble.again(root, || spool.own(XxRange::ALL));
        sent.extend(drain_through(trouble, root, &owner, &job));
        trouble.fs.mend();
        owner.close().unwrap();
        sent.sort();
        let all: Vec<String> = (0..8).map(|i| format!("r{i}@example.org")).collect();
        assert_eq!(sent, all, "errno {}", trouble.errno);
        for (address, (outcome, marked)) in report(&spool, &job) {
            assert_eq!((outcome, marked), (Outcome::Accepted, address == in_flight), "{address}");
        }
    });
}
