//! The sink's ledger: one JSON object a line for each recipient that it accepted.

use std::path::Path;

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Entry {
    /// RFC 3339, UTC.
    pub time: String,
    /// Which connection it came over.
    pub connection: u64,
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
