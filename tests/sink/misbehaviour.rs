//! Misbehaviour by flag and by address.

use std::time::{Duration, Instant};

use infeed::sink::{Extension, SessionLimitStyle, Settings};

use crate::client::{Client, Rig};

fn fail(rule: &str) -> Settings {
    Settings { fail: Some(vec![rule.parse().unwrap()]), ..Default::default() }
}

#[tokio::test]
async fn addresses_fail_at_rcpt_as_often_as_they_say() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 250);
    for (recipient, codes) in [
        ("refuse-550@example.org", [550, 550, 550]),
        ("refuse-554.17@example.org", [554, 554, 554]),
        ("refuse-550-1x+x@example.org", [550, 250, 250]),
        ("defer-451-2x@example.org", [451, 451, 250]),
        ("defer-450@example.org", [450, 450, 450]),
        ("ordinary@example.org", [250, 250, 250]),
    ] {
        for code in codes {
            assert_eq!(c.code(&format!("RCPT TO:<{recipient}>")).await, code, "{recipient}");
        }
    }
    let counters = rig.sink.counters();
    assert_eq!((counters.recipients_refused, counters.recipients_deferred), (7, 5));
}

#[tokio::test]
async fn addresses_fail_at_mail_data_and_content() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    assert_eq!(c.code("MAIL FROM:<mail-550@example.org>").await, 550);
    assert_eq!(c.code("MAIL FROM:<mail-451-1x@example.org>").await, 451);
    assert_eq!(c.code("MAIL FROM:<mail-451-1x@example.org>").await, 250);
    assert_eq!(c.code("RCPT TO:<data-451@example.org>").await, 250);
    assert_eq!(c.code("DATA").await, 451);
    for (recipient, codes) in
        [("content-550@example.org", [550, 550, 550]), ("content-451-2x@example.org", [451, 451, 250])]
    {
        for code in codes {
            assert!(c.deliver(recipient).await.starts_with(&code.to_string()), "{recipient}");
        }
    }
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 250);
    assert_eq!(c.code("RCPT TO:<close-421@example.org>").await, 421);
    c.assert_closed().await;
    let lines = rig.ledger();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["recipient"], "content-451-2x@example.org");
}

#[tokio::test]
async fn dropped_after_the_dot_is_in_the_ledger_and_before_it_is_not() {
    let rig = Rig::new();
    for recipient in ["drop-before-dot@example.org", "drop-after-dot-1x@example.org"] {
        let mut c = Client::ehlo(rig.addr()).await;
        c.open(recipient).await;
        c.send("Subject: x\r\n\r\nbody\r\n.\r\n").await;
        c.assert_closed().await;
    }
    let mut c = Client::ehlo(rig.addr()).await;
    assert!(c.deliver("drop-after-dot-1x@example.org").await.starts_with("250 "));
    let replies: Vec<_> = rig.ledger().iter().map(|l| (l["recipient"].clone(), l["reply"].clone())).collect();
    let recipient = "drop-after-dot-1x@example.org";
    assert_eq!(replies, [(recipient.into(), "dropped".into()), (recipient.into(), "250".into())]);
    let counters = rig.sink.counters();
    assert_eq!((counters.dropped_before_dot, counters.dropped_after_dot, counters.messages), (1, 1, 2));
}

#[tokio::test]
async fn drops_by_percentage_do_the_same() {
    let all = || "100".parse().ok();
    let rig = Rig::with(Settings { drop_before_dot_percent: all(), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    c.open("a@example.org").await;
    c.send(".\r\n").await;
    c.assert_closed().await;
    assert!(rig.ledger().is_empty());

    let rig = Rig::with(Settings { drop_after_dot_percent: all(), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    c.open("a@example.org").await;
    c.send(".\r\n").await;
    c.assert_closed().await;
    assert_eq!(rig.ledger()[0]["reply"], "dropped");
}

#[tokio::test]
async fn a_rule_fails_its_stage_and_no_other() {
    let steps = ["EHLO c", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA", "x\r\n."];
    for (i, stage) in ["ehlo", "mail", "rcpt", "data", "content"].iter().enumerate() {
        for code in ["451", "550"] {
            let rig = Rig::with(fail(&format!("{stage}={code}")));
            let mut c = Client::connect(rig.addr()).await;
            assert!(c.reply().await.starts_with("220 "));
            for step in &steps[..i] {
                assert!(c.code(step).await < 400, "{stage}: {step}");
            }
            assert!(c.ask(steps[i]).await.starts_with(code), "{stage}");
            assert_eq!(c.code("NOOP").await, 250);
        }
        let rig = Rig::with(fail(&format!("{stage}=drop")));
        let mut c = Client::connect(rig.addr()).await;
        c.reply().await;
        for step in &steps[..i] {
            c.ask(step).await;
        }
        c.send(format!("{}\r\n", steps[i])).await;
        c.assert_closed().await;
        assert!(rig.ledger().is_empty());
    }
}

#[tokio::test]
async fn a_failed_connect_is_closed_and_a_failed_banner_waits_for_quit() {
    let rig = Rig::with(fail("connect=421"));
    let mut c = Client::connect(rig.addr()).await;
    assert!(c.reply().await.starts_with("421 "));
    c.assert_closed().await;

    let rig = Rig::with(fail("connect=drop"));
    Client::connect(rig.addr()).await.assert_closed().await;

    let rig = Rig::with(fail("banner=554"));
    let mut c = Client::connect(rig.addr()).await;
    assert!(c.reply().await.starts_with("554 "));
    assert_eq!(c.code("EHLO c").await, 503);
    assert_eq!(c.code("QUIT").await, 221);
    c.assert_closed().await;
}

#[tokio::test]
async fn a_percentage_hits_its_share_and_the_same_ones_with_the_same_seed() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let rig = Rig::with(fail("rcpt=451%20"));
        let mut c = Client::ehlo(rig.addr()).await;
        c.send("MAIL FROM:<a@example.org>\r\n").await;
        assert_eq!(c.codes(1).await, [250]);
        c.send("RCPT TO:<b@example.org>\r\n".repeat(1_000)).await;
        runs.push(c.codes(1_000).await);
    }
    assert_eq!(runs[0], runs[1]);
    let hits = runs[0].iter().filter(|code| **code == 451).count();
    assert!((140..=260).contains(&hits), "{hits} of 1000 at 20 %");
}

#[tokio::test]
async fn connections_past_the_limit_get_421_until_one_leaves() {
    let rig = Rig::with(Settings { connections_max: Some(2), ..Default::default() });
    let mut first = Client::ehlo(rig.addr()).await;
    let _second = Client::ehlo(rig.addr()).await;
    let mut third = Client::connect(rig.addr()).await;
    let reply = third.reply().await;
    assert!(reply.starts_with("421 4.7.0 ") && reply.ends_with("too many connections from 127.0.0.1"));
    third.assert_closed().await;
    assert_eq!(first.code("QUIT").await, 221);
    Client::ehlo(rig.addr()).await;
    let counters = rig.sink.counters();
    assert_eq!((counters.connections, counters.connections_refused, counters.open_max), (4, 1, 2));
}

#[tokio::test]
async fn full_storage_is_said_at_mail() {
    let rig = Rig::with(Settings { storage_full: Some(true), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    assert_eq!(c.ask("MAIL FROM:<a@example.org>").await, "452 4.3.1 Insufficient system storage");
}

#[tokio::test]
async fn session_limits_are_said_in_each_style_and_the_connection_stays_open() {
    for (style, said) in
        [(SessionLimitStyle::Exim, "421 too many"), (SessionLimitStyle::Opensmtpd, "452 4.5.3 ")]
    {
        let rig = Rig::with(Settings {
            messages_per_connection_max: Some(2),
            session_limit_style: Some(style),
            ..Default::default()
        });
        let mut c = Client::ehlo(rig.addr()).await;
        for _ in 0..2 {
            assert!(c.deliver("a@example.org").await.starts_with("250 "));
        }
        c.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n").await;
        assert!(c.reply().await.starts_with(said));
        assert_eq!(c.codes(2).await, [503, 503]);
        assert_eq!(c.code("RSET").await, 250);
        assert!(c.ask("MAIL FROM:<a@example.org>").await.starts_with(said));
        assert_eq!(c.code("QUIT").await, 221);
    }
}

#[tokio::test]
async fn recipients_past_the_limit_get_452_and_the_others_their_mail() {
    let rig = Rig::with(Settings { recipients_per_transaction_max: Some(2), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    for _ in 0..2 {
        assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 250);
        c.send("RCPT TO:<b@example.org>\r\n".repeat(3)).await;
        assert_eq!(c.codes(2).await, [250, 250]);
        assert_eq!(c.reply().await, "452 4.5.3 Error: too many recipients");
        assert_eq!(c.code("DATA").await, 354);
        assert_eq!(c.code(".").await, 250);
    }
    assert_eq!(rig.ledger().len(), 4);
}

#[tokio::test]
async fn what_follows_the_dot_in_its_group_gets_503_where_groups_end_there() {
    let rig = Rig::with(Settings { no_group_across_dot: Some(true), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    c.open("a@example.org").await;
    c.send("body\r\n.\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n").await;
    assert_eq!(c.codes(4).await, [250, 503, 503, 503]);
    assert!(c.deliver("a@example.org").await.starts_with("250 "));
    assert_eq!(rig.ledger().len(), 2);
}

#[tokio::test]
async fn content_before_354_is_a_synchronization_error_where_that_is_strict() {
    let strict = |without| Settings { strict_sync: Some(true), without, ..Default::default() };
    let rig = Rig::with(strict(None));
    let mut c = Client::ehlo(rig.addr()).await;
    c.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nbody\r\n.\r\n").await;
    assert_eq!(c.codes(2).await, [250, 250]);
    assert_eq!(c.reply().await, "554 SMTP synchronization error");
    c.assert_closed().await;

    let mut c = Client::ehlo(rig.addr()).await;
    c.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n").await;
    assert_eq!(c.codes(3).await, [250, 250, 354]);
    c.send("body\r\n.\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n").await;
    assert_eq!(c.codes(4).await, [250, 250, 250, 354]);

    let rig = Rig::with(strict(Some(vec![Extension::Pipelining])));
    let mut c = Client::ehlo(rig.addr()).await;
    c.send("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n").await;
    assert!(c.reply().await.starts_with("500 5.5.1 "));
    c.assert_closed().await;
}

/// Waits are only tested from below: a wait that is too short is a defect, a slow machine is none.
#[tokio::test]
async fn waits_are_at_least_as_long_as_asked() {
    let rig = Rig::with(Settings { latency_ms: Some(20), banner_delay_ms: Some(60), ..Default::default() });
    let before = Instant::now();
    let mut c = Client::ehlo(rig.addr()).await;
    assert!(before.elapsed() >= Duration::from_millis(100), "banner 60 + 20, EHLO 20");
    let before = Instant::now();
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 250);
    assert_eq!(c.code("RCPT TO:<slow-150ms@example.org>").await, 250);
    assert!(before.elapsed() >= Duration::from_millis(190));

    let rig = Rig::with(Settings { service_us: Some(3_000), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    let before = Instant::now();
    for _ in 0..20 {
        c.deliver("a@example.org").await;
    }
    // Less the lag that a service makes up for.
    assert!(before.elapsed() >= Duration::from_millis(20 * 3 - 6));
}

#[tokio::test]
async fn past_its_bound_the_queue_behind_makes_rcpt_a_second_late() {
    let rig = Rig::with(Settings { drain_rate: Some(1), queue_max: Some(2), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    for _ in 0..6 {
        c.deliver("a@example.org").await;
    }
    assert!(rig.sink.counters().queued > 2);
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 250);
    let before = Instant::now();
    assert_eq!(c.code("RCPT TO:<b@example.org>").await, 250);
    assert!(before.elapsed() >= Duration::from_secs(1));
}
