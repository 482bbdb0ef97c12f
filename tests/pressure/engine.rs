//! The engine of a simulation: a closed loop of connections on simulated time, as the pool runs it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use infeed::pressure::law::{Cuts, Decision, Law, Limits, Mark, Observation, Totals};
use infeed::sink::{Fault, Scenario};

use crate::mta::{Envelope, Greeting, Mta};

/// A bin of a [`Trace`].
pub const BIN_US: u64 = 100_000;
/// What the engine itself takes for each message.
const OVERHEAD_US: u64 = 60;
/// What looks like Postfix's brake.
const BRAKE_US: std::ops::Range<u64> = 980_000..1_500_000;
const CONNECTS_AT_ONCE: usize = 4;
const RECONNECT_US: (u64, u64) = (200_000, 5_000_000);
const STORAGE_PROBE_US: (u64, u64) = (1_000_000, 10_000_000);

/// Who decides on the number of connections.
#[derive(Clone, Copy)]
pub enum Policy {
    Fixed(usize),
    Auto(Limits),
}

/// How the law is called.
#[derive(Clone, Copy, PartialEq)]
pub enum Ticks {
    Regular,
    /// 50 ms to 1 s, as on a machine under load.
    Irregular,
}

/// A run.
#[derive(Clone)]
pub struct Run {
    pub scenario: Scenario,
    pub policy: Policy,
    pub seconds: u64,
    pub seed: u64,
    pub ticks: Ticks,
    /// Octets of the n-th message.
    pub octets: fn(u64) -> u64,
    /// Readings of the MTA's queue, up to a second old and wrong by a few percent.
    pub queue_visible: bool,
    /// So many messages more lie in that queue, whatever anybody does.
    pub pile: f64,
    /// The work comes at so many messages a second.
    pub supply_per_s: Option<f64>,
    /// Busy times are measured wrong by this share.
    pub measuring_error: f64,
    /// The whole MTA is faster or slower by up to this share, another each 300 ms.
    pub sway: f64,
    /// This share of messages is answered a second late, as Postfix's in_flow_delay does it.
    pub held_up: f64,
    /// The MTA stands still for so long, each so often (µs).
    pub stalls_us: Option<(u64, u64)>,
}

impl Run {
    pub fn new(scenario: Scenario, policy: Policy, seconds: u64, seed: u64) -> Self {
        Self {
            scenario,
            policy,
            seconds,
            seed,
            ticks: Ticks::Regular,
            octets: |_| 4_096,
            queue_visible: false,
            pile: 0.0,
            supply_per_s: None,
            measuring_error: 0.0,
            sway: 0.0,
            held_up: 0.0,
            stalls_us: None,
        }
    }
}

/// What happened in 100 ms.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bin {
    /// Messages that were taken, or that left the MTA's queue where it has one.
    pub goodput: f64,
    pub connections: f64,
    pub queue: f64,
}

/// What happened.
pub struct Trace {
    pub bins: Vec<Bin>,
    pub cuts: Cuts,
    /// Time in seconds, and the line.
    pub whys: Vec<(f64, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick,
    Connected(usize),
    ConnectFailed(usize, bool),
    Begin(usize),
    Envelope(usize),
    Dot(usize),
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Connecting {
        since_us: u64,
    },
    /// Waits for work.
    Waiting {
        since_us: u64,
    },
    Busy {
        since_us: u64,
        octets: u64,
    },
    /// Storage is full.
    Held,
}

struct Engine {
    run: Run,
    mta: Mta,
    law: Option<Law>,
    decision: Decision,
    slots: Vec<Slot>,
    /// By slot: how many transactions had been answered when its own was last; and whether it is to end.
    seats: Vec<(u64, bool)>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    totals: Totals,
    established: usize,
    connecting: usize,
    connect_from_us: u64,
    reconnect_us: u64,
    storage_hold: Option<u64>,
    permit_us: f64,
    supply_us: f64,
    offered: u64,
    readings: Vec<(u64, f64)>,
    rng: fastrand::Rng,
    trace: Trace,
}

/// Runs it.
pub fn simulate(run: Run) -> Trace {
    let (law, decision) = match run.policy {
        Policy::Fixed(connections) => (None, Decision { connections, pace_per_s: None }),
        Policy::Auto(limits) => {
            let decision = Decision { connections: limits.connections_min, pace_per_s: None };
            (Some(Law::new(limits)), decision)
        }
    };
    let mut engine = Engine {
        mta: Mta::new(run.scenario.clone(), run.seed),
        rng: fastrand::Rng::with_seed(run.seed ^ 0x5EED),
        law,
        decision,
        slots: Vec::new(),
        seats: Vec::new(),
        events: BinaryHeap::new(),
        sequence: 0,
        totals: Totals::default(),
        established: 0,
        connecting: 0,
        connect_from_us: 0,
        reconnect_us: RECONNECT_US.0,
        storage_hold: None,
        permit_us: 0.0,
        supply_us: 0.0,
        offered: 0,
        readings: Vec::new(),
        trace: Trace { bins: Vec::new(), cuts: Cuts::default(), whys: Vec::new() },
        run,
    };
    engine.mta.sway = engine.run.sway;
    engine.mta.held_up = engine.run.held_up;
    engine.mta.stalls_us = engine.run.stalls_us;
    engine.go();
    engine.trace
}

impl Engine {
    fn go(&mut self) {
        self.at(0, Event::Tick);
        let end_us = self.run.seconds * 1_000_000;
        let mut bin = (0, 0.0);
        let mut observe_us = 0;
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > end_us {
                break;
            }
            match event {
                Event::Tick => {
                    if now >= bin.0 + BIN_US {
                        let left = self.mta.left;
                        self.trace.bins.push(Bin {
                            goodput: left - bin.1,
                            connections: self.established as f64,
                            queue: self.mta.queue(now),
                        });
                        bin = (now, left);
                    }
                    if now >= observe_us {
                        self.observe(now);
                        observe_us = match self.run.ticks {
                            Ticks::Regular => now + 100_000,
                            Ticks::Irregular => {
                                now + 50_000 + (950_000.0 * self.rng.f64().powi(4)) as u64 / 50_000 * 50_000
                            }
                        };
                    }
                    self.at(now + 50_000, Event::Tick);
                }
                Event::Connected(slot) => {
                    let Slot::Connecting { since_us } = self.slots[slot] else { continue };
                    self.connecting -= 1;
                    self.established += 1;
                    self.seats[slot] = (self.totals.transactions, false);
                    self.slots[slot] = Slot::Waiting { since_us: now };
                    self.fit();
                    self.reconnect_us = RECONNECT_US.0;
                    if now - since_us > 1_000_000 {
                        self.mark(Mark::ConnectSlow);
                    }
                    self.offer(slot, now);
                }
                Event::ConnectFailed(slot, refused) => {
                    self.slots[slot] = Slot::Free;
                    self.connecting -= 1;
                    self.mark(if refused { Mark::ConnectRefused } else { Mark::TooManyConnections });
                    self.connect_from_us = now + self.reconnect_us;
                    self.reconnect_us = (2 * self.reconnect_us).min(RECONNECT_US.1);
                }
                Event::Begin(slot) => {
                    let Slot::Waiting { since_us } = self.slots[slot] else { continue };
                    self.totals.idle_us += now - since_us;
                    let octets = (self.run.octets)(self.offered);
                    self.offered += 1;
                    self.slots[slot] = Slot::Busy { since_us: now, octets };
                    self.begin(slot, now, false);
                }
                Event::Envelope(slot) => {
                    let Slot::Busy { octets, .. } = self.slots[slot] else { continue };
                    let service_us = self.mta.service_us(now, octets);
                    // the next envelope waits behind the dot's reply
                    if (self.run.stalls_us.is_some() || self.run.held_up > 0.0)
                        && BRAKE_US.contains(&service_us)
                    {
                        self.mark(Mark::SlowRcpt);
                    }
                    self.at(now + service_us, Event::Dot(slot));
                }
                Event::Dot(slot) => match self.mta.content(now) {
                    None => self.done(slot, now, true),
                    Some(fault) => self.failed(slot, now, fault),
                },
                Event::Probe => {
                    if let Some(slot) = self.slots.iter().position(|s| *s == Slot::Held) {
                        self.slots[slot] =
                            Slot::Busy { since_us: now, octets: (self.run.octets)(self.offered) };
                        self.begin(slot, now, true);
                    } else {
                        self.at(now + 1_000_000, Event::Probe);
                    }
                }
            }
            self.connect(now);
        }
        self.trace.cuts = self.law.as_ref().map_or_else(Cuts::default, Law::cuts);
    }

    fn observe(&mut self, now: u64) {
        let queue = self.mta.queue(now) + self.run.pile;
        self.readings.push((now, queue * (1.0 + 0.06 * (self.rng.f64() - 0.5))));
        let age_us = self.rng.u64(0..1_000_000);
        let reading = self.readings.iter().rev().find(|r| r.0 + age_us <= now).map(|r| r.1);
        let Some(law) = &mut self.law else { return };
        let mut totals = self.totals;
        totals.busy_us = (totals.busy_us as f64 * (1.0 + self.run.measuring_error)) as u64;
        self.decision = law.observe(&Observation {
            now: Duration::from_micros(now),
            established: self.established,
            connecting: self.connecting,
            totals,
            queue: reading.filter(|_| self.run.queue_visible).map(|queue| queue as u64),
            held: self.established == 0 || self.storage_hold.is_some(),
        });
        let why = law.why();
        self.fit();
        if self.trace.whys.last().is_none_or(|(_, last)| *last != why) {
            self.trace.whys.push((now as f64 / 1e6, why));
        }
        for slot in 0..self.slots.len() {
            if let Slot::Waiting { since_us } = self.slots[slot] {
                self.totals.idle_us += now.saturating_sub(since_us);
                self.slots[slot] = Slot::Waiting { since_us: now.max(since_us) };
                if self.seats[slot].1 {
                    self.close(slot);
                }
            }
        }
    }

    fn stands(&self, slot: usize) -> bool {
        !matches!(self.slots[slot], Slot::Free | Slot::Connecting { .. })
    }

    fn staying(&self) -> usize {
        (0..self.slots.len()).filter(|&slot| self.stands(slot) && !self.seats[slot].1).count()
    }

    /// Chooses who is to end, as the pool does.
    fn fit(&mut self) {
        let of = |engine: &Self, leaves: bool| -> Vec<usize> {
            let all = 0..engine.slots.len();
            all.filter(|&slot| engine.stands(slot) && engine.seats[slot].1 == leaves).collect()
        };
        while self.staying() > self.decision.connections {
            let oldest = of(self, false).into_iter().min_by_key(|&slot| self.seats[slot].0);
            let Some(slot) = oldest else { return };
            self.seats[slot].1 = true;
        }
        while self.staying() < self.decision.connections {
            let newest = of(self, true).into_iter().max_by_key(|&slot| self.seats[slot].0);
            let Some(slot) = newest else { return };
            self.seats[slot].1 = false;
        }
    }

    fn connect(&mut self, now: u64) {
        while self.staying() + self.connecting < self.decision.connections
            && self.connecting < CONNECTS_AT_ONCE
            && now >= self.connect_from_us
            && (self.connecting == 0 || self.reconnect_us == RECONNECT_US.0)
        {
            let slot = self.slots.iter().position(|s| *s == Slot::Free).unwrap_or(self.slots.len());
            if slot == self.slots.len() {
                self.slots.push(Slot::Free);
                self.seats.push((0, false));
            }
            self.slots[slot] = Slot::Connecting { since_us: now };
            self.connecting += 1;
            match self.mta.connect(now) {
                Greeting::Refused => self.at(now + 100, Event::ConnectFailed(slot, true)),
                Greeting::TooMany => self.at(now + 300, Event::ConnectFailed(slot, false)),
                Greeting::Banner(us) => self.at(now + us, Event::Connected(slot)),
            }
        }
    }

    /// The session asks for work.
    fn offer(&mut self, slot: usize, now: u64) {
        if self.seats[slot].1 {
            return self.close(slot);
        }
        if self.storage_hold.is_some() {
            self.slots[slot] = Slot::Held;
            return;
        }
        let mut at = now;
        let floor = now as f64 - 50_000.0;
        if let Some(pace) = self.decision.pace_per_s {
            self.permit_us = self.permit_us.clamp(floor, now as f64 + 2e6) + 1e6 / pace.max(0.01);
            at = at.max(self.permit_us as u64);
        }
        if let Some(supply) = self.run.supply_per_s {
            self.supply_us = self.supply_us.max(floor) + 1e6 / supply;
            at = at.max(self.supply_us as u64);
        }
        self.slots[slot] = Slot::Waiting { since_us: now };
        self.at(at, Event::Begin(slot));
    }

    fn begin(&mut self, slot: usize, now: u64, is_probe: bool) {
        match self.mta.envelope(now) {
            Envelope::Taken(us) => {
                if BRAKE_US.contains(&us) {
                    self.mark(Mark::SlowRcpt);
                }
                self.at(now + OVERHEAD_US + us, Event::Envelope(slot));
            }
            Envelope::StorageFull => {
                self.mark(Mark::StorageFull);
                let next_us =
                    self.storage_hold.map_or(STORAGE_PROBE_US.0, |us| (2 * us).min(STORAGE_PROBE_US.1));
                self.slots[slot] = Slot::Held;
                if self.storage_hold.is_none() || is_probe {
                    self.at(now + next_us, Event::Probe);
                    self.storage_hold = Some(next_us);
                }
            }
            Envelope::Failed(fault) => self.failed(slot, now, fault),
        }
    }

    fn failed(&mut self, slot: usize, now: u64, fault: Fault) {
        match fault {
            Fault::Drop => self.close(slot),
            Fault::Reply(421) => {
                self.mark(Mark::Closing);
                self.close(slot);
            }
            Fault::Reply(code) => {
                if code == 451 {
                    self.mark(Mark::Load);
                }
                self.done(slot, now + OVERHEAD_US, code >= 500);
            }
        }
    }

    fn done(&mut self, slot: usize, now: u64, answered: bool) {
        if let Slot::Busy { since_us, octets } = self.slots[slot] {
            self.totals.transactions += 1;
            self.totals.recipients += u64::from(answered);
            self.totals.octets += octets;
            self.totals.busy_us += now - since_us;
            self.seats[slot].0 = self.totals.transactions;
        }
        if self.storage_hold.take().is_some() {
            for held in 0..self.slots.len() {
                if self.slots[held] == Slot::Held {
                    self.offer(held, now);
                }
            }
        }
        self.offer(slot, now);
    }

    fn close(&mut self, slot: usize) {
        self.slots[slot] = Slot::Free;
        self.established -= 1;
        self.mta.open -= 1;
        self.fit();
    }

    fn mark(&mut self, mark: Mark) {
        self.totals.marks[mark.index()] += 1;
    }

    fn at(&mut self, us: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((us, self.sequence, event)));
    }
}
