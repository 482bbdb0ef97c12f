//! What goes over the wire when all is well, and per-recipient results when it is partly well.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;

use super::server::{HELLO, HELLO_LOCK_STEP, Server};
use super::work::{List, config, drain, message};

const QUIT: &[&str] = &["C: QUIT", "alone", "S: 221 bye", "eof"];

async fn play(scripts: &[&[&[&'static str]]], list: List) -> Vec<String> {
    let server = Server::start(scripts).await;
    let list = drain(config(&server.address), list).await;
    server.played().await;
    list.words()
}

#[tokio::test]
async fn an_envelope_is_one_group_and_content_waits_for_its_354() {
    let script = [
        "C: MAIL FROM:<list@x.example> SIZE=22",
        "C: RCPT TO:<1@d1.example>",
        "C: RCPT TO:<2@d2.example>",
        "C: DATA",
        "alone",
        "S: 250 ok|250 ok|250 ok|354 go",
        "C: Subject: hi",
        "C: ",
        "C: ..dot",
        "C: .",
        "alone",
        "S: 250 2.0.0 Ok: queued as 4XyZ12abcDz",
    ];
    let words = play(&[&[HELLO, &script, QUIT]], List::new([message(&[1, 2])])).await;
    assert_eq!(words, ["accepted 4XyZ12abcDz", "accepted 4XyZ12abcDz"]);
}

#[tokio::test]
async fn the_next_envelope_goes_with_the_content_before_it() {
    let script = [
        "C: MAIL",
        "C: RCPT TO:<1@",
        "C: DATA",
        "S: 250 ok|250 ok|354 go",
        ".",
        // Not answered yet, and there it is.
        "C: MAIL",
        "C: RCPT TO:<2@",
        "C: DATA",
        "S: 250 OK id=1tF0aB-0001Xy-2z",
        "S: 250 ok|250 ok|354 go",
        ".",
        "S: 250 2.0.0 6AM3xQ9i012345 Message accepted for delivery",
    ];
    let words = play(&[&[HELLO, &script, QUIT]], List::new([message(&[1]), message(&[2])])).await;
    assert_eq!(words, ["accepted 1tF0aB-0001Xy-2z", "accepted 6AM3xQ9i012345"]);
}

#[tokio::test]
async fn lock_step_is_one_command_a_write_and_quit_too() {
    let one = [
        "C: MAIL FROM:<list@x.example>",
        "alone",
        "S: 250 ok",
        "C: RCPT",
        "alone",
        "S: 250 ok",
        "C: RCPT",
        "alone",
        "S: 550 5.1.1 no",
        "C: DATA",
        "alone",
        "S: 354 go",
        ".",
        "alone",
        "S: 250 2.0.0 1f2e3d4c Message accepted for delivery",
    ];
    let list = List::new([message(&[1, 2]), message(&[3, 4])]);
    let words = play(&[&[HELLO_LOCK_STEP, &one, &one, QUIT]], list).await;
    let refused = "refused 550 at RCPT";
    assert_eq!(words, ["accepted 1f2e3d4c", refused, "accepted 1f2e3d4c", refused]);
}

#[tokio::test]
async fn replies_cut_into_single_octets_are_the_same_replies() {
    let script = [
        "C: MAIL",
        "C: RCPT",
        "C: DATA",
        "s: 250-2.1.0 o|250 2.1.0 k|250 ok|354 go",
        ".",
        "s: 250-2.0.0 Ok:|250 2.0.0 queued as ABC",
    ];
    assert_eq!(play(&[&[HELLO, &script, QUIT]], List::new([message(&[1])])).await, ["accepted ABC"]);
}

#[tokio::test]
async fn each_recipient_has_its_own_reply() {
    let script = [
        "C: MAIL",
        "C: RCPT",
        "C: RCPT",
        "C: RCPT",
        "C: DATA",
        "S: 250 ok|550 5.1.1 no|251 will forward|451 4.2.0 later|354 go",
        ".",
        "S: 250 ok",
    ];
    let words = play(&[&[HELLO, &script, QUIT]], List::new([message(&[1, 2, 3])])).await;
    assert_eq!(words, ["refused 550 at RCPT", "accepted -", "deferred 451 at RCPT"]);
}

#[tokio::test]
async fn a_354_to_nobody_gets_a_lone_dot_and_accepts_nothing() {
    let script = [
        "C: MAIL",
        "C: RCPT",
        "C: RCPT",
        "C: DATA",
        "S: 250 ok|550 no|450 later|354 go",
        "C: .",
        "alone",
        "S: 250 2.0.0 Ok: queued as NOTHING",
        "good",
    ];
    let list = List::new([message(&[1, 2]), message(&[3])]);
    let words = play(&[&[HELLO, &script]], list).await;
    assert_eq!(words, ["refused 550 at RCPT", "deferred 450 at RCPT", "accepted GOOD000001"]);
}

#[tokio::test]
async fn data_refused_for_want_of_recipients_is_no_fault_and_rset_goes_alone() {
    let nobody = ["C: MAIL", "C: RCPT", "C: DATA", "S: 250 ok|550 no|554 5.5.1 Error: no valid recipients"];
    let reset = ["C: RSET", "alone", "S: 250 ok", "C: MAIL", "good"];
    let server = Server::start(&[&[HELLO, &nobody, &reset[..3], &nobody, &reset[..3], &["good"]]]).await;
    let list = List::new([message(&[1]), message(&[2]), message(&[3])]);
    let list = drain(config(&server.address), list).await;
    server.played().await;
    assert_eq!(list.words(), ["refused 550 at RCPT", "refused 550 at RCPT", "accepted GOOD000001"]);
    assert_eq!(list.faults(), []);
    assert_eq!(list.handed_out(), 1);
}

#[tokio::test]
async fn lock_step_asks_for_no_data_when_nobody_was_accepted() {
    let script = [
        "C: MAIL",
        "S: 250 ok",
        "C: RCPT",
        "S: 550 no",
        "C: RSET",
        "alone",
        "S: 250 ok",
        "C: MAIL",
        "S: 450 4.1.8 later",
        "C: MAIL",
        "good",
    ];
    let script = &script[..10];
    let server = Server::start(&[&[HELLO_LOCK_STEP, script, &["S: 250 ok", "good"]]]).await;
    let list = List::new([message(&[1]), message(&[2]), message(&[3])]);
    let list = drain(config(&server.address), list).await;
    server.played().await;
    assert_eq!(list.words(), ["refused 550 at RCPT", "deferred 450 at MAIL", "accepted GOOD000001"]);
}

#[tokio::test]
async fn a_group_and_replies_larger_than_all_buffers_do_not_deadlock() {
    // Buffers as small as they get at this end: the server reads on only when its replies have left.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.set_send_buffer_size(4_096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let long = "x".repeat(200);
        stream.write_all(b"220 mx\r\n").await.unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap() > 0 {
            let reply = match &line[..4] {
                "EHLO" => "250-mx\r\n250 PIPELINING\r\n".to_owned(),
                "DATA" => "554 5.5.1 no valid recipients\r\n".to_owned(),
                "RCPT" => format!("550 5.1.1 {long}\r\n"),
                _ => "250 ok\r\n".to_owned(),
            };
            stream.write_all(reply.as_bytes()).await.unwrap();
            line.clear();
        }
    });
    let mut many = message(&(0..50_000).collect::<Vec<_>>());
    for rcpt in &mut many.recipients {
        rcpt.address = format!("{:a>64}@{:b>60}.example", rcpt.token, rcpt.token);
    }
    let mut config = config(&address);
    config.recipients_per_transaction_max = usize::MAX;
    let list = drain(config, List::new([many])).await;
    server.await.unwrap();
    assert!(list.words().iter().all(|word| word == "refused 550 at RCPT"));
}
