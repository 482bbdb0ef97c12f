//! The ledger: NDJSON, a line per accepted recipient; and the store: a file per message.
//!
//! Guarantee: [`Ledger::record`] returns `Ok` only after `write(2)` took every line of the message, so a
//! reply that follows it is never ahead of the file (a power cut aside: nothing is synced).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha1::{Digest, Sha1};

use super::content::{message_id, split};
use super::envelope::{Envelope, json_string};
use super::error::SinkError;
use crate::clock;

/// One message taken, as ledger and store want it.
pub(super) struct Taken<'a> {
    pub time_us: clock::Micros,
    pub connection: u64,
    pub transaction: u64,
    pub queue_id: &'a str,
    /// `250`, or `dropped` when the connection is closed instead of the reply.
    pub reply: &'static str,
    pub envelope: &'a Envelope,
    pub content: &'a [u8],
}

/// Where messages taken are written down; either part may be absent.
#[derive(Debug)]
pub(super) struct Ledger {
    file: Option<(PathBuf, Mutex<File>)>,
    store: Option<PathBuf>,
    failed: Mutex<Option<(u64, String)>>,
}

/// What a session keeps for writing lines: the buffers, and the time stamp last rendered.
#[derive(Debug, Default)]
pub(super) struct Pen {
    common: Vec<u8>,
    lines: Vec<u8>,
    stamp: (clock::Micros, String),
}

impl Ledger {
    /// Opens the ledger to append (an earlier run's lines stay) and creates the store's folder.
    pub fn open(ledger: Option<&Path>, store: Option<&Path>) -> Result<Self, SinkError> {
        let file = match ledger {
            Some(path) => {
                let file =
                    append_to(path).map_err(|cause| SinkError::LedgerOpen { path: path.into(), cause })?;
                Some((path.to_owned(), Mutex::new(file)))
            }
            None => None,
        };
        if let Some(path) = store {
            std::fs::create_dir_all(path).map_err(|cause| SinkError::Store { path: path.into(), cause })?;
        }
        Ok(Self { file, store: store.map(Path::to_owned), failed: Mutex::new(None) })
    }

    /// Envelopes are needed as text.
    pub fn keeps_envelopes(&self) -> bool {
        self.file.is_some()
    }

    /// Content is needed.
    pub fn keeps_content(&self) -> bool {
        self.file.is_some() || self.store.is_some()
    }

    /// Writes a message down: the store's file first, then its lines in one `write`.
    /// An error is also kept for [`Ledger::close`].
    pub fn record(&self, pen: &mut Pen, taken: &Taken<'_>) -> io::Result<()> {
        let written = self.write(pen, taken);
        if let Err(e) = &written {
            let mut failed = locked(&self.failed);
            let (times, _) = failed.get_or_insert_with(|| (0, e.to_string()));
            *times += 1;
        }
        written
    }

    fn write(&self, pen: &mut Pen, taken: &Taken<'_>) -> io::Result<()> {
        if let Some(folder) = &self.store {
            std::fs::write(folder.join(format!("{}.eml", taken.queue_id)), taken.content)?;
        }
        if let Some((_, file)) = &self.file {
            pen.render(taken);
            locked(file).write_all(&pen.lines)?;
        }
        Ok(())
    }

    /// The first write error, if there was any. Nothing is buffered here: every line is written already.
    pub fn close(&self) -> Result<(), SinkError> {
        match locked(&self.failed).take() {
            None => Ok(()),
            Some((times, first)) => {
                let path = self.file.as_ref().map(|(path, _)| path).or(self.store.as_ref());
                Err(SinkError::LedgerWrite { path: path.cloned().unwrap_or_default(), times, first })
            }
        }
    }
}

/// How each line of a ledger begins.
const LINE_BEGINS: &[u8] = b"{\"time\":\"";

/// Opens a ledger to go on with. A last line without its end is cut off: the process died as it wrote it, and
/// nobody was told that the message was taken. Of a file that is no ledger it is ended.
fn append_to(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    // a device or a pipe has no end to look at
    let whole = if file.metadata()?.is_file() { file.metadata()?.len() } else { 0 };
    if whole == 0 {
        return Ok(file);
    }
    let (written, mut at) = (File::open(path)?, whole);
    let mut octet = [0];
    while at > 0 {
        written.read_exact_at(&mut octet, at - 1)?;
        if octet == *b"\n" {
            break;
        }
        at -= 1;
    }
    let mut begun = [0; LINE_BEGINS.len()];
    let seen = begun.len().min(usize::try_from(whole - at).unwrap_or(usize::MAX));
    written.read_exact_at(&mut begun[..seen], at)?;
    let begun = &begun[..seen];
    if at == whole {
        return Ok(file);
    }
    // after a power cut the end may be octets that were never written
    if LINE_BEGINS.starts_with(begun) || begun.iter().all(|octet| *octet == 0) {
        file.set_len(at)?;
    } else {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

impl Pen {
    fn render(&mut self, taken: &Taken<'_>) {
        let (header, body) = split(taken.content);
        let ms = taken.time_us / 1_000;
        if self.stamp.0 != ms || self.stamp.1.is_empty() {
            self.stamp = (ms, clock::rfc3339(taken.time_us));
        }
        let c = &mut self.common;
        c.clear();
        append(c, format_args!("{{\"time\":\"{}\",\"connection\":{},", self.stamp.1, taken.connection));
        append(c, format_args!("\"transaction\":{},\"queue_id\":\"{}\",", taken.transaction, taken.queue_id));
        append(c, format_args!("\"reply\":\"{}\",\"size\":{},", taken.reply, taken.content.len()));
        c.extend_from_slice(b"\"message_id\":");
        match message_id(header) {
            Some(id) => json_string(c, &id),
            None => c.extend_from_slice(b"null"),
        }
        c.extend_from_slice(b",\"content_sha1\":\"");
        append_sha1(c, taken.content);
        c.extend_from_slice(b"\",\"body_sha1\":\"");
        append_sha1(c, body);
        c.extend_from_slice(b"\",");
        c.extend_from_slice(taken.envelope.sender_json());
        c.push(b',');
        self.lines.clear();
        for recipient in taken.envelope.recipients_json() {
            self.lines.extend_from_slice(&self.common);
            self.lines.extend_from_slice(recipient);
            self.lines.extend_from_slice(b"}\n");
        }
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    assert!(out.write_fmt(text).is_ok(), "writing to memory can't fail");
}

fn append_sha1(out: &mut Vec<u8>, octets: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for octet in Sha1::digest(octets) {
        out.extend_from_slice(&[HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_a_death_cut_short_is_cut_off_and_the_next_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        for (before, after) in [
            ("", ""),
            ("{}\n", "{}\n"),
            ("{}\n{\"time", "{}\n"),
            ("{\"time", ""),
            ("\n", "\n"),
            ("{}\n\0\0\0\0\0\0\0\0\0\0\0", "{}\n"),
            ("notes", "notes\n"),
        ] {
            std::fs::write(&path, before).unwrap();
            append_to(&path).unwrap().write_all(b"[]\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{after}[]\n"), "{before:?}");
        }
    }
}
