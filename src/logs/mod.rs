//! The log: for people on a terminal, as JSON, or into systemd's journal.
//!
//! | file | is |
//! | --- | --- |
//! | `line` | one event as a line: its text and fields, cleaned and bounded |
//! | `layer` | who gets it: level, repeats, the place where it is written |
//! | `repeats` | pure: how often one place in the program may say the same |
//! | `journald` | the journal's own protocol |
//!
//! Guarantees: one event is one line, in every format, whatever an MTA, a message or a list has put into its
//! text: control characters and what turns the direction of text are written as escapes. A line is bounded in
//! octets, and so is how often one place in the program speaks, but for changes of state ([`STATE`]), which are
//! bounded where they arise. Writing never fails the program.
//!
//! `tracing-journald` is not used: it knows one fixed socket, which no test can stand in for, and its levels
//! (INFO as notice, DEBUG as info) are not those of the rest of a system's journal. The protocol is a datagram of
//! `NAME=value` lines.

mod journald;
mod layer;
mod line;
mod repeats;

use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use journald::SOCKET;
pub use layer::Layer;
pub use line::without_local_parts;

use crate::config::LogFormat;

/// The target of an event that tells of a change of a job's or an MTA's state: its message says all that its
/// fields say, and it is never left out.
pub const STATE: &str = "infeed::state";

/// The log of this process.
static LOG: OnceLock<Layer> = OnceLock::new();

/// Begins to log to standard error, or to the journal where that is what standard error leads to.
///
/// # Errors
/// Somebody else has begun it.
pub fn init(level: LevelFilter) -> Result<(), TryInitError> {
    let layer = LOG.get_or_init(|| Layer::of_process(chosen(LogFormat::Auto))).clone();
    tracing_subscriber::registry().with(level).with(layer).try_init()
}

/// From now on, in this format. Nothing happens where [`init`] was not called.
pub fn set_format(format: LogFormat) {
    if let Some(log) = LOG.get() {
        log.set_format(chosen(format));
    }
}

/// Whether what is written to standard error is read by people, as far as is known: not JSON, and not the journal.
pub fn are_for_people() -> bool {
    LOG.get().is_none_or(|log| log.format() == LogFormat::Human)
}

/// What `auto` comes to here.
fn chosen(format: LogFormat) -> LogFormat {
    match format {
        LogFormat::Auto if leads_to_journal() => LogFormat::Journald,
        LogFormat::Auto => LogFormat::Human,
        other => other,
    }
}

/// Whether standard error is the journal's: `$JOURNAL_STREAM` is inherited by whatever a service starts, so it
/// counts only where it names the very file that standard error is (systemd.exec(5)).
fn leads_to_journal() -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else { return false };
    match std::fs::metadata("/proc/self/fd/2") {
        Ok(stderr) => is_stream(&named.to_string_lossy(), stderr.dev(), stderr.ino()),
        Err(_) => false,
    }
}

/// Whether `DEVICE:INODE`, in decimal, names this file.
fn is_stream(named: &str, device: u64, inode: u64) -> bool {
    let Some((named_device, named_inode)) = named.split_once(':') else { return false };
    named_device.parse() == Ok(device) && named_inode.parse() == Ok(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journals_stream_is_known_by_device_and_inode_together() {
        assert!(is_stream("9:17", 9, 17));
        for other in ["9:18", "8:17", "9", ":", "", "9:17:1", "0x9:17"] {
            assert!(!is_stream(other, 9, 17), "{other:?}");
        }
    }
}
