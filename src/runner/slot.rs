//! The pools of a run, one an MTA: started when there is mail for it, judged, given up, exchanged.

mod change;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::command::MtaRunStatus;
use super::mtas::{Mta, MtaConfig, Outlet};
use super::rate::Rate;
use super::said::{News, Said};
use super::steer::{Account, By, Steering};
use super::supply::Supply;
use super::{DrainConfig, Ended};
use crate::clock::{self, Micros, SECOND_US};
use crate::config::Connections;
use crate::infeed::{MtaState, MtaStatus, Pool, StopReport};
use crate::logs::{self, without_local_parts};
use crate::pressure::law::Cuts;
use crate::spool::Owner;

/// One MTA with its infeeds.
pub(super) struct Slot {
    pub mta: Arc<Mta>,
    pub config: MtaConfig,
    /// `None` until there is something for it, and once it is given up.
    pub pool: Option<Pool>,
    begun_us: Micros,
    gave_up: Option<Ended>,
    /// Since when it refuses us as a whole.
    paused: Option<Instant>,
    /// What was logged of its state.
    said: Said,
    rate: Rate,
    steering: Steering,
}

/// All of a run's.
pub(super) struct Slots<O: Owner> {
    supply: Arc<Supply<O>>,
    all: Vec<Slot>,
    /// Pools that are ending: of MTAs that were given up, taken out or changed.
    ending: JoinSet<StopReport>,
    grace: Duration,
    /// Connections opened, one after the other, by the pools that have ended.
    pub opened: usize,
    /// How many connections the MTAs had that were taken out.
    past: Vec<(Account, Cuts)>,
}

/// What one look at all MTAs came to.
#[derive(Default)]
pub(super) struct Judged {
    pub note: Option<String>,
    pub somebody_gave_up: bool,
    pub ended: Option<Ended>,
}

impl<O: Owner> Slots<O> {
    pub fn new(config: &DrainConfig, supply: &Arc<Supply<O>>) -> Self {
        let all: Vec<Slot> = config.mtas.iter().map(Slot::new).collect();
        let slots = Self {
            supply: supply.clone(),
            all,
            ending: JoinSet::new(),
            grace: config.shutdown_grace,
            opened: 0,
            past: Vec::new(),
        };
        slots.tell_supply();
        slots
    }

    fn tell_supply(&self) {
        let open = self.all.iter().filter(|slot| slot.gave_up.is_none());
        self.supply.lock().set_mtas(open.map(|slot| slot.mta.clone()));
        self.supply.ready.notify_waiters();
    }

    /// Waits for mail for an MTA whose infeeds aren't started; gives its place. Cancel-safe.
    pub async fn wanted(&self) -> usize {
        loop {
            let ready = self.supply.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            {
                let state = self.supply.lock();
                let idle = |slot: &Slot| slot.pool.is_none() && slot.gave_up.is_none();
                if let Some(at) = self.all.iter().position(|slot| idle(slot) && state.waits_for(&slot.mta)) {
                    return at;
                }
            }
            ready.await;
        }
    }

    /// Starts the infeeds of one.
    pub fn start(&mut self, at: usize) {
        let slot = &mut self.all[at];
        let outlet = Outlet::new(&self.supply, &slot.mta);
        slot.begun_us = clock::now_us();
        slot.steering.begin();
        let connections = slot.steering.connections();
        slot.pool = Some(Pool::start_with(slot.config.infeed.clone(), Arc::new(outlet), connections));
    }

    pub fn established(&self) -> usize {
        self.all.iter().filter_map(|slot| slot.pool.as_ref()).map(|pool| pool.status().established).sum()
    }

    /// Looks at every MTA: what holds it up, and whether a drain has waited long enough for it. One that
    /// is given up takes no more; the run ends when none is left.
    pub fn judge(&mut self, forever: bool) -> Judged {
        let (now, mut judged, mut notes) = (Instant::now(), Judged::default(), Vec::new());
        let several = self.all.len() > 1;
        for slot in &mut self.all {
            slot.rate.read(now, slot.mta.counts.accepted.load(Relaxed));
            let Some(pool) = &mut slot.pool else { continue };
            let status = pool.status();
            if let Some(pace) = slot.steering.steer(&slot.config, pool, &status, now) {
                self.supply.set_pace(&slot.mta, pace);
            }
            let (note, ended) = verdict(&status, &slot.config, slot.begun_us);
            notes.extend(note.map(|n| if several { format!("{}: {n}", slot.mta.name) } else { n }));
            slot.log(&status, now);
            slot.call_again(&status, now, forever);
            if let Some(ended) = ended.filter(|_| !forever) {
                let why = ended.why().unwrap_or_default().to_owned();
                self.supply.lock().gone.push((slot.mta.name.clone(), why));
                slot.gave_up = Some(ended);
                judged.somebody_gave_up = true;
            }
        }
        if judged.somebody_gave_up {
            self.tell_supply();
            let left = self.all.iter().any(|slot| slot.gave_up.is_none() && !slot.mta.sink);
            for at in 0..self.all.len() {
                if self.all[at].gave_up.is_some() {
                    self.end(at);
                }
            }
            if !left {
                judged.ended = self.gave_up();
            }
        }
        judged.note = (!notes.is_empty()).then(|| notes.join("; "));
        judged
    }

    /// Why the first MTA was given up, if one was.
    pub fn gave_up(&self) -> Option<Ended> {
        self.all.iter().find_map(|slot| slot.gave_up.clone())
    }

    /// Lets the infeeds of one finish what they have in flight, aside.
    fn end(&mut self, at: usize) {
        if let Some(pool) = self.all[at].pool.take() {
            let (status, steering) = (pool.status(), &mut self.all[at].steering);
            self.past.push((steering.account(Instant::now(), &status), steering.cuts()));
            self.opened += status.connections_total as usize;
            let grace = self.grace;
            self.ending.spawn(async move { pool.stop(grace).await });
        }
    }

    /// Ends all; every transaction is settled when this returns.
    pub async fn stop(&mut self, grace: Duration) {
        self.grace = grace;
        for at in 0..self.all.len() {
            self.end(at);
        }
        let mut aborted = 0;
        while let Some(ended) = self.ending.join_next().await {
            match ended {
                Ok(report) => aborted += report.aborted,
                Err(e) => tracing::error!("a defect while connections were ended: {e}"),
            }
        }
        if aborted > 0 {
            tracing::warn!("{aborted} connections were cut off: what they had in flight is marked");
        }
    }

    /// How many connections there were: at a time at most, on average while any stood, and how often they
    /// were cut. To be asked once all have ended.
    pub fn connections(&self) -> (usize, f64, Cuts) {
        let seconds = self.past.iter().map(|(account, _)| account.seconds).fold(0.0, f64::max);
        let sum: f64 = self.past.iter().map(|(account, _)| account.session_seconds).sum();
        let peak = self.past.iter().map(|(account, _)| account.peak).sum();
        let cuts = self.past.iter().fold(Cuts::default(), |all, (_, cuts)| all.plus(cuts));
        (peak, if seconds > 0.0 { sum / seconds } else { peak as f64 }, cuts)
    }

    /// Ends the pause of one MTA, or of all; gives how many were paused.
    pub fn resume(&mut self, name: Option<&str>) -> usize {
        let mut resumed = 0;
        for slot in self.all.iter_mut().filter(|slot| name.is_none_or(|name| slot.mta.name == name)) {
            slot.paused = None;
            if let Some(pool) = &slot.pool
                && matches!(pool.status().state, MtaState::Paused { .. })
            {
                pool.resume();
                resumed += 1;
            }
        }
        resumed
    }

    /// So many connections to one MTA, or to each but the sink, until another configuration of it comes.
    pub fn set_connections(&mut self, name: Option<&str>, connections: Connections) -> usize {
        let mut count = 0;
        let is_meant = |slot: &Slot| name.map_or(!slot.mta.sink, |name| slot.mta.name == name);
        for slot in self.all.iter_mut().filter(|slot| is_meant(slot)) {
            if slot.steering.asked() != connections {
                let mta = slot.mta.name.as_str();
                tracing::info!(target: logs::STATE, mta, "MTA {mta}: connections = {connections}");
            }
            slot.set_connections(connections, By::Operator);
            count += 1;
        }
        count
    }

    /// Goes on with the slots as they are now; those of `old` finish what they have in flight.
    fn succeed(&mut self, mut old: Vec<Slot>) {
        self.tell_supply();
        let kept = self.all.len();
        self.all.append(&mut old);
        for at in kept..self.all.len() {
            self.end(at);
        }
        self.all.truncate(kept);
    }

    pub fn status(&self, now: Instant) -> Vec<MtaRunStatus> {
        let rates: Vec<_> = {
            let state = self.supply.lock();
            state.mtas.iter().map(|turn| (turn.mta.name.clone(), turn.limiter.rate())).collect()
        };
        let of = |slot: &Slot| {
            let counts = &slot.mta.counts;
            let accepted = counts.accepted.load(Relaxed);
            MtaRunStatus {
                name: slot.mta.name.clone(),
                address: slot.config.infeed.address.clone(),
                weight: slot.mta.weight(),
                sink: slot.mta.sink,
                asked: slot.steering.asked(),
                connections: slot.steering.connections(),
                connections_why: slot.steering.why(),
                queue: slot.steering.queue(),
                messages_per_second: rates
                    .iter()
                    .find(|(name, _)| *name == slot.mta.name)
                    .and_then(|(_, rate)| *rate),
                connections_max: slot.config.infeed.connections.max(1),
                connections_changed: slot.steering.changed(),
                cuts: slot.steering.cuts(),
                totals: slot.pool.as_ref().map(Pool::totals).unwrap_or_default(),
                status: slot.pool.as_ref().map(Pool::status),
                accepted,
                refused: counts.refused.load(Relaxed),
                deferred: counts.deferred.load(Relaxed),
                in_doubt: counts.in_doubt.load(Relaxed),
                rate_10_s: slot.rate.over(Duration::from_secs(10), now, accepted),
            }
        };
        self.all.iter().map(of).collect()
    }
}

impl Slot {
    fn new(config: &MtaConfig) -> Self {
        Self {
            mta: Mta::new(config),
            config: config.clone(),
            pool: None,
            begun_us: clock::now_us(),
            gave_up: None,
            paused: None,
            said: Said::default(),
            rate: Rate::default(),
            steering: Steering::new(config),
        }
    }

    fn set_connections(&mut self, connections: Connections, by: By) {
        self.steering.set(&self.config, connections, by);
        if let Some(pool) = &mut self.pool {
            pool.set_connections(self.steering.connections());
        }
    }

    /// Logs each change of state once; of one that flaps, some, and how many there were.
    fn log(&mut self, status: &MtaStatus, now: Instant) {
        let (state, why) = match &status.state {
            MtaState::Up => ("up", None),
            MtaState::Connecting => (self.said.state(), None),
            MtaState::Down { error, .. } => ("down", Some(error.as_str())),
            MtaState::Paused { said } => ("paused", Some(said.text.as_str())),
            MtaState::Held { why, .. } => ("held", Some(why.as_str())),
        };
        let Some(news) = self.said.look(now, state) else { return };
        let mta = self.mta.name.as_str();
        let mut reason = without_local_parts(why.unwrap_or_default());
        if let MtaState::Paused { said } = &status.state {
            reason = format!("{} {reason}", said.code);
        }
        let often = match news {
            News::Changed => String::new(),
            News::Flapped { changes } => format!(", after {changes} changes in {} s", Said::WINDOW.as_secs()),
        };
        let changes = Some(news.changes()).filter(|changes| *changes > 1);
        if state == "up" {
            tracing::info!(target: logs::STATE, mta, state, changes, "MTA {mta} is up{often}");
        } else {
            let text = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            tracing::warn!(target: logs::STATE, mta, state, reason, changes, "MTA {mta} is {state}{text}{often}");
        }
    }

    /// In a run that doesn't end, an MTA that refused us as a whole is called on again now and then: no
    /// recipient is touched by it, and nobody may be there to say that it is mended.
    fn call_again(&mut self, status: &MtaStatus, now: Instant, forever: bool) {
        if !matches!(status.state, MtaState::Paused { .. }) {
            self.paused = None;
            return;
        }
        let since = *self.paused.get_or_insert(now);
        let probe = self.config.pause_probe;
        if forever && !probe.is_zero() && now.duration_since(since) >= probe {
            self.paused = None;
            if let Some(pool) = &self.pool {
                pool.resume();
            }
        }
    }
}

/// What the MTA's state means for the run.
fn verdict(status: &MtaStatus, config: &MtaConfig, begun_us: Micros) -> (Option<String>, Option<Ended>) {
    let age = |since: u64| Duration::from_micros(clock::now_us().saturating_sub(since));
    match &status.state {
        MtaState::Up | MtaState::Connecting => (None, None),
        MtaState::Paused { said } => {
            let text = format!("{} {}", said.code, said.text);
            (
                Some(format!("the MTA refuses us: {text}; mend it, then `infeed mta resume`")),
                Some(Ended::MtaPaused(text)),
            )
        }
        MtaState::Down { since, error } => {
            let wait = if status.ever_connected { config.wait } else { config.wait_first };
            let given_up = age(*since) > wait;
            (
                Some(format!("the MTA is down: {error}")),
                given_up.then(|| Ended::MtaUnavailable(error.clone())),
            )
        }
        MtaState::Held { until, why } => {
            let given_up = age(status.last_success.unwrap_or(begun_us)) > config.wait;
            let left = until.saturating_sub(clock::now_us()) / SECOND_US;
            (Some(format!("held for {left} s: {why}")), given_up.then(|| Ended::MtaUnavailable(why.clone())))
        }
    }
}
