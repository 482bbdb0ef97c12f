//! What a job's own rate and windows, and the rates of domains, mean for the feeder: jobs outside their window
//! are let go of, and chunks of which nobody is left but for a limited domain make room for others.

use std::sync::Arc;

use super::super::supply::{JobStop, State};
use super::Feeder;
use crate::clock::{self, Micros, SECOND_US};
use crate::pressure::window::Windows;
use crate::spool::{DomainKey, JobDue, JobId, Outcome, Owner, Settled, SpoolError};

/// Chunks of one job that stay in hand though all who are left in them wait for a domain's rate.
const HELD_BACK_HANDS_MAX: usize = 8;
/// How long recipients are put off at most: so late is a change of the rate seen by them.
const PUT_OFF_US_MAX: Micros = 600 * SECOND_US;

/// Recipients of one chunk who wait for the rates of domains.
type Limited = Vec<(DomainKey, Vec<u16>)>;

impl<O: Owner> Feeder<O> {
    /// Takes up what rate and windows the job has now; false when it is outside of them, and let go of.
    pub(super) async fn pace(&mut self, job: &JobDue) -> Result<bool, SpoolError> {
        let id = &job.job;
        let windows = match self.windows.get(id) {
            Some((texts, windows)) if *texts == job.windows => windows.clone(),
            _ => {
                // what can't be read was edited by hand: nothing is sent at hours that nobody meant
                let windows = match Windows::parse(&job.windows) {
                    Ok(windows) => Arc::new(windows),
                    Err(e) => {
                        self.shut(
                            job,
                            format!("its window can't be read: {e}; `infeed job window {id}` sets another"),
                        )
                        .await?;
                        return Ok(false);
                    }
                };
                self.windows.insert(id.clone(), (job.windows.clone(), windows.clone()));
                windows
            }
        };
        if let Some(why) = windows.why_shut(clock::now_us()) {
            self.shut(job, why).await?;
            return Ok(false);
        }
        let mut state = self.supply.lock();
        if self.shut.remove(id) {
            state.left_alone.remove(id);
        }
        let now = state.limits.now();
        if let Some(run) = state.jobs.get_mut(id) {
            run.windows = windows;
            if run.limiter.rate() != job.messages_per_second {
                run.limiter.set_rate(job.messages_per_second, now);
                drop(state);
                self.supply.ready.notify_waiters();
            }
        }
        Ok(true)
    }

    /// The job is left alone, but for what commands want of it.
    async fn shut(&mut self, job: &JobDue, why: String) -> Result<(), SpoolError> {
        let id = &job.job;
        if self.shut.insert(id.clone()) {
            tracing::info!("job {id}: {why}");
        }
        let in_hand = {
            let mut state = self.supply.lock();
            state.left_alone.insert(id.clone(), why);
            state.jobs.get_mut(id).map(|run| run.stop.get_or_insert(JobStop::LeftAlone)).is_some()
        };
        if job.requested
            && !in_hand
            && let Err(e) = self.supply.owner.carry_out_request(id).await
        {
            self.leave_alone(id, e)?;
        }
        Ok(())
    }

    /// Chunks of which all who are left wait for a domain's rate go back to the spool until their turn is near:
    /// else a domain that is slow would fill all the room there is, and keep the others out. True when some did.
    pub(super) async fn put_off_limited(&mut self) -> Result<bool, SpoolError> {
        let mut any = false;
        {
            let mut state = self.supply.lock();
            let steady = clock::steady_us();
            self.put_off.retain(|_, until_us| *until_us > steady);
            if !state.limits.any_domain() {
                return Ok(false);
            }
            let jobs: Vec<JobId> = state.jobs.keys().cloned().collect();
            for id in jobs {
                while let Some((handle, aside)) = next_put_off(&state, &id) {
                    let until_us = self.put_one_off(&mut state, &id, handle, aside);
                    let latest = self.put_off.entry(id.clone()).or_default();
                    *latest = until_us.max(*latest);
                    any = true;
                }
            }
        }
        if any {
            self.finish_done().await?;
        }
        Ok(any)
    }

    /// They wait in the spool, as what was never tried, until the moment that is given.
    fn put_one_off(&self, state: &mut State, id: &JobId, handle: u32, aside: Limited) -> Micros {
        let max_us = PUT_OFF_US_MAX.min(state.retry.delay_s_max * SECOND_US).max(SECOND_US);
        let steady = clock::steady_us();
        let recipients_max = state.recipients_max();
        let State { jobs, hands, groups, limits, .. } = &mut *state;
        let (Some(run), Some(hand)) = (jobs.get_mut(id), hands.get_mut(&handle)) else {
            panic!("chunk {handle} of job {id} is not in hand")
        };
        let piece_max = if run.shares_transactions() { recipients_max } else { 1 };
        let mut until_us = 0;
        for (domain, indices) in &aside {
            let transactions = indices.len().div_ceil(piece_max);
            until_us = limits.put_off(*domain, transactions, steady, max_us).max(until_us);
        }
        let (now, due_us) = (clock::now_us(), until_us + run.lead_us);
        let mut put_off: Vec<(u16, Settled)> = Vec::new();
        for index in aside.into_iter().flat_map(|(_, indices)| indices) {
            let before = hand.chunk.state(usize::from(index));
            let mut settled = Settled::local(Outcome::Deferred, before.attempts, now, before.text);
            (settled.code, settled.possible_repeat) = (before.code, before.possible_repeat);
            (settled.due_us, settled.deferred_since_us) = (due_us, before.deferred_since_us);
            put_off.push((index, settled));
        }
        let n = put_off.len();
        run.mixer.remove(handle);
        hand.taken(n);
        run.in_flight += n;
        groups[run.group].sub(run.meta.priority, n);
        self.supply.owner.record(handle, put_off);
        state.landed(handle, n, n);
        if let Some(run) = state.jobs.get_mut(id) {
            // nothing became of them
            run.counts.outcomes -= n as u64;
        }
        until_us
    }
}

/// A chunk that is to be put off, with all who are left in it.
fn next_put_off(state: &State, id: &JobId) -> Option<(u32, Limited)> {
    let run = state.jobs.get(id).filter(|run| run.stop.is_none())?;
    let of_job = state.hands.values().filter(|hand| hand.job == *id).count();
    if of_job <= HELD_BACK_HANDS_MAX || run.mixer.queued() == run.mixer.at_hand() {
        return None;
    }
    let mut aside: Vec<_> = run
        .mixer
        .aside_by_chunk()
        .into_iter()
        .filter(|(handle, by_domain)| {
            let n: usize = by_domain.iter().map(|(_, indices)| indices.len()).sum();
            let hand = state.hands.get(handle);
            hand.is_some_and(|h| !h.solo && h.in_flight == 0 && h.queued() == n && h.unsettled == n)
        })
        .collect();
    // the oldest stay
    aside.sort_unstable_by_key(|(handle, _)| *handle);
    if aside.len() > HELD_BACK_HANDS_MAX { aside.pop() } else { None }
}
