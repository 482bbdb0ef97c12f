//! SMTP replies (RFC 5321 §4.2): found in a buffer without copying, however the octets were cut.
//!
//! Guarantees: a reply is bounded in lines and octets, every line of it bears the same code, and the
//! code lies in 200…599. Anything else is [`BadReply`], after which the stream's place is unknown and
//! the connection must be closed. Text that leaves here is one printable line of bounded length.

use memchr::memmem;

use super::transaction::Said;

/// Octets a reply may have, all lines together. An EHLO reply stays far below.
pub const REPLY_OCTETS_MAX: usize = 16 * 1024;
/// Octets a reply line may have, CRLF included. RFC 5321 §4.5.3.1.5 says 512; real MTAs exceed it.
pub const REPLY_LINE_OCTETS_MAX: usize = 4 * 1024;
/// Octets of [`Said::text`].
pub const SAID_TEXT_OCTETS_MAX: usize = 512;

const _: () =
    assert!(REPLY_LINE_OCTETS_MAX <= REPLY_OCTETS_MAX && SAID_TEXT_OCTETS_MAX < REPLY_LINE_OCTETS_MAX);

/// Why octets are no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    #[error("a line over {REPLY_LINE_OCTETS_MAX} octets")]
    LineTooLong,
    #[error("a reply over {REPLY_OCTETS_MAX} octets")]
    TooLong,
    #[error("a line that begins with {0:?} and no code from 200 to 599")]
    NoCode(String),
    #[error("lines with the codes {0} and {1} in one reply")]
    CodesDiffer(u16, u16),
}

/// One complete reply, still in the buffer that it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    pub code: u16,
    /// All lines with codes and line ends.
    raw: &'a [u8],
}

/// Finds the reply at the start of `buffer`. `Ok(None)`: more octets are needed. Otherwise the reply and
/// how many octets it takes.
pub fn parse(buffer: &[u8]) -> Result<Option<(Reply<'_>, usize)>, BadReply> {
    let mut at = 0;
    let mut first: Option<u16> = None;
    loop {
        let rest = &buffer[at..];
        let Some(lf) = memchr::memchr(b'\n', rest) else {
            if rest.len() >= REPLY_LINE_OCTETS_MAX {
                return Err(BadReply::LineTooLong);
            }
            // A line that can't become one is told from one that is not yet here: no need to wait.
            if rest.len() >= 4 {
                code_of(rest)?;
            }
            return if buffer.len() > REPLY_OCTETS_MAX { Err(BadReply::TooLong) } else { Ok(None) };
        };
        let line = &rest[..=lf];
        if line.len() > REPLY_LINE_OCTETS_MAX {
            return Err(BadReply::LineTooLong);
        }
        let (code, more) = code_of(line)?;
        at += line.len();
        if at > REPLY_OCTETS_MAX {
            return Err(BadReply::TooLong);
        }
        match first {
            Some(first) if first != code => return Err(BadReply::CodesDiffer(first, code)),
            _ => first = Some(code),
        }
        if !more {
            return Ok(Some((Reply { code, raw: &buffer[..at] }, at)));
        }
    }
}

/// The code of a line, and whether another line follows.
fn code_of(line: &[u8]) -> Result<(u16, bool), BadReply> {
    let bad = || BadReply::NoCode(String::from_utf8_lossy(&line[..line.len().min(16)]).into_owned());
    let [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', after, ..] = *line else { return Err(bad()) };
    let digit = |d: u8| u16::from(d - b'0');
    let code = digit(a) * 100 + digit(b) * 10 + digit(c);
    match after {
        b' ' | b'\r' | b'\n' => Ok((code, false)),
        b'-' => Ok((code, true)),
        _ => Err(bad()),
    }
}

impl<'a> Reply<'a> {
    /// What [`parse`] found, in the same octets.
    pub fn again(code: u16, raw: &'a [u8]) -> Self {
        Self { code, raw }
    }

    /// The text of each line, without code and line end.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.raw.split_inclusive(|&b| b == b'\n').map(|line| {
            let mut line = line.get(3..).unwrap_or_default();
            while let [head @ .., b'\r' | b'\n'] = line {
                line = head;
            }
            line.get(1..).unwrap_or_default()
        })
    }

    /// The reply as the report shows it: one printable line of at most 512 octets.
    /// The enhanced code that each line of a multi-line reply repeats is kept once.
    pub fn said(&self) -> Said {
        let mut text = String::with_capacity(self.raw.len().min(SAID_TEXT_OCTETS_MAX));
        let mut prefix: &[u8] = &[];
        for (i, line) in self.lines().enumerate() {
            let mut line = line;
            if i == 0 {
                prefix = enhanced_prefix(line);
            } else if !prefix.is_empty() && line.starts_with(prefix) {
                line = &line[prefix.len()..];
            }
            if !text.is_empty() && !line.is_empty() {
                text.push(' ');
            }
            push_printable(&mut text, line);
        }
        let end = text.floor_char_boundary(SAID_TEXT_OCTETS_MAX);
        text.truncate(end);
        text.truncate(text.trim_end().len());
        Said { code: self.code, text }
    }
}

fn push_printable(text: &mut String, line: &[u8]) {
    if text.len() > SAID_TEXT_OCTETS_MAX {
        return;
    }
    match std::str::from_utf8(line) {
        Ok(line) if line.bytes().all(|b| (32..127).contains(&b)) => text.push_str(line),
        _ => text.extend(
            String::from_utf8_lossy(line)
                .chars()
                .map(|c| if c.is_control() || misleads(c) { '?' } else { c }),
        ),
    }
}

/// Unicode's own line ends, which would break a report into lines just as well; and what changes the order
/// in which a terminal shows the rest.
fn misleads(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}')
}

/// `5.1.1 ` at the start of a line, the space included; empty where there is none.
fn enhanced_prefix(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|&b| b == b' ').map_or(0, |at| at + 1);
    let word = std::str::from_utf8(&line[..end]).unwrap_or_default();
    if enhanced_code(word).is_some() { &line[..end] } else { &[] }
}

/// The enhanced status code (RFC 3463) that a text begins with.
pub fn enhanced_code(text: &str) -> Option<(u8, u16, u16)> {
    let word = text.split([' ', '\t']).next()?;
    let mut parts = word.split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |s: &str| -> Option<u16> {
        (s.len() <= 3 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok()).flatten()
    };
    if parts.next().is_some() || !matches!(class, "2" | "4" | "5") {
        return None;
    }
    Some((class.parse().ok()?, number(subject)?, number(detail)?))
}

/// The MTA's queue id in its reply to the final dot:
/// Postfix `2.0.0 Ok: queued as X`, sendmail `2.0.0 X Message accepted for delivery`, Exim `OK id=X`,
/// OpenSMTPD `2.0.0 X Message accepted for delivery` (`2.0.0: X` in older ones); else what follows
/// `queued as`, `id=`, `id:` or `queue id`.
pub fn queue_id(text: &str) -> Option<&str> {
    // Postfix, and who imitates it: every message passes here
    if let Some(at) = memmem::find(text.as_bytes(), b" queued as ") {
        return id_at_start(&text[at + " queued as ".len()..]);
    }
    // a reply is short: a searcher would cost more than it saves
    let find = |mark: &str, from: usize| {
        let windows = text.as_bytes().get(from..).unwrap_or_default().windows(mark.len());
        windows.into_iter().position(|w| w.eq_ignore_ascii_case(mark.as_bytes())).map(|at| from + at)
    };
    if let Some(at) = find(" message accepted", 0) {
        return text[..at].rsplit([' ', ':']).next().and_then(id_at_start);
    }
    for mark in ["queued as ", "queued mail for delivery as ", "id=", "queue id ", "queue-id ", "id: "] {
        let mut from = 0;
        while let Some(at) = find(mark, from) {
            // `id=` inside a longer word (`valid=`) is none.
            if at == 0 || !text.as_bytes()[at - 1].is_ascii_alphanumeric() {
                return id_at_start(&text[at + mark.len()..]);
            }
            from = at + 1;
        }
    }
    None
}

/// What a queue id may consist of, over all MTAs; the first octet that does not fit ends it.
fn id_at_start(text: &str) -> Option<&str> {
    let text = text.trim_start_matches(['<', '(', ' ']);
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+')))
        .unwrap_or(text.len());
    let id = text[..end].trim_end_matches('.');
    (!id.is_empty() && id.len() <= 128 && enhanced_code(id).is_none()).then_some(id)
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
