//! Templates that hold nothing but text and columns by name: `Dear {{ first_name }},`.
//!
//! Most of a newsletter's templates are like that, and they are rendered for each recipient. What comes
//! out is what the engine would make of them; what it would have to judge (a value with a NUL, a row
//! that is too short) is left to it.

use std::collections::HashMap;
use std::io::Write as _;

use minijinja::HtmlEscape;

use super::header::Run;
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
            Piece::Text(text) => !text.contains("{%") && !text.contains("{#"),
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
            if memchr::memchr(0, value.as_bytes()).is_some() {
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
