//! The raw stream: what is to be written and what was read, driven together so that neither end can
//! wait for the other (Postfix flushes replies only when its read buffer is empty).
//!
//! Guarantees: a reply read is bounded; nothing that the MTA said before it was asked is taken for an
//! answer; how much of the output was taken, by the kernel or under TLS by the TLS layer, is known exactly.
//! Errors: `Io`, `Closed`, `Timeout`, `BadReply`, `Unsolicited` of [`InfeedError`]; after any of them the
//! stream is of no use.

use std::future::poll_fn;
use std::io::IoSlice;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::config::{PIPELINING_DEPTH_MAX, Timeouts};
use super::envelope::Commands;
use super::error::InfeedError;
use super::reply::{self, Reply};
use super::stream::Stream;
use super::transaction::{Said, Stage};

const READ_OCTETS: usize = 8 * 1024;
const DOT: &[u8] = b".\r\n";
/// Commands and content of each message, and what follows the last.
const PARTS_MAX: usize = 2 * PIPELINING_DEPTH_MAX + 1;

pub struct Wire {
    stream: Stream,
    timeouts: Timeouts,
    /// Read and not yet taken: `inbox[taken..]`.
    inbox: Vec<u8>,
    taken: usize,
    /// The commands of this group, and the final dot where there is one.
    out: Vec<u8>,
    /// The contents of this group, in their order.
    contents: Vec<Inset>,
    /// Octets of the group, commands and contents together.
    len: usize,
    /// Octets of the group that were taken: by the kernel, or by the TLS layer.
    written: usize,
    /// Something was read since the group began.
    partly_answered: bool,
    /// Why nothing can be written any more.
    broken: Option<std::io::Error>,
}

/// Content amid the commands.
struct Inset {
    /// Goes out before `out[at..]`.
    at: usize,
    octets: Bytes,
    /// Where its message ends in the group: behind its last octet, or its final dot.
    end: usize,
}

impl Wire {
    pub fn new(stream: Stream, timeouts: Timeouts) -> Self {
        Self {
            stream,
            timeouts,
            inbox: Vec::with_capacity(READ_OCTETS),
            taken: 0,
            out: Vec::with_capacity(1024),
            contents: Vec::with_capacity(PIPELINING_DEPTH_MAX),
            len: 0,
            written: 0,
            partly_answered: false,
            broken: None,
        }
    }

    /// Begins a group: content with its final dot (where there is content), then commands. Nothing is
    /// written before [`Wire::reply`].
    pub fn queue(
        &mut self,
        stage: Stage,
        content: Option<Bytes>,
        commands: &[u8],
    ) -> Result<(), InfeedError> {
        self.begin(stage)?;
        if let Some(octets) = content {
            self.out.extend_from_slice(DOT);
            let end = octets.len() + DOT.len();
            self.len += octets.len();
            self.contents.push(Inset { at: 0, octets, end });
        }
        self.out.extend_from_slice(commands);
        self.len += self.out.len();
        Ok(())
    }

    /// Begins a group of commands with contents between, each to go in before `commands[at..]`, which it
    /// drains: at most [`PIPELINING_DEPTH_MAX`], in their order.
    pub fn queue_chunks(
        &mut self,
        stage: Stage,
        commands: &[u8],
        chunks: &mut Vec<(usize, Bytes)>,
    ) -> Result<(), InfeedError> {
        assert!(chunks.len() <= PIPELINING_DEPTH_MAX, "{} chunks in a group", chunks.len());
        self.begin(stage)?;
        self.out.extend_from_slice(commands);
        for (at, octets) in chunks.drain(..) {
            self.len += octets.len();
            self.contents.push(Inset { at, octets, end: at + self.len });
        }
        self.len += commands.len();
        Ok(())
    }

    fn begin(&mut self, stage: Stage) -> Result<(), InfeedError> {
        let is_written = self.is_written();
        // Its own state first: an error below must not be judged by the group before.
        self.out.clear();
        self.contents.clear();
        (self.len, self.written, self.partly_answered) = (0, 0, false);
        if !is_written {
            let text = "all replies of a group, before all of the group was written".into();
            return Err(InfeedError::Unsolicited { stage, text });
        }
        self.quiet(stage)
    }

    /// The MTA has said nothing that was not asked for.
    pub fn quiet(&self, stage: Stage) -> Result<(), InfeedError> {
        let left = &self.inbox[self.taken..];
        if left.is_empty() {
            return Ok(());
        }
        if let Ok(Some((reply, _))) = reply::parse(left)
            && reply.code == 421
        {
            return Err(InfeedError::Said { stage, said: reply.said() });
        }
        let text = String::from_utf8_lossy(&left[..left.len().min(64)]).into_owned();
        Err(InfeedError::Unsolicited { stage, text })
    }

    pub fn is_written(&self) -> bool {
        self.written >= self.len
    }

    /// The last octet of message `k` of the group has left our hands: of its content, or of its final dot.
    /// Under TLS that may be early: the TLS layer may still hold it when the connection is lost, and what
    /// wasn't sent is then in doubt, never forgotten.
    pub fn content_is_written(&self, k: usize) -> bool {
        self.contents.get(k).is_some_and(|content| self.written >= content.end)
    }

    /// The next reply, writing what is still to be written meanwhile.
    pub async fn reply(&mut self, stage: Stage) -> Result<Reply<'_>, InfeedError> {
        let timeout_ms = self.timeouts.reply_ms(stage);
        let mut deadline: Option<Instant> = None;
        let (code, len) = loop {
            let left = &self.inbox[self.taken..];
            let found = reply::parse(left).map_err(|source| InfeedError::BadReply { stage, source })?;
            if let Some((reply, len)) = found {
                break (reply.code, len);
            }
            let writing = !self.is_written() && self.broken.is_none();
            if writing && self.try_write() {
                deadline = None;
                continue;
            }
            let writing = writing && self.broken.is_none();
            let limit_ms = if writing { self.timeouts.content_block_ms } else { timeout_ms };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + Duration::from_millis(limit_ms));
            self.make_room();
            let waited = timeout_at(deadline, self.read_or_writable(writing)).await;
            match waited {
                Err(_) => return Err(InfeedError::Timeout { stage, timeout_ms: limit_ms }),
                Ok(Ok(Some(1..))) => self.partly_answered = true,
                Ok(Ok(None)) => (),
                Ok(ended) => {
                    let source = self.broken.take().or(ended.err());
                    return Err(source
                        .map_or(InfeedError::Closed { stage }, |source| InfeedError::Io { stage, source }));
                }
            }
        };
        let start = self.taken;
        self.taken += len;
        Ok(Reply::again(code, &self.inbox[start..self.taken]))
    }

    /// Writes what the kernel takes at once; `true` when it took something. After an error nothing is
    /// written any more, but what the MTA said before it closed is still to be read, reply by reply.
    fn try_write(&mut self) -> bool {
        let mut parts = [IoSlice::new(&[]); PARTS_MAX];
        let count = unwritten(&self.out, &self.contents, self.written, &mut parts);
        match self.stream.try_write(&parts[..count]) {
            Ok(n) => {
                self.written += n;
                n > 0
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(source) => {
                self.broken = Some(source);
                false
            }
        }
    }

    /// Waits until something was read (how much; 0 at the end) or, while `writing`, can be written. What
    /// the TLS layer holds goes out meanwhile.
    ///
    /// An MTA that writes its replies in pieces (Nagle) sends the second when we have acknowledged the
    /// first, which the kernel puts off for 40 ms: so it is told to do that at once when a part has come
    /// and more is awaited. Before, our own write has carried the acknowledgement: that needs no call.
    async fn read_or_writable(&mut self, writing: bool) -> std::io::Result<Option<usize>> {
        if self.partly_answered && self.broken.is_none() {
            self.stream.quick_ack()?;
        }
        poll_fn(|cx| {
            if let Poll::Ready(read) = self.stream.poll_read_into(cx, &mut self.inbox) {
                return Poll::Ready(read.map(Some));
            }
            if writing {
                return self.stream.poll_writable(cx).map(|writable| writable.map(|()| None));
            }
            match self.stream.poll_sent(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            }
        })
        .await
    }

    fn make_room(&mut self) {
        if self.taken == self.inbox.len() {
            self.inbox.clear();
            self.taken = 0;
        } else if self.taken > 0 && self.inbox.capacity() - self.inbox.len() < READ_OCTETS / 4 {
            self.inbox.drain(..self.taken);
            self.taken = 0;
        }
        if self.inbox.capacity() - self.inbox.len() < READ_OCTETS / 4 {
            self.inbox.reserve(READ_OCTETS);
        }
    }

    /// After an error reply that ends the session: whether the MTA refuses each command that it has left to
    /// answer, or closes. `due`: for each of them whether it may go well all the same. It gets as long as
    /// for QUIT, and nothing more is written.
    pub async fn refuses_the_rest(&mut self, stage: Stage, due: impl Iterator<Item = bool>) -> bool {
        self.len = self.written;
        let until = Instant::now() + Duration::from_millis(self.timeouts.quit_ms);
        for may_go_well in due {
            match timeout_at(until, self.reply(stage)).await {
                Ok(Ok(reply)) if reply.code >= 400 || may_go_well => (),
                Ok(Err(error)) => return error.is_end(),
                _ => return false,
            }
        }
        true
    }

    /// Resolves when an idle connection says something, which can only be a farewell, or ends. Cancel-safe.
    pub async fn idle_end(&mut self) -> InfeedError {
        let stage = Stage::Mail;
        loop {
            if let Err(error) = self.quiet(stage) {
                return error;
            }
            self.make_room();
            match self.stream.read_buf(&mut self.inbox).await {
                Ok(0) => return InfeedError::Closed { stage },
                Ok(_) => (),
                Err(source) => return InfeedError::Io { stage, source },
            }
        }
    }

    /// One command and its reply, alone. Gives a copy: the text is bounded.
    pub async fn ask(&mut self, stage: Stage, command: &[u8]) -> Result<Said, InfeedError> {
        self.queue(stage, None, command)?;
        Ok(self.reply(stage).await?.said())
    }

    /// The stream, for TLS to take over. Whatever was read beyond the last reply came in clear text,
    /// from whoever sits between: it ends the session, lest it is taken for the MTA's word.
    pub fn into_stream(self, stage: Stage) -> Result<Stream, InfeedError> {
        self.quiet(stage)?;
        Ok(self.stream)
    }

    /// Overwrites what was sent last: it held a secret.
    pub fn forget_output(&mut self) {
        if self.is_written() {
            self.out.fill(0);
        }
    }

    /// QUIT, alone in its write, and a short wait for the reply. What comes of it changes nothing.
    pub async fn quit(&mut self) {
        if !self.is_written() || self.queue(Stage::Mail, None, b"QUIT\r\n").is_err() {
            return;
        }
        self.timeouts.mail_ms = self.timeouts.quit_ms;
        self.timeouts.content_block_ms = self.timeouts.quit_ms;
        if let Err(error) = self.reply(Stage::Mail).await {
            tracing::trace!(%error, "no reply to QUIT");
        }
        // TLS has a farewell of its own, which an MTA need not take.
        let quit = Duration::from_millis(self.timeouts.quit_ms);
        match timeout(quit, self.stream.shutdown()).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => tracing::trace!(%error, "the MTA was gone before the end of the connection"),
            Err(error) => tracing::trace!(%error, "the MTA takes no farewell"),
        }
    }

    /// Sends one group of commands that all expect their reply next.
    pub fn queue_commands(&mut self, stage: Stage, commands: &Commands, i: usize) -> Result<(), InfeedError> {
        let start = i.checked_sub(1).map_or(0, |before| commands.ends[before]);
        self.queue(stage, None, &commands.octets[start..commands.ends[i]])
    }
}

/// The parts of the group that are still to be written, in order; how many there are.
fn unwritten<'a>(
    out: &'a [u8],
    contents: &'a [Inset],
    written: usize,
    parts: &mut [IoSlice<'a>; PARTS_MAX],
) -> usize {
    let (mut count, mut skip, mut from) = (0, written, 0);
    let mut part = |octets: &'a [u8]| {
        let left = octets.get(skip..).unwrap_or_default();
        skip -= octets.len() - left.len();
        if !left.is_empty() {
            parts[count] = IoSlice::new(left);
            count += 1;
        }
    };
    for content in contents {
        part(&out[from..content.at]);
        part(&content.octets);
        from = content.at;
    }
    part(&out[from..]);
    count
}
