//! What `drain --json` and `send --json` say of a run, and of one that there wasn't.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::cli::session::Session;
use crate::runner::{DrainReport, Ended};

/// The word for why a drain ended.
pub fn ended_word(ended: &Ended) -> &'static str {
    match ended {
        Ended::Drained => "drained",
        Ended::FirstReached => "first_reached",
        Ended::Stopped => "stopped",
        Ended::MtaPaused(_) => "mta_paused",
        Ended::MtaUnavailable(_) => "mta_unavailable",
        Ended::JournalFailed(_) => "journal_failed",
        Ended::Standstill => "standstill",
    }
}

/// `seconds`, `deliveries_per_second`, `connections…`, `cuts`, `ended` of a drain.
pub fn drain_json(report: &DrainReport, object: &mut Map<String, Value>) {
    object.insert("seconds".into(), json!(thousandths(report.seconds)));
    object.insert("deliveries_per_second".into(), json!(thousandths(rate(report))));
    object.insert("connections".into(), json!(report.connections_peak));
    object.insert("connections_peak".into(), json!(report.connections_peak));
    object.insert("connections_mean".into(), json!(thousandths(report.connections_mean)));
    object.insert("cuts".into(), json!(BTreeMap::from(report.cuts.by_reason())));
    object.insert("connections_opened".into(), json!(report.connections_opened));
    object.insert("ended".into(), json!(ended_word(&report.ended)));
    object.insert("ended_reason".into(), json!(super::ended_reason(&report.ended)));
}

/// Why this command drained nothing itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undrained {
    /// There was nothing to do, or nothing was to be done.
    Nothing,
    /// Another process does it: what that takes is not known here.
    ByAnother,
}

/// The keys of [`drain_json`] where this command drained nothing: zeros, or null for what isn't known.
pub fn no_drain_json(ended: &str, why: Undrained, object: &mut Map<String, Value>) {
    for (key, zero) in [
        ("seconds", json!(0.0)),
        ("deliveries_per_second", json!(0.0)),
        ("connections", json!(0)),
        ("connections_peak", json!(0)),
        ("connections_mean", json!(0.0)),
        ("cuts", json!({})),
        ("connections_opened", json!(0)),
    ] {
        object.insert(key.into(), zero_or_null(zero, why));
    }
    object.insert("ended".into(), json!(ended));
    object.insert("ended_reason".into(), Value::Null);
}

/// What `drain` prints then.
pub fn no_run_json(session: &Session, ended: &str, why: Undrained) -> Map<String, Value> {
    let mut object = Map::new();
    for key in ["accepted", "settled"] {
        object.insert(key.into(), zero_or_null(json!(0), why));
    }
    // nobody has counted
    object.insert("unfinished".into(), Value::Null);
    no_drain_json(ended, why, &mut object);
    for key in ["paused", "left_alone"] {
        object.insert(key.into(), json!([]));
    }
    object.insert("spool".into(), json!(session.spool_dir));
    object
}

fn zero_or_null(zero: Value, why: Undrained) -> Value {
    match why {
        Undrained::Nothing => zero,
        Undrained::ByAnother => Value::Null,
    }
}

/// Accepted recipients a second.
pub fn rate(report: &DrainReport) -> f64 {
    if report.seconds > 0.0 { report.accepted as f64 / report.seconds } else { 0.0 }
}

pub fn thousandths(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}
