//! The chunks in hand: what the infeeds pull from.
//!
//! Who is next is `pick`'s to say. Rendering happens on the infeed's own task, outside
//! the lock. See `settle` for the way back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tokio::sync::{Notify, watch};

use super::Progress;
use super::command::JobProgress;
use super::hand::Hand;
use super::limits::Limits;
use super::line::{Line, Place};
use super::mixing::Mixer;
use super::mtas::{Group, Mta, Target, Turn, weights_differ};
use super::pack::Rendering;
use super::pick::Pick;
use super::retry::RetryPolicy;
use super::settle::HeldRefusal;
use crate::clock::{self, Micros};
use crate::infeed::{Capabilities, Dsn, NoRecord, Rcpt, RefusalStreak, StreakLimits, Transaction};
use crate::message::{RecipientView, Rendered};
use crate::metrics::JobSeries;
use crate::pressure::rate::Limiter;
use crate::pressure::window::Windows;
use crate::spool::{Chunk, JobId, JobMeta, Outcome, Owner, Settled};

/// What the infeeds and the feeder share.
pub(super) struct Supply<O: Owner> {
    pub owner: O,
    pub state: Mutex<State>,
    pub progress: Arc<Progress>,
    /// There is something to take, or the drain is over.
    pub ready: Notify,
    /// The feeder has something to do.
    pub feed: Notify,
    /// The spool is to be looked at now, not at the next turn.
    pub nudged: AtomicBool,
    /// A limit lets something go earlier than the timer thinks.
    pub timer: Notify,
    /// True once nothing more will come.
    pub over: watch::Sender<bool>,
    /// Jobs submitted after this moment are left; `Micros::MAX`: none is. See `RunCommand::Drain`.
    pub drains_since: AtomicU64,
}

#[derive(Default)]
pub(super) struct State {
    pub jobs: HashMap<JobId, JobRun>,
    /// Jobs that have something ready, and which job is which there.
    pub line: Line,
    pub serials: FxHashMap<u32, JobId>,
    pub next_serial: u32,
    pub hands: FxHashMap<u32, Hand>,
    /// What is in hand, by where it may go.
    pub groups: Vec<Group>,
    /// The MTAs that may take.
    pub mtas: Vec<Turn>,
    /// Weights are not all the same.
    pub weighted: bool,
    /// Somebody was kept from taking by its weight.
    pub kept_waiting: bool,
    /// MTAs that this run has given up, and why.
    pub gone: Vec<(String, String)>,
    /// Nothing begins: `pause --all`.
    pub standstill: bool,
    pub retry: RetryPolicy,
    pub breaker: StreakLimits,
    /// Jobs that are not drained, and why.
    pub left_alone: BTreeMap<JobId, String>,
    /// Of them, those that can't be drained as they lie there.
    pub unreadable: BTreeMap<JobId, String>,
    /// When a chunk of each job was claimed last: a count.
    pub claimed_last: HashMap<JobId, u64>,
    pub claims: u64,
    /// What jobs came to that are not in hand now.
    pub met: HashMap<JobId, JobProgress>,
    /// Chunks of which everybody is settled.
    pub finished: Vec<u32>,
    /// What `--first` leaves to hand out.
    pub first_left: Option<u64>,
    /// Counts transactions taken and settled: which of two came first.
    pub moment: u64,
    /// Rates, and who waits for them.
    pub limits: Limits,
}

/// A job while chunks of it are in hand.
pub(super) struct JobRun {
    /// By how much its clock stands ahead.
    pub lead_us: Micros,
    /// Where it may go, as an index into `State::groups`.
    pub group: usize,
    pub meta: Arc<JobMeta>,
    pub template: Arc<Rendering>,
    pub dsn: Option<Dsn>,
    pub accept_refusals: bool,
    pub serial: u32,
    /// Its place in the line, while something of it is ready.
    pub place: Option<Place>,
    /// Enough of it is in hand to mix its domains; until then it waits.
    pub primed: bool,
    /// All of it is in hand that there is, or that there is room for: it makes do with that.
    pub exhausted: bool,
    /// Where it starts when it comes back into the line.
    pub start: u64,
    /// Its recipients that wait, by domain.
    pub mixer: Mixer,
    /// Its chunks that are passed one recipient at a time.
    pub solo: VecDeque<u32>,
    /// The feeder was told that more of it is needed.
    pub feed_asked: bool,
    pub streak: RefusalStreak,
    /// Refusals that are provisional, in the order in which they came.
    pub held: Vec<HeldRefusal>,
    /// Why it is handed out no more.
    pub stop: Option<JobStop>,
    /// Its recipients in transactions now.
    pub in_flight: usize,
    /// What it came to in this run.
    pub counts: JobProgress,
    /// The same for the metrics.
    pub series: Arc<JobSeries>,
    /// What `--first` leaves of it to hand out before it pauses.
    pub first_left: Option<u64>,
    /// Of its transactions.
    pub limiter: Limiter,
    /// The hours in which it may be sent.
    pub windows: Arc<Windows>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JobStop {
    /// The refusal breaker, with what the MTA said.
    Breaker(String),
    /// A command wants the job.
    Requested,
    /// `--first` so many were tried.
    First,
    /// It can't be drained now: its suppression list is not to be read, or it is outside its window.
    LeftAlone,
}

pub(super) fn token(handle: u32, index: u16) -> u64 {
    u64::from(handle) << 16 | u64::from(index)
}

pub(super) fn of_token(token: u64) -> (u32, u16) {
    ((token >> 16) as u32, token as u16)
}

impl<O: Owner> Supply<O> {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the run has been asked to end once nothing is due.
    pub fn drains_since(&self) -> Option<Micros> {
        Some(self.drains_since.load(Relaxed)).filter(|since| *since < Micros::MAX)
    }

    /// Nothing more will come: the infeeds end.
    pub fn end(&self) {
        self.over.send_replace(true);
        self.ready.notify_waiters();
    }

    /// Renders; whoever can't be is settled at once. `None`: the journal can't say now who is tried alone.
    fn compose(&self, pick: Pick) -> Option<Option<Transaction>> {
        let mut recipients = Vec::with_capacity(pick.indices.len());
        let mut rendered: Option<Rendered> = None;
        for &index in &pick.indices {
            if pick.solo && self.owner.try_hand_out(&[(pick.handle, vec![index])]) != Ok(true) {
                // it would not be known which recipient the process died with
                self.untaken(pick.handle, &[index]);
                return None;
            }
            let rcpt = |address: &str| {
                let address = pick.meta.test_to.as_deref().unwrap_or(address);
                Rcpt { token: token(pick.handle, index), address: address.to_owned() }
            };
            if rendered.is_some()
                && let Ok(address) = pick.chunk.address(usize::from(index))
            {
                recipients.push(rcpt(address));
                continue;
            }
            let failed = match pick.chunk.recipient(usize::from(index)) {
                Err(reason) => reason.to_owned(),
                Ok(r) => {
                    let values: Vec<&str> = r.values().collect();
                    let view = RecipientView { ordinal: r.ordinal, address: r.address, values: &values };
                    match guarded(|| pick.template.render(&view)) {
                        Ok(done) => {
                            rendered = Some(done);
                            recipients.push(rcpt(r.address));
                            continue;
                        }
                        Err(reason) => reason,
                    }
                }
            };
            self.put_aside(pick.handle, index, &pick.chunk, failed);
        }
        // somebody alone has the sender that was rendered
        let xverp = if pick.by_mta && recipients.len() > 1 { pick.template.xverp() } else { None };
        Some(rendered.map(|rendered| Transaction {
            sender: xverp.map_or(rendered.sender, |xverp| xverp.sender.clone()),
            xverp: xverp.map(|xverp| xverp.delimiters),
            recipients,
            content: rendered.content,
            dsn: pick.template.dsn(pick.dsn, &pick.chunk, &pick.indices),
            shared_content: pick.template.is_shared(),
        }))
    }

    /// Quarantines a recipient whose message can't be made.
    fn put_aside(&self, handle: u32, index: u16, chunk: &Chunk, reason: String) {
        let attempts = chunk.state(usize::from(index)).attempts;
        let settled = Settled::local(Outcome::Quarantined, attempts, clock::now_us(), reason);
        self.owner.record(handle, vec![(index, settled)]);
        let mut state = self.lock();
        self.progress.count(&state.series_of(handle), None, Outcome::Quarantined, 1);
        state.landed(handle, 1, 1);
        self.after_landing(&state, handle);
    }

    /// Gives back recipients for whom no transaction was made.
    fn untaken(&self, handle: u32, indices: &[u16]) {
        let mut state = self.lock();
        state.put_back(handle, indices);
        state.landed(handle, indices.len(), 0);
    }

    /// Wakes whoever has something to do after recipients of this chunk came back.
    pub fn after_landing(&self, state: &State, handle: u32) {
        let ends = |j: &JobRun| j.stop.is_some() || j.first_left == Some(0);
        let job = state.hands.get(&handle).and_then(|hand| state.jobs.get(&hand.job));
        if !state.finished.is_empty() || job.is_some_and(ends) || state.first_left == Some(0) {
            self.feed.notify_one();
        }
    }
}

impl State {
    /// Takes MTAs in and out.
    pub fn set_mtas(&mut self, mtas: impl Iterator<Item = Arc<Mta>>) {
        let mut before = std::mem::take(&mut self.mtas);
        let mut turn_of = |mta: Arc<Mta>| match before.iter().position(|turn| turn.mta.name == mta.name) {
            // its successor begins with what is left of its rate
            Some(at) => before.swap_remove(at).succeeded_by(mta),
            None => Turn::new(mta),
        };
        self.mtas = mtas.map(&mut turn_of).collect();
        self.limits_changed();
        self.weighted = weights_differ(&self.mtas);
    }

    /// An MTA has another weight: parts are counted anew.
    pub fn weights_changed(&mut self) {
        self.mtas.iter_mut().for_each(Turn::begin_anew);
        self.weighted = weights_differ(&self.mtas);
    }

    pub fn turn_of(&self, mta: &Arc<Mta>) -> Option<usize> {
        self.mtas.iter().position(|turn| Arc::ptr_eq(&turn.mta, mta))
    }

    /// Recipients a transaction, at most, at any MTA, where content and sender are shared.
    pub fn recipients_max(&self) -> usize {
        self.mtas.iter().map(|turn| turn.mta.recipients_max).max().unwrap_or(1)
    }

    /// Whether some MTA may take what is for this target.
    pub fn is_served(&self, target: &Target) -> bool {
        self.mtas.iter().any(|turn| target.admits(&turn.mta))
    }

    /// The group of what is for this target.
    pub fn group_of(&mut self, target: Target) -> usize {
        if let Some(at) = self.groups.iter().position(|g| g.target == target) {
            return at;
        }
        self.groups.push(Group::new(target));
        self.groups.len() - 1
    }

    /// Whether the job was met in this run, or is left alone by it.
    pub fn known(&self, job: &JobId) -> bool {
        self.jobs.contains_key(job) || self.met.contains_key(job) || self.left_alone.contains_key(job)
    }

    /// What a job came to in this run.
    pub fn progress_of(&self, job: &JobId) -> JobProgress {
        let run = self.jobs.get(job).map(|run| run.counts);
        run.or_else(|| self.met.get(job).copied()).unwrap_or_default()
    }

    /// A chunk in hand, and whose it is.
    pub fn chunk_of(&self, handle: u32) -> (JobId, Arc<Chunk>) {
        let Some(hand) = self.hands.get(&handle) else { panic!("chunk {handle} is not in hand") };
        (hand.job.clone(), hand.chunk.clone())
    }

    /// Where the outcomes of a chunk in hand are counted.
    pub fn series_of(&self, handle: u32) -> Arc<JobSeries> {
        let job = self.hands.get(&handle).and_then(|hand| self.jobs.get(&hand.job));
        let Some(job) = job else { panic!("chunk {handle} is not in hand") };
        job.series.clone()
    }

    /// Recipients that wait in hands.
    pub fn queued(&self) -> usize {
        self.groups.iter().map(Group::queued).sum()
    }

    /// Whether something waits that this MTA may take.
    pub fn waits_for(&self, mta: &Mta) -> bool {
        self.groups.iter().any(|g| g.queued() > 0 && g.target.admits(mta))
    }

    /// Recipients are no longer in flight; `settled` of them have their outcome.
    pub fn landed(&mut self, handle: u32, landed: usize, settled: usize) {
        let Some(hand) = self.hands.get_mut(&handle) else { panic!("chunk {handle} is not in hand") };
        assert!(
            hand.in_flight >= landed && hand.unsettled >= settled,
            "chunk {handle}: more came back than went"
        );
        hand.in_flight -= landed;
        if let Some(job) = self.jobs.get_mut(&hand.job) {
            job.in_flight -= landed;
            if hand.solo && hand.is_ready() {
                job.enter(&mut self.line);
            }
        }
        self.settled(handle, settled);
    }

    /// Recipients that were not in flight (held ones) have their outcome.
    pub fn settled(&mut self, handle: u32, n: usize) {
        let Some(hand) = self.hands.get_mut(&handle) else { panic!("chunk {handle} is not in hand") };
        hand.unsettled -= n;
        if let Some(job) = self.jobs.get_mut(&hand.job) {
            job.counts.outcomes += n as u64;
        }
        // with somebody of it still on the way back, the last one to land ends it
        if hand.unsettled == 0 && hand.in_flight == 0 && !self.finished.contains(&handle) {
            self.finished.push(handle);
        }
    }

    /// Recipients go out again in this pass.
    pub fn put_back(&mut self, handle: u32, indices: &[u16]) {
        if indices.is_empty() {
            return;
        }
        let Some(hand) = self.hands.get_mut(&handle) else { panic!("chunk {handle} is not in hand") };
        hand.put_back(indices);
        let ready = hand.is_ready();
        if let Some(left) = &mut self.first_left {
            *left += indices.len() as u64;
        }
        let Some(job) = self.jobs.get_mut(&hand.job) else { panic!("job {} is not in hand", hand.job) };
        if let Some(left) = &mut job.first_left {
            *left += indices.len() as u64;
        }
        self.groups[job.group].add(job.meta.priority, indices.len());
        if !job.solo.contains(&handle) {
            job.put_back(handle, &hand.chunk, indices, &self.limits);
        }
        if ready {
            job.enter(&mut self.line);
        }
    }
}

/// A panic in the making of one message costs that recipient alone.
fn guarded(make: impl FnOnce() -> Result<Rendered, String>) -> Result<Rendered, String> {
    catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str);
        let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
        Err(format!("a defect of infeed while its message was made: {what}"))
    })
}

/// What an MTA's infeeds ask for; see [`crate::infeed::Work`].
impl<O: Owner> Supply<O> {
    pub fn try_next(&self, mta: &Arc<Mta>, capabilities: &Capabilities) -> Option<Transaction> {
        if *self.over.borrow() {
            return None;
        }
        loop {
            let recipients_max = mta.recipients_max.min(capabilities.recipients_max.max(1));
            mta.met(capabilities);
            let Some(pick) = self.pick(mta, recipients_max, capabilities.xverp) else {
                self.feed.notify_one();
                return None;
            };
            match self.compose(pick) {
                Some(None) => {}
                Some(made) => return made,
                None => {
                    // the journal can't say it now: looked at again at the next tick
                    self.lock().kept_waiting = true;
                    return None;
                }
            }
        }
    }

    pub async fn next(&self, mta: &Arc<Mta>, capabilities: &Capabilities) -> Option<Transaction> {
        loop {
            let ready = self.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            let paced = mta.paced.notified();
            tokio::pin!(paced);
            paced.as_mut().enable();
            if let Some(transaction) = self.try_next(mta, capabilities) {
                return Some(transaction);
            }
            // nobody may be handed out for a while
            self.owner.flush();
            if *self.over.borrow() {
                return None;
            }
            tokio::select! {
                () = ready => {}
                () = paced => {}
            }
        }
    }

    pub async fn hand_out(&self, transactions: &[&Transaction]) -> Result<(), NoRecord> {
        let handed: Vec<(u32, Vec<u16>)> = transactions
            .iter()
            .map(|transaction| {
                let (handle, _) = of_token(transaction.recipients[0].token);
                (handle, transaction.recipients.iter().map(|r| of_token(r.token).1).collect())
            })
            .collect();
        self.owner.hand_out(&handed).await.map_err(NoRecord)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_a_message_is_made_is_that_recipients_reason() {
        let said = guarded(|| panic!("template {}", 7));
        assert_eq!(said, Err("a defect of infeed while its message was made: template 7".into()));
    }

    #[test]
    fn a_token_holds_chunk_and_index() {
        assert_eq!(of_token(token(u32::MAX, 999)), (u32::MAX, 999));
    }
}
