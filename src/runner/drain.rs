//! One run: takes the slices, feeds the infeeds, and knows when to end.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::feeder::Feeder;
use super::supply::{State, Supply};
use super::{DrainConfig, DrainReport, Ended, Progress, RunnerError};
use crate::clock::{self, Micros, SECOND_US};
use crate::infeed::{MtaState, MtaStatus, Pool};
use crate::spool::{Owner, Spool};

/// How often the MTA's state and the journal's are judged.
const JUDGE_EVERY: Duration = Duration::from_millis(100);
/// How long the journal may refuse records before the run gives up.
const JOURNAL_WAIT: Duration = Duration::from_secs(30);

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
    let begun = Instant::now();
    let owner = spool.own(config.range).await?;
    let state = State { first_left: config.first, ..State::default() };
    let supply = Arc::new(Supply {
        owner: owner.clone(),
        state: Mutex::new(state),
        progress: progress.clone(),
        retry: config.retry,
        recipients_max: config.infeed.recipients_per_transaction_max.max(1),
        ready: Notify::new(),
        feed: Notify::new(),
        over: watch::Sender::new(false),
    });
    let mut feeder = Feeder::new(supply.clone(), &config);
    let mut run = Run {
        config: &config,
        supply: &supply,
        progress: &progress,
        connections: 0,
        journal_bad: None,
        begun_us: clock::now_us(),
    };
    let ended = run.until_ended(&mut feeder, stop).await;
    let connections = run.connections;
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
    let (paused, left_alone) = (std::mem::take(&mut feeder.paused), std::mem::take(&mut feeder.left_alone));
    drop((feeder, supply));
    if wound_up {
        owner.close().await?;
    } else {
        drop(owner);
    }
    if let Some(e) = failed {
        return Err(e.into());
    }
    progress.set_note(None);
    Ok(DrainReport {
        ended,
        connections: connections.min(config.infeed.connections),
        connections_opened: connections,
        seconds: begun.elapsed().as_secs_f64(),
        settled: progress.settled(),
        accepted: progress.snapshot().accepted,
        unfinished,
        paused,
        left_alone: left_alone.into_iter().collect(),
    })
}

struct Run<'a, O: Owner> {
    config: &'a DrainConfig,
    supply: &'a Arc<Supply<O>>,
    progress: &'a Progress,
    connections: usize,
    journal_bad: Option<Instant>,
    begun_us: Micros,
}

impl<O: Owner> Run<'_, O> {
    /// Feeds and judges until there is a reason to end; then every transaction is settled.
    async fn until_ended(&mut self, feeder: &mut Feeder<O>, mut stop: watch::Receiver<bool>) -> Ended {
        let mut pool: Option<Pool> = None;
        let feeding = feeder.run();
        tokio::pin!(feeding);
        let mut fed = false;
        let mut ended = loop {
            tokio::select! {
                () = &mut feeding => {
                    fed = true;
                    break Ended::Drained;
                }
                () = stopped(&mut stop) => break Ended::Stopped,
                () = tokio::time::sleep(JUDGE_EVERY) => {}
                // an MTA is only called on when there is mail for it
                () = self.first_hand(pool.is_some()) => {
                    pool = Some(Pool::start(self.config.infeed.clone(), self.supply.clone()));
                }
            }
            if let Some(reason) = self.judge(pool.as_ref()) {
                break reason;
            }
        };
        self.supply.end();
        if let Some(pool) = pool {
            self.connections = self.connections.max(pool.status().connections_total as usize);
            let report = pool.stop(self.config.shutdown_grace).await;
            if report.aborted > 0 {
                tracing::warn!(
                    "{} connections were cut off: what they had in flight is marked",
                    report.aborted
                );
            }
        }
        if !fed {
            self.supply.feed.notify_one();
            feeding.await;
        }
        self.progress.set_connections(0);
        if ended == Ended::Drained && self.supply.lock().first_left == Some(0) {
            ended = Ended::FirstReached;
        }
        ended
    }

    async fn first_hand(&self, started: bool) {
        if started {
            return std::future::pending().await;
        }
        loop {
            let ready = self.supply.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            if self.supply.lock().queued > 0 {
                return;
            }
            ready.await;
        }
    }

    /// Whether to go on; tells the progress what holds the run up.
    fn judge(&mut self, pool: Option<&Pool>) -> Option<Ended> {
        if let Some(why) = self.supply.owner.journal_error() {
            let since = *self.journal_bad.get_or_insert_with(Instant::now);
            self.progress.set_note(Some(format!("nothing is sent, the journal can't be written: {why}")));
            return (since.elapsed() > JOURNAL_WAIT).then_some(Ended::JournalFailed(why));
        }
        self.journal_bad = None;
        let status = pool?.status();
        self.connections = self.connections.max(status.connections_total as usize);
        self.progress.set_connections(status.established);
        let (note, ended) = verdict(&status, self.config, self.begun_us);
        self.progress.set_note(note);
        ended
    }
}

/// What the MTA's state means for the run.
fn verdict(status: &MtaStatus, config: &DrainConfig, begun_us: Micros) -> (Option<String>, Option<Ended>) {
    let age = |since: u64| Duration::from_micros(clock::now_us().saturating_sub(since));
    match &status.state {
        MtaState::Up | MtaState::Connecting => (None, None),
        MtaState::Paused { said } => {
            let text = format!("{} {}", said.code, said.text);
            (Some(format!("the MTA refuses us: {text}")), Some(Ended::MtaPaused(text)))
        }
        MtaState::Down { since, error } => {
            let wait = if status.ever_connected { config.wait } else { config.wait_first };
            let given_up = age(*since) > wait;
            (
                Some(format!("the MTA is down: {error}")),
                given_up.then(|| Ended::MtaUnavailable(error.clone())),
            )
        }
        MtaState::Held { until, why } => {
            let given_up = age(status.last_success.unwrap_or(begun_us)) > config.wait;
            let left = until.saturating_sub(clock::now_us()) / SECOND_US;
            (Some(format!("held for {left} s: {why}")), given_up.then(|| Ended::MtaUnavailable(why.clone())))
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|s| *s).await.is_err() {
        std::future::pending::<()>().await;
    }
}
