//! The MTA's death, byte by byte: the connection is lost after each octet of a session, to the server and
//! to the client, in order and by reset, in every mode of the wire; the drain goes on over a new one.
//!
//! Whatever the place: everybody has a final outcome, and it is the one that is due; whoever is accepted is
//! in the sink's ledger; whoever is there twice is marked; no more are in doubt than D × R of the one
//! connection; the loss refuses nobody and costs nobody an attempt, but for the third of one transaction.

mod common;
#[path = "mta_death/cut.rs"]
mod cut;
#[path = "mta_death/front.rs"]
mod front;
#[path = "mta_death/round.rs"]
mod round;

use std::sync::Arc;

use tokio::task::JoinSet;

use common::mta::is_long;
use common::seed::Seed;
use cut::{Cut, Kind, Way};
use round::{Course, Mode};

/// From one place to the next; each octet in the long run. Other runs begin elsewhere (`INFEED_TEST_SEED`).
const STRIDE: usize = 12;
/// The same for several losses in a row at one place.
const STRIDE_OF_MANY: usize = 60;
/// Rounds side by side: they wait for each other's disks and sockets most of the time.
const ROUNDS_MAX: usize = 16;
/// How many failures are shown.
const SHOWN_MAX: usize = 10;

/// Loses the connection at every place; `losses` connections in a row at the same one.
async fn sweep(mode: Mode, losses: usize, stride: usize) {
    let course = Arc::new(Course::new(mode));
    let whole = course.clone().round(Vec::new()).await.unwrap_or_else(|what| panic!("{what}"));
    assert_eq!(whole.len(), 1, "{mode:?}: all of it goes over one connection");
    let stride = if is_long() { 1 } else { stride * mode.cost() };
    let seed = Seed::new();
    let lengths = [(Way::ToServer, whole[0].to_server), (Way::ToClient, whole[0].to_client.len() as u64)];
    let mut cuts = Vec::new();
    for (way, length) in lengths {
        for (i, kind) in [Kind::Fin, Kind::Rst].into_iter().enumerate() {
            // the two kinds fill each other's gaps
            let first = (seed.value().wrapping_add((i * stride / 2) as u64)) % stride as u64;
            cuts.extend((first..=length).step_by(stride).map(|at| Cut { way, kind, at }));
        }
    }
    assert!(cuts.len() > 4_000 / stride, "{mode:?}: a session of {lengths:?} octets");
    let mut rounds = JoinSet::new();
    let mut failures = Vec::new();
    let mut played = 0;
    let count = cuts.len();
    for cut in cuts {
        if rounds.len() >= ROUNDS_MAX {
            failures.extend(ended(rounds.join_next().await));
            played += 1;
        }
        rounds.spawn(course.clone().round(vec![cut; losses]));
    }
    while !rounds.is_empty() {
        failures.extend(ended(rounds.join_next().await));
        played += 1;
    }
    assert_eq!(played, count);
    eprintln!("{mode:?}: {count} places of {lengths:?} octets, {losses} losses each");
    let shown: Vec<&String> = failures.iter().take(SHOWN_MAX).collect();
    assert!(failures.is_empty(), "{} of {count} rounds failed: {shown:#?}", failures.len());
}

/// What a round had to complain of.
fn ended<T>(round: Option<Result<Result<T, String>, tokio::task::JoinError>>) -> Option<String> {
    match round? {
        Ok(Ok(_)) => None,
        Ok(Err(what)) => Some(what),
        Err(panicked) => Some(panicked.to_string()),
    }
}

macro_rules! each_mode {
    ($($name:ident: $mode:ident;)+) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_loss_at_any_octet_leaves_everybody_with_the_right_outcome() {
                sweep(Mode::$mode, 1, STRIDE).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn three_losses_at_the_same_octet_lose_nobody_either() {
                sweep(Mode::$mode, 3, STRIDE_OF_MANY).await;
            }
        }
    )+};
}

each_mode! {
    data: Data;
    lock_step: LockStep;
    bdat_alone: Bdat1;
    bdat_in_groups: Bdat4;
    xverp: Xverp;
    tls: Tls;
    tls_by_bdat: TlsBdat4;
}
