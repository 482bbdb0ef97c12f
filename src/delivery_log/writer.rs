//! The thread that writes the delivery log.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::file::LogFile;
use super::{Line, Shared};

/// Octets that are written at once, about.
const BUFFER_OCTETS_MAX: usize = 64 * 1024;
/// Lines are gathered for so long where there are few: a wake-up and a write for each would cost as much as its
/// delivery.
const GATHER: Duration = Duration::from_millis(50);
/// So many are no longer few.
const GATHERED_LINES: usize = 250;
/// How often a writer with nothing to do looks whether it is to end, or to open the file anew.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a disk that fails is left alone.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Lines on their way to the disk.
#[derive(Default)]
struct Buffer {
    octets: Vec<u8>,
    lines: u64,
}

impl Buffer {
    fn take(&mut self, batch: &[Line], shared: &Shared) {
        shared.queued.fetch_sub(batch.len(), Relaxed);
        batch.iter().for_each(|line| line.write(&mut self.octets));
        self.lines += batch.len() as u64;
    }

    fn is_full(&self) -> bool {
        self.octets.len() >= BUFFER_OCTETS_MAX
    }
}

/// Writes until it is told to end, and all is written or can't be.
pub(super) fn run(mut file: LogFile, queue: &Receiver<Vec<Line>>, shared: &Shared) {
    let (mut buffer, mut failing) = (Buffer::default(), false);
    loop {
        let closing = shared.closing.load(Relaxed);
        if failing && buffer.is_full() {
            // what comes meanwhile waits in the queue, and is left out once that is full
            std::thread::park_timeout(if closing { Duration::ZERO } else { RETRY_EVERY });
        } else {
            let wait = if closing || !buffer.octets.is_empty() && !failing {
                Duration::ZERO
            } else if failing {
                RETRY_EVERY
            } else {
                LOOK_EVERY
            };
            match queue.recv_timeout(wait) {
                Ok(batch) => {
                    buffer.take(&batch, shared);
                    if !closing && shared.queued.load(Relaxed) < GATHERED_LINES {
                        std::thread::park_timeout(GATHER);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => shared.closing.store(true, Relaxed),
            }
            while !buffer.is_full()
                && let Ok(batch) = queue.try_recv()
            {
                buffer.take(&batch, shared);
            }
        }
        if shared.reopen.swap(false, Relaxed)
            && let Err(e) = file.reopen()
        {
            tracing::error!("{e}");
        }
        let is_idle = buffer.lines == 0;
        if !is_idle {
            match file.append(&buffer.octets) {
                Ok(()) => {
                    shared.told.lines.fetch_add(buffer.lines, Relaxed);
                    buffer.octets.clear();
                    buffer.lines = 0;
                    if std::mem::take(&mut failing) {
                        tracing::info!("the delivery log {} is written again", file.path().display());
                    }
                }
                Err(e) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(
                            "the delivery log {} can't be written: {e}; deliveries go on, and the report has all",
                            file.path().display()
                        );
                    }
                }
            }
        }
        if shared.queued.load(Relaxed) == 0 && !failing && shared.is_dropping.swap(false, Relaxed) {
            let dropped = shared.told.lines_dropped.load(Relaxed);
            tracing::warn!("the delivery log keeps up again; {dropped} lines are missing in it by now");
        }
        // `closing` as it was before the queue was looked at
        if closing && (is_idle || failing) {
            break;
        }
    }
    let lost = buffer.lines + shared.queued.load(Relaxed) as u64;
    if lost > 0 {
        shared.told.lines_dropped.fetch_add(lost, Relaxed);
        tracing::warn!("{lost} lines of the delivery log could not be written; the report has them");
    }
    *shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    shared.end.notify_all();
}
