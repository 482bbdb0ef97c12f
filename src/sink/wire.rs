//! One connection's octets: input as it comes, replies gathered until they are worth a write, and waits
//! that end when the sink stops.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

/// RFC 5321 §4.5.3.2.7: a server waits at least five minutes for the next command.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// How long a closed connection's last input is read, so that no reset overtakes our last reply.
const LINGER_MAX: Duration = Duration::from_secs(1);
const INPUT_CAPACITY: usize = 64 * 1024;

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fill {
    More,
    /// The client closed its side.
    End,
    /// Nothing came for too long.
    Idle,
    /// The sink is stopping.
    Stop,
}

pub(super) struct Wire {
    stream: TcpStream,
    pub input: BytesMut,
    pub out: Vec<u8>,
    /// When input came last, or a wait ended.
    pub last_read: Instant,
    idle: Pin<Box<Sleep>>,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    stopping: bool,
}

impl Wire {
    /// `stop` turning true, or its sender's end, stops every wait.
    pub fn new(stream: TcpStream, mut stop: watch::Receiver<bool>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            input: BytesMut::with_capacity(INPUT_CAPACITY),
            out: Vec::with_capacity(1024),
            last_read: now,
            idle: Box::pin(sleep_until(now + IDLE_MAX)),
            stop: Box::pin(async move {
                if stop.wait_for(|stop| *stop).await.is_err() {
                    tracing::debug!("the sink's handle is gone: a stop as well");
                }
            }),
            stopping: false,
        }
    }

    /// Waits for input.
    pub async fn fill(&mut self) -> io::Result<Fill> {
        if self.stopping {
            return Ok(Fill::Stop);
        }
        if self.input.capacity() - self.input.len() < INPUT_CAPACITY / 4 {
            self.input.reserve(INPUT_CAPACITY);
        }
        loop {
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.input) => {
                    self.last_read = Instant::now();
                    return Ok(if read? == 0 { Fill::End } else { Fill::More });
                }
                () = &mut self.stop => {
                    self.stopping = true;
                    return Ok(Fill::Stop);
                }
                () = &mut self.idle => {
                    // One timer for the whole session: moved on only when it fires, not at each read.
                    let until = self.last_read + IDLE_MAX;
                    if until <= Instant::now() {
                        return Ok(Fill::Idle);
                    }
                    self.idle.as_mut().reset(until);
                }
            }
        }
    }

    /// Takes what has come already, without waiting: what was sent in the same group.
    pub fn take_what_came(&mut self) -> io::Result<()> {
        loop {
            self.input.reserve(INPUT_CAPACITY / 4);
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes the replies gathered, `latency_ms` later.
    pub async fn flush(&mut self, latency_ms: u64) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        if latency_ms > 0 {
            self.wait_until(Instant::now() + Duration::from_millis(latency_ms)).await;
        }
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    /// Waits, unless the sink stops.
    pub async fn wait_until(&mut self, until: Instant) {
        if self.stopping {
            return;
        }
        tokio::select! {
            () = sleep_until(until) => {}
            () = &mut self.stop => self.stopping = true,
        }
        self.last_read = Instant::now();
    }

    /// Ends our side, then reads on until the client ends its own, so that it gets our last reply.
    pub async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let until = Instant::now() + LINGER_MAX;
        let mut rest = [0; 4096];
        loop {
            tokio::select! {
                read = self.stream.read(&mut rest) => if read? == 0 { return Ok(()) },
                () = sleep_until(until) => return Ok(()),
            }
        }
    }
}
