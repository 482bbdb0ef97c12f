//! A sync that fails, at each place; what it was to make durable is gone, though the next sync reports
//! success. Whoever called tries again as it would; then the power is cut.

use super::judge::judge;
use super::known::Known;
use super::power::{Place, Told, advance, cuts, is_long, power_cut};
use super::scripts::{
    CHANGING, DRAINING, PACKING, RECOVERING, REMOVING, ROTATING, Recording, SUBMITTING, Script, record,
};
use crate::spool::disk::Survives;
use crate::spool::recorder::Moment;

/// Cuts behind each failure.
const CUTS: usize = 4;
const CUTS_LONG: usize = 60;

fn is_failure(recording: &Recording, at: usize) -> bool {
    use crate::spool::disk::Step::{SyncDirFailed, SyncFileFailed};
    matches!(recording.moments[at], Moment::Call(SyncFileFailed(_) | SyncDirFailed(_)))
}

/// Lets each sync of the script fail once, and cuts behind that.
fn each_sync_fails(script: &Script) {
    for n in 0.. {
        let Some(recording) = record(script, Some(n)) else {
            assert!(n > 0, "nothing was synced");
            return;
        };
        let moments = &recording.moments;
        let failed = (0..moments.len()).find(|&at| is_failure(&recording, at)).expect("it failed");
        let behind: Vec<usize> = cuts(moments).into_iter().filter(|&cut| cut > failed).collect();
        let mut random = fastrand::Rng::with_seed(n);
        let mut chosen = vec![moments.len()];
        let wanted = if is_long() { CUTS_LONG } else { CUTS };
        chosen.extend((0..wanted).map(|_| behind[random.usize(0..behind.len())]));
        for (i, cut) in chosen.into_iter().enumerate() {
            let how = if i % 2 == 0 { Survives::Nothing } else { Survives::Some(random.u64(..)) };
            let _told = Told(Place { moments, cut, how: &how });
            let (mut disk, mut known): (_, Known) = (recording.disk.clone(), recording.known.clone());
            advance(&mut disk, &mut known, &moments[..cut]);
            known.forget_memory();
            judge(&power_cut(&disk, &known, &how, 0, 0));
        }
    }
}

#[test]
fn a_sync_that_failed_in_a_submission_is_not_taken_as_if_it_had_worked() {
    each_sync_fails(&SUBMITTING);
    each_sync_fails(&PACKING);
}

#[test]
fn a_sync_that_failed_in_a_drain_is_not_taken_as_if_it_had_worked() {
    each_sync_fails(&DRAINING);
    each_sync_fails(&RECOVERING);
}

#[test]
fn a_sync_that_failed_while_segments_follow_one_another_is_not_taken_as_if_it_had_worked() {
    each_sync_fails(&ROTATING);
}

#[test]
fn a_sync_that_failed_in_a_change_of_state_is_not_taken_as_if_it_had_worked() {
    each_sync_fails(&CHANGING);
    each_sync_fails(&REMOVING);
}
