//! All steps, each with a pool of its own.
//!
//! A limit of connections ends its step, and what wants more connections is left out from then on; any other
//! trouble, and a stop, end the sweep. Either way what is in flight ends first. Fails in no way: how it ended
//! is in [`Swept`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::letters::Letters;
use super::plan::{PAUSE_S, Plan, Point};
use super::rehearsal::{Measured, NoSession, Rehearsal};
use super::report::Ended;
use super::row::{Cell, Row};
use super::trouble::Trouble;
use crate::infeed::{InfeedConfig, MtaState, Opened, Pool};

/// How often a step is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long those that connect beside one that was turned away may take.
const ANSWERS_WAIT_MAX: Duration = Duration::from_secs(2);

/// How steps are run.
#[derive(Debug, Clone)]
pub struct SweepConfig {
    /// Connections and recipients a transaction are the steps' own.
    pub infeed: InfeedConfig,
    /// How long what is in flight at the end of a step may take.
    pub grace: Duration,
    pub processors: usize,
}

/// Where a sweep is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps that are done, skipped ones too.
    pub done: usize,
    pub round: usize,
    pub point: Point,
    /// Recipients accepted so far.
    pub accepted: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Swept {
    /// In the order of recipients a transaction, then connections.
    pub rows: Vec<Row>,
    /// How the last session began.
    pub opened: Option<Opened>,
    pub recipients_accepted: u64,
    /// Rounds that were run to their end.
    pub rounds_done: usize,
    pub ended: Ended,
    /// The MTA takes no more connections than that.
    pub limit: Option<Trouble>,
}

/// Runs it.
pub async fn sweep(
    plan: &Plan,
    letters: Arc<Letters>,
    config: &SweepConfig,
    stop: watch::Receiver<bool>,
    mut progress: impl FnMut(Progress),
) -> Swept {
    let mut cells: BTreeMap<Point, Cell> =
        plan.points().iter().map(|&point| (point, Cell::default())).collect();
    let mut swept = Swept {
        rows: Vec::new(),
        opened: None,
        recipients_accepted: 0,
        rounds_done: 0,
        ended: Ended::Done,
        limit: None,
    };
    let mut to_come = plan.recipients_per_pass();
    let mut done = 0;
    'sweep: for round in 0..plan.rounds() {
        for point in plan.order(round) {
            let recipients = point.recipients_per_transaction as u64;
            let left = plan.recipients_max().saturating_sub(letters.count());
            let transactions_max = plan.transactions_of_step(left, to_come);
            to_come -= recipients;
            if !is_beyond(swept.limit.as_ref(), point) {
                let rehearsal = Arc::new(Rehearsal::new(
                    letters.clone(),
                    point,
                    plan.seconds(),
                    transactions_max,
                    config.processors,
                ));
                let accepted = swept.recipients_accepted;
                let mut pause = Duration::from_secs_f64(PAUSE_S);
                let ended =
                    step(rehearsal.clone(), point, config, stop.clone(), swept.opened.is_some(), || {
                        progress(Progress {
                            done,
                            round,
                            point,
                            accepted: accepted + rehearsal.accepted_total(),
                        });
                    })
                    .await;
                let measured = rehearsal.measured();
                swept.recipients_accepted += measured.accepted_total;
                swept.opened = measured.opened.clone().or(swept.opened);
                let trouble = ended.or_else(|| gone(&measured));
                if let Some(cell) = cells.get_mut(&point) {
                    cell.add(round, measured, trouble.is_none() && !*stop.borrow());
                }
                match trouble {
                    Some(trouble) if trouble.is_fatal() => {
                        swept.ended = Ended::Trouble { connections: point.connections, trouble };
                        break 'sweep;
                    }
                    Some(limit) => {
                        if matches!(limit, Trouble::Limit { refused: true, .. }) {
                            pause = Duration::from_millis(config.infeed.connect_refused_hold_ms);
                        }
                        swept.limit = Some(limit);
                    }
                    None => (),
                }
                rest(pause, &stop).await;
            }
            done += 1;
            if *stop.borrow() {
                swept.ended = Ended::Stopped;
                break 'sweep;
            }
        }
        swept.rounds_done += 1;
    }
    swept.rows = cells.iter().map(|(&point, cell)| cell.row(point)).collect();
    swept
}

/// Between two steps; a stop ends it.
async fn rest(pause: Duration, stop: &watch::Receiver<bool>) {
    let mut stop = stop.clone();
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// The MTA doesn't take as many connections.
fn is_beyond(limit: Option<&Trouble>, point: Point) -> bool {
    matches!(limit, Some(Trouble::Limit { connections, .. }) if point.connections > *connections)
}

/// The MTA is no more: a whole step without a session.
fn gone(measured: &Measured) -> Option<Trouble> {
    let error = measured.errors.last.as_ref()?;
    let is_gone = measured.accepted_total == 0 && measured.errors.no_session > 0;
    is_gone.then(|| Trouble::NoSession { text: error.clone() })
}

/// One step, until every transaction of it is settled.
async fn step(
    rehearsal: Arc<Rehearsal>,
    point: Point,
    config: &SweepConfig,
    mut stop: watch::Receiver<bool>,
    ever_connected: bool,
    mut tell: impl FnMut(),
) -> Option<Trouble> {
    let infeed = InfeedConfig {
        connections: point.connections,
        recipients_per_transaction_max: point.recipients_per_transaction,
        ..config.infeed.clone()
    };
    let pool = Pool::start(infeed, rehearsal.clone());
    let mut ticks = tokio::time::interval(TICK);
    let (mut trouble, mut turned_away) = (None, TurnedAway::default());
    loop {
        tokio::select! {
            () = pool.finished() => break,
            _ = stop.wait_for(|stop| *stop) => break,
            _ = ticks.tick() => {}
        }
        let status = pool.status();
        let goes_on = rehearsal.tick(status.established);
        tell();
        trouble = match (rehearsal.no_session(), status.state) {
            (_, MtaState::Paused { said }) => {
                Some(Trouble::Held { text: format!("{} {}", said.code, said.text) })
            }
            (_, MtaState::Held { why, .. }) => Some(Trouble::Held { text: why }),
            (Some(error), _) if status.established == 0 && !(ever_connected || status.ever_connected) => {
                Some(Trouble::NoSession { text: error.text })
            }
            (error, _) => {
                turned_away.hears(error.filter(|_| status.established > 0));
                turned_away.limit(status.connecting, &rehearsal)
            }
        };
        if trouble.is_some() || !goes_on {
            break;
        }
    }
    trouble = trouble.or_else(|| turned_away.limit(0, &rehearsal));
    rehearsal.close();
    let stopped = pool.stop(config.grace).await;
    if stopped.aborted > 0 {
        tracing::warn!(
            "{} connections were cut off: the MTA did not answer within {} s",
            stopped.aborted,
            config.grace.as_secs()
        );
    }
    // what the MTA said to a message goes before what became of the connection
    rehearsal.trouble().or(trouble)
}

/// One that was turned away while sessions stood. How many the MTA takes is known once those that connected
/// beside it have their answers too.
#[derive(Default)]
struct TurnedAway(Option<(NoSession, Instant)>);

impl TurnedAway {
    fn hears(&mut self, error: Option<NoSession>) {
        if let Some(error) = error {
            self.0.get_or_insert((error, Instant::now()));
        }
    }

    fn limit(&self, connecting: usize, rehearsal: &Rehearsal) -> Option<Trouble> {
        let (error, since) = self.0.as_ref()?;
        let is_known = connecting == 0 || since.elapsed() >= ANSWERS_WAIT_MAX;
        is_known.then(|| Trouble::Limit {
            connections: rehearsal.sessions_max(),
            text: error.said.clone(),
            refused: !error.is_reply,
        })
    }
}
