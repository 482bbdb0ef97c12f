//! A limit of messages a second, over governor's cell-rate algorithm.
//!
//! What it guarantees, at every rate and with askers that come late or at odd moments:
//!
//! - It begins with nothing in hand: one message at once, the next one after 1/rate.
//! - Whoever waited for it and is late catches up: over some seconds of demand the rate is exact. At most
//!   one second's worth is caught up.
//! - What nobody asked for is not saved up: after an idle spell at most a tenth of a second's worth goes at once.
//! - A change, at any time and any number of times, grants nothing: the part of a message that was waited
//!   for stays the same part.
//!
//! governor alone has none of these: a new limiter grants a full burst, a quota can't be changed, and
//! `until_ready` wakes whoever waits at the same moment. So the state is kept here (`Schedule`: when the
//! next message may go), the limiter is exchanged under it, and nobody waits in it: [`Limiter::may`] says
//! until when, and the caller has one timer for all.
//!
//! Time is given ([`Moment`]); nothing here fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use super::per_second::PerSecond;

/// What may go at once after nobody asked for a while, in nanoseconds' worth.
const IDLE_NS_MAX: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// A moment, in nanoseconds since one that is the same for all who are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// `now`, counted from `begun`.
    pub fn since(begun: Instant, now: Instant) -> Self {
        Self(u64::try_from(now.duration_since(begun).as_nanos()).unwrap_or(u64::MAX))
    }

    /// As an instant, counted from `begun`.
    pub fn after(self, begun: Instant) -> Instant {
        begun + Duration::from_nanos(self.0)
    }
}

/// Messages a second, at most; or no limit.
#[derive(Debug, Default)]
pub struct Limiter(Option<Box<Limit>>);

#[derive(Debug)]
struct Limit {
    rate: PerSecond,
    /// Nanoseconds a message.
    interval: u64,
    schedule: Schedule,
    governor: Governor,
    /// What was left over when a message went last: it is still good.
    carried: u64,
    /// Somebody wanted to send, and had to wait.
    unmet: bool,
}

impl Limiter {
    pub fn new(rate: Option<PerSecond>) -> Self {
        let mut limiter = Self::default();
        // no message went yet: the moment says nothing
        limiter.set_rate(rate, Moment(0));
        limiter
    }

    pub fn rate(&self) -> Option<PerSecond> {
        self.0.as_ref().map(|limit| limit.rate)
    }

    /// Goes on with another rate, or without one.
    pub fn set_rate(&mut self, rate: Option<PerSecond>, now: Moment) {
        let Some(rate) = rate else {
            self.0 = None;
            return;
        };
        match &mut self.0 {
            None => self.0 = Some(Box::new(Limit::new(rate))),
            Some(limit) if limit.rate == rate => {}
            Some(limit) => limit.change(rate, now),
        }
    }

    /// Whether a message may go now; if not, not before the moment that is given.
    pub fn may(&mut self, now: Moment) -> Result<(), Moment> {
        match &mut self.0 {
            None => Ok(()),
            Some(limit) => limit.may(now),
        }
    }

    /// Whether somebody has to wait for it at this moment.
    pub fn waits(&self, now: Moment) -> bool {
        let waits = |limit: &Limit| limit.unmet && limit.schedule.next().is_some_and(|next| now.0 < next);
        self.0.as_ref().is_some_and(|limit| waits(limit))
    }

    /// A message goes.
    ///
    /// # Panics
    /// Where [`Limiter::may`] would not let it.
    pub fn take(&mut self, now: Moment) {
        if let Some(limit) = &mut self.0 {
            limit.take(now);
        }
    }
}

impl Limit {
    fn new(rate: PerSecond) -> Self {
        let interval = ((SECOND_NS as f64 / rate.as_f64()).round() as u64).max(1);
        let schedule = Schedule::default();
        Self { rate, interval, governor: governor(interval, &schedule), schedule, carried: 0, unmet: false }
    }

    fn may(&mut self, now: Moment) -> Result<(), Moment> {
        match self.schedule.next() {
            Some(next) if now.0 < next => {
                self.unmet = true;
                Err(Moment(next))
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, now: Moment) {
        let next = self.schedule.next().unwrap_or(now.0);
        assert!(next <= now.0, "a message goes {} ns before it may", next - now.0);
        let worth_max = match self.unmet {
            true => self.worth_late_max(),
            false => self.worth_late_max().min(self.carried.max(IDLE_NS_MAX)),
        };
        self.schedule.set(next.max(now.0.saturating_sub(worth_max)));
        self.governor.clock().0.store(now.0, Relaxed);
        let allowed = self.governor.check().is_ok();
        assert!(allowed, "the limiter refuses what it has let through");
        self.carried = now.0.saturating_sub(self.schedule.next().unwrap_or(now.0));
        self.unmet = false;
    }

    /// What can be caught up: so much that with the message that is due it is a second's worth. Of a rate so
    /// low that this is nothing, half a message: the next one is then sooner, and still alone.
    fn worth_late_max(&self) -> u64 {
        SECOND_NS.saturating_sub(self.interval).max(self.interval / 2)
    }

    fn change(&mut self, rate: PerSecond, now: Moment) {
        let (before, mut after) = (self.interval, Limit::new(rate));
        let scaled =
            |ns: u64| u64::try_from(u128::from(ns) * u128::from(after.interval) / u128::from(before));
        if let Some(next) = self.schedule.next() {
            let next = if next > now.0 {
                now.0.saturating_add(scaled(next - now.0).unwrap_or(u64::MAX))
            } else {
                // what was left over is so many messages, and no more time than it was
                let worth = now.0 - next;
                now.0 - worth.min(scaled(worth).unwrap_or(worth))
            };
            after.schedule.set(next);
            after.carried = self.carried.min(now.0.saturating_sub(next));
            after.unmet = self.unmet;
        }
        *self = after;
    }
}

/// governor's limiter over a schedule. It may catch up more than we ever let it: see [`Limit::take`].
fn governor(interval: u64, schedule: &Schedule) -> Governor {
    let burst = u32::try_from(SECOND_NS.div_ceil(interval) + 1).unwrap_or(u32::MAX);
    let burst = std::num::NonZeroU32::new(burst).unwrap_or(std::num::NonZeroU32::MIN);
    let Some(quota) = Quota::with_period(Duration::from_nanos(interval)) else {
        panic!("an interval of 0 ns between two messages")
    };
    schedule.lead.store(interval * u64::from(burst.get() - 1), Relaxed);
    RateLimiter::new(quota.allow_burst(burst), schedule.clone(), Stood::default())
}

type Governor = RateLimiter<NotKeyed, Schedule, Stood, NoOpMiddleware<Nanos>>;

/// When the next message may go: governor's state, which we look into, and set.
#[derive(Debug, Clone, Default)]
struct Schedule {
    /// 0: nobody asked yet.
    next: Arc<AtomicU64>,
    /// By how much governor's own figure (its theoretical arrival time) lies behind.
    lead: Arc<AtomicU64>,
}

impl Schedule {
    fn next(&self) -> Option<u64> {
        Some(self.next.load(Relaxed)).filter(|next| *next > 0)
    }

    fn set(&self, next: u64) {
        self.next.store(next.max(1), Relaxed);
    }
}

impl StateStore for Schedule {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let lead = self.lead.load(Relaxed);
        let (answer, arrival) = f(Some(Nanos::from(self.next.load(Relaxed) + lead)))?;
        self.set(arrival.as_u64() - lead);
        Ok(answer)
    }
}

/// governor's clock: stands where it was set.
#[derive(Debug, Default)]
struct Stood(AtomicU64);

impl Clock for Stood {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Relaxed))
    }
}

#[cfg(test)]
mod tests;
