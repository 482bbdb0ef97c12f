//! Finds what a message should not hold any more when it goes out: merge marks of this and of other
//! systems, and things that look like secrets. Secrets are named by their kind, never shown.

use super::codec::{Charset, Transfer};
use super::mime::{Structure, message_header, walk};
use super::wire::{line_of, normalise};

/// Findings listed; more are counted.
const FINDINGS_MAX: usize = 20;

/// What was found, each with its place: `line 12: {{ name }}`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Leftovers {
    /// `{{ name }}` and `{% … %}`: ours, when merging was asked for.
    pub merge_marks: Vec<String>,
    /// `%%NAME%%`, `*|NAME|*`, `[[name]]`, `${NAME}`, keys.
    pub others: Vec<String>,
}

/// Everything left over in headers and text parts of a message as it was submitted.
pub fn leftover_placeholders(raw: &[u8]) -> Vec<String> {
    let raw = normalise(raw);
    let Ok(header) = message_header(&raw) else { return Vec::new() };
    let found = scan(&raw, &walk(&raw, &header));
    found.merge_marks.into_iter().chain(found.others).collect()
}

/// The same over a message that was walked already.
pub(super) fn scan(raw: &[u8], structure: &Structure) -> Leftovers {
    let mut found = Leftovers::default();
    for header in &structure.headers {
        for field in &header.fields {
            // counted where something was found alone: a message may have a million headers
            let place = |_| format!("line {} ({})", line_of(raw, field.whole.start), field.name(raw));
            scan_text(&field.text(raw), place, &mut found);
        }
    }
    for part in &structure.texts {
        let first = || line_of(raw, part.body.start);
        let Some(transfer) = Transfer::parse(&part.transfer_encoding) else { continue };
        let Ok(octets) = transfer.decode(&raw[part.body.clone()]) else { continue };
        let text = match Charset::parse(&part.charset) {
            Some(charset) => charset.decode(&octets).unwrap_or_else(|_| lossy(&octets)),
            None => lossy(&octets),
        };
        let kind = if part.html { "text/html" } else { "text/plain" };
        let lines_as_written = matches!(transfer, Transfer::SevenBit | Transfer::EightBit);
        let place = |line: usize| {
            if lines_as_written {
                format!("line {}", first() + line - 1)
            } else {
                format!("line {line} of the {kind} part that starts at line {}", first())
            }
        };
        scan_text(&text, place, &mut found);
    }
    found
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn scan_text(text: &str, place: impl Fn(usize) -> String, found: &mut Leftovers) {
    for (i, line) in text.lines().enumerate() {
        let mut at = 0;
        let mut closing = Closing::default();
        while let Some(next) = line[at..].find(['{', '%', '*', '[', '$', 's', 'r', 'A', 'g', 'x', '-']) {
            at += next;
            let rest = &line[at..];
            if let Some((mark, len)) = merge_mark(rest, &mut closing) {
                note(&mut found.merge_marks, || format!("{}: {mark}", place(i + 1)));
                at += len;
            } else if let Some(mark) = foreign_mark(rest) {
                note(&mut found.others, || format!("{}: {mark}", place(i + 1)));
                at += mark.len();
            } else if let Some((kind, len)) = secret(rest) {
                note(&mut found.others, || format!("{}: {kind}", place(i + 1)));
                at += len;
            } else {
                at += rest.chars().next().map_or(1, char::len_utf8);
            }
        }
    }
}

fn note(list: &mut Vec<String>, finding: impl FnOnce() -> String) {
    match list.len() {
        n if n < FINDINGS_MAX => list.push(finding()),
        FINDINGS_MAX => list.push("and more".to_owned()),
        _ => {}
    }
}

/// Which marks are known not to be closed any more on the line in hand: it is looked for once, also on a
/// line of a million braces.
#[derive(Debug, Default)]
struct Closing {
    none: [bool; 2],
}

/// `{{ name… }}` or `{% word… %}`, on one line.
fn merge_mark(rest: &str, closing: &mut Closing) -> Option<(String, usize)> {
    const MARKS: [(&str, &str); 2] = [("{{", "}}"), ("{%", "%}")];
    let kind = MARKS.iter().position(|(open, _)| rest.starts_with(open))?;
    let (open, close) = MARKS[kind];
    // CSS and JSON have braces too; a merge mark starts with a name, a string or a bracket.
    let inner = rest[open.len()..].trim_start_matches(['-', '+', ' ', '\t']);
    if closing.none[kind]
        || !inner.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '"' | '\'' | '('))
    {
        return None;
    }
    let Some(end) = rest[open.len()..].find(close) else {
        closing.none[kind] = true;
        return None;
    };
    let len = open.len() + end + close.len();
    Some((rest[..len].chars().take(60).collect(), len))
}

/// Marks of other mail-merge systems and of shells.
fn foreign_mark(rest: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    [("%%", "%%"), ("*|", "|*"), ("[[", "]]"), ("${", "}")].into_iter().find_map(|(open, close)| {
        let inner = rest.strip_prefix(open)?;
        let name_len = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
        let name = &inner[..name_len];
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name_len <= 60;
        (named && inner[name_len..].starts_with(close)).then(|| &rest[..open.len() + name_len + close.len()])
    })
}

/// The kind of a secret and how much of the line it takes.
fn secret(rest: &str) -> Option<(&'static str, usize)> {
    const KEYS: [(&str, usize, &str); 7] = [
        ("sk_live_", 10, "what looks like a Stripe secret key (sk_live_…)"),
        ("rk_live_", 10, "what looks like a Stripe restricted key (rk_live_…)"),
        ("AKIA", 16, "what looks like an AWS access key (AKIA…)"),
        ("ghp_", 30, "what looks like a GitHub token (ghp_…)"),
        ("github_pat_", 20, "what looks like a GitHub token (github_pat_…)"),
        ("xoxb-", 20, "what looks like a Slack token (xoxb-…)"),
        ("xoxp-", 20, "what looks like a Slack token (xoxp-…)"),
    ];
    for (prefix, tail_min, kind) in KEYS {
        if let Some(tail) = rest.strip_prefix(prefix) {
            let len =
                tail.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
            if len >= tail_min {
                return Some((kind, prefix.len() + len));
            }
        }
    }
    let label = rest.strip_prefix("-----BEGIN ")?;
    let end = label.find("-----")?;
    label[..end].contains("PRIVATE KEY").then_some(("a private key", 11 + end + 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<String> {
        leftover_placeholders(format!("From: a@b.example\n\n{body}\n").as_bytes())
    }

    #[test]
    fn marks_of_every_common_system_are_found_with_their_line() {
        assert_eq!(found("Hi\n{{ API_KEY }}"), ["line 4: {{ API_KEY }}"]);
        for mark in ["{% if x %}", "%%NAME%%", "*|FNAME|*", "[[name]]", "${VAR}"] {
            assert_eq!(found(&format!("Hi {mark}!")), [format!("line 3: {mark}")]);
        }
        let raw = b"From: a@b.example\nSubject: For *|FNAME|*\n\nx\n";
        assert_eq!(leftover_placeholders(raw), ["line 2 (Subject): *|FNAME|*"]);
    }

    #[test]
    fn secrets_are_named_and_not_shown() {
        let key = format!("sk_{}_{}", "live", "4eC39HqLyjWDarjtT1zdp7dc");
        let list = found(&format!("key {key}"));
        assert_eq!(list.len(), 1);
        assert!(!list[0].contains("4eC39"), "{list:?}");
        assert_eq!(found("-----BEGIN RSA PRIVATE KEY-----"), ["line 3: a private key"]);
    }

    #[test]
    fn encoded_parts_are_decoded_first() {
        let raw = b"From: a@b.example\nContent-Transfer-Encoding: quoted-printable\n\n=7B=7B na=\nme }}\n";
        assert_eq!(
            leftover_placeholders(raw),
            ["line 1 of the text/plain part that starts at line 4: {{ name }}"]
        );
    }

    #[test]
    fn ordinary_text_and_style_sheets_are_no_placeholders() {
        for text in [
            "100%% sure, 5 * | 3, [1], [[1]], $5 {a} {{}}",
            "@media(max-width:600px){#main{width:100%}.a{b:c}}",
            "skating, AKIA, ghp_",
            "-----BEGIN PGP MESSAGE-----",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
    }
}
