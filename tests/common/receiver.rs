//! A small SMTP server for tests that must not depend on infeed's own sink: it takes everything, in
//! lock step, and remembers it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A message that it took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    pub sender: String,
    pub recipients: Vec<String>,
    /// Without dot-stuffing and the final dot; CRLF line endings.
    pub content: Vec<u8>,
}

/// Listens on a free port of 127.0.0.1 until dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    ended: Arc<AtomicBool>,
}

impl Receiver {
    /// Starts to listen.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (shared, is_over) = (Arc::clone(&received), Arc::clone(&ended));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // a client that breaks off has said so by what is missing
                std::thread::spawn(move || converse(stream, &shared).is_ok());
            }
        });
        Receiver { address, received, ended }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it has taken so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no thread panics with it").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // the listening thread wakes up at a connection
        if let Err(error) = TcpStream::connect(self.address) {
            eprintln!("the receiver has ended already: {error}");
        }
    }
}

fn converse(stream: TcpStream, received: &Mutex<Vec<Received>>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let mut message = Received::default();
    output.write_all(b"220 receiver.example.test ESMTP\r\n")?;
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let reply: &str = match verb.as_str() {
            "EHLO" => "250-receiver.example.test\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
            "MAIL" => {
                message = Received { sender: path(&line), ..Received::default() };
                "250 2.1.0 taken\r\n"
            }
            "RCPT" => {
                message.recipients.push(path(&line));
                "250 2.1.5 taken\r\n"
            }
            "DATA" => {
                output.write_all(b"354 go on\r\n")?;
                message.content = read_content(&mut input)?;
                received.lock().expect("no thread panics with it").push(std::mem::take(&mut message));
                "250 2.0.0 taken\r\n"
            }
            "HELO" | "RSET" | "NOOP" => "250 2.0.0 taken\r\n",
            "QUIT" => return output.write_all(b"221 2.0.0 bye\r\n"),
            _ => "500 5.5.2 what?\r\n",
        };
        output.write_all(reply.as_bytes())?;
    }
}

/// What stands between `<` and `>`.
fn path(line: &str) -> String {
    let from = line.find('<').map_or(line.len(), |at| at + 1);
    let to = line[from..].find('>').map_or(line.len(), |at| from + at);
    line[from..to].to_owned()
}

fn read_content(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.as_slice() {
            b".\r\n" => return Ok(content),
            [b'.', rest @ ..] => content.extend_from_slice(rest),
            line => content.extend_from_slice(line),
        }
    }
}
