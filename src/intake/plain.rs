//! Lines of a plain list: one address each, bare or as `<address>`.
//!
//! `Name <address>` is a bad line: a name dropped without a word is a name that somebody wanted merged.

use super::error::BadRow;
use super::row::{Row, Span};

/// Whether the line is a comment.
pub(super) fn is_comment(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"#")
}

/// Reads `line` into the one column of `row`.
pub(super) fn parse(line: &[u8], row: &mut Row) -> Result<(), BadRow> {
    let text = std::str::from_utf8(line).map_err(|_| BadRow::NotUtf8)?;
    let address = bare(text)?;
    row.text.push_str(address);
    row.spans.push(Span::new(0, address.len()));
    Ok(())
}

/// The address of `bob@example.org` or `<bob@example.org>`, not yet checked.
pub(super) fn bare(text: &str) -> Result<&str, BadRow> {
    let text = text.trim();
    match text.strip_suffix('>') {
        None => Ok(text),
        Some(open) => match open.strip_prefix('<') {
            Some(address) => Ok(address.trim()),
            None if open.contains('<') => Err(BadRow::NameBesideAddress),
            None => Ok(text),
        },
    }
}
