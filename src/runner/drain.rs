//! One run: takes the slices, feeds the infeeds of each MTA, and knows when to end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};

use super::command::{RunCommand, RunStatus};
use super::feeder::Feeder;
use super::rate::Rate;
use super::slot::Slots;
use super::supply::{JobStop, State, Supply};
use super::{DomainRates, DrainConfig, DrainReport, Ended, JobUnderWay, Progress, RunnerError};
use crate::clock;
use crate::logs;
use crate::metrics::Lately;
use crate::pressure::per_second::PerSecond;
use crate::spool::{Owner, Spool};

/// How often the MTAs' state and the journal's are judged.
const JUDGE_EVERY: Duration = Duration::from_millis(100);
/// How often waiting infeeds look for work that nobody told them of.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the journal may refuse records before a drain gives up.
const JOURNAL_WAIT: Duration = Duration::from_secs(30);

/// What is told of a run that was asked to end by itself.
const DRAINS: &str = "asked to drain: it takes up no new jobs, and ends once nothing is due";

/// Drains what is due in `config.range` and returns. `stop` becoming true ends it in order: no more work
/// is taken, transactions in flight end, everything is on disk.
///
/// # Errors
/// [`RunnerError::Spool`]: the slices are another process's (`SpoolError::Owned`), or the spool can't be
/// read or written. Nothing is lost by it.
pub async fn drain<S: Spool>(
    spool: &S,
    config: DrainConfig,
    progress: Arc<Progress>,
    stop: watch::Receiver<bool>,
) -> Result<DrainReport, RunnerError> {
    let owner = spool.own(config.range).await?;
    let (_handle, commands) = super::RunHandle::new();
    drain_owned(owner, config, progress, stop, commands).await
}

/// The same for slices that are owned already, by a run that can be told and asked things.
///
/// # Errors
/// As [`drain`].
pub async fn drain_owned<O: Owner>(
    owner: O,
    config: DrainConfig,
    progress: Arc<Progress>,
    stop: watch::Receiver<bool>,
    commands: mpsc::Receiver<RunCommand>,
) -> Result<DrainReport, RunnerError> {
    let begun = Instant::now();
    let state =
        State { first_left: config.first, retry: config.retry, breaker: config.breaker, ..State::default() };
    let supply = Arc::new(Supply {
        owner: owner.clone(),
        state: Mutex::new(state),
        progress: progress.clone(),
        ready: Notify::new(),
        feed: Notify::new(),
        timer: Notify::new(),
        nudged: AtomicBool::new(false),
        over: watch::Sender::new(false),
        drains_since: AtomicU64::new(u64::MAX),
    });
    supply.set_domain_rates(&config.domain_rates);
    let mut timer = tokio::task::JoinSet::new();
    timer.spawn(supply.clone().keep_time());
    let mut feeder = Feeder::new(supply.clone(), &config);
    let mut run = Run {
        config: &config,
        supply: &supply,
        progress: &progress,
        commands: Some(commands),
        domain_rates: config.domain_rates.clone(),
        slots: Slots::new(&config, &supply),
        journal_bad: None,
        looked: begun,
        rate: Rate::default(),
        lately: Lately::default(),
    };
    let ended = run.until_ended(&mut feeder, stop).await;
    // it holds the supply until it is gone
    timer.shutdown().await;
    let connections_opened = run.slots.opened;
    let (connections_peak, connections_mean, cuts) = run.slots.connections();
    if let Err(e) = feeder.wind_up().await {
        // the journal holds all of it: the next owner ends these passes
        tracing::error!("{e}");
    }
    let wound_up = supply.lock().hands.is_empty();
    let failed = feeder.failed.take();
    let mut unfinished = 0;
    match owner.waiting_recipients().await {
        Ok(waiting) => {
            unfinished += waiting.iter().filter(|(job, _)| feeder.drains(job)).map(|w| w.1).sum::<u64>()
        }
        Err(e) => tracing::error!("{e}"),
    }
    unfinished += supply.lock().hands.values().map(|h| h.chunk.len() as u64).sum::<u64>();
    let (paused, left_alone) =
        (std::mem::take(&mut feeder.paused), std::mem::take(&mut supply.lock().left_alone));
    let unreadable = supply.lock().unreadable.len();
    drop((feeder, run));
    drop(supply);
    if wound_up {
        owner.close().await?;
    } else {
        drop(owner);
    }
    if let Some(e) = failed {
        return Err(e.into());
    }
    progress.set_note(None);
    let (settled, so_far) = (progress.settled(), progress.snapshot());
    Ok(DrainReport {
        ended,
        connections_opened,
        connections_peak,
        connections_mean,
        cuts,
        seconds: begun.elapsed().as_secs_f64(),
        settled,
        accepted: so_far.accepted,
        not_sent: settled.saturating_sub(so_far.accepted + so_far.suppressed),
        unfinished,
        paused,
        left_alone: left_alone.into_iter().collect(),
        unreadable,
    })
}

struct Run<'a, O: Owner> {
    config: &'a DrainConfig,
    supply: &'a Arc<Supply<O>>,
    progress: &'a Progress,
    /// `None` once nobody can send any more.
    commands: Option<mpsc::Receiver<RunCommand>>,
    /// As they are in force now.
    domain_rates: DomainRates,
    slots: Slots<O>,
    journal_bad: Option<Instant>,
    looked: Instant,
    rate: Rate,
    lately: Lately,
}

impl<O: Owner> Run<'_, O> {
    /// Feeds and judges until there is a reason to end; then every transaction is settled.
    async fn until_ended(&mut self, feeder: &mut Feeder<O>, mut stop: watch::Receiver<bool>) -> Ended {
        let feeding = feeder.run();
        tokio::pin!(feeding);
        let mut fed = false;
        let mut ticks = tokio::time::interval(JUDGE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ended = loop {
            tokio::select! {
                () = &mut feeding => {
                    fed = true;
                    // what is left is for an MTA that was given up
                    let state = self.supply.lock();
                    let left = state.left_alone.len() > state.unreadable.len();
                    drop(state);
                    break self.slots.gave_up().filter(|_| left).unwrap_or(Ended::Drained);
                }
                () = stopped(&mut stop) => break Ended::Stopped,
                _ = ticks.tick() => {}
                // an MTA is only called on when there is mail for it
                at = self.slots.wanted() => {
                    self.slots.start(at);
                    continue;
                }
                command = next_command(&mut self.commands) => {
                    if let Some(command) = command {
                        self.obey(command);
                    }
                    continue;
                }
            }
            if let Some(reason) = self.judge() {
                break reason;
            }
        };
        // whoever asks something now is told that it ends, and need not wait for the grace
        self.commands = None;
        self.supply.end();
        self.progress.set_connections(0);
        self.slots.stop(self.config.shutdown_grace).await;
        if !fed {
            self.supply.feed.notify_one();
            feeding.await;
        }
        if ended == Ended::Drained && self.supply.lock().first_left == Some(0) {
            ended = Ended::FirstReached;
        }
        ended
    }

    /// Whether to go on; tells the progress what holds the run up.
    fn judge(&mut self) -> Option<Ended> {
        let now = Instant::now();
        self.rate.read(now, self.progress.snapshot().accepted);
        self.lately.read(now, &self.progress.recorder);
        let (standstill, kept_waiting) = {
            let mut state = self.supply.lock();
            if state.shut_windows() {
                self.nudge();
            }
            (state.standstill, std::mem::take(&mut state.kept_waiting))
        };
        // whoever was ahead of its part looks again: the others may ask no more. And now and then everybody
        // does, should somebody have been forgotten
        let looks_again = self.looked.elapsed() > LOOK_EVERY && self.supply.lock().queued() > 0;
        if kept_waiting || looks_again {
            self.looked = now;
            self.supply.ready.notify_waiters();
        }
        let judged = self.slots.judge(self.config.forever);
        self.progress.set_connections(self.slots.established());
        if let Some(why) = self.supply.owner.journal_error() {
            let since = *self.journal_bad.get_or_insert(now);
            self.progress.set_note(Some(format!("nothing is sent, the journal can't be written: {why}")));
            let given_up = !self.config.forever && since.elapsed() > JOURNAL_WAIT;
            return given_up.then_some(Ended::JournalFailed(why));
        }
        self.journal_bad = None;
        if standstill {
            self.progress.set_note(Some("everything is paused (`infeed resume --all`)".to_owned()));
            return (!self.config.forever).then_some(Ended::Standstill);
        }
        let drains = || self.supply.drains_since().map(|_| DRAINS.to_owned());
        self.progress.set_note(judged.note.or_else(drains));
        if judged.somebody_gave_up {
            self.nudge();
        }
        judged.ended
    }

    fn nudge(&self) {
        self.supply.nudged.store(true, Relaxed);
        self.supply.feed.notify_one();
    }

    fn obey(&mut self, command: RunCommand) {
        match command {
            RunCommand::Nudge => {
                // before the answer: the feeder may be busy with a disk
                match self.supply.owner.standstill() {
                    Ok(standstill) => self.supply.lock().standstill |= standstill.is_some(),
                    Err(e) => tracing::error!("{e}"),
                }
                self.nudge();
            }
            RunCommand::StopJob(job) => {
                if let Some(run) = self.supply.lock().jobs.get_mut(&job) {
                    run.stop.get_or_insert(JobStop::Requested);
                }
                self.nudge();
            }
            RunCommand::Status(answer) => tell(answer, self.status()),
            RunCommand::Progress(job, answer) => {
                let due = self.supply.owner.next_due(&job).is_some();
                let state = self.supply.lock();
                let under_way = due || state.jobs.contains_key(&job) || !state.known(&job);
                let counts = state.progress_of(&job);
                drop(state);
                tell(answer, JobUnderWay { counts, under_way });
            }
            RunCommand::ResumeMta(name, answer) => tell(answer, self.slots.resume(name.as_deref())),
            RunCommand::SetConnections(name, connections, answer) => {
                tell(answer, self.slots.set_connections(name.as_deref(), connections));
            }
            RunCommand::ChangeMta(name, change, answer) => {
                let changed = self.slots.change(&name, &change);
                self.nudge();
                tell(answer, changed);
            }
            RunCommand::SetDomainRate(domain, rate, answer) => {
                match rate {
                    Some(rate) => drop(self.domain_rates.insert(domain, rate)),
                    None => drop(self.domain_rates.remove(&domain)),
                }
                self.supply.set_domain_rates(&self.domain_rates);
                self.nudge();
                tell(answer, ());
            }
            RunCommand::Drain(answer) => {
                // asked once more, it means the same jobs
                let earlier = self.supply.drains_since().unwrap_or_else(clock::now_us);
                self.supply.drains_since.store(earlier, Relaxed);
                self.nudge();
                tell(answer, ());
            }
            RunCommand::Reload(reload, answer) => {
                self.supply.owner.set_retry_delay_s_max(reload.retry.wait_s_max());
                {
                    let mut state = self.supply.lock();
                    (state.retry, state.breaker) = (reload.retry, reload.breaker);
                }
                self.slots.reload(reload.mtas);
                self.supply.mta_rates_changed();
                tell_domains(&self.domain_rates, &reload.domain_rates);
                self.domain_rates = reload.domain_rates;
                self.supply.set_domain_rates(&self.domain_rates);
                self.nudge();
                tell(answer, ());
            }
        }
    }

    fn status(&self) -> RunStatus {
        let (now, progress) = (Instant::now(), self.progress.snapshot());
        let over = |s| self.rate.over(Duration::from_secs(s), now, progress.accepted);
        let (rate_10_s, rate_60_s) = (over(10), over(60));
        let mtas = self.slots.status(now);
        let state = self.supply.lock();
        let in_flight_by_job: Vec<_> =
            state.jobs.iter().map(|(id, job)| (id.clone(), job.in_flight)).collect();
        let in_flight = in_flight_by_job.iter().map(|(_, n)| n).sum();
        let left_alone = state.left_alone.iter().map(|(job, why)| (job.clone(), why.clone())).collect();
        let (domains, limited_jobs) = state.limits_status();
        let waits_for_rate = state.mtas.iter().any(|turn| turn.wake_at.is_some());
        drop(state);
        let journal_error = self.supply.owner.journal_error();
        RunStatus {
            progress,
            rate_10_s,
            rate_60_s,
            mtas,
            in_flight,
            in_flight_by_job,
            left_alone,
            domains,
            limited_jobs,
            waits_for_rate,
            journal_error,
            refusals: self.progress.refusals.latest(),
            phases: self.lately.phases(now),
        }
    }
}

/// Logs each domain that has another rate now, or none any more.
fn tell_domains(old: &DomainRates, new: &DomainRates) {
    let said =
        |rate: Option<&PerSecond>| rate.map_or("no rate".to_owned(), |rate| format!("{rate} messages/s"));
    let domains: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for domain in domains.into_iter().filter(|domain| old.get(*domain) != new.get(*domain)) {
        let (was, is) = (said(old.get(domain)), said(new.get(domain)));
        tracing::info!(target: logs::STATE, "domain {domain}: {was} -> {is}");
    }
}

/// An asker that has gone needs no answer.
fn tell<T>(answer: tokio::sync::oneshot::Sender<T>, value: T) {
    if answer.send(value).is_err() {
        tracing::debug!("nobody waits for the answer any more");
    }
}

async fn next_command(commands: &mut Option<mpsc::Receiver<RunCommand>>) -> Option<RunCommand> {
    let Some(receiver) = commands else { return std::future::pending().await };
    let command = receiver.recv().await;
    if command.is_none() {
        *commands = None;
    }
    command
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|s| *s).await.is_err() {
        std::future::pending::<()>().await;
    }
}
