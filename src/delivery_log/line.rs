//! One outcome, and how it is written: the names are those of `infeed job report --format ndjson`.

use std::sync::Arc;

use serde::Serialize;

use crate::clock;
use crate::infeed::enhanced_code;
use crate::metrics::MtaSeries;
use crate::spool::{Outcome, Settled};

/// What became of one recipient in one try.
#[derive(Debug, Clone)]
pub struct Line {
    /// The job that was submitted; of a pack, the member.
    pub job: Arc<str>,
    /// The pack that the job is a member of.
    pub pack: Option<Arc<str>>,
    /// Empty when its record can't be read.
    pub address: String,
    /// `None`: no MTA had a part in it.
    pub mta: Option<Arc<MtaSeries>>,
    pub settled: Settled,
}

#[derive(Serialize)]
struct Written<'a> {
    time: String,
    job: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pack: Option<&'a str>,
    address: &'a str,
    outcome: &'static str,
    attempts: u16,
    mta: Option<&'a str>,
    reply_code: Option<u16>,
    enhanced_code: Option<String>,
    reply_text: &'a str,
    queue_id: &'a str,
    possible_repeat: bool,
    /// Of who was deferred: when it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<String>,
}

impl Line {
    /// The enhanced status code of the reply, where it has one.
    pub fn enhanced_code(&self) -> Option<String> {
        let (class, subject, detail) = enhanced_code(&self.settled.text)?;
        Some(format!("{class}.{subject}.{detail}"))
    }

    /// The name of the MTA that the outcome came from.
    pub fn mta_name(&self) -> Option<&str> {
        self.mta.as_ref().map(|mta| mta.name.as_str())
    }

    /// Appends it to `out`, with its line end.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let s = &self.settled;
        let written = Written {
            time: clock::rfc3339(s.at_us),
            job: &self.job,
            pack: self.pack.as_deref(),
            address: &self.address,
            outcome: s.outcome.as_str(),
            attempts: s.attempts,
            mta: self.mta_name(),
            reply_code: (s.code > 0).then_some(s.code),
            enhanced_code: self.enhanced_code(),
            reply_text: &s.text,
            queue_id: &s.queue_id,
            possible_repeat: s.possible_repeat,
            due: (s.outcome == Outcome::Deferred && s.due_us > 0).then(|| clock::rfc3339(s.due_us)),
        };
        let before = out.len();
        if serde_json::to_writer(&mut *out, &written).is_err() {
            // strings and numbers alone: it can't be, and half a line would be worse than none
            out.truncate(before);
            return;
        }
        out.push(b'\n');
    }
}
