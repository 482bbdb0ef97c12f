//! A milter (the protocol that Postfix and sendmail share) that lets everything pass, and from a given
//! moment on refuses all, as one does whose rules were edited badly.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Octets of one packet, at most: headers and parts of bodies.
const PACKET_OCTETS_MAX: usize = 1024 * 1024;

/// Where it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Mail,
    Rcpt,
    /// At the end of the content.
    End,
}

impl At {
    fn command(self) -> u8 {
        match self {
            At::Mail => b'M',
            At::Rcpt => b'R',
            At::End => b'E',
        }
    }
}

/// What it does, and what it has done since it was told so.
#[derive(Debug, Default)]
struct Rules {
    /// With the words, and how many may pass before.
    refuses: Option<(At, &'static str, usize)>,
    refused: usize,
}

/// Listens on a free port of 127.0.0.1 for the life of the test process.
#[derive(Debug)]
pub struct Milter {
    address: SocketAddr,
    rules: Arc<Mutex<Rules>>,
}

impl Milter {
    /// One that refuses nothing.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let rules = Arc::<Mutex<Rules>>::default();
        let shared = Arc::clone(&rules);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let rules = Arc::clone(&shared);
                // an MTA that breaks off has said so in its log
                std::thread::spawn(move || converse(stream, &rules).is_ok());
            }
        });
        Self { address, rules }
    }

    /// Refuses everything there, in these words, once so many have passed; `None`: nothing any more. Counts
    /// anew from now on.
    pub fn set(&self, refuses: Option<(At, &'static str, usize)>) {
        *self.rules.lock().expect("no thread panics with it") = Rules { refuses, refused: 0 };
    }

    /// How many it has refused since.
    pub fn refused(&self) -> usize {
        self.rules.lock().expect("no thread panics with it").refused
    }

    /// The line of main.cf.
    pub fn postfix(&self) -> String {
        format!("smtpd_milters = inet:127.0.0.1:{}", self.address.port())
    }

    /// The line of sendmail's m4 configuration.
    pub fn sendmail(&self) -> String {
        format!("INPUT_MAIL_FILTER(`rules', `S=inet:{}@127.0.0.1, F=R')dnl", self.address.port())
    }
}

impl Rules {
    /// The words with which this command is refused.
    fn refusal(&mut self, command: u8) -> Option<&'static str> {
        let (at, text, passes) = self.refuses.as_mut()?;
        if at.command() != command {
            return None;
        }
        if *passes > 0 {
            *passes -= 1;
            return None;
        }
        self.refused += 1;
        Some(text)
    }
}

fn converse(stream: TcpStream, rules: &Mutex<Rules>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(1..=PACKET_OCTETS_MAX).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut packet = vec![0; length];
        input.read_exact(&mut packet)?;
        match packet[0] {
            // what it speaks is what is offered; it changes no message, and wants to hear everything
            b'O' => {
                let version = packet.get(1..5).ok_or(io::ErrorKind::InvalidData)?;
                say(&mut output, b'O', &[version, &[0; 8]].concat())?;
            }
            // macros, an abort, and the end of a session that keeps the connection: no answer
            b'D' | b'A' | b'K' => {}
            b'Q' => return Ok(()),
            command => {
                let refusal = rules.lock().expect("no thread panics with it").refusal(command);
                match refusal {
                    Some(text) => say(&mut output, b'y', &[text.as_bytes(), b"\0"].concat())?,
                    None => say(&mut output, b'c', &[])?,
                }
            }
        }
    }
}

fn say(output: &mut TcpStream, answer: u8, octets: &[u8]) -> io::Result<()> {
    let length = u32::try_from(octets.len() + 1).map_err(|_| io::ErrorKind::InvalidData)?;
    output.write_all(&[&length.to_be_bytes()[..], &[answer], octets].concat())
}
