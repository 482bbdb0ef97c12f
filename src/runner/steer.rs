//! One MTA's number of connections, while it works: observes the pool, asks the law, obeys it; and keeps
//! the account of it for `status` and the summary.

use std::time::{Duration, Instant};

use super::mtas::MtaConfig;
use crate::config::Connections;
use crate::infeed::{MtaState, MtaStatus, Pool};
use crate::logs;
use crate::pressure::law::{Cuts, Decision, Law, Limits, Observation, Totals};
use crate::pressure::queue::{QueueConfig, QueueProbe, Reading};

/// How often the number is logged, at most.
const LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Who said how many connections there shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The file, the environment or the command line.
    Configuration,
    /// Somebody, while the run goes on.
    Operator,
}

/// The wheel of one MTA.
#[derive(Debug)]
pub(super) struct Steering {
    asked: Connections,
    by: By,
    /// `None`: the number is fixed.
    law: Option<Law>,
    /// When the law began to look, and what had been counted by then.
    since: Option<(Instant, Totals)>,
    connections: usize,
    pace_per_s: Option<f64>,
    /// When the number was logged last, and which one that was.
    logged: Option<(Instant, usize)>,
    account: Account,
    /// The MTA's own queue, where the law looks at it.
    queue: Option<QueueProbe>,
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
        let mut steering = Self {
            asked: Connections::Fixed(1),
            by: By::Configuration,
            law: None,
            since: None,
            connections: 1,
            pace_per_s: None,
            logged: None,
            account: Account::default(),
            queue: None,
            changed: "fixed",
        };
        steering.set(config, config.connections, By::Configuration);
        steering
    }

    /// So many connections, or as many as the law finds, which begins anew unless it is at work.
    pub fn set(&mut self, config: &MtaConfig, connections: Connections, by: By) {
        (self.asked, self.by) = (connections, by);
        match connections {
            Connections::Fixed(count) => {
                (self.law, self.since, self.queue) = (None, None, None);
                self.connections = count;
                self.changed = "fixed";
            }
            Connections::Auto if self.law.is_some() => (),
            Connections::Auto => {
                let connections_max = config.connections_max.max(1);
                let limits =
                    Limits { connections_min: 1, connections_max, queue_target: config.queue.target };
                (self.law, self.since) = (Some(Law::new(limits)), None);
                self.connections = self.connections.min(connections_max);
                self.changed = "start";
            }
        }
    }

    /// So many messages may wait in the MTA's queue from now on; it is looked at anew.
    pub fn set_queue_target(&mut self, target: u64) {
        self.queue = None;
        if let Some(law) = &mut self.law {
            law.set_queue_target(target);
        }
    }

    /// What somebody wants.
    pub fn asked(&self) -> Connections {
        self.asked
    }

    pub fn by(&self) -> By {
        self.by
    }

    /// A pool begins: its counts are from here on.
    pub fn begin(&mut self) {
        self.account = Account::default();
        if let Some(law) = &mut self.law {
            self.connections = law.observe(&Observation::default()).connections;
            self.since = Some((Instant::now(), Totals::default()));
        }
    }

    /// What is known of the MTA's own queue; `None`: it is not looked at.
    pub fn queue(&self) -> Option<Reading> {
        self.queue.as_ref().map(QueueProbe::reading)
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

    /// Why there are as many as there are, in one line.
    pub fn why(&self) -> String {
        match (&self.law, self.by) {
            (Some(law), _) => law.why(),
            (None, By::Configuration) => format!("{}: fixed by the configuration", self.connections),
            (None, By::Operator) => format!("{}: fixed by an operator, until a reload", self.connections),
        }
    }

    /// How many connections there were, up to this last look at them.
    pub fn account(&mut self, now: Instant, status: &MtaStatus) -> Account {
        self.account.read(now, status);
        self.account
    }

    pub fn cuts(&self) -> Cuts {
        self.law.as_ref().map(Law::cuts).unwrap_or_default()
    }

    /// Looks at the pool, and gives it the number of connections that the law wants; gives the pace that it
    /// wants, in transactions a second, where that has changed.
    pub fn steer(
        &mut self,
        config: &MtaConfig,
        pool: &mut Pool,
        status: &MtaStatus,
        now: Instant,
    ) -> Option<Option<f64>> {
        self.account.read(now, status);
        let Some(law) = self.law.as_mut() else { return self.pace_per_s.take().map(|_| None) };
        // the sink, and whoever is not to be looked at, costs no thread
        if self.queue.is_none() && config.queue != QueueConfig::off() {
            self.queue = Some(QueueProbe::start(config.queue.clone()));
        }
        let (begun, before) = *self.since.get_or_insert_with(|| (now, pool.totals()));
        let observation = Observation {
            now: now.saturating_duration_since(begun),
            established: status.established,
            connecting: status.connecting,
            totals: pool.totals().since(&before),
            queue: self.queue.as_ref().and_then(|queue| queue.reading().messages),
            held: status.state != MtaState::Up,
        };
        let before = law.cuts();
        let Decision { connections, pace_per_s } = law.observe(&observation);
        if connections != self.connections {
            self.changed =
                if connections > self.connections { "raised" } else { reason_of_cut(&before, &law.cuts()) };
            self.connections = connections;
            pool.set_connections(connections);
        }
        // a try of a number that is left again at once is not worth a line
        let is_new = self.logged.is_none_or(|(at, count)| {
            count != connections && now.saturating_duration_since(at) >= LOGGED_EVERY
        });
        if is_new && !observation.held {
            let mta = config.name.as_str();
            tracing::info!(target: logs::STATE, mta, connections, "MTA {mta}: N is {}", law.why());
            self.logged = Some((now, connections));
        }
        let is_new = pace_per_s != self.pace_per_s;
        self.pace_per_s = pace_per_s;
        is_new.then_some(pace_per_s)
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
