//! The physical lines of a file or of standard input, in one bounded buffer.
//!
//! A line ends with LF or CRLF. No more than the buffer (256 KiB) is ever held; a line of more than
//! [`ROW_OCTETS_MAX`] is found too long without being held whole.

use std::io::{self, Read};

/// A row, its line ends included, is at most this long.
pub const ROW_OCTETS_MAX: usize = 64 * 1024;
const BUFFER_OCTETS: usize = 256 * 1024;
const _: () = assert!(BUFFER_OCTETS >= 2 * (ROW_OCTETS_MAX + 2));

pub(super) struct Lines {
    input: Box<dyn Read + Send>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    at_eof: bool,
    /// The number, from 1, of the line that starts at `start`.
    line: u64,
    /// Octets of the input before `start`.
    offset: u64,
}

/// Where a line ends, counted from the start of what is unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// The LF stands here.
    Lf(usize),
    /// The input ends here, without an LF.
    Eof(usize),
    /// No end within `ROW_OCTETS_MAX`.
    TooLong,
}

impl Lines {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Lines {
        let buffer = vec![0; BUFFER_OCTETS].into_boxed_slice();
        Lines { input, buffer, start: 0, end: 0, at_eof: false, line: 1, offset: 0 }
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Where in the input the unread begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads until `octets` are unread, or until the input ends.
    pub(super) fn fill(&mut self, octets: usize) -> io::Result<&[u8]> {
        while self.end - self.start < octets && self.read_more()? {}
        Ok(self.unread())
    }

    /// The end of the line that holds the unread octet `from`.
    #[inline]
    pub(super) fn line_end(&mut self, from: usize) -> io::Result<LineEnd> {
        let mut searched = from;
        loop {
            let unread = self.unread();
            let window = &unread[searched.min(unread.len())..unread.len().min(ROW_OCTETS_MAX)];
            if let Some(i) = memchr::memchr(b'\n', window) {
                return Ok(LineEnd::Lf(searched + i));
            }
            if unread.len() >= ROW_OCTETS_MAX {
                return Ok(LineEnd::TooLong);
            }
            searched = unread.len();
            if !self.read_more()? {
                return Ok(LineEnd::Eof(searched));
            }
        }
    }

    /// Takes `octets` of the unread, which hold `lines` line ends.
    #[inline]
    pub(super) fn consume(&mut self, octets: usize, lines: u64) {
        self.start += octets;
        assert!(self.start <= self.end, "more is consumed than was read");
        self.line += lines;
        self.offset += octets as u64;
    }

    /// Takes the rest of a line of any length, its LF included.
    pub(super) fn skip_line(&mut self) -> io::Result<()> {
        loop {
            if let Some(i) = memchr::memchr(b'\n', self.unread()) {
                self.consume(i + 1, 1);
                return Ok(());
            }
            self.offset += (self.end - self.start) as u64;
            self.start = self.end;
            if !self.read_more()? {
                self.line += 1;
                return Ok(());
            }
        }
    }

    /// False at the end of the input, and when the buffer is full.
    fn read_more(&mut self) -> io::Result<bool> {
        if self.at_eof {
            return Ok(false);
        }
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.buffer.len() - self.end < ROW_OCTETS_MAX && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            return Ok(false);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.at_eof = true;
                    return Ok(false);
                }
                Ok(octets) => {
                    self.end += octets;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A line without the CR before its LF.
#[inline]
pub(super) fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Only spaces and tabs, or nothing.
#[inline]
pub(super) fn is_blank(line: &[u8]) -> bool {
    match line.first() {
        None => true,
        Some(b' ' | b'\t' | b'\r') => line.iter().all(|c| matches!(c, b' ' | b'\t' | b'\r')),
        Some(_) => false,
    }
}
