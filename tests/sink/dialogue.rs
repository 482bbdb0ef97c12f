//! The protocol of a well-behaved sink.

use infeed::sink::{Extension, Settings};

use crate::client::{Client, Rig};

#[tokio::test]
async fn every_extension_is_offered_and_each_can_be_switched_off() {
    let all = [
        (Extension::Pipelining, "PIPELINING"),
        (Extension::EightBitMime, "8BITMIME"),
        (Extension::Smtputf8, "SMTPUTF8"),
        (Extension::EnhancedStatusCodes, "ENHANCEDSTATUSCODES"),
        (Extension::Size, "SIZE 52428800"),
        (Extension::Dsn, "DSN"),
        (Extension::Chunking, "CHUNKING"),
        (Extension::Xverp, "XVERP"),
    ];
    for without in [None].into_iter().chain(all.iter().map(|(e, _)| Some(*e))) {
        let rig = Rig::with(Settings { without: Some(without.into_iter().collect()), ..Default::default() });
        let mut c = Client::connect(rig.addr()).await;
        c.reply().await;
        let reply = c.ask("EHLO client.example").await;
        for (extension, keyword) in all {
            let offered = reply.lines().any(|line| &line[4..] == keyword);
            assert_eq!(offered, Some(extension) != without, "{keyword} in {reply}");
        }
    }
}

#[tokio::test]
async fn without_enhanced_status_codes_replies_have_none() {
    let without = Some(vec![Extension::EnhancedStatusCodes]);
    let rig = Rig::with(Settings { without, ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    assert_eq!(c.ask("MAIL FROM:<a@example.org>").await, "250 Ok");
    assert_eq!(c.ask("NOOP").await, "250 Ok");
}

#[tokio::test]
async fn commands_out_of_sequence_get_503() {
    let rig = Rig::new();
    let mut c = Client::connect(rig.addr()).await;
    c.reply().await;
    for (line, code) in [
        ("MAIL FROM:<a@example.org>", 503),
        ("RCPT TO:<b@example.org>", 503),
        ("DATA", 503),
        ("NOOP", 250),
        ("HELO client", 250),
        ("MAIL FROM:<a@example.org> SIZE=1", 555),
        ("MAIL FROM:<a@example.org>", 250),
        ("EHLO client", 250),
        ("RCPT TO:<b@example.org>", 503),
        ("MAIL FROM:<>", 250),
        ("MAIL FROM:<a@example.org>", 503),
        ("DATA", 503),
        ("RCPT TO:<b@example.org> XTRA", 555),
        ("RCPT TO:<b@example.org>", 250),
        ("RSET", 250),
        ("DATA", 503),
        ("MAIL FROM:<a@example.org>", 250),
        ("RCPT TO:<refuse-550@example.org>", 550),
        ("DATA", 554),
        ("VRFY b@example.org", 252),
        ("HELP", 502),
        ("WHAT", 500),
        ("QUIT now", 501),
        ("QUIT", 221),
    ] {
        assert_eq!(c.code(line).await, code, "{line}");
    }
    c.assert_closed().await;
}

#[tokio::test]
async fn a_line_too_long_gets_500_and_the_session_goes_on() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    for octets in [2_047, 2_048, 10_000, 300_000] {
        assert_eq!(c.code(&format!("NOOP {}", "x".repeat(octets))).await, 500, "{octets}");
        assert_eq!(c.code("NOOP").await, 250);
    }
    assert_eq!(c.code(&format!("NOOP {}", "x".repeat(2_041))).await, 250);
}

#[tokio::test]
async fn a_command_that_ends_with_a_bare_lf_is_not_obeyed() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    c.send("MAIL FROM:<a@example.org>\n").await;
    assert_eq!(c.codes(1).await, [500]);
    assert_eq!(c.code("RCPT TO:<b@example.org>").await, 503);
}

#[tokio::test]
async fn non_ascii_addresses_need_smtputf8() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    assert_eq!(c.code("MAIL FROM:<žofie@example.org>").await, 553);
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 250);
    assert_eq!(c.code("RCPT TO:<žofie@example.org>").await, 553);
    assert_eq!(c.code("RSET").await, 250);
    assert_eq!(c.code("MAIL FROM:<žofie@example.org> SMTPUTF8").await, 250);
    assert_eq!(c.code("RCPT TO:<ľuboš@example.org>").await, 250);
    assert_eq!(c.code("DATA").await, 354);
    assert_eq!(c.code("\r\n.").await, 250);
    assert_eq!(rig.ledger()[0]["recipient"], "ľuboš@example.org");
}

#[tokio::test]
async fn a_group_that_opens_with_content_is_answered_in_order() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    let group = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<refuse-550@example.org>\r\nDATA\r\n";
    c.send(group).await;
    assert_eq!(c.codes(4).await, [250, 250, 550, 354]);
    for _ in 0..5 {
        c.send(format!("Subject: x\r\n\r\nbody\r\n.\r\n{group}")).await;
        assert_eq!(c.codes(5).await, [250, 250, 250, 550, 354]);
    }
    c.send(".\r\nQUIT\r\n").await;
    assert_eq!(c.codes(2).await, [250, 221]);
    c.assert_closed().await;
    let counters = rig.sink.counters();
    assert_eq!((counters.messages, counters.recipients_accepted, counters.recipients_refused), (6, 6, 6));
}

#[tokio::test]
async fn how_the_octets_are_cut_never_matters() {
    let message = "Subject: x\r\n\r\n..dot\r\nbare\n.\ncr\r.\r\r\n.\n\r\n.\r\n";
    let script = format!(
        "EHLO c\r\nMAIL FROM:<a@example.org> BODY=8BITMIME\r\nRCPT TO:<b@example.org>\r\n\
         RCPT TO:<refuse-550@example.org>\r\nDATA\r\n{message}MAIL FROM:<>\r\nRCPT TO:<c@example.org>\r\n\
         DATA\r\n.\r\nNOOP {}\r\nRSET\r\nQUIT\r\n",
        "x".repeat(3_000)
    );
    for piece in [1, 2, 3, 5, 7, 64, 2_047, 1 << 20] {
        let rig = Rig::new();
        let mut c = Client::connect(rig.addr()).await;
        for octets in script.as_bytes().chunks(piece) {
            c.send(octets).await;
            tokio::task::yield_now().await;
        }
        let codes = c.codes(13).await;
        assert_eq!(codes, [220, 250, 250, 250, 550, 354, 250, 250, 250, 354, 250, 500, 250], "{piece}");
        assert_eq!(c.codes(1).await, [221]);
        let lines = rig.ledger();
        let sizes: Vec<_> = lines.iter().map(|l| l["size"].as_u64()).collect();
        let dots_off = "Subject: x\r\n\r\n.dot\r\nbare\n.\ncr\r.\r\r\n\n\r\n";
        assert_eq!(rig.stored(&lines[0]), dots_off.as_bytes(), "{piece}");
        assert_eq!(sizes, [Some(dots_off.len() as u64), Some(0)], "{piece}");
    }
}

#[tokio::test]
async fn a_stop_tells_every_session_and_closes_the_port() {
    let rig = Rig::new();
    let addr = rig.addr();
    let mut c = Client::ehlo(addr).await;
    assert!(c.deliver("a@example.org").await.starts_with("250 "));
    let stopped = tokio::spawn(rig.sink.shutdown());
    assert!(c.reply().await.starts_with("421 4.3.2 sink.infeed.test "));
    c.assert_closed().await;
    drop(c);
    assert_eq!(stopped.await.unwrap().unwrap().messages, 1);
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}
