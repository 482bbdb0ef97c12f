//! What the sink counts. Relaxed atomics: a snapshot is cheap and each number is right by itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub $name: AtomicU64,)*
            /// Time since the start of the first and the last message taken, in µs, plus one; 0: none yet.
            first_us: AtomicU64,
            last_us: AtomicU64,
        }

        /// The sink's numbers at one moment.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Messages in the queue behind the sink (`drain_rate`); 0 without one.
            pub queued: u64,
            /// Since the sink started.
            pub seconds: f64,
            /// From the first to the last message taken.
            pub seconds_active: f64,
            /// Over `seconds_active`; 0 below two messages.
            pub messages_per_second: f64,
        }

        impl Counters {
            /// All numbers now; `up` is the time since the start.
            pub fn snapshot(&self, queued: u64, up: Duration) -> Snapshot {
                let messages = self.messages.load(Relaxed);
                let span_us = self.last_us.load(Relaxed).saturating_sub(self.first_us.load(Relaxed));
                let seconds_active = span_us as f64 / 1e6;
                let messages_per_second =
                    if span_us > 0 { messages.saturating_sub(1) as f64 / seconds_active } else { 0.0 };
                Snapshot {
                    $($name: self.$name.load(Relaxed),)*
                    queued,
                    seconds: up.as_secs_f64(),
                    seconds_active,
                    messages_per_second,
                }
            }
        }
    };
}

counters! {
    /// Connections accepted, those refused by 421 at connect among them.
    connections,
    /// Connections that got 421 at connect because of `connections_max`.
    connections_refused,
    /// Connections open now.
    open,
    /// The most connections open at a time.
    open_max,
    /// MAIL commands accepted.
    transactions,
    /// Messages taken.
    messages,
    /// Recipients of messages taken: the lines of a ledger.
    recipients_accepted,
    /// Recipients that got 5xx, at RCPT, DATA or the final dot.
    recipients_refused,
    /// Recipients that got 4xx, at RCPT, DATA or the final dot.
    recipients_deferred,
    /// Octets of content taken, unstuffed.
    bytes,
    /// Connections dropped before the final dot (on demand): not taken.
    dropped_before_dot,
    /// Connections dropped after the final dot (on demand): taken.
    dropped_after_dot,
    /// Messages deferred because ledger or store could not be written.
    ledger_errors,
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}

impl Counters {
    /// Counts a message taken; returns how many there are now.
    pub fn message(&self, recipients: u64, octets: u64, up: Duration) -> u64 {
        let us = (up.as_micros() as u64).saturating_add(1);
        let taken = self.messages.fetch_add(1, Relaxed) + 1;
        if taken == 1 {
            self.first_us.store(us, Relaxed);
        }
        self.last_us.fetch_max(us, Relaxed);
        add(&self.recipients_accepted, recipients);
        add(&self.bytes, octets);
        taken
    }

    /// Counts recipients that a failure struck.
    pub fn failed(&self, code: u16, recipients: u64) {
        let counter = if code >= 500 { &self.recipients_refused } else { &self.recipients_deferred };
        add(counter, recipients);
    }

    /// Counts a session in; the guard counts it out.
    pub fn enter(self: &std::sync::Arc<Self>) -> Open {
        let open = self.open.fetch_add(1, Relaxed) + 1;
        self.open_max.fetch_max(open, Relaxed);
        Open(std::sync::Arc::clone(self))
    }
}

/// A session counted as open.
pub(super) struct Open(std::sync::Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
