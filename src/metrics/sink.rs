//! The sink's numbers, as `infeed sink` tells them at its end.

use super::catalogue::{
    SINK_BYTES, SINK_CONNECTIONS, SINK_DROPPED, SINK_MESSAGES, SINK_OPEN, SINK_QUEUE, SINK_RECIPIENTS,
    SINK_REFUSED,
};
use super::text::Text;
use crate::sink::Snapshot;

/// Appends them.
pub(super) fn write(text: &mut Text, now: &Snapshot) {
    text.one(&SINK_CONNECTIONS, now.connections);
    text.one(&SINK_REFUSED, now.connections_refused);
    text.one(&SINK_OPEN, now.open);
    text.one(&SINK_MESSAGES, now.messages);
    let mut recipients = text.family(&SINK_RECIPIENTS);
    for (outcome, n) in [
        ("accepted", now.recipients_accepted),
        ("refused", now.recipients_refused),
        ("deferred", now.recipients_deferred),
    ] {
        recipients.sample(&[outcome], n);
    }
    text.one(&SINK_BYTES, now.bytes);
    let mut dropped = text.family(&SINK_DROPPED);
    dropped.sample(&["before_dot"], now.dropped_before_dot);
    dropped.sample(&["after_dot"], now.dropped_after_dot);
    text.one(&SINK_QUEUE, now.queued);
}
