//! Connecting, pausing, stopping, panics.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use infeed::infeed::{MtaState, Pool, StopReport};
use tokio::net::TcpListener;

use super::server::{HELLO, Server};
use super::work::{List, config, drain, message};

const ENVELOPE: &[&str] = &["C: MAIL", "C: RCPT", "C: DATA"];
const READY: &[&str] = &["S: 250 ok|250 ok|354 go"];

#[tokio::test]
async fn a_dead_mta_takes_no_work_and_is_found_when_it_lives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let list = Arc::new(List::new([message(&[1])]).again());
    let mut config = config(&address.to_string());
    config.connections = 4;
    let pool = Pool::start(config, list.clone());
    let mut changed = pool.changed();
    let down =
        changed.wait_for(|status| matches!(status.state, MtaState::Down { .. })).await.unwrap().clone();
    assert!(down.connecting <= 1 && !down.ever_connected, "{down:?}");
    assert!(down.last_error_us.is_some(), "{down:?}");
    assert!(down.last_error.unwrap().contains(&address.to_string()));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    let _server = Server::on(
        socket.listen(16).unwrap(),
        &[&[HELLO, &["good"]], &[HELLO, &["good"]], &[HELLO, &["good"]], &[HELLO, &["good"]]],
    );
    pool.finished().await;
    assert_eq!(list.attempts(), ["accepted GOOD000001"]);
    assert!(pool.status().last_success.is_some());
}

#[tokio::test]
async fn a_5xx_greeting_or_ehlo_pauses_until_resumed_and_touches_nobody() {
    for script in [
        &["S: 554 5.7.1 no service for you", "eof"] as &[&str],
        &["S: 220 mx", "C: EHLO", "S: 550 5.7.1 no service for you", "eof"],
    ] {
        let server = Server::start(&[&[script], &[HELLO, &["good"]]]).await;
        let list = Arc::new(List::new([message(&[1])]).again());
        let pool = Pool::start(config(&server.address), list.clone());
        let mut changed = pool.changed();
        let paused =
            changed.wait_for(|status| matches!(status.state, MtaState::Paused { .. })).await.unwrap().clone();
        let MtaState::Paused { said } = paused.state else { panic!() };
        assert!(said.text.contains("no service for you"));
        assert_eq!(list.attempts(), [""]);
        pool.resume();
        pool.finished().await;
        assert_eq!(list.attempts(), ["accepted GOOD000001"]);
    }
}

#[tokio::test]
async fn a_4xx_greeting_silence_or_rubbish_is_tried_again() {
    let scripts: [&[&[&str]]; 6] = [
        &[&["S: 421 4.3.2 Connection rate limit exceeded", "close"]],
        &[&["S: 450 later", "close"]],
        &[&["close"]],
        &[&["S: HTTP/1.1 400 Bad Request", "close"]],
        &[&["S: 220 \u{e9}t\u{e9}", "C: EHLO", "S: 250-mx|550 no", "close"]],
        &[HELLO, &["good"]],
    ];
    let server = Server::start(&scripts).await;
    let list = drain(config(&server.address), List::new([message(&[1])]).again()).await;
    server.played().await;
    assert_eq!(list.attempts(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn a_silent_greeting_times_out() {
    let server = Server::start(&[&[&["hang"]], &[HELLO, &["good"]]]).await;
    let mut config = config(&server.address);
    config.timeouts.banner_ms = 30;
    let list = drain(config, List::new([message(&[1])]).again()).await;
    server.played().await;
    assert_eq!(list.attempts(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn an_idle_connection_that_is_closed_costs_no_transaction() {
    let idle = [".", "S: 250 ok", "S: 421 4.4.2 timeout", "close"];
    let server = Server::start(&[&[HELLO, ENVELOPE, READY, &idle], &[HELLO, &["good"]]]).await;
    let list = Arc::new(List::new([message(&[1])]).endless());
    let pool = Pool::start(config(&server.address), list.clone());
    let mut changed = pool.changed();
    changed.wait_for(|status| status.connections_total == 1).await.unwrap();
    changed.wait_for(|status| status.established == 0).await.unwrap();
    list.add(message(&[2]));
    changed.wait_for(|status| status.connections_total == 2).await.unwrap();
    assert_eq!(pool.stop(Duration::from_secs(20)).await, StopReport { finished: 1, aborted: 0 });
    server.played().await;
    assert_eq!(list.words()[0], "accepted -");
    // The stop may have come before it began.
    assert!(["accepted GOOD000001", "not tried"].contains(&list.words()[1].as_str()), "{:?}", list.words());
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_flight_and_takes_no_more() {
    let script = ["S: 250 ok|250 ok|354 go", ".", "S: 250 ok", "C: QUIT", "S: 221 bye"];
    let server = Server::start(&[&[HELLO, ENVELOPE, &script]]).await;
    let list = Arc::new(List::new([message(&[1]), message(&[2])]).endless());
    let mut config = config(&server.address);
    config.group_across_dot = false;
    config.messages_per_connection_max = 1;
    let pool = Pool::start(config, list.clone());
    while list.handed_out() == 0 {
        tokio::task::yield_now().await;
    }
    let report = pool.stop(Duration::from_secs(20)).await;
    assert_eq!(report, StopReport { finished: 1, aborted: 0 });
    server.played().await;
    assert_eq!(list.words(), ["accepted -"]);
    assert_eq!(list.waiting(), 1);
}

#[tokio::test]
async fn after_the_grace_content_under_way_is_in_doubt_and_the_rest_untried() {
    for (script, handed_out, word) in
        [(&["S: 250 ok|250 ok|354 go", "hang"] as &[&str], 1, "in doubt"), (&["hang"], 0, "not tried")]
    {
        let server = Server::start(&[&[HELLO, ENVELOPE, script]]).await;
        let list = Arc::new(List::new([message(&[1])]));
        let pool = Pool::start(config(&server.address), list.clone());
        while pool.status().established == 0 || list.handed_out() < handed_out {
            tokio::task::yield_now().await;
        }
        let report = pool.stop(Duration::ZERO).await;
        assert_eq!(report, StopReport { finished: 0, aborted: 1 });
        assert_eq!(list.words(), [word]);
    }
}

#[tokio::test]
async fn a_panic_settles_what_it_held_and_the_infeed_begins_anew() {
    let server = Server::start(&[&[HELLO, ENVELOPE, READY, &["eof"]], &[HELLO, &["good"]]]).await;
    let list = List::new([message(&[1])]).again();
    list.panics.store(1, SeqCst);
    let list = Arc::new(list);
    let pool = Pool::start(config(&server.address), list.clone());
    pool.finished().await;
    server.played().await;
    assert_eq!(list.words(), ["not tried, accepted GOOD000001"]);
    assert_eq!(pool.status().panics_total, 1);
}

#[tokio::test]
async fn a_session_with_nothing_to_send_says_quit_and_comes_back_with_work() {
    let first = [".", "S: 250 ok", "C: QUIT", "alone", "S: 221 bye", "eof"];
    let server = Server::start(&[&[HELLO, ENVELOPE, READY, &first], &[HELLO, &["good"]]]).await;
    let list = Arc::new(List::new([message(&[1])]).endless());
    let mut config = config(&server.address);
    config.idle_timeout_ms = 30;
    let pool = Pool::start(config, list.clone());
    let mut changed = pool.changed();
    changed.wait_for(|status| status.connections_total == 1).await.unwrap();
    changed.wait_for(|status| status.established == 0).await.unwrap();
    // It waits for work with no connection, and nothing went wrong.
    changed.wait_for(|status| status.connecting == 1).await.unwrap();
    let idle = pool.status();
    assert_eq!((idle.connections_total, idle.last_error, idle.state), (1, None, MtaState::Connecting));
    assert_eq!(idle.opening, 0, "who waits for work doesn't connect");
    list.add(message(&[2]));
    while list.words().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.stop(Duration::from_secs(20)).await, StopReport { finished: 1, aborted: 0 });
    server.played().await;
    assert_eq!(list.words(), ["accepted -", "accepted GOOD000001"]);
}

#[tokio::test]
async fn a_transaction_goes_back_while_its_connection_takes_long_and_nobody_connects_for_it_as_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Connections are made by the kernel, and get no greeting before somebody accepts them.
    let address = listener.local_addr().unwrap().to_string();
    let list = Arc::new(List::new([message(&[1])]).again());
    let mut config = config(&address);
    config.connections = 4;
    let pool = Pool::start(config, list.clone());
    while list.words().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!((list.words(), list.waiting()), (vec!["not tried".to_owned()], 1));
    let status = pool.status();
    assert!(matches!(status.state, MtaState::Connecting) && status.opening == 1, "no failure: {status:?}");
    let server = Server::on(listener, &[&[HELLO, &["good"]]]);
    pool.finished().await;
    server.played().await;
    assert_eq!(list.words(), ["not tried, accepted GOOD000001"]);
    assert_eq!(pool.status().connections_total, 1);
}

#[tokio::test]
async fn beside_a_live_session_too_one_slow_connect_is_made_for_one_transaction() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
    let backlog = listener.try_clone().unwrap();
    // The first connection keeps its message in flight; the next ones wait for a greeting.
    let script = [".", "hang"];
    let server = Server::on(TcpListener::from_std(listener).unwrap(), &[&[HELLO, ENVELOPE, READY, &script]]);
    let list = Arc::new(List::new([message(&[1])]).again().endless());
    let mut config = config(&server.address);
    config.connections = 4;
    let pool = Pool::start(config, list.clone());
    while list.handed_out() == 0 {
        tokio::task::yield_now().await;
    }
    list.add(message(&[2]));
    while list.words().is_empty() {
        tokio::task::yield_now().await;
    }
    // Whoever would take it was woken.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!((list.words(), list.waiting()), (vec!["not tried".to_owned()], 1));
    pool.stop(Duration::ZERO).await;
    let waited_for_a_greeting = std::iter::from_fn(|| backlog.accept().ok()).count();
    assert_eq!(waited_for_a_greeting, 1);
}
