//! The pace that an MTA is given while a run goes on.

use std::time::Duration;

use infeed::infeed::InfeedConfig;
use infeed::runner::{DrainConfig, MtaConfig, Progress, RunHandle, drain_owned};
use infeed::slice::XxRange;
use infeed::spool::{DirSpool, Settings, Spool};
use tokio::sync::watch;

use crate::common::daemon::MERGED;
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::pace::{arrivals, assert_never_above};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pace_that_is_changed_several_times_a_second_grants_no_burst_and_is_lifted() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    desk.submit_list("job", 2_000, MERGED, &["--merge"]);
    let spool = DirSpool::open(&desk.spool(), Settings::default()).expect("a spool");
    let infeed = InfeedConfig { address: sink.address(), connections: 8, ..InfeedConfig::default() };
    let config = DrainConfig::new(vec![MtaConfig::new("mta", infeed)]);
    let (handle, commands) = RunHandle::new();
    let (_stop, stopped) = watch::channel(false);
    let owner = Spool::own(&spool, XxRange::ALL).await.expect("the slices");
    let at = |pace: Option<f64>| handle.set_pace("mta".to_owned(), pace);
    // it is in the queue of commands before the run begins
    at(Some(40.0)).await.expect("taken");
    let run = tokio::spawn(drain_owned(owner, config, Progress::new(), stopped, commands));
    let mut tail = 0;
    for change in 0.. {
        at(Some(if change % 2 == 0 { 60.0 } else { 40.0 })).await.expect("it runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
        tail = sink.tail().waiting().max(tail);
        if tail >= 150 {
            break;
        }
    }
    let status = handle.status().await.expect("it runs");
    assert!(status.mtas[0].messages_per_second.is_some());
    // those before the first change were taken up before it is known to have come
    let times = arrivals(&sink.taken(), |_| true);
    assert_never_above(&times, 60.0, 0.2);
    at(None).await.expect("it runs");
    let report = run.await.expect("no defect").expect("a drain");
    assert_eq!((report.accepted, report.unfinished), (2_000, 0));
    assert_eq!(sink.stop().1.len(), 2_000);
}
