use super::*;
use infeed::sink::{Extension, Settings, Sink, SinkConfig, Snapshot};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

fn asked(address: SocketAddr, words: &str) -> Asked {
    let words = ["blaster"].into_iter().chain(words.split_whitespace());
    Asked::parse_from(words.map(str::to_owned).chain([address.to_string()]))
}

/// What came of a run into the sink, what the blaster counted, and what the sink did.
fn into_sink(settings: Settings, words: &str) -> (Result<(), Failure>, Tally, Snapshot) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = SinkConfig { settings, ..SinkConfig::new("127.0.0.1:0".parse().unwrap()) };
    let sink = runtime.block_on(async { Sink::start(config) }).unwrap();
    let mut tally = Tally::default();
    let came = blast(&asked(sink.local_addr(), words), &mut tally);
    (came, tally, runtime.block_on(sink.shutdown()).unwrap())
}

#[test]
fn what_it_counts_is_what_the_sink_took() {
    for words in ["-m 1", "-s 3 -m 100", "-s 7 -m 5 -r 3", "-m 20 -r 50 -l 100000", "-m 0 -s 2"] {
        let (came, tally, sink) = into_sink(Settings::default(), words);
        came.unwrap();
        assert_eq!(tally.messages, sink.messages, "{words}");
        assert_eq!(sink.messages, asked("127.0.0.1:1".parse().unwrap(), words).messages);
        let each = u64::from(asked("127.0.0.1:1".parse().unwrap(), words).recipients);
        assert_eq!(sink.recipients_accepted, tally.messages * each, "{words}");
    }
}

#[test]
fn a_message_that_was_refused_does_not_count_and_fails_the_run() {
    for rule in ["mail=451", "rcpt=550", "data=554", "content=452", "banner=554", "ehlo=421"] {
        let settings = Settings { fail: Some(vec![rule.parse().unwrap()]), ..Settings::default() };
        let (came, tally, _) = into_sink(settings, "-s 2 -m 10");
        assert!(matches!(came, Err(Failure::Reply { .. })), "{rule}: {came:?}");
        assert_eq!(tally.messages, 0, "{rule}");
    }
}

#[test]
fn a_message_without_a_reply_does_not_count() {
    let settings = Settings { drop_after_dot_percent: Some("100".parse().unwrap()), ..Settings::default() };
    let (came, tally, _) = into_sink(settings, "-m 10");
    assert!(matches!(came, Err(Failure::Closed { .. } | Failure::Io { .. })), "{came:?}");
    assert_eq!(tally.messages, 0);
}

#[test]
fn a_sink_without_pipelining_is_not_measured() {
    let settings = Settings { without: Some(vec![Extension::Pipelining]), ..Settings::default() };
    let (came, ..) = into_sink(settings, "-m 1");
    assert!(matches!(came, Err(Failure::NotOffered("PIPELINING"))), "{came:?}");
}

#[test]
fn it_speaks_to_loopback_alone() {
    let came = blast(&asked("192.0.2.1:25".parse().unwrap(), "-m 1"), &mut Tally::default());
    assert!(matches!(came, Err(Failure::NotLoopback(_))), "{came:?}");
}

/// A server of one session that takes BDAT, and the messages that it took, each of `octets`.
fn bdat_server(listener: TcpListener) -> (u64, usize) {
    let mut lines = BufReader::new(listener.accept().unwrap().0);
    let (mut messages, mut octets) = (0, 0);
    let mut said = String::from("220 ready\r\n");
    loop {
        lines.get_mut().write_all(said.as_bytes()).unwrap();
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        said = match line.split(' ').next().unwrap().trim_end() {
            "EHLO" => "250-here\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
            "BDAT" => {
                let size: u64 = line.split(' ').nth(1).unwrap().parse().unwrap();
                octets = lines.by_ref().take(size).read_to_end(&mut Vec::new()).unwrap();
                messages += 1;
                "250 taken\r\n"
            }
            "QUIT" => {
                lines.get_mut().write_all(b"221 bye\r\n").unwrap();
                return (messages, octets);
            }
            _ => "250 ok\r\n",
        }
        .to_owned();
    }
}

#[test]
fn bdat_sends_each_message_whole_at_any_depth() {
    for (words, messages) in [("-m 10 --bdat", 10), ("-m 10 -r 3 --bdat --depth 4", 10)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || bdat_server(listener));
        let mut tally = Tally::default();
        blast(&asked(address, &format!("{words} -l 5000")), &mut tally).unwrap();
        let (taken, octets) = server.join().unwrap();
        assert_eq!((tally.messages, taken), (messages, messages), "{words}");
        assert!((5000..5400).contains(&octets), "{octets}");
    }
}
