//! Rows of CSV (RFC 4180): `,`, `;` or tab between fields, a field may be quoted and then hold delimiters,
//! line ends and doubled quotes. A quote within a bare field is text, as spreadsheets write it.
//!
//! A row whose quoting is broken costs its first physical line, and reading goes on at the next: one stray
//! quote doesn't swallow the recipients that follow. Nor does it cost much: what was found to be quoted
//! throughout is not looked at again from the next line on ([`StillQuoted`]).

use std::io;

use super::error::BadRow;
use super::lines::{LineEnd, Lines, ROW_OCTETS_MAX, without_cr};
use super::row::{Row, Span};

/// What a row takes up of the unread input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Without its last line end.
    pub octets: usize,
    /// With its last line end.
    pub octets_taken: usize,
    /// Physical lines.
    pub lines: u64,
}

/// Splits a row that holds no quote.
#[inline]
pub(super) fn split_bare(line: &[u8], delimiter: u8, row: &mut Row) -> Result<(), BadRow> {
    let text = std::str::from_utf8(line).map_err(|_| BadRow::NotUtf8)?;
    row.text.push_str(text);
    let mut start = 0;
    for end in memchr::memchr_iter(delimiter, line) {
        row.spans.push(Span::new(start, end));
        start = end + 1;
    }
    row.spans.push(Span::new(start, line.len()));
    Ok(())
}

/// What the last row whose quote was not closed told: every line that starts within it is inside that
/// field, up to its end. Offsets are those of the input.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StillQuoted {
    from: u64,
    to: u64,
    /// The number of the line that starts at `to`.
    line: u64,
}

impl StillQuoted {
    /// A row that is inside a field where a line starts, `octets` into the unread: where it is known to be
    /// so for the last time, in the same count, and the lines between.
    fn jump(&self, lines: &Lines, octets: usize, lines_before: u64) -> Option<(usize, u64)> {
        let at = lines.offset() + octets as u64;
        let ahead = usize::try_from(self.to.checked_sub(at).filter(|_| at >= self.from)?).ok()?;
        let lines_between = self.line.checked_sub(lines.line() + lines_before)?;
        (ahead > 0).then_some((octets + ahead, lines_between))
    }
}

/// Where the row that starts at the unread input ends; `first` is the extent of its first physical line.
///
/// `Ok(Err(_))`: its quoting is broken.
pub(super) fn quoted_extent(
    lines: &mut Lines,
    delimiter: u8,
    first: Extent,
    known: &mut StillQuoted,
) -> io::Result<Result<Extent, BadRow>> {
    let mut extent = first;
    let mut state = State::FieldStart;
    let mut scanned = 0;
    // where its second line starts
    let from = lines.offset() + first.octets_taken as u64;
    loop {
        let line_start = scanned;
        let unread = lines.unread();
        let line_octets = without_cr(&unread[line_start..extent.octets]).len();
        for &octet in &unread[line_start..line_start + line_octets] {
            state = match (state, octet) {
                (State::FieldStart, b'"') => State::Quoted,
                (State::Quoted, b'"') => State::QuoteInQuoted,
                (State::Quoted, _) => State::Quoted,
                (State::QuoteInQuoted, b'"') => State::Quoted,
                (_, octet) if octet == delimiter => State::FieldStart,
                (State::QuoteInQuoted, _) => return Ok(Err(BadRow::TextAfterQuote)),
                (State::FieldStart | State::Bare, _) => State::Bare,
            };
        }
        if state != State::Quoted {
            return Ok(Ok(extent));
        }
        if extent.octets == extent.octets_taken {
            let (to, line) = (lines.offset() + scanned as u64, lines.line() + extent.lines - 1);
            *known = StillQuoted { from, to, line };
            return Ok(Err(BadRow::QuoteNotClosed));
        }
        scanned = extent.octets_taken;
        if let Some((there, lines_between)) = known.jump(lines, scanned, extent.lines) {
            scanned = there;
            extent.lines += lines_between;
        }
        let (octets, octets_taken) = match lines.line_end(scanned)? {
            LineEnd::Lf(at) => (at, at + 1),
            LineEnd::Eof(at) if at > scanned => (at, at),
            LineEnd::Eof(_) | LineEnd::TooLong => {
                let (to, line) = (lines.offset() + scanned as u64, lines.line() + extent.lines);
                *known = StillQuoted { from, to, line };
                return Ok(Err(BadRow::QuoteNotClosed));
            }
        };
        debug_assert!(octets <= ROW_OCTETS_MAX);
        extent = Extent { octets, octets_taken, lines: extent.lines + 1 };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Bare,
    Quoted,
    /// After a quote within a quoted field: its end, or the first half of a doubled one.
    QuoteInQuoted,
}

/// Splits a row whose extent `quoted_extent` found.
pub(super) fn split_quoted(raw: &[u8], delimiter: u8, row: &mut Row) -> Result<(), BadRow> {
    let mut rest = std::str::from_utf8(without_cr(raw)).map_err(|_| BadRow::NotUtf8)?;
    loop {
        let start = row.text.len();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = push_quoted(quoted, row)?;
        } else {
            let end = memchr::memchr(delimiter, rest.as_bytes()).unwrap_or(rest.len());
            row.text.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        row.spans.push(Span::new(start, row.text.len()));
        match rest.as_bytes().first() {
            None => return Ok(()),
            Some(&octet) if octet == delimiter => rest = &rest[1..],
            Some(_) => return Err(BadRow::TextAfterQuote),
        }
    }
}

/// Appends a quoted field to `row.text`; returns what follows its closing quote.
fn push_quoted<'a>(mut rest: &'a str, row: &mut Row) -> Result<&'a str, BadRow> {
    loop {
        let quote = memchr::memchr(b'"', rest.as_bytes()).ok_or(BadRow::QuoteNotClosed)?;
        row.text.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                row.text.push('"');
                rest = after;
            }
            None => return Ok(rest),
        }
    }
}
