//! What is told, as JSON: `{"id", "type", "timestamp", "data"}`, the form of Standard Webhooks.

use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};

use crate::clock::{self, Micros};
use crate::delivery_log::Line;
use crate::metrics::EVENT_KINDS;
use crate::spool::id::hex;
use crate::spool::{JobChange, JobState, Outcome, is_the_breakers};

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    JobDone,
    JobPaused,
    RecipientsRefused,
}

impl Kind {
    /// `job.done`
    pub fn as_str(self) -> &'static str {
        EVENT_KINDS[self as usize]
    }

    pub fn of_name(name: &str) -> Option<Self> {
        let all = [Kind::JobDone, Kind::JobPaused, Kind::RecipientsRefused];
        all.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Of a change of state, where that is one to be told of.
    fn of_change(to: JobState) -> Option<Self> {
        match to {
            JobState::Done => Some(Kind::JobDone),
            JobState::Paused => Some(Kind::JobPaused),
            JobState::Active | JobState::Cancelled => None,
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub id: String,
    pub kind: Kind,
    pub at_us: Micros,
    pub data: Map<String, Value>,
}

impl Event {
    /// Of a job's change of state; `None`: nobody is told of that one. The same change has the same id, however
    /// often it is told: a job is done once, and paused once at a time.
    pub fn of_change(change: &JobChange<'_>) -> Option<Self> {
        let kind = Kind::of_change(change.to)?;
        let (job, meta) = (change.job.as_str(), change.meta);
        let paused_us = if kind == Kind::JobPaused { change.at_us } else { 0 };
        let submitted_us = meta.map_or(0, |meta| meta.submitted_us);
        let what = format!("{}\0{job}\0{submitted_us}\0{paused_us}", kind.as_str());
        let mut data = Map::new();
        data.insert("job".into(), json!(job));
        data.insert("submitted".into(), json!(meta.map(|meta| clock::rfc3339(meta.submitted_us))));
        data.insert("submitted_by".into(), json!(meta.map(|meta| &meta.submitted_by)));
        data.insert("recipients".into(), json!(meta.map(|meta| meta.recipients)));
        if let Some(reason) = change.reason {
            data.insert("by".into(), json!(if is_the_breakers(reason) { "breaker" } else { "hand" }));
            data.insert("reason".into(), json!(reason));
        }
        if let Some(counts) = change.counts {
            let finals = Outcome::ALL.into_iter().filter(|outcome| outcome.is_final());
            let outcomes: Map<String, Value> =
                finals.map(|outcome| (outcome.as_str().to_owned(), json!(counts.of(outcome)))).collect();
            data.insert("outcomes".into(), Value::Object(outcomes));
            data.insert("possible_repeats".into(), json!(counts.possible_repeats));
        }
        let id = format!("evt_{}", &hex(&Sha1::digest(what.as_bytes()))[..32]);
        Some(Self { id, kind, at_us: change.at_us, data })
    }

    /// Of refused recipients.
    pub fn of_refused(lines: &[Line]) -> Self {
        let recipients: Vec<Value> = lines.iter().map(refused).collect();
        let mut data = Map::new();
        data.insert("recipients".into(), Value::Array(recipients));
        let id = format!("evt_{:032x}", fastrand::u128(..));
        Self { id, kind: Kind::RecipientsRefused, at_us: clock::now_us(), data }
    }

    /// What is posted; `dropped` refused recipients were left out before it.
    pub fn body(&self, dropped: u64) -> Vec<u8> {
        let mut data = self.data.clone();
        if dropped > 0 {
            data.insert("dropped".into(), json!(dropped));
        }
        json!({
            "id": self.id,
            "type": self.kind.as_str(),
            "timestamp": clock::rfc3339(self.at_us),
            "data": data,
        })
        .to_string()
        .into_bytes()
    }

    /// As it is kept.
    pub fn to_kept(&self) -> Vec<u8> {
        json!({ "id": self.id, "type": self.kind.as_str(), "at_us": self.at_us, "data": self.data })
            .to_string()
            .into_bytes()
    }

    /// From what [`Event::to_kept`] wrote.
    pub fn of_kept(octets: &[u8]) -> Option<Self> {
        let mut kept: Map<String, Value> = serde_json::from_slice(octets).ok()?;
        let Value::Object(data) = kept.remove("data")? else { return None };
        let id = kept.get("id")?.as_str()?.to_owned();
        Some(Self {
            id,
            kind: Kind::of_name(kept.get("type")?.as_str()?)?,
            at_us: kept.get("at_us")?.as_u64()?,
            data,
        })
    }

    /// The job that it tells of.
    pub fn job(&self) -> Option<&str> {
        self.data.get("job")?.as_str()
    }
}

fn refused(line: &Line) -> Value {
    let s = &line.settled;
    json!({
        "job": &*line.job,
        "pack": line.pack.as_deref(),
        "address": line.address,
        "time": clock::rfc3339(s.at_us),
        "attempts": s.attempts,
        "mta": line.mta_name(),
        "reply_code": (s.code > 0).then_some(s.code),
        "enhanced_code": line.enhanced_code(),
        "reply_text": s.text,
    })
}
