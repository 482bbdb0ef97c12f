//! Cuts at every call of each thing that a spool does.

use std::fmt;

use super::actor::{IN_FLIGHT, UNSYNCED_MAX};
use super::judge::{Left, judge};
use super::known::{Known, Mark};
use super::scripts::{
    CHANGING, DRAINING, PACKING, RECOVERING, REMOVING, ROTATING, Recording, SUBMITTING, Script, record,
};
use crate::spool::disk::{Disk, Survives};
use crate::spool::recorder::Moment;

/// Random parts of the uncertain that are tried at each cut.
const PARTS: u64 = 6;
const PARTS_LONG: u64 = 200;

/// The place of a cut, for a failure.
pub struct Place<'a> {
    pub moments: &'a [Moment<Mark>],
    pub cut: usize,
    pub how: &'a Survives,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "cut behind call {} of {}, of the uncertain survives {:?}:",
            self.cut,
            self.moments.len(),
            self.how
        )?;
        let from = self.cut.saturating_sub(40);
        for (n, moment) in self.moments.iter().enumerate().take(self.cut).skip(from) {
            match moment {
                Moment::Call(step) => writeln!(f, "{n:4} {step:?}")?,
                Moment::Mark(mark) => writeln!(f, "{n:4}   {mark:?}")?,
            }
        }
        Ok(())
    }
}

/// Prints where it was, should what follows fail.
pub struct Told<'a>(pub Place<'a>);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// The moments behind which a cut makes a difference: behind a call, and all that was learnt from it.
pub fn cuts(moments: &[Moment<Mark>]) -> Vec<usize> {
    let is_call = |n: usize| matches!(moments.get(n), None | Some(Moment::Call(_)));
    (0..=moments.len()).filter(|&n| is_call(n)).collect()
}

pub fn advance(disk: &mut Disk, known: &mut Known, moments: &[Moment<Mark>]) {
    for moment in moments {
        if let Moment::Call(step) = moment {
            disk.apply(step);
        }
        known.learn(moment);
    }
}

/// Cuts everywhere, by the death of the process and of the machine, and once more in the recovery.
pub fn cut_everywhere(recording: &Recording) {
    let parts = if is_long() { PARTS_LONG } else { PARTS };
    let cuts = cuts(&recording.moments);
    // two cores: one takes the odd ones
    std::thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                scope.spawn({
                    let cuts = &cuts;
                    move || {
                        let (mut disk, mut known) = (recording.disk.clone(), recording.known.clone());
                        let mut at = 0;
                        for (n, &cut) in cuts.iter().enumerate() {
                            advance(&mut disk, &mut known, &recording.moments[at..cut]);
                            at = cut;
                            if n % 2 == half {
                                cut_here(recording, cut, &disk, &known, parts);
                            }
                        }
                    }
                })
            })
            .collect();
        for half in halves {
            if let Err(panic) = half.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

fn cut_here(recording: &Recording, cut: usize, disk: &Disk, known: &Known, parts: u64) {
    let mut known = known.clone();
    known.forget_memory();
    let mut ways = vec![(false, Survives::All), (true, Survives::Nothing)];
    if !disk.is_certain() {
        ways.push((true, Survives::All));
        ways.extend((0..parts).map(|part| (true, Survives::Some((part << 32) | cut as u64))));
    }
    for (is_power_cut, how) in ways {
        let _told = Told(Place { moments: &recording.moments, cut, how: &how });
        let left = match is_power_cut {
            false => Left { disk: disk.clone(), known: known.clone(), boot: 0, repeats_max: IN_FLIGHT },
            true => power_cut(disk, &known, &how, 0, 0),
        };
        let moments = judge(&left);
        cut_recovery(&left, &moments, cut as u64);
    }
}

/// What a power cut leaves, and what may have been sent twice then.
pub fn power_cut(disk: &Disk, known: &Known, how: &Survives, boot: usize, repeats_max: usize) -> Left {
    let disk = Disk::of(&disk.image(how));
    let repeats_max = repeats_max + IN_FLIGHT + UNSYNCED_MAX;
    Left { disk, known: known.clone(), boot: boot + 1, repeats_max }
}

/// A power cut somewhere in the recovery, or in the drain behind it, and then another recovery.
fn cut_recovery(left: &Left, moments: &[Moment<Mark>], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let cuts = cuts(moments);
    // mostly in its first half: recovery comes first
    let cut = cuts[random.usize(0..cuts.len()).min(random.usize(0..cuts.len()))];
    let how = if random.bool() { Survives::Nothing } else { Survives::Some(random.u64(..)) };
    let _told = Told(Place { moments, cut, how: &how });
    let (mut disk, mut known) = (left.disk.clone(), left.known.clone());
    advance(&mut disk, &mut known, &moments[..cut]);
    known.forget_memory();
    judge(&power_cut(&disk, &known, &how, left.boot, left.repeats_max));
}

pub fn is_long() -> bool {
    std::env::var_os("INFEED_TEST_LONG").is_some()
}

fn everywhere(script: &Script) {
    cut_everywhere(&record(script, None).unwrap());
}

#[test]
fn a_cut_anywhere_while_a_spool_is_made_and_a_job_submitted_leaves_all_of_the_job_or_nothing() {
    everywhere(&SUBMITTING);
}

#[test]
fn a_cut_anywhere_in_a_drain_forgets_no_outcome_and_loses_nobody() {
    everywhere(&DRAINING);
}

#[test]
fn a_cut_anywhere_while_segments_follow_one_another_forgets_no_outcome() {
    everywhere(&ROTATING);
}

#[test]
fn a_cut_anywhere_in_a_change_of_state_leaves_the_one_before_or_the_one_after() {
    everywhere(&CHANGING);
}

#[test]
fn a_cut_anywhere_in_a_removal_leaves_all_of_the_job_or_nothing_that_is_listed() {
    everywhere(&REMOVING);
}

#[test]
fn a_cut_anywhere_in_the_commit_of_a_pack_leaves_all_of_its_members_or_none() {
    everywhere(&PACKING);
}

#[test]
fn a_cut_anywhere_in_a_recovery_is_recovered_again() {
    everywhere(&RECOVERING);
}
