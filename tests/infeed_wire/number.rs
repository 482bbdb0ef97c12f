//! How many connections there are, when that changes while they work; and what is counted of them.

use std::sync::Arc;
use std::time::Duration;

use infeed::infeed::{InfeedConfig, Pool};
use infeed::pressure::law::Mark;
use infeed::sink::{Settings, Sink, SinkConfig, SinkHandle};

use super::work::{List, config, message};

fn sink(settings: Settings) -> SinkHandle {
    let listen = "127.0.0.1:0".parse().unwrap();
    Sink::start(SinkConfig { settings, ..SinkConfig::new(listen) }).unwrap()
}

fn many(sink: &SinkHandle) -> InfeedConfig {
    InfeedConfig { connections: 32, ..config(&sink.local_addr().to_string()) }
}

async fn until_established(pool: &Pool, count: usize) {
    let mut changed = pool.changed();
    let there = changed.wait_for(|status| status.established == count && status.target == count);
    tokio::time::timeout(Duration::from_secs(60), there).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_changes_while_all_work_is_kept_and_loses_and_repeats_nobody() {
    for without in [vec![], vec!["chunking"], vec!["pipelining"]] {
        let without = without.iter().map(|e| clap::ValueEnum::from_str(e, true).unwrap()).collect();
        let sink = sink(Settings { service_us: Some(2_000), without: Some(without), ..Settings::default() });
        let list = Arc::new(List::new((0..3_000).map(|token| message(&[token]))));
        let mut pool = Pool::start_with(InfeedConfig { chunking: true, ..many(&sink) }, list.clone(), 2);
        for count in [2, 12, 3, 20, 1] {
            pool.set_connections(count);
            until_established(&pool, count).await;
        }
        pool.set_connections(24);
        pool.finished().await;
        let (status, totals) = (pool.status(), pool.totals());
        pool.stop(Duration::from_secs(20)).await;
        assert!(list.words().iter().all(|words| words.starts_with("accepted ")), "{:?}", list.words());
        assert_eq!(list.words().len(), 3_000);
        let counters = sink.shutdown().await.unwrap();
        assert_eq!((counters.messages, counters.dropped_before_dot), (3_000, 0));
        assert!(counters.open_max <= 24, "{counters:?}");
        assert_eq!((totals.transactions, totals.recipients), (3_000, 3_000));
        assert_eq!(totals.octets, 3_000 * message(&[1]).content.size_octets);
        assert!(totals.busy_us >= 3_000 * 1_000, "{totals:?}");
        assert!(status.established_peak >= 20, "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_waits_for_work_leaves_when_it_is_one_too_many_and_its_wait_is_idle() {
    let sink = sink(Settings::default());
    let list = Arc::new(List::new((0..8).map(|token| message(&[token]))).endless());
    let mut pool = Pool::start_with(many(&sink), list.clone(), 1);
    until_established(&pool, 1).await;
    pool.set_connections(3);
    for token in 8.. {
        list.add(message(&[token]));
        tokio::time::sleep(Duration::from_millis(5)).await;
        if pool.status().established == 3 {
            break;
        }
    }
    pool.set_connections(1);
    until_established(&pool, 1).await;
    list.add(message(&[100_000]));
    while list.waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(pool.totals().idle_us > 0);
    pool.stop(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signs_of_strain_are_counted_as_what_they_are() {
    for (settings, mark) in [
        (Settings { connections_max: Some(2), ..Settings::default() }, Mark::TooManyConnections),
        (Settings { banner_delay_ms: Some(1_200), ..Settings::default() }, Mark::ConnectSlow),
        (Settings { drain_rate: Some(50), queue_max: Some(5), ..Settings::default() }, Mark::SlowRcpt),
        (Settings { fail: Some(vec!["mail=421%20".parse().unwrap()]), ..Settings::default() }, Mark::Closing),
    ] {
        let sink = sink(Settings { service_us: Some(5_000), ..settings });
        let list = Arc::new(List::new((0..100_000).map(|token| message(&[token]))).again().endless());
        let pool = Pool::start(InfeedConfig { connections: 6, ..many(&sink) }, list.clone());
        let marked = async {
            while pool.totals().marks[mark.index()] == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), marked).await.unwrap_or_else(|_| panic!("{mark:?}"));
        let others: Vec<Mark> = Mark::ALL
            .into_iter()
            .filter(|other| *other != mark && pool.totals().marks[other.index()] > 0)
            .collect();
        assert!(others.is_empty(), "{mark:?}, and {others:?}");
        pool.stop(Duration::from_secs(20)).await;
    }
}
