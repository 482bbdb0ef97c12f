//! How many connections: the control law of `connections = "auto"`.
//!
//! It measures goodput at a number of connections (`meter`), keeps what each number gave (`table`), looks
//! for the smallest that gives enough (`search`), obeys what the MTA says of strain (`strain`), and brakes
//! where delivery behind the MTA is the limit (`brake`, `late`). docs/pressure.md tells it to operators.

use std::time::Duration;

mod brake;
mod late;
mod meter;
mod observation;
mod search;
mod strain;
mod table;
mod why;

pub use observation::{Cuts, Decision, Limits, Mark, Observation, Totals};

use brake::{Brake, Braking};
use meter::{Meter, Sample};
use search::{Search, Step};
use strain::{Act, Strain};

/// Sessions that wait for work more than this share of their time tell nothing about the MTA.
const IDLE_MAX: f64 = 0.15;

/// The law of one MTA; it remembers what it saw.
#[derive(Debug, Clone)]
pub struct Law {
    limits: Limits,
    meter: Meter,
    search: Search,
    strain: Strain,
    brake: Brake,
    braking: Option<Braking>,
    state: State,
    recipients: f64,
    cuts: Cuts,
    last_cut: Option<(Duration, &'static str)>,
    now: Duration,
}

/// What keeps the law from judging, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Judging,
    Held,
    NoWork,
    Trouble,
}

impl Law {
    /// A law that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        let limits = limits.in_order();
        Self {
            limits,
            meter: Meter::new(),
            search: Search::new(limits.connections_min),
            strain: Strain::new(),
            brake: Brake::new(),
            braking: None,
            state: State::Judging,
            recipients: 1.0,
            cuts: Cuts::default(),
            last_cut: None,
            now: Duration::ZERO,
        }
    }

    /// Takes what was seen and decides. To be called about every 100 ms; 50 ms to 1 s will do.
    pub fn observe(&mut self, o: &Observation) -> Decision {
        self.now = o.now;
        let before = self.search.measured;
        self.heed(o);
        let full = self.search.goodput().map(|g| g / self.recipients.max(0.1));
        let braking = self.brake.observe(o, self.limits.queue_target, full);
        let brake_changed = braking.is_some() != self.braking.is_some();
        if brake_changed {
            self.brake_changed(braking);
        }
        self.braking = braking;
        let sample = self.meter.observe(o, self.search.error_wanted(), self.search.clear());
        // what was measured until now says nothing of a number that was chosen just now, nor of one without a brake
        let sample = sample.filter(|_| self.search.measured == before && !brake_changed);
        self.state = self.judgeable(o, sample.as_ref());
        if self.state == State::Judging {
            if let Some(sample) = sample {
                self.take(&sample);
            }
        } else if self.state != State::Trouble {
            self.search.rest();
        }
        if self.search.measured != before || brake_changed {
            self.meter.restart(o.now, self.wanted());
        } else if sample.is_some() {
            self.meter.go_on();
        }
        Decision { connections: self.target(o), pace_per_s: self.braking.map(|b| b.pace_per_s) }
    }

    /// Another bound for the MTA's queue; what was learnt stays.
    pub fn set_queue_target(&mut self, queue_target: u64) {
        self.limits = Limits { queue_target, ..self.limits }.in_order();
    }

    /// How often the number of connections was cut, by reason.
    pub fn cuts(&self) -> Cuts {
        self.cuts
    }

    fn judgeable(&self, o: &Observation, sample: Option<&Sample>) -> State {
        if o.held && !self.meter.is_gap(o) {
            State::Held
        } else if self.strain.is_troubled(o.now) {
            State::Trouble
        } else if self.braking.is_some() {
            State::Judging
        } else {
            match sample {
                Some(s) if s.idle > IDLE_MAX => State::NoWork,
                Some(_) => State::Judging,
                None if self.state == State::NoWork => State::NoWork,
                None => State::Judging,
            }
        }
    }

    fn take(&mut self, sample: &Sample) {
        if self.braking.is_some() {
            return;
        }
        self.recipients = sample.recipients;
        let step = self.search.take(sample, self.now, self.limits.connections_min, self.ceiling());
        if step == Step::WentBack {
            self.cuts.goodput += 1;
        }
    }

    /// Obeys what the MTA says.
    fn heed(&mut self, o: &Observation) {
        let (now, floor) = (o.now, self.limits.connections_min);
        match self.strain.observe(o, self.wanted(), self.search.choice, floor) {
            Act::None => {}
            Act::Limited(to) => {
                self.cuts.too_many_connections += 1;
                self.last_cut = Some((now, "421 too many connections"));
                if self.search.measured > to {
                    self.search.limit(to);
                }
            }
            Act::Refused => {
                if self.search.measured > self.search.choice {
                    self.cuts.connect_refused += 1;
                    self.last_cut = Some((now, "connects refused"));
                }
                self.search.rest();
            }
            Act::Slow => {
                if self.search.measured > self.search.choice {
                    self.cuts.connect_slow += 1;
                    self.last_cut = Some((now, "connects late"));
                }
                self.search.rest();
            }
            Act::Cut(mark, to) => {
                let (count, words) = match mark {
                    Mark::Closing => (&mut self.cuts.closing, "421 in sessions"),
                    _ => (&mut self.cuts.load, "451 of strain"),
                };
                *count += 1;
                self.last_cut = Some((now, words));
                self.search.choose(to, now);
            }
            Act::Restore(to) => self.search.choose(to.min(self.limits.connections_max), now),
        }
        self.search.connects_are_slow = self.strain.is_slow_to_connect(now);
        if self.strain.may_try_more(now) {
            self.search.try_up();
        }
    }

    fn brake_changed(&mut self, braking: Option<Braking>) {
        self.search.rest();
        if let Some(braking) = braking {
            if braking.late_at.is_none() {
                self.cuts.queue += 1;
                self.last_cut = Some((self.now, "the MTA's queue over its target"));
            } else {
                self.cuts.slow_rcpt += 1;
                self.last_cut = Some((self.now, "RCPT replies a second late"));
            }
        }
    }

    fn ceiling(&self) -> usize {
        self.strain.ceiling().clamp(self.limits.connections_min, self.limits.connections_max)
    }

    /// The number to have, but for what stands in trouble.
    fn wanted(&self) -> usize {
        let wanted = match self.braking {
            Some(braking) => braking.connections.min(self.search.choice),
            None => self.search.measured,
        };
        wanted.clamp(self.limits.connections_min, self.ceiling())
    }

    fn target(&self, o: &Observation) -> usize {
        let wanted = self.wanted();
        if self.state == State::Trouble && self.braking.is_none() {
            // What is closed now can't be opened again.
            return wanted.max(o.established).min(self.limits.connections_max);
        }
        wanted
    }

    /// One line on why the number of connections is what it is, for `status` and the log.
    pub fn why(&self) -> String {
        why::line(self)
    }
}
