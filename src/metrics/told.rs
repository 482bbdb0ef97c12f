//! What was told to others of a run: lines of the delivery log, events to the webhook.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::catalogue as c;
use super::text::Text;

/// The kinds of events, as their metrics name them.
pub const EVENT_KINDS: [&str; 3] = ["job.done", "job.paused", "recipients.refused"];

/// Counts of one run; 0 where there is neither log nor webhook.
#[derive(Debug, Default)]
pub struct Told {
    /// Lines in the delivery log.
    pub lines: AtomicU64,
    pub lines_dropped: AtomicU64,
    /// Events that were taken, by kind.
    pub events_sent: [AtomicU64; EVENT_KINDS.len()],
    /// Tries that came to nothing.
    pub tries_failed: AtomicU64,
    /// Events that were given up, by kind.
    pub events_dropped: [AtomicU64; EVENT_KINDS.len()],
    /// Refused recipients that no event told of.
    pub recipients_dropped: AtomicU64,
    /// Events that wait now.
    pub events_waiting: AtomicU64,
}

impl Told {
    pub(super) fn write(&self, text: &mut Text) {
        text.one(&c::LOG_LINES, self.lines.load(Relaxed));
        text.one(&c::LOG_DROPPED, self.lines_dropped.load(Relaxed));
        for (metric, counts) in
            [(&c::EVENTS_SENT, &self.events_sent), (&c::EVENTS_DROPPED, &self.events_dropped)]
        {
            let mut family = text.family(metric);
            for (kind, n) in EVENT_KINDS.iter().zip(counts) {
                family.sample(&[kind], n.load(Relaxed));
            }
        }
        text.one(&c::EVENTS_FAILED, self.tries_failed.load(Relaxed));
        text.one(&c::EVENTS_RECIPIENTS_DROPPED, self.recipients_dropped.load(Relaxed));
        text.one(&c::EVENTS_WAITING, self.events_waiting.load(Relaxed));
    }
}
