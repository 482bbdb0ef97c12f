//! A scripted MTA: each connection plays its list of steps, in order of accept.
//!
//! | step | does |
//! | --- | --- |
//! | `S: text` | sends the text and CRLF (`\|` separates lines) |
//! | `s: text` | the same, an octet at a time |
//! | `C: prefix` | reads one line, which must begin so |
//! | `.` | reads content up to its lone dot |
//! | `bdat` | reads `BDAT n LAST` and its n octets |
//! | `alone` | what was read so far was all that came: one command a write |
//! | `eof` | the client closes |
//! | `close` | closes |
//! | `tls` | shakes hands, and goes on under TLS |
//! | `tls refused` | shakes hands, and the client goes |
//! | `hang` | answers no more, until the client closes |
//! | `good` | from here on a faultless MTA with PIPELINING (after EHLO) |

use std::io;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Two messages, the second's envelope in one group with the first's content.
pub const TWO_GROUPED: &[&str] = &[
    "C: MAIL",
    "C: RCPT",
    "C: DATA",
    "alone",
    "S: 250 ok|250 ok|354 go",
    ".",
    "C: MAIL",
    "C: RCPT",
    "C: DATA",
    "S: 250 ok|250 ok|250 ok|354 go",
    ".",
    "S: 250 ok",
];

pub const HELLO: &[&str] = &["S: 220 mx", "C: EHLO", "S: 250-mx|250-PIPELINING|250-8BITMIME|250 SIZE 100000"];
pub const HELLO_LOCK_STEP: &[&str] = &["S: 220 mx", "C: EHLO me.example", "alone", "S: 250-mx|250 8BITMIME"];

pub struct Server {
    pub address: String,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(scripts: &[&[&[&'static str]]]) -> Server {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), scripts)
    }

    pub fn on(listener: TcpListener, scripts: &[&[&[&'static str]]]) -> Server {
        let address = listener.local_addr().unwrap().to_string();
        Self::play(Listener::Tcp(listener), address, None, scripts)
    }

    /// With `tls` for the steps of that name.
    pub async fn tls(tls: TlsAcceptor, scripts: &[&[&[&'static str]]]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::play(Listener::Tcp(listener), address, Some(tls), scripts)
    }

    pub fn unix(path: &Path, tls: Option<TlsAcceptor>, scripts: &[&[&[&'static str]]]) -> Server {
        let listener = Listener::Unix(UnixListener::bind(path).unwrap());
        Self::play(listener, format!("unix:{}", path.display()), tls, scripts)
    }

    fn play(
        listener: Listener,
        address: String,
        tls: Option<TlsAcceptor>,
        scripts: &[&[&[&'static str]]],
    ) -> Server {
        let scripts: Vec<Vec<&'static str>> = scripts.iter().map(|s| s.concat()).collect();
        let task = tokio::spawn(async move {
            for (at, script) in scripts.iter().enumerate() {
                let stream = listener.accept().await.unwrap();
                let mut connection = Connection { stream, inbox: Vec::new(), at };
                for step in script {
                    connection = match (*step, &tls) {
                        ("tls", Some(tls)) => connection.secure(tls).await,
                        ("tls refused", Some(tls)) => {
                            connection.refused(tls).await;
                            break;
                        }
                        _ => {
                            connection.step(step).await;
                            connection
                        }
                    }
                }
            }
        });
        Server { address, task }
    }

    /// Every script was played to its end.
    pub async fn played(self) {
        self.task.await.unwrap();
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(match self {
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

struct Connection {
    stream: Box<dyn Duplex>,
    inbox: Vec<u8>,
    at: usize,
}

impl Connection {
    async fn secure(self, tls: &TlsAcceptor) -> Self {
        assert!(self.inbox.is_empty(), "connection {}: clear text where TLS begins", self.at);
        let stream = tls.accept(self.stream).await.unwrap_or_else(|e| panic!("connection {}: {e}", self.at));
        Self { stream: Box::new(stream), ..self }
    }

    /// Under TLS 1.3 the client may refuse after the server is content: then by its alert, or its end.
    async fn refused(self, tls: &TlsAcceptor) {
        if let Ok(mut stream) = tls.accept(self.stream).await {
            let read = stream.read(&mut [0; 64]).await;
            assert!(!matches!(read, Ok(1..)), "connection {}: it went on", self.at);
        }
    }

    async fn step(&mut self, step: &str) {
        let at = self.at;
        match step.split_once(": ") {
            Some(("S", text)) => self.send(text).await,
            Some(("s", text)) => {
                for octet in format!("{}\r\n", text.replace('|', "\r\n")).as_bytes() {
                    self.stream.write_all(&[*octet]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
            Some(("C", prefix)) => {
                let line = self.line().await;
                let line = line.unwrap_or_else(|| panic!("connection {at}: end instead of {prefix:?}"));
                assert!(line.starts_with(prefix), "connection {at}: {line:?} instead of {prefix:?}");
            }
            _ => match step {
                "." => while self.line().await.unwrap_or_else(|| panic!("connection {at}: end")) != "." {},
                "bdat" => {
                    let line = self.line().await.unwrap_or_default();
                    let content = self.chunk(&line).await;
                    assert!(content.is_some_and(|c| c.ends_with(b"\r\n")), "connection {at}: {line:?}");
                }
                "alone" => assert_eq!(String::from_utf8_lossy(&self.inbox), "", "connection {at}"),
                "eof" => assert_eq!(self.line().await, None, "connection {at}"),
                "close" => self.stream.shutdown().await.unwrap_or_default(),
                "hang" => while self.read().await > 0 {},
                "good" => self.good().await,
                _ => panic!("no such step: {step:?}"),
            },
        }
    }

    async fn send(&mut self, text: &str) {
        let octets = format!("{}\r\n", text.replace('|', "\r\n"));
        self.stream.write_all(octets.as_bytes()).await.unwrap();
    }

    async fn read(&mut self) -> usize {
        self.stream.read_buf(&mut self.inbox).await.unwrap_or(0)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.inbox.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.inbox[..end]).into_owned();
                self.inbox.drain(..end + 2);
                return Some(line);
            }
            if self.read().await == 0 {
                return None;
            }
        }
    }

    /// What follows `BDAT n LAST`; `None`: it is another line, or the client is gone.
    async fn chunk(&mut self, line: &str) -> Option<Vec<u8>> {
        let octets: usize = line.strip_prefix("BDAT ")?.strip_suffix(" LAST")?.parse().ok()?;
        while self.inbox.len() < octets {
            if self.read().await == 0 {
                return None;
            }
        }
        Some(self.inbox.drain(..octets).collect())
    }

    async fn good(&mut self) {
        let mut messages = 0;
        while let Some(line) = self.line().await {
            let verb = line.get(..4).unwrap_or_default();
            match verb {
                "DATA" => {
                    self.send("354 go").await;
                    while self.line().await.unwrap_or_else(|| ".".into()) != "." {}
                    messages += 1;
                    self.send(&format!("250 2.0.0 Ok: queued as GOOD{messages:06}")).await;
                }
                "BDAT" => {
                    if self.chunk(&line).await.is_none() {
                        return;
                    }
                    messages += 1;
                    self.send(&format!("250 2.0.0 Ok: queued as GOOD{messages:06}")).await;
                }
                "QUIT" => {
                    self.send("221 bye").await;
                    return;
                }
                _ => self.send("250 2.1.0 Ok").await,
            }
        }
    }
}
