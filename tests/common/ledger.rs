//! The sink's ledger: one JSON object a line for each recipient that it accepted.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Entry {
    /// RFC 3339, UTC.
    pub time: String,
    /// Which connection it came over.
    pub connection: u64,
    /// The sink's, as in its reply.
    #[serde(default)]
    pub queue_id: String,
    /// Envelope sender; empty for the null sender.
    pub sender: String,
    /// Envelope recipient.
    pub recipient: String,
    pub message_id: Option<String>,
    /// SHA-1 of the content, in hex.
    pub content_sha1: String,
    /// SHA-1 of what follows the first empty line, in hex.
    pub body_sha1: String,
}

/// Reads the ledger at `path`.
///
/// # Panics
/// On a line that is none, naming it.
pub fn read_ledger(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    parse_ledger(&text)
}

/// Reads the text of a ledger.
///
/// # Panics
/// On a line that is none, naming it.
pub fn parse_ledger(text: &str) -> Vec<Entry> {
    text.lines()
        .enumerate()
        .map(|(i, line)| serde_json::from_str(line).unwrap_or_else(|e| panic!("line {}: {e}: {line}", i + 1)))
        .collect()
}

/// A ledger that is still being written: gives what has been added since it was last asked.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// Octets read as whole lines.
    offset: u64,
}

impl Tail {
    /// From the beginning of the file, which need not be there yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: 0 }
    }

    /// Lines that wait to be read.
    pub fn waiting(&self) -> usize {
        self.unread().iter().filter(|&&octet| octet == b'\n').count()
    }

    /// Reads the whole lines that have come.
    ///
    /// # Panics
    /// On a line that is no entry, naming it.
    pub fn read(&mut self) -> Vec<Entry> {
        let mut octets = self.unread();
        let end = octets.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
        octets.truncate(end);
        self.offset += end as u64;
        parse_ledger(&String::from_utf8(octets).expect("a ledger is UTF-8"))
    }

    fn unread(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        // not written to so far: nothing was accepted
        if let Ok(mut file) = File::open(&self.path) {
            file.seek(SeekFrom::Start(self.offset)).expect("a ledger is a file");
            file.read_to_end(&mut octets).expect("the ledger is ours to read");
        }
        octets
    }
}
