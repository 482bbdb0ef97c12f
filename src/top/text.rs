//! Numbers for people, and the text of strangers made harmless: what a terminal would obey is shown as `?`.

use serde_json::Value;
use unicode_width::UnicodeWidthChar;

use crate::control::Status;

/// Whether a terminal obeys this character, or shows the others in another order because of it.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line without anything that a terminal obeys.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if misleads(c) { '?' } else { c }).collect()
}

/// The same of several lines, which stay lines; tabs stay, too.
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if misleads(c) && c != '\n' && c != '\t' { '?' } else { c }).collect()
}

/// The same status with every text of it [`printable`].
///
/// # Errors
/// A number in it that JSON doesn't have.
pub fn cleaned(status: &Status) -> Result<Status, serde_json::Error> {
    serde_json::from_value(clean(serde_json::to_value(status)?))
}

fn clean(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(printable(&text)),
        Value::Array(values) => Value::Array(values.into_iter().map(clean).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(name, value)| (printable(&name), clean(value))).collect())
        }
        other => other,
    }
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate a second: `1,234`, `7.5`, `0.05`; `0` for none.
pub fn rate(per_second: f64) -> String {
    match per_second {
        r if r <= 0.0 || !r.is_finite() => "0".to_owned(),
        r if r < 0.1 => format!("{r:.2}"),
        r if r < 9.95 => format!("{r:.1}"),
        r => count(r.round() as u64),
    }
}

/// The same an hour: `43.2 M`, `7,200`.
pub fn per_hour(per_second: f64) -> String {
    match per_second * 3_600.0 {
        n if n >= 1e6 && n.is_finite() => format!("{:.2} M", n / 1e6),
        n => count(n.max(0.0).round() as u64),
    }
}

/// `3 d 4 h`, `12 min`, `7 s`: the largest unit, and the next one of what is longer than an hour.
pub fn duration(s: u64) -> String {
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min", s / 60),
        3_600..86_400 => two(s / 3_600, "h", s % 3_600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

fn two(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {small_unit}") }
}

/// `12.3 GiB`, `345 MiB`.
pub fn bytes(n: u64) -> String {
    if n >= 1 << 30 {
        format!("{:.1} GiB", n as f64 / (1u64 << 30) as f64)
    } else {
        format!("{} MiB", n >> 20)
    }
}

/// Milliseconds in three digits: `0.42`, `4.2`, `42`, `4,200`.
pub fn ms(ms: f64) -> String {
    match ms {
        m if m < 0.995 => format!("{:.2}", m.max(0.0)),
        m if m < 9.95 => format!("{m:.1}"),
        m => count(m.round() as u64),
    }
}

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// As much of a text as fits into so many columns; `mark` stands for what doesn't.
pub fn shortened(text: &str, columns: usize, mark: char) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut short = head(text, columns.saturating_sub(1)).to_owned();
    if columns > 0 {
        short.push(mark);
    }
    short
}

/// The longest beginning of so many columns.
fn head(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > columns {
            return &text[..at];
        }
    }
    text
}

/// A text in lines of at most so many columns, broken between words where it can be; none for none.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let mut word = word;
        let gap = usize::from(!line.is_empty());
        if !line.is_empty() && width(&line) + gap + width(word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        while width(word) > columns {
            // two columns hold every character
            let part = head(word, columns);
            lines.push(part.to_owned());
            word = &word[part.len()..];
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(count(n), text);
        }
        for (r, text) in
            [(0.0, "0"), (f64::NAN, "0"), (0.05, "0.05"), (7.46, "7.5"), (9.97, "10"), (12_345.4, "12,345")]
        {
            assert_eq!(rate(r), text);
        }
        for (r, text) in [(0.0, "0"), (2.0, "7,200"), (12_000.0, "43.20 M")] {
            assert_eq!(per_hour(r), text);
        }
        for (s, text) in
            [(0, "0 s"), (61, "1 min"), (3_600, "1 h"), (3_720, "1 h 2 min"), (90_061, "1 d 1 h")]
        {
            assert_eq!(duration(s), text);
        }
        for (n, text) in [(0.0, "0.00"), (0.42, "0.42"), (4.2, "4.2"), (41.7, "42"), (4_200.0, "4,200")] {
            assert_eq!(ms(n), text);
        }
    }

    #[test]
    fn every_text_of_a_status_is_cleaned() {
        let mut status = super::super::sample::status();
        let hostile = "a\u{1b}[2J\u{9b}31m\u{7}\r\nb\u{202e}";
        status.note = Some(hostile.to_owned());
        status.mtas[0].why = Some(hostile.to_owned());
        status.paused[0].reason = hostile.to_owned();
        status.outcomes.insert(hostile.to_owned(), 1);
        let clean = cleaned(&status).expect("a status");
        let text = format!("{clean:?}");
        assert_eq!(clean.note.as_deref(), Some("a?[2J?31m???b?"));
        assert!(!text.contains("\\u{") && !text.contains("\\r") && !text.contains("\\n"), "{text}");
    }

    proptest! {
        #[test]
        fn what_is_printable_holds_nothing_that_a_terminal_obeys(text in any::<String>()) {
            prop_assert!(!printable(&text).contains(misleads));
        }

        #[test]
        fn lines_are_no_wider_than_asked_and_lose_no_word(text in "[a-zé漢 ]{0,200}", columns in 2_usize..50) {
            let lines = wrapped(&text, columns);
            prop_assert!(lines.iter().all(|line| width(line) <= columns), "{lines:?}");
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }

        #[test]
        fn what_is_shortened_fits(text in "[a-zé漢]{0,40}", columns in 0_usize..40) {
            prop_assert!(width(&shortened(&text, columns, '~')) <= columns);
        }
    }
}
