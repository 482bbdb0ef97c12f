//! What SIGTERM, SIGINT and SIGHUP mean.
//!
//! The first one asks the drain to stop: no more work is taken, transactions in flight end, their
//! outcomes are synced. The second one ends the process at once, which is as safe as a crash: whatever
//! may go twice is marked by the next start. Errors: `io::Error` where a handler can't be installed.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Signals this close together are one.
const ONE_BREATH: Duration = Duration::from_millis(100);

/// Becomes true at the first SIGTERM or SIGINT, or when somebody else sets it; at the second signal the process
/// exits with `second_exit_code`. Runs within a tokio runtime.
///
/// # Errors
/// The handlers can't be installed.
pub fn stop_on_signals(second_exit_code: u8) -> io::Result<watch::Sender<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = watch::Sender::new(false);
    let stopped = stop.clone();
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // `timeout` and terminals signal a process and its group in one breath: that is one signal
            if first.is_some_and(|at| at.elapsed() < ONE_BREATH) {
                continue;
            }
            if first.replace(Instant::now()).is_some() {
                std::process::exit(second_exit_code.into());
            }
            stopped.send_replace(true);
            tracing::info!("stopping: transactions in flight are finished; a second signal exits at once");
        }
    });
    Ok(stop)
}

/// Each SIGHUP, as long as the receiver lives. Runs within a tokio runtime.
///
/// # Errors
/// The handler can't be installed.
pub fn hangups() -> io::Result<tokio::sync::mpsc::Receiver<()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (heard, hear) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match heard.try_send(()) {
                // one that waits is as good as two
                Ok(()) | Err(tokio::sync::mpsc::error::TrySendError::Full(())) => {}
                Err(tokio::sync::mpsc::error::TrySendError::Closed(())) => return,
            }
        }
    });
    Ok(hear)
}
