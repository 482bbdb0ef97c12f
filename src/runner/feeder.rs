//! Claims chunks ahead of the infeeds, ends the passes of those that are done, and watches the spool for
//! new jobs and for requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::DrainConfig;
use super::hand::Hand;
use super::mixing::{Mixer, lanes_of};
use super::mtas::Target;
use super::pack::Rendering;
use super::supply::{JobRun, JobStop, State, Supply};
use crate::clock;
use crate::infeed::{Dsn, RefusalStreak};
use crate::intake::SuppressionList;
use crate::message::{CompileOptions, Template, xtext};
use crate::spool::{Claim, Claimed, JobDue, JobId, JobMeta, Outcome, Owner, Settled, SpoolError};

/// How often the spool is looked at for new jobs and requests.
const SCAN_EVERY: Duration = Duration::from_millis(500);
/// The wait after an error of the disk.
const ERROR_WAIT: Duration = Duration::from_secs(1);
/// How long the disk may fail before the run gives up.
const ERRORS_WAIT: Duration = Duration::from_secs(30);

/// The feeding side of one run.
pub(super) struct Feeder<O: Owner> {
    pub supply: Arc<Supply<O>>,
    pub only_job: Option<JobId>,
    forever: bool,
    real_into_sink: Vec<JobId>,
    suppress: HashMap<JobId, SuppressionList>,
    /// With the group that each is in.
    due: BTreeMap<JobId, (JobDue, usize)>,
    /// Jobs paused by the breaker in this run.
    pub paused: Vec<(JobId, String)>,
    /// Of the jobs that are left alone, those that are for another MTA than this run's.
    other_target: BTreeSet<JobId>,
    /// Jobs without anything to do that were looked at for their end.
    looked_done: BTreeSet<JobId>,
    scanned: Option<Instant>,
    failing: Option<Instant>,
    /// What the run gave up on.
    pub failed: Option<SpoolError>,
}

impl<O: Owner> Feeder<O> {
    pub fn new(supply: Arc<Supply<O>>, config: &DrainConfig) -> Self {
        Self {
            supply,
            only_job: config.only_job.clone(),
            forever: config.forever,
            real_into_sink: config.real_into_sink.clone(),
            suppress: HashMap::new(),
            due: BTreeMap::new(),
            paused: Vec::new(),
            other_target: BTreeSet::new(),
            looked_done: BTreeSet::new(),
            scanned: None,
            failing: None,
            failed: None,
        }
    }

    /// Feeds until nothing more is due (or `--first` is reached), then ends the supply; or until somebody
    /// else has ended it. Must not be cancelled: a claim under way would stay open.
    pub async fn run(&mut self) {
        while !self.is_over() {
            match self.step().await {
                Ok(true) if !self.forever => return self.supply.end(),
                Ok(_) => {
                    let feed = self.supply.feed.notified();
                    // woken by the infeeds, or to scan
                    if tokio::time::timeout(SCAN_EVERY, feed).await.is_err() {
                        tracing::trace!("nothing asked for; the spool is looked at again");
                    }
                    self.failing = None;
                }
                Err(e) => {
                    let since = *self.failing.get_or_insert_with(Instant::now);
                    tracing::error!("{e}");
                    self.supply.progress.set_note(Some(e.to_string()));
                    if since.elapsed() > ERRORS_WAIT && !self.forever {
                        self.failed = Some(e);
                        return self.supply.end();
                    }
                    tokio::time::sleep(ERROR_WAIT).await;
                    continue;
                }
            }
        }
    }

    /// Whether this run drains a job, or would as soon as what it was left alone for is mended.
    pub fn drains(&self, job: &JobId) -> bool {
        self.only_job.as_ref().is_none_or(|only| only == job) && !self.other_target.contains(job)
    }

    fn is_over(&self) -> bool {
        *self.supply.over.borrow()
    }

    /// One round; true when there is nothing left to do.
    async fn step(&mut self) -> Result<bool, SpoolError> {
        self.finish_done().await?;
        self.carry_out_stops().await?;
        let nudged = self.supply.nudged.swap(false, Relaxed);
        if nudged || self.scanned.is_none_or(|at| at.elapsed() >= SCAN_EVERY) {
            self.scan().await?;
        }
        let claimed = self.claim_more().await;
        self.prime();
        let mut claimed = claimed?;
        if !claimed && !self.forever && self.supply.lock().hands.is_empty() {
            // before this is called the end: what has become due since
            self.scan().await?;
            claimed = self.claim_more().await?;
            self.prime();
        }
        self.refusals_of_quiet_jobs();
        if self.supply.lock().queued() > 0 {
            // whoever found the journal closed tries again
            self.supply.ready.notify_waiters();
        }
        let done = {
            let state = self.supply.lock();
            let in_flight: usize = state.hands.values().map(|h| h.in_flight).sum();
            let first_reached = state.first_left == Some(0) && in_flight == 0;
            first_reached || (!claimed && state.hands.is_empty() && state.finished.is_empty())
        };
        Ok(done)
    }

    async fn scan(&mut self) -> Result<(), SpoolError> {
        self.scanned = Some(Instant::now());
        let found = self.supply.owner.scan().await?;
        let standstill = self.supply.owner.standstill()?.is_some();
        {
            let mut state = self.supply.lock();
            state.standstill = standstill;
            let active: BTreeSet<&JobId> = found.iter().map(|job| &job.job).collect();
            self.looked_done.retain(|id| active.contains(id));
            state.left_alone.retain(|id, _| active.contains(id));
            state.met.retain(|id, _| active.contains(id));
        }
        self.due.clear();
        self.other_target.clear();
        for job in found {
            if self.only_job.as_ref().is_some_and(|only| *only != job.job) {
                continue;
            }
            let target = Target::of(&job.job, &job.meta, &self.real_into_sink);
            if !self.supply.lock().is_served(&target) {
                self.not_ours(&job, &target).await?;
                continue;
            }
            if let Some(run) = self.supply.lock().jobs.get_mut(&job.job) {
                run.accept_refusals = job.accept_refusals;
                if job.requested {
                    run.stop.get_or_insert(JobStop::Requested);
                }
            } else if job.requested && self.supply.owner.carry_out_request(&job.job).await? {
                continue;
            }
            let idle =
                job.due + job.later == 0 && !job.requested && !self.supply.lock().jobs.contains_key(&job.job);
            if idle && self.looked_done.insert(job.job.clone()) {
                // its last pass was ended by a recovery, or by a process that died then
                complete(&self.supply.owner, &job.job).await?;
            }
            let group = self.supply.lock().group_of(target);
            self.due.insert(job.job.clone(), (job, group));
        }
        Ok(())
    }

    /// No MTA of this run may take the job: it is left alone, but for what commands want of it.
    async fn not_ours(&mut self, job: &JobDue, target: &Target) -> Result<(), SpoolError> {
        let id = &job.job;
        let in_hand = {
            let mut state = self.supply.lock();
            let why = target.why_not(&state);
            state.left_alone.insert(id.clone(), why);
            // what waits for an MTA that was given up is this run's, and unfinished
            if !target.was_given_up(&state) {
                self.other_target.insert(id.clone());
            }
            let run = state.jobs.get_mut(id);
            run.map(|run| run.stop.get_or_insert(JobStop::LeftAlone)).is_some()
        };
        if job.requested && !in_hand {
            self.supply.owner.carry_out_request(id).await?;
        }
        Ok(())
    }

    /// Claims while there is room and need; true when something was claimed.
    async fn claim_more(&mut self) -> Result<bool, SpoolError> {
        let mut any = false;
        self.refresh_waiting();
        loop {
            let chosen = {
                let state = self.supply.lock();
                if state.first_left == Some(0) || state.standstill {
                    break;
                }
                let due = self.due.values().filter(|(d, _)| !d.requested);
                state.choose(due, |job| self.supply.owner.next_due(job).is_some()).cloned()
            };
            let Some((job, group)) = chosen.filter(|_| !self.is_over()) else { break };
            any |= self.claim(&job, group).await?;
        }
        Ok(any)
    }

    /// All is in hand that there is room for: jobs go on with what they have.
    fn prime(&self) {
        let mut state = self.supply.lock();
        let State { jobs, hands, line, .. } = &mut *state;
        for run in jobs.values_mut() {
            // where there is no room, the end of a chunk brings the feeder back
            run.feed_asked = run.is_low();
            run.exhausted = run.feed_asked;
            if !run.primed && run.is_ready(hands) {
                run.primed = true;
                run.enter(line);
            }
        }
    }

    /// Tells the jobs in hand that run low what waits of them.
    fn refresh_waiting(&self) {
        for (id, run) in &mut self.supply.lock().jobs {
            if run.is_low() {
                run.mixer.set_waiting(self.supply.owner.waiting(id));
            }
        }
    }

    async fn claim(&mut self, due: &JobDue, group: usize) -> Result<bool, SpoolError> {
        let job = &due.job;
        if let Err(why) = self.prepare(due, group).await? {
            let known = self.supply.lock().left_alone.insert(job.clone(), why.clone());
            if known.as_ref() != Some(&why) {
                tracing::error!("job {job} is left alone: {why}");
            }
            self.due.remove(job);
            if let Some(run) = self.supply.lock().jobs.get_mut(job) {
                run.stop.get_or_insert(JobStop::LeftAlone);
            }
            return Ok(false);
        }
        let owner = &self.supply.owner;
        let class = self.supply.lock().jobs.get(job).and_then(|run| run.mixer.want()).map(|(class, _)| class);
        let name = class.and_then(|class| owner.next_due_of(job, class));
        let Some(name) = name.or_else(|| owner.next_due(job)) else { return Ok(false) };
        match self.supply.owner.claim(job, name).await? {
            Claim::Claimed(claimed) => {
                self.take_in_hand(claimed, due);
                Ok(true)
            }
            Claim::PutAside => {
                if !self.supply.lock().hands.values().any(|h| h.job == *job) {
                    self.let_go(job).await?;
                }
                Ok(true)
            }
            Claim::Gone => {
                self.due.remove(job);
                Ok(false)
            }
        }
    }

    /// Compiles the job's message and reads its suppression list; the reason when it can't be drained.
    async fn prepare(&mut self, due: &JobDue, group: usize) -> Result<Result<(), String>, SpoolError> {
        let job = &due.job;
        if let Some(path) = &due.meta.suppress {
            let list = match self.suppress.remove(job) {
                Some(mut list) => list.reload_if_changed().map(|_| list),
                None => SuppressionList::load(path),
            };
            match list {
                Ok(list) => drop(self.suppress.insert(job.clone(), list)),
                Err(e) => return Ok(Err(e.to_string())),
            }
        }
        if self.supply.lock().jobs.contains_key(job) {
            return Ok(Ok(()));
        }
        let template = match self.rendering(due).await? {
            Ok(rendering) => Arc::new(rendering),
            Err(why) => return Ok(Err(why)),
        };
        let first_left = match due.meta.first {
            Some(_) => self.supply.owner.first_left(job).await?,
            None => None,
        };
        let mut mixer = Mixer::default();
        mixer.set_waiting(self.supply.owner.waiting(job));
        let mut state = self.supply.lock();
        let serial = state.next_serial;
        state.next_serial += 1;
        let run = JobRun {
            group,
            serial,
            place: None,
            primed: false,
            exhausted: false,
            start: 0,
            mixer,
            solo: Default::default(),
            feed_asked: false,
            meta: due.meta.clone(),
            template,
            dsn: dsn_of(&due.meta),
            accept_refusals: due.accept_refusals,
            streak: RefusalStreak::new(state.breaker),
            held: Vec::new(),
            stop: None,
            in_flight: 0,
            counts: state.progress_of(job),
            first_left,
        };
        state.left_alone.remove(job);
        state.jobs.insert(job.clone(), run);
        state.serials.insert(serial, job.clone());
        Ok(Ok(()))
    }

    /// What makes the job's messages; the reason when it can't.
    async fn rendering(&self, due: &JobDue) -> Result<Result<Rendering, String>, SpoolError> {
        let owner = &self.supply.owner;
        if due.meta.pack.is_some() {
            return match owner.pack_content(&due.job).await {
                Ok(content) => Ok(Ok(Rendering::pack(due.job.clone(), due.meta.clone(), content))),
                // it is that pack's damage alone
                Err(e @ SpoolError::Damaged { .. }) => Ok(Err(e.to_string())),
                Err(e) => Err(e),
            };
        }
        let raw = match owner.message(&due.job).await {
            Err(e @ SpoolError::Damaged { .. }) => return Ok(Err(e.to_string())),
            raw => raw?,
        };
        let template = compile(&raw, &due.meta);
        Ok(template
            .map(|t| Rendering::Job(Box::new(t)))
            .map_err(|e| format!("its message can't be compiled: {e}")))
    }

    fn take_in_hand(&self, claimed: Claimed, due: &JobDue) {
        let now = clock::now_us();
        let list = self.suppress.get(&due.job);
        let mut unreadable_or_suppressed: Vec<(u16, Settled)> = Vec::new();
        let mut wanted: Vec<(u16, &str)> = Vec::with_capacity(claimed.chunk.len());
        for i in 0..claimed.chunk.len() {
            let index = i as u16;
            match claimed.chunk.recipient(i) {
                Err(reason) => {
                    unreadable_or_suppressed
                        .push((index, Settled::local(Outcome::Quarantined, 0, now, reason)));
                }
                Ok(r) if list.is_some_and(|l| l.contains(r.address)) => {
                    let said = "it is in the suppression list";
                    let s = Settled::local(Outcome::Suppressed, r.state.attempts, now, said);
                    unreadable_or_suppressed.push((index, s));
                }
                Ok(r) => wanted.push((index, r.address.rsplit_once('@').map_or("", |(_, d)| d))),
            }
        }
        let handle = claimed.handle;
        let mut state = self.supply.lock();
        let recipients_max = state.recipients_max();
        let State { jobs, hands, groups, line, finished, .. } = &mut *state;
        let Some(run) = jobs.get_mut(&due.job) else { panic!("job {} is not in hand", due.job) };
        let indices = wanted.iter().map(|w| w.0);
        let hand = Hand::new(due.job.clone(), claimed.chunk.clone(), claimed.solo, indices);
        if claimed.solo {
            run.solo.push_back(handle);
        } else {
            let piece_max = if run.shares_transactions() { recipients_max } else { 1 };
            let lanes = lanes_of(wanted.iter().copied(), piece_max, |domain| run.mixer.holds(domain));
            run.mixer.add(handle, lanes);
        }
        run.mixer.set_waiting(self.supply.owner.waiting(&due.job));
        run.primed |= !run.mixer.want().is_some_and(|(_, needed)| needed);
        run.counts.outcomes += unreadable_or_suppressed.len() as u64;
        for (_, s) in &unreadable_or_suppressed {
            self.supply.progress.count(s.outcome, 1);
        }
        if !unreadable_or_suppressed.is_empty() {
            self.supply.owner.record(handle, unreadable_or_suppressed);
        }
        groups[run.group].add(run.meta.priority, hand.queued());
        if hand.queued() > 0 {
            run.enter(line);
        } else {
            finished.push(handle);
        }
        hands.insert(handle, hand);
        drop(state);
        self.supply.ready.notify_waiters();
    }

    /// Ends the passes of chunks of which everybody is settled.
    async fn finish_done(&mut self) -> Result<(), SpoolError> {
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
                run.held.retain(|(h, _, _)| *h != handle);
            }
            last.then_some(job)
        };
        if let Some(job) = gone {
            self.let_go(&job).await?;
        }
        Ok(())
    }

    /// No chunk of the job is in hand any more.
    async fn let_go(&mut self, job: &JobId) -> Result<(), SpoolError> {
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
            Some(JobStop::First) if owner.outstanding(job) == (0, 0) => complete(owner, job).await?,
            Some(JobStop::First) => {
                let first = self.supply.lock().jobs.get(job).and_then(|j| j.meta.first).unwrap_or_default();
                let reason = format!("--first {first}: so many recipients were tried");
                owner.pause(job, reason).await?;
            }
            Some(JobStop::LeftAlone) => {}
            None if owner.outstanding(job) == (0, 0) => {
                complete(owner, job).await?;
            }
            // more of it comes at once: it keeps its turn and its template
            None if owner.next_due(job).is_some() => return Ok(()),
            None => {}
        }
        let mut state = self.supply.lock();
        if let Some(mut run) = state.jobs.remove(job) {
            run.leave(&mut state.line);
            state.serials.remove(&run.serial);
            state.met.insert(job.clone(), run.counts);
        }
        self.suppress.remove(job);
        self.due.remove(job);
        Ok(())
    }

    /// Lets go of jobs that are to stop, once nothing of them is in flight.
    async fn carry_out_stops(&mut self) -> Result<(), SpoolError> {
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
            self.let_go(&job).await?;
        }
        Ok(())
    }

    /// Where nothing else of a job goes out, the refusals that wait for a longer streak are final.
    fn refusals_of_quiet_jobs(&self) {
        let mut quiet = Vec::new();
        {
            let mut state = self.supply.lock();
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
async fn complete<O: Owner>(owner: &O, job: &JobId) -> Result<(), SpoolError> {
    for _ in 0..5 {
        match owner.try_complete(job).await {
            Ok(true) => {
                tracing::info!("job {job} is done");
                return Ok(());
            }
            Ok(false) => tokio::time::sleep(Duration::from_millis(50)).await,
            // the other one was first
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn compile(raw: &[u8], meta: &JobMeta) -> Result<Template, crate::message::MessageError> {
    let domain = meta.sender.rsplit_once('@').map_or("localhost", |(_, d)| d);
    Template::compile(
        raw,
        &CompileOptions {
            merge: meta.merge,
            columns: &meta.columns,
            job: &meta.id,
            submitted_us: meta.submitted_us,
            message_id_domain: domain,
            verp: meta.verp.as_deref(),
            sender: Some(&meta.sender),
            allow_placeholders: meta.literal,
        },
    )
}

fn dsn_of(meta: &JobMeta) -> Option<Dsn> {
    (meta.notify.is_some() || meta.ret.is_some()).then(|| Dsn {
        ret: meta.ret.clone(),
        envid: Some(xtext(&meta.id)),
        notify: meta.notify.clone(),
    })
}
