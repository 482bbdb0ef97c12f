//! Templates that hold nothing but text and columns by name: `Dear {{ first_name }},`.
//!
//! Most of a newsletter's templates are like that, and they are rendered for each recipient. What comes
//! out is what the engine would make of them; what it would have to judge (a value with a NUL, a row
//! that is too short, output beyond its bound) is left to it.

use std::collections::HashMap;
use std::io::Write as _;

use minijinja::HtmlEscape;

use super::header::Run;
use super::merge::RENDERED_OCTETS_MAX;
use super::template::RecipientView;

/// Names that are no columns to the engine.
const RESERVED: [&str; 12] =
    ["true", "True", "false", "False", "none", "None", "not", "self", "loop", "super", "caller", "row"];

/// A template of text and names.
#[derive(Debug, Clone)]
pub struct Plain(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Column(usize),
    Address,
    Job,
}

impl Plain {
    /// `None`: it is more than that.
    pub fn parse(source: &str, columns: &HashMap<String, usize>) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = source;
        while let Some(open) = rest.find("{{") {
            let (text, mark) = rest.split_at(open);
            let (name, after) = mark[2..].split_once("}}")?;
            let name = name.trim_matches([' ', '\t', '\n']);
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !RESERVED.contains(&name);
            if !is_name {
                return None;
            }
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
            pieces.push(match columns.get(name) {
                Some(&column) => Piece::Column(column),
                None if name == "address" || name == "email" => Piece::Address,
                None if name == "job" => Piece::Job,
                None => return None,
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let is_text = |piece: &Piece| match piece {
            // A NUL from an encoded part is an error of the recipient, which the engine's side tells.
            Piece::Text(text) => !text.contains("{%") && !text.contains("{#") && !text.contains('\0'),
            _ => true,
        };
        pieces.iter().all(is_text).then_some(Plain(pieces))
    }

    /// Text as runs; `None`: the engine has to judge.
    pub fn runs<'a>(&'a self, recipient: &RecipientView<'a>, job: &'a str) -> Option<Vec<Run<'a>>> {
        let run = |piece: &'a Piece| {
            let (text, from_value) = match piece {
                Piece::Text(text) => (text.as_str(), false),
                Piece::Column(column) => (*recipient.values.get(*column)?, true),
                Piece::Address => (recipient.address, true),
                Piece::Job => (job, true),
            };
            (memchr::memchr(0, text.as_bytes()).is_none()).then_some(Run { text, from_value })
        };
        self.0.iter().map(run).collect()
    }

    /// Appends the text, values escaped where it is HTML; `false`: the engine has to judge.
    pub fn render(&self, recipient: &RecipientView<'_>, job: &str, html: bool, out: &mut Vec<u8>) -> bool {
        for piece in &self.0 {
            let value = match piece {
                Piece::Text(text) => {
                    out.extend_from_slice(text.as_bytes());
                    continue;
                }
                Piece::Column(column) => match recipient.values.get(*column) {
                    Some(value) => value,
                    None => return false,
                },
                Piece::Address => recipient.address,
                Piece::Job => job,
            };
            if memchr::memchr(0, value.as_bytes()).is_some() || out.len() + value.len() > RENDERED_OCTETS_MAX
            {
                return false;
            }
            if html {
                // Writing to a Vec can't fail.
                write!(out, "{}", HtmlEscape(value)).unwrap_or_default();
            } else {
                out.extend_from_slice(value.as_bytes());
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::merge::Merge;
    use super::super::template::RecipientView;

    const PIECES: &[&str] = &[
        "text",
        " ",
        "\n",
        "{",
        "}}",
        "#}",
        "%}",
        "'",
        "{{ x }}",
        "{{x}}",
        "{{ \n y }}",
        "{{ range }}",
        "{{ dict }}",
        "{{ address }}",
        "{{ email }}",
        "{{ job }}",
        "{{ row }}",
        "{{ x | upper }}",
        "{{ '{{' }}",
        "{{ loop }}",
        "\0",
        "{% if x %}",
        "{% endif %}",
        "{# x #}",
        "<b>",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
        #[test]
        fn text_and_names_come_out_as_the_engine_would_have_them(
            source in proptest::collection::vec(prop::sample::select(PIECES), 0..7),
            x in prop_oneof![Just(""), Just("<&'\"/>"), Just("a\0b"), Just("J\u{f6}rg\r\n"), Just("\u{fdd0}")],
            html in any::<bool>(),
            short in any::<bool>(),
        ) {
            let source = source.concat();
            let columns = ["x", "y", "range", "dict", "email", "loop"].map(str::to_owned);
            let mut merge = Merge::new(&columns, "j-1");
            let values = [x, "Y", "R", "D", "mine", "L"];
            let values = if short { &values[..1] } else { &values[..] };
            let view = RecipientView { ordinal: 1, address: "a'b@d.example", values };
            if let Ok(id) = merge.add_part("p", html, source.clone()) {
                let engine = id.clone().without_plain();
                let (mut one, mut other) = (Vec::new(), Vec::new());
                let context = merge.context(&view);
                let plain = merge.part(&id, &context, &mut one).map(str::to_owned);
                let engine = merge.part(&engine, &context, &mut other).map(str::to_owned);
                prop_assert_eq!(plain.map_err(|e| e.to_string()), engine.map_err(|e| e.to_string()));
            }
            if let Ok(id) = merge.add_header("h", source) {
                let engine = id.clone().without_plain();
                let (mut one, mut other) = (Vec::new(), Vec::new());
                let context = merge.context(&view);
                let plain = merge.header(&id, &context, &mut one).map(|runs| format!("{runs:?}"));
                let engine = merge.header(&engine, &context, &mut other).map(|runs| format!("{runs:?}"));
                prop_assert_eq!(plain.map_err(|e| e.to_string()), engine.map_err(|e| e.to_string()));
            }
        }
    }
}
