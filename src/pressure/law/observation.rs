//! What the law sees, what it says, and the bounds that it keeps.

use std::time::Duration;

/// The bounds that the operator set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At least so many connections; 1 or more.
    pub connections_min: usize,
    /// At most so many connections.
    pub connections_max: usize,
    /// How many messages the MTA's queue may hold.
    pub queue_target: u64,
}

impl Limits {
    /// The same, with a minimum of 1 or more and a maximum that isn't below it.
    pub(super) fn in_order(self) -> Self {
        let connections_min = self.connections_min.max(1);
        Self {
            connections_min,
            connections_max: self.connections_max.max(connections_min),
            queue_target: self.queue_target.max(1),
        }
    }
}

/// A sign of strain in what the MTA says, or in how it says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// 421 or another refusal in place of the banner, while other sessions stand.
    TooManyConnections,
    /// The connect itself was refused, or timed out.
    ConnectRefused,
    /// The connect, or the banner, took more than a second.
    ConnectSlow,
    /// 421 in a session.
    Closing,
    /// 451 4.3.x and the like: a reply that speaks of strain.
    Load,
    /// 452 4.3.1: no room for queue files.
    StorageFull,
    /// A transaction whose replies to MAIL or RCPT came on a plateau of about a second.
    SlowRcpt,
}

impl Mark {
    /// How many kinds there are.
    pub const COUNT: usize = 7;
    /// All kinds, in the order of [`Totals::marks`].
    pub const ALL: [Self; Self::COUNT] = [
        Self::TooManyConnections,
        Self::ConnectRefused,
        Self::ConnectSlow,
        Self::Closing,
        Self::Load,
        Self::StorageFull,
        Self::SlowRcpt,
    ];

    /// Its place in [`Totals::marks`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Counted since the pool's start; the law takes differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Transactions with their final reply.
    pub transactions: u64,
    /// Recipients answered: accepted, or refused for good. Those deferred by a load code don't count.
    pub recipients: u64,
    /// Octets of content of those transactions.
    pub octets: u64,
    /// µs, over all sessions: from when a transaction was at hand (or from the reply before it) to its final reply.
    pub busy_us: u64,
    /// µs, over all sessions: waiting for work.
    pub idle_us: u64,
    /// By [`Mark::index`].
    pub marks: [u64; Mark::COUNT],
}

impl Totals {
    /// What was added since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            transactions: self.transactions - before.transactions,
            recipients: self.recipients - before.recipients,
            octets: self.octets - before.octets,
            busy_us: self.busy_us - before.busy_us,
            idle_us: self.idle_us - before.idle_us,
            marks: std::array::from_fn(|i| self.marks[i] - before.marks[i]),
        }
    }
}

/// What the pool sees at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observation {
    /// Since the pool's start; never goes back.
    pub now: Duration,
    /// Sessions that stand.
    pub established: usize,
    /// Connects on their way.
    pub connecting: usize,
    pub totals: Totals,
    /// Messages in the MTA's queue; `None`: not visible.
    pub queue: Option<u64>,
    /// The MTA is down, or its jobs are paused or held: nothing can be judged.
    pub held: bool,
}

/// What the pool shall do until the next observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// How many connections to keep. Sessions beyond it end after their transaction in flight.
    pub connections: usize,
    /// Transactions a second that may begin at most; `None`: no brake.
    pub pace_per_s: Option<f64>,
}

/// How often the number of connections was cut, by reason. The names are those of the JSON and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cuts {
    /// Goodput was no better, or worse, with so many.
    pub goodput: u64,
    /// 421 in place of the banner.
    pub too_many_connections: u64,
    /// Connects refused.
    pub connect_refused: u64,
    /// Connects or banners late.
    pub connect_slow: u64,
    /// 421 in sessions.
    pub closing: u64,
    /// 451 4.3.x and the like.
    pub load: u64,
    /// RCPT replies a second late.
    pub slow_rcpt: u64,
    /// The MTA's queue was over its target.
    pub queue: u64,
}

impl Cuts {
    /// Names and counts, in a fixed order.
    pub fn by_reason(&self) -> [(&'static str, u64); 8] {
        [
            ("goodput", self.goodput),
            ("too_many_connections", self.too_many_connections),
            ("connect_refused", self.connect_refused),
            ("connect_slow", self.connect_slow),
            ("closing", self.closing),
            ("load", self.load),
            ("slow_rcpt", self.slow_rcpt),
            ("queue", self.queue),
        ]
    }

    /// Both together.
    pub fn plus(self, other: &Self) -> Self {
        Self {
            goodput: self.goodput + other.goodput,
            too_many_connections: self.too_many_connections + other.too_many_connections,
            connect_refused: self.connect_refused + other.connect_refused,
            connect_slow: self.connect_slow + other.connect_slow,
            closing: self.closing + other.closing,
            load: self.load + other.load,
            slow_rcpt: self.slow_rcpt + other.slow_rcpt,
            queue: self.queue + other.queue,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}
