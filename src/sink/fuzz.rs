//! Fuzz targets: command lines of clients with their parameters, and whole sessions.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::command::{Command, LINE_OCTETS_MAX};
use super::parameters::Of;
use super::receiver::Receiver;
use super::settings::{Behaviour, Settings};
use super::{Sink, SinkConfig};
use crate::fuzzing::{Fuzz, as_it_is, is_not_quadratic};
use crate::infeed::parse_reply;

const WORDS: &[&[u8]] = &[
    b"EHLO a\r\n",
    b"HELO a\r\n",
    b"MAIL FROM:<",
    b"MAIL FROM:<a@b.example>\r\n",
    b"RCPT TO:<",
    b"RCPT TO:<a@b.example>\r\n",
    b"DATA\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 18446744073709551615\r\n",
    b"BDAT 5\r\n",
    b"BDAT 3 LAST\r\n",
    b"RSET\r\n",
    b"QUIT\r\n",
    b"NOOP\r\n",
    b"VRFY x\r\n",
    b">",
    b"\"",
    b"\\",
    b"@",
    b" SIZE=",
    b" XVERP=+=",
    b" XVERP",
    b" SMTPUTF8",
    b" NOTIFY=NEVER",
    b" ORCPT=rfc822;a+40b",
    b" ENVID=+",
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n.\r\n",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
];

const COMMANDS: Fuzz = Fuzz { name: "commands", words: WORDS, mend: as_it_is, target: commands };

/// Each line of the input as a command; all of it as content.
fn commands(input: &[u8]) {
    let offers = Behaviour::from(&Settings::default()).offers;
    for line in input.split_inclusive(|&b| b == b'\n') {
        let line = &line[..line.len().min(LINE_OCTETS_MAX)];
        match Command::parse(line) {
            Err(complaint) => assert!((500..=502).contains(&complaint.code)),
            Ok(
                Command::Mail { sender: address, parameters }
                | Command::Rcpt { recipient: address, parameters },
            ) => {
                assert!(!address.bytes().any(|b| b < b' ' || b == 0x7f), "{address:?}");
                for (of, offers) in [(Of::Mail, Some(&offers)), (Of::Rcpt, Some(&offers)), (Of::Mail, None)] {
                    if let Err(complaint) = parameters.check(of, offers) {
                        assert!((500..=555).contains(&complaint.code));
                    }
                }
                // the same address, said again
                let again = format!("MAIL FROM:<{address}>\r\n");
                let again = Command::parse(again.as_bytes());
                let same = matches!(again, Ok(Command::Mail { sender, .. }) if sender == address);
                assert!(same || address.eq_ignore_ascii_case("postmaster"), "{address:?}");
            }
            Ok(Command::Bdat(chunk)) => assert!(chunk.octets <= i64::MAX as u64),
            Ok(_) => {}
        }
    }
    // content in one piece, and an octet at a time
    let feed = |step: usize| {
        let (mut receiver, mut content, mut used) = (Receiver::default(), Vec::new(), 0);
        for piece in input.chunks(step.max(1)) {
            let fed = receiver.feed(piece, |octets| content.extend_from_slice(octets));
            used += fed.used;
            if fed.ended {
                break;
            }
        }
        (content, used)
    };
    assert_eq!(feed(input.len()), feed(1));
}

#[test]
fn command_lines() {
    COMMANDS.run();
}

#[test]
fn a_command_line_of_any_length_is_read_once() {
    is_not_quadratic("a path", |n| [&b"MAIL FROM:<"[..], &b"\"\\".repeat(n / 2), b"\r\n"].concat(), commands);
    is_not_quadratic("dots", |n| b"\r\n..\r".repeat(n / 5), commands);
    is_not_quadratic("lines", |n| b"RCPT TO:<a@b> A=1 B=2\r\n".repeat(n / 23), commands);
}

/// Whole sessions: the sink answers with replies and nothing else, ends, and keeps on serving others.
#[test]
fn sessions() {
    /// Of the inputs of the command lines, so many: each is a connection.
    const SESSIONS: usize = 300;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let sink = {
        let _inside = runtime.enter();
        Sink::start(SinkConfig::new(([127, 0, 0, 1], 0).into())).expect("a sink")
    };
    let address = sink.local_addr();
    let corpus = COMMANDS.corpus();
    let mut chance = fastrand::Rng::with_seed(7);
    for i in 0..SESSIONS {
        let input: Vec<u8> = match i {
            _ if i < corpus.len() => corpus[i].1.clone(),
            _ => (0..chance.usize(1..30)).flat_map(|_| WORDS[chance.usize(..WORDS.len())]).copied().collect(),
        };
        let mut stream = TcpStream::connect(address).expect("the sink listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        let mut replies = Vec::new();
        // it may close before all of it was written: after QUIT, say
        let written = stream.write_all(b"EHLO c\r\n").and_then(|()| stream.write_all(&input));
        let read = written.and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        match read.and_then(|()| stream.read_to_end(&mut replies)) {
            Ok(_) => {}
            Err(e) => {
                let hangs = matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!hangs, "no end to {:?}: {e}", String::from_utf8_lossy(&input));
                // closed before all was read: the replies may be cut
                continue;
            }
        }
        let mut rest = &replies[..];
        while !rest.is_empty() {
            match parse_reply(rest) {
                Ok(Some((_, octets))) => rest = &rest[octets..],
                other => panic!("{other:?} in {:?}", String::from_utf8_lossy(&replies)),
            }
        }
    }
    runtime.block_on(sink.shutdown()).expect("it ends");
}
