//! sendmail's control socket: the command `mstat`, whose lines `Q:FOLDER:N` tell the messages of each queue.
//!
//! sendmail keeps the numbers in shared memory, where its own option `SharedMemoryKey` gives it some; else it
//! says -1. It does so too until its first queue run, and corrects them at each.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Counted, QueueError};

/// The longest wait for the socket, and for the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// An answer has a line for each queue folder and each process of sendmail's.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// # Errors
/// The socket can't be reached, or doesn't say a number.
pub(super) fn ask(path: &Path) -> Result<Counted, QueueError> {
    let answer = exchange(path).map_err(|source| QueueError::Socket { path: path.to_owned(), source })?;
    messages(&answer, path)
}

fn exchange(path: &Path) -> std::io::Result<String> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.write_all(b"mstat\r\n")?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The sum over the queues.
pub(super) fn messages(answer: &str, path: &Path) -> Result<Counted, QueueError> {
    let mut sum = None;
    for line in answer.lines().filter_map(|line| line.strip_prefix("Q:")) {
        match line.rsplit_once(':').and_then(|(_, n)| n.trim().parse::<i64>().ok()) {
            Some(n) => match u64::try_from(n) {
                Ok(n) => sum = Some(n.saturating_add(sum.unwrap_or(0))),
                Err(_) if line.starts_with("NOTCONFIGURED") => {
                    return Err(QueueError::NoSharedMemory { path: path.to_owned() });
                }
                Err(_) => return Err(QueueError::NotCounted { path: path.to_owned() }),
            },
            None => return Err(QueueError::SocketAnswer { path: path.to_owned(), said: line.to_owned() }),
        }
    }
    match sum {
        Some(messages) => Ok(Counted { messages, is_more: false }),
        None => {
            let said = answer.lines().next().unwrap_or_default().chars().take(80).collect();
            Err(QueueError::SocketAnswer { path: path.to_owned(), said })
        }
    }
}
