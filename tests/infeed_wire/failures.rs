//! What goes wrong in a transaction, and whom it touches.

use infeed::infeed::{InfeedConfig, RcptResult, Stage, Transaction};

use super::server::{HELLO, HELLO_LOCK_STEP, Server};
use super::work::{List, config, drain, message};

const ENVELOPE: &[&str] = &["C: MAIL", "C: RCPT", "C: DATA"];
const READY: &[&str] = &["S: 250 ok|250 ok|354 go"];

fn shared(transaction: Transaction) -> Transaction {
    Transaction { shared_content: true, ..transaction }
}

/// One message to one recipient; `script` follows EHLO; a second message must go well, on the same
/// connection or on another one. Gives the first one's words and its faults' stages.
async fn one(
    transaction: Transaction,
    script: &[&[&'static str]],
    second: &[&[&'static str]],
) -> (String, Vec<Stage>) {
    let mut first = vec![HELLO];
    first.extend(script);
    let scripts: Vec<&[&[&'static str]]> =
        if second.is_empty() { vec![&first] } else { vec![&first, second] };
    let server = Server::start(&scripts).await;
    // Apart, so that what befalls the first touches the first alone.
    let config = InfeedConfig { group_across_dot: false, ..config(&server.address) };
    let list = drain(config, List::new([transaction, message(&[9])])).await;
    server.played().await;
    let words = list.words();
    assert!(words[1].starts_with("accepted"), "{words:?}");
    (words[0].clone(), list.faults().iter().map(|f| f.stage).collect())
}

const GOOD: &[&[&str]] = &[HELLO, &["good"]];

#[tokio::test]
async fn a_4xx_to_mail_data_or_the_dot_defers_and_the_session_goes_on() {
    let mail: &[&str] = &["S: 450 4.1.8 later|503 need MAIL|503 need MAIL", "good"];
    let data: &[&str] = &["S: 250 ok|250 ok|451 4.3.0 later", "C: RSET", "alone", "S: 250 ok", "good"];
    let dot: &[&str] = &["S: 451 4.3.0 queue file write error", "good"];
    assert_eq!(one(message(&[1]), &[ENVELOPE, mail], &[]).await.0, "deferred 450 at MAIL");
    assert_eq!(one(message(&[1]), &[ENVELOPE, data], &[]).await.0, "deferred 451 at DATA");
    let (word, _) = one(message(&[1]), &[ENVELOPE, READY, &["."], dot], &[]).await;
    assert_eq!(word, "deferred 451 at the end of the content");
}

#[tokio::test]
async fn a_5xx_to_mail_data_or_shared_content_faults_the_job_and_tries_nobody() {
    let mail: &[&str] = &["S: 550 5.1.8 sender|503 need MAIL|503 need MAIL", "good"];
    let data: &[&str] = &["S: 250 ok|250 ok|554 5.7.1 no", "C: RSET", "S: 250 ok", "good"];
    let dot: &[&str] = &["S: 554 5.7.1 spam", "good"];
    let not_tried = "not tried".to_owned();
    assert_eq!(one(message(&[1]), &[ENVELOPE, mail], &[]).await, (not_tried.clone(), vec![Stage::Mail]));
    assert_eq!(one(message(&[1]), &[ENVELOPE, data], &[]).await, (not_tried.clone(), vec![Stage::Data]));
    let faulty = one(shared(message(&[1])), &[ENVELOPE, READY, &["."], dot], &[]).await;
    assert_eq!(faulty, (not_tried, vec![Stage::Content]));
    let merged = one(message(&[1]), &[ENVELOPE, READY, &["."], dot], &[]).await;
    assert_eq!(merged, ("refused 554 at the end of the content".to_owned(), vec![]));
}

#[tokio::test]
async fn a_421_at_any_stage_burns_no_attempt() {
    for script in [
        &["S: 421 4.7.0 too many errors", "close"] as &[&str],
        &["S: 250 ok|421 4.3.0 bye", "close"],
        &["S: 250 ok|250 ok|421 4.4.2 bye", "close"],
        &["S: 250 ok|250 ok|354 go", ".", "S: 421 4.3.0 bye", "close"],
    ] {
        let (word, faults) = one(message(&[1]), &[ENVELOPE, script], GOOD).await;
        assert_eq!((word.as_str(), faults), ("not tried", vec![]), "{script:?}");
    }
}

#[tokio::test]
async fn what_was_refused_before_the_connection_broke_stays_refused() {
    let script =
        ["C: MAIL", "C: RCPT", "C: RCPT", "C: RCPT", "C: DATA", "S: 250 ok|550 no|250 ok|421 bye", "close"];
    let server = Server::start(&[&[HELLO, &script], GOOD]).await;
    let list = drain(config(&server.address), List::new([message(&[1, 2, 3])]).again()).await;
    assert_eq!(
        list.words(),
        ["refused 550 at RCPT", "not tried, accepted GOOD000001", "not tried, accepted GOOD000001"]
    );
}

#[tokio::test]
async fn a_connection_lost_after_the_dot_leaves_doubt_and_the_next_envelope_untried() {
    let script = [".", "C: MAIL", "C: RCPT", "C: DATA", "close"];
    let server = Server::start(&[&[HELLO, ENVELOPE, READY, &script], GOOD]).await;
    let list = drain(config(&server.address), List::new([message(&[1]), message(&[2])]).again()).await;
    assert_eq!(list.words(), ["in doubt", "not tried, accepted GOOD000001"]);
    let RcptResult::InDoubt { error } = &list.results()[&1][0] else { panic!() };
    assert!(error.contains("the end of the content"), "{error}");
}

#[tokio::test]
async fn a_malformed_or_unexpected_reply_to_the_dot_leaves_doubt() {
    for reply in ["S: what?", "S: 354 more", "S: 250-a|550 b"] {
        let (word, _) = one(message(&[1]), &[ENVELOPE, READY, &[".", reply, "close"]], GOOD).await;
        assert_eq!(word, "in doubt", "{reply}");
    }
}

#[tokio::test]
async fn a_timeout_before_the_dot_tries_nobody_and_after_it_leaves_doubt() {
    for (stages, word) in
        [(&["hang"] as &[&str], "not tried"), (&["S: 250 ok|250 ok|354 go", ".", "hang"], "in doubt")]
    {
        let server = Server::start(&[&[HELLO, ENVELOPE, stages], GOOD]).await;
        let mut config = config(&server.address);
        config.timeouts.mail_ms = 50;
        config.timeouts.final_dot_ms = 50;
        let list = drain(config, List::new([message(&[1])])).await;
        assert_eq!(list.words(), [word]);
    }
}

#[tokio::test]
async fn a_message_that_kills_every_connection_is_deferred_in_the_end() {
    let deadly: &[&[&str]] = &[HELLO, ENVELOPE, &["close"]];
    let server = Server::start(&[deadly, deadly, deadly]).await;
    let list = drain(config(&server.address), List::new([message(&[1])]).again()).await;
    assert_eq!(list.words(), ["not tried, not tried, deferred 451 at MAIL"]);
}

#[tokio::test]
async fn an_answer_in_the_midst_of_the_content_ends_the_session() {
    let mut large = message(&[1]);
    large.content.wire = vec![b"0123456789abcdef0123456789abcde\r\n".as_slice(); 500_000].concat().into();
    large.content.size_octets = 90_000;
    for (reply, word) in [
        ("S: 552 5.3.4 too large", "refused 552 at the end of the content"),
        ("S: 250 2.0.0 Ok: queued as NOTHING", "not tried"),
        ("S: 421 4.3.0 bye", "not tried"),
    ] {
        let script = ["S: 250 ok|250 ok|354 go", "C: 0123", reply, "hang"];
        let (said, _) = one(large.clone(), &[ENVELOPE, &script], GOOD).await;
        assert_eq!(said, word, "{reply}");
    }
}

#[tokio::test]
async fn what_was_not_asked_for_is_no_answer() {
    // One reply too many: it must not be taken for the answer to the content.
    let script = ["S: 250 ok|250 ok|354 go|250 2.0.0 Ok: queued as SMUGGLED", "hang"];
    let (word, _) = one(message(&[1]), &[ENVELOPE, &script], GOOD).await;
    assert_eq!(word, "not tried");
}

#[tokio::test]
async fn without_a_record_nothing_is_sent() {
    let server = Server::start(&[&[HELLO, ENVELOPE, READY, &["eof"]], GOOD]).await;
    let list = List::new([message(&[1])]).again();
    list.no_records.store(1, std::sync::atomic::Ordering::SeqCst);
    let list = drain(config(&server.address), list).await;
    assert_eq!(list.words(), ["not tried, accepted GOOD000001"]);
}

#[tokio::test]
async fn lock_step_tells_the_same_failures() {
    let script = ["C: MAIL", "S: 250 ok", "C: RCPT", "S: 250 ok", "C: DATA", "S: 354 go", ".", "close"];
    let server = Server::start(&[&[HELLO_LOCK_STEP, &script], &[HELLO_LOCK_STEP, &["good"]]]).await;
    let list = drain(config(&server.address), List::new([message(&[1]), message(&[2])]).again()).await;
    assert_eq!(list.words(), ["in doubt", "accepted GOOD000001"]);
    let script = ["C: MAIL", "S: 250 ok", "C: RCPT", "S: 421 4.3.0 bye", "close"];
    let server = Server::start(&[&[HELLO_LOCK_STEP, &script], &[HELLO_LOCK_STEP, &["good"]]]).await;
    let list = drain(config(&server.address), List::new([message(&[1])]).again()).await;
    assert_eq!(list.words(), ["not tried, accepted GOOD000001"]);
    let script = ["C: MAIL", "S: 550 5.1.8 no", "good"];
    let server = Server::start(&[&[HELLO_LOCK_STEP, &script]]).await;
    let list = drain(config(&server.address), List::new([message(&[1]), message(&[2])])).await;
    assert_eq!(list.words(), ["not tried", "accepted GOOD000001"]);
    assert_eq!(list.faults()[0].stage, Stage::Mail);
}
