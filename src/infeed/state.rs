//! What all infeeds of one MTA know together: how it is, what was learned about it, who may connect,
//! who may send.
//!
//! The rules for both are in `admission`. Nothing here fails.

mod admission;
mod seat;

pub use admission::{Admission, Connecting, Opening};
pub use seat::Seat;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::config::InfeedConfig;
use super::handshake::Opener;
use super::meter::Meter;
use super::transaction::{Capabilities, Said};
use super::verdict::Mta;
use crate::clock::{Micros, now_us};
use seat::Seats;

/// How often a transaction may lose its connection before it counts as an attempt.
pub const LOSSES_MAX: u32 = 3;
/// The MTA's own troubles in a row (451 4.3.0, 4.3.5, 4.7.1) after which all stops for a probe.
pub const STRAINS_MAX: u32 = 5;
/// First interval between probes of an MTA whose disk is full; it doubles.
const PROBE_MS_MIN: u64 = 1_000;
/// Its bound: what is full for minutes costs little, and what has room again is in use soon.
const PROBE_MS_MAX: u64 = 8_000;
/// Transactions whose losses are remembered.
const LOSSES_KEPT_MAX: usize = 4_096;

/// What the MTA looks like from here: a cheap copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MtaStatus {
    pub state: MtaState,
    /// Sessions that stand.
    pub established: usize,
    /// Infeeds that connect, or may and wait for something to send.
    pub connecting: usize,
    /// Of them, those that open a session just now. Exact from `Pool::status`, like `last_success`.
    pub opening: usize,
    /// Sessions established since the start.
    pub connections_total: u64,
    /// Infeeds whose task has not ended.
    pub infeeds: usize,
    pub ever_connected: bool,
    /// Sessions that stood at a time, at most, since the start.
    pub established_peak: usize,
    /// Sessions that there shall be, at most.
    pub target: usize,
    /// Microseconds since the Unix epoch of the last final dot that was answered 2xx; `None`: none yet.
    /// Exact from `Pool::status`; in what `Pool::changed` gives, as of the last change.
    pub last_success: Option<Micros>,
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_us: Option<Micros>,
    /// Infeeds that panicked and were begun anew.
    pub panics_total: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MtaState {
    /// At least one session stands, and transactions may begin.
    Up,
    /// Not connected, and no failure yet.
    Connecting,
    /// No session stands and connecting fails.
    Down { since: Micros, error: String },
    /// A 5xx at the greeting, EHLO, STARTTLS or AUTH, 530 at MAIL, or a fault of TLS or AUTH that is found
    /// here (`said` then ends in `(not sent)`): until `Pool::resume`.
    Paused { said: Said },
    /// No transaction begins until then, and then one alone.
    Held { until: Micros, why: String },
}

#[derive(Default)]
struct Inner {
    connecting: usize,
    established_peak: usize,
    /// Of the sessions that stand.
    seats: Seats,
    /// Sessions that there shall be, at most.
    target: usize,
    /// Of `connecting`, those that gave their transaction back.
    empty_handed: usize,
    /// After a pause: one connects at a time until one has succeeded.
    connects_singly: bool,
    connections_total: u64,
    infeeds: usize,
    panics_total: u64,
    last_error: Option<(Micros, String)>,
    connect_failures: u32,
    down: Option<(Micros, String)>,
    connect_not_before: Option<Instant>,
    /// No more sessions than this until then.
    cap: Option<(usize, Instant)>,
    paused: Option<Said>,
    hold: Option<Hold>,
    strains: u32,
    losses: HashMap<u64, u32>,
    /// What the MTA offered last.
    offered: Option<Capabilities>,
}

impl Inner {
    fn established(&self) -> usize {
        self.seats.all()
    }

    /// Sessions that are not to end because they are too many.
    fn staying(&self) -> usize {
        self.seats.staying()
    }

    fn erred(&mut self, error: String) {
        self.last_error = Some((now_us(), error));
    }
}

struct Hold {
    until: Instant,
    until_us: Micros,
    why: String,
    interval_ms: u64,
    probing: bool,
    /// It follows a pause, and is no state to tell of.
    resumed: bool,
}

pub struct Shared {
    pub config: InfeedConfig,
    pub opener: Opener,
    pub meter: Meter,
    inner: Mutex<Inner>,
    status: watch::Sender<MtaStatus>,
    /// Held or paused: the hot path asks this alone.
    closed: AtomicBool,
    stopping: AtomicBool,
    /// `Work::next` gave `None`: whoever has no session need not open one.
    drained: AtomicBool,
    troubled: AtomicBool,
    last_success: AtomicU64,
    opening: AtomicUsize,
    recipients_max: AtomicUsize,
    messages_max: AtomicUsize,
    no_group_across_dot: AtomicBool,
    no_chunking: AtomicBool,
    no_xverp: AtomicBool,
}

impl Shared {
    pub fn new(config: InfeedConfig) -> Arc<Self> {
        let (status, _) = watch::channel(MtaStatus {
            state: MtaState::Connecting,
            established: 0,
            connecting: 0,
            opening: 0,
            connections_total: 0,
            infeeds: 0,
            ever_connected: false,
            established_peak: 0,
            target: 0,
            last_success: None,
            last_error: None,
            last_error_us: None,
            panics_total: 0,
        });
        let messages_max = AtomicUsize::new(config.messages_per_connection_max.max(1));
        let recipients_max = AtomicUsize::new(usize::MAX);
        let target = config.connections.max(1);
        Arc::new(Self {
            config,
            opener: Opener::default(),
            meter: Meter::default(),
            inner: Mutex::new(Inner { target, ..Inner::default() }),
            status,
            closed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            troubled: AtomicBool::new(false),
            last_success: AtomicU64::new(0),
            opening: AtomicUsize::new(0),
            recipients_max,
            messages_max,
            no_group_across_dot: AtomicBool::new(false),
            no_chunking: AtomicBool::new(false),
            no_xverp: AtomicBool::new(false),
        })
    }

    /// A panic of one infeed leaves plain data behind, never a half-made change that matters.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells whoever waits.
    fn change<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = f(&mut inner);
        let target = inner.target;
        inner.seats.fit(target);
        self.closed.store(inner.paused.is_some() || inner.hold.is_some(), Relaxed);
        self.troubled.store(inner.strains > 0 || !inner.losses.is_empty() || inner.hold.is_some(), Relaxed);
        let status = self.snapshot(&inner);
        // Still locked, so that an older snapshot never overwrites a newer one.
        self.status.send_replace(status);
        drop(inner);
        result
    }

    fn snapshot(&self, inner: &Inner) -> MtaStatus {
        let state = match inner {
            Inner { paused: Some(said), .. } => MtaState::Paused { said: said.clone() },
            Inner { hold: Some(hold), .. } if !hold.resumed => {
                MtaState::Held { until: hold.until_us, why: hold.why.clone() }
            }
            inner if inner.established() > 0 => MtaState::Up,
            Inner { down: Some((since, error)), .. } => {
                MtaState::Down { since: *since, error: error.clone() }
            }
            _ => MtaState::Connecting,
        };
        let last_success = self.last_success.load(Relaxed);
        MtaStatus {
            state,
            established: inner.established(),
            connecting: inner.connecting,
            opening: self.opening.load(Relaxed),
            connections_total: inner.connections_total,
            infeeds: inner.infeeds,
            ever_connected: inner.connections_total > 0,
            established_peak: inner.established_peak,
            target: inner.target,
            last_success: (last_success > 0).then_some(last_success),
            last_error: inner.last_error.as_ref().map(|(_, error)| error.clone()),
            last_error_us: inner.last_error.as_ref().map(|(at, _)| *at),
            panics_total: inner.panics_total,
        }
    }

    pub fn status(&self) -> MtaStatus {
        self.snapshot(&self.lock())
    }

    pub fn changed(&self) -> watch::Receiver<MtaStatus> {
        self.status.subscribe()
    }

    pub fn stop(&self) {
        self.stopping.store(true, Relaxed);
        self.change(|_| ());
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    pub fn drained(&self) {
        self.drained.store(true, Relaxed);
        self.change(|_| ());
    }

    /// Resolves when the pool is to stop.
    pub async fn stopped(&self) {
        self.until(|shared| shared.is_stopping()).await;
    }

    /// Resolves when there is nothing more to do for an infeed without a session.
    pub async fn over(&self) {
        self.until(|shared| shared.is_stopping() || shared.drained.load(Relaxed)).await;
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changed = self.status.subscribe();
        while !condition(self) {
            // The sender is `self`: it can't be gone.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends a pause, if there is one: at once one infeed connects, unless a session stands, and probes with
    /// one transaction. Its acceptance lets the others send, and connect, the first of them alone.
    pub fn resume(&self) {
        self.change(|inner| {
            if inner.paused.take().is_none() {
                return;
            }
            (inner.connect_not_before, inner.connect_failures, inner.down) = (None, 0, None);
            inner.connects_singly = true;
            inner.hold = Some(Hold {
                until: Instant::now(),
                until_us: now_us(),
                why: "resumed".into(),
                interval_ms: PROBE_MS_MIN.min(self.config.rate_hold_ms),
                probing: false,
                resumed: true,
            });
        });
    }

    /// So many sessions from now on: those beyond end after their transaction (which ones: [`Seat`]), or
    /// others connect.
    pub fn set_target(&self, target: usize) {
        if self.lock().target != target {
            self.change(|inner| inner.target = target);
        }
    }

    pub fn infeed_begins(&self) {
        self.change(|inner| inner.infeeds += 1);
    }

    pub fn infeed_ends(&self) {
        self.change(|inner| inner.infeeds -= 1);
    }

    pub fn infeed_panicked(&self) {
        self.change(|inner| {
            inner.panics_total += 1;
            inner.erred("an infeed panicked (a defect); it was begun anew".into());
        });
    }

    /// A final dot was answered 2xx.
    pub fn succeeded(&self, token: u64) {
        self.last_success.store(now_us(), Relaxed);
        if self.troubled.load(Relaxed) {
            self.change(|inner| {
                inner.strains = 0;
                inner.losses.remove(&token);
                // One in flight from before the hold does not end it: the probe does.
                if inner.hold.as_ref().is_some_and(|hold| hold.probing) {
                    inner.hold = None;
                }
            });
        }
    }

    /// A transaction (known by its first recipient's token) lost its connection: how often so far.
    pub fn lost(&self, token: u64) -> u32 {
        self.change(|inner| {
            if inner.losses.len() >= LOSSES_KEPT_MAX {
                inner.losses.clear();
            }
            let losses = inner.losses.entry(token).or_insert(0);
            *losses += 1;
            let losses = *losses;
            if losses >= LOSSES_MAX {
                inner.losses.remove(&token);
            }
            losses
        })
    }

    pub fn error(&self, error: &impl ToString) {
        let error = error.to_string();
        self.change(|inner| inner.erred(error));
    }

    /// Obeys the MTA's part of a verdict. `learned`: how many were taken, for the two limits.
    pub fn obey(&self, mta: Mta, said: &Said, learned: usize) {
        let now = Instant::now();
        let why = || format!("{} {}", said.code, said.text);
        match mta {
            Mta::Fine | Mta::BackOff => (),
            Mta::CapConnections => self.change(|inner| {
                // Without a session there is nothing to cap at: the failed connect backs off.
                if inner.established() > 0 {
                    inner.cap = Some((inner.established(), now + self.config.connect_hold()));
                }
            }),
            Mta::HoldConnects => self.change(|inner| {
                if inner.established() > 0 {
                    inner.connect_not_before = Some(now + self.config.connect_hold());
                }
            }),
            Mta::HoldMinute => self.hold(self.config.rate_hold_ms, self.config.rate_hold_ms, why()),
            Mta::StopAndProbe => self.hold_and_probe(why()),
            Mta::Strain => {
                let strains = self.change(|inner| {
                    inner.strains += 1;
                    inner.strains
                });
                if strains >= STRAINS_MAX {
                    self.hold_and_probe(why());
                }
            }
            Mta::Pause => self.change(|inner| {
                inner.erred(why());
                inner.paused = Some(said.clone());
            }),
            Mta::LearnRecipientsMax => {
                self.recipients_max.fetch_min(learned.max(1), Relaxed);
            }
            Mta::LearnMessagesMax => {
                self.messages_max.fetch_min(learned.max(1), Relaxed);
            }
            Mta::LearnNoGroupAcrossDot => self.no_group_across_dot.store(true, Relaxed),
            Mta::LearnNoChunking => self.no_chunking.store(true, Relaxed),
            Mta::LearnNoXverp => self.no_xverp.store(true, Relaxed),
        }
    }

    fn hold_and_probe(&self, why: String) {
        let most = PROBE_MS_MAX.min(self.config.rate_hold_ms);
        self.hold(PROBE_MS_MIN.min(most), most, why);
    }

    /// Stops all transactions for `ms`; a probe that fails doubles it, up to `ms_max`.
    fn hold(&self, ms: u64, ms_max: u64, why: String) {
        self.change(|inner| {
            let interval_ms = match &inner.hold {
                // Those in flight when the first one failed say the same: once is enough.
                Some(hold) if !hold.probing && !hold.resumed => return,
                Some(hold) => (hold.interval_ms * 2).min(ms_max).max(ms),
                None => ms,
            };
            let wait = Duration::from_millis(interval_ms + fastrand::u64(0..=interval_ms / 10));
            inner.erred(why.clone());
            inner.hold = Some(Hold {
                until: Instant::now() + wait,
                until_us: now_us() + wait.as_micros() as Micros,
                why,
                interval_ms,
                probing: false,
                resumed: false,
            });
        });
    }

    /// What the MTA offers, less what the settings or experience forbid.
    pub fn learned(&self, capabilities: &mut Capabilities) {
        capabilities.chunking &= self.config.chunking && !self.no_chunking.load(Relaxed);
        capabilities.xverp &= self.config.xverp && !self.no_xverp.load(Relaxed);
        capabilities.recipients_max =
            self.recipients_max.load(Relaxed).min(self.config.recipients_per_transaction_max.max(1));
    }

    /// Remembers what EHLO told.
    pub fn offered(&self, capabilities: &Capabilities) {
        let mut inner = self.lock();
        if inner.offered.as_ref() != Some(capabilities) {
            inner.offered = Some(capabilities.clone());
        }
    }

    /// What the MTA offered last, with what was learned; before the first session: nothing but the limit
    /// on recipients.
    pub fn last_capabilities(&self) -> Capabilities {
        let mut capabilities = self.lock().offered.clone().unwrap_or_default();
        self.learned(&mut capabilities);
        capabilities
    }

    pub fn messages_max(&self) -> usize {
        self.messages_max.load(Relaxed)
    }
}
