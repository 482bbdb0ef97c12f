//! The last recipients who were not accepted, with what the MTA said: a short ring, for people to look at.
//!
//! Guarantees: at most [`REFUSALS_MAX`] of them, each of bounded length; whoever is accepted costs nothing
//! here, nor does a refusal that is still provisional. All of them are in the job's report. Nothing here
//! fails.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Micros;
use crate::infeed::enhanced_code;
use crate::spool::{JobId, Outcome, Settled};

/// Refusals that are kept.
pub const REFUSALS_MAX: usize = 20;
/// Octets of a text that are kept; a reply has no more, a text of our own may.
const TEXT_OCTETS_MAX: usize = 512;
/// Octets of an address that are kept: RFC 5321 §4.5.3.1 allows 64 + 1 + 255.
const ADDRESS_OCTETS_MAX: usize = 320;

/// One recipient who was refused, deferred, or deferred for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub at_us: Micros,
    pub job: JobId,
    /// Empty when its record can't be read.
    pub recipient: String,
    /// `Refused`, `Deferred` or `Expired`.
    pub outcome: Outcome,
    /// The MTA's name.
    pub mta: String,
    /// The reply's code; 0 when the MTA said nothing.
    pub code: u16,
    /// Its enhanced status code (RFC 3463), such as `5.1.1`.
    pub enhanced: Option<String>,
    /// The rest of the reply, on one line; without a reply what went wrong.
    pub text: String,
}

impl Refusal {
    pub(super) fn new(job: &JobId, mta: &str, address: &str, settled: &Settled) -> Self {
        let (mut enhanced, mut text) = (None, settled.text.as_str());
        if enhanced_code(text).is_some() {
            let (code, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
            (enhanced, text) = (Some(code.to_owned()), rest);
        }
        Self {
            at_us: settled.at_us,
            job: job.clone(),
            recipient: cut(address, ADDRESS_OCTETS_MAX),
            outcome: settled.outcome,
            mta: mta.to_owned(),
            code: settled.code,
            enhanced,
            text: cut(text, TEXT_OCTETS_MAX),
        }
    }
}

fn cut(text: &str, octets_max: usize) -> String {
    text[..text.floor_char_boundary(octets_max)].to_owned()
}

/// Whether an outcome is told here.
pub(super) fn is_told(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Refused | Outcome::Deferred | Outcome::Expired)
}

/// The ring.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<VecDeque<Refusal>>);

impl Refusals {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what became of recipients, in this order; `make` is asked for those alone that are kept.
    pub(super) fn note<T>(
        &self,
        settled: impl DoubleEndedIterator<Item = T>,
        mut make: impl FnMut(T) -> Option<Refusal>,
    ) {
        let latest: Vec<Refusal> = settled.rev().filter_map(&mut make).take(REFUSALS_MAX).collect();
        if latest.is_empty() {
            return;
        }
        let mut ring = self.lock();
        latest.into_iter().rev().for_each(|refusal| ring.push_front(refusal));
        ring.truncate(REFUSALS_MAX);
    }

    /// All of them, the newest first.
    pub fn latest(&self) -> Vec<Refusal> {
        self.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobId {
        "weekly-47".parse().expect("an id")
    }

    fn said(code: u16, text: &str) -> Settled {
        let mut settled = Settled::local(Outcome::Refused, 1, 7, text);
        settled.code = code;
        settled
    }

    #[test]
    fn a_reply_is_told_by_code_enhanced_code_and_the_rest() {
        for (text, enhanced, rest) in [
            ("5.1.1 <a@b>: no such user", Some("5.1.1"), "<a@b>: no such user"),
            ("5.7.1", Some("5.7.1"), ""),
            ("no such user", None, "no such user"),
            ("192.0.2.1 is listed", None, "192.0.2.1 is listed"),
        ] {
            let told = Refusal::new(&job(), "main", "a@b", &said(550, text));
            assert_eq!((told.code, told.enhanced.as_deref(), told.text.as_str()), (550, enhanced, rest));
        }
    }

    #[test]
    fn whatever_comes_the_newest_are_kept_and_their_texts_are_bounded() {
        let ring = Refusals::default();
        let long = "ü".repeat(10_000);
        for batch in 0..50 {
            let mut made = 0;
            ring.note(0..100, |i| {
                made += 1;
                let address = format!("{batch}-{i}-{long}");
                Some(Refusal::new(&job(), "main", &address, &said(550, &long)))
            });
            assert_eq!(made, REFUSALS_MAX, "what isn't kept isn't made");
        }
        let latest = ring.latest();
        assert_eq!(latest.len(), REFUSALS_MAX);
        for (at, refusal) in latest.iter().enumerate() {
            assert!(refusal.recipient.starts_with(&format!("49-{}-", 99 - at)), "{}", refusal.recipient);
            assert!(refusal.recipient.len() <= ADDRESS_OCTETS_MAX && refusal.text.len() <= TEXT_OCTETS_MAX);
        }
    }

    #[test]
    fn whoever_was_accepted_is_not_told() {
        let ring = Refusals::default();
        let outcomes = Outcome::ALL.into_iter();
        ring.note(outcomes, |outcome| {
            let mut settled = said(250, "ok");
            settled.outcome = outcome;
            is_told(outcome).then(|| Refusal::new(&job(), "main", "a@b", &settled))
        });
        let told: Vec<Outcome> = ring.latest().into_iter().map(|refusal| refusal.outcome).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(!told.contains(&Outcome::Accepted));
    }
}
