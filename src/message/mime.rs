//! The structure of a message as byte ranges: header fields, and the text parts that can be merged.
//!
//! Works on CRLF-normalised octets ([`super::wire::normalise`]). Only ranges are kept, so that what
//! isn't touched goes out byte for byte. (mail-parser reads field values for us; its part offsets are
//! not used, because it takes a boundary in the middle of a line for a delimiter.) A part that is
//! malformed is left alone and warned of; only the message's own headers can be an error.

use std::ops::Range;

use mail_parser::{MessageParser, MimeHeaders};

use super::error::MessageError;
use super::wire::{LineCounter, line_of};

/// Multiparts inside multiparts; deeper ones are left untouched.
const DEPTH_MAX: usize = 32;

/// One header field: ranges into the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: Range<usize>,
    /// After the colon, up to the field's last CRLF (not included); folded as written.
    pub value: Range<usize>,
    /// With the final CRLF.
    pub whole: Range<usize>,
}

impl Field {
    pub fn is(&self, raw: &[u8], name: &str) -> bool {
        raw[self.name.clone()].eq_ignore_ascii_case(name.as_bytes())
    }

    pub fn name<'a>(&self, raw: &'a [u8]) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(&raw[self.name.clone()])
    }

    /// The value unfolded (RFC 5322 §2.2.3), without the space around it; octets that aren't UTF-8 are
    /// replaced.
    pub fn text(&self, raw: &[u8]) -> String {
        let value: Vec<u8> =
            raw[self.value.clone()].iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        String::from_utf8_lossy(&value).trim().to_owned()
    }
}

/// A header block and where the body is.
#[derive(Debug, Clone)]
pub struct Header {
    pub fields: Vec<Field>,
    /// Where a further field would go: at the empty line, or at the end.
    pub end: usize,
    /// After the empty line.
    pub body: usize,
}

impl Header {
    pub fn find<'a>(&'a self, raw: &[u8], name: &str) -> Option<&'a Field> {
        self.fields.iter().find(|field| field.is(raw, name))
    }
}

/// The fields from the start of `range` on; `Err` is the offset of a line that is no field.
pub fn parse_header(raw: &[u8], range: Range<usize>) -> Result<Header, usize> {
    let mut fields: Vec<Field> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let line_end =
            memchr::memchr(b'\n', &raw[at..range.end]).map_or(range.end, |newline| at + newline + 1);
        let line = trim_crlf(&raw[at..line_end]);
        if line.is_empty() {
            return Ok(Header { fields, end: at, body: line_end });
        }
        if line[0] == b' ' || line[0] == b'\t' {
            let field = fields.last_mut().ok_or(at)?;
            field.value.end = at + line.len();
            field.whole.end = line_end;
        } else {
            let colon = memchr::memchr(b':', line).ok_or(at)?;
            // RFC 5322 §4.5: obsolete syntax has space before the colon.
            let name_len = line[..colon].trim_ascii_end().len();
            if name_len == 0 || !line[..name_len].iter().all(u8::is_ascii_graphic) {
                return Err(at);
            }
            fields.push(Field {
                name: at..at + name_len,
                value: at + colon + 1..at + line.len(),
                whole: at..line_end,
            });
        }
        at = line_end;
    }
    Ok(Header { fields, end: range.end, body: range.end })
}

/// The message's own header; a line that is no field is an error.
pub fn message_header(raw: &[u8]) -> Result<Header, MessageError> {
    parse_header(raw, 0..raw.len()).map_err(|at| {
        let line_end = memchr::memchr(b'\n', &raw[at..]).map_or(raw.len(), |newline| at + newline);
        let text: String = String::from_utf8_lossy(trim_crlf(&raw[at..line_end])).chars().take(60).collect();
        MessageError::NotAHeader { line: line_of(raw, at), text }
    })
}

fn trim_crlf(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A text/plain or text/html part.
#[derive(Debug, Clone)]
pub struct TextPart {
    pub header: Header,
    /// Without the CRLF that belongs to the delimiter after it.
    pub body: Range<usize>,
    pub html: bool,
    /// Lower case; empty when not said.
    pub charset: String,
    /// Lower case; `7bit` when not said.
    pub transfer_encoding: String,
    /// Of every multipart around it, outermost first.
    pub boundaries: Vec<Vec<u8>>,
}

/// What the walk over a message found.
#[derive(Debug, Default)]
pub struct Structure {
    pub texts: Vec<TextPart>,
    pub warnings: Vec<String>,
    /// Headers of all parts, the message's own first; nested messages aside.
    pub headers: Vec<Header>,
    /// A signed or encrypted multipart, or a DKIM signature would, broken by merging.
    pub sealed: bool,
}

/// Walks the message's parts. Attached messages (message/rfc822) are not entered.
pub fn walk(raw: &[u8], header: &Header) -> Structure {
    let mut walk = Walk { found: Structure::default(), lines: LineCounter::new(raw), left_out: 0 };
    entity(raw, header.clone(), header.body..raw.len(), &mut Vec::new(), "text/plain", &mut walk);
    let Walk { mut found, left_out, .. } = walk;
    if left_out > 0 {
        found.warnings.push(format!("{left_out} more multiparts without a boundary, or not closed"));
    }
    found
}

/// Warnings of multiparts, at most.
const WARNINGS_MAX: usize = 10;

struct Walk<'a> {
    found: Structure,
    lines: LineCounter<'a>,
    /// Warnings beyond [`WARNINGS_MAX`].
    left_out: usize,
}

impl Walk<'_> {
    fn warn(&mut self, at: usize, what: &str) {
        if self.found.warnings.len() < WARNINGS_MAX {
            let line = self.lines.line_of(at);
            self.found.warnings.push(format!("line {line}: {what}"));
        } else {
            self.left_out += 1;
        }
    }
}

fn entity(
    raw: &[u8],
    header: Header,
    body: Range<usize>,
    boundaries: &mut Vec<Vec<u8>>,
    default_type: &str,
    walk: &mut Walk<'_>,
) {
    walk.found.headers.push(header.clone());
    let content_type = content_type(raw, &header);
    let content_type = content_type.unwrap_or_else(|| {
        let (kind, subtype) = default_type.split_once('/').unwrap_or((default_type, ""));
        ContentType { kind: kind.to_owned(), subtype: subtype.to_owned(), parameters: Vec::new() }
    });
    let (kind, subtype) = (content_type.kind.as_str(), content_type.subtype.as_str());
    if kind == "multipart" {
        let boundary = content_type.parameter("boundary").as_bytes().to_vec();
        if subtype == "signed" || subtype == "encrypted" {
            walk.found.sealed = true;
            return;
        }
        if boundary.is_empty() || boundaries.len() >= DEPTH_MAX {
            walk.warn(body.start, "a multipart without a boundary, or too deep in others, is left as it is");
            return;
        }
        let start = body.start;
        let (children, closed) = split(raw, body, &boundary);
        if !closed {
            walk.warn(start, "this multipart has no closing boundary line");
        }
        let default_type = if subtype == "digest" { "message/rfc822" } else { "text/plain" };
        boundaries.push(boundary);
        for child in children {
            // A part whose first line is no field has no header at all.
            let header = parse_header(raw, child.clone()).unwrap_or(Header {
                fields: Vec::new(),
                end: child.start,
                body: child.start,
            });
            let body = header.body.min(child.end)..child.end;
            entity(raw, header, body, boundaries, default_type, walk);
        }
        boundaries.pop();
    } else if kind == "text" && (subtype == "plain" || subtype == "html") {
        let transfer_encoding = header
            .find(raw, "Content-Transfer-Encoding")
            .map_or_else(|| "7bit".to_owned(), |field| field.text(raw).to_ascii_lowercase());
        walk.found.texts.push(TextPart {
            header,
            body,
            html: subtype == "html",
            charset: content_type.parameter("charset").to_ascii_lowercase(),
            transfer_encoding,
            boundaries: boundaries.clone(),
        });
    }
}

/// The parts of a multipart, and whether its closing delimiter was there (RFC 2046 §5.1.1).
fn split(raw: &[u8], body: Range<usize>, boundary: &[u8]) -> (Vec<Range<usize>>, bool) {
    let mut parts = Vec::new();
    let mut open: Option<usize> = None;
    let mut at = body.start;
    while at < body.end {
        let line_end = memchr::memchr(b'\n', &raw[at..body.end]).map_or(body.end, |newline| at + newline + 1);
        let line = raw[at..line_end].trim_ascii_end();
        if let Some(rest) = line.strip_prefix(b"--").and_then(|rest| rest.strip_prefix(boundary))
            && (rest.is_empty() || rest == b"--")
        {
            if let Some(start) = open.take() {
                parts.push(start..at.saturating_sub(2).max(start));
            }
            if rest == b"--" {
                return (parts, true);
            }
            open = Some(line_end);
        }
        at = line_end;
    }
    if let Some(start) = open {
        parts.push(start..body.end);
    }
    (parts, false)
}

/// A Content-Type; type, subtype and parameter names in lower case.
#[derive(Debug, Clone, Default)]
pub struct ContentType {
    pub kind: String,
    pub subtype: String,
    pub parameters: Vec<(String, String)>,
}

impl ContentType {
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

/// The parsed Content-Type of a part, RFC 2231 parameters included.
pub fn content_type(raw: &[u8], header: &Header) -> Option<ContentType> {
    let field = header.find(raw, "Content-Type")?;
    let line = format!("Content-Type: {}\r\n\r\n", field.text(raw));
    let message = MessageParser::default().parse_headers(line.as_bytes())?;
    let parsed = message.content_type()?;
    let parameters = parsed.attributes().unwrap_or(&[]).iter();
    Some(ContentType {
        kind: parsed.ctype().to_ascii_lowercase(),
        subtype: parsed.subtype().unwrap_or("").to_ascii_lowercase(),
        parameters: parameters.map(|a| (a.name.to_ascii_lowercase(), a.value.to_string())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::wire::normalise;

    fn texts(raw: &str) -> Vec<(String, bool)> {
        let raw = normalise(raw.as_bytes());
        let header = message_header(&raw).unwrap_or(Header { fields: Vec::new(), end: 0, body: 0 });
        walk(&raw, &header)
            .texts
            .into_iter()
            .map(|part| (String::from_utf8_lossy(&raw[part.body]).into_owned(), part.html))
            .collect()
    }

    #[test]
    fn text_parts_are_found_at_any_depth_and_attached_messages_are_not_entered() {
        let raw = "From: a@b.example\nContent-Type: multipart/mixed; boundary=\"o\"\n\npreamble\n--o\n\
            Content-Type: multipart/alternative; boundary=oo\n\n--oo\n\nplain\n--oo\nContent-Type: text/HTML; charset=x\n\n\
            <p>--oo in a line</p>\n--ooo\n--oo--\n\n--o\nContent-Type: message/rfc822\n\nSubject: x\n\nnested\n--o\n\
            Content-Type: text/calendar\n\nno\n--o--\nepilogue\n";
        assert_eq!(
            texts(raw),
            [("plain".to_owned(), false), ("<p>--oo in a line</p>\r\n--ooo".to_owned(), true)]
        );
    }

    #[test]
    fn a_line_without_a_colon_in_the_headers_is_named() {
        let raw = normalise(b"From: a@b.example\nHello you\n");
        assert_eq!(
            message_header(&raw).err(),
            Some(MessageError::NotAHeader { line: 2, text: "Hello you".to_owned() })
        );
        assert!(message_header(&normalise(b" folded: from nothing\n")).is_err());
    }

    #[test]
    fn an_unclosed_multipart_keeps_its_last_part() {
        assert_eq!(
            texts("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nlast\n"),
            [("last\r\n".to_owned(), false)]
        );
    }

    #[test]
    fn an_empty_part_has_an_empty_body() {
        assert_eq!(
            texts("Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b--\n"),
            [(String::new(), false), (String::new(), false)]
        );
    }
}
