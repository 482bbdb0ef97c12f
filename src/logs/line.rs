//! One event as a line: what it says and its fields, cleaned and bounded.
//!
//! Guarantees: no octet of the result is a line end or another control character, and nothing in it turns the
//! direction of what follows on a terminal. Nothing here fails.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::clock::{self, Micros};

/// Octets of one text, at most: a reply has 512, a list of places in a configuration file some thousands.
const TEXT_OCTETS_MAX: usize = 4096;
/// Fields of one event, at most; tracing itself takes no more than 32.
const FIELDS_MAX: usize = 32;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub at_us: Micros,
    pub level: Level,
    /// Its message says all that its fields say.
    pub is_state: bool,
    pub message: String,
    pub fields: Vec<(&'static str, Value)>,
    pub file: Option<&'static str>,
    pub line: Option<u32>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Natural(u64),
    Number(f64),
    Boolean(bool),
}

impl Line {
    pub fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut line = Self {
            at_us: clock::now_us(),
            level: *metadata.level(),
            is_state: metadata.target() == super::STATE,
            message: String::new(),
            fields: Vec::new(),
            file: metadata.file(),
            line: metadata.line(),
        };
        event.record(&mut line);
        line
    }

    fn put(&mut self, field: &Field, value: Value) {
        match value {
            Value::Text(text) if field.name() == "message" => self.message = text,
            value if self.fields.len() < FIELDS_MAX => self.fields.push((field.name(), value)),
            _ => {}
        }
    }

    /// For people: `2026-11-22T03:14:00.123Z  WARN the MTA is down`, with colours where they are `coloured`.
    pub fn human(&self, coloured: bool) -> String {
        let level = match (self.level, coloured) {
            (Level::ERROR, true) => "\x1b[31mERROR\x1b[0m",
            (Level::WARN, true) => "\x1b[33m WARN\x1b[0m",
            (Level::ERROR, _) => "ERROR",
            (Level::WARN, _) => " WARN",
            (Level::INFO, _) => " INFO",
            (Level::DEBUG, _) => "DEBUG",
            (Level::TRACE, _) => "TRACE",
        };
        let mut text = format!("{} {level} {}", clock::rfc3339(self.at_us), self.message);
        for (name, value) in self.fields.iter().filter(|_| !self.is_state) {
            put(&mut text, format_args!(" {name}={value}"));
        }
        text
    }

    /// One JSON object: `time`, `level`, `message`, and the fields by their names.
    pub fn json(&self) -> String {
        let level = match self.level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let mut text = format!("{{\"time\":\"{}\",\"level\":\"{level}\"", clock::rfc3339(self.at_us));
        put(&mut text, format_args!(",\"message\":{}", quoted(&self.message)));
        for (name, value) in &self.fields {
            let value = match value {
                Value::Text(value) => quoted(value),
                Value::Number(n) if !n.is_finite() => "null".to_owned(),
                value => value.to_string(),
            };
            put(&mut text, format_args!(",{}:{value}", quoted(name)));
        }
        text.push('}');
        text
    }
}

/// Writing to a `String` can't fail.
fn put(text: &mut String, what: fmt::Arguments<'_>) {
    if text.write_fmt(what).is_err() {
        unreachable!("a String takes what it is given");
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => text.fmt(f),
            Value::Integer(n) => n.fmt(f),
            Value::Natural(n) => n.fmt(f),
            Value::Number(n) => n.fmt(f),
            Value::Boolean(b) => b.fmt(f),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Cleaned::default();
        // a value that can't be shown is shown as far as it went
        if write!(text, "{value:?}").is_err() {
            text.cut();
        }
        self.put(field, Value::Text(text.0));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(clean(value)));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Integer(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Natural(value));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Number(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Boolean(value));
    }
}

/// Text on its way into a line; full, it takes no more.
#[derive(Default)]
struct Cleaned(String);

impl Cleaned {
    fn cut(&mut self) {
        self.0.push('…');
    }
}

impl fmt::Write for Cleaned {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.len() >= TEXT_OCTETS_MAX {
                return Err(fmt::Error);
            }
            match c {
                '\t' => self.0.push(' '),
                c if c.is_control() || misleads(c) => self.0.extend(c.escape_default()),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// One bounded line of printable characters.
fn clean(text: &str) -> String {
    let mut cleaned = Cleaned::default();
    if cleaned.write_str(text).is_err() {
        cleaned.cut();
    }
    cleaned.0
}

/// Ends a line, or turns the direction of what follows, though it is no control character.
fn misleads(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with the local part of every address in it left out: what an MTA says of a whole job may name the
/// recipient that it said it of, and the log is no place for that. The domains stay: they are a hint.
pub fn without_local_parts(text: &str) -> String {
    let is_local = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.\"".contains(c);
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split('@').enumerate() {
        if i > 0 {
            let kept = out.trim_end_matches(is_local).len();
            // quoted local parts may hold blanks, and all else
            let opened = out.strip_suffix('"').and_then(|quoted| quoted.rfind('"'));
            let kept = opened.map_or(kept, |opened| kept.min(opened));
            if kept < out.len() {
                out.truncate(kept);
                out.push('…');
            }
            out.push('@');
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(message: &str, text: &str) -> Line {
        let (message, fields) = (clean(message), vec![("reason", Value::Text(clean(text)))]);
        Line { at_us: 0, level: Level::WARN, is_state: false, message, fields, file: None, line: None }
    }

    proptest! {
        #[test]
        fn whatever_an_mta_says_a_line_is_one_printable_line(text in any::<String>(), more in any::<String>()) {
            let line = line(&text, &more);
            for written in [line.human(false), line.json()] {
                prop_assert!(!written.contains(|c: char| c.is_control() || misleads(c)), "{written:?}");
            }
            let parsed: serde_json::Value = serde_json::from_str(&line.json()).expect("JSON");
            prop_assert_eq!(parsed["message"].as_str(), Some(line.message.as_str()));
            prop_assert_eq!(parsed["level"].as_str(), Some("warn"));
        }

        #[test]
        fn whatever_stands_before_an_at_sign_is_text_and_no_panic(
            before in any::<String>(), between in any::<String>(), quote in "\"?",
        ) {
            let text = without_local_parts(&format!("{before}{quote}@{between}{quote}@x"));
            prop_assert!(text.ends_with("@x"), "{text}");
        }

        #[test]
        fn no_local_part_is_left_of_an_address(local in "[a-z0-9.+_-]{1,20}", around in "[ <:(]?") {
            let text = without_local_parts(&format!("550 5.1.1 {around}{local}@d1.example: no, {local}@x"));
            prop_assert!(!text.contains(&format!("{local}@")), "{text}");
            prop_assert!(text.contains("@d1.example: no"), "{text}");
        }
    }

    #[test]
    fn an_address_whose_local_part_is_not_ascii_is_left_out_and_ends_nothing() {
        assert_eq!(without_local_parts("451 4.3.0 jos\u{e9}@x.example"), "451 4.3.0 …@x.example");
        assert_eq!(without_local_parts("no \u{fffd}@x"), "no \u{fffd}@x");
        assert_eq!(without_local_parts("no \"a \u{e9}\"@x"), "no …@x");
    }

    #[test]
    fn escapes_are_shown_and_not_obeyed() {
        let line = line("one\r\nERROR two\x1b[2J\u{9b}1m", "a\nb\tc\u{202e}d");
        assert_eq!(
            line.human(false),
            "1970-01-01T00:00:00.000Z  WARN one\\r\\nERROR two\\u{1b}[2J\\u{9b}1m reason=a\\nb c\\u{202e}d"
        );
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let text = clean(&"x".repeat(10 * TEXT_OCTETS_MAX));
        assert!(text.len() <= TEXT_OCTETS_MAX + 10 && text.ends_with('…'));
    }

    #[test]
    fn a_change_of_state_is_said_once_for_people_and_in_fields_for_machines() {
        let line = Line { is_state: true, ..line("the MTA a is down: gone", "gone") };
        assert!(line.human(false).ends_with(" WARN the MTA a is down: gone"));
        assert!(line.json().ends_with(",\"message\":\"the MTA a is down: gone\",\"reason\":\"gone\"}"));
    }

    #[test]
    fn a_quoted_local_part_goes_whole() {
        assert_eq!(without_local_parts("550 <\"a b\"@x.example> no"), "550 <…@x.example> no");
        assert_eq!(without_local_parts("550 no @ at all"), "550 no @ at all");
    }
}
