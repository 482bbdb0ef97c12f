//! Who is next, and when it is tried again: one task, one POST at a time.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::event::{Event, Kind};
use super::outbox::{Outbox, Waiting};
use super::post::Post;
use super::refusals::Refused;
use super::retry::{Answer, wait};
use super::{EventsConfig, Secret};
use crate::clock;
use crate::delivery_log::Line;
use crate::metrics::Told;
use crate::spool::DirSpool;

/// How often the outbox is looked at: other processes put events there, too.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Sender {
    config: EventsConfig,
    outbox: Arc<Outbox>,
    spool: DirSpool,
    refused: Refused,
    told: Arc<Told>,
    /// The right to send what is in the outbox.
    lock: Option<File>,
    looked: Option<Instant>,
    /// What is in the outbox.
    waiting: BTreeMap<Waiting, Tries>,
    /// Refused recipients of the next batch, and since when the first of them waits.
    gathered: Vec<Line>,
    gathering_since: Option<Instant>,
    /// The batch that is to be taken next.
    batch: Option<(Event, usize, Tries)>,
    /// The receiver's trouble: tries that failed in a row, and until when it is left alone.
    failures: u32,
    closed_until: Option<Instant>,
    /// Names of what was taken or given up and can't be removed: it must not come again.
    stuck: HashSet<String>,
}

/// Of one event.
#[derive(Debug, Clone, Default)]
struct Tries {
    tries: u32,
    due: Option<Instant>,
    /// Left-out recipients that it tells of; fixed by the first try, so that the event stays what it is.
    dropped: Option<u64>,
    /// Tried since the run is ending.
    at_end: bool,
}

/// Which event.
enum Next {
    OfJob(Waiting),
    Batch,
}

impl Sender {
    pub fn new(
        config: EventsConfig,
        outbox: Arc<Outbox>,
        spool: DirSpool,
        refused: Refused,
        told: Arc<Told>,
    ) -> Self {
        Self {
            config,
            outbox,
            spool,
            refused,
            told,
            lock: None,
            looked: None,
            waiting: BTreeMap::new(),
            stuck: HashSet::new(),
            gathered: Vec::new(),
            gathering_since: None,
            batch: None,
            failures: 0,
            closed_until: None,
        }
    }

    /// Sends until the run ends and nothing is left, or nothing is taken.
    pub async fn run(mut self, mut ended: watch::Receiver<bool>) {
        loop {
            // a sender that has gone is an end, too
            let ending = *ended.borrow() || ended.has_changed().is_err();
            self.gather(ending);
            self.look(ending).await;
            self.told
                .events_waiting
                .store(self.waiting.len() as u64 + u64::from(self.batch.is_some()), Relaxed);
            let now = Instant::now();
            if let Some(next) = self.next(now, ending) {
                if !self.send(next, ending).await && ending {
                    return;
                }
                continue;
            }
            if ending {
                return;
            }
            let until = self.look_at_latest(now);
            let has_room = self.gathered.len() < self.config.batch_max;
            let outbox = self.outbox.clone();
            tokio::select! {
                line = self.refused.queue.recv(), if has_room => match line {
                    Some(line) => self.take(line),
                    None => tokio::time::sleep_until(until).await,
                },
                () = outbox.changed.notified() => self.looked = None,
                () = tokio::time::sleep_until(until) => {}
                changed = ended.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// When there may be something to do, if nothing happens before.
    fn look_at_latest(&self, now: Instant) -> Instant {
        let mut until = now + LOOK_EVERY;
        if let (Some(since), None) = (self.gathering_since, &self.batch) {
            until = until.min(since + self.config.batch_wait);
        }
        let batch = self.batch.iter().filter_map(|(_, _, tries)| tries.due);
        let dues = self.waiting.values().filter_map(|tries| tries.due).chain(batch).chain(self.closed_until);
        dues.filter(|due| *due > now).fold(until, Instant::min)
    }

    fn take(&mut self, line: Line) {
        self.gathering_since.get_or_insert_with(Instant::now);
        self.gathered.push(line);
    }

    /// Takes refused recipients in; makes them a batch when they are enough, or have waited long enough.
    fn gather(&mut self, ending: bool) {
        while self.gathered.len() < self.config.batch_max
            && let Ok(line) = self.refused.queue.try_recv()
        {
            self.take(line);
        }
        let has_waited = self.gathering_since.is_some_and(|since| since.elapsed() >= self.config.batch_wait);
        let is_due = self.gathered.len() >= self.config.batch_max || has_waited || ending;
        if self.batch.is_none() && is_due && !self.gathered.is_empty() {
            let event = Event::of_refused(&self.gathered);
            self.batch = Some((event, self.gathered.len(), Tries::default()));
            self.gathered.clear();
            self.gathering_since = None;
        }
    }

    /// Looks what is in the outbox, now and then.
    async fn look(&mut self, ending: bool) {
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) && !ending {
            return;
        }
        self.looked = Some(Instant::now());
        let (outbox, spool, held) = (self.outbox.clone(), self.spool.clone(), self.lock.is_some());
        let looked = blocking(move || {
            let lock = if held { None } else { outbox.try_lock()? };
            if !held && lock.is_none() {
                // another process sends them
                return Ok((None, Vec::new()));
            }
            outbox.settle_left(&spool)?;
            Ok((lock, outbox.list()?))
        });
        match looked.await {
            Ok((lock, found)) => {
                self.lock = self.lock.take().or(lock);
                let mut before = std::mem::take(&mut self.waiting);
                let fresh = found.into_iter().filter(|w| !self.stuck.contains(&w.name));
                self.waiting = fresh.map(|w| (w.clone(), before.remove(&w).unwrap_or_default())).collect();
            }
            Err(e) => tracing::error!("events of jobs can't be looked at: {e}"),
        }
    }

    /// The one to be tried now: jobs first, the oldest first. At the end, each once more, whatever it waits for.
    fn next(&self, now: Instant, ending: bool) -> Option<Next> {
        let is_closed = self.closed_until.is_some_and(|until| until > now);
        if is_closed && !ending {
            return None;
        }
        let is_due = |tries: &Tries| {
            if ending { !tries.at_end } else { tries.due.is_none_or(|due| due <= now) }
        };
        let of_job = self.waiting.iter().find(|(_, tries)| is_due(tries));
        if let Some((waiting, _)) = of_job {
            return Some(Next::OfJob(waiting.clone()));
        }
        self.batch.iter().any(|(_, _, tries)| is_due(tries)).then_some(Next::Batch)
    }

    /// Tries one; false when nothing is taken now.
    async fn send(&mut self, next: Next, ending: bool) -> bool {
        let (event, mut tries) = match &next {
            Next::OfJob(waiting) => match self.read(waiting).await {
                Some(event) => (event, self.waiting.remove(waiting).unwrap_or_default()),
                None => {
                    self.waiting.remove(waiting);
                    return true;
                }
            },
            Next::Batch => match &self.batch {
                Some((event, _, tries)) => (event.clone(), tries.clone()),
                None => return true,
            },
        };
        let age = Duration::from_micros(clock::now_us().saturating_sub(event.at_us));
        if self.failures > 0 && age >= self.config.retry_for {
            // what is too old is not tried one by one: more would come than could be given up
            self.give_up(next, &event, tries.dropped.unwrap_or(0), "nothing is taken").await;
            return false;
        }
        let dropped = *tries.dropped.get_or_insert_with(|| self.refused.take_untold());
        tries.at_end = ending;
        let answer = self.post(&event, dropped).await;
        match answer {
            Answer::Taken => {
                if std::mem::take(&mut self.failures) > 0 {
                    tracing::info!("the webhook {} takes events again", self.config.target);
                }
                self.closed_until = None;
                self.told.events_sent[event.kind as usize].fetch_add(1, Relaxed);
                self.settle(next, true).await;
                true
            }
            Answer::NotThisOne(why) | Answer::NotNow(why) if age >= self.config.retry_for => {
                self.told.tries_failed.fetch_add(1, Relaxed);
                self.give_up(next, &event, dropped, &why).await;
                false
            }
            Answer::NotThisOne(why) => {
                tracing::warn!(
                    "the webhook {} does not take the event {} ({}): {why}; it is tried again",
                    self.config.target,
                    event.id,
                    event.kind.as_str()
                );
                self.put_off(next, tries);
                true
            }
            Answer::NotNow(why) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures == 1 {
                    tracing::warn!(
                        "the webhook {} takes no events: {why}; they wait, and are tried again",
                        self.config.target
                    );
                } else {
                    tracing::debug!("the webhook {}: {why}", self.config.target);
                }
                self.closed_until = Some(Instant::now() + wait(self.failures, fastrand::f64()));
                self.put_off(next, tries);
                false
            }
        }
    }

    /// It was tried for long enough; `dropped` left-out recipients that it told of are told of by the next one.
    async fn give_up(&mut self, next: Next, event: &Event, dropped: u64, why: &str) {
        let age_s = clock::now_us().saturating_sub(event.at_us) / clock::SECOND_US;
        tracing::error!(
            "the event {} ({}) is given up after {age_s} s: {why}",
            event.id,
            event.kind.as_str()
        );
        self.told.events_dropped[event.kind as usize].fetch_add(1, Relaxed);
        self.refused.put_back_untold(dropped);
        self.settle(next, false).await;
    }

    /// Keeps it for another try.
    fn put_off(&mut self, next: Next, mut tries: Tries) {
        self.told.tries_failed.fetch_add(1, Relaxed);
        tries.tries = tries.tries.saturating_add(1);
        tries.due = Some(Instant::now() + wait(tries.tries, fastrand::f64()));
        match next {
            Next::OfJob(waiting) => drop(self.waiting.insert(waiting, tries)),
            Next::Batch => {
                if let Some((_, _, kept)) = &mut self.batch {
                    *kept = tries;
                }
            }
        }
    }

    /// It was taken, or given up.
    async fn settle(&mut self, next: Next, is_taken: bool) {
        match next {
            Next::OfJob(waiting) => {
                let (outbox, name) = (self.outbox.clone(), waiting.name.clone());
                if let Err(e) = blocking(move || outbox.remove(&name)).await {
                    tracing::error!(
                        "an event that is over can't be removed, and comes again after a restart: {e}"
                    );
                    self.stuck.insert(waiting.name);
                }
            }
            Next::Batch => {
                if let Some((_, n, _)) = self.batch.take() {
                    if is_taken { self.refused.taken(n) } else { self.refused.given_up(n) }
                }
            }
        }
    }

    async fn read(&self, waiting: &Waiting) -> Option<Event> {
        let (outbox, of) = (self.outbox.clone(), waiting.clone());
        match blocking(move || outbox.read(&of)).await {
            Ok(event) => event.filter(|event| event.kind != Kind::RecipientsRefused),
            Err(e) => {
                tracing::error!("an event can't be read now: {e}");
                None
            }
        }
    }

    async fn post(&self, event: &Event, dropped: u64) -> Answer {
        let path = self.config.secret_file.clone();
        let secret = match tokio::task::spawn_blocking(move || Secret::read(&path)).await {
            Ok(Ok(secret)) => secret,
            Ok(Err(e)) => return Answer::NotNow(e.to_string()),
            Err(e) => return Answer::NotNow(e.to_string()),
        };
        let body = event.body(dropped);
        let timestamp_s = clock::now_us() / clock::SECOND_US;
        let signature = secret.sign(&event.id, timestamp_s, &body);
        let post = Post { id: event.id.clone(), timestamp_s, signature, body: body.into() };
        match self.config.target.post(post, self.config.timeout).await {
            Ok(status) => Answer::of_status(status),
            Err(why) => Answer::NotNow(why),
        }
    }
}

/// What blocks on the disk, on a thread for it.
fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> impl Future<Output = std::io::Result<T>> {
    let task = tokio::task::spawn_blocking(f);
    async move { task.await.unwrap_or_else(|e| Err(std::io::Error::other(e))) }
}
