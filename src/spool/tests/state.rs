//! Pause, resume, cancel, and the standstill: one after the other, at once, and cut short anywhere.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::spool::job::{Request, Standing};
use crate::spool::state::{Change, Requested};
use crate::spool::view::JobView;

fn pause(reason: &str) -> Change {
    Change::Pause { reason: reason.into() }
}

const RESUME: Change = Change::Resume { accept_refusals: false };

/// A state says what belongs to it, and nothing that belongs to another.
fn assert_consistent(view: &JobView) {
    let Standing { paused_reason, paused_us, ended_us, .. } = &view.standing;
    let is_paused = view.state == JobState::Paused;
    assert_eq!(paused_reason.is_some(), is_paused, "{view:?}");
    assert_eq!(*paused_us > 0, is_paused, "{view:?}");
    assert_eq!(ended_us.is_some(), view.state == JobState::Cancelled, "{view:?}");
    view.check_sum().unwrap();
}

/// Claims the first chunk, so that the job is in hand.
fn in_hand(spool: &DirSpool, job: &JobId) -> (DirOwner, Claimed) {
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let claimed = claim_next(&owner, job).unwrap().unwrap();
    (owner, claimed)
}

#[test]
fn a_pause_keeps_its_reason_until_it_is_resumed_and_the_first_reason_stays() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 4).unwrap();
    spool.pause(&job, "the link is wrong").unwrap();
    spool.pause(&job, "another").unwrap();
    let view = spool.view(&job).unwrap();
    assert_consistent(&view);
    assert_eq!(view.standing.paused_reason.as_deref(), Some("the link is wrong"));
    assert!(spool.own(XxRange::ALL).unwrap().scan().unwrap().is_empty(), "a paused job is drained");
    spool.resume(&job, true).unwrap();
    let view = spool.view(&job).unwrap();
    assert_consistent(&view);
    assert_eq!(view.state, JobState::Active);
    assert!(view.standing.accept_refusals);
    // what was allowed once stays allowed
    spool.pause(&job, "again").unwrap();
    spool.resume(&job, false).unwrap();
    assert!(spool.view(&job).unwrap().standing.accept_refusals);
}

#[test]
fn an_ended_job_is_neither_paused_nor_resumed_and_knows_when_it_was_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 4).unwrap();
    spool.pause(&job, "why").unwrap();
    let before = clock::now_us();
    spool.cancel(&job).unwrap();
    spool.cancel(&job).unwrap();
    let view = spool.view(&job).unwrap();
    assert_consistent(&view);
    assert!(view.standing.ended_us.unwrap() >= before);
    for refused in [spool.pause(&job, "x"), spool.resume(&job, false)] {
        assert!(matches!(refused, Err(SpoolError::WrongState { .. })), "{refused:?}");
    }
    let none: JobId = "nobody".parse().unwrap();
    assert!(matches!(spool.pause(&none, "x"), Err(SpoolError::NoSuchJob(_))));
}

#[test]
fn a_job_in_hand_is_paused_with_the_commands_reason_once_it_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 9).unwrap();
    let (owner, c) = in_hand(&spool, &job);
    assert_eq!(spool.request(&job, &pause("first")).unwrap(), Requested::InHand);
    assert_eq!(spool.request(&job, &pause("second")).unwrap(), Requested::InHand);
    assert_eq!(spool.follow(&job, JobState::Paused).unwrap(), Requested::InHand);
    assert_consistent(&spool.view(&job).unwrap());
    assert!(owner.scan().unwrap()[0].requested);
    owner.finish(c.handle).unwrap();
    // the breaker has a reason of its own: the person's goes before it
    spool.pause_by_owner(&job, "550 no").unwrap();
    assert_eq!(spool.follow(&job, JobState::Paused).unwrap(), Requested::Done);
    let view = spool.view(&job).unwrap();
    assert_consistent(&view);
    assert_eq!(view.standing.paused_reason.as_deref(), Some("first"));
    assert_eq!(view.counts.of(Outcome::Pending), 9);
}

#[test]
fn of_two_commands_the_later_one_holds_and_the_earlier_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 9).unwrap();
    let (owner, c) = in_hand(&spool, &job);
    assert_eq!(spool.request(&job, &pause("x")).unwrap(), Requested::InHand);
    assert_eq!(spool.request(&job, &RESUME).unwrap(), Requested::Done);
    let told = spool.follow(&job, JobState::Paused).unwrap_err().to_string();
    assert!(told.contains("overtook"), "{told}");
    assert!(!owner.scan().unwrap()[0].requested);

    assert_eq!(spool.request(&job, &pause("x")).unwrap(), Requested::InHand);
    assert_eq!(spool.request(&job, &Change::Cancel).unwrap(), Requested::InHand);
    for late in [pause("y"), RESUME] {
        let told = spool.request(&job, &late).unwrap_err().to_string();
        assert!(told.contains("being cancelled"), "{told}");
    }
    assert!(spool.follow(&job, JobState::Paused).is_err());
    owner.finish(c.handle).unwrap();
    assert!(spool.carry_out_request(&job).unwrap());
    assert_eq!(spool.follow(&job, JobState::Cancelled).unwrap(), Requested::Done);
    assert_consistent(&spool.view(&job).unwrap());
    assert!(!spool.carry_out_request(&job).unwrap());
}

#[test]
fn a_request_that_cant_be_read_is_dropped_and_the_job_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 4).unwrap();
    let request = spool.layout.job(JobState::Active, &job).request();
    let odd = Request { state: "done".into(), asked_us: 1, reason: None, accept_refusals: false };
    for text in ["state = ".to_owned(), super::super::dir::to_toml(&odd)] {
        std::fs::write(&request, text).unwrap();
        assert!(!spool.carry_out_request(&job).unwrap());
        assert!(!request.exists());
    }
    assert_eq!(spool.state_of(&job).unwrap(), JobState::Active);
}

#[test]
fn a_change_that_dies_anywhere_leaves_the_state_before_or_the_state_after() {
    let rounds: [(Option<Change>, Change); 4] = [
        (None, pause("why")),
        (Some(pause("why")), RESUME),
        (None, Change::Cancel),
        (Some(pause("why")), Change::Cancel),
    ];
    for (first, change) in rounds {
        for at in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let spool = open(dir.path());
            let job = submit(&spool, "key", 4).unwrap();
            if let Some(first) = &first {
                spool.request(&job, first).unwrap();
            }
            let before = spool.state_of(&job).unwrap();
            let fs = FaultyFs::new(Fault::Death, at);
            let faulty: Arc<dyn Fs> = Arc::new(fs.clone());
            let died = DirSpool::open_on(faulty, dir.path(), settings())
                .and_then(|spool| spool.request(&job, &change));
            let view = spool.view(&job).unwrap();
            assert_consistent(&view);
            assert!([before, change.to()].contains(&view.state), "call {at}: {view:?}");
            if view.state == JobState::Paused {
                assert_eq!(view.standing.paused_reason.as_deref(), Some("why"), "call {at}");
            }
            // the same again, and what a drain does on its own, end where the command wanted
            spool.request(&job, &change).unwrap();
            spool.carry_out_request(&job).unwrap();
            let view = spool.view(&job).unwrap();
            assert_eq!(view.state, change.to(), "call {at}");
            assert_consistent(&view);
            if fs.calls() <= at {
                died.unwrap();
                break;
            }
            assert!(at < 100, "the change never ends");
        }
    }
}

#[test]
fn a_request_whose_carrier_dies_anywhere_is_carried_out_by_the_next() {
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        let job = submit(&spool, "key", 4).unwrap();
        let (owner, c) = in_hand(&spool, &job);
        assert_eq!(spool.request(&job, &pause("why")).unwrap(), Requested::InHand);
        owner.finish(c.handle).unwrap();
        owner.close().unwrap();
        let fs = FaultyFs::new(Fault::Death, at);
        let faulty: Arc<dyn Fs> = Arc::new(fs.clone());
        let died =
            DirSpool::open_on(faulty, dir.path(), settings()).and_then(|spool| spool.carry_out_request(&job));
        assert_consistent(&spool.view(&job).unwrap());
        let next = spool.own(XxRange::ALL).unwrap();
        assert!(claim_next(&next, &job).unwrap().is_none(), "call {at}: claimed in spite of the request");
        for due in next.scan().unwrap() {
            assert!(due.requested && claim_next(&next, &job).unwrap().is_none(), "call {at}");
        }
        spool.carry_out_request(&job).unwrap();
        let view = spool.view(&job).unwrap();
        assert_eq!(view.standing.paused_reason.as_deref(), Some("why"), "call {at}");
        // nothing of the request is left that would pause it again
        spool.resume(&job, false).unwrap();
        assert!(!spool.carry_out_request(&job).unwrap(), "call {at}");
        assert_eq!(spool.state_of(&job).unwrap(), JobState::Active);
        if fs.calls() <= at {
            assert!(died.unwrap());
            break;
        }
        assert!(at < 100, "it never ends");
    }
}

#[test]
fn commands_from_all_sides_beside_a_drain_leave_a_consistent_job() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 60).unwrap();
    /// Ends the drain when the commands are through, or have failed.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let stop = AtomicBool::new(false);
    let mut sent = Vec::new();
    std::thread::scope(|scope| {
        let stops = Stop(&stop);
        let runner = scope.spawn(|| {
            let owner = spool.own(XxRange::ALL).unwrap();
            let mut sent = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                for due in owner.scan().unwrap() {
                    if due.requested {
                        spool.carry_out_request(&due.job).unwrap();
                    } else if let Some(c) = claim_next(&owner, &job).unwrap() {
                        let address = c.chunk.recipient(0).unwrap().address.to_owned();
                        hand_out(&owner, &c, 0).unwrap();
                        owner.record(c.handle, vec![(0, Settled::local(Outcome::Accepted, 1, 1, "Ok"))]);
                        sent.push(address);
                        owner.finish(c.handle).unwrap();
                    }
                }
            }
            owner.close().unwrap();
            sent
        });
        let commands: Vec<_> = (0..3)
            .map(|n| {
                let (spool, job) = (&spool, &job);
                scope.spawn(move || {
                    for i in 0..20 {
                        let asked =
                            if (n + i) % 2 == 0 { spool.pause(job, "why") } else { spool.resume(job, false) };
                        // whoever is overtaken is told; nothing else can go wrong
                        assert!(matches!(asked, Ok(()) | Err(SpoolError::WrongState { .. })), "{asked:?}");
                        assert_consistent(&spool.view(job).unwrap());
                    }
                })
            })
            .collect();
        for command in commands {
            command.join().unwrap();
        }
        // a pause that is granted stays: nobody else asks any more
        spool.pause(&job, "at last").unwrap();
        let view = spool.view(&job).unwrap();
        assert_eq!(view.state, JobState::Paused);
        drop(stops);
        sent = runner.join().unwrap();
    });
    assert_consistent(&spool.view(&job).unwrap());
    let lines = report(&spool, &job);
    let mut accepted: Vec<_> =
        lines.iter().filter(|(_, l)| l.0 == Outcome::Accepted).map(|(a, _)| a.clone()).collect();
    sent.sort();
    accepted.sort();
    assert_eq!(sent, accepted, "an outcome was forgotten, or somebody was sent to twice");
    assert!(lines.values().all(|l| !l.1));
}

#[test]
fn refusals_that_are_accepted_later_are_accepted_by_a_drain_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 9).unwrap();
    let (owner, c) = in_hand(&spool, &job);
    assert!(!owner.scan().unwrap()[0].accept_refusals);
    spool.resume(&job, true).unwrap();
    assert!(owner.scan().unwrap()[0].accept_refusals);
    owner.finish(c.handle).unwrap();
}

#[test]
fn a_view_tells_when_the_deferred_are_due_and_when_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 3).unwrap();
    let (owner, c) = in_hand(&spool, &job);
    assert_eq!(spool.view(&job).unwrap().deferred_due_us(), None);
    let due_us = clock::now_us() + 3600 * clock::SECOND_US;
    hand_out(&owner, &c, 0).unwrap();
    let later = Settled { due_us, ..Settled::local(Outcome::Deferred, 1, clock::now_us(), "later") };
    owner.record(c.handle, vec![(0, later)]);
    owner.finish(c.handle).unwrap();
    assert_eq!(spool.view(&job).unwrap().deferred_due_us(), Some(due_us));
    owner.close().unwrap();
    spool.cancel(&job).unwrap();
    assert_eq!(spool.view(&job).unwrap().deferred_due_us(), None);
    let done = super::retention::done(&spool, "done", 2);
    assert!(spool.view(&done).unwrap().standing.ended_us.is_some());
}

#[test]
fn a_standstill_outlives_restarts_and_one_that_cant_be_read_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    assert_eq!(spool.standstill().unwrap(), None);
    let began = spool.pause_all("the MTA burns").unwrap();
    assert_eq!(spool.pause_all("another").unwrap(), began);
    assert_eq!(open(dir.path()).standstill().unwrap(), Some(began.clone()));
    submit(&spool, "key", 3).unwrap();
    assert_eq!(spool.resume_all().unwrap(), Some(began));
    assert_eq!(spool.resume_all().unwrap(), None);
    assert_eq!(open(dir.path()).standstill().unwrap(), None);
    std::fs::write(spool.layout.standstill(), "since_us = ").unwrap();
    assert!(spool.standstill().unwrap().unwrap().reason.contains("standstill.toml"));
    assert!(spool.resume_all().unwrap().is_some());
}

#[test]
fn all_views_at_once_say_the_same_as_each_alone() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let jobs: Vec<_> = ["a", "b", "c", "d"].iter().map(|key| submit(&spool, key, 9).unwrap()).collect();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    for job in &jobs[..2] {
        let c = claim_next(&owner, job).unwrap().unwrap();
        hand_out(&owner, &c, 0).unwrap();
        owner.record(c.handle, vec![(0, Settled::local(Outcome::Accepted, 1, 1, "Ok"))]);
        hand_out(&owner, &c, 1).unwrap();
    }
    spool.cancel(&jobs[3]).unwrap();
    let same = |spool: &DirSpool| {
        let all = spool.views().unwrap();
        assert_eq!(all.len(), 4);
        for (view, job) in all.into_iter().zip(&jobs) {
            let (view, alone) = (view.unwrap(), spool.view(job).unwrap());
            assert_eq!((view.job, view.state, view.counts), (alone.job, alone.state, alone.counts));
        }
        spool.views_of(&[JobState::Active]).unwrap().len()
    };
    assert_eq!(same(&spool), 3);
    // the same of a dead owner's leftovers
    drop(owner);
    assert_eq!(same(&spool), 3);
}

/// What root does in somebody else's spool.
#[test]
fn what_root_creates_in_a_spool_belongs_to_the_spools_user() {
    use std::os::unix::fs::MetadataExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: not tested");
        return;
    }
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 9).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    let mut sent = Vec::new();
    drain(&owner, &job, &mut sent, &|a| a.starts_with("r3")).unwrap();
    let other = submit(&spool, "other", 3).unwrap();
    spool.pause(&other, "why").unwrap();
    spool.pause_all("why").unwrap();
    let mut open_folders = vec![dir.path().to_path_buf()];
    let mut seen = 0;
    while let Some(folder) = open_folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "{}", path.display());
            seen += 1;
            if metadata.is_dir() {
                open_folders.push(path);
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn an_owner_begins_whatever_commands_make_of_a_dead_ones_job_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for death in 0..30 {
        let job = submit(&spool, &format!("k{death}"), 9).unwrap();
        let (dead, claimed) = in_hand(&spool, &job);
        hand_out(&dead, &claimed, 0).unwrap();
        drop(dead);
        let begun = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !begun.load(Ordering::SeqCst) {
                    for change in [pause("now"), RESUME] {
                        spool.request(&job, &change).unwrap();
                    }
                }
            });
            let owner = spool.own(XxRange::ALL);
            begun.store(true, Ordering::SeqCst);
            let recovered = owner.unwrap_or_else(|e| panic!("after {death} deaths: {e}")).recovered;
            assert_eq!(recovered.chunks, 1, "death {death}");
        });
        spool.request(&job, &Change::Cancel).unwrap();
        assert_eq!(report(&spool, &job).len(), 9);
    }
}

#[test]
fn a_jobs_rate_and_window_are_kept_whatever_state_it_comes_to_and_whoever_has_it_in_hand() {
    use crate::spool::Pacing;
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 8).unwrap();
    let pacing = |spool: &DirSpool| {
        let view = spool.view(&job).unwrap();
        (view.standing.rate(&view.meta).map(|rate| rate.as_f64()), view.standing.windows(&view.meta).to_vec())
    };
    assert_eq!(pacing(&spool), (None, vec![]));
    let window = vec!["08:00-20:00 UTC".to_owned()];
    spool.set_pacing(&job, &Pacing::Windows(window.clone())).unwrap();
    let (owner, claimed) = in_hand(&spool, &job);
    spool.set_pacing(&job, &Pacing::Rate("0.5".parse().ok())).unwrap();
    assert_eq!(pacing(&spool), (Some(0.5), window.clone()));
    let due = owner.scan().unwrap();
    assert_eq!((due[0].messages_per_second, &due[0].windows), ("0.5".parse().ok(), &window));
    owner.finish(claimed.handle).unwrap();
    owner.close().unwrap();
    spool.pause(&job, "later").unwrap();
    spool.set_pacing(&job, &Pacing::Rate(None)).unwrap();
    assert_consistent(&spool.view(&job).unwrap());
    spool.resume(&job, false).unwrap();
    assert_eq!(pacing(&spool), (None, window));
    spool.set_pacing(&job, &Pacing::Windows(vec![])).unwrap();
    assert_eq!(pacing(&spool), (None, vec![]));
    spool.cancel(&job).unwrap();
    let error = spool.set_pacing(&job, &Pacing::Rate(None)).unwrap_err();
    assert!(matches!(error, SpoolError::WrongState { .. }), "{error}");
}

#[test]
fn no_limit_by_command_holds_over_the_rate_that_was_submitted() {
    let standing = Standing { messages_per_second: Some(None), ..Standing::default() };
    let text = toml::to_string(&standing).unwrap();
    assert_eq!(toml::from_str::<Standing>(&text).unwrap(), standing, "{text}");
    let earlier: Standing = toml::from_str("paused_us = 0\naccept_refusals = true\n").unwrap();
    assert_eq!((earlier.messages_per_second, earlier.windows), (None, None));
    assert!(toml::from_str::<Standing>("messages_per_second = -1.0\n").is_err());
}
