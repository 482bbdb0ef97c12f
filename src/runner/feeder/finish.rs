//! Letting go: passes that have ended, jobs that are done or are to stop, refusals that are final.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::supply::{JobStop, State};
use super::Feeder;
use crate::infeed::RefusalStreak;
use crate::spool::{JobId, Owner, SpoolError};

impl<O: Owner> Feeder<O> {
    /// Ends the passes of chunks of which everybody is settled.
    pub(super) async fn finish_done(&mut self) -> Result<(), SpoolError> {
        loop {
            let Some(handle) = self.supply.lock().finished.last().copied() else { return Ok(()) };
            self.finish(handle).await?;
        }
    }

    async fn finish(&mut self, handle: u32) -> Result<(), SpoolError> {
        self.supply.owner.finish(handle).await?;
        let gone = {
            let mut state = self.supply.lock();
            state.finished.retain(|h| *h != handle);
            let Some(hand) = state.hands.remove(&handle) else { panic!("chunk {handle} is not in hand") };
            let not_sent = hand.queued();
            let job = hand.job;
            let State { hands, jobs, groups, line, .. } = &mut *state;
            let last = !hands.values().any(|h| h.job == job);
            if let Some(run) = jobs.get_mut(&job) {
                groups[run.group].sub(run.meta.priority, not_sent);
                if hand.solo {
                    run.solo.retain(|h| *h != handle);
                } else if not_sent > 0 {
                    run.mixer.remove(handle);
                }
                if !run.is_ready(hands) {
                    run.leave(line);
                }
                // what is provisional of a chunk that is let go stays pending
                run.held.retain(|held| held.handle != handle);
            }
            last.then_some(job)
        };
        if let Some(job) = gone
            && let Err(e) = self.let_go(&job).await
        {
            self.leave_alone(&job, e)?;
        }
        Ok(())
    }

    /// What is wrong with one job's files is that job's trouble: it is left alone, with the reason, and
    /// looked at again; the others go on.
    pub(super) fn leave_alone(&mut self, job: &JobId, e: SpoolError) -> Result<(), SpoolError> {
        if !e.is_of_one_job() {
            return Err(e);
        }
        let why = e.to_string();
        let known = self.supply.lock().left_alone.insert(job.clone(), why.clone());
        if known.as_ref() != Some(&why) {
            tracing::error!("job {job} is left alone: {why}");
        }
        if !self.supply.lock().hands.values().any(|h| h.job == *job) {
            self.forget(job);
        }
        self.due.remove(job);
        Ok(())
    }

    /// No chunk of the job is in hand any more.
    pub(super) async fn let_go(&mut self, job: &JobId) -> Result<(), SpoolError> {
        let owner = &self.supply.owner;
        let stop = self.supply.lock().jobs.get(job).and_then(|j| j.stop.clone());
        match stop {
            Some(JobStop::Breaker(text)) => {
                tracing::warn!("job {job} is paused by the refusal breaker: {text}");
                owner.pause(job, text.clone()).await?;
                if !self.forever {
                    self.paused.push((job.clone(), text));
                }
            }
            Some(JobStop::Requested) => {
                owner.carry_out_request(job).await?;
            }
            Some(JobStop::First) if owner.outstanding(job) == (0, 0) => {
                complete(owner, job, 5).await?;
            }
            Some(JobStop::First) => {
                let first = self.supply.lock().jobs.get(job).and_then(|j| j.meta.first).unwrap_or_default();
                let reason = format!("--first {first}: so many recipients were tried");
                owner.pause(job, reason).await?;
            }
            Some(JobStop::LeftAlone) => {}
            None if owner.outstanding(job) == (0, 0) => {
                complete(owner, job, 5).await?;
            }
            None => {}
        }
        self.forget(job);
        Ok(())
    }

    /// A job of which nothing is in hand leaves nothing behind: what comes of it later is made anew, from
    /// what the spool says then. A job of the same id may be another one.
    pub(super) fn forget(&mut self, job: &JobId) {
        let mut state = self.supply.lock();
        if let Some(mut run) = state.jobs.remove(job) {
            run.leave(&mut state.line);
            state.serials.remove(&run.serial);
            state.met.insert(job.clone(), run.counts);
            state.limits.keep(job, run.limiter);
        }
        self.due.remove(job);
    }

    /// Lets go of jobs that are to stop, once nothing of them is in flight.
    pub(super) async fn carry_out_stops(&mut self) -> Result<(), SpoolError> {
        let handles: Vec<u32> = {
            let state = self.supply.lock();
            let stopped =
                |id: &JobId| state.jobs.get(id).is_some_and(|j| j.stop.is_some() && j.in_flight == 0);
            state.hands.iter().filter(|(_, h)| stopped(&h.job)).map(|(h, _)| *h).collect()
        };
        for handle in handles {
            self.finish(handle).await?;
        }
        // those of which nothing was in hand just then
        let idle: Vec<JobId> = {
            let state = self.supply.lock();
            let in_hand: BTreeSet<&JobId> = state.hands.values().map(|h| &h.job).collect();
            let stopped = state.jobs.iter().filter(|(id, run)| run.stop.is_some() && !in_hand.contains(id));
            stopped.map(|(id, _)| id.clone()).collect()
        };
        for job in idle {
            if let Err(e) = self.let_go(&job).await {
                self.leave_alone(&job, e)?;
            }
        }
        Ok(())
    }

    /// Where nothing else of a job goes out, the refusals that wait for a longer streak are final.
    pub(super) fn refusals_of_quiet_jobs(&self) {
        let mut quiet = Vec::new();
        {
            let mut state = self.supply.lock();
            if state.standstill {
                // it is quiet because everything is: the streak goes on afterwards
                return;
            }
            let (first_reached, breaker) = (state.first_left == Some(0), state.breaker);
            let queued: Vec<JobId> =
                state.hands.values().filter(|h| h.queued() > 0).map(|h| h.job.clone()).collect();
            for (id, run) in &mut state.jobs {
                let more = self.supply.owner.next_due(id).is_some();
                // more may be due and find no room while held refusals keep chunks open: the streak then
                // goes on, without those
                let quiet_now = first_reached || run.first_left == Some(0) || !queued.contains(id);
                if run.in_flight == 0 && run.stop.is_none() && quiet_now {
                    quiet.append(&mut run.held);
                    if !more {
                        run.streak = RefusalStreak::new(breaker);
                    }
                }
            }
        }
        if !quiet.is_empty() {
            self.supply.refusals_final(quiet);
            self.supply.feed.notify_one();
        }
        let mut state = self.supply.lock();
        for run in state.jobs.values_mut() {
            if run.first_left == Some(0) && run.in_flight == 0 && run.held.is_empty() && run.stop.is_none() {
                run.stop = Some(JobStop::First);
                self.supply.feed.notify_one();
            }
        }
    }

    /// Ends every pass that is still open; nothing may be in flight. On an error the journal keeps what
    /// is left, and the next owner ends it.
    pub async fn wind_up(&mut self) -> Result<(), SpoolError> {
        let handles: Vec<u32> = self.supply.lock().hands.keys().copied().collect();
        for handle in handles {
            self.finish(handle).await?;
        }
        Ok(())
    }
}

/// Several owners of disjoint slices may end at the same moment: one of them must see the whole.
/// False when nobody could be sure yet: it is looked at again.
pub(super) async fn complete<O: Owner>(owner: &O, job: &JobId, looks: u32) -> Result<bool, SpoolError> {
    for look in 0..looks {
        if look > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        match owner.try_complete(job).await {
            Ok(true) => {
                tracing::info!("job {job} is done");
                return Ok(true);
            }
            Ok(false) => {}
            // the other one was first
            Err(e) if e.is_not_found() => return Ok(true),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}
