//! Every scenario on every path: what an MTA may say or do, and what becomes of each recipient, by DATA
//! grouped across the dot, by BDAT alone and in groups of four, in lock step, with XVERP, under TLS.
//!
//! Whatever the scenario: each recipient is settled once each time that it is lent, the MTA took nobody's
//! message that is not accepted or in doubt, and what is in doubt is bounded. The table is in `rows`.

#[path = "wire_paths/acts.rs"]
mod acts;
#[path = "common/certificates.rs"]
#[allow(dead_code, reason = "not all of it is used here")]
mod certificates;
#[path = "wire_paths/mta.rs"]
mod mta;
#[path = "wire_paths/play.rs"]
mod play;
#[path = "wire_paths/rows.rs"]
mod rows;
#[path = "common/work.rs"]
#[allow(dead_code, reason = "not all of it is used here")]
mod work;
#[path = "wire_paths/wrong.rs"]
mod wrong;

use play::{Path, Play, play_all};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use work::{List, config, drain, message};

macro_rules! each_path {
    ($($name:ident: $path:ident;)+) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn each_scenario_ends_as_the_table_says() {
                play_all(Path::$path, rows::ROWS).await;
            }

            #[tokio::test]
            async fn nothing_is_sent_without_a_record() {
                no_record(Path::$path).await;
            }

            #[tokio::test]
            async fn a_reply_out_of_place_accepts_refuses_and_blames_nobody() {
                wrong::wrong_replies(Path::$path).await;
            }

            #[tokio::test]
            async fn a_reply_that_nobody_asked_for_is_no_acceptance() {
                wrong::unsolicited_replies(Path::$path).await;
            }

            #[tokio::test]
            async fn replies_cut_at_any_octet_mean_the_same() {
                wrong::replies_cut(Path::$path).await;
            }

            #[tokio::test]
            async fn a_farewell_behind_a_reply_takes_nothing_back() {
                wrong::a_farewell_behind_a_reply(Path::$path).await;
            }
        }
    )+};
}

each_path! {
    data: Data;
    bdat_alone: Bdat1;
    bdat_in_groups: Bdat4;
    lock_step: LockStep;
    xverp_by_data: XverpData;
    xverp_by_bdat: XverpBdat;
    tls_by_data: TlsData;
    tls_by_bdat: TlsBdat;
}

async fn no_record(path: Path) {
    let play = Play::new(path, &rows::ALL_WELL);
    play.list.no_records.store(1, std::sync::atomic::Ordering::SeqCst);
    let played = play.run().await;
    assert!(played.attempts.iter().all(|word| word.starts_with("accepted")), "{:?}", played.attempts);
}

#[tokio::test]
async fn each_path_is_the_one_that_it_is_named_for() {
    for path in Path::ALL {
        let played = Play::new(path, &rows::ALL_WELL).run().await;
        let messages = rows::MESSAGES.len();
        let expected = if path.is_bdat() { (0, messages) } else { (messages, 0) };
        assert_eq!((played.by_data, played.by_bdat), expected, "{path:?}");
        assert_eq!(played.xverp, if path.is_xverp() { messages } else { 0 }, "{path:?}");
    }
}

#[tokio::test]
async fn a_bdat_that_was_offered_and_is_refused_is_left_alone() {
    for path in [Path::Bdat1, Path::Bdat4, Path::XverpBdat, Path::TlsBdat] {
        let played = Play::new(path, &rows::NO_BDAT).run().await;
        assert_eq!((played.by_data, played.by_bdat), (rows::MESSAGES.len(), 0), "{path:?}");
        assert!(played.attempts.iter().all(|word| word.starts_with("accepted")), "{:?}", played.attempts);
        assert_eq!(played.faults, []);
    }
}

/// The server reads on only when its replies have left, with buffers as small as they get.
async fn replies_before_it_reads_on(chunking: bool) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
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
                "EHLO" if chunking => "250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n".to_owned(),
                "EHLO" => "250-mx\r\n250 PIPELINING\r\n".to_owned(),
                "DATA" => "554 5.5.1 no valid recipients\r\n".to_owned(),
                "BDAT" => {
                    let octets = line[5..].trim().strip_suffix(" LAST").unwrap().parse().unwrap();
                    stream.read_exact(&mut vec![0; octets]).await.unwrap();
                    "250 2.0.0 Ok: queued as BIG\r\n".to_owned()
                }
                "RCPT" if chunking => format!("250 2.1.5 {long}\r\n"),
                "RCPT" => format!("550 5.1.1 {long}\r\n"),
                _ => "250 ok\r\n".to_owned(),
            };
            stream.write_all(reply.as_bytes()).await.unwrap();
            line.clear();
        }
    });
    let many = |from: u64| {
        let mut many = message(&(from..from + 4_000).collect::<Vec<_>>());
        for rcpt in &mut many.recipients {
            rcpt.address = format!("{:a>64}@{:b>60}.example", rcpt.token, rcpt.token);
        }
        many
    };
    let mut config = config(&address);
    config.recipients_per_transaction_max = usize::MAX;
    (config.chunking, config.pipelining_depth_max) = (chunking, 4);
    let list = drain(config, List::new((0..5).map(|n| many(n * 4_000)))).await;
    server.await.unwrap();
    let word = if chunking { "accepted BIG" } else { "refused 550 at RCPT" };
    assert!(list.words().iter().all(|w| w == word));
}

#[tokio::test]
async fn groups_and_replies_larger_than_all_buffers_do_not_deadlock() {
    replies_before_it_reads_on(true).await;
    replies_before_it_reads_on(false).await;
}
