//! Who may connect and who may send, one rule each.
//!
//! Connecting: while no session stands, one infeed tries and the others wait, so that a dead MTA meets
//! one polite caller; nobody connects while one that had to give its transaction back still does, since it
//! will want another; and never more than [`CONNECTS_MAX`] connect side by side. Sending: while the MTA is
//! held or paused nobody begins a transaction; when a hold ends, one transaction probes, and its acceptance
//! frees the others. A pause that is resumed ends as a hold does: one infeed connects if none is, and
//! probes. Rights are given back on drop.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::{Inner, Seat, Shared};
use crate::clock::now_us;
use crate::infeed::transaction::Said;
use crate::infeed::verdict::Mta;

/// Infeeds that connect at a time, up to the reply to EHLO. sendmail's listen backlog is 10: 31 connects at
/// once lost 20 to 29 SYNs in it, each of which waits a second or more before it is sent again.
pub const CONNECTS_MAX: usize = 4;

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
            if inner.established() + inner.connecting > 0 {
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
            && inner.established() + inner.connecting >= sessions_max
        {
            return Wait::Until(until);
        }
        if inner.staying() + inner.connecting >= inner.target {
            return Wait::Change;
        }
        let singly = inner.established() == 0 || inner.connects_singly;
        if inner.connecting >= if singly { 1 } else { CONNECTS_MAX } {
            return Wait::Change;
        }
        inner.connecting += 1;
        Wait::No
    }

    /// Resolves when whoever may connect, and has not begun to, may no longer: it asks for admission anew.
    pub async fn admission_to_connect_over(&self) {
        self.until(|shared| {
            let inner = shared.lock();
            inner.paused.is_some()
                || inner.empty_handed > 0
                || inner
                    .hold
                    .as_ref()
                    .is_some_and(|hold| inner.established() > 0 || Instant::now() < hold.until)
        })
        .await;
    }

    /// Resolves when a session that waits for a transaction may begin none any more.
    pub async fn admission_of_sessions_over(&self, seat: &Seat, probing: bool) {
        let over = |shared: &Self| shared.is_stopping() || !probing && !shared.may_ask() || seat.leaves();
        self.until(over).await;
    }

    /// Whether a transaction may begin now.
    pub fn try_admit_transaction(&self) -> Result<Admission, NotNow> {
        if self.is_stopping() {
            return Ok(Admission::Stop);
        }
        if self.may_ask() {
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

    /// May a transaction be asked for? When all is drained, whoever asks is told so, and ends.
    fn may_ask(&self) -> bool {
        !self.closed.load(Relaxed) || self.drained.load(Relaxed)
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

/// A session is being opened, until dropped: for the count of those alone.
pub struct Opening<'a>(&'a Shared);

impl<'a> Opening<'a> {
    pub fn begin(shared: &'a Shared) -> Self {
        shared.opening.fetch_add(1, Relaxed);
        Self(shared)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Relaxed);
    }
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
        let answered = self.shared.meter.transactions();
        let seat = self.shared.change(|inner| {
            inner.connecting -= 1;
            inner.empty_handed -= usize::from(self.empty_handed);
            let seat = inner.seats.take(answered);
            inner.established_peak = inner.established_peak.max(inner.established());
            inner.connects_singly = false;
            inner.connections_total += 1;
            inner.connect_failures = 0;
            inner.down = None;
            seat
        });
        Established { shared: self.shared.clone(), seat }
    }

    /// No session came of it. With live sessions elsewhere `mta` alone says what follows; without,
    /// the MTA is down, and the next try waits.
    pub fn failed(mut self, error: &impl ToString, mta: Mta, said: &Said) {
        self.settled = true;
        let error = error.to_string();
        self.shared.change(|inner| {
            inner.connecting -= 1;
            inner.empty_handed -= usize::from(self.empty_handed);
            inner.erred(error.clone());
            inner.connect_failures = inner.connect_failures.saturating_add(1);
            let delay = self.shared.config.reconnect_delay(inner.connect_failures);
            inner.connect_not_before = Some(Instant::now() + delay);
            if inner.established() == 0 {
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
    pub seat: Arc<Seat>,
}

impl Drop for Established {
    fn drop(&mut self) {
        self.shared.change(|inner| inner.seats.free(&self.seat));
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
