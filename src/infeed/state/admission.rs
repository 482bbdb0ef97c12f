//! Who may connect and who may send, one rule each.
//!
//! Connecting: while no session stands, one infeed tries and the others wait, so that a dead MTA meets
//! one polite caller; and nobody connects while one that had to give its transaction back still does,
//! since it will want another. Sending: while the MTA is held or paused nobody begins a transaction; when
//! a hold ends, one transaction probes, and its acceptance frees the others. A pause that is resumed ends
//! as a hold does: one infeed connects if none is, and probes. Rights are given back on drop.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::{Inner, Shared};
use crate::clock::now_us;
use crate::infeed::transaction::Said;
use crate::infeed::verdict::Mta;

/// What an infeed may do.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    Go,
    /// Go, and you are the probe: nobody else begins until you have succeeded.
    Probe,
    Stop,
}

impl Shared {
    /// Waits until this infeed may connect; `None`: there is no more use for it.
    pub async fn admit_connect(self: &Arc<Self>) -> Option<Connecting> {
        let mut changed = self.status.subscribe();
        loop {
            changed.mark_unchanged();
            if self.is_stopping() || self.drained.load(Relaxed) {
                return None;
            }
            let wait = self.may_connect(Instant::now());
            match wait {
                Wait::No => {
                    self.change(|_| ());
                    return Some(Connecting { shared: self.clone(), settled: false, empty_handed: false });
                }
                Wait::Until(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => (),
                    _ = changed.changed() => (),
                },
                Wait::Change => {
                    if changed.changed().await.is_err() {
                        return None;
                    }
                }
            }
        }
    }

    fn may_connect(&self, now: Instant) -> Wait {
        let mut inner = self.lock();
        if inner.paused.is_some() || inner.empty_handed > 0 {
            return Wait::Change;
        }
        if let Some(hold) = &inner.hold {
            // A session that stands will probe; without one, somebody must connect for it.
            if inner.established + inner.connecting > 0 {
                return Wait::Change;
            }
            if now < hold.until {
                return Wait::Until(hold.until);
            }
        }
        if let Some(until) = inner.connect_not_before.filter(|until| now < *until) {
            return Wait::Until(until);
        }
        if let Some((sessions_max, until)) = inner.cap.filter(|(_, until)| now < *until)
            && inner.established + inner.connecting >= sessions_max
        {
            return Wait::Until(until);
        }
        if inner.established == 0 && inner.connecting > 0 {
            return Wait::Change;
        }
        inner.connecting += 1;
        Wait::No
    }

    /// Resolves when whoever may connect, and has not begun to, may no longer: it asks for admission anew.
    pub async fn admission_over(&self) {
        self.until(|shared| {
            let inner = shared.lock();
            inner.paused.is_some()
                || inner.empty_handed > 0
                || inner
                    .hold
                    .as_ref()
                    .is_some_and(|hold| inner.established > 0 || Instant::now() < hold.until)
        })
        .await;
    }

    /// Whether a transaction may begin now.
    pub fn try_admit_transaction(&self) -> Result<Admission, NotNow> {
        if self.is_stopping() {
            return Ok(Admission::Stop);
        }
        // When all is drained, whoever asks for more is told so, and ends.
        if self.may_begin() || self.drained.load(Relaxed) {
            return Ok(Admission::Go);
        }
        let mut inner = self.lock();
        match &mut *inner {
            Inner { paused: Some(_), .. } => Err(NotNow(None)),
            Inner { hold: None, .. } => Ok(Admission::Go),
            Inner { hold: Some(hold), .. } if hold.probing => Err(NotNow(None)),
            Inner { hold: Some(hold), .. } if Instant::now() < hold.until => Err(NotNow(Some(hold.until))),
            Inner { hold: Some(hold), .. } => {
                hold.probing = true;
                Ok(Admission::Probe)
            }
        }
    }

    /// Waits until this infeed may begin a transaction. Cancel-safe.
    pub async fn admit_transaction(&self) -> Admission {
        let mut changed = self.status.subscribe();
        loop {
            changed.mark_unchanged();
            let until = match self.try_admit_transaction() {
                Ok(admission) => return admission,
                Err(NotNow(until)) => until,
            };
            match until {
                Some(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => (),
                    _ = changed.changed() => (),
                },
                None => {
                    if changed.changed().await.is_err() {
                        return Admission::Stop;
                    }
                }
            }
        }
    }

    /// May a transaction begin without asking for admission?
    pub fn may_begin(&self) -> bool {
        !self.closed.load(Relaxed) && !self.is_stopping()
    }

    /// May a transaction begin right now, in the group of another one?
    pub fn may_group(&self) -> bool {
        self.config.group_across_dot && !self.no_group_across_dot.load(Relaxed) && self.may_begin()
    }

    /// The probe ended without success or failure: another may probe.
    pub fn probe_ended(&self) {
        self.change(|inner| {
            if let Some(hold) = &mut inner.hold {
                hold.probing = false;
            }
        });
    }
}

/// Not before this time, or before something changes.
#[derive(Debug)]
pub struct NotNow(Option<Instant>);

enum Wait {
    No,
    Until(Instant),
    Change,
}

/// The right to connect, once. Dropped without a word (an abort), it is free for another.
pub struct Connecting {
    shared: Arc<Shared>,
    settled: bool,
    /// It has no transaction any more.
    empty_handed: bool,
}

impl Connecting {
    /// It connects without a transaction from now on: to be said before that is given back, so that no
    /// other infeed without a session takes it and connects as well.
    pub fn gives_back(&mut self) {
        assert!(!self.empty_handed, "an infeed gives its transaction back once");
        self.empty_handed = true;
        self.shared.change(|inner| inner.empty_handed += 1);
    }

    pub fn established(mut self) -> Established {
        self.settled = true;
        self.shared.change(|inner| {
            inner.connecting -= 1;
            inner.empty_handed -= usize::from(self.empty_handed);
            inner.established += 1;
            inner.connections_total += 1;
            inner.connect_failures = 0;
            inner.down = None;
        });
        Established { shared: self.shared.clone() }
    }

    /// No session came of it. With live sessions elsewhere `mta` alone says what follows; without,
    /// the MTA is down, and the next try waits.
    pub fn failed(mut self, error: &impl ToString, mta: Mta, said: &Said) {
        self.settled = true;
        let error = error.to_string();
        self.shared.change(|inner| {
            inner.connecting -= 1;
            inner.empty_handed -= usize::from(self.empty_handed);
            inner.last_error = Some(error.clone());
            inner.connect_failures = inner.connect_failures.saturating_add(1);
            let delay = self.shared.config.reconnect_delay(inner.connect_failures);
            inner.connect_not_before = Some(Instant::now() + delay);
            if inner.established == 0 {
                inner.down.get_or_insert((now_us(), String::new())).1 = error;
            }
        });
        self.shared.obey(mta, said, 0);
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if !self.settled {
            self.shared.change(|inner| {
                inner.connecting -= 1;
                inner.empty_handed -= usize::from(self.empty_handed);
            });
        }
    }
}

/// A session that stands, until dropped.
pub struct Established {
    shared: Arc<Shared>,
}

impl Drop for Established {
    fn drop(&mut self) {
        self.shared.change(|inner| inner.established -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::infeed::config::InfeedConfig;
    use crate::infeed::state::{MtaState, STRAINS_MAX};

    fn shared() -> Arc<Shared> {
        Shared::new(InfeedConfig { rate_hold_ms: 3_600_000, ..InfeedConfig::default() })
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
}
