//! One row of a list, in buffers that are used again.

use super::error::BadRow;

/// The buffers of a row; give the same one to every call of `RecipientReader::next`.
#[derive(Debug, Default)]
pub struct Row {
    pub(super) line: u64,
    /// The values, unquoted; each is a span of it.
    pub(super) text: String,
    pub(super) spans: Vec<Span>,
    pub(super) address: Span,
    /// A bad line as it stood in the file.
    pub(super) raw: Vec<u8>,
    pub(super) bad: Option<BadRow>,
}

/// Octets `start..end` of `Row::text`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Span {
        // Rows are bounded far below 4 GiB (`lines::ROW_OCTETS_MAX`).
        debug_assert!(end <= u32::MAX as usize);
        Span { start: start as u32, end: end as u32 }
    }

    fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }
}

/// A row of a list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RowRef<'a> {
    /// A recipient. `line` is the physical line where the row starts, from 1; `values` come in the order of
    /// `RecipientReader::columns`, the address among them.
    Ok { line: u64, address: &'a str, values: Values<'a> },
    /// A line that can't be used: `raw` is what stands there, without its line end, cut at 64 KiB.
    Bad { line: u64, reason: BadRow, raw: &'a [u8] },
}

/// The values of a row, in column order.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    text: &'a str,
    spans: &'a [Span],
}

impl PartialEq for Values<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a> Values<'a> {
    /// As many as there are columns.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The value of the column `index`.
    pub fn get(&self, index: usize) -> Option<&'a str> {
        self.spans.get(index).map(|span| span.of(self.text))
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let text = self.text;
        self.spans.iter().map(move |span| span.of(text))
    }
}

impl Row {
    pub fn new() -> Row {
        Row::default()
    }

    pub(super) fn clear(&mut self, line: u64) {
        self.line = line;
        self.text.clear();
        self.spans.clear();
        self.raw.clear();
        self.bad = None;
    }

    pub(super) fn span_text(&self, span: Span) -> &str {
        span.of(&self.text)
    }

    /// `span` without the white space around it.
    pub(super) fn trimmed(&self, span: Span) -> Span {
        let text = self.span_text(span);
        let start = span.start as usize + (text.len() - text.trim_start().len());
        Span::new(start, start + text.trim().len())
    }

    pub(super) fn set_bad(&mut self, reason: BadRow, raw: &[u8]) {
        self.bad = Some(reason);
        self.raw.clear();
        self.raw.extend_from_slice(raw);
    }

    pub(super) fn as_ref(&self) -> RowRef<'_> {
        match self.bad {
            Some(reason) => RowRef::Bad { line: self.line, reason, raw: &self.raw },
            None => RowRef::Ok {
                line: self.line,
                address: self.address.of(&self.text),
                values: Values { text: &self.text, spans: &self.spans },
            },
        }
    }
}
