//! How many connections: the control law of `connections = "auto"`.

use std::time::Duration;

mod observation;

pub use observation::{Cuts, Decision, Limits, Mark, Observation, Totals};

/// The law of one MTA; it remembers what it saw.
#[derive(Debug, Clone)]
pub struct Law {
    limits: Limits,
    cuts: Cuts,
    last: Option<Duration>,
}

impl Law {
    /// A law that has seen nothing.
    pub fn new(limits: Limits) -> Self {
        Self { limits: limits.in_order(), cuts: Cuts::default(), last: None }
    }

    /// Takes what was seen and decides. To be called about every 100 ms; 50 ms to 1 s will do.
    pub fn observe(&mut self, o: &Observation) -> Decision {
        self.last = Some(o.now);
        Decision { connections: self.limits.connections_min, pace_per_s: None }
    }

    /// One line on why the number of connections is what it is, for `status` and the log.
    pub fn why(&self) -> String {
        format!("{}: not measured yet", self.limits.connections_min)
    }

    /// How often the number of connections was cut, by reason.
    pub fn cuts(&self) -> Cuts {
        self.cuts
    }
}
