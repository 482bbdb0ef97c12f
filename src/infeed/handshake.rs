//! From an address to a session that may send: connect, greeting, EHLO, and TLS and AUTH as the settings
//! ask.
//!
//! Greeting and EHLO are spoken by async-smtp 0.10, which keeps the EHLO reply to itself, knows no
//! timeouts and no bound on a reply, and writes to its log what it says (nothing collects that log here).
//! So it speaks through [`Ear`], which bounds, times and records what passes; the record is read with our
//! own parser, for the keywords and for the verdict. Then the bare stream is taken over: STARTTLS and AUTH
//! are ours, for what async-smtp makes of them (see `auth`).
//!
//! Guarantees: with `tls` set, nothing but EHLO, STARTTLS and QUIT goes out in clear text, and nothing
//! that was said in clear text counts once TLS stands: EHLO is said again, and only its second reply is
//! believed. Errors: any of [`InfeedError`] up to `Auth`; no recipient is touched by any of them.

use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_smtp::extension::ClientId;
use async_smtp::{SmtpClient, SmtpTransport};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::auth::{self, Mechanisms};
use super::config::InfeedConfig;
use super::error::InfeedError;
use super::observed::Opened;
use super::reply::{self, REPLY_OCTETS_MAX, Reply};
use super::stream::{Socket, Stream};
use super::tls::TlsClient;
use super::transaction::{Capabilities, Said, Stage};
use super::wire::Wire;
use crate::config::TlsMode;

/// What opening sessions needs beside the settings; one for a pool.
#[derive(Default)]
pub struct Opener {
    tls: TlsClient,
    /// The password's file was warned of.
    warned: AtomicBool,
}

/// What greeting and EHLO told.
struct Offered {
    banner: String,
    /// How long the greeting took; nothing where none was due.
    greeting: Duration,
    keywords: Vec<String>,
    capabilities: Capabilities,
    starttls: bool,
    mechanisms: Mechanisms,
}

impl Opener {
    /// Opens a session. Gives the wire, with nothing unread, what the MTA offers, and how it went.
    pub async fn open(&self, config: &InfeedConfig) -> Result<(Wire, Capabilities, Opened), InfeedError> {
        // Files are read before the connect: one that can't be is no reason to trouble the MTA.
        let login = match &config.auth {
            Some(auth) => Some((&auth.user, auth::password(auth, config, &self.warned).await?)),
            None => None,
        };
        let mut tls = self.tls.prepare(config).await?;
        let begun = Instant::now();
        let socket = connect(config).await?;
        let mut opened = Opened { connect: begun.elapsed(), ..Opened::default() };
        auth::may_be_said(config, socket.is_local())?;
        let stream = match tls.take_if(|_| config.tls.mode == TlsMode::Implicit) {
            Some(tls) => self.tls.secure(tls, socket, config).await?,
            None => Stream::Clear(socket),
        };
        let (stream, mut offered) = greet(stream, config, true).await?;
        opened.greeting = offered.greeting;
        opened.banner = std::mem::take(&mut offered.banner);
        let mut wire = Wire::new(stream, config.timeouts);
        if let Some(tls) = tls {
            if !offered.starttls {
                wire.quit().await;
                return Err(InfeedError::StartTlsNotOffered { address: config.address.clone() });
            }
            let socket = start_tls(wire).await?;
            let stream = self.tls.secure(tls, socket, config).await?;
            let (stream, offered_now) = greet(stream, config, false).await?;
            (wire, offered) = (Wire::new(stream, config.timeouts), offered_now);
        }
        if let Some((user, password)) = login {
            let done = auth::authenticate(&mut wire, config, user, &password, &offered.mechanisms).await;
            if let Err(error) = done {
                if matches!(error, InfeedError::NoMechanism { .. } | InfeedError::Said { .. }) {
                    wire.quit().await;
                }
                return Err(error);
            }
        }
        opened.session = begun.elapsed();
        opened.keywords = offered.keywords;
        Ok((wire, offered.capabilities, opened))
    }
}

async fn connect(config: &InfeedConfig) -> Result<Socket, InfeedError> {
    let failed = |source| InfeedError::Connect { address: config.address.clone(), source };
    let timeout_ms = config.timeouts.connect_ms;
    let connecting = async {
        match config.address.strip_prefix("unix:") {
            Some(path) => UnixStream::connect(path).await.map(Socket::Unix),
            None => {
                let stream = TcpStream::connect(config.address.as_str()).await?;
                refuse_itself(&stream)?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
        }
    };
    timeout(Duration::from_millis(timeout_ms), connecting)
        .await
        .map_err(|_| {
            failed(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {timeout_ms} ms")))
        })?
        .map_err(failed)
}

/// A connection to a local port that nobody listens on can get that very port as its own and reach itself
/// (TCP's simultaneous open). It would wait for its own banner, and keep the MTA from its port meanwhile.
fn refuse_itself(stream: &TcpStream) -> io::Result<()> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens (it reached itself)"));
    }
    Ok(())
}

/// STARTTLS (RFC 3207): the socket, at the place where TLS begins.
async fn start_tls(mut wire: Wire) -> Result<Socket, InfeedError> {
    let stage = Stage::StartTls;
    let said = wire.ask(stage, b"STARTTLS\r\n").await?;
    match said.code {
        220 => (),
        400.. => {
            wire.quit().await;
            return Err(InfeedError::Said { stage, said });
        }
        _ => {
            let Said { code, text } = said;
            return Err(InfeedError::Unexpected { stage, code, text });
        }
    }
    match wire.into_stream(stage)? {
        Stream::Clear(socket) => Ok(socket),
        Stream::Tls(_) => unreachable!("STARTTLS is said in clear text"),
    }
}

/// Waits for the greeting, where one is `due`, and says EHLO.
async fn greet(stream: Stream, config: &InfeedConfig, due: bool) -> Result<(Stream, Offered), InfeedError> {
    let ear = Ear::new(stream, config);
    let client = SmtpClient::new().hello_name(ClientId::new(config.helo_name.clone()));
    let client = if due { client } else { client.without_greeting() };
    // The transport swallows the ear when it fails, hence the record that outlives it.
    let record = ear.record.clone();
    let begun = Instant::now();
    let spoken = SmtpTransport::new(client, ear).await;
    let heard = record.take();
    let stage = if heard.ehlo_at.is_some() || !due { Stage::Ehlo } else { Stage::Banner };
    let octets = &heard.octets[heard.ehlo_at.unwrap_or(0)..];
    let reply = reply::parse(octets).map_err(|source| InfeedError::BadReply { stage, source })?;
    match (spoken, reply) {
        (_, Some((reply, _))) if reply.code >= 300 => Err(InfeedError::Said { stage, said: reply.said() }),
        (Ok(transport), Some((reply, len))) if stage == Stage::Ehlo => {
            let ear = transport.into_inner().into_inner();
            if octets.len() > len {
                let text = String::from_utf8_lossy(&octets[len..]).chars().take(64).collect();
                return Err(InfeedError::Unsolicited { stage, text });
            }
            let mut offered = offered(&reply);
            if let Some((at, since)) = heard.ehlo_at.zip(heard.ehlo_since)
                && let Ok(Some((greeting, _))) = reply::parse(&heard.octets[..at])
            {
                offered.banner = greeting.said().text;
                offered.greeting = since.saturating_duration_since(begun);
            }
            Ok((ear.stream, offered))
        }
        (spoken, _) => Err(match heard.failure {
            Some(Failure::Timeout(timeout_ms)) => InfeedError::Timeout { stage, timeout_ms },
            Some(Failure::TooLong) => InfeedError::BadReply { stage, source: reply::BadReply::TooLong },
            Some(Failure::Closed) => InfeedError::Closed { stage },
            Some(Failure::Io(source)) => InfeedError::Io { stage, source },
            // A reply that we can read and async-smtp can't.
            None => {
                let text = spoken.err().map_or_else(String::new, |e| e.to_string());
                InfeedError::Unexpected { stage, code: reply.map_or(0, |(r, _)| r.code), text }
            }
        }),
    }
}

/// The keywords of an EHLO reply (RFC 5321 §4.1.1.1), case-insensitive, unknown ones passed over.
fn offered(reply: &Reply<'_>) -> Offered {
    let (mut starttls, mut mechanisms, mut keywords) = (false, Vec::new(), Vec::new());
    let mut capabilities = Capabilities { recipients_max: usize::MAX, ..Capabilities::default() };
    for line in reply.lines().skip(1) {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        // `AUTH=PLAIN LOGIN`, as servers of the last century wrote it
        if let Some(first) = keyword.strip_prefix("AUTH=") {
            mechanisms.extend([first].into_iter().chain(words).map(str::to_owned));
            continue;
        }
        match keyword.as_str() {
            "PIPELINING" => capabilities.pipelining = true,
            "8BITMIME" => capabilities.eight_bit_mime = true,
            "SMTPUTF8" => capabilities.smtputf8 = true,
            "DSN" => capabilities.dsn = true,
            "ENHANCEDSTATUSCODES" => capabilities.enhanced_status_codes = true,
            "CHUNKING" => capabilities.chunking = true,
            "XVERP" => capabilities.xverp = true,
            "SIZE" => capabilities.size = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
            "STARTTLS" => starttls = true,
            "AUTH" => mechanisms.extend(words.map(str::to_owned)),
            _ => (),
        }
        keywords.push(keyword);
    }
    let mechanisms = Mechanisms(mechanisms);
    Offered { banner: String::new(), greeting: Duration::ZERO, keywords, capabilities, starttls, mechanisms }
}

/// What passed, shared with whoever outlives the transport.
#[derive(Clone, Default)]
struct Record(std::sync::Arc<std::sync::Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    octets: Vec<u8>,
    /// How much had been heard when EHLO was said.
    ehlo_at: Option<usize>,
    ehlo_since: Option<Instant>,
    failure: Option<Failure>,
}

enum Failure {
    Timeout(u64),
    TooLong,
    Closed,
    Io(io::Error),
}

impl Record {
    fn with<T>(&self, f: impl FnOnce(&mut Heard) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn take(&self) -> Heard {
        self.with(std::mem::take)
    }
}

/// A stream that bounds, times and records what is read from it. The phase turns from greeting to EHLO
/// with the first write. Octets above 127 are shown to async-smtp as `?`: it would take a Latin-1
/// greeting for an I/O error.
struct Ear {
    stream: Stream,
    record: Record,
    buffer: Vec<u8>,
    taken: usize,
    deadline: Pin<Box<Sleep>>,
    timeout_ms: u64,
    ehlo_ms: u64,
}

impl Ear {
    fn new(stream: Stream, config: &InfeedConfig) -> Self {
        let timeout_ms = config.timeouts.banner_ms;
        Self {
            stream,
            record: Record::default(),
            buffer: Vec::with_capacity(1024),
            taken: 0,
            deadline: Box::pin(sleep_until(Instant::now() + Duration::from_millis(timeout_ms))),
            timeout_ms,
            ehlo_ms: config.timeouts.ehlo_ms,
        }
    }

    fn fail(&self, failure: Failure, kind: io::ErrorKind) -> Poll<io::Result<&[u8]>> {
        self.record.with(|heard| heard.failure = Some(failure));
        Poll::Ready(Err(kind.into()))
    }
}

impl AsyncBufRead for Ear {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.taken < this.buffer.len() {
            return Poll::Ready(Ok(&this.buffer[this.taken..]));
        }
        if this.deadline.as_mut().poll(cx).is_ready() {
            return this.fail(Failure::Timeout(this.timeout_ms), io::ErrorKind::TimedOut);
        }
        if this.record.with(|heard| heard.octets.len() - heard.ehlo_at.unwrap_or(0)) > REPLY_OCTETS_MAX {
            return this.fail(Failure::TooLong, io::ErrorKind::InvalidData);
        }
        this.buffer.resize(1024, 0);
        this.taken = 0;
        let mut space = ReadBuf::new(&mut this.buffer);
        let read = match Pin::new(&mut this.stream).poll_read(cx, &mut space) {
            Poll::Ready(read) => read.map(|()| space.filled().len()),
            Poll::Pending => {
                this.buffer.clear();
                return Poll::Pending;
            }
        };
        match read {
            Ok(0) => {
                this.buffer.clear();
                this.fail(Failure::Closed, io::ErrorKind::UnexpectedEof)
            }
            Ok(n) => {
                this.buffer.truncate(n);
                this.record.with(|heard| heard.octets.extend_from_slice(&this.buffer));
                for b in this.buffer.iter_mut().filter(|b| !b.is_ascii()) {
                    *b = b'?';
                }
                Poll::Ready(Ok(&this.buffer))
            }
            Err(error) => {
                this.buffer.clear();
                let kind = error.kind();
                this.fail(Failure::Io(error), kind)
            }
        }
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let this = self.get_mut();
        this.taken = (this.taken + amount).min(this.buffer.len());
    }
}

impl AsyncRead for Ear {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let available = ready!(self.as_mut().poll_fill_buf(cx))?;
        let n = available.len().min(out.remaining());
        out.put_slice(&available[..n]);
        self.consume(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ear {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = this.record.with(|heard| {
            let first = heard.ehlo_at.is_none();
            if first {
                heard.ehlo_at = Some(heard.octets.len());
                heard.ehlo_since = Some(Instant::now());
            }
            first
        });
        if first {
            this.timeout_ms = this.ehlo_ms;
            this.deadline.as_mut().reset(Instant::now() + Duration::from_millis(this.ehlo_ms));
        }
        Pin::new(&mut this.stream).poll_write(cx, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_reached_itself_is_refused() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let itself = socket.local_addr().unwrap();
        let stream = socket.connect(itself).await.unwrap();
        assert_eq!(refuse_itself(&stream).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        refuse_itself(&stream).unwrap();
    }
}
