//! What arrives: content to the octet, its end, the ledger.

use infeed::sink::{Settings, SinkError};

use crate::client::{Client, Rig, read_ledger, sha1_hex};

#[tokio::test]
async fn the_ledger_has_a_line_per_recipient_before_the_reply() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    assert_eq!(c.code("MAIL FROM:<list@example.org> BODY=8BITMIME SIZE=30 RET=HDRS ENVID=j1").await, 250);
    assert_eq!(c.code("RCPT TO:<a@example.org> NOTIFY=NEVER ORCPT=rfc822;a@example.org").await, 250);
    assert_eq!(c.code("RCPT TO:<\"b c\"@example.org>").await, 250);
    assert_eq!(c.code("DATA").await, 354);
    let content = "Message-ID: <x@y>\r\n\r\n.dot\r\n";
    let reply = c.ask("Message-ID: <x@y>\r\n\r\n..dot\r\n.").await;
    let lines = rig.ledger();
    assert_eq!(lines.len(), 2);
    for (line, recipient) in lines.iter().zip(["a@example.org", "\"b c\"@example.org"]) {
        assert_eq!(line["recipient"], recipient);
        assert_eq!(line["sender"], "list@example.org");
        assert_eq!(line["message_id"], "<x@y>");
        assert_eq!(line["content_sha1"], sha1_hex(content.as_bytes()));
        assert_eq!(line["body_sha1"], sha1_hex(b".dot\r\n"));
        assert_eq!(line["size"], content.len());
        assert_eq!(line["reply"], "250");
        assert_eq!((line["connection"].as_u64(), line["transaction"].as_u64()), (Some(1), Some(1)));
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line["mail_parameters"]["BODY"], "8BITMIME");
        assert_eq!(line["mail_parameters"]["ENVID"], "j1");
        assert_eq!(reply, format!("250 2.0.0 Ok: queued as {}", line["queue_id"].as_str().unwrap()));
    }
    assert_eq!(lines[0]["rcpt_parameters"]["ORCPT"], "rfc822;a@example.org");
    assert!(lines[1].get("rcpt_parameters").is_none());
    assert_eq!(rig.stored(&lines[0]), content.as_bytes());
}

#[tokio::test]
async fn a_lone_dot_on_the_first_line_is_an_empty_message() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    c.open("a@example.org").await;
    assert!(c.ask(".").await.starts_with("250 2.0.0 Ok: queued as "));
    let lines = rig.ledger();
    assert_eq!(lines[0]["size"], 0);
    assert_eq!(lines[0]["message_id"], serde_json::Value::Null);
    assert_eq!(lines[0]["body_sha1"], sha1_hex(b""));
}

#[tokio::test]
async fn smuggling_sequences_never_end_a_message() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    let smuggled = "MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\n";
    let sequences = [
        "\n.\n",
        "\r.\r",
        "\r\n.\n",
        "\n.\r\n",
        "\r\r\n.\r\n",
        "\r.\r\n",
        "\r\n.\r",
        "\r\n.\r\r\n",
        "\r\n\0.\r\n",
    ];
    for (i, sequence) in sequences.iter().enumerate() {
        c.open("a@example.org").await;
        // In two writes at the worst place, so that what the sink remembers between reads is tried too.
        let wire = format!("Subject: x\r\n\r\nbefore{sequence}{smuggled}\r\nafter\r\n.\r\n");
        let (head, tail) = wire.split_at(wire.find("MAIL").unwrap() - 2);
        c.send(head).await;
        tokio::task::yield_now().await;
        c.send(tail).await;
        assert!(c.reply().await.starts_with("250 "), "{sequence:?}");
        let lines = rig.ledger();
        assert_eq!(lines.len(), i + 1, "{sequence:?}");
        assert_eq!(lines[i]["recipient"], "a@example.org");
        let stored = rig.stored(&lines[i]);
        assert!(String::from_utf8(stored).unwrap().contains(smuggled), "{sequence:?}");
    }
    assert_eq!(c.code("NOOP").await, 250);
}

#[tokio::test]
async fn content_comes_back_octet_by_octet() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    let every_octet: Vec<u8> = (0..=255).filter(|o| !b"\r\n".contains(o)).collect();
    let long = vec![b'x'; 300_000];
    let lines: Vec<&[u8]> = vec![b"A: b", b"", b".", b"..", b".x", &every_octet, &long, b"", b"end."];
    let mut wire = Vec::new();
    let mut content = Vec::new();
    for line in lines {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        for out in [&mut wire, &mut content] {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
    wire.extend_from_slice(b".\r\n");
    c.open("a@example.org").await;
    for piece in wire.chunks(7_919) {
        c.send(piece).await;
    }
    assert!(c.reply().await.starts_with("250 "));
    let line = &rig.ledger()[0];
    assert!(rig.stored(line) == content);
    assert_eq!(line["content_sha1"], sha1_hex(&content));
    assert_eq!(rig.sink.counters().bytes, content.len() as u64);
}

#[tokio::test]
async fn messages_over_the_size_are_refused_by_declaration_and_by_count() {
    let rig = Rig::with(Settings { size_max: Some(20), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    assert_eq!(c.code("MAIL FROM:<a@example.org> SIZE=21").await, 552);
    c.open("a@example.org").await;
    assert_eq!(c.code(&format!("{}\r\n.", "x".repeat(19))).await, 552);
    c.open("a@example.org").await;
    assert_eq!(c.code(&format!("{}\r\n.", "x".repeat(18))).await, 250);
    assert_eq!(rig.ledger().len(), 1);
    assert_eq!(rig.sink.counters().recipients_refused, 1);
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_defers_the_message_and_is_told_at_the_end() {
    let rig = Rig::configured(|config| config.ledger = Some("/dev/full".into()));
    let mut c = Client::ehlo(rig.addr()).await;
    assert!(c.deliver("a@example.org").await.starts_with("451 4.3.0 "));
    let counters = rig.sink.counters();
    assert_eq!((counters.messages, counters.ledger_errors, counters.recipients_deferred), (0, 1, 1));
    match rig.sink.shutdown().await {
        Err(error @ SinkError::LedgerWrite { times: 1, .. }) => assert_eq!(error.exit_code(), 74),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_at_once_leave_whole_lines_and_unique_ids() {
    let rig = Rig::configured(|config| config.store = None);
    let addr = rig.addr();
    let sessions: Vec<_> = (0..20)
        .map(|s| {
            tokio::spawn(async move {
                let mut c = Client::ehlo(addr).await;
                for m in 0..25 {
                    assert!(c.deliver(&format!("r{s}.{m}@example.org")).await.starts_with("250 "));
                }
                assert_eq!(c.code("QUIT").await, 221);
            })
        })
        .collect();
    for session in sessions {
        session.await.unwrap();
    }
    let ledger = rig.folder.path().join("ledger");
    let counters = rig.sink.shutdown().await.unwrap();
    assert_eq!((counters.messages, counters.recipients_accepted, counters.transactions), (500, 500, 500));
    assert_eq!((counters.connections, counters.open), (20, 0));
    let lines = read_ledger(&ledger);
    let unique = |field: &str| {
        lines.iter().map(|l| l[field].to_string()).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(
        (lines.len(), unique("recipient"), unique("queue_id"), unique("transaction")),
        (500, 500, 500, 500)
    );
}
