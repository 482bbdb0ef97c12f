//! One infeed's life: connect, shake hands, drain, rotate; after a failure wait and begin anew.
//!
//! Ends when there is no more work or the pool stops. Fails in no other way: errors go to the status.
//! Never holds a transaction for longer than [`WAITED_MAX`] without a session to send it on.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::dialogue::{Dialogue, End};
use super::error::InfeedError;
use super::lent::Lent;
use super::observed::{Observed, Opened};
use super::state::{Connecting, Opening, Shared};
use super::transaction::{Capabilities, Said, Work};
use super::verdict::{self, Mta};
use super::wire::Wire;
use crate::pressure::law::Mark;

/// A transaction that waits longer than this for its connection goes back: another MTA may take it, and
/// its job may be paused meanwhile.
const WAITED_MAX: Duration = Duration::from_millis(500);

/// Runs one infeed to its end. It connects only when there is something to send: a small job opens no
/// more connections than it has transactions, and the end of the work is noticed with the MTA down.
pub async fn run<W: Work>(work: Arc<W>, shared: Arc<Shared>) {
    // Sessions in a row that ended badly without one message accepted.
    let mut failures = 0u32;
    while let Some(mut connecting) = shared.admit_connect().await {
        let capabilities = shared.last_capabilities();
        let transaction = tokio::select! {
            biased;
            () = shared.stopped() => return,
            // A transaction that is at hand stays where it is.
            () = shared.admission_to_connect_over() => continue,
            transaction = work.next(&capabilities) => transaction,
        };
        let Some(transaction) = transaction else {
            shared.drained();
            return;
        };
        let mut lent = Some(Lent::new(work.clone(), transaction));
        let opened = tokio::select! {
            opened = open(&shared, &mut connecting, &mut lent) => opened,
            () = shared.stopped() => return,
        };
        let (wire, mut capabilities) = match opened {
            Ok((wire, capabilities, opened)) => {
                work.observed(&Observed::Session(&opened));
                shared.meter.connected(opened.session);
                (wire, capabilities)
            }
            Err(error) => {
                let others = shared.status().established;
                let (mta, said) = verdict::on_no_session(&error, others);
                no_session(&shared, &error, &said, mta, others > 0);
                tracing::debug!(%error, ?mta, "no session");
                work.observed(&Observed::NoSession(&error));
                connecting.failed(&error, mta, &said);
                // Not tried; after the failure is known, so that nobody connects for it at once.
                drop(lent);
                continue;
            }
        };
        let established = connecting.established();
        shared.learned(&mut capabilities);
        shared.offered(&capabilities);
        let dialogue = Dialogue::new(
            wire,
            work.clone(),
            shared.clone(),
            established.seat.clone(),
            capabilities,
            failures > 0,
        );
        let (end, accepted) = dialogue.run(lent).await;
        drop(established);
        match end {
            End::Drained | End::Stopped => return,
            End::Rotate | End::Idle | End::Surplus => failures = 0,
            End::Closed(error) => {
                tracing::debug!(%error, accepted, "a session ended");
                work.observed(&Observed::SessionLost(&error));
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

/// Counts what a failed connect says of the MTA's load.
fn no_session(shared: &Shared, error: &InfeedError, said: &Said, mta: Mta, others_stand: bool) {
    match error {
        InfeedError::Said { stage, .. } => shared.meter.refused(*stage, said, mta, others_stand),
        InfeedError::Connect { .. } if others_stand => shared.meter.mark(Mark::ConnectRefused),
        InfeedError::Timeout { .. } if others_stand => shared.meter.mark(Mark::ConnectSlow),
        _ => (),
    }
}

/// Opens a session. A transaction that would wait too long for it is given back meanwhile.
async fn open<W: Work>(
    shared: &Arc<Shared>,
    connecting: &mut Connecting,
    lent: &mut Option<Lent<W>>,
) -> Result<(Wire, Capabilities, Opened), InfeedError> {
    let _counted = Opening::begin(shared);
    let mut opening = pin!(shared.opener.open(&shared.config));
    if let Ok(opened) = tokio::time::timeout(WAITED_MAX, &mut opening).await {
        return opened;
    }
    connecting.gives_back();
    drop(lent.take());
    opening.await
}
