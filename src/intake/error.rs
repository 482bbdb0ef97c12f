//! What can go wrong in intake: with the whole ([`IntakeError`]), and with one line ([`BadRow`]).

use std::io;
use std::path::PathBuf;

use super::address::AddressFault;

/// An error that ends a submission. Nothing of the job exists afterwards.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("{path}: can't be read: {source}; check the path and its permissions")]
    Read { path: String, source: io::Error },
    #[error("{path}: is empty; a list needs at least one line")]
    Empty { path: String },
    #[error("{path}: {what}; {remedy}")]
    NotText { path: String, what: &'static str, remedy: &'static str },
    #[error(
        "{path}, line {line}: no column of addresses among: {}; rename one to `email`, or name it with --column",
        list(columns)
    )]
    NoAddressColumn { path: String, line: u64, columns: Vec<String> },
    #[error(
        "{path}, line {line}: no column `{column}` among: {}; name one of these with --column",
        list(columns)
    )]
    NoSuchColumn { path: String, line: u64, column: String, columns: Vec<String> },
    #[error(
        "{path}, line {line}: more than one column could hold the address: {}; choose one with --column",
        list(columns)
    )]
    AmbiguousColumn { path: String, line: u64, columns: Vec<String> },
    #[error("{path}, line {line}: the column `{column}` stands there twice; give each column its own name")]
    ColumnTwice { path: String, line: u64, column: String },
    #[error(
        "{path}, line {line}: `{address}` stands where the names of the columns should: the file has no header \
         line, and its first recipient would be lost; put a line such as `email,first_name` before it"
    )]
    HeaderIsAddress { path: String, line: u64, address: String },
    #[error("{path}, line {line}: the header can't be read: {reason}")]
    Header { path: String, line: u64, reason: BadRow },
    #[error(
        "{path}: a plain list has no columns, so --column `{column}` has no meaning; leave it out, or hand in CSV or NDJSON"
    )]
    ColumnOfList { path: String, column: String },
    #[error("more than {max} recipients in one job; split the list")]
    TooManyRecipients { max: u64 },
    #[error("{}: the rejected lines can't be written: {source}; make room, or choose another file", path.display())]
    Rejects { path: PathBuf, source: io::Error },
    #[error("{}: the suppression list can't be read: {source}; nothing is sent without it", path.display())]
    Suppression { path: PathBuf, source: io::Error },
    #[error(
        "{}: the suppression list is empty; where nobody is to be suppressed, let it hold a line that starts with #",
        path.display()
    )]
    SuppressionEmpty { path: PathBuf },
    #[error(
        "{}: the suppression list changed while it was read; write a new file and rename it over the old one",
        path.display()
    )]
    SuppressionChanging { path: PathBuf },
    #[error(
        "{}, line {line}: `{text}` is not an entry of a suppression list: {reason}; a line holds one address, \
         or `@` and a domain, or starts with `#`",
        path.display()
    )]
    SuppressionLine { path: PathBuf, line: u64, text: String, reason: BadRow },
}

/// Why one line of a list can't be used. It goes to the rejects file, and the rest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    #[error(transparent)]
    Address(#[from] AddressFault),
    #[error("not UTF-8; convert the file, e.g. iconv -f LATIN1 -t UTF-8")]
    NotUtf8,
    #[error("{found} fields where the header has {expected}")]
    FieldCount { found: usize, expected: usize },
    #[error("a quoted field is not closed within 64 KiB")]
    QuoteNotClosed,
    #[error("text after the closing quote of a field")]
    TextAfterQuote,
    #[error("longer than {max} octets")]
    TooLong { max: usize },
    #[error("a name beside the address; a plain list holds only the address, CSV holds names in columns")]
    NameBesideAddress,
    #[error("not a JSON object on one line (octet {at})")]
    Json { at: usize },
    #[error("a nested value (octet {at}); only strings, numbers, true, false and null can be merged")]
    NestedValue { at: usize },
    #[error("a key that stands there twice (octet {at})")]
    KeyTwice { at: usize },
    #[error("more than {max} columns; leave out those that no message needs")]
    TooManyColumns { max: usize },
    #[error("lone carriage returns as line ends; convert the file, e.g. tr '\\r' '\\n'")]
    LoneCarriageReturns,
}

/// Column names for a message: quoted, bounded, without control characters.
fn list(columns: &[String]) -> String {
    const SHOWN_MAX: usize = 40;
    let mut text = String::new();
    for (i, column) in columns.iter().take(SHOWN_MAX).enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        text.push('`');
        text.extend(column.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }));
        text.push('`');
    }
    if columns.len() > SHOWN_MAX {
        text.push_str(", …");
    }
    text
}
