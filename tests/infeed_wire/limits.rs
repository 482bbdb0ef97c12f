//! Limits and habits of an MTA that are learned, and holds.

use std::sync::Arc;

use infeed::infeed::{MtaState, Pool};

use super::server::{HELLO, Server};
use super::work::{List, config, drain, message};

const ENVELOPE: &[&str] = &["C: MAIL", "C: RCPT", "C: DATA"];
const READY: &[&str] = &["S: 250 ok|250 ok|354 go"];

#[tokio::test]
async fn exims_421_at_mail_rotates_and_the_limit_is_learned() {
    let two = [
        ".",
        "C: MAIL",
        "C: RCPT",
        "C: DATA",
        "S: 250 ok|421 too many messages in this connection|503 no|503 no",
        "C: QUIT",
        "S: 221 bye",
        "eof",
    ];
    // What was learned: one message, then QUIT of our own accord.
    let one = [".", "alone", "S: 250 ok", "C: QUIT", "S: 221 bye", "eof"];
    let taught: &[&[&str]] = &[HELLO, ENVELOPE, READY, &one];
    let server = Server::start(&[&[HELLO, ENVELOPE, READY, &two], taught, taught]).await;
    let list = List::new([message(&[1]), message(&[2]), message(&[3])]).again();
    let list = drain(config(&server.address), list).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted -", "not tried, accepted -", "accepted -"]);
}

#[tokio::test]
async fn an_mta_that_closes_after_its_last_message_did_no_wrong() {
    let two =
        [".", "C: MAIL", "C: RCPT", "C: DATA", "S: 250 ok|421 too many messages in this connection", "close"];
    let server = Server::start(&[&[HELLO, ENVELOPE, READY, &two], &[HELLO, &["good"]]]).await;
    let list = drain(config(&server.address), List::new([message(&[1]), message(&[2])]).again()).await;
    assert_eq!(list.words(), ["accepted -", "not tried, accepted GOOD000001"]);
}

#[tokio::test]
async fn opensmtpds_452_at_mail_rotates_and_rset_is_not_tried() {
    let two = [
        ".",
        "C: MAIL",
        "C: RCPT",
        "C: DATA",
        "S: 250 ok|452 4.5.3 Too many messages sent: Too many messages sent|503 no|503 no",
        "C: QUIT",
        "S: 221 bye",
    ];
    let server = Server::start(&[&[HELLO, ENVELOPE, READY, &two], &[HELLO, &["good"]]]).await;
    let list = drain(config(&server.address), List::new([message(&[1]), message(&[2])]).again()).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted -", "not tried, accepted GOOD000001"]);
}

#[tokio::test]
async fn harakas_503_is_learned_and_the_same_message_goes_on_the_same_connection() {
    let group = [
        ".",
        "C: MAIL",
        "C: RCPT",
        "C: DATA",
        "S: 250 ok|503 Error: pipelined after end of DATA|503 no|503 no",
        "C: MAIL",
        "C: RCPT TO:<2@",
        "C: DATA",
        "S: 250 ok|250 ok|354 go",
    ];
    let apart = [".", "alone", "S: 250 ok", "good"];
    let server = Server::start(&[&[HELLO, ENVELOPE, READY, &group, &apart]]).await;
    let list = List::new([message(&[1]), message(&[2]), message(&[3])]);
    let list = drain(config(&server.address), list).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted -", "accepted -", "accepted GOOD000001"]);
}

#[tokio::test]
async fn too_many_recipients_sends_what_was_accepted_and_learns_the_limit() {
    for reply in ["452 4.5.3 too many recipients", "552 too many recipients", "451 4.5.3 Too many recipients"]
    {
        let replies: &'static str = format!("S: 250 ok|250 ok|250 ok|{reply}|{reply}|354 go").leak();
        let four =
            ["C: MAIL", "C: RCPT", "C: RCPT", "C: RCPT", "C: RCPT", "C: DATA", replies, ".", "S: 250 ok"];
        let two = [
            "C: MAIL",
            "C: RCPT",
            "C: RCPT",
            "C: DATA",
            "alone",
            "S: 250 ok|250 ok|250 ok|354 go",
            ".",
            "S: 250 ok",
            "good",
        ];
        let server = Server::start(&[&[HELLO, &four, &two]]).await;
        let list = List::new([message(&[1, 2, 3, 4])]).again();
        let list = drain(config(&server.address), list).await;
        server.played().await;
        let again = "not tried, accepted -";
        assert_eq!(list.words(), ["accepted -", "accepted -", again, again]);
    }
}

#[tokio::test]
async fn a_full_disk_stops_all_and_one_probe_frees_them() {
    let full = ["S: 452 4.3.1 Insufficient system storage|503 no|503 no"];
    let again = ["C: MAIL", "C: RCPT", "C: DATA", "S: 452 4.4.5 Insufficient disk space|503 no|503 no"];
    let server = Server::start(&[&[HELLO, ENVELOPE, &full, &again, &["good"]]]).await;
    let list = Arc::new(List::new([message(&[1]), message(&[2])]).again());
    let pool = Pool::start(config(&server.address), list.clone());
    let mut changed = pool.changed();
    let held =
        changed.wait_for(|status| matches!(status.state, MtaState::Held { .. })).await.unwrap().clone();
    let MtaState::Held { why, .. } = held.state else { panic!() };
    assert!(why.starts_with("452 4.3.1 "), "{why}");
    pool.finished().await;
    server.played().await;
    let words = list.words();
    assert!(words.iter().all(|w| w.contains("accepted GOOD")), "{words:?}");
    assert_eq!(words.concat().matches("not tried").count(), 2, "{words:?}");
}

#[tokio::test]
async fn while_one_probes_no_other_session_begins() {
    let full = ["C: MAIL", "C: RCPT", "C: DATA", "S: 452 4.3.1 Insufficient system storage|503 no|503 no"];
    // One session meets the full disk; the one probe is all that may come before its acceptance.
    let server = Server::start(&[&[HELLO, &full, &["good"]], &[HELLO, &["good"]]]).await;
    let list = Arc::new(List::new((1..=20).map(|t| message(&[t]))).again());
    let pool = Pool::start(config(&server.address), list.clone());
    pool.finished().await;
    assert!(list.words().iter().all(|w| w.contains("accepted")), "{:?}", list.words());
}

#[tokio::test]
async fn strain_holds_after_several_in_a_row_and_not_before() {
    let strained = ["C: MAIL", "C: RCPT", "C: DATA", "S: 451 4.3.5 Server configuration error|503 no|503 no"];
    let five: Vec<&[&'static str]> = [&[HELLO] as &[_], &[&strained[..]; 5], &[&["good"]]].concat();
    let server = Server::start(&[&five]).await;
    let list = Arc::new(List::new((1..=6).map(|t| message(&[t]))));
    let pool = Pool::start(config(&server.address), list.clone());
    let mut changed = pool.changed();
    changed.wait_for(|status| matches!(status.state, MtaState::Held { .. })).await.unwrap();
    assert_eq!(list.words(), ["deferred 451 at MAIL"; 5]);
    pool.finished().await;
    assert_eq!(list.words()[5], "accepted GOOD000001");
}

#[tokio::test]
async fn a_connection_carries_no_more_messages_than_it_may() {
    let last = [".", "alone", "S: 250 ok", "C: QUIT", "S: 221 bye", "eof"];
    let both = [".", "C: MAIL", "C: RCPT", "C: DATA", "S: 250 ok|250 ok|250 ok|354 go"];
    let script: &[&[&str]] = &[HELLO, ENVELOPE, READY, &both, &last];
    let server = Server::start(&[script, script]).await;
    let mut config = config(&server.address);
    config.messages_per_connection_max = 2;
    let list = drain(config, List::new((1..=4).map(|t| message(&[t])))).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted -"; 4]);
}

#[tokio::test]
async fn no_group_across_the_dot_when_the_settings_say_so() {
    let apart = [".", "alone", "S: 250 ok", "good"];
    let server = Server::start(&[&[HELLO, ENVELOPE, READY, &apart]]).await;
    let mut config = config(&server.address);
    config.group_across_dot = false;
    let list = drain(config, List::new([message(&[1]), message(&[2])])).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted -", "accepted GOOD000001"]);
}
