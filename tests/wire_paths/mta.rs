//! An MTA that keeps to the protocol, but for what a scenario has it do; and what it took, in truth.
//!
//! Messages tell themselves apart by their sender, `sN@x.example`; recipients by theirs, `T@dT.example`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use infeed::message::wire::unstuff;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub use super::acts::{ALWAYS, Act, At, Does, Pieces};

/// One scenario's MTA.
#[derive(Default)]
pub struct Mta {
    pub ehlo: String,
    pub tls: Option<TlsAcceptor>,
    pub acts: Mutex<Vec<Act>>,
    pub pieces: Pieces,
    /// As Exim: MAIL stays open when BDAT or DATA finds no recipients.
    pub keeps_mail: bool,
    /// One command a write is all it bears.
    pub lock_step: bool,
    /// What each message must be.
    pub contents: BTreeMap<u64, Bytes>,
    pub taken: Mutex<Taken>,
}

#[derive(Default)]
pub struct Taken {
    /// How often each recipient's message was taken.
    pub recipients: BTreeMap<u64, usize>,
    /// Sessions that go on.
    pub open: usize,
    /// Sessions that ended without QUIT.
    pub lost: usize,
    pub wrong: Vec<String>,
    /// Messages by how they came.
    pub by_data: usize,
    pub by_bdat: usize,
    /// MAILs that asked for XVERP.
    pub xverp: usize,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// The connection is over.
struct Over;

impl Mta {
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            self.taken.lock().unwrap().open += 1;
            let mta = self.clone();
            tokio::spawn(async move {
                let Some(stream) = mta.secured(stream).await else {
                    mta.taken.lock().unwrap().open -= 1;
                    return;
                };
                let session = Session {
                    mta: &mta,
                    stream,
                    inbox: Vec::new(),
                    at: 0,
                    mail: None,
                    rcpts: Vec::new(),
                    said_quit: false,
                };
                session.run().await;
            });
        }
    }

    async fn secured(&self, stream: TcpStream) -> Option<Box<dyn Duplex>> {
        match &self.tls {
            Some(tls) => Some(Box::new(tls.accept(stream).await.ok()?)),
            None => Some(Box::new(stream)),
        }
    }

    fn wrong(&self, what: String) {
        self.taken.lock().unwrap().wrong.push(what);
    }

    fn act(&self, at: At) -> Option<Does> {
        let mut acts = self.acts.lock().unwrap();
        let (_, does, times) = acts.iter_mut().find(|(a, _, times)| *a == at && *times > 0)?;
        *times -= 1;
        Some(*does)
    }
}

struct Session<'a> {
    mta: &'a Mta,
    stream: Box<dyn Duplex>,
    inbox: Vec<u8>,
    /// Where the unread part of `inbox` begins.
    at: usize,
    /// The number of the message whose MAIL is open.
    mail: Option<u64>,
    rcpts: Vec<u64>,
    said_quit: bool,
}

impl Session<'_> {
    async fn run(mut self) {
        // Its end is the scenario's doing, or the client's right.
        let Err(Over) = self.dialogue().await;
        let mut taken = self.mta.taken.lock().unwrap();
        taken.lost += usize::from(!self.said_quit);
        taken.open -= 1;
    }

    async fn dialogue(&mut self) -> Result<std::convert::Infallible, Over> {
        self.reply(At::Banner, "220 mx").await?;
        loop {
            let line = self.line().await?;
            let (verb, rest) = line.split_at_checked(4).unwrap_or((&line, ""));
            match verb {
                "EHLO" => drop(self.reply(At::Ehlo, &self.mta.ehlo).await?),
                "MAIL" => self.mail(rest).await?,
                "RCPT" => self.rcpt(rest).await?,
                "DATA" => self.data().await?,
                "BDAT" => self.bdat(rest).await?,
                "RSET" => {
                    self.reset();
                    self.reply(At::Rset, "250 2.0.0 Ok").await?;
                }
                "QUIT" => {
                    self.said_quit = true;
                    self.say("221 2.0.0 Bye").await?;
                    return Err(Over);
                }
                _ => {
                    self.mta.wrong(format!("the command {line:?}"));
                    self.say("500 5.5.2 what?").await?;
                }
            }
        }
    }

    fn reset(&mut self) {
        self.mail = None;
        self.rcpts.clear();
    }

    /// The reply of this place: the code that was said.
    async fn reply(&mut self, at: At, right: &str) -> Result<u16, Over> {
        if self.mta.lock_step && self.inbox.len() > self.at {
            self.mta.wrong(format!("{at:?}: more than one command came"));
        }
        match self.mta.act(at) {
            None => self.say(right).await,
            Some(Does::Say(text)) => self.say(text).await,
            Some(does) => Err(self.end(does).await),
        }
    }

    async fn end(&mut self, does: Does) -> Over {
        match does {
            Does::Leave(text) => {
                if self.say(text).await.is_err() {
                    return Over;
                }
            }
            Does::Turn(text) => {
                if self.say(text).await.is_ok() {
                    self.linger().await;
                }
            }
            Does::Hang => self.linger().await,
            Does::Close | Does::TakeAndClose | Does::Say(_) => (),
        }
        Over
    }

    /// Until the client closes, or would have.
    async fn linger(&mut self) {
        while self.read().await.is_ok() {
            self.inbox.clear();
            self.at = 0;
        }
    }

    async fn mail(&mut self, rest: &str) -> Result<(), Over> {
        let number = number(rest, "FROM:<s");
        if rest.contains(" XVERP=+=") {
            self.mta.taken.lock().unwrap().xverp += 1;
        }
        let right = if self.mail.is_some() { "503 5.5.1 nested MAIL command" } else { "250 2.1.0 Ok" };
        let code = self.reply(At::Mail(number), right).await?;
        if code < 300 {
            self.mail = Some(number);
        }
        Ok(())
    }

    async fn rcpt(&mut self, rest: &str) -> Result<(), Over> {
        let token = number(rest, "TO:<");
        if self.mail.is_none() {
            return self.say("503 5.5.1 need MAIL command").await.map(drop);
        }
        if self.reply(At::Rcpt(token), "250 2.1.5 Ok").await? < 300 {
            self.rcpts.push(token);
        }
        Ok(())
    }

    async fn data(&mut self) -> Result<(), Over> {
        let Some(number) = self.mail else { return self.say("503 5.5.1 need MAIL command").await.map(drop) };
        if self.inbox.len() > self.at {
            self.mta.wrong(format!("message {number}: content before its 354"));
        }
        let right = if self.rcpts.is_empty() { "554 5.5.1 no valid recipients" } else { "354 go" };
        if self.reply(At::Data(number), right).await? != 354 {
            return Ok(());
        }
        let content = self.content(number).await?;
        if self.rcpts.is_empty() && !content.is_empty() {
            self.mta.wrong(format!("message {number}: content to nobody"));
        }
        self.mta.taken.lock().unwrap().by_data += 1;
        self.ended(number, &unstuff(&content)).await
    }

    /// Content up to its lone dot, still stuffed.
    async fn content(&mut self, number: u64) -> Result<Vec<u8>, Over> {
        // From `at` on.
        let mut searched = 0;
        loop {
            if self.inbox[self.at..].starts_with(b".\r\n") {
                self.at += 3;
                return Ok(Vec::new());
            }
            let left = &self.inbox[self.at..];
            if let Some(end) = memmem::find(&left[searched..], b"\r\n.\r\n") {
                let content = left[..searched + end + 2].to_vec();
                self.at += searched + end + 5;
                return Ok(content);
            }
            searched = left.len().saturating_sub(4);
            self.midst(number).await?;
            self.read().await?;
        }
    }

    async fn midst(&mut self, number: u64) -> Result<(), Over> {
        if self.inbox.len() - self.at < 100 {
            return Ok(());
        }
        match self.mta.act(At::Midst(number)) {
            None => Ok(()),
            Some(Does::Say(text)) => self.say(text).await.map(drop),
            Some(does) => Err(self.end(does).await),
        }
    }

    async fn bdat(&mut self, rest: &str) -> Result<(), Over> {
        let octets = rest.trim().strip_suffix(" LAST").and_then(|n| n.parse::<usize>().ok());
        let Some(octets) = octets else {
            self.mta.wrong(format!("BDAT{rest}"));
            return Err(Over);
        };
        while self.inbox.len() - self.at < octets {
            if let Some(number) = self.mail {
                self.midst(number).await?;
            }
            self.read().await?;
        }
        let content = self.inbox[self.at..self.at + octets].to_vec();
        self.at += octets;
        let Some(number) = self.mail else { return self.say("503 5.5.1 need RCPT command").await.map(drop) };
        if self.mta.act(At::AnyBdat).is_some() {
            self.reset();
            return self.say("502 5.5.1 BDAT is not known here").await.map(drop);
        }
        self.mta.taken.lock().unwrap().by_bdat += 1;
        self.ended(number, &content).await
    }

    async fn ended(&mut self, number: u64, content: &[u8]) -> Result<(), Over> {
        if !content.is_empty() && content != self.mta.contents[&number] {
            self.mta.wrong(format!(
                "message {number} came as {:?}",
                String::from_utf8_lossy(&content[..content.len().min(200)])
            ));
        }
        let right = match self.rcpts.is_empty() {
            true => "554 5.5.1 no valid recipients".to_owned(),
            false => format!("250 2.0.0 Ok: queued as Q{number}"),
        };
        let rcpts = self.rcpts.clone();
        if !(self.keeps_mail() && rcpts.is_empty()) {
            self.reset();
        }
        // Counted before it is said: the client may be gone at once.
        let takes = match self.mta.peek(At::End(number)) {
            None => true,
            Some(Does::Say(text) | Does::Leave(text)) => text.starts_with("25"),
            Some(Does::TakeAndClose) => true,
            Some(_) => false,
        };
        if takes {
            let mut taken = self.mta.taken.lock().unwrap();
            for token in rcpts {
                *taken.recipients.entry(token).or_default() += 1;
            }
        }
        self.reply(At::End(number), &right).await.map(drop)
    }

    fn keeps_mail(&self) -> bool {
        self.mta.keeps_mail
    }

    async fn say(&mut self, text: &str) -> Result<u16, Over> {
        let octets = format!("{}\r\n", text.replace('|', "\r\n"));
        let octets = octets.as_bytes();
        let pieces: Vec<&[u8]> = match self.mta.pieces {
            Pieces::Octets => octets.chunks(1).collect(),
            Pieces::Cut(at) if at < octets.len() => vec![&octets[..at], &octets[at..]],
            Pieces::Whole | Pieces::Cut(_) => vec![octets],
        };
        for (i, piece) in pieces.iter().enumerate() {
            // The client reads what came before.
            if i > 0 {
                tokio::task::yield_now().await;
            }
            self.stream.write_all(piece).await.map_err(|_| Over)?;
            self.stream.flush().await.map_err(|_| Over)?;
        }
        Ok(text.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0))
    }

    async fn read(&mut self) -> Result<(), Over> {
        if self.at > 0 && self.at == self.inbox.len() {
            self.inbox.clear();
            self.at = 0;
        }
        self.inbox.reserve(64 * 1024);
        match self.stream.read_buf(&mut self.inbox).await {
            Ok(1..) => Ok(()),
            _ => Err(Over),
        }
    }

    async fn line(&mut self) -> Result<String, Over> {
        loop {
            let left = &self.inbox[self.at..];
            if let Some(end) = memmem::find(left, b"\r\n") {
                let line = String::from_utf8_lossy(&left[..end]).into_owned();
                self.at += end + 2;
                return Ok(line);
            }
            self.read().await?;
        }
    }
}

impl Mta {
    fn peek(&self, at: At) -> Option<Does> {
        let acts = self.acts.lock().unwrap();
        acts.iter().find(|(a, _, times)| *a == at && *times > 0).map(|(_, does, _)| *does)
    }
}

/// The digits that follow `lead` in the arguments of a command.
fn number(arguments: &str, lead: &str) -> u64 {
    let digits = arguments.split_once(lead).map_or("", |(_, rest)| rest);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_else(|_| panic!("no number in {arguments:?}"))
}
