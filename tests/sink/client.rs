//! A plain SMTP client, and a sink with a ledger and a store in a folder of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use infeed::sink::{Settings, Sink, SinkConfig, SinkHandle};
use serde_json::Value;
use sha1::{Digest, Sha1};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any wait in these tests: a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects; the banner is not read yet.
    pub async fn connect(addr: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(addr).await.unwrap(), buffer: Vec::new() }
    }

    /// Connects, reads the banner and says EHLO.
    pub async fn ehlo(addr: SocketAddr) -> Self {
        let mut client = Self::connect(addr).await;
        assert_eq!(client.reply().await, "220 sink.infeed.test ESMTP infeed sink");
        client.send("EHLO client.example\r\n").await;
        assert!(client.reply().await.starts_with("250-sink.infeed.test\n"));
        client
    }

    pub async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).await.unwrap();
    }

    /// Sends a line and gives the reply.
    pub async fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        self.reply().await
    }

    /// Sends a line and gives the reply's code.
    pub async fn code(&mut self, line: &str) -> u16 {
        self.ask(line).await[..3].parse().unwrap()
    }

    /// The next reply, its lines joined by LF.
    pub async fn reply(&mut self) -> String {
        match self.reply_or_end().await {
            Some(reply) => reply,
            None => panic!("closed; left over: {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// The codes of the next replies.
    pub async fn codes(&mut self, count: usize) -> Vec<u16> {
        let mut codes = Vec::new();
        for _ in 0..count {
            codes.push(self.reply().await[..3].parse().unwrap());
        }
        codes
    }

    /// Asserts that the sink closes, with nothing more to say.
    pub async fn assert_closed(&mut self) {
        let reply = self.reply_or_end().await;
        assert_eq!(reply, None);
        assert!(self.buffer.is_empty());
    }

    async fn reply_or_end(&mut self) -> Option<String> {
        let mut lines: Vec<String> = Vec::new();
        loop {
            while let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap();
                let last = line.as_bytes()[3] == b' ';
                lines.push(line.trim_end().to_owned());
                if last {
                    return Some(lines.join("\n"));
                }
            }
            let mut part = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut part)).await;
            match read.expect("no reply for a long time") {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.buffer.extend_from_slice(&part[..n]),
            }
        }
    }

    /// MAIL, RCPT and DATA, one at a time, each accepted.
    pub async fn open(&mut self, recipient: &str) {
        assert_eq!(self.code("MAIL FROM:<a@example.org>").await, 250);
        assert_eq!(self.code(&format!("RCPT TO:<{recipient}>")).await, 250);
        assert_eq!(self.code("DATA").await, 354);
    }

    /// A whole transaction with a small message; the final reply.
    pub async fn deliver(&mut self, recipient: &str) -> String {
        self.open(recipient).await;
        self.ask("Message-ID: <1@example.org>\r\n\r\nbody\r\n.").await
    }
}

/// A sink whose ledger and store are in a temporary folder.
pub struct Rig {
    pub folder: TempDir,
    pub sink: SinkHandle,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        Self::configured(|config| config.settings = settings)
    }

    pub fn configured(change: impl FnOnce(&mut SinkConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = SinkConfig::new("127.0.0.1:0".parse().unwrap());
        config.ledger = Some(folder.path().join("ledger"));
        config.store = Some(folder.path().join("store"));
        change(&mut config);
        Self { folder, sink: Sink::start(config).unwrap() }
    }

    pub fn addr(&self) -> SocketAddr {
        self.sink.local_addr()
    }

    pub fn ledger(&self) -> Vec<Value> {
        read_ledger(&self.folder.path().join("ledger"))
    }

    /// The content stored for a ledger line.
    pub fn stored(&self, line: &Value) -> Vec<u8> {
        let name = format!("{}.eml", line["queue_id"].as_str().unwrap());
        std::fs::read(self.folder.path().join("store").join(name)).unwrap()
    }
}

pub fn read_ledger(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

pub fn sha1_hex(octets: &[u8]) -> String {
    Sha1::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect()
}
