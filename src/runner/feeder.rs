//! Claims chunks ahead of the infeeds, ends the passes of those that are done, and watches the spool for
//! new jobs and for requests.

mod claim;
mod finish;
mod pacing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::DrainConfig;
use super::mtas::Target;
use super::supply::{JobStop, State, Supply};
use crate::clock::Micros;
use crate::intake::SuppressionList;
use crate::pressure::window::Windows;
use crate::spool::{JobDue, JobId, Owner, SpoolError};

use finish::complete;

/// How often the spool is looked at for new jobs and requests.
const SCAN_EVERY: Duration = Duration::from_millis(500);
/// Why a run that was asked to end leaves a job.
const IS_NEW: &str = "it came after the run was asked to drain and end: the next one takes it up";
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
    addresses_are_meant: bool,
    suppress: HashMap<JobId, SuppressionList>,
    /// With the group that each is in.
    due: BTreeMap<JobId, (JobDue, usize)>,
    /// Jobs paused by the breaker in this run.
    pub paused: Vec<(JobId, String)>,
    /// Of the jobs that are left alone, those that are for another MTA than this run's.
    other_target: BTreeSet<JobId>,
    /// Jobs without anything to do that were looked at for their end.
    looked_done: BTreeSet<JobId>,
    /// Of them, those that were looked through for retry chunks that are missing: once.
    looked_whole: BTreeSet<JobId>,
    /// As each job has them, and as they are read.
    windows: HashMap<JobId, (Vec<String>, Arc<Windows>)>,
    /// Jobs that wait for their window.
    shut: BTreeSet<JobId>,
    /// Jobs of which chunks were put off for a domain's rate, and until when.
    put_off: BTreeMap<JobId, Micros>,
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
            addresses_are_meant: config.addresses_are_meant,
            suppress: HashMap::new(),
            due: BTreeMap::new(),
            paused: Vec::new(),
            other_target: BTreeSet::new(),
            looked_done: BTreeSet::new(),
            looked_whole: BTreeSet::new(),
            windows: HashMap::new(),
            shut: BTreeSet::new(),
            put_off: BTreeMap::new(),
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
                Ok(true) if !self.waits_for_more() => return self.supply.end(),
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

    /// Goes on when nothing is due.
    fn waits_for_more(&self) -> bool {
        self.forever && self.supply.drains_since().is_none()
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
        claimed |= self.put_off_limited().await?;
        if !claimed && !self.waits_for_more() && self.supply.lock().hands.is_empty() {
            // before this is called the end: what has become due since
            self.scan().await?;
            claimed = self.claim_more().await?;
            self.prime();
        }
        self.refusals_of_quiet_jobs();
        let done = {
            let state = self.supply.lock();
            let in_flight: usize = state.hands.values().map(|h| h.in_flight).sum();
            let first_reached = state.first_left == Some(0) && in_flight == 0;
            let idle = !claimed && state.hands.is_empty() && state.finished.is_empty();
            first_reached || (idle && self.put_off.is_empty())
        };
        Ok(done)
    }

    async fn scan(&mut self) -> Result<(), SpoolError> {
        self.scanned = Some(Instant::now());
        let found = self.supply.owner.scan().await?;
        let standstill = self.supply.owner.standstill()?.is_some();
        {
            let mut state = self.supply.lock();
            if std::mem::replace(&mut state.standstill, standstill) && !standstill {
                self.supply.ready.notify_waiters();
            }
            let active: BTreeSet<&JobId> = found.iter().map(|job| &job.job).collect();
            self.looked_done.retain(|id| active.contains(id));
            self.looked_whole.retain(|id| active.contains(id));
            state.left_alone.retain(|id, _| active.contains(id));
            state.met.retain(|id, _| active.contains(id));
            state.claimed_last.retain(|id, _| active.contains(id));
            self.suppress.retain(|id, _| active.contains(id));
            self.windows.retain(|id, _| active.contains(id));
            self.shut.retain(|id| active.contains(id));
            self.put_off.retain(|id, _| active.contains(id));
            state.unreadable.retain(|id, _| active.contains(id));
            state.unreadable.extend(self.supply.owner.unreadable());
            let State { left_alone, unreadable, .. } = &mut *state;
            let ours = |id: &JobId| self.only_job.as_ref().is_none_or(|only| only == id);
            unreadable.retain(|id, _| ours(id));
            left_alone.extend(unreadable.clone());
        }
        self.due.clear();
        self.other_target.clear();
        for job in found {
            if self.only_job.as_ref().is_some_and(|only| *only != job.job) {
                continue;
            }
            let target = Target::of(&job.job, &job.meta, &self.real_into_sink, self.addresses_are_meant);
            if !self.supply.lock().is_served(&target) {
                let why = target.why_not(&self.supply.lock());
                self.not_ours(&job, Some(&target), why).await?;
                continue;
            }
            if self.supply.drains_since().is_some_and(|since| job.meta.submitted_us > since) {
                self.not_ours(&job, None, IS_NEW.to_owned()).await?;
                continue;
            }
            if !self.pace(&job).await? {
                continue;
            }
            if let Some(run) = self.supply.lock().jobs.get_mut(&job.job) {
                run.accept_refusals = job.accept_refusals;
                if job.requested {
                    run.stop.get_or_insert(JobStop::Requested);
                }
            } else if job.requested {
                match self.supply.owner.carry_out_request(&job.job).await {
                    Ok(false) => {}
                    Ok(true) => continue,
                    Err(e) => {
                        self.leave_alone(&job.job, e)?;
                        continue;
                    }
                }
            }
            let idle =
                job.due + job.later == 0 && !job.requested && !self.supply.lock().jobs.contains_key(&job.job);
            if idle && self.looked_done.insert(job.job.clone()) {
                // its last pass was ended by a recovery, or by a process that died then
                match complete(&self.supply.owner, &job.job, 1).await {
                    Ok(true) => {}
                    // somebody has it in hand just now
                    Ok(false) if !self.looked_whole.insert(job.job.clone()) => {
                        self.looked_done.remove(&job.job);
                    }
                    Ok(false) => match self.supply.owner.find_missing(&job.job).await {
                        Ok(()) => drop(self.looked_done.remove(&job.job)),
                        Err(e) => {
                            self.supply.lock().unreadable.insert(job.job.clone(), e.to_string());
                            self.leave_alone(&job.job, e)?;
                        }
                    },
                    Err(e) => self.leave_alone(&job.job, e)?,
                }
            }
            let group = self.supply.lock().group_of(target);
            self.due.insert(job.job.clone(), (job, group));
        }
        Ok(())
    }

    /// The job is left alone, but for what commands want of it: no MTA of this run may take it (`target`), or it
    /// came too late.
    async fn not_ours(
        &mut self,
        job: &JobDue,
        target: Option<&Target>,
        why: String,
    ) -> Result<(), SpoolError> {
        let id = &job.job;
        let in_hand = {
            let mut state = self.supply.lock();
            state.left_alone.insert(id.clone(), why);
            // what waits for an MTA that was given up is this run's, and unfinished
            if !target.is_some_and(|target| target.was_given_up(&state)) {
                self.other_target.insert(id.clone());
            }
            let run = state.jobs.get_mut(id);
            run.map(|run| run.stop.get_or_insert(JobStop::LeftAlone)).is_some()
        };
        if job.requested
            && !in_hand
            && let Err(e) = self.supply.owner.carry_out_request(id).await
        {
            self.leave_alone(id, e)?;
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
            match self.claim(&job, group).await {
                Ok(claimed) => any |= claimed,
                Err(e) => self.leave_alone(&job.job, e)?,
            }
        }
        Ok(any)
    }

    /// All is in hand that there is room for: jobs go on with what they have.
    fn prime(&self) {
        let mut state = self.supply.lock();
        let State { jobs, hands, line, .. } = &mut *state;
        let mut any = false;
        for run in jobs.values_mut() {
            // where there is no room, the end of a chunk brings the feeder back
            run.feed_asked = run.is_low();
            run.exhausted = run.feed_asked;
            if !run.primed && run.is_ready(hands) {
                run.primed = true;
                run.enter(line);
                any = true;
            }
        }
        drop(state);
        if any {
            self.supply.ready.notify_waiters();
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
}
