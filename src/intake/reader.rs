//! The rows of a list of recipients, streamed: CSV, a plain list, or NDJSON, from a file or `-`.
//!
//! Guarantees: every physical line that isn't blank (or a comment of a plain list, or the header of CSV)
//! belongs to exactly one row, and each row comes back as `Ok` or as `Bad`; memory is one buffer of 256 KiB
//! and the caller's [`Row`], whatever the file; an address in an `Ok` row passed [`address::check`] and has
//! no white space around it. Values are as in the file: line ends and controls in them are for rendering to
//! judge.
//!
//! Errors: [`IntakeError`] when the file can't be read, isn't text, or has no header or column that tells
//! which field is the address. A line that is wrong by itself is a [`RowRef::Bad`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::address;
use super::csv::{self, Extent, StillQuoted};
use super::error::{BadRow, IntakeError};
use super::lines::{LineEnd, Lines, ROW_OCTETS_MAX, is_blank, without_cr};
use super::ndjson;
use super::plain;
use super::row::{Row, RowRef};
use super::sniff;

/// Columns of a list, at most: a record of the spool counts its values in 16 bits, and no list that is
/// meant has as many.
pub const COLUMNS_MAX: usize = 1024;

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Told by the first line and the file's extension.
    #[default]
    Auto,
    /// A header line, then rows, delimited by `,`, `;` or tab (told by the header).
    Csv,
    /// One address a line; `#` starts a comment line.
    List,
    /// One flat JSON object a line.
    Ndjson,
}

/// A list of recipients being read.
pub struct RecipientReader {
    lines: Lines,
    /// As messages name it.
    path: String,
    kind: Kind,
    columns: Vec<String>,
    address_column: usize,
    still_quoted: StillQuoted,
    /// NDJSON: where each key stands in `columns`.
    places: ndjson::Places,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Csv { delimiter: u8 },
    List,
    Ndjson,
}

impl RecipientReader {
    /// Opens `source` (`-`: standard input), reads as far as its header, and finds the column of addresses:
    /// `column`, or the one whose name says so (`email`, `E-Mail Address`, `recipient`, …).
    ///
    /// # Errors
    /// [`IntakeError`]: unreadable, empty, not text, no column or more than one for the address, a first
    /// recipient where the header should be.
    pub fn open(source: &Path, format: Format, column: Option<&str>) -> Result<RecipientReader, IntakeError> {
        if source == Path::new("-") {
            return RecipientReader::from_read(Box::new(io::stdin()), "standard input", format, column);
        }
        let path = source.display().to_string();
        match File::open(source) {
            Ok(file) => RecipientReader::from_read(Box::new(file), &path, format, column),
            Err(error) => Err(IntakeError::Read { path, source: error }),
        }
    }

    /// As [`RecipientReader::open`], from anything that reads; `path` names it in messages, and its extension
    /// helps `Format::Auto`.
    ///
    /// # Errors
    /// As [`RecipientReader::open`].
    pub fn from_read(
        input: Box<dyn Read + Send>,
        path: &str,
        format: Format,
        column: Option<&str>,
    ) -> Result<RecipientReader, IntakeError> {
        let mut lines = Lines::new(input);
        sniff::start(&mut lines, path)?;
        let extension = Path::new(path).extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
        let format = match format {
            Format::Auto => sniff::format(&mut lines, path, extension.as_deref(), column)?,
            given => given,
        };
        let kind = match format {
            Format::Auto | Format::Csv => Kind::Csv { delimiter: b',' },
            Format::List => Kind::List,
            Format::Ndjson => Kind::Ndjson,
        };
        let mut reader = RecipientReader {
            lines,
            path: path.into(),
            kind,
            columns: Vec::new(),
            address_column: 0,
            still_quoted: StillQuoted::default(),
            places: ndjson::Places::default(),
        };
        match kind {
            Kind::Csv { .. } => reader.read_header(column)?,
            Kind::Ndjson => reader.read_keys(column)?,
            Kind::List => {
                if let Some(column) = column.filter(|c| !c.eq_ignore_ascii_case("email")) {
                    return Err(IntakeError::ColumnOfList { path: path.into(), column: column.into() });
                }
                reader.columns.push("email".into());
            }
        }
        Ok(reader)
    }

    /// The names of the columns, in order: the header of CSV, the keys of the first object of NDJSON, `email`
    /// of a plain list. None stands there twice.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The index in [`RecipientReader::columns`] of the address.
    pub fn address_column(&self) -> usize {
        self.address_column
    }

    /// The format that was given or told; never `Auto`.
    pub fn format(&self) -> Format {
        match self.kind {
            Kind::Csv { .. } => Format::Csv,
            Kind::List => Format::List,
            Kind::Ndjson => Format::Ndjson,
        }
    }

    /// The next row, in the buffers of `row`; `None` at the end.
    ///
    /// # Errors
    /// [`IntakeError::Read`] when the file can't be read on.
    #[inline]
    pub fn next<'row>(&mut self, row: &'row mut Row) -> Result<Option<RowRef<'row>>, IntakeError> {
        match self.read_row(row) {
            Ok(true) => Ok(Some(row.as_ref())),
            Ok(false) => Ok(None),
            Err(source) => Err(self.read_error(source)),
        }
    }

    fn read_row(&mut self, row: &mut Row) -> io::Result<bool> {
        loop {
            row.clear(self.lines.line());
            let first = match self.lines.line_end(0)? {
                LineEnd::Lf(at) => Extent { octets: at, octets_taken: at + 1, lines: 1 },
                LineEnd::Eof(0) => return Ok(false),
                LineEnd::Eof(at) => Extent { octets: at, octets_taken: at, lines: 1 },
                LineEnd::TooLong => {
                    row.set_bad(
                        BadRow::TooLong { max: ROW_OCTETS_MAX },
                        &self.lines.unread()[..ROW_OCTETS_MAX],
                    );
                    self.lines.skip_line()?;
                    return Ok(true);
                }
            };
            let line = without_cr(&self.lines.unread()[..first.octets]);
            if is_blank(line) || (self.kind == Kind::List && plain::is_comment(line)) {
                self.lines.consume(first.octets_taken, 1);
                continue;
            }
            let (extent, parsed) = match self.kind {
                Kind::List => (first, plain::parse(line, row)),
                Kind::Ndjson => (first, ndjson::parse(line, &self.columns, &self.places, row)),
                Kind::Csv { delimiter } => self.parse_csv(first, delimiter, row)?,
            };
            if let Err(reason) = parsed.and_then(|()| self.check(row)) {
                row.set_bad(reason, without_cr(&self.lines.unread()[..extent.octets]));
            }
            self.lines.consume(extent.octets_taken, extent.lines);
            return Ok(true);
        }
    }

    #[inline]
    fn parse_csv(
        &mut self,
        first: Extent,
        delimiter: u8,
        row: &mut Row,
    ) -> io::Result<(Extent, Result<(), BadRow>)> {
        let line = without_cr(&self.lines.unread()[..first.octets]);
        if memchr::memchr(b'"', line).is_none() {
            return Ok((first, csv::split_bare(line, delimiter, row)));
        }
        Ok(match csv::quoted_extent(&mut self.lines, delimiter, first, &mut self.still_quoted)? {
            Ok(extent) => {
                let raw = &self.lines.unread()[..extent.octets];
                (extent, csv::split_quoted(raw, delimiter, row))
            }
            Err(reason) => (first, Err(reason)),
        })
    }

    /// Whether the fields of `row` fit the columns, and its address can be mailed.
    #[inline]
    fn check(&self, row: &mut Row) -> Result<(), BadRow> {
        if row.spans.len() != self.columns.len() {
            return Err(BadRow::FieldCount { found: row.spans.len(), expected: self.columns.len() });
        }
        row.address = row.trimmed(row.spans[self.address_column]);
        row.spans[self.address_column] = row.address;
        Ok(address::check(row.span_text(row.address))?)
    }

    /// CSV: the first row that isn't blank names the columns.
    fn read_header(&mut self, column: Option<&str>) -> Result<(), IntakeError> {
        let Some(first) = self.peek_line()? else {
            return Err(IntakeError::Empty { path: self.path.clone() });
        };
        let line = self.lines.line();
        let octets = without_cr(&self.lines.unread()[..first.octets]);
        if memchr::memchr(b'\r', octets).is_some() {
            return Err(self.header_error(line, BadRow::LoneCarriageReturns));
        }
        let delimiter = sniff::delimiter(octets).unwrap_or(b',');
        self.kind = Kind::Csv { delimiter };
        let mut row = Row::new();
        let parsed = self.parse_csv(first, delimiter, &mut row);
        let (extent, split) = parsed.map_err(|source| self.read_error(source))?;
        split.map_err(|reason| self.header_error(line, reason))?;
        self.lines.consume(extent.octets_taken, extent.lines);
        if row.spans.len() > COLUMNS_MAX {
            return Err(self.header_error(line, BadRow::TooManyColumns { max: COLUMNS_MAX }));
        }
        for (i, &span) in row.spans.iter().enumerate() {
            let name = row.span_text(span).trim();
            // An export that ends each line with a delimiter has a last column without a name.
            self.columns.push(if name.is_empty() { format!("column_{}", i + 1) } else { name.into() });
        }
        self.address_column = sniff::address_column(&self.columns, column, &self.path, line)?;
        Ok(())
    }

    /// NDJSON: the first object names the columns, and is a row too.
    fn read_keys(&mut self, column: Option<&str>) -> Result<(), IntakeError> {
        let Some(first) = self.peek_line()? else {
            return Err(IntakeError::Empty { path: self.path.clone() });
        };
        let line = self.lines.line();
        self.columns = ndjson::keys(&self.lines.unread()[..first.octets])
            .map_err(|reason| self.header_error(line, reason))?;
        if self.columns.len() > COLUMNS_MAX {
            return Err(self.header_error(line, BadRow::TooManyColumns { max: COLUMNS_MAX }));
        }
        self.places = ndjson::places(&self.columns);
        self.address_column = sniff::address_column(&self.columns, column, &self.path, line)?;
        Ok(())
    }

    /// The first line that isn't blank, not yet consumed.
    fn peek_line(&mut self) -> Result<Option<Extent>, IntakeError> {
        loop {
            let extent = match self.lines.line_end(0).map_err(|source| self.read_error(source))? {
                LineEnd::Lf(at) => Extent { octets: at, octets_taken: at + 1, lines: 1 },
                LineEnd::Eof(0) => return Ok(None),
                LineEnd::Eof(at) => Extent { octets: at, octets_taken: at, lines: 1 },
                LineEnd::TooLong => {
                    return Err(self.header_error(self.lines.line(), BadRow::TooLong { max: ROW_OCTETS_MAX }));
                }
            };
            if !is_blank(&self.lines.unread()[..extent.octets]) {
                return Ok(Some(extent));
            }
            self.lines.consume(extent.octets_taken, 1);
        }
    }

    fn read_error(&self, source: io::Error) -> IntakeError {
        IntakeError::Read { path: self.path.clone(), source }
    }

    fn header_error(&self, line: u64, reason: BadRow) -> IntakeError {
        IntakeError::Header { path: self.path.clone(), line, reason }
    }
}
