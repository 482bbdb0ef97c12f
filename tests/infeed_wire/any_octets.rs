//! Whatever the MTA sends, and however it is cut: every recipient is settled exactly once.

use std::sync::Arc;
use std::time::Duration;

use infeed::infeed::{Pool, RcptResult};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::work::{List, config, message};

/// What one connection sends, piece by piece, and then closes.
type Sent = Vec<Vec<u8>>;

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let code =
        prop::sample::select(vec![220u16, 250, 251, 354, 421, 450, 451, 452, 500, 503, 530, 550, 552, 554]);
    let text = prop::sample::select(vec![
        " ok",
        "-PIPELINING",
        " 4.5.3 too many recipients",
        " too many messages",
        " 4.3.1 full",
        " 2.0.0 Ok: queued as A1",
        "",
    ]);
    let reply = (code, text).prop_map(|(code, text)| format!("{code}{text}\r\n").into_bytes());
    prop_oneof![8 => reply, 1 => prop::collection::vec(any::<u8>(), 0..20)]
}

fn connection() -> impl Strategy<Value = (bool, bool, Sent)> {
    (prop::bool::weighted(0.9), any::<bool>(), prop::collection::vec(piece(), 0..14))
}

/// Sends without listening, but for pauses: a piece goes out when something came in, or at once.
async fn misbehave(stream: TcpStream, (hello, pipelining, sent): (bool, bool, Sent), cut: usize) {
    let (mut reader, mut writer) = stream.into_split();
    let drain = tokio::spawn(async move {
        let mut sink = [0; 4096];
        while matches!(reader.read(&mut sink).await, Ok(1..)) {}
    });
    let mut octets = Vec::new();
    if hello {
        octets.extend_from_slice(b"220 mx\r\n");
        // Its place in the stream is the same however fast it is sent: EHLO's reply follows.
        if writer.write_all(&octets).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        octets = if pipelining { b"250-mx\r\n250 PIPELINING\r\n".to_vec() } else { b"250 mx\r\n".to_vec() };
        if writer.write_all(&octets).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for piece in sent {
        for part in piece.chunks(cut.max(1)) {
            // The client may have left: that is its right.
            if writer.write_all(part).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    drop(writer);
    drain.abort();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn every_recipient_is_settled_exactly_once(
        connections in prop::collection::vec(connection(), 1..5), cut in 1usize..40) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let results = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let (done, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
            tokio::spawn(async move {
                for connection in connections {
                    let Ok((stream, _)) = listener.accept().await else { return };
                    misbehave(stream, connection, cut).await;
                }
                drop(done);
            });
            let list = Arc::new(List::new((0..6).map(|i| message(&[i * 2, i * 2 + 1]))));
            let mut config = config(&address);
            config.connections = 2;
            let pool = Pool::start(config, list.clone());
            tokio::select! {
                () = pool.finished() => (),
                // The MTA is gone for good, or has paused us, or nothing moves.
                _ = all_done.recv() => (),
                () = tokio::time::sleep(Duration::from_millis(100)) => (),
            }
            pool.stop(Duration::from_millis(20)).await;
            (list.results(), list.waiting())
        });
        let (results, waiting) = results;
        prop_assert_eq!(results.len() + waiting * 2, 12);
        for (token, results) in results {
            prop_assert_eq!(results.len(), 1, "{}: {:?}", token, results);
            if let RcptResult::Accepted { said, .. } = &results[0] {
                prop_assert!((200..300).contains(&said.code));
            }
        }
    }
}
