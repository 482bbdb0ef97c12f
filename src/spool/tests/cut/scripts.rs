//! What is recorded, to be cut: each thing that a spool does, with the next ones in reach.

use super::actor::{Actor, settings};
use super::judge::folder;
use super::known::{Known, Mark};
use crate::spool::dir::Settings;
use crate::spool::disk::{Disk, read_in};
use crate::spool::id::JobId;
use crate::spool::layout::JobState;
use crate::spool::owner::DirOwner;
use crate::spool::pack_tests::pack;
use crate::spool::recorder::{Moment, Recorder};
use crate::spool::state::Change;

/// What a process does.
pub struct Script {
    /// Records of outcomes are synced by themselves every so often.
    progress_commit_ms: u64,
    /// What was there before, and is durable; without it there is not even a spool.
    prepare: Option<fn(&Actor)>,
    act: fn(&Actor),
}

/// A recording, and what there was before it.
pub struct Recording {
    pub disk: Disk,
    pub known: Known,
    pub moments: Vec<Moment<Mark>>,
}

/// Records a script, of which one sync fails where a number is given; `None` when it has no so many.
pub fn record(script: &Script, fails: Option<u64>) -> Option<Recording> {
    let settings = Settings { progress_commit_ms: script.progress_commit_ms, ..settings() };
    let dir = folder();
    let root = dir.path().join("spool");
    let mut known = Known::default();
    if let Some(prepare) = script.prepare {
        let recorder = Recorder::new(dir.path(), &Disk::default());
        prepare(&Actor::start(&recorder, &root, 0, settings.clone()).unwrap());
        recorder.take().iter().for_each(|m| known.learn(m));
        known.forget_memory();
    }
    let disk = Disk::of(&read_in(dir.path()));
    let recorder = Recorder::new(dir.path(), &disk);
    if let Some(at) = fails {
        recorder.fail_sync(at);
    }
    // a spool that could not be made is made by the next command
    let actor = Actor::start(&recorder, &root, 0, settings.clone())
        .or_else(|_| Actor::start(&recorder, &root, 0, settings));
    (script.act)(&actor.unwrap());
    let has_failed = fails.is_none() || recorder.has_failed();
    has_failed.then(|| Recording { disk, known, moments: recorder.take() })
}

fn key(name: &str) -> JobId {
    JobId::from_key(name)
}

fn pause() -> Change {
    Change::Pause { reason: "why".into() }
}

const RESUME: Change = Change::Resume { accept_refusals: false };

fn close(actor: &Actor, owner: DirOwner) {
    if let Err(e) = owner.close() {
        assert!(actor.recorder.has_failed(), "{e}");
    }
}

fn one_job(actor: &Actor) {
    actor.submit("job", 8);
}

pub const SUBMITTING: Script = Script {
    progress_commit_ms: 1_000,
    prepare: None,
    act: |actor| {
        actor.submit("first", 7);
        actor.submit("second", 1);
    },
};

pub const DRAINING: Script = Script {
    progress_commit_ms: 1_000,
    prepare: Some(one_job),
    act: |actor| {
        let owner = actor.own();
        // a part of a pass, whose rest is a remainder; then retries of those that were deferred
        actor.drain_part(&owner, &key("job"), 2);
        actor.drain(&owner, &key("job"), usize::MAX);
        actor.complete(&key("job"));
        close(actor, owner);
    },
};

pub const ROTATING: Script = Script {
    // each outcome is synced soon, and a segment is full after a few
    progress_commit_ms: 1,
    prepare: Some(one_job),
    act: |actor| {
        let wordy = actor.with_reply("so ".repeat(600));
        let owner = wordy.own();
        let c = wordy.take_in_hand(&owner, &key("job"));
        wordy.drain(&owner, &key("job"), 2);
        wordy.finish(&owner, &c, 1);
        wordy.drain(&owner, &key("job"), usize::MAX);
        let segments = actor.spool.segments().unwrap();
        assert!(segments.iter().any(|s| s.segment > 0), "one segment was enough: {segments:?}");
        close(actor, owner);
    },
};

pub const CHANGING: Script = Script {
    progress_commit_ms: 1_000,
    prepare: Some(|actor| ["a", "b", "c"].iter().for_each(|job| drop(actor.submit(job, 5)))),
    act: |actor| {
        let owner = actor.own();
        actor.change(&key("a"), &pause());
        actor.change(&key("a"), &RESUME);
        // while it is in hand
        let c = actor.take_in_hand(&owner, &key("a"));
        actor.request(&key("a"), &pause());
        actor.finish(&owner, &c, 1);
        actor.carry_out(&key("a"), JobState::Paused);
        actor.change(&key("a"), &RESUME);
        // a pause is asked for, and taken back; then a cancel
        let c = actor.take_in_hand(&owner, &key("b"));
        actor.request(&key("b"), &pause());
        actor.change(&key("b"), &RESUME);
        actor.request(&key("b"), &Change::Cancel);
        actor.finish(&owner, &c, 1);
        actor.carry_out(&key("b"), JobState::Cancelled);
        actor.change(&key("c"), &pause());
        actor.change(&key("c"), &Change::Cancel);
        close(actor, owner);
    },
};

pub const REMOVING: Script = Script {
    progress_commit_ms: 1_000,
    prepare: Some(|actor| {
        for job in ["a", "b"] {
            actor.submit(job, 4);
        }
        actor.change(&key("b"), &Change::Cancel);
        let owner = actor.own();
        actor.drain(&owner, &key("a"), usize::MAX);
        actor.complete(&key("a"));
        close(actor, owner);
    }),
    act: |actor| {
        actor.remove(&key("a"));
        actor.remove(&key("b"));
        // the key is free again
        actor.submit("a", 2);
    },
};

pub const PACKING: Script = Script {
    progress_commit_ms: 1_000,
    prepare: Some(|_| {}),
    act: |actor| {
        let made = actor.again(|| actor.spool.commit_pack(&pack(&[2, 1, 2])));
        let made = made.job_id().unwrap();
        actor.recorder.mark(Mark::Submitted(made.clone(), 5));
        let owner = actor.own();
        actor.drain(&owner, &made, 1);
        actor.drain(&owner, &made, usize::MAX);
        close(actor, owner);
    },
};

pub const RECOVERING: Script = Script {
    progress_commit_ms: 1_000,
    // what a death left in the middle of several chunks
    prepare: Some(|actor| {
        actor.submit("job", 12);
        let owner = actor.own();
        actor.drain(&owner, &key("job"), 1);
        actor.take_in_hand(&owner, &key("job"));
        actor.take_in_hand(&owner, &key("job"));
    }),
    act: |actor| {
        let owner = actor.own();
        actor.drain(&owner, &key("job"), 2);
    },
};
