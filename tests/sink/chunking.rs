//! CHUNKING (RFC 3030): octets as they were sent, and every chunk read, whatever becomes of it.

use infeed::sink::{Extension, Settings};
use proptest::prelude::*;

use crate::client::{Client, Rig, sha1_hex};

const ENVELOPE: &str = "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n";

/// An accepted envelope for these recipients.
async fn envelope(c: &mut Client, recipients: &[&str]) {
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 250);
    for recipient in recipients {
        assert_eq!(c.code(&format!("RCPT TO:<{recipient}>")).await, 250);
    }
}

/// BDAT, with as many octets as it says.
async fn chunk(c: &mut Client, octets: &[u8], last: bool) -> String {
    let end = if last { " LAST" } else { "" };
    let mut wire = format!("BDAT {}{end}\r\n", octets.len()).into_bytes();
    wire.extend_from_slice(octets);
    c.send(wire).await;
    c.reply().await
}

#[tokio::test]
async fn chunks_make_one_message_octet_by_octet() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    let every_octet: Vec<u8> = (0..=255).collect();
    let content = [b"A: b\r\n\r\n..\r\n.\r\n\r\n.\r\n\n.\n\r.\r", &every_octet[..], b"no line end"].concat();
    envelope(&mut c, &["b@example.org"]).await;
    assert_eq!(chunk(&mut c, &content[..10], false).await, "250 2.0.0 Ok: 10 bytes");
    assert_eq!(chunk(&mut c, b"", false).await, "250 2.0.0 Ok: 0 bytes");
    assert!(rig.ledger().is_empty());
    let reply = chunk(&mut c, &content[10..], true).await;
    let line = &rig.ledger()[0];
    let queue_id = line["queue_id"].as_str().unwrap();
    assert_eq!(reply, format!("250 2.0.0 Ok: {} bytes queued as {queue_id}", content.len()));
    assert_eq!(line["content_sha1"], sha1_hex(&content));
    assert_eq!(rig.stored(line), content);
    assert_eq!(rig.sink.counters().bytes, content.len() as u64);
}

#[tokio::test]
async fn an_empty_last_chunk_ends_the_message() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    envelope(&mut c, &["b@example.org"]).await;
    assert!(chunk(&mut c, b"whole", false).await.starts_with("250 "));
    assert!(chunk(&mut c, b"", true).await.contains(" 5 bytes queued as "));
    envelope(&mut c, &["b@example.org"]).await;
    assert!(chunk(&mut c, b"", true).await.contains(" 0 bytes queued as "));
    assert_eq!(rig.ledger().len(), 2);
}

#[tokio::test]
async fn what_follows_the_last_chunk_in_its_write_is_answered_in_order() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    let group = format!("{ENVELOPE}RCPT TO:<refuse-550@example.org>\r\nBDAT 6 LAST\r\nbody\r\n");
    c.send(group.repeat(5)).await;
    for _ in 0..5 {
        assert_eq!(c.codes(4).await, [250, 250, 550, 250]);
    }
    // DATA is as good as ever, and what looks like a command in a chunk is content
    c.send(format!("{ENVELOPE}DATA\r\n")).await;
    assert_eq!(c.codes(3).await, [250, 250, 354]);
    c.send(format!("x\r\n.\r\n{ENVELOPE}BDAT 6\r\nQUIT\r\nBDAT 0 LAST\r\nQUIT\r\n")).await;
    assert_eq!(c.codes(6).await, [250, 250, 250, 250, 250, 221]);
    c.assert_closed().await;
    assert_eq!(rig.sink.counters().messages, 7);
}

#[tokio::test]
async fn a_chunk_without_an_envelope_is_read_and_refused() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    // the octets are a command, which would be obeyed if they were not read as a chunk
    assert_eq!(chunk(&mut c, b"QUIT\r\n", true).await, "503 5.5.1 Error: need MAIL command");
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 250);
    assert_eq!(chunk(&mut c, b"QUIT\r\n", true).await, "503 5.5.1 Error: need RCPT command");
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 250);
    assert_eq!(c.code("RCPT TO:<refuse-550@example.org>").await, 550);
    assert_eq!(chunk(&mut c, b"QUIT\r\n", true).await, "554 5.5.1 Error: no valid recipients");
    envelope(&mut c, &["b@example.org"]).await;
    assert!(chunk(&mut c, b"QUIT\r\n", true).await.starts_with("250 "));

    let mut c = Client::connect(rig.addr()).await;
    c.reply().await;
    assert_eq!(chunk(&mut c, b"QUIT\r\n", true).await, "503 5.5.1 Error: send HELO/EHLO first");
    assert_eq!(c.code("NOOP").await, 250);
}

#[tokio::test]
async fn bdat_and_data_in_one_transaction_get_503() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    envelope(&mut c, &["b@example.org"]).await;
    assert!(chunk(&mut c, b"one ", false).await.starts_with("250 "));
    assert_eq!(c.ask("DATA").await, "503 5.5.1 Error: DATA after BDAT");
    assert_eq!(c.ask("RCPT TO:<c@example.org>").await, "503 5.5.1 Error: RCPT after BDAT");
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 503);
    assert!(chunk(&mut c, b"two", true).await.starts_with("250 "));
    assert_eq!(rig.stored(&rig.ledger()[0]), b"one two");
}

#[tokio::test]
async fn rset_between_chunks_forgets_them() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    envelope(&mut c, &["b@example.org"]).await;
    assert!(chunk(&mut c, b"gone", false).await.starts_with("250 "));
    assert_eq!(c.code("RSET").await, 250);
    assert_eq!(c.code("DATA").await, 503);
    envelope(&mut c, &["b@example.org"]).await;
    assert!(chunk(&mut c, b"kept", true).await.starts_with("250 "));
    assert_eq!(rig.stored(&rig.ledger()[0]), b"kept");
    assert!(c.deliver("b@example.org").await.starts_with("250 "));
}

#[tokio::test]
async fn a_bad_bdat_gets_501_and_its_octets_are_read_where_their_number_is_known() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    for bad in ["BDAT", "BDAT LAST", "BDAT -1 LAST", "BDAT 99999999999999999999 LAST", "BDAT 0x5"] {
        envelope(&mut c, &["b@example.org"]).await;
        assert_eq!(c.ask(bad).await, "501 5.5.4 Syntax: BDAT count [LAST]", "{bad}");
        assert_eq!(c.code("RSET").await, 250);
    }
    for junk in ["FIRST", "LAST LAST", "LASTLY"] {
        envelope(&mut c, &["b@example.org"]).await;
        c.send(format!("BDAT 6 {junk}\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n")).await;
        assert_eq!(c.codes(2).await, [501, 503], "{junk}");
    }
    assert!(rig.ledger().is_empty());
}

#[tokio::test]
async fn after_a_failed_chunk_the_others_are_read_and_refused_until_the_next_mail() {
    let rig = Rig::with(Settings { size_max: Some(10), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    envelope(&mut c, &["b@example.org"]).await;
    assert!(chunk(&mut c, b"123456", false).await.starts_with("250 "));
    assert_eq!(chunk(&mut c, b"12345", false).await, "552 5.3.4 Error: message file too big");
    assert!(chunk(&mut c, b"QUIT\r\n", false).await.starts_with("503 "));
    assert!(chunk(&mut c, b"QUIT\r\n", true).await.starts_with("503 "));
    envelope(&mut c, &["b@example.org"]).await;
    assert!(chunk(&mut c, b"1234567890", true).await.starts_with("250 "));
    // many times what the sink would hold of it
    envelope(&mut c, &["b@example.org"]).await;
    assert!(chunk(&mut c, &vec![b'x'; 3_000_000], true).await.starts_with("552 "));
    assert_eq!(c.code("NOOP").await, 250);
    let counters = rig.sink.counters();
    assert_eq!((counters.messages, counters.recipients_refused), (1, 2));
    assert_eq!(rig.stored(&rig.ledger()[0]), b"1234567890");
}

#[tokio::test]
async fn addresses_and_rules_strike_chunks_as_they_strike_data() {
    let rig = Rig::new();
    let mut c = Client::ehlo(rig.addr()).await;
    for (recipient, first, last) in [
        ("data-451@example.org", "451", "503"),
        ("content-550@example.org", "250", "550"),
        ("content-452@example.org", "250", "452"),
    ] {
        envelope(&mut c, &["b@example.org", recipient]).await;
        assert!(chunk(&mut c, b"QUIT\r\n", false).await.starts_with(first), "{recipient}");
        assert!(chunk(&mut c, b"QUIT\r\n", true).await.starts_with(last), "{recipient}");
    }
    let counters = rig.sink.counters();
    assert_eq!((counters.recipients_deferred, counters.recipients_refused), (4, 2));

    for (recipient, taken) in [("drop-before-dot@example.org", 0), ("drop-after-dot@example.org", 1)] {
        let mut c = Client::ehlo(rig.addr()).await;
        envelope(&mut c, &[recipient]).await;
        c.send("BDAT 6 LAST\r\nbody\r\n").await;
        c.assert_closed().await;
        assert_eq!(rig.ledger().len(), taken, "{recipient}");
    }
    assert_eq!(rig.ledger()[0]["reply"], "dropped");

    for (rule, code) in
        [("data=421", "421"), ("content=421", "421"), ("content=554", "554"), ("data=451", "451")]
    {
        let rig = Rig::with(Settings { fail: Some(vec![rule.parse().unwrap()]), ..Default::default() });
        let mut c = Client::ehlo(rig.addr()).await;
        envelope(&mut c, &["b@example.org"]).await;
        assert!(chunk(&mut c, b"QUIT\r\n", true).await.starts_with(code), "{rule}");
        if code == "421" {
            c.assert_closed().await;
        } else {
            assert_eq!(c.code("NOOP").await, 250);
        }
        assert!(rig.ledger().is_empty());
    }
}

#[tokio::test]
async fn without_chunking_bdat_is_no_command() {
    let rig = Rig::with(Settings { without: Some(vec![Extension::Chunking]), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    envelope(&mut c, &["b@example.org"]).await;
    assert_eq!(c.code("BDAT 5 LAST").await, 502);
    let rig = Rig::new();
    let mut c = Client::connect(rig.addr()).await;
    c.reply().await;
    assert_eq!(c.code("HELO client").await, 250);
    assert_eq!(c.code("BDAT 5 LAST").await, 502);
}

#[tokio::test]
async fn what_follows_the_last_chunk_in_its_group_gets_503_where_groups_end_there() {
    let rig = Rig::with(Settings { no_group_across_dot: Some(true), ..Default::default() });
    let mut c = Client::ehlo(rig.addr()).await;
    let message = format!("{ENVELOPE}BDAT 6 LAST\r\nQUIT\r\n");
    c.send(message.repeat(3)).await;
    assert_eq!(c.codes(9).await, [250, 250, 250, 503, 503, 503, 503, 503, 503]);
    c.send(message).await;
    assert_eq!(c.codes(3).await, [250, 250, 250]);
    assert_eq!(rig.ledger().len(), 2);
}

#[tokio::test]
async fn chunks_are_no_synchronization_error_unless_their_reply_must_be_waited_for() {
    let strict = |without| Settings { strict_sync: Some(true), without, ..Default::default() };
    let rig = Rig::with(strict(None));
    let mut c = Client::ehlo(rig.addr()).await;
    c.send(format!("{ENVELOPE}BDAT 2\r\nabBDAT 2 LAST\r\ncd{ENVELOPE}BDAT 0 LAST\r\n")).await;
    assert_eq!(c.codes(7).await, [250; 7]);

    let rig = Rig::with(strict(Some(vec![Extension::Pipelining])));
    let mut c = Client::ehlo(rig.addr()).await;
    envelope(&mut c, &["b@example.org"]).await;
    assert!(chunk(&mut c, b"ab", false).await.starts_with("250 "));
    c.send("BDAT 2\r\nabBDAT 2 LAST\r\ncd").await;
    assert_eq!(c.codes(1).await, [250]);
    assert!(c.reply().await.starts_with("500 5.5.1 "));
    c.assert_closed().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However content is cut into chunks, and the octets on the wire into writes, it arrives as it was.
    #[test]
    fn how_chunks_and_writes_are_cut_never_matters(
        content in prop::collection::vec(any::<u8>(), 0..3_000),
        chunk_octets in 1usize..2_000,
        write_octets in 1usize..5_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new();
            let mut c = Client::ehlo(rig.addr()).await;
            let mut wire = ENVELOPE.as_bytes().to_vec();
            let mut replies = 3;
            for piece in content.chunks(chunk_octets) {
                wire.extend_from_slice(format!("BDAT {}\r\n", piece.len()).as_bytes());
                wire.extend_from_slice(piece);
                replies += 1;
            }
            wire.extend_from_slice(b"BDAT 0 LAST\r\n");
            for piece in wire.chunks(write_octets) {
                c.send(piece).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(c.codes(replies).await, vec![250; replies]);
            assert!(rig.stored(&rig.ledger()[0]) == content);
        });
    }
}
