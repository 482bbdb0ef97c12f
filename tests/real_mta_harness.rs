//! The real MTAs that the other tests stand on: they start, take, refuse, defer and relay mail, and
//! leave nothing behind.

mod common;

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::ledger::parse_ledger;
use common::mta::{Postfix, Relay, Sendmail, processes_in_session, skip_or_require};
use common::receiver::{Received, Receiver};
use common::report::parse_report;
use common::wait::{wait_for, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// An SMTP dialogue in lock step.
struct Dialogue(BufReader<TcpStream>);

impl Dialogue {
    /// Connects, and reads the banner.
    fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        let mut dialogue = Dialogue(BufReader::new(stream));
        assert_eq!(dialogue.reply()?, 220);
        Ok(dialogue)
    }

    /// Sends a command, or content with its final dot, and returns the code of the reply.
    fn say(&mut self, text: &str) -> io::Result<u16> {
        self.0.get_mut().write_all(format!("{text}\r\n").as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<u16> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return line[..3].parse().map_err(|_| io::Error::other(line));
            }
        }
    }
}

/// Sends one message to a recipient that is taken, one that is refused and one that is deferred.
fn send_one(port: u16, subject: &str) -> io::Result<()> {
    let mut smtp = Dialogue::open(port)?;
    assert_eq!(smtp.say("EHLO client.example.test")?, 250);
    assert_eq!(smtp.say("MAIL FROM:<sender@example.org>")?, 250);
    assert_eq!(smtp.say("RCPT TO:<taken@example.net>")?, 250);
    assert_eq!(smtp.say("RCPT TO:<refuse-550-1@example.net>")?, 550);
    assert_eq!(smtp.say("RCPT TO:<defer-451+1@example.com>")?, 451);
    assert_eq!(smtp.say("DATA")?, 354);
    assert_eq!(smtp.say(&format!("Subject: {subject}\r\n\r\nbody of {subject}\r\n..dot\r\n."))?, 250);
    assert_eq!(smtp.say("QUIT")?, 221);
    Ok(())
}

fn first_received(receiver: &Receiver) -> Received {
    wait_for("message at the receiver", DEADLINE, || receiver.received().into_iter().next())
}

fn assert_relayed(received: &Received, subject: &str) {
    assert_eq!(received.sender, "sender@example.org");
    assert_eq!(received.recipients, ["taken@example.net"]);
    let content = String::from_utf8_lossy(&received.content);
    assert!(content.ends_with(&format!("\r\n\r\nbody of {subject}\r\n.dot\r\n")), "{content}");
}

#[test]
fn two_postfixes_side_by_side_relay_each_to_its_own_receiver() -> io::Result<()> {
    if !skip_or_require("postfix") {
        return Ok(());
    }
    let receivers = [Receiver::start(), Receiver::start()];
    let mtas = [0, 1].map(|i| Postfix::start(Relay::To(receivers[i].port()), &[]));
    for (i, mta) in mtas.iter().enumerate() {
        send_one(mta.port(), &format!("number {i}"))?;
        assert_relayed(&first_received(&receivers[i]), &format!("number {i}"));
        mta.wait_queue_empty(DEADLINE);
        assert_eq!(receivers[i].received().len(), 1);
    }
    Ok(())
}

#[test]
fn two_sendmails_side_by_side_relay_each_to_its_own_receiver() -> io::Result<()> {
    if !skip_or_require("sendmail") {
        return Ok(());
    }
    let receivers = [Receiver::start(), Receiver::start()];
    let mtas = [0, 1].map(|i| Sendmail::start(Relay::To(receivers[i].port()), &[]));
    for (i, mta) in mtas.iter().enumerate() {
        send_one(mta.port(), &format!("number {i}"))?;
        assert_relayed(&first_received(&receivers[i]), &format!("number {i}"));
        mta.wait_queue_empty(DEADLINE);
        assert_eq!(receivers[i].received().len(), 1);
    }
    Ok(())
}

#[test]
fn a_stopped_postfix_leaves_no_process_and_no_folder() -> io::Result<()> {
    if !skip_or_require("postfix") {
        return Ok(());
    }
    let mta = Postfix::start(Relay::Discard, &[]);
    send_one(mta.port(), "forgotten")?;
    mta.wait_queue_empty(DEADLINE);
    let (session, dir) = (mta.session(), mta.dir().to_owned());
    assert!(processes_in_session(session).len() > 1, "master and its services");
    drop(mta);
    assert_eq!(processes_in_session(session), [""; 0]);
    assert!(!dir.exists());
    Ok(())
}

#[test]
fn a_stopped_sendmail_leaves_no_process_and_no_folder() -> io::Result<()> {
    if !skip_or_require("sendmail") {
        return Ok(());
    }
    let mta = Sendmail::start(Relay::Discard, &[]);
    send_one(mta.port(), "forgotten")?;
    mta.wait_queue_empty(DEADLINE);
    let (session, dir) = (mta.session(), mta.dir().to_owned());
    assert!(!processes_in_session(session).is_empty(), "the daemon");
    drop(mta);
    assert_eq!(processes_in_session(session), [""; 0]);
    assert!(!dir.exists());
    Ok(())
}

#[test]
fn what_is_only_queued_outlives_a_restart() -> io::Result<()> {
    if !(skip_or_require("postfix") && skip_or_require("sendmail")) {
        return Ok(());
    }
    let mut postfix = Postfix::start(Relay::Queue, &[]);
    let mut sendmail = Sendmail::start(Relay::Queue, &[]);
    send_one(postfix.port(), "kept")?;
    send_one(sendmail.port(), "kept")?;
    wait_until("message in Postfix's queue", DEADLINE, || postfix.queued() == 1);
    assert_eq!(sendmail.queued(), 2, "an envelope and a body");
    postfix.stop();
    sendmail.stop();
    assert!(TcpStream::connect(("127.0.0.1", postfix.port())).is_err());
    assert!(TcpStream::connect(("127.0.0.1", sendmail.port())).is_err());
    postfix.start_again();
    sendmail.start_again();
    send_one(postfix.port(), "kept too")?;
    send_one(sendmail.port(), "kept too")?;
    wait_until("two messages in Postfix's queue", DEADLINE, || postfix.queued() == 2);
    assert_eq!(sendmail.queued(), 4);
    Ok(())
}

#[test]
fn ledger_and_report_are_read_as_they_are_written() {
    let ledger = parse_ledger(concat!(
        r#"{"time":"2026-11-22T03:14:00.123Z","connection":3,"sender":"","recipient":"a@example.org","#,
        r#""message_id":null,"content_sha1":"da39a3ee","body_sha1":"5e6b4b0d"}"#,
        "\n",
    ));
    assert_eq!((ledger[0].connection, ledger[0].recipient.as_str()), (3, "a@example.org"));
    assert_eq!(ledger[0].message_id, None);

    let report = parse_report(
        "address,outcome,reply_code,reply_text,queue_id,attempts,time,possible_repeat\n\
         a@example.org,accepted,250,\"2.0.0 Ok, queued\",4jXF,1,2026-11-22T03:14:00.123Z,true\n\
         b@example.org,pending,,,,0,,false\n",
    );
    assert_eq!(report[0].reply_text.as_deref(), Some("2.0.0 Ok, queued"));
    assert!(report[0].possible_repeat && !report[1].possible_repeat);
    assert_eq!((report[1].reply_code, &report[1].queue_id, report[1].attempts), (None, &None, 0));
}
