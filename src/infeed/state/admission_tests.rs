use std::task::{Context, Waker};
use std::time::Duration;

use super::*;
use crate::infeed::config::InfeedConfig;
use crate::infeed::state::{MtaState, STRAINS_MAX};

fn shared() -> Arc<Shared> {
    Shared::new(InfeedConfig { rate_hold_ms: 3_600_000, connections: 100, ..InfeedConfig::default() })
}

fn said(code: u16, text: &str) -> Said {
    Said { code, text: text.into() }
}

/// The right to connect, if it can be had at `now`.
fn connecting(shared: &Arc<Shared>, now: Instant) -> Option<Connecting> {
    matches!(shared.may_connect(now), Wait::No).then(|| Connecting {
        shared: shared.clone(),
        settled: false,
        empty_handed: false,
    })
}

#[test]
fn while_no_session_stands_one_tries_and_its_right_comes_back_on_drop() {
    let (shared, now) = (shared(), Instant::now());
    let first = connecting(&shared, now);
    assert!(first.is_some() && connecting(&shared, now).is_none());
    drop(first);
    let session = connecting(&shared, now).map(Connecting::established);
    // Now that one stands, the others follow together.
    let others = [connecting(&shared, now), connecting(&shared, now)];
    assert!(others.iter().all(Option::is_some));
    drop((session, others));
    let status = shared.status();
    assert_eq!((status.established, status.connecting, status.connections_total), (0, 0, 1));
}

#[test]
fn a_backlog_of_few_is_never_overrun_by_those_that_connect_side_by_side() {
    let (shared, now) = (shared(), Instant::now());
    let first = connecting(&shared, now).map(Connecting::established);
    let mut others: Vec<_> = std::iter::from_fn(|| connecting(&shared, now)).take(100).collect();
    assert_eq!(others.len(), CONNECTS_MAX);
    // Whoever has its session makes room for one more, whoever gives up as well.
    let session = others.pop().map(Connecting::established);
    assert!(connecting(&shared, now).is_some_and(|_| connecting(&shared, now).is_none()));
    assert_eq!(
        (first.is_some(), session.is_some(), shared.status().connecting),
        (true, true, CONNECTS_MAX - 1)
    );
}

#[test]
fn after_a_failure_nobody_tries_before_the_delay_and_the_mta_is_down() {
    let (shared, now) = (shared(), Instant::now());
    let Some(first) = connecting(&shared, now) else { panic!("nobody else connects") };
    first.failed(&"refused", Mta::BackOff, &said(421, "refused"));
    assert!(matches!(shared.status().state, MtaState::Down { error, .. } if error == "refused"));
    assert!(connecting(&shared, now).is_none());
    assert!(connecting(&shared, now + Duration::from_secs(120)).is_some());
}

#[test]
fn too_many_connections_caps_at_what_stands_for_a_while() {
    let (shared, now) = (shared(), Instant::now());
    let session = connecting(&shared, now).map(Connecting::established);
    assert!(session.is_some());
    shared.obey(Mta::CapConnections, &said(421, "4.7.0 too many connections"), 0);
    assert!(connecting(&shared, now).is_none());
    assert!(connecting(&shared, now + Duration::from_secs(120)).is_some());
    assert_eq!(shared.status().state, MtaState::Up);
}

#[test]
fn a_refused_connect_with_live_sessions_holds_connects_and_nothing_else() {
    let (shared, now) = (shared(), Instant::now());
    let session = connecting(&shared, now).map(Connecting::established);
    assert!(session.is_some());
    shared.obey(Mta::HoldConnects, &said(421, "refused"), 0);
    assert!(connecting(&shared, now + Duration::from_secs(14)).is_none());
    assert!(connecting(&shared, now + Duration::from_secs(30)).is_some());
    assert!(shared.may_begin());
}

#[test]
fn strain_holds_at_its_bound_and_an_acceptance_clears_the_count() {
    let shared = shared();
    let trouble = said(451, "4.3.0 queue file write error");
    for _ in 1..STRAINS_MAX {
        shared.obey(Mta::Strain, &trouble, 0);
    }
    assert!(shared.may_begin());
    shared.succeeded(1);
    for _ in 1..STRAINS_MAX {
        shared.obey(Mta::Strain, &trouble, 0);
    }
    assert!(shared.may_begin());
    shared.obey(Mta::Strain, &trouble, 0);
    assert!(!shared.may_begin() && matches!(shared.status().state, MtaState::Held { .. }));
}

#[test]
fn an_acceptance_from_before_a_hold_does_not_end_it() {
    let shared = shared();
    shared.obey(Mta::StopAndProbe, &said(452, "4.3.1 full"), 0);
    shared.succeeded(1);
    assert!(!shared.may_begin());
}

#[test]
fn a_pause_lasts_until_resumed() {
    let (shared, now) = (shared(), Instant::now());
    shared.obey(Mta::Pause, &said(554, "no"), 0);
    assert!(!shared.may_begin() && connecting(&shared, now + Duration::from_secs(9_999)).is_none());
    shared.resume();
    // One connects, and has the probe; its success frees the others.
    let now = Instant::now();
    let Some(first) = connecting(&shared, now) else { panic!("nobody stands in its way") };
    assert!(connecting(&shared, now).is_none() && !shared.may_begin());
    let session = first.established();
    assert!(connecting(&shared, now).is_none());
    assert!(matches!(shared.try_admit_transaction(), Ok(Admission::Probe)));
    assert!(shared.try_admit_transaction().is_err());
    assert_eq!(shared.status().state, MtaState::Up);
    shared.succeeded(1);
    assert!(shared.may_begin() && connecting(&shared, now).is_some());
    drop(session);
}

#[test]
fn after_resume_one_connects_alone_though_a_session_stands() {
    let (shared, now) = (shared(), Instant::now());
    let session = connecting(&shared, now).map(Connecting::established);
    // New connections are refused, and what stands is not: a password that was changed.
    shared.obey(Mta::Pause, &said(535, "no"), 0);
    shared.resume();
    assert!(matches!(shared.try_admit_transaction(), Ok(Admission::Probe)));
    assert!(connecting(&shared, now).is_none());
    shared.succeeded(1);
    let Some(alone) = connecting(&shared, now) else { panic!("nobody stands in its way") };
    assert!(connecting(&shared, now).is_none());
    let second = alone.established();
    assert!(connecting(&shared, now).is_some());
    drop((session, second));
}

#[test]
fn resume_forgets_the_waits_of_before_and_changes_nothing_unless_paused() {
    let (shared, now) = (shared(), Instant::now());
    shared.resume();
    assert!(shared.may_begin());
    let Some(first) = connecting(&shared, now) else { panic!("nobody stands in its way") };
    first.failed(&"refused", Mta::Pause, &said(554, "refused"));
    shared.resume();
    assert!(connecting(&shared, Instant::now()).is_some());
}

#[test]
fn a_probe_after_resume_that_ends_in_a_pause_needs_another_resume() {
    let shared = shared();
    shared.obey(Mta::Pause, &said(530, "no"), 0);
    shared.resume();
    assert!(matches!(shared.try_admit_transaction(), Ok(Admission::Probe)));
    shared.obey(Mta::Pause, &said(530, "still no"), 0);
    shared.probe_ended();
    assert!(shared.try_admit_transaction().is_err());
    shared.resume();
    assert!(matches!(shared.try_admit_transaction(), Ok(Admission::Probe)));
}

#[test]
fn nobody_connects_beside_one_that_gave_its_transaction_back() {
    let (shared, now) = (shared(), Instant::now());
    let session = connecting(&shared, now).map(Connecting::established);
    let Some(mut slow) = connecting(&shared, now) else { panic!("one stands") };
    slow.gives_back();
    assert!(session.is_some() && connecting(&shared, now).is_none());
    drop(slow);
    assert!(connecting(&shared, now).is_some());
}

#[test]
fn the_end_of_the_work_is_told_to_sessions_that_are_held() {
    let shared = shared();
    shared.obey(Mta::StopAndProbe, &said(452, "4.3.1 full"), 0);
    let seat = Seat::default();
    let over = |probing| {
        let mut over = std::pin::pin!(shared.admission_of_sessions_over(&seat, probing));
        over.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    };
    assert!(over(false) && !over(true) && shared.try_admit_transaction().is_err());
    shared.drained();
    assert!(!over(false) && !over(true));
    assert!(matches!(shared.try_admit_transaction(), Ok(Admission::Go)));
    shared.stop();
    assert!(over(false) && over(true));
    assert!(matches!(shared.try_admit_transaction(), Ok(Admission::Stop)));
}

#[test]
fn who_is_one_too_many_makes_room_for_nobody_until_the_number_is_raised() {
    let (shared, now) = (shared(), Instant::now());
    shared.set_target(2);
    let [still, lively] = [0, 1].map(|_| match connecting(&shared, now) {
        Some(connects) => connects.established(),
        None => panic!("nobody stands in its way"),
    });
    lively.seat.answered(7);
    shared.set_target(1);
    assert!(still.seat.leaves() && !lively.seat.leaves());
    assert_eq!(shared.status().established, 2);
    assert!(connecting(&shared, now).is_none());
    // the one that stays is lost before the other could end: that one stays after all
    drop(lively);
    assert!(!still.seat.leaves() && connecting(&shared, now).is_none());
    shared.set_target(2);
    assert!(connecting(&shared, now).is_some());
}
