//! Who has to wait for a rate, and who is woken when.
//!
//! Three kinds of limits, each of transactions: of one MTA (a setting, and the pace that pressure finds), of
//! one job, of one recipient domain. A pick that finds everything limited says until when, by its MTA; one
//! timer for all ([`Supply::keep_time`]) then wakes one infeed of that MTA. Whoever takes something wakes the
//! next one that waits. So there is no herd, and nobody looks at a clock while nothing is limited.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::command::DomainRunStatus;
use super::mixing::{Lanes, lanes_of};
use super::mtas::{Mta, Turn};
use super::supply::{JobRun, JobStop, State, Supply};
use crate::clock::{self, Micros, SECOND_US};
use crate::pressure::per_second::PerSecond;
use crate::pressure::rate::{Limiter, Moment};
use crate::spool::{Chunk, DomainKey, JobId, JobMeta, Owner};

/// Messages a second by domain, in lower case.
pub type DomainRates = BTreeMap<String, PerSecond>;

/// The limits of a run that belong to no job and no MTA, and its timer.
pub(super) struct Limits {
    begun: Instant,
    domains: FxHashMap<DomainKey, DomainLimit>,
    /// Those of jobs of which nothing is in hand, while their next message may not go yet.
    jobs: FxHashMap<JobId, Limiter>,
    /// Some MTA has a limit.
    pub any_mta: bool,
    /// When the timer goes off.
    armed: Option<Moment>,
}

struct DomainLimit {
    name: String,
    limiter: Limiter,
    /// When those of its recipients that were put off until now will be through.
    through_us: Micros,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            domains: FxHashMap::default(),
            jobs: FxHashMap::default(),
            any_mta: false,
            armed: None,
        }
    }
}

impl Limits {
    pub fn now(&self) -> Moment {
        Moment::since(self.begun, Instant::now())
    }

    pub fn any_domain(&self) -> bool {
        !self.domains.is_empty()
    }

    /// The domain that limits a recipient, if one does.
    pub fn limits(&self, domain: DomainKey) -> bool {
        self.domains.contains_key(&domain)
    }

    /// Until when a domain has to wait; `None`: it hasn't.
    pub fn until(&mut self, domain: DomainKey, now: Moment) -> Option<Moment> {
        self.domains.get_mut(&domain)?.limiter.may(now).err()
    }

    /// A transaction for recipients of this domain goes.
    pub fn took(&mut self, domain: DomainKey, now: Moment) {
        if let Some(limit) = self.domains.get_mut(&domain) {
            limit.limiter.take(now);
        }
    }

    /// Goes on with these; true when domains came or went.
    pub fn set_domains(&mut self, rates: &DomainRates) -> bool {
        let now = self.now();
        let keys: FxHashMap<DomainKey, (&String, PerSecond)> =
            rates.iter().map(|(name, rate)| (DomainKey::of(name), (name, *rate))).collect();
        let before = self.domains.len();
        self.domains.retain(|key, _| keys.contains_key(key));
        let mut changed = self.domains.len() != before;
        for (key, (name, rate)) in keys {
            let limit = self.domains.entry(key).or_insert_with(|| {
                changed = true;
                DomainLimit { name: name.clone(), limiter: Limiter::default(), through_us: 0 }
            });
            limit.limiter.set_rate(Some(rate), now);
        }
        changed
    }

    /// When a domain, of which so many recipients more are put off, will have come to them: for a chunk that
    /// goes back to the spool until then.
    pub fn put_off(
        &mut self,
        domain: DomainKey,
        transactions: usize,
        now_us: Micros,
        max_us: Micros,
    ) -> Micros {
        let Some(limit) = self.domains.get_mut(&domain) else { return now_us };
        let rate = limit.limiter.rate().map_or(1.0, PerSecond::as_f64);
        let begins = limit.through_us.max(now_us + PUT_OFF_US_MIN).min(now_us + max_us);
        let takes = (transactions as f64 / rate * SECOND_US as f64) as Micros;
        limit.through_us = begins.saturating_add(takes);
        begins
    }

    /// Nothing of a job is in hand now: what went of it counts for what comes of it next, in a chunk that
    /// is due later or after a pause.
    pub fn keep(&mut self, job: &JobId, mut limiter: Limiter) {
        let now = self.now();
        self.jobs.retain(|_, kept| kept.may(now).is_err());
        if limiter.may(now).is_err() {
            self.jobs.insert(job.clone(), limiter);
        }
    }

    /// The limit of a job that is taken in hand.
    pub fn of_job(&mut self, job: &JobId, rate: Option<PerSecond>) -> Limiter {
        let now = self.now();
        let mut limiter = self.jobs.remove(job).unwrap_or_default();
        limiter.set_rate(rate, now);
        limiter
    }

    /// Each domain with its limit, by name.
    pub fn domains(&self) -> Vec<(String, DomainKey, PerSecond)> {
        let of = |(key, limit): (&DomainKey, &DomainLimit)| {
            Some((limit.name.clone(), *key, limit.limiter.rate()?))
        };
        let mut all: Vec<_> = self.domains.iter().filter_map(of).collect();
        all.sort();
        all
    }
}

/// What is put off is put off for so long at least.
const PUT_OFF_US_MIN: Micros = 10 * SECOND_US;

/// The domain of a recipient that counts for limits: where the message goes.
pub(super) fn domain_of(meta: &JobMeta, address: &str) -> DomainKey {
    DomainKey::of_address(meta.test_to.as_deref().unwrap_or(address))
}

/// Of these recipients of a chunk, those of limited domains, by domain; and the others.
pub(super) fn split_limited(
    limits: &Limits,
    meta: &JobMeta,
    chunk: &Chunk,
    indices: &[u16],
) -> (Vec<(DomainKey, Vec<u16>)>, Vec<u16>) {
    let (mut limited, mut others): (BTreeMap<DomainKey, Vec<u16>>, _) = (BTreeMap::new(), Vec::new());
    for &index in indices {
        let key = chunk.address(usize::from(index)).map(|address| domain_of(meta, address));
        match key.ok().filter(|key| limits.limits(*key)) {
            Some(key) => limited.entry(key).or_default().push(index),
            None => others.push(index),
        }
    }
    (limited.into_iter().collect(), others)
}

/// The lanes of recipients (index and address) of one chunk.
pub(super) fn lanes_within<'a>(
    limits: &Limits,
    meta: &JobMeta,
    recipients: impl Iterator<Item = (u16, &'a str)>,
    piece_max: usize,
    is_elsewhere: impl Fn(DomainKey) -> bool,
) -> Lanes {
    let all_go_to = meta.test_to.as_deref().map(DomainKey::of_address).filter(|key| limits.limits(*key));
    if let Some(key) = all_go_to {
        return vec![(Some(key), recipients.map(|(index, _)| index).collect())];
    }
    let domain = |address: &'a str| address.rsplit_once('@').map_or("", |(_, domain)| domain);
    let is_limited = |key| meta.test_to.is_none() && limits.limits(key);
    lanes_of(recipients.map(|(index, address)| (index, domain(address))), piece_max, is_elsewhere, is_limited)
}

impl Turn {
    /// Its limit: the lower one of what is set, and the pace that was found.
    fn limit(&self) -> Option<PerSecond> {
        match (self.mta_rate(), self.pace) {
            (Some(rate), Some(pace)) => Some(rate.min(pace)),
            (rate, pace) => rate.or(pace),
        }
    }

    pub(super) fn apply_limit(&mut self, now: Moment) {
        let limit = self.limit();
        self.limiter.set_rate(limit, now);
    }
}

impl State {
    /// An infeed of the MTA at `at` found nothing that may go before `until`. True when the timer has to be
    /// told.
    pub(super) fn waits(&mut self, at: usize, until: Moment) -> bool {
        let turn = &mut self.mtas[at];
        turn.waits = true;
        if turn.wake_at.is_some_and(|earlier| earlier <= until) {
            return false;
        }
        turn.wake_at = Some(until);
        let is_first = self.limits.armed.is_none_or(|armed| until < armed);
        if is_first {
            self.limits.armed = Some(until);
        }
        is_first
    }

    /// Jobs that are outside their window now are let go of; true when there are some.
    pub(super) fn shut_windows(&mut self) -> bool {
        let now = clock::now_us();
        let mut any = false;
        for run in self.jobs.values_mut().filter(|run| run.stop.is_none() && !run.windows.is_open(now)) {
            run.stop = Some(JobStop::LeftAlone);
            any = true;
        }
        any
    }

    /// Domains and jobs that have a rate.
    pub(super) fn limits_status(&self) -> (Vec<DomainRunStatus>, Vec<(JobId, PerSecond, bool)>) {
        let mut waiting: FxHashMap<DomainKey, u64> = FxHashMap::default();
        if self.limits.any_domain() {
            for (key, n) in self.jobs.values().flat_map(|run| run.mixer.queued_by_domain()) {
                *waiting.entry(key).or_default() += n;
            }
        }
        let domain = |(domain, key, messages_per_second)| DomainRunStatus {
            domain,
            messages_per_second,
            waiting: waiting.get(&key).copied().unwrap_or(0),
        };
        let domains = self.limits.domains().into_iter().map(domain).collect();
        let now = self.limits.now();
        let job = |(id, run): (&JobId, &JobRun)| {
            let waits = run.place.is_some() && run.limiter.waits(now);
            Some((id.clone(), run.limiter.rate()?, waits))
        };
        (domains, self.jobs.iter().filter_map(job).collect())
    }

    /// Other domains are limited now: whoever is in hand waits in other lanes.
    fn sort_anew(&mut self) {
        let recipients_max = self.recipients_max();
        let senders_by_mta = self.mtas.iter().any(|turn| turn.mta.may_make_senders());
        let State { jobs, hands, limits, .. } = self;
        for run in jobs.values_mut() {
            let many = run.shares_transactions() || senders_by_mta && run.leaves_senders_to_mta();
            let piece_max = if many { recipients_max } else { 1 };
            for (handle, indices) in run.mixer.drain() {
                let Some(hand) = hands.get(&handle) else { panic!("chunk {handle} is not in hand") };
                let chunk = hand.chunk.clone();
                // those in hand have been read once
                let address = |&index: &u16| Some((index, chunk.address(usize::from(index)).ok()?));
                let recipients: Vec<_> = indices.iter().filter_map(address).collect();
                assert!(recipients.len() == indices.len(), "chunk {handle}: it can't be read any more");
                let mixer = &run.mixer;
                let lanes =
                    lanes_within(limits, &run.meta, recipients.into_iter(), piece_max, |d| mixer.holds(d));
                run.mixer.add(handle, lanes);
            }
        }
    }

    /// Goes on with other limits of MTAs, domains, or both.
    pub(super) fn limits_changed(&mut self) {
        let now = self.limits.now();
        self.mtas.iter_mut().for_each(|turn| turn.apply_limit(now));
        self.limits.any_mta = self.mtas.iter().any(|turn| turn.limiter.rate().is_some());
    }
}

impl<O: Owner> Supply<O> {
    /// How fast this MTA is to be fed at most, beside what its settings say; `None`: as fast as it goes. May be
    /// called at any time and often: nothing is granted by a change. An MTA that has gone is passed over.
    pub fn set_pace(&self, mta: &Arc<Mta>, pace: Option<f64>) {
        let mut state = self.lock();
        let Some(at) = state.turn_of(mta) else { return };
        state.mtas[at].pace = pace.map(PerSecond::nearest);
        state.limits_changed();
        drop(state);
        mta.paced.notify_last();
    }

    /// Takes up what settings say now of MTAs.
    pub(super) fn mta_rates_changed(&self) {
        self.lock().limits_changed();
        self.ready.notify_waiters();
    }

    /// Takes up what settings say now of domains: what is in hand is sorted anew.
    pub(super) fn set_domain_rates(&self, rates: &DomainRates) {
        let mut state = self.lock();
        if state.limits.set_domains(rates) {
            state.sort_anew();
        }
        // who waits for a domain may have been given another moment
        state.jobs.values_mut().for_each(|run| run.mixer.unpark_all());
        drop(state);
        self.ready.notify_waiters();
    }

    /// The one timer: wakes an infeed of each MTA for which something may go again. Runs until it is dropped.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let changed = self.timer.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let next = {
                let mut state = self.lock();
                let now = state.limits.now();
                for turn in &mut state.mtas {
                    if turn.wake_at.is_some_and(|at| at <= now) {
                        turn.wake_at = None;
                        turn.mta.paced.notify_last();
                    }
                }
                let next = state.mtas.iter().filter_map(|turn| turn.wake_at).min();
                state.limits.armed = next;
                next.map(|at| at.after(state.limits.begun))
            };
            match next {
                None => changed.await,
                Some(at) => drop(tokio::time::timeout_at(at.into(), changed).await),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_comes_back_in_hand_has_no_message_free() {
        let (mut limits, job) = (Limits::default(), "weekly".parse::<JobId>().expect("a name"));
        let slow = PerSecond::new(0.01);
        let mut limiter = limits.of_job(&job, slow);
        let now = limits.now();
        assert_eq!(limiter.may(now), Ok(()));
        limiter.take(now);
        limits.keep(&job, limiter);
        let mut again = limits.of_job(&job, slow);
        assert!(again.may(limits.now()).is_err());
        // a limit that is lifted meanwhile is lifted; and nothing is kept of whoever owes nothing
        limits.keep(&job, again);
        assert_eq!(limits.of_job(&job, None).may(limits.now()), Ok(()));
        limits.keep(&job, Limiter::new(slow));
        assert!(limits.jobs.is_empty());
    }
}
