//! What is written, and what must come back: made once, used by every session.

use std::fmt::Write;

/// The kind of message.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub recipients: usize,
    /// Of the body.
    pub octets: usize,
    /// BDAT, with so many messages in one write at most; `None`: DATA.
    pub bdat_depth: Option<usize>,
}

/// A reply that must come.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    pub command: &'static str,
    pub code: u16,
    /// It says that a whole message was taken.
    pub accepts: bool,
}

/// One write and the replies to it.
#[derive(Debug, Default)]
pub struct Group {
    pub octets: Vec<u8>,
    pub replies: Vec<Expected>,
}

impl Group {
    fn with(mut self, octets: &[u8], command: &'static str, code: u16) -> Group {
        self.octets.extend_from_slice(octets);
        self.replies.push(Expected { command, code, accepts: false });
        self
    }

    /// MAIL and the RCPTs.
    fn envelope(mut self, recipients: usize) -> Group {
        self = self.with(b"MAIL FROM:<bounces@bench.example>\r\n", "MAIL", 250);
        for number in 0..recipients {
            self = self.with(format!("RCPT TO:<r{number}@bench.example>\r\n").as_bytes(), "RCPT", 250);
        }
        self
    }

    fn content(mut self, octets: &[u8], end: &[u8], command: &'static str) -> Group {
        self.octets.extend_from_slice(octets);
        self.octets.extend_from_slice(end);
        self.replies.push(Expected { command, code: 250, accepts: true });
        self
    }
}

/// All groups of a session.
#[derive(Debug)]
pub struct Script {
    /// Nothing is written: the greeting is waited for.
    pub greeting: Group,
    pub ehlo: Group,
    pub quit: Group,
    pub body: Body,
}

/// The groups between EHLO and QUIT.
#[derive(Debug)]
pub enum Body {
    /// The first envelope; content with the next envelope; content with QUIT.
    Data { first: Group, next: Group, last: Group },
    /// One message, two, … up to the depth.
    Bdat { batches: Vec<Group> },
}

impl Script {
    pub fn new(shape: &Shape) -> Script {
        let content = message(shape.octets);
        let body = match shape.bdat_depth {
            None => Body::Data {
                first: Group::default().envelope(shape.recipients).with(b"DATA\r\n", "DATA", 354),
                next: Group::default()
                    .content(&content, b".\r\n", "the final dot")
                    .envelope(shape.recipients)
                    .with(b"DATA\r\n", "DATA", 354),
                last: Group::default().content(&content, b".\r\n", "the final dot").with(
                    b"QUIT\r\n",
                    "QUIT",
                    221,
                ),
            },
            Some(depth) => {
                let chunk = [format!("BDAT {} LAST\r\n", content.len()).as_bytes(), &content].concat();
                let batch = |messages| {
                    (0..messages).fold(Group::default(), |group, _| {
                        group.envelope(shape.recipients).content(&chunk, b"", "BDAT")
                    })
                };
                Body::Bdat { batches: (1..=depth).map(batch).collect() }
            }
        };
        Script {
            greeting: Group::default().with(b"", "the connection", 220),
            ehlo: Group::default().with(b"EHLO blaster.bench.example\r\n", "EHLO", 250),
            quit: Group::default().with(b"QUIT\r\n", "QUIT", 221),
            body,
        }
    }

    /// The extension without which the body can't be sent as it is.
    pub fn needs(&self) -> &'static str {
        match self.body {
            Body::Data { .. } => "PIPELINING",
            Body::Bdat { .. } => "CHUNKING",
        }
    }
}

/// Headers and a body of `octets`, in lines, none of which begins with a dot.
fn message(octets: usize) -> Vec<u8> {
    let mut text = String::from(
        "From: Bench <news@bench.example>\r\n\
         To: readers@bench.example\r\n\
         Subject: The towpath is open\r\n\
         Date: Sun, 01 Nov 2026 08:00:00 +0000\r\n\
         Message-ID: <blaster@bench.example>\r\n\r\n",
    );
    let mut left = octets;
    while left > 0 {
        // what is left over after this line must have room for its line end
        let line = if left <= 80 { left } else { 78 };
        let written = write!(text, "{}\r\n", "X".repeat(line - 2));
        assert!(written.is_ok(), "a String takes what is written to it");
        left -= line;
    }
    text.into_bytes()
}
