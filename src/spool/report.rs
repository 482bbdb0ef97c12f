//! A job's report: one line per recipient, streamed in the order of its chunks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::hold::Hold;
use super::id::{ChunkDigest, ChunkName, JobId, Outcome};
use super::layout::{JobDir, JobState};
use super::pass::find_chunk;
use super::replay::Replayed;
use super::results::{self, Settled};
use super::view::{on_doubt_of, state_of};
use crate::clock::Micros;

/// What is known of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// Its place in the job, from 0.
    pub ordinal: u64,
    /// Empty when its record can't be read.
    pub address: String,
    pub outcome: Outcome,
    /// 0 when the MTA said nothing.
    pub code: u16,
    pub text: String,
    pub queue_id: String,
    pub attempts: u16,
    /// When the last word was spoken; 0 when none was.
    pub at_us: Micros,
    pub possible_repeat: bool,
}

impl DirSpool {
    /// Calls `each` for every recipient of the job, with one chunk in memory. May run beside an owner.
    pub fn report(&self, job: &JobId, each: &mut dyn FnMut(ReportLine) -> Result<()>) -> Result<()> {
        let (state, dir) = match self.find(job) {
            Err(SpoolError::PackMember { .. }) => return self.member_report(job, each),
            found => found?,
        };
        // an ended job is not removed under its reader; one that goes on may be paused or cancelled
        let ended = matches!(state, JobState::Cancelled | JobState::Done);
        let _hold = if ended { Hold::shared(&dir)? } else { None };
        let meta = self.meta_of(&dir)?;
        // the journal first: a pass that ends meanwhile is then found in its results; of a job that is
        // done every pass has ended
        let overlay = if state == JobState::Done { BTreeMap::new() } else { self.overlay(job)? };
        let family = self.family(&dir, job, &meta)?;
        let mut by_digest: HashMap<ChunkDigest, BTreeSet<ChunkName>> = HashMap::new();
        for name in family.passed.keys().chain(family.waiting.keys()) {
            by_digest.entry(name.digest).or_default().insert(*name);
        }
        for number in 0..meta.chunks {
            for name in by_digest.remove(&ChunkDigest::of(job, number)).unwrap_or_default() {
                if family.passed.contains_key(&name) {
                    self.report_passed(&dir, name, each)?;
                } else {
                    let waiting =
                        Waiting { state, on_doubt: on_doubt_of(state, &meta), replayed: overlay.get(&name) };
                    let recipients = family.waiting.get(&name).map_or(0, |c| c.recipients);
                    self.report_waiting(&dir, name, recipients, &waiting, each)?;
                }
            }
        }
        Ok(())
    }

    fn report_passed(
        &self,
        dir: &JobDir,
        name: ChunkName,
        each: &mut dyn FnMut(ReportLine) -> Result<()>,
    ) -> Result<()> {
        let chunk = match find_chunk(self, dir, name) {
            Ok(chunk) => chunk.ok(),
            // put aside: its recipients are in the results, without addresses
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        let path = dir.result(name);
        let bytes = self.fs.read(&path).at("read", &path)?;
        let settled = match results::decode(&bytes) {
            Ok((_, settled)) => settled,
            Err(reason) => {
                let n = chunk.as_ref().map_or(0, |c| c.len());
                let lost = Settled::local(
                    Outcome::Quarantined,
                    0,
                    0,
                    format!("its results can't be read: {reason}"),
                );
                (0..n as u16).map(|i| (i, lost.clone())).collect()
            }
        };
        for (index, s) in settled {
            let record =
                chunk.as_ref().filter(|c| usize::from(index) < c.len()).map(|c| c.recipient(index.into()));
            let (ordinal, address) = match record {
                Some(Ok(r)) => (r.ordinal, r.address.to_owned()),
                _ => (0, String::new()),
            };
            each(line(ordinal, address, s))?;
        }
        Ok(())
    }

    fn report_waiting(
        &self,
        dir: &JobDir,
        name: ChunkName,
        recipients: u16,
        waiting: &Waiting<'_>,
        each: &mut dyn FnMut(ReportLine) -> Result<()>,
    ) -> Result<()> {
        let chunk = match find_chunk(self, dir, name) {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(reason)) => {
                for _ in 0..recipients {
                    let s = Settled::local(waiting.standing(Outcome::Pending), 0, 0, reason.clone());
                    each(line(0, String::new(), s))?;
                }
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        for i in 0..chunk.len() {
            let (outcome, repeat) = state_of(&chunk, i, waiting.replayed, waiting.on_doubt);
            let outcome = waiting.standing(outcome);
            let settled = waiting.replayed.and_then(|r| r.settled.get(&(i as u16)));
            let mut out = match chunk.recipient(i) {
                Err(reason) => line(0, String::new(), Settled::local(Outcome::Quarantined, 0, 0, reason)),
                Ok(r) => match settled {
                    Some(s) => line(r.ordinal, r.address.to_owned(), s.clone()),
                    None => {
                        let mut s = Settled::local(outcome, r.state.attempts, r.state.last_us, r.state.text);
                        s.code = r.state.code;
                        line(r.ordinal, r.address.to_owned(), s)
                    }
                },
            };
            out.outcome = outcome;
            out.possible_repeat = repeat;
            each(out)?;
        }
        Ok(())
    }
}

struct Waiting<'a> {
    state: JobState,
    on_doubt: super::job::OnDoubt,
    replayed: Option<&'a Replayed>,
}

impl Waiting<'_> {
    fn standing(&self, outcome: Outcome) -> Outcome {
        if self.state == JobState::Cancelled && !outcome.is_final() { Outcome::Cancelled } else { outcome }
    }
}

fn line(ordinal: u64, address: String, s: Settled) -> ReportLine {
    ReportLine {
        ordinal,
        address,
        outcome: s.outcome,
        code: s.code,
        text: s.text,
        queue_id: s.queue_id,
        attempts: s.attempts,
        at_us: s.at_us,
        possible_repeat: s.possible_repeat,
    }
}
