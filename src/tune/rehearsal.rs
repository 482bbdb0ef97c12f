//! One step: gives letters to the infeeds, and counts and times what comes back.
//!
//! A step has three phases. In the *warm-up*, until a fifth of its time or of its letters is gone (until
//! half, while not all connections stand), nothing counts. Then it is *measured*, until time or letters are
//! gone, or somebody closes it. What is in flight then ends, and counts for nothing but errors. Never gives
//! more letters than it was allowed, and fails in no way.

use std::future::{Future, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::cpu::{self, CpuReading, CpuShare};
use super::letters::Letters;
use super::plan::Point;
use super::row::Errors;
use super::trouble::{Trouble, Watch};
use crate::infeed::{
    Capabilities, InfeedError, NoRecord, Observed, Opened, RcptResult, Settlement, Transaction, Work,
};

/// Part of a step that is warm-up, and the part that is if not all connections stand.
const WARM_UP: f64 = 0.2;
const WARM_UP_MAX: f64 = 0.5;
/// Microseconds that a histogram tells apart, at most, and its significant digits.
const MICROSECONDS_MAX: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// What was measured in one step.
#[derive(Debug)]
pub struct Measured {
    /// Of the measured phase.
    pub seconds: f64,
    /// Recipients accepted in it.
    pub accepted: u64,
    /// Microseconds, in it: the final reply, and MAIL to the last RCPT.
    pub content_us: Histogram<u64>,
    pub envelope_us: Histogram<u64>,
    /// Microseconds, in all of the step: until the kernel had connected, and from there to the greeting.
    pub connect_us: Histogram<u64>,
    pub greeting_us: Histogram<u64>,
    pub cpu: Option<CpuShare>,
    /// Recipients accepted in all of the step.
    pub accepted_total: u64,
    /// The letters were used up before the time was.
    pub used_up: bool,
    /// Sessions at a time, at most.
    pub sessions_max: usize,
    pub errors: Errors,
    /// How the last session began.
    pub opened: Option<Opened>,
}

/// A histogram of microseconds.
///
/// # Panics
/// Never: its bounds are good.
pub fn histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, MICROSECONDS_MAX, DIGITS) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("bounds of a histogram: {error:?}"),
    }
}

/// The work of one step.
#[derive(Debug)]
pub struct Rehearsal {
    letters: Arc<Letters>,
    point: Point,
    seconds: f64,
    processors: usize,
    gate: Mutex<Gate>,
}

#[derive(Debug)]
struct Gate {
    begun: Instant,
    /// Transactions that may be given, and that were.
    allowed: u64,
    given: u64,
    closed: bool,
    phase: Phase,
    sessions: usize,
    watch: Watch,
    trouble: Option<Trouble>,
    /// The last connect that failed, while it is news.
    no_session: Option<NoSession>,
    measured: Measured,
}

#[derive(Debug)]
enum Phase {
    WarmUp,
    Measuring { since: Instant, cpu: Option<CpuReading> },
    Over,
}

/// What is kept of a connect that failed.
#[derive(Debug, Clone)]
pub struct NoSession {
    pub text: String,
    /// The MTA's own words where it had some, else as `text`.
    pub said: String,
    pub is_reply: bool,
}

impl Rehearsal {
    pub fn new(
        letters: Arc<Letters>,
        point: Point,
        seconds: f64,
        transactions_max: u64,
        processors: usize,
    ) -> Self {
        let gate = Gate {
            begun: Instant::now(),
            allowed: transactions_max,
            given: 0,
            closed: false,
            phase: Phase::WarmUp,
            sessions: 0,
            watch: Watch::default(),
            trouble: None,
            no_session: None,
            measured: Measured {
                seconds: 0.0,
                accepted: 0,
                content_us: histogram(),
                envelope_us: histogram(),
                connect_us: histogram(),
                greeting_us: histogram(),
                cpu: None,
                accepted_total: 0,
                used_up: false,
                sessions_max: 0,
                errors: Errors::default(),
                opened: None,
            },
        };
        Self { letters, point, seconds, processors, gate: Mutex::new(gate) }
    }

    /// A panic of one infeed leaves plain data behind.
    fn lock(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is told how many sessions stand, and moves on with the time. `false`: the time is over.
    pub fn tick(&self, sessions: usize) -> bool {
        let now = Instant::now();
        let mut gate = self.lock();
        gate.sessions = sessions;
        gate.measured.sessions_max = gate.measured.sessions_max.max(sessions);
        self.turn(&mut gate, now);
        now.duration_since(gate.begun).as_secs_f64() < self.seconds
    }

    /// No letter is given from now on.
    pub fn close(&self) {
        let mut gate = self.lock();
        gate.closed = true;
        self.end(&mut gate, Instant::now());
    }

    /// What should stop the sweep, once.
    pub fn trouble(&self) -> Option<Trouble> {
        self.lock().trouble.take()
    }

    /// A connect that failed since this was asked last.
    pub fn no_session(&self) -> Option<NoSession> {
        self.lock().no_session.take()
    }

    /// Sessions at a time, at most, so far.
    pub fn sessions_max(&self) -> usize {
        self.lock().measured.sessions_max
    }

    /// Recipients accepted so far.
    pub fn accepted_total(&self) -> u64 {
        self.lock().measured.accepted_total
    }

    /// What was measured: when every infeed has ended.
    pub fn measured(self: Arc<Self>) -> Measured {
        self.close();
        let mut gate = self.lock();
        let empty = Measured {
            content_us: histogram(),
            envelope_us: histogram(),
            connect_us: histogram(),
            greeting_us: histogram(),
            errors: Errors::default(),
            opened: None,
            ..gate.measured
        };
        std::mem::replace(&mut gate.measured, empty)
    }

    fn turn(&self, gate: &mut Gate, now: Instant) {
        if gate.closed || !matches!(gate.phase, Phase::WarmUp) {
            return;
        }
        let time = now.duration_since(gate.begun).as_secs_f64() / self.seconds;
        let gone = time.max(gate.given as f64 / gate.allowed.max(1) as f64);
        let all_stand = gate.sessions >= self.point.connections;
        if gone >= WARM_UP_MAX || gone >= WARM_UP && all_stand {
            gate.phase = Phase::Measuring { since: now, cpu: cpu::read() };
        }
    }

    fn end(&self, gate: &mut Gate, now: Instant) {
        if let Phase::Measuring { since, cpu } = &gate.phase {
            let seconds = now.duration_since(*since).as_secs_f64();
            gate.measured.seconds = seconds;
            gate.measured.cpu = cpu
                .zip(cpu::read())
                .and_then(|(from, to)| cpu::between(&from, &to, seconds, self.processors));
        }
        gate.phase = Phase::Over;
    }

    fn take(&self) -> Option<Transaction> {
        let now = Instant::now();
        let mut gate = self.lock();
        self.turn(&mut gate, now);
        if gate.closed || gate.given >= gate.allowed {
            return None;
        }
        gate.given += 1;
        if gate.given == gate.allowed {
            // what is in flight ends with ever fewer beside it
            gate.measured.used_up = true;
            self.end(&mut gate, now);
        }
        drop(gate);
        self.letters.next(self.point.recipients_per_transaction)
    }
}

impl Work for Rehearsal {
    fn try_next(&self, _: &Capabilities) -> Option<Transaction> {
        self.take()
    }

    fn next(&self, _: &Capabilities) -> impl Future<Output = Option<Transaction>> + Send {
        ready(self.take())
    }

    fn hand_out(&self, _: &[&Transaction]) -> impl Future<Output = Result<(), NoRecord>> + Send {
        ready(Ok(()))
    }

    fn settle(&self, settlement: Settlement) {
        let mut gate = self.lock();
        let gate = &mut *gate;
        let is_measured = matches!(gate.phase, Phase::Measuring { .. });
        for result in &settlement.results {
            let errors = &mut gate.measured.errors;
            match result {
                RcptResult::Accepted { .. } => {
                    gate.measured.accepted_total += 1;
                    gate.measured.accepted += u64::from(is_measured);
                }
                RcptResult::Refused { .. } => errors.refused += 1,
                RcptResult::Deferred { .. } => errors.deferred += 1,
                RcptResult::InDoubt { .. } => errors.in_doubt += 1,
                RcptResult::NotTried => errors.not_tried += 1,
            }
        }
        if settlement.results.iter().any(|result| matches!(result, RcptResult::Accepted { .. })) {
            let untried = settlement.results.iter().filter(|result| matches!(result, RcptResult::NotTried));
            gate.measured.errors.beyond_limit += untried.count() as u64;
        }
        if let Some(trouble) = gate.watch.look(&settlement) {
            gate.trouble.get_or_insert(trouble);
            gate.closed = true;
            self.end(gate, Instant::now());
        }
    }

    fn observed(&self, what: &Observed<'_>) {
        let mut gate = self.lock();
        let is_measured = matches!(gate.phase, Phase::Measuring { .. });
        let measured = &mut gate.measured;
        match what {
            Observed::Envelope { took } if is_measured => record(&mut measured.envelope_us, *took),
            Observed::Content { took } if is_measured => record(&mut measured.content_us, *took),
            Observed::Envelope { .. } | Observed::Content { .. } => (),
            Observed::Session(opened) => {
                record(&mut measured.connect_us, opened.connect);
                record(&mut measured.greeting_us, opened.greeting);
                measured.opened = Some((*opened).clone());
            }
            Observed::NoSession(error) => {
                measured.errors.no_session += 1;
                measured.errors.last = Some(error.to_string());
                let text = error.to_string();
                let (said, is_reply) = match error {
                    InfeedError::Said { said, .. } => (format!("{} {}", said.code, said.text), true),
                    _ => (text.clone(), false),
                };
                gate.no_session = Some(NoSession { text, said, is_reply });
            }
            Observed::SessionLost(error) => {
                measured.errors.sessions_lost += 1;
                measured.errors.last = Some(error.to_string());
            }
        }
    }
}

fn record(histogram: &mut Histogram<u64>, took: Duration) {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    // 0 is below what it tells apart
    histogram.saturating_record(us.clamp(1, MICROSECONDS_MAX));
}
