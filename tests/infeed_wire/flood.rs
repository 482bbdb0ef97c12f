//! An MTA without measure: replies of 10 MiB, replies one octet at a time with pauses, nothing at all.

use std::sync::Arc;
use std::time::Duration;

use infeed::infeed::{InfeedConfig, Pool};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::work::{List, config, drain, message};

const FLOOD_OCTETS: usize = 10 * 1024 * 1024;
const CONTINUATIONS: usize = 100_000;

/// What ends without an end.
#[derive(Debug, Clone, Copy)]
enum Flood {
    OneLine,
    Continuations,
    /// Not even a code.
    Zeros,
}

impl Flood {
    fn octets(self, code: &str) -> Vec<u8> {
        match self {
            Flood::OneLine => [code.as_bytes(), b" ", &vec![b'x'; FLOOD_OCTETS], b"\r\n"].concat(),
            Flood::Continuations => {
                let line = format!("{code}-{}\r\n", "x".repeat(100));
                [line.repeat(CONTINUATIONS).as_bytes(), code.as_bytes(), b" end\r\n"].concat()
            }
            Flood::Zeros => vec![0; FLOOD_OCTETS],
        }
    }
}

/// Commands of a session in their order, each with what is right.
const STAGES: [(&str, &str); 6] =
    [("", "220"), ("EHLO", "250"), ("MAIL", "250"), ("RCPT", "250"), ("DATA", "354"), (".", "250")];

/// Answers rightly up to `flooded`, where it says `flood`; how much of that was taken before the client
/// closed, and whether that did close.
async fn flooding(stream: TcpStream, flooded: &str, flood: Flood) -> (usize, bool) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    for (verb, code) in STAGES {
        if !verb.is_empty() {
            loop {
                line.clear();
                assert!(stream.read_line(&mut line).await.unwrap() > 0, "the end before {verb}");
                let said = line.trim_end().split([' ', ':']).next();
                if said == Some(verb) {
                    break;
                }
                // of the content only its end is a stage
                assert_eq!(verb, ".", "{line:?}");
            }
        }
        if verb != flooded {
            stream.write_all(format!("{code} ok\r\n").as_bytes()).await.unwrap();
            continue;
        }
        let octets = flood.octets(code);
        let mut sent = 0;
        while sent < octets.len() {
            match stream.write(&octets[sent..]).await {
                Ok(n @ 1..) => sent += n,
                _ => return (sent, true),
            }
        }
        // all of it fits into the buffers between: the client closes all the same
        return (sent, matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)));
    }
    unreachable!("one stage is flooded")
}

/// A server that takes whatever comes, in lock step.
async fn good(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mx\r\n").await.unwrap();
    let mut line = String::new();
    let mut content = false;
    loop {
        line.clear();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let reply: &[u8] = match line.trim_end() {
            "." if content => {
                content = false;
                b"250 2.0.0 Ok: queued as GOOD\r\n"
            }
            _ if content => continue,
            "DATA" => {
                content = true;
                b"354 go\r\n"
            }
            _ => b"250 ok\r\n",
        };
        stream.write_all(reply).await.unwrap();
    }
}

#[tokio::test]
async fn replies_of_10_mib_are_cut_off_early_with_the_bound_as_the_error() {
    for (stage, _) in STAGES {
        for flood in [Flood::OneLine, Flood::Continuations, Flood::Zeros] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let config = config(&listener.local_addr().unwrap().to_string());
            let server = tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let flooded = flooding(stream, stage, flood).await;
                // whoever is in doubt is not lent again
                if stage != "." {
                    let (stream, _) = listener.accept().await.unwrap();
                    good(stream).await;
                }
                flooded
            });
            let list = Arc::new(List::new([message(&[1])]).again());
            let pool = Pool::start(config, list.clone());
            let mut changed = pool.changed();
            let told = changed.wait_for(|status| status.last_error.is_some()).await.unwrap().clone();
            let error = told.last_error.unwrap();
            let word = match flood {
                // no code, or too long already, as they come
                Flood::Zeros => "is not SMTP",
                // greeting and EHLO are bounded as a whole first
                _ if matches!(stage, "" | "EHLO") => "octets",
                Flood::OneLine => "a line over 4096 octets",
                Flood::Continuations => "a reply over 16384 octets",
            };
            assert!(error.contains(word), "{stage:?} {flood:?}: {error}");
            pool.finished().await;
            assert_eq!(pool.stop(Duration::ZERO).await.aborted, 0);
            let (sent, closed) = server.await.unwrap();
            assert!(closed, "{stage:?} {flood:?}: the connection stays open");
            // it lay in the kernel's buffers at most: nobody read it
            assert!(sent < FLOOD_OCTETS, "{stage:?} {flood:?}: all {sent} octets were taken");
            let word = if stage == "." { "in doubt" } else { "accepted GOOD" };
            assert_eq!(list.attempts(), [word], "{stage:?} {flood:?}");
        }
    }
}

#[tokio::test]
async fn an_mta_that_writes_one_octet_every_few_milliseconds_is_slow_and_not_dead() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(&listener.local_addr().unwrap().to_string());
    let server = tokio::spawn(async move {
        let (slow, _) = listener.accept().await.unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let inner = tokio::spawn(scripted(far));
        let (mut from_client, mut to_client) = slow.into_split();
        let (mut from_inner, mut to_inner) = tokio::io::split(near);
        let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_inner).await.is_ok() });
        let mut octet = [0];
        while matches!(from_inner.read(&mut octet).await, Ok(1..)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
            to_client.write_all(&octet).await.unwrap();
        }
        inner.await.unwrap();
        up.abort();
    });
    let list = drain(config, List::new([message(&[1]), message(&[2])])).await;
    server.await.unwrap();
    assert_eq!(list.words(), ["accepted SLOW", "accepted SLOW"]);
}

/// With PIPELINING, over whatever carries it.
async fn scripted(stream: tokio::io::DuplexStream) {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mx\r\n").await.unwrap();
    let (mut line, mut content) = (String::new(), false);
    loop {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        let reply: &[u8] = match line.trim_end() {
            "." if content => b"250 2.0.0 Ok: queued as SLOW\r\n",
            _ if content => continue,
            "DATA" => b"354 go\r\n",
            "QUIT" => return stream.write_all(b"221 bye\r\n").await.unwrap(),
            line if line.starts_with("EHLO") => b"250-mx\r\n250 PIPELINING\r\n",
            _ => b"250 ok\r\n",
        };
        content = line.trim_end() == "DATA";
        stream.write_all(reply).await.unwrap();
    }
}

/// What a server does that is half dead.
#[derive(Debug, Clone, Copy)]
enum HalfOpen {
    /// It reads, and says nothing more.
    Mute,
    /// It neither reads nor says anything more.
    Deaf,
}

/// Behind its 354, with a message larger than the buffers between: what a paused process looks like. What
/// became of the recipient, and the error.
async fn half_open(behaviour: HalfOpen) -> (Vec<String>, String) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(4).unwrap();
    let mut config: InfeedConfig = config(&listener.local_addr().unwrap().to_string());
    match behaviour {
        HalfOpen::Mute => config.timeouts.final_dot_ms = 200,
        HalfOpen::Deaf => config.timeouts.content_block_ms = 200,
    }
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 mx\r\n").await.unwrap();
        let mut line = String::new();
        while !line.starts_with("DATA") {
            line.clear();
            assert!(stream.read_line(&mut line).await.unwrap() > 0, "the end before DATA");
            let code = if line.starts_with("DATA") { "354" } else { "250" };
            stream.write_all(format!("{code} ok\r\n").as_bytes()).await.unwrap();
        }
        let mut rest = vec![0; 64 * 1024];
        if matches!(behaviour, HalfOpen::Mute) {
            while matches!(stream.read(&mut rest).await, Ok(1..)) {}
        }
        let (next, _) = listener.accept().await.unwrap();
        drop(stream);
        good(next).await;
    });
    let mut large = message(&[1]);
    large.content.wire = vec![b"0123456789abcdef0123456789abcde\r\n".as_slice(); 500_000].concat().into();
    let list = Arc::new(List::new([large]).again());
    let pool = Pool::start(config, list.clone());
    let mut changed = pool.changed();
    let told = changed.wait_for(|status| status.last_error.is_some()).await.unwrap().clone();
    pool.finished().await;
    assert_eq!(pool.stop(Duration::ZERO).await.aborted, 0);
    server.abort();
    (list.attempts(), told.last_error.unwrap())
}

#[tokio::test]
async fn a_server_that_answers_no_more_leaves_doubt_after_the_timeout_of_the_dot() {
    let (words, error) = half_open(HalfOpen::Mute).await;
    assert_eq!(words, ["in doubt"]);
    assert!(error.contains("did not answer at the end of the content within 200 ms"), "{error}");
}

#[tokio::test]
async fn a_server_that_reads_no_more_leaves_no_doubt_and_another_connection_delivers() {
    let (words, error) = half_open(HalfOpen::Deaf).await;
    assert_eq!(words, ["accepted GOOD"]);
    assert!(error.contains("did not answer at the end of the content within 200 ms"), "{error}");
}
