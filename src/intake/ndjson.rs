//! Rows of NDJSON: one flat JSON object (RFC 8259) on each line.
//!
//! The columns are the keys of the first object. In the others a missing key and `null` give the empty
//! value, a key that the first object lacks is passed over; numbers, `true` and `false` become the text that
//! stands in the file (`1.50` stays `1.50`); a nested value makes the line bad.
//!
//! Read by hand rather than through `serde_json::Value`, which would sort the keys, lose the digits of
//! numbers, and allocate for every value; `serde_json` still reads what is escaped.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::error::BadRow;
use super::row::{Row, Span};

/// Spans of values not seen yet in the row.
const UNSEEN: Span = Span { start: u32::MAX, end: u32::MAX };

/// The keys of the object, in order.
pub(super) fn keys(line: &[u8]) -> Result<Vec<String>, BadRow> {
    let mut object = Object::open(line)?;
    let (mut keys, mut seen) = (Vec::new(), HashSet::new());
    while let Some((key, _)) = object.next_pair()? {
        if !seen.insert(key.clone()) {
            return Err(BadRow::KeyTwice { at: object.at });
        }
        keys.push(key.into_owned());
    }
    Ok(keys)
}

/// Where each key stands among the columns: objects may have theirs in any order, and many.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<String, usize>);

/// The places of these columns.
pub(super) fn places(columns: &[String]) -> Places {
    Places(columns.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect())
}

/// Reads the object on `line` into `row`, one span a column.
pub(super) fn parse(line: &[u8], columns: &[String], places: &Places, row: &mut Row) -> Result<(), BadRow> {
    row.spans.resize(columns.len(), UNSEEN);
    let mut object = Object::open(line)?;
    let mut expected = 0;
    while let Some((key, value)) = object.next_pair()? {
        // Objects of one file mostly have their keys in the same order.
        let column = match columns.get(expected) {
            Some(column) if *column == key => expected,
            _ => match places.0.get(&*key) {
                Some(&column) => column,
                None => continue,
            },
        };
        if row.spans[column] != UNSEEN {
            return Err(BadRow::KeyTwice { at: object.at });
        }
        let start = row.text.len();
        row.text.push_str(&value);
        row.spans[column] = Span::new(start, row.text.len());
        expected = column + 1;
    }
    for span in &mut row.spans {
        if *span == UNSEEN {
            *span = Span::default();
        }
    }
    Ok(())
}

/// A key, and its value as text.
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

struct Object<'a> {
    text: &'a str,
    at: usize,
    first: bool,
}

impl<'a> Object<'a> {
    fn open(line: &'a [u8]) -> Result<Object<'a>, BadRow> {
        let text = std::str::from_utf8(line).map_err(|_| BadRow::NotUtf8)?;
        let mut object = Object { text, at: 0, first: true };
        object.expect(b'{')?;
        Ok(object)
    }

    /// The next key and its value as text; `None` after the closing brace.
    fn next_pair(&mut self) -> Result<Option<Pair<'a>>, BadRow> {
        let first = std::mem::replace(&mut self.first, false);
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return if self.peek().is_none() { Ok(None) } else { Err(self.fault()) };
            }
            Some(b',') if !first => self.at += 1,
            Some(b'"') if first => {}
            _ => return Err(self.fault()),
        }
        let key = self.string()?;
        self.expect(b':')?;
        let value = match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'{' | b'[') => return Err(BadRow::NestedValue { at: self.at }),
            _ => Cow::Borrowed(self.scalar()?),
        };
        Ok(Some((key, value)))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, BadRow> {
        self.expect(b'"')?;
        let start = self.at;
        let octets = self.text.as_bytes();
        let mut escaped = false;
        loop {
            let Some(i) = memchr::memchr2(b'"', b'\\', &octets[self.at..]) else {
                return Err(self.fault());
            };
            self.at += i;
            if octets[self.at] == b'"' {
                break;
            }
            escaped = true;
            // The octet after a backslash is never the end; serde_json judges it.
            self.at = (self.at + 2).min(octets.len());
        }
        let raw = &self.text[start..self.at];
        self.at += 1;
        if escaped {
            let quoted = &self.text[start - 1..self.at];
            return serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| BadRow::Json { at: start });
        }
        if raw.bytes().any(|c| c < b' ') {
            return Err(BadRow::Json { at: start });
        }
        Ok(Cow::Borrowed(raw))
    }

    /// A number, `true` or `false`, as written; "" for `null`.
    fn scalar(&mut self) -> Result<&'a str, BadRow> {
        let rest = &self.text[self.at..];
        let end = rest
            .bytes()
            .position(|c| !(c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.')))
            .unwrap_or(rest.len());
        let token = &rest[..end];
        if serde_json::from_str::<serde::de::IgnoredAny>(token).is_err() {
            return Err(self.fault());
        }
        self.at += end;
        Ok(if token == "null" { "" } else { token })
    }

    /// The next octet that isn't white space.
    fn peek(&mut self) -> Option<u8> {
        let octets = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = octets.get(self.at) {
            self.at += 1;
        }
        octets.get(self.at).copied()
    }

    fn expect(&mut self, octet: u8) -> Result<(), BadRow> {
        if self.peek() != Some(octet) {
            return Err(self.fault());
        }
        self.at += 1;
        Ok(())
    }

    fn fault(&self) -> BadRow {
        BadRow::Json { at: self.at + 1 }
    }
}
