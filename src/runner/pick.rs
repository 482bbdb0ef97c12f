//! Who is next: a job by priority and fairness, recipients of it so that its domains stay mixed.
//!
//! Everything here happens under the supply's lock, for each transaction: what is done costs the
//! logarithm of the jobs in hand, and of the domains of one job.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::hand::Hand;
use super::limits::{Limits, domain_of, split_limited};
use super::line::Line;
use super::mtas::{Mta, Target, may_take, took};
use super::pack::Rendering;
use super::room::{Claimant, InHand, JOB_LOW_WATER, LOW_WATER};
use super::supply::{JobRun, State, Supply};
use crate::infeed::Dsn;
use crate::pressure::rate::Moment;
use crate::spool::{Chunk, JobDue, JobId, JobMeta, Owner};

/// Recipients chosen for one transaction, not yet rendered.
pub(super) struct Pick {
    pub handle: u32,
    pub indices: Vec<u16>,
    pub chunk: Arc<Chunk>,
    pub meta: Arc<JobMeta>,
    pub template: Arc<Rendering>,
    pub dsn: Option<Dsn>,
    pub solo: bool,
    /// The MTA makes the senders, if there are several recipients.
    pub by_mta: bool,
}

impl<O: Owner> Supply<O> {
    /// `xverp`: the MTA makes senders itself where that is asked of it.
    pub(super) fn pick(&self, mta: &Arc<Mta>, recipients_max: usize, xverp: bool) -> Option<Pick> {
        let mut state = self.lock();
        let left = state.first_left.unwrap_or(u64::MAX);
        if left == 0 || state.standstill {
            return None;
        }
        let weighed = if state.weighted && !mta.sink { state.turn_of(mta) } else { None };
        let limited = if state.limits.any_mta { state.turn_of(mta) } else { None };
        let State {
            mtas, line, serials, jobs, groups, hands, kept_waiting, first_left, moment, limits, ..
        } = &mut *state;
        // looked at once, and only where something is limited
        let mut clock: Option<Moment> = None;
        let mut until: Option<Moment> = None;
        let anything = weighed.is_none_or(|at| may_take(mtas, at, Instant::now()));
        let mut last = None;
        while let Some(place) = line.next(last) {
            last = Some(place);
            let job = serials.get(&place.serial).and_then(|id| jobs.get_mut(id));
            let Some(job) = job else { panic!("job {} in line is not in hand", place.serial) };
            let group = &mut groups[job.group];
            if job.stop.is_some() || job.first_left == Some(0) || !group.target.admits(mta) {
                continue;
            }
            if !anything && group.target == Target::Any {
                *kept_waiting = true;
                continue;
            }
            if job.limiter.rate().is_some() {
                let now = *clock.get_or_insert_with(|| limits.now());
                if let Err(then) = job.limiter.may(now) {
                    until = Some(until.map_or(then, |earliest| earliest.min(then)));
                    continue;
                }
            }
            if let Some(turn) = limited.map(|at| &mut mtas[at]) {
                let now = *clock.get_or_insert_with(|| limits.now());
                if let Err(then) = turn.limiter.may(now) {
                    turn.stands_aside();
                    until = Some(until.map_or(then, |earliest| earliest.min(then)));
                    break;
                }
            }
            let by_mta = xverp && job.leaves_senders_to_mta();
            let max = if by_mta || job.shares_transactions() { recipients_max } else { 1 };
            let left = left.min(job.first_left.unwrap_or(u64::MAX));
            let max = max.min(usize::try_from(left).unwrap_or(usize::MAX));
            let taken = if limits.any_domain() {
                let now = *clock.get_or_insert_with(|| limits.now());
                job.take_allowed(hands, max, limits, now)
            } else {
                job.take(hands, max).ok_or(None)
            };
            let (handle, mut indices) = match taken {
                Ok(taken) => taken,
                Err(then) => {
                    until = until.into_iter().chain(then).min();
                    continue;
                }
            };
            if let Some(now) = clock {
                job.limiter.take(now);
                if let Some(at) = limited {
                    mtas[at].limiter.take(now);
                }
            }
            if by_mta && let Some(hand) = hands.get_mut(&handle) {
                job.part_with_odd_ones(handle, hand, &mut indices, limits);
            }
            job.start = line.served(place, indices.len());
            job.place = None;
            if let Some(left) = &mut job.first_left {
                *left -= indices.len() as u64;
            }
            if job.mixer.is_dry() && !job.exhausted {
                // the feeder is behind: it would be one domain after the other
                job.primed = false;
                self.feed.notify_one();
            }
            if job.is_ready(hands) {
                job.enter(line);
            }
            let Some(hand) = hands.get_mut(&handle) else { panic!("chunk {handle} is not in hand") };
            *moment += 1;
            hand.note_taken(&indices, *moment);
            job.in_flight += indices.len();
            // only on crossing it, since a wake-up costs a context switch a message: below it, the
            // feeder has claimed all that it may, and hears of ended chunks from `after_landing`
            let was_above = group.queued_of(job.meta.priority) >= LOW_WATER;
            group.sub(job.meta.priority, indices.len());
            let crossed = was_above && group.queued_of(job.meta.priority) < LOW_WATER;
            if crossed || (!job.feed_asked && job.is_low()) {
                job.feed_asked = true;
                self.feed.notify_one();
            }
            if group.target == Target::Any
                && let Some(at) = weighed
            {
                took(&mut mtas[at], indices.len());
                if std::mem::take(kept_waiting) {
                    self.ready.notify_waiters();
                }
            }
            if let Some(left) = first_left {
                *left -= indices.len() as u64;
            }
            if clock.is_some() {
                // whoever waits next looks whether there is more
                let waits =
                    mtas.iter_mut().find(|turn| Arc::ptr_eq(&turn.mta, mta)).map(|turn| &mut turn.waits);
                if waits.is_some_and(std::mem::take) {
                    mta.paced.notify_last();
                }
            }
            return Some(Pick {
                handle,
                chunk: hand.chunk.clone(),
                solo: hand.solo,
                indices,
                meta: job.meta.clone(),
                template: job.template.clone(),
                dsn: job.dsn.clone(),
                by_mta,
            });
        }
        if let Some(until) = until
            && let Some(at) = state.turn_of(mta)
            && state.waits(at, until)
        {
            self.timer.notify_one();
        }
        None
    }
}

impl JobRun {
    /// Several recipients may share a transaction.
    pub fn shares_transactions(&self) -> bool {
        self.template.is_shared() && self.template.sender_is_shared() && self.meta.test_to.is_none()
    }

    /// Whether something of it can be taken now.
    pub fn is_ready(&self, hands: &FxHashMap<u32, Hand>) -> bool {
        let solo_ready = |handle| hands.get(handle).is_some_and(Hand::is_ready);
        self.first_left != Some(0) && (self.mixer.queued() > 0 || self.solo.iter().any(solo_ready))
    }

    /// More of it should be in hand, as far as there is any.
    pub fn is_low(&self) -> bool {
        self.mixer.is_low() || self.mixer.at_hand() < JOB_LOW_WATER as u64
    }

    /// Something of it is ready.
    pub fn enter(&mut self, line: &mut Line) {
        if self.primed && self.place.is_none() && self.first_left != Some(0) {
            self.place = Some(line.enter(self.meta.priority, self.start, self.serial));
        }
    }

    /// Nothing of it is ready.
    pub fn leave(&mut self, line: &mut Line) {
        if let Some(place) = self.place.take() {
            line.leave(place);
        }
    }

    /// Up to `max` recipients of one chunk; they are in flight from now on.
    fn take(&mut self, hands: &mut FxHashMap<u32, Hand>, max: usize) -> Option<(u32, Vec<u16>)> {
        for &handle in &self.solo {
            if let Some(index) = hands.get_mut(&handle).and_then(Hand::take_alone) {
                return Some((handle, vec![index]));
            }
        }
        let (handle, indices) = self.mixer.take(max)?;
        let Some(hand) = hands.get_mut(&handle) else { panic!("chunk {handle} is not in hand") };
        hand.taken(indices.len());
        Some((handle, indices))
    }

    /// The same, of domains that need not wait; the others are passed over. If there is nobody else: the moment
    /// until when they wait.
    fn take_allowed(
        &mut self,
        hands: &mut FxHashMap<u32, Hand>,
        max: usize,
        limits: &mut Limits,
        now: Moment,
    ) -> Result<(u32, Vec<u16>), Option<Moment>> {
        let mut until: Option<Moment> = None;
        for &handle in &self.solo {
            let Some(hand) = hands.get_mut(&handle) else { continue };
            let Some(index) = hand.alone() else { continue };
            let domain = hand.chunk.address(usize::from(index)).ok().map(|a| domain_of(&self.meta, a));
            if let Some(then) = domain.and_then(|domain| limits.until(domain, now)) {
                until = Some(until.map_or(then, |earliest| earliest.min(then)));
            } else if let Some(index) = hand.take_alone() {
                domain.into_iter().for_each(|domain| limits.took(domain, now));
                return Ok((handle, vec![index]));
            }
        }
        match self.mixer.take_allowed(max, now, |domain| limits.until(domain, now)) {
            Some((handle, indices, domain)) => {
                let Some(hand) = hands.get_mut(&handle) else { panic!("chunk {handle} is not in hand") };
                hand.taken(indices.len());
                domain.into_iter().for_each(|domain| limits.took(domain, now));
                Ok((handle, indices))
            }
            None => Err(until.into_iter().chain(self.mixer.waits_until()).min()),
        }
    }

    /// Recipients of a chunk go out again: those of limited domains wait for their turn.
    pub fn put_back(&mut self, handle: u32, chunk: &Chunk, indices: &[u16], limits: &Limits) {
        if !limits.any_domain() {
            return self.mixer.put_back(handle, indices);
        }
        let (limited, others) = split_limited(limits, &self.meta, chunk, indices);
        if !limited.is_empty() {
            self.mixer.add(handle, limited.into_iter().map(|(key, indices)| (Some(key), indices)).collect());
        }
        if !others.is_empty() {
            self.mixer.put_back(handle, &others);
        }
    }
}

impl State {
    /// The job of which a chunk is claimed next, with its group; `is_due` looks into the spool.
    pub fn choose<'a>(
        &self,
        due: impl Iterator<Item = &'a (JobDue, usize)>,
        is_due: impl Fn(&JobId) -> bool,
    ) -> Option<&'a (JobDue, usize)> {
        let mut all = InHand::default();
        let mut by_tier: HashMap<(usize, u8), InHand> = HashMap::new();
        let mut by_job: HashMap<&JobId, usize> = HashMap::new();
        for hand in self.hands.values() {
            let bytes = hand.chunk.bytes().len();
            all.add(bytes);
            if let Some(run) = self.jobs.get(&hand.job) {
                by_tier.entry((run.group, run.meta.priority)).or_default().add(bytes);
            }
            *by_job.entry(&hand.job).or_default() += 1;
        }
        let mut aside_of: HashMap<(usize, u8), usize> = HashMap::new();
        if self.limits.any_domain() {
            for run in self.jobs.values() {
                let aside = run.mixer.queued() - run.mixer.at_hand();
                *aside_of.entry((run.group, run.meta.priority)).or_default() += aside as usize;
            }
        }
        let aside = |group, priority| aside_of.get(&(group, priority)).copied().unwrap_or(0);
        let claimant = |(d, group): &(JobDue, usize)| {
            let run = self.jobs.get(&d.job);
            let priority = d.meta.priority;
            Claimant {
                priority,
                hands: by_job.get(&d.job).copied().unwrap_or(0),
                queued: run.map_or(0, |run| run.mixer.at_hand() as usize),
                tier: by_tier.get(&(*group, priority)).copied().unwrap_or_default(),
                tier_queued: self.groups[*group].queued_of(priority).saturating_sub(aside(*group, priority)),
                claimed_last: self.claimed_last.get(&d.job).copied().unwrap_or(0),
            }
        };
        let stops = |run: &JobRun| run.stop.is_some() || run.first_left == Some(0);
        let stopped = |id: &JobId| self.jobs.get(id).is_some_and(stops);
        let mixed_badly = |id: &JobId| {
            let want = self.jobs.get(id).and_then(|run| run.mixer.want());
            want.is_some_and(|(_, needed)| needed)
        };
        let wanted = due.filter(|(d, _)| !stopped(&d.job)).map(|d| (claimant(d), d));
        wanted
            .filter(|(c, d)| c.wants(all, || mixed_badly(&d.0.job)) && is_due(&d.0.job))
            .min_by_key(|(c, _)| c.rank())
            .map(|(_, d)| d)
    }
}
