//! What became of a transaction, recipient by recipient: outcome, another try, or the refusal breaker.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::refusals::{Refusal, is_told};
use super::retry::RetryPolicy;
use super::supply::{JobRun, JobStop, State, Supply, of_token};
use crate::clock::{self, Micros};
use crate::infeed::{JobFault, RcptResult, Said, Settlement, Streak};
use crate::metrics::{JobSeries, MtaSeries};
use crate::spool::{Chunk, JobId, OnDoubt, Outcome, Owner, Settled};

/// A refusal that is provisional.
pub(super) struct HeldRefusal {
    pub handle: u32,
    pub index: u16,
    pub outcome: Settled,
    /// When it came.
    pub at: u64,
    /// Where it is counted, once it is final.
    pub series: Arc<JobSeries>,
    pub mta: Arc<MtaSeries>,
}

/// What is to be written and counted, per chunk, once the lock is let go.
#[derive(Default)]
struct Landing {
    record: Vec<(u16, Settled)>,
    /// Nothing was delivered: out again in this pass.
    again: Vec<u16>,
    /// May have been delivered: marked, and out again in this pass.
    mark: Vec<u16>,
    /// Provisionally refused.
    hold: Vec<u16>,
    /// Refusals held before, final now; of any chunk of the job.
    released: Vec<HeldRefusal>,
}

impl<O: Owner> Supply<O> {
    pub(super) fn settle_all(&self, settlement: Settlement, mta: &Arc<MtaSeries>) {
        let Settlement { transaction, results, job_fault } = settlement;
        assert_eq!(results.len(), transaction.recipients.len(), "a result for each recipient");
        let (handle, _) = of_token(transaction.recipients[0].token);
        let mut landing = Landing::default();
        let (series, told) = {
            let mut state = self.lock();
            let retry = state.retry;
            let State { hands, jobs, moment, .. } = &mut *state;
            *moment += 1;
            let Some(hand) = hands.get_mut(&handle) else { panic!("chunk {handle} is not in hand") };
            let Some(job) = jobs.get_mut(&hand.job) else { panic!("job {} is not in hand", hand.job) };
            let now = clock::now_us();
            for (rcpt, result) in transaction.recipients.iter().zip(results) {
                let (_, index) = of_token(rcpt.token);
                let taken_at = hand.came_back(index);
                let previous = Previous::of(&hand.chunk, index, job.lead_us);
                let result = match (&job_fault, result) {
                    (Some(fault), RcptResult::NotTried) if job.accept_refusals || job.template.is_pack() => {
                        RcptResult::Refused { stage: fault.stage, said: fault.said.clone() }
                    }
                    (_, other) => other,
                };
                match result {
                    RcptResult::Accepted { said, queue_id } => {
                        let mut s = previous.settled(Outcome::Accepted, now, said);
                        s.queue_id = queue_id.unwrap_or_default();
                        landing.record.push((index, s));
                        job.template.on_accepted();
                        if job.streak.on_accepted() == Streak::Release {
                            job.release_before(taken_at, &mut landing.released);
                        }
                    }
                    RcptResult::Refused { said, .. } => {
                        let outcome = previous.settled(Outcome::Refused, now, said.clone());
                        let refusal = HeldRefusal {
                            handle,
                            index,
                            outcome,
                            at: *moment,
                            series: job.series.clone(),
                            mta: mta.clone(),
                        };
                        refused(job, refusal, taken_at, &rcpt.address, &said, &mut landing);
                    }
                    RcptResult::Deferred { said, .. } => {
                        landing.record.push((index, deferred(retry, &previous, now, said)));
                    }
                    RcptResult::NotTried => landing.again.push(index),
                    RcptResult::InDoubt { error } => {
                        let said = Said { code: 0, text: error };
                        if job.meta.on_doubt == OnDoubt::Hold {
                            let mut s = previous.settled(Outcome::InDoubt, now, said);
                            s.possible_repeat = true;
                            landing.record.push((index, s));
                        } else if hand.resent.insert(index) {
                            landing.mark.push(index);
                        } else {
                            // twice in one pass: what breaks the connection may be the message
                            let mut s = deferred(retry, &previous, now, said);
                            s.possible_repeat = true;
                            landing.record.push((index, s));
                        }
                    }
                }
            }
            let mut told = None;
            for (_, settled) in &landing.record {
                job.counts.accepted += u64::from(settled.outcome == Outcome::Accepted);
                job.counts.deferred += u64::from(settled.outcome == Outcome::Deferred);
                if is_told(settled.outcome) {
                    told.get_or_insert_with(|| (hand.job.clone(), hand.chunk.clone()));
                }
            }
            if let Some(fault) = job_fault
                && !job.accept_refusals
                && job.template.fault_is_the_jobs(&transaction.sender)
            {
                trip(job, fault_text(&fault));
            }
            (job.series.clone(), told)
        };
        if let Some((job, chunk)) = told {
            self.progress
                .refusals
                .note(landing.record.iter(), |(index, settled)| refusal(&job, &chunk, mta, *index, settled));
        }
        self.land(handle, landing, &series, mta);
    }

    /// Writes it down, then counts it.
    fn land(&self, handle: u32, landing: Landing, series: &JobSeries, mta: &MtaSeries) {
        let Landing { record, again, mark, hold, released } = landing;
        let settled = record.len();
        let landed = settled + again.len() + mark.len() + hold.len();
        for (_, s) in &record {
            self.progress.count(series, Some(mta), s.outcome, 1);
        }
        let doubtful = mark.len() + record.iter().filter(|(_, s)| s.possible_repeat).count();
        if doubtful > 0 {
            self.progress.recorder.possible_repeats.fetch_add(doubtful as u64, Relaxed);
        }
        if !record.is_empty() {
            self.owner.record(handle, record);
        }
        let untouched: Vec<u16> = again.iter().chain(&hold).copied().collect();
        if !untouched.is_empty() {
            self.owner.release(handle, &untouched);
        }
        if !mark.is_empty() {
            self.owner.mark(handle, &mark);
        }
        self.refusals_final(released);
        let mut state = self.lock();
        state.put_back(handle, &again);
        state.put_back(handle, &mark);
        state.landed(handle, landed, settled);
        let woken = !again.is_empty() || !mark.is_empty() || state.hands.get(&handle).is_some_and(|h| h.solo);
        self.after_landing(&state, handle);
        drop(state);
        if woken {
            self.ready.notify_waiters();
        }
    }

    /// Refusals that were held are final.
    pub(super) fn refusals_final(&self, held: Vec<HeldRefusal>) {
        self.progress.refusals.note(held.iter(), |held| {
            let (job, chunk) = self.lock().chunk_of(held.handle);
            refusal(&job, &chunk, &held.mta, held.index, &held.outcome)
        });
        for HeldRefusal { handle, index, outcome, series, mta, .. } in held {
            self.progress.count(&series, Some(&mta), outcome.outcome, 1);
            self.owner.record(handle, vec![(index, outcome)]);
            self.lock().settled(handle, 1);
        }
    }
}

impl JobRun {
    /// Whoever was taken at `moment` and accepted shows that what had been refused until then was not refused
    /// for the MTA's sake. Of what came later it says nothing: an MTA that begins to refuse everybody is still
    /// accepting what other connections sent before.
    fn release_before(&mut self, moment: u64, released: &mut Vec<HeldRefusal>) {
        let until = self.held.partition_point(|held| held.at < moment);
        released.extend(self.held.drain(..until));
    }
}

/// A 5xx to one recipient, who was taken at `taken_at`: final at once, or held until the streak that it
/// belongs to is over.
fn refused(
    job: &mut JobRun,
    refusal: HeldRefusal,
    taken_at: u64,
    address: &str,
    said: &Said,
    landing: &mut Landing,
) {
    if job.accept_refusals {
        landing.record.push((refusal.index, refusal.outcome));
        return;
    }
    match job.streak.on_refused(address, said) {
        Streak::Hold => {}
        Streak::Release => job.release_before(taken_at, &mut landing.released),
        Streak::Trip { text } => trip(job, text),
    }
    landing.hold.push(refusal.index);
    if job.stop.is_none() {
        job.held.push(refusal);
    }
}

fn deferred(retry: RetryPolicy, previous: &Previous, now: Micros, said: Said) -> Settled {
    let steady = clock::steady_us() + previous.lead_us;
    let since = if previous.deferred_since_us == 0 { steady } else { previous.deferred_since_us };
    match retry.next_due(previous.attempts.saturating_add(1), since, steady) {
        Some(due_us) => {
            let mut s = previous.settled(Outcome::Deferred, now, said);
            (s.due_us, s.deferred_since_us) = (due_us, since);
            s
        }
        None => previous.settled(Outcome::Expired, now, said),
    }
}

/// Somebody who was not accepted, for people to see; `None`: of that outcome they needn't.
fn refusal(job: &JobId, chunk: &Chunk, mta: &MtaSeries, index: u16, settled: &Settled) -> Option<Refusal> {
    let address = || chunk.address(usize::from(index)).unwrap_or_default();
    is_told(settled.outcome).then(|| Refusal::new(job, &mta.name, address(), settled))
}

/// The job is handed out no more; what was refused provisionally stays pending.
fn trip(job: &mut JobRun, text: String) {
    job.held.clear();
    job.stop.get_or_insert(JobStop::Breaker(text));
}

fn fault_text(fault: &JobFault) -> String {
    format!("{} {} (to {:?})", fault.said.code, fault.said.text, fault.stage)
}

/// What was known of a recipient before this transaction.
struct Previous {
    attempts: u16,
    deferred_since_us: Micros,
    /// By how much the job's clock stands ahead.
    lead_us: Micros,
}

impl Previous {
    fn of(chunk: &Chunk, index: u16, lead_us: Micros) -> Self {
        let state = chunk.state(usize::from(index));
        Self { attempts: state.attempts, deferred_since_us: state.deferred_since_us, lead_us }
    }

    fn settled(&self, outcome: Outcome, now: Micros, said: Said) -> Settled {
        let mut s = Settled::local(outcome, self.attempts.saturating_add(1), now, said.text);
        s.code = said.code;
        s
    }
}
