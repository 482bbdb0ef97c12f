//! Random operations, in lockstep with a plain model of what they should come to; the death of the process
//! and a power cut, with the recovery behind them, are two of them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::actor::{Actor, settings};
use super::judge::folder;
use crate::clock;
use crate::slice::XxRange;
use crate::spool::disk::{Disk, Survives, lay_out};
use crate::spool::id::{JobId, Outcome};
use crate::spool::layout::JobState;
use crate::spool::owner::{Claim, Claimed, DirOwner};
use crate::spool::recorder::{Moment, Recorder};
use crate::spool::results::Settled;
use crate::spool::state::{Change, Requested};
use crate::spool::tests::report;

const CASES: u32 = 2_000;
const CASES_LONG: u32 = 100_000;
/// Ids that jobs have, so that operations meet.
const JOBS: usize = 3;

#[derive(Debug, Clone)]
enum Act {
    Submit(usize, usize),
    /// A chunk is claimed.
    Claim(usize),
    /// The next of a chunk in hand is handed out, and this comes of it.
    Send(usize, Option<Outcome>),
    /// A pass ends, complete or not.
    Finish(usize),
    Ask(usize, Change),
    CarryOut(usize),
    Complete(usize),
    Remove(usize),
    /// What was noted is written.
    Flush,
    Death,
    PowerCut(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let job = 0..JOBS;
    let outcome = prop_oneof![
        5 => Just(Some(Outcome::Accepted)),
        2 => Just(Some(Outcome::Deferred)),
        1 => Just(Some(Outcome::Refused)),
        1 => Just(None),
    ];
    let change = prop_oneof![
        Just(Change::Pause { reason: "why".into() }),
        Just(Change::Resume { accept_refusals: false }),
        Just(Change::Cancel),
    ];
    prop_oneof![
        3 => (job.clone(), 1..8_usize).prop_map(|(j, n)| Act::Submit(j, n)),
        5 => job.clone().prop_map(Act::Claim),
        9 => (0..4_usize, outcome).prop_map(|(c, o)| Act::Send(c, o)),
        4 => (0..4_usize).prop_map(Act::Finish),
        2 => (job.clone(), change).prop_map(|(j, c)| Act::Ask(j, c)),
        1 => job.clone().prop_map(Act::CarryOut),
        2 => job.clone().prop_map(Act::Complete),
        1 => job.prop_map(Act::Remove),
        1 => Just(Act::Flush),
        1 => Just(Act::Death),
        1 => any::<u64>().prop_map(Act::PowerCut),
    ]
}

/// One recipient, as the model has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    outcome: Outcome,
    marked: bool,
}

const UNTRIED: Seen = Seen { outcome: Outcome::Pending, marked: false };

#[derive(Debug, Clone)]
struct ModelJob {
    state: JobState,
    /// Asked for while a chunk was in hand.
    request: Option<Change>,
    recipients: BTreeMap<String, Seen>,
}

/// A chunk in hand.
struct InHand {
    job: JobId,
    claimed: Claimed,
    next: u16,
    /// Handed out, and nothing has come of it yet.
    handed: Vec<u16>,
    /// What came of them in this pass; not in the model before it is certain.
    came: BTreeMap<u16, Seen>,
}

impl InHand {
    fn address(&self, i: u16) -> String {
        self.claimed.chunk.recipient(usize::from(i)).unwrap().address.to_owned()
    }

    fn addresses(&self) -> Vec<(u16, String)> {
        (0..self.claimed.chunk.len() as u16).map(|i| (i, self.address(i))).collect()
    }
}

struct World {
    dir: tempfile::TempDir,
    disk: Disk,
    actor: Actor,
    owner: DirOwner,
    boot: usize,
    hands: Vec<InHand>,
    jobs: BTreeMap<JobId, ModelJob>,
}

fn id(job: usize) -> JobId {
    JobId::from_key(["a", "b", "c"][job])
}

impl World {
    fn new() -> Self {
        let (dir, disk) = (folder(), Disk::default());
        let recorder = Recorder::new(dir.path(), &disk);
        let actor = Actor::start(&recorder, &dir.path().join("spool"), 0, settings()).unwrap();
        let owner = actor.spool.own(XxRange::ALL).unwrap();
        let jobs = BTreeMap::new();
        Self { dir, disk, actor, owner, boot: 0, hands: Vec::new(), jobs }
    }

    fn is_in_hand(&self, job: &JobId) -> bool {
        self.hands.iter().any(|h| h.job == *job)
    }

    fn run(&mut self, act: &Act) {
        match act {
            Act::Submit(job, n) => self.submit(&id(*job), *n),
            Act::Claim(job) => self.claim(&id(*job)),
            Act::Send(hand, outcome) => self.send(*hand, *outcome),
            Act::Finish(hand) if !self.hands.is_empty() => self.finish(hand % self.hands.len()),
            Act::Finish(_) => {}
            Act::Ask(job, change) => self.ask(&id(*job), change),
            Act::CarryOut(job) => self.carry_out(&id(*job)),
            Act::Complete(job) => self.complete(&id(*job)),
            Act::Remove(job) => self.remove(&id(*job)),
            Act::Flush => self.look(),
            Act::Death => self.restart(&Survives::All, false),
            Act::PowerCut(seed) => self.restart(&Survives::Some(*seed), true),
        }
        for job in (0..JOBS).map(id) {
            let state = self.actor.spool.find(&job).ok().map(|(state, _)| state);
            assert_eq!(state, self.jobs.get(&job).map(|j| j.state), "{job}");
        }
    }

    fn submit(&mut self, job: &JobId, n: usize) {
        // of one that is there nothing is changed
        crate::spool::tests::submit(&self.actor.spool, job.as_str(), n).unwrap();
        let recipients = (0..n).map(|i| (format!("r{i}@example.org"), UNTRIED)).collect();
        let new = ModelJob { state: JobState::Active, request: None, recipients };
        self.jobs.entry(job.clone()).or_insert(new);
    }

    fn claim(&mut self, job: &JobId) {
        self.owner.scan().unwrap();
        let Some(name) = self.owner.next_due(job) else { return };
        let Claim::Claimed(claimed) = self.owner.claim(job, name).unwrap() else {
            panic!("a sound chunk of {job} can't be claimed");
        };
        let model = &self.jobs[job];
        assert!(model.state == JobState::Active && model.request.is_none(), "claimed of {model:?}");
        self.hands.push(InHand {
            job: job.clone(),
            claimed,
            next: 0,
            handed: Vec::new(),
            came: BTreeMap::new(),
        });
    }

    /// Hands out the next, and records what came of it and of all before that are still in flight.
    fn send(&mut self, hand: usize, outcome: Option<Outcome>) {
        let n = self.hands.len();
        let Some(hand) = (n > 0).then(|| &mut self.hands[hand % n]) else { return };
        let handle = hand.claimed.handle;
        if usize::from(hand.next) < hand.claimed.chunk.len() {
            while !self.owner.try_hand_out(&[(handle, vec![hand.next])]).unwrap() {
                std::thread::yield_now();
            }
            hand.handed.push(hand.next);
            hand.next += 1;
        }
        let Some(outcome) = outcome else { return };
        let before = &self.jobs[&hand.job].recipients;
        for i in std::mem::take(&mut hand.handed) {
            let now = clock::now_us();
            let attempts = hand.claimed.chunk.recipient(usize::from(i)).unwrap().state.attempts + 1;
            let settled = Settled { due_us: now, ..Settled::local(outcome, attempts, now, "so") };
            self.owner.record(handle, vec![(i, settled)]);
            let marked = before[&hand.address(i)].marked;
            hand.came.insert(i, Seen { outcome, marked });
        }
    }

    fn finish(&mut self, hand: usize) {
        let hand = self.hands.swap_remove(hand);
        // nothing may be in flight: of those that are it is known that nothing was delivered
        self.owner.release(hand.claimed.handle, &hand.handed);
        self.owner.finish(hand.claimed.handle).unwrap();
        let model = self.jobs.get_mut(&hand.job).unwrap();
        for (i, seen) in &hand.came {
            model.recipients.insert(hand.address(*i), *seen);
        }
        self.look();
    }

    fn ask(&mut self, job: &JobId, change: &Change) {
        let in_hand = self.is_in_hand(job);
        let done = self.actor.spool.request(job, change);
        let Some(model) = self.jobs.get_mut(job) else { return assert!(done.is_err()) };
        let (is, to) = (model.state, change.to());
        let has_ended = matches!(is, JobState::Cancelled | JobState::Done);
        if has_ended && is != to || model.request == Some(Change::Cancel) && to != JobState::Cancelled {
            return assert!(done.is_err(), "{change:?} of {model:?}: {done:?}");
        }
        match done.unwrap() {
            Requested::Done => {
                assert!(!in_hand || is == to);
                model.request = None;
                self.becomes(job, to);
            }
            Requested::InHand => {
                assert!(in_hand);
                model.request = Some(change.clone());
            }
        }
    }

    fn becomes(&mut self, job: &JobId, to: JobState) {
        let model = self.jobs.get_mut(job).unwrap();
        model.state = to;
        if to == JobState::Cancelled {
            for seen in model.recipients.values_mut().filter(|s| !s.outcome.is_final()) {
                seen.outcome = Outcome::Cancelled;
            }
        }
    }

    fn carry_out(&mut self, job: &JobId) {
        let done = self.actor.spool.carry_out_request(job).unwrap();
        let request = self.jobs.get(job).and_then(|j| j.request.clone());
        assert_eq!(done, request.is_some() && !self.is_in_hand(job));
        if let Some(change) = request.filter(|_| done) {
            self.jobs.get_mut(job).unwrap().request = None;
            self.becomes(job, change.to());
        }
    }

    fn complete(&mut self, job: &JobId) {
        let Some(model) = self.jobs.get(job).filter(|j| j.state == JobState::Active) else { return };
        let all_final = model.recipients.values().all(|s| s.outcome.is_final());
        let expected = all_final && !self.is_in_hand(job);
        assert_eq!(self.actor.spool.try_complete(job).unwrap(), expected, "{job}");
        if expected {
            let model = self.jobs.get_mut(job).unwrap();
            (model.state, model.request) = (JobState::Done, None);
        }
    }

    fn remove(&mut self, job: &JobId) {
        let has_ended =
            self.jobs.get(job).is_some_and(|j| matches!(j.state, JobState::Done | JobState::Cancelled));
        assert_eq!(self.actor.spool.remove(job).is_ok(), has_ended, "{job}");
        if has_ended {
            self.jobs.remove(job);
        }
    }

    /// Compares every recipient's outcome and mark with the model's.
    fn look(&self) {
        self.owner.flush();
        for (job, model) in &self.jobs {
            let mut expected = model.recipients.clone();
            for hand in self.hands.iter().filter(|h| h.job == *job) {
                expected.extend(hand.came.iter().map(|(i, seen)| (hand.address(*i), *seen)));
            }
            assert_eq!(self.found(job), expected, "{job}");
        }
    }

    fn found(&self, job: &JobId) -> BTreeMap<String, Seen> {
        let lines = report(&self.actor.spool, job).into_iter();
        lines.map(|(a, (outcome, marked))| (a, Seen { outcome, marked })).collect()
    }

    /// Another process takes over what is left, and what it finds must be what it may find.
    fn restart(&mut self, survives: &Survives, is_power_cut: bool) {
        for moment in self.actor.recorder.take() {
            if let Moment::Call(step) = &moment {
                self.disk.apply(step);
            }
        }
        let image = self.disk.image(survives);
        if is_power_cut {
            self.disk = Disk::of(&image);
            self.boot += 1;
        }
        let dir = folder();
        lay_out(&image, dir.path());
        let recorder = Recorder::new(dir.path(), &self.disk);
        let actor = Actor::start(&recorder, &dir.path().join("spool"), self.boot, settings()).unwrap();
        let owner = actor.spool.own(XxRange::ALL).unwrap();
        // the former one ends on what nobody looks at any more
        (self.actor, self.owner, self.dir) = (actor, owner, dir);
        let checked = self.actor.spool.check(&mut |_| {}).unwrap();
        assert!(!checked.is_damaged(), "{:?}", checked.findings);

        let hands = std::mem::take(&mut self.hands);
        for (job, mut model) in std::mem::take(&mut self.jobs) {
            let found = self.found(&job);
            assert_eq!(found.len(), model.recipients.len(), "{job}");
            for hand in hands.iter().filter(|h| h.job == job) {
                for (i, address) in hand.addresses() {
                    let before = model.recipients[&address];
                    let doubtful = Seen { marked: true, ..before };
                    let may_be = match hand.came.get(&i) {
                        // whether it was written, or synced, the model doesn't know
                        Some(came) => vec![*came, doubtful],
                        // of the sixth death in a row it is held to be the cause
                        None if is_power_cut || hand.handed.contains(&i) => {
                            vec![doubtful, Seen { outcome: Outcome::Quarantined, marked: true }]
                        }
                        None => vec![before],
                    };
                    assert!(may_be.contains(&found[&address]), "{job}: {address}: {found:?}, not {may_be:?}");
                    model.recipients.insert(address.clone(), found[&address]);
                }
            }
            assert_eq!(found, model.recipients, "{job}");
            self.jobs.insert(job, model);
        }
    }
}

fn cases() -> u32 {
    if super::power::is_long() { CASES_LONG } else { CASES }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_spool_goes_in_lockstep_with_a_plain_model_through_deaths_and_power_cuts(
        acts in proptest::collection::vec(act(), 1..40),
    ) {
        let mut world = World::new();
        for act in &acts {
            world.run(act);
        }
        world.restart(&Survives::Nothing, true);
    }
}
