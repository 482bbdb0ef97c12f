//! What a file is, before its first row: its format, its delimiter, its column of addresses.
//!
//! Each guess errs towards an error that names the remedy, because a wrong guess mails the wrong list.

use std::io;

use super::address;
use super::error::IntakeError;
use super::lines::{LineEnd, Lines, is_blank, without_cr};
use super::plain;
use super::reader::Format;

/// Names of the column of addresses, letters and digits only, in lower case; a name of an earlier line wins.
const ADDRESS_COLUMNS: [&[&str]; 3] = [
    &["email", "emailaddress"],
    &["mail", "mailaddress", "recipient", "recipientemail", "recipientaddress", "rcpt", "rcptto", "to"],
    // Last, because it is as often a postal address.
    &["address", "addresses", "emails", "recipients"],
];

/// Drops a UTF-8 byte order mark; refuses what isn't text in an encoding that extends ASCII.
pub(super) fn start(lines: &mut Lines, path: &str) -> Result<(), IntakeError> {
    let read = |source| IntakeError::Read { path: path.into(), source };
    let head = lines.fill(4).map_err(read)?;
    let fault = match head {
        [] => return Err(IntakeError::Empty { path: path.into() }),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            Some(("UTF-16 text", "convert it to UTF-8, e.g. iconv -f UTF-16 -t UTF-8"))
        }
        [b'P', b'K', 3, 4, ..] => {
            Some(("a ZIP archive or a spreadsheet", "export the sheet as CSV in UTF-8"))
        }
        [0x1f, 0x8b, ..] => Some(("compressed by gzip", "hand it in through zcat FILE | … -")),
        _ => None,
    };
    if let Some((what, remedy)) = fault {
        return Err(IntakeError::NotText { path: path.into(), what, remedy });
    }
    if head.starts_with(b"\xef\xbb\xbf") {
        lines.consume(3, 0);
    }
    Ok(())
}

/// The format of a file whose format wasn't given.
pub(super) fn format(
    lines: &mut Lines,
    path: &str,
    extension: Option<&str>,
    column: Option<&str>,
) -> Result<Format, IntakeError> {
    let first = first_line(lines).map_err(|source| IntakeError::Read { path: path.into(), source })?;
    let text = String::from_utf8_lossy(&first);
    let text = text.trim();
    if text.starts_with('{') {
        return Ok(Format::Ndjson);
    }
    if text.starts_with('[') && extension != Some("csv") {
        return Err(IntakeError::NotText {
            path: path.into(),
            what: "a JSON array",
            remedy: "write one object a line, e.g. jq -c '.[]'",
        });
    }
    match extension {
        Some("ndjson" | "jsonl") => return Ok(Format::Ndjson),
        _ if is_one_address(text) => return Ok(Format::List),
        Some("csv" | "tsv") => return Ok(Format::Csv),
        _ => {}
    }
    let one_field = delimiter(&first).is_none();
    let is_header = address_rank(text).is_some() || column.is_some();
    Ok(if one_field && !is_header { Format::List } else { Format::Csv })
}

/// The first line that is neither blank nor a comment, of those that a full buffer shows; else empty.
fn first_line(lines: &mut Lines) -> io::Result<Vec<u8>> {
    let mut from = 0;
    loop {
        let (end, next) = match lines.line_end(from)? {
            LineEnd::Lf(at) => (at, at + 1),
            LineEnd::Eof(at) => (at, at),
            LineEnd::TooLong => return Ok(Vec::new()),
        };
        let line = without_cr(&lines.unread()[from..end]);
        if !is_blank(line) && !plain::is_comment(line) {
            return Ok(line.to_vec());
        }
        if end == next {
            return Ok(Vec::new());
        }
        from = next;
    }
}

/// The delimiter that stands most often in a header, outside quotes; `None` when there is none of the three.
pub(super) fn delimiter(header: &[u8]) -> Option<u8> {
    const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];
    let mut counts = [0_usize; 3];
    let mut quoted = false;
    for &octet in header {
        quoted ^= octet == b'"';
        if let (false, Some(i)) = (quoted, DELIMITERS.iter().position(|&d| d == octet)) {
            counts[i] += 1;
        }
    }
    let most = counts.into_iter().max().filter(|&most| most > 0)?;
    DELIMITERS.into_iter().zip(counts).find(|&(_, count)| count == most).map(|(delimiter, _)| delimiter)
}

fn is_one_address(text: &str) -> bool {
    plain::bare(text).is_ok_and(|address| address::check(address).is_ok())
}

/// How well a column name says "address": 0 is best.
fn address_rank(name: &str) -> Option<usize> {
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    ADDRESS_COLUMNS.iter().position(|names| names.contains(&name.as_str()))
}

/// Which of `columns`, which stand on `line`, holds the address.
pub(super) fn address_column(
    columns: &[String],
    wanted: Option<&str>,
    path: &str,
    line: u64,
) -> Result<usize, IntakeError> {
    if let Some(address) = columns.iter().find(|name| is_one_address(name)) {
        return Err(IntakeError::HeaderIsAddress { path: path.into(), line, address: address.clone() });
    }
    for (i, column) in columns.iter().enumerate() {
        if columns[..i].contains(column) {
            return Err(IntakeError::ColumnTwice { path: path.into(), line, column: column.clone() });
        }
    }
    let names = || columns.to_vec();
    let matches: Vec<usize> = match wanted {
        Some(wanted) => {
            if let Some(exact) = columns.iter().position(|name| name == wanted) {
                return Ok(exact);
            }
            let wanted = wanted.trim().to_lowercase();
            (0..columns.len()).filter(|&i| columns[i].to_lowercase() == wanted).collect()
        }
        None => {
            let best = columns.iter().filter_map(|name| address_rank(name)).min();
            (0..columns.len()).filter(|&i| best.is_some() && address_rank(&columns[i]) == best).collect()
        }
    };
    match (matches.as_slice(), wanted) {
        (&[one], _) => Ok(one),
        ([], Some(wanted)) => Err(IntakeError::NoSuchColumn {
            path: path.into(),
            line,
            column: wanted.into(),
            columns: names(),
        }),
        ([], None) => Err(IntakeError::NoAddressColumn { path: path.into(), line, columns: names() }),
        (several, _) => Err(IntakeError::AmbiguousColumn {
            path: path.into(),
            line,
            columns: several.iter().map(|&i| columns[i].clone()).collect(),
        }),
    }
}
