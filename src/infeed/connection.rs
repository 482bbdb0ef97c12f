//! One infeed's life: connect, shake hands, drain, rotate; after a failure wait and begin anew.
//!
//! Ends when there is no more work or the pool stops. Fails in no other way: errors go to the status.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::dialogue::{Dialogue, End};
use super::error::InfeedError;
use super::handshake;
use super::lent::Lent;
use super::state::Shared;
use super::transaction::{Said, Work};
use super::verdict::{self, Context, Mta};
use super::wire::Wire;

/// A transaction that waited longer than this for its connection goes back: its job may have been
/// paused meanwhile.
const WAITED_MAX: Duration = Duration::from_millis(500);

/// Runs one infeed to its end. It connects only when there is something to send: a small job opens no
/// more connections than it has transactions, and the end of the work is noticed with the MTA down.
pub async fn run<W: Work>(work: Arc<W>, shared: Arc<Shared>) {
    // Sessions in a row that ended badly without one message accepted.
    let mut failures = 0u32;
    while let Some(connecting) = shared.admit_connect().await {
        let capabilities = shared.last_capabilities();
        let transaction = tokio::select! {
            transaction = work.next(&capabilities) => transaction,
            () = shared.stopped() => return,
        };
        let Some(transaction) = transaction else {
            shared.drained();
            return;
        };
        let lent = Lent::new(work.clone(), transaction);
        let begun = Instant::now();
        let opened = tokio::select! {
            opened = handshake::open(&shared.config) => opened,
            () = shared.stopped() => return,
        };
        let (stream, mut capabilities) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let (mta, said) = judge(&error, shared.status().established);
                tracing::debug!(%error, ?mta, "no session");
                connecting.failed(&error, mta, &said);
                // Not tried; after the failure is known, so that nobody connects for it at once.
                lent.settle();
                continue;
            }
        };
        let established = connecting.established();
        shared.learned(&mut capabilities);
        shared.offered(&capabilities);
        let wire = Wire::new(stream, shared.config.timeouts);
        let dialogue = Dialogue::new(wire, work.clone(), shared.clone(), capabilities, failures > 0);
        let (end, accepted) = dialogue.run((begun.elapsed() <= WAITED_MAX).then_some(lent)).await;
        drop(established);
        match end {
            End::Drained | End::Stopped => return,
            End::Rotate => failures = 0,
            End::Closed(error) => {
                tracing::debug!(%error, accepted, "a session ended");
                shared.error(&error);
                failures = if accepted > 0 { 1 } else { failures.saturating_add(1) };
                tokio::select! {
                    () = tokio::time::sleep(shared.config.reconnect_delay(failures)) => (),
                    () = shared.over() => return,
                }
            }
        }
    }
}

/// What a failed connect or handshake means for the MTA.
fn judge(error: &InfeedError, sessions_live: usize) -> (Mta, Said) {
    match error {
        InfeedError::Said { stage, said } => {
            (verdict::on_reply(*stage, said, &Context::default()).mta, said.clone())
        }
        error => {
            let said = Said { code: 421, text: error.to_string() };
            (verdict::on_connect_failed(sessions_live), said)
        }
    }
}
