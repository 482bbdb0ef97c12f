//! One MTA's number of connections, while it works: observes the pool, asks the law, obeys it; and keeps
//! the account of it for `status` and the summary.

use std::time::Instant;

use super::mtas::MtaConfig;
use crate::infeed::{MtaState, MtaStatus, Pool};
use crate::pressure::law::{Cuts, Decision, Law, Limits, Observation};

/// The wheel of one MTA.
#[derive(Debug)]
pub(super) struct Steering {
    begun: Instant,
    /// `None`: the number is fixed.
    law: Option<Law>,
    connections: usize,
    /// What the law said last of its reasons, and when that was logged.
    said: String,
    account: Account,
    changed: &'static str,
}

/// How many connections there were.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    /// Sessions that stood at a time, at most.
    pub peak: usize,
    /// Sessions times seconds, while there were any.
    pub session_seconds: f64,
    /// Seconds with a session at least.
    pub seconds: f64,
    read: Option<Instant>,
}

impl Account {
    /// Notes what stands now.
    fn read(&mut self, now: Instant, status: &MtaStatus) {
        let since = self.read.replace(now).unwrap_or(now);
        self.peak = status.established_peak;
        if status.established > 0 {
            let seconds = now.duration_since(since).as_secs_f64();
            self.seconds += seconds;
            self.session_seconds += seconds * status.established as f64;
        }
    }
}

impl Steering {
    pub fn new(config: &MtaConfig) -> Self {
        let connections_max = config.infeed.connections.max(1);
        let limits = Limits { connections_min: 1, connections_max, queue_target: config.queue_target };
        let mut law = config.auto.then(|| Law::new(limits));
        let first = law.as_mut().map(|law| law.observe(&Observation::default()));
        Self {
            begun: Instant::now(),
            law,
            connections: first.map_or(connections_max, |decision| decision.connections),
            said: String::new(),
            account: Account::default(),
            changed: if config.auto { "start" } else { "fixed" },
        }
    }

    /// The last change of the number: `fixed` or `start` before any, `raised`, or the reason of a cut
    /// (`lowered` where the law counts none).
    pub fn changed(&self) -> &'static str {
        self.changed
    }

    /// Connections that there shall be.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Why there are as many as there are; `None`: somebody said so.
    pub fn why(&self) -> Option<String> {
        self.law.as_ref().map(Law::why)
    }

    /// How many connections there were, up to this last look at them.
    pub fn account(&mut self, now: Instant, status: &MtaStatus) -> Account {
        self.account.read(now, status);
        self.account
    }

    pub fn cuts(&self) -> Cuts {
        self.law.as_ref().map(Law::cuts).unwrap_or_default()
    }

    /// Looks at the pool, and gives it the number of connections that the law wants.
    pub fn steer(
        &mut self,
        name: &str,
        pool: &mut Pool,
        status: &MtaStatus,
        queue: Option<u64>,
        now: Instant,
    ) -> Option<f64> {
        self.account.read(now, status);
        let law = self.law.as_mut()?;
        let observation = Observation {
            now: now.duration_since(self.begun),
            established: status.established,
            connecting: status.connecting,
            totals: pool.totals(),
            queue,
            held: status.state != MtaState::Up,
        };
        let before = law.cuts();
        let Decision { connections, pace_per_s } = law.observe(&observation);
        if connections != self.connections {
            self.changed =
                if connections > self.connections { "raised" } else { reason_of_cut(&before, &law.cuts()) };
            self.connections = connections;
            pool.set_connections(connections);
            let why = law.why();
            if why != self.said {
                tracing::debug!("MTA {name}: connections {why}");
                self.said = why;
            }
        }
        pace_per_s
    }
}

/// Which kind of cut was counted between two looks.
fn reason_of_cut(before: &Cuts, after: &Cuts) -> &'static str {
    let counts = before.by_reason().into_iter().zip(after.by_reason());
    let mut grown = counts.filter(|((_, before), (_, after))| after > before);
    grown.next().map_or("lowered", |(_, (reason, _))| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_known_by_the_count_that_grew() {
        let before = Cuts { load: 3, queue: 1, ..Cuts::default() };
        assert_eq!(reason_of_cut(&before, &Cuts { queue: 2, ..before }), "queue");
        assert_eq!(reason_of_cut(&before, &before), "lowered");
    }
}
