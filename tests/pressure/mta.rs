//! The MTA of a simulation: what the sink would do, by the same settings, on simulated time.

use infeed::sink::{Fault, Scenario, Service, Settings, Stage, Start};

/// Postfix's in_flow_delay.
const SLOW_RCPT_US: u64 = 1_000_000;
/// As the sink has it.
const QUEUE_MAX_DEFAULT: u64 = 1_000;

/// What a connect meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    Refused,
    TooMany,
    /// The banner comes after so many µs.
    Banner(u64),
}

/// What the envelope meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// Its replies come after so many µs.
    Taken(u64),
    StorageFull,
    Failed(Fault),
}

/// The scenario in force, the queue behind, and who is connected.
pub struct Mta {
    scenario: Scenario,
    began_us: Vec<Option<u64>>,
    checked_us: Option<u64>,
    next_us: u64,
    set: Settings,
    service: Service,
    pub open: u64,
    pub messages: u64,
    queue: f64,
    queue_us: u64,
    pub left: f64,
    rng: fastrand::Rng,
    /// The whole MTA is faster or slower by up to this share, another each 300 ms.
    pub sway: f64,
    /// This share of messages is answered a second late, whatever else goes on.
    pub held_up: f64,
    /// Nothing is answered for so long, each so often (µs): as on a machine whose host takes its processors away.
    pub stalls_us: Option<(u64, u64)>,
    swayed: (u64, f64),
}

impl Mta {
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let mut mta = Self {
            began_us: vec![None; scenario.steps.len()],
            checked_us: None,
            next_us: 0,
            set: scenario.set.clone(),
            service: Service::from(&scenario.set),
            scenario,
            open: 0,
            messages: 0,
            queue: 0.0,
            queue_us: 0,
            left: 0.0,
            rng: fastrand::Rng::with_seed(seed),
            sway: 0.0,
            held_up: 0.0,
            stalls_us: None,
            swayed: (0, 1.0),
        };
        mta.advance(0);
        mta
    }

    /// Begins and ends the steps that are due.
    pub fn advance(&mut self, now_us: u64) {
        let counts = self.scenario.steps.iter().zip(&self.began_us).any(
            |(step, began)| matches!((step.start, began), (Start::AfterMessages(n), None) if n <= self.messages),
        );
        if self.checked_us.is_some() && now_us < self.next_us && !counts {
            return;
        }
        self.leak(now_us);
        self.checked_us = Some(now_us);
        self.next_us = u64::MAX;
        self.set = self.scenario.set.clone();
        for (step, began) in self.scenario.steps.iter().zip(&mut self.began_us) {
            if began.is_none() {
                match step.start {
                    Start::At(at) if at.as_micros() as u64 <= now_us => *began = Some(at.as_micros() as u64),
                    Start::At(at) => self.next_us = self.next_us.min(at.as_micros() as u64),
                    Start::AfterMessages(n) if n <= self.messages => *began = Some(now_us),
                    Start::AfterMessages(_) => {}
                }
            }
            let Some(began) = *began else { continue };
            let ends_us = step.lasts.map_or(u64::MAX, |lasts| began + lasts.as_micros() as u64);
            if now_us < ends_us {
                self.set = step.set.over(&self.set);
                self.next_us = self.next_us.min(ends_us);
            }
        }
        self.service = Service::from(&self.set);
    }

    pub fn connect(&mut self, now_us: u64) -> Greeting {
        self.advance(now_us);
        let fault = self.throw(Stage::Connect);
        if self.set.refuse_connects == Some(true) {
            return Greeting::Refused;
        }
        let max = self.set.connections_max.unwrap_or(0);
        if (max > 0 && self.open >= max) || fault.is_some() {
            return Greeting::TooMany;
        }
        self.open += 1;
        Greeting::Banner((self.set.banner_delay_ms.unwrap_or(0) + 2 * self.latency_ms()) * 1_000 + 300)
    }

    pub fn envelope(&mut self, now_us: u64) -> Envelope {
        self.advance(now_us);
        if self.set.storage_full == Some(true) {
            return Envelope::StorageFull;
        }
        if let Some(fault) = self.throw(Stage::Mail).or_else(|| self.throw(Stage::Rcpt)) {
            return Envelope::Failed(fault);
        }
        let queue_max = self.set.queue_max.unwrap_or(QUEUE_MAX_DEFAULT);
        let slow = self.set.drain_rate.unwrap_or(0) > 0 && self.queue(now_us) > queue_max as f64;
        let us = self.latency_ms() * 1_000 + if slow { SLOW_RCPT_US } else { 0 };
        Envelope::Taken(self.with_stalls(now_us, us))
    }

    /// What takes so long, begun now, with the stalls that fall into it.
    fn with_stalls(&self, now_us: u64, us: u64) -> u64 {
        let Some((every, lasts)) = self.stalls_us else { return us };
        let in_stall = now_us % every < lasts && now_us >= every;
        let rest = if in_stall { lasts - now_us % every } else { 0 };
        let next = (now_us / every + 1) * every;
        rest + us + if now_us + rest + us > next { lasts } else { 0 }
    }

    /// How long the message takes at its dot, in µs.
    pub fn service_us(&mut self, now_us: u64, octets: u64) -> u64 {
        self.advance(now_us);
        if self.sway > 0.0 && now_us >= self.swayed.0 {
            self.swayed = (now_us + 300_000, 1.0 + self.sway * (2.0 * self.rng.f64() - 1.0));
        }
        let us = self.service.us(self.open, octets, || self.rng.f64());
        let held_up = self.held_up > 0.0 && self.rng.f64() < self.held_up;
        let us = (us as f64 * self.swayed.1) as u64 + if held_up { SLOW_RCPT_US } else { 0 };
        self.with_stalls(now_us, us)
    }

    /// The dot's reply: the message is in the queue, or not.
    pub fn content(&mut self, now_us: u64) -> Option<Fault> {
        self.advance(now_us);
        let fault = self.throw(Stage::Content);
        if fault.is_none() {
            self.leak(now_us);
            self.messages += 1;
            if self.set.drain_rate.unwrap_or(0) > 0 {
                self.queue += 1.0;
            } else {
                self.left += 1.0;
            }
        }
        fault
    }

    pub fn queue(&mut self, now_us: u64) -> f64 {
        self.leak(now_us);
        self.queue
    }

    fn leak(&mut self, now_us: u64) {
        let rate = self.set.drain_rate.unwrap_or(0) as f64;
        let gone = (rate * (now_us - self.queue_us) as f64 / 1e6).min(self.queue);
        self.queue -= gone;
        self.left += gone;
        self.queue_us = now_us;
    }

    fn latency_ms(&self) -> u64 {
        self.set.latency_ms.unwrap_or(0)
    }

    fn throw(&mut self, stage: Stage) -> Option<Fault> {
        let rules = self.set.fail.as_deref().unwrap_or_default();
        rules
            .iter()
            .filter(|r| r.stage == stage)
            .find(|r| self.rng.f64() < r.percent.share())
            .map(|r| r.fault)
    }
}
