//! Rendered header fields: what a column value may bring, RFC 2047 encoding, folding.
//!
//! A template's output comes as [`Run`]s, which say of every character whether the template or a value
//! brought it. Only the template's characters count as syntax: a comma, a quote or an angle bracket
//! from a value can't start an address, end one, or leave a URI. The output is ASCII (a local part
//! beyond ASCII aside), folded at 78 where a space allows it, never over 998 (RFC 5322 §2.1.1).
//! Errors are [`RenderError`]s with the header's place.

use super::address::{AddressError, check_address, is_atext};
use super::codec::base64_word;
use super::error::RenderError;

/// Octets of a line that folding aims at, and that a line never exceeds, CRLF aside.
const LINE_FOLD: usize = 78;
pub const LINE_OCTETS_MAX: usize = 998;
/// Octets of text in one encoded word: 12 of frame and 60 of base64, under the 75 of RFC 2047 §2.
const WORD_OCTETS_MAX: usize = 45;

/// How a header's value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A list of mailboxes (RFC 5322 §3.6.2, §3.6.3).
    Addresses,
    /// URIs or ids in angle brackets (RFC 2369, RFC 2919, RFC 5322 §3.6.4).
    Bracketed,
    /// Text (RFC 5322 §3.6.5).
    Unstructured,
}

impl Kind {
    pub fn of(name: &str) -> Kind {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("resent-").unwrap_or(&name) {
            "from"
            | "sender"
            | "reply-to"
            | "to"
            | "cc"
            | "errors-to"
            | "disposition-notification-to"
            | "return-receipt-to"
            | "x-confirm-reading-to"
            | "mail-followup-to"
            | "mail-reply-to" => Kind::Addresses,
            "message-id" | "in-reply-to" | "references" | "autocrypt" => Kind::Bracketed,
            other if other.starts_with("list-") => Kind::Bracketed,
            _ => Kind::Unstructured,
        }
    }
}

/// A stretch of rendered output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    pub text: &'a str,
    /// A column value (or another expression's result) brought it.
    pub from_value: bool,
}

/// One character with its origin.
type Char = (char, bool);

/// The whole field, ending with CRLF. `place` names it in errors.
pub fn field(name: &str, kind: Kind, runs: &[Run<'_>], place: &str) -> Result<String, RenderError> {
    for run in runs.iter().filter(|run| !run.text.bytes().all(|b| matches!(b, b' '..=b'~'))) {
        if let Some(c) = run.text.chars().find(|&c| c.is_control() && (run.from_value || c != '\t')) {
            return Err(RenderError::Control { place: place.to_owned(), code: u32::from(c) });
        }
    }
    let words = match (kind, runs) {
        // `To: {{ address }}`, as most newsletters have it
        (Kind::Addresses, [Run { text, from_value: true }]) => {
            vec![checked_address((*text).to_owned(), place)?]
        }
        (Kind::Addresses, _) => address_words(runs, place)?,
        (Kind::Bracketed | Kind::Unstructured, _) => {
            if kind == Kind::Bracketed {
                check_bracketed(runs, place)?;
            }
            if let Some(line) = plain_line(name, runs) {
                return Ok(line);
            }
            text_words(&joined(runs), kind)
        }
    };
    fold(name, &words, place)
}

/// A field that needs neither encoding nor folding, as most do; `None`: it may need them.
fn plain_line(name: &str, runs: &[Run<'_>]) -> Option<String> {
    let octets = name.len() + 2 + runs.iter().map(|run| run.text.len()).sum::<usize>();
    if octets > LINE_FOLD || !runs.iter().all(|run| run.text.is_ascii()) {
        return None;
    }
    let mut line = String::with_capacity(octets + 2);
    line.push_str(name);
    line.push_str(": ");
    let start = line.len();
    line.extend(runs.iter().map(|run| run.text));
    let text = &line.as_bytes()[start..];
    let edge = |b: Option<&u8>| b.is_none_or(|b| b.is_ascii_whitespace());
    if edge(text.first()) || edge(text.last()) || text.windows(2).any(|pair| pair == b"=?") {
        return None;
    }
    line.push_str("\r\n");
    Some(line)
}

fn joined(runs: &[Run<'_>]) -> String {
    let text: String = runs.iter().map(|run| run.text).collect();
    text.trim().to_owned()
}

fn injection(place: &str, character: char) -> RenderError {
    RenderError::Injection { place: place.to_owned(), character }
}

/// A value stays inside the brackets that the template put it in, and outside of those it opens none; nor
/// does it open a quoted string or a comment, which would take in the brackets that follow, or begin an
/// encoded word within the brackets, where there can be none.
fn check_bracketed(runs: &[Run<'_>], place: &str) -> Result<(), RenderError> {
    let (mut inside, mut quoted) = (false, false);
    // the character before, where it could begin an encoded word
    let mut equals = None;
    for run in runs {
        for c in run.text.chars() {
            let began = equals.replace(run.from_value).filter(|_| c == '?' && inside);
            if began.is_some_and(|from_value| from_value || run.from_value) {
                return Err(injection(place, c));
            }
            equals = equals.filter(|_| c == '=');
            match (run.from_value, c) {
                (false, '"') if !inside => quoted = !quoted,
                (false, '<') => inside = true,
                (false, '>') => inside = false,
                (true, '"' | '\\') if !inside => return Err(injection(place, c)),
                (true, '(' | ')') if !inside && !quoted => return Err(injection(place, c)),
                (true, '<' | '>') => return Err(injection(place, c)),
                (true, _) if inside && (c.is_whitespace() || !c.is_ascii() || c == '"' || c == '\\') => {
                    return Err(injection(place, c));
                }
                (true, ',') if !inside => return Err(injection(place, c)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The mailboxes, each a word; all but the last end with a comma.
fn address_words(runs: &[Run<'_>], place: &str) -> Result<Vec<String>, RenderError> {
    let mut words: Vec<String> = Vec::new();
    for mailbox in split_mailboxes(runs) {
        let blank = mailbox.iter().all(|(c, _)| c.is_whitespace());
        // `{% if cc %}{{ cc }},{% endif %}` leaves an empty one behind (RFC 5322 §4.4).
        if blank && mailbox.iter().all(|(_, from_value)| !from_value) {
            continue;
        }
        if let Some(last) = words.last_mut() {
            last.push(',');
        }
        words.extend(mailbox_words(&mailbox, place)?);
    }
    if words.is_empty() {
        return Err(RenderError::NoAddress { place: place.to_owned() });
    }
    Ok(words)
}

/// Cuts at the template's own commas, outside of quotes and angle brackets.
fn split_mailboxes(runs: &[Run<'_>]) -> Vec<Vec<Char>> {
    let mut mailboxes = vec![Vec::new()];
    let (mut quoted, mut escaped, mut inside) = (false, false, false);
    for run in runs {
        for c in run.text.chars() {
            if !run.from_value {
                match c {
                    _ if escaped => escaped = false,
                    '\\' if quoted => escaped = true,
                    '"' => quoted = !quoted,
                    '<' if !quoted => inside = true,
                    '>' if !quoted => inside = false,
                    ',' if !quoted && !inside => {
                        mailboxes.push(Vec::new());
                        continue;
                    }
                    _ => {}
                }
            }
            if let Some(last) = mailboxes.last_mut() {
                last.push((c, run.from_value));
            }
        }
    }
    mailboxes
}

/// `phrase <address>` or a bare address, as folding words.
fn mailbox_words(mailbox: &[Char], place: &str) -> Result<Vec<String>, RenderError> {
    let mut phrase = String::new();
    let mut address = None;
    let (mut quoted, mut escaped) = (false, false);
    let mut chars = mailbox.iter();
    while let Some(&(c, from_value)) = chars.next() {
        match c {
            _ if from_value || escaped => {
                phrase.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => {
                let inner: Vec<Char> = chars.by_ref().take_while(|&&c| c != ('>', false)).copied().collect();
                address = Some(checked_address(inner.iter().map(|(c, _)| c).collect(), place)?);
                if let Some(&(c, _)) = chars.as_slice().iter().find(|(c, _)| !c.is_whitespace()) {
                    return Err(injection(place, c));
                }
                break;
            }
            _ => phrase.push(c),
        }
    }
    let Some(address) = address else {
        // No brackets: all of it is the address, quotes of a local part included.
        return Ok(vec![checked_address(mailbox.iter().map(|(c, _)| c).collect(), place)?]);
    };
    let mut words = phrase_words(phrase.trim());
    words.push(format!("<{address}>"));
    Ok(words)
}

/// The address as a header has it: with A-labels where its local part is ASCII.
fn checked_address(text: String, place: &str) -> Result<String, RenderError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(RenderError::NoAddress { place: place.to_owned() });
    }
    let bad = |reason: AddressError| RenderError::Address {
        place: place.to_owned(),
        address: text.chars().take(80).collect(),
        reason,
    };
    let address = check_address(text).map_err(bad)?;
    Ok(address.to_ascii().map_or_else(|| text.to_owned(), |ascii| ascii.into_owned()))
}

/// A display name: atoms, a quoted string, or encoded words (RFC 5322 §3.2.5, RFC 2047 §5 rule 3).
fn phrase_words(phrase: &str) -> Vec<String> {
    if phrase.is_empty() {
        return Vec::new();
    }
    // what looks like an encoded word is decoded by mail programs within quotes too, line ends and all
    if !phrase.is_ascii() || phrase.contains("=?") || phrase.len() > LINE_OCTETS_MAX / 4 {
        return encoded_words(phrase);
    }
    let atoms = phrase.split(' ').all(|word| !word.is_empty() && word.chars().all(is_atext));
    if atoms {
        return phrase.split(' ').map(str::to_owned).collect();
    }
    let mut quoted = String::with_capacity(phrase.len() + 4);
    quoted.push('"');
    for c in phrase.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    vec![quoted]
}

/// Text as folding words: what isn't ASCII, looks like an encoded word, or is too long for a line
/// becomes encoded words. Leading spaces belong to the word that they stand before. A URI in brackets is
/// never encoded, since nobody decodes one: too long, it is an error of the recipient.
fn text_words(text: &str, kind: Kind) -> Vec<String> {
    let needs_encoding = |word: &str| {
        let is_uri = kind == Kind::Bracketed && word.contains('<');
        !word.is_ascii() || (!is_uri && (word.contains("=?") || word.len() > LINE_OCTETS_MAX - 200))
    };
    let mut words: Vec<String> = Vec::new();
    // Neighbours that need it are encoded as one: space between encoded words is not shown.
    let mut pending = String::new();
    let mut spaces = String::new();
    for word in text.split(' ') {
        if word.is_empty() {
            spaces.push(' ');
            continue;
        }
        if needs_encoding(word) {
            if !pending.is_empty() {
                pending.push(' ');
                pending.push_str(&spaces);
            } else if !spaces.is_empty() {
                pending.push_str(&spaces);
            }
            pending.push_str(word);
        } else {
            words.append(&mut encoded_words(&pending));
            pending.clear();
            words.push(format!("{spaces}{word}"));
        }
        spaces.clear();
    }
    words.append(&mut encoded_words(&pending));
    words
}

/// RFC 2047 `B` words of UTF-8, cut between characters.
fn encoded_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut cut = rest.len().min(WORD_OCTETS_MAX);
        while !rest.is_char_boundary(cut) {
            cut -= 1;
        }
        let mut coded = Vec::with_capacity(64);
        base64_word(&rest.as_bytes()[..cut], &mut coded);
        words.push(format!("=?utf-8?B?{}?=", String::from_utf8_lossy(&coded)));
        rest = &rest[cut..];
    }
    words
}

/// `Name: words`, a line break before a word that would cross column 78.
fn fold(name: &str, words: &[String], place: &str) -> Result<String, RenderError> {
    let mut out = format!("{name}:");
    let mut column = out.len();
    for (i, word) in words.iter().enumerate() {
        // The first word stays: a line of a name alone confuses readers.
        if i > 0 && column + 1 + word.len() > LINE_FOLD {
            out.push_str("\r\n");
            column = 0;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
        if column > LINE_OCTETS_MAX {
            return Err(RenderError::LineTooLong { place: place.to_owned(), octets: column });
        }
    }
    out.push_str("\r\n");
    Ok(out)
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
