//! Each path into a real Postfix: what it takes, queues and delivers is what infeed calls accepted.

mod common;

#[path = "common/work.rs"]
#[allow(dead_code, reason = "not all of it is used here")]
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use common::mta::{Postfix, Relay, skip_or_require};
use common::receiver::Receiver;
use infeed::infeed::{InfeedConfig, Transaction};
use infeed::message::{Content, wire_encode};
use work::{List, config, drain, message};

const MESSAGES: u64 = 200;
const QUEUE_DEADLINE: Duration = Duration::from_secs(120);

/// Every line that can't be told from the end of a message, or from a stuffed one.
fn content(n: u64) -> Vec<u8> {
    format!("Subject: {n}\r\n\r\n.\r\n..\r\n.dot\r\nbody of {n}\r\n{}", "x\r\n".repeat(n as usize))
        .into_bytes()
}

/// Behind the header, to which Postfix adds.
fn body(content: &[u8]) -> Vec<u8> {
    let end = content.windows(4).position(|w| w == b"\r\n\r\n");
    content[end.unwrap_or(0)..].to_vec()
}

/// Message `n` to two people, one of whom is refused every tenth time.
fn transaction(n: u64, xverp: bool) -> Transaction {
    let (wire, size_octets) = wire_encode(&content(n));
    let mut transaction = Transaction {
        xverp: xverp.then_some(*b"+="),
        content: Content { wire, size_octets, eight_bit: false, utf8_headers: false },
        ..message(&[2 * n, 2 * n + 1])
    };
    if n.is_multiple_of(10) {
        transaction.recipients[0].address = format!("refuse-550-{n}@d.example");
    }
    transaction
}

/// Over one connection, with these lines in main.cf.
async fn into_postfix(change: impl FnOnce(&mut InfeedConfig), extra: &[&str], xverp: bool) {
    if !skip_or_require("postfix") {
        return;
    }
    let receiver = Receiver::start();
    let postfix = Postfix::start(Relay::To(receiver.port()), extra);
    let mut config = config(&postfix.address());
    change(&mut config);
    let list = drain(config, List::new((0..MESSAGES).map(|n| transaction(n, xverp)))).await;
    postfix.wait_queue_empty(QUEUE_DEADLINE);

    let words = list.words();
    let mut expected = BTreeMap::new();
    let mut ids = BTreeMap::new();
    for n in 0..MESSAGES {
        for rcpt in transaction(n, xverp).recipients {
            let word = &words[rcpt.token as usize];
            if rcpt.address.starts_with("refuse-550") {
                assert_eq!(word, "refused 550 at RCPT", "{}", rcpt.address);
                continue;
            }
            let id = word.strip_prefix("accepted ").unwrap_or_else(|| panic!("{}: {word}", rcpt.address));
            ids.insert(id.to_owned(), n);
            let sender = match xverp {
                true => format!("list+{}@x.example", rcpt.address.replace('@', "=")),
                false => "list@x.example".to_owned(),
            };
            expected.insert(rcpt.address, (sender, body(&content(n))));
        }
    }
    assert_eq!(ids.len() as u64, MESSAGES, "one queue file a message");
    let mut delivered = BTreeMap::new();
    for received in receiver.received() {
        let body = body(&received.content);
        for recipient in received.recipients {
            let twice = delivered.insert(recipient.clone(), (received.sender.clone(), body.clone()));
            assert_eq!(twice, None, "{recipient} twice");
        }
    }
    let same = delivered.iter().zip(&expected).position(|(d, e)| d != e);
    assert_eq!((delivered.len(), same), (expected.len(), None));
}

#[tokio::test]
async fn by_data_grouped_across_the_dot() {
    into_postfix(|config| config.chunking = false, &[], false).await;
}

#[tokio::test]
async fn by_bdat_one_message_at_a_time() {
    into_postfix(|config| config.pipelining_depth_max = 1, &[], false).await;
}

#[tokio::test]
async fn by_bdat_four_messages_in_a_group() {
    into_postfix(|config| config.pipelining_depth_max = 4, &[], false).await;
}

#[tokio::test]
async fn in_lock_step_where_pipelining_is_not_offered() {
    into_postfix(|_| (), &["smtpd_discard_ehlo_keywords = pipelining"], false).await;
}

#[tokio::test]
async fn with_xverp_by_data() {
    into_postfix(|config| config.chunking = false, &[], true).await;
}

#[tokio::test]
async fn with_xverp_by_bdat_in_groups() {
    into_postfix(|config| config.pipelining_depth_max = 4, &[], true).await;
}
