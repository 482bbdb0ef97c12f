//! Which columns a template needs, checked against those that the recipients have.
//!
//! A name that is no column fails the compile, unless the template guards it (`| default(…)`,
//! `is defined`); a guarded one is warned of, because a misspelt column would go out as its default.

use std::collections::{HashMap, HashSet};

/// Names that are always there, unless a column has them.
pub const BUILT_IN: [&str; 4] = ["address", "email", "job", "row"];

/// A name in a template that no column has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub name: String,
    pub guarded: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Text(&'a str),
    Sign(char),
}

/// The missing columns of one template. `undeclared` is what minijinja says of it, `globals` its
/// functions.
pub fn missing(
    source: &str,
    undeclared: &HashSet<String>,
    globals: &HashSet<String>,
    columns: &[String],
) -> Vec<Missing> {
    let tokens = tokens(source);
    let columns: HashSet<&str> = columns.iter().map(String::as_str).collect();
    let known = |name: &str| columns.contains(name);
    let mut uses: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, token) in tokens.iter().enumerate() {
        if let Token::Name(name) = token
            && starts_a_path(&tokens, i)
        {
            uses.entry(name).or_default().push(i);
        }
    }
    let guarded = |name: &str| uses.get(name).is_some_and(|uses| is_guarded(&tokens, uses));
    let mut names: Vec<&String> = undeclared
        .iter()
        .filter(|name| !known(name) && !BUILT_IN.contains(&name.as_str()) && !globals.contains(*name))
        .collect();
    names.sort();
    let mut missing: Vec<Missing> =
        names.into_iter().map(|name| Missing { name: name.clone(), guarded: guarded(name) }).collect();
    let mut seen: HashSet<(String, bool)> = missing.iter().map(|m| (m.name.clone(), m.guarded)).collect();
    if !known("row") {
        for (i, token) in tokens.iter().enumerate() {
            if *token != Token::Name("row") || !starts_a_path(&tokens, i) {
                continue;
            }
            let (name, after) = match (tokens.get(i + 1), tokens.get(i + 2)) {
                (Some(Token::Sign('.')), Some(Token::Name(name))) => (name, i + 3),
                (Some(Token::Sign('[')), Some(Token::Text(name))) => (name, i + 4),
                _ => continue,
            };
            let guarded = has_default(&tokens, after) || has_test(&tokens, after);
            if !known(name) && seen.insert(((*name).to_owned(), guarded)) {
                missing.push(Missing { name: (*name).to_owned(), guarded });
            }
        }
    }
    missing
}

fn starts_a_path(tokens: &[Token<'_>], at: usize) -> bool {
    at == 0 || tokens[at - 1] != Token::Sign('.')
}

/// Somewhere tested with `is defined`, or given a default wherever it stands: in `uses`.
fn is_guarded(tokens: &[Token<'_>], uses: &[usize]) -> bool {
    !uses.is_empty()
        && (uses.iter().any(|&i| has_test(tokens, i + 1)) || uses.iter().all(|&i| has_default(tokens, i + 1)))
}

fn has_default(tokens: &[Token<'_>], at: usize) -> bool {
    tokens.get(at) == Some(&Token::Sign('|'))
        && matches!(tokens.get(at + 1), Some(Token::Name("default" | "d")))
}

fn has_test(tokens: &[Token<'_>], at: usize) -> bool {
    let test = match tokens.get(at + 1) {
        Some(Token::Name("not")) => at + 2,
        _ => at + 1,
    };
    tokens.get(at) == Some(&Token::Name("is"))
        && matches!(tokens.get(test), Some(Token::Name("defined" | "undefined")))
}

/// The tokens of all tags of a template; the text between them is left out.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(open) = rest.find('{') {
        let tag = &rest[open..];
        let close = match tag.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => {
                rest = tag.find("#}").map_or("", |end| &tag[end + 2..]);
                continue;
            }
            _ => {
                rest = &tag[1..];
                continue;
            }
        };
        rest = expression(&tag[2..], close, &mut tokens);
        // Keeps two tags apart: no token of one is read with the next.
        tokens.push(Token::Sign(';'));
    }
    tokens
}

/// Reads up to and with `close`; gives what follows it.
fn expression<'a>(source: &'a str, close: &str, tokens: &mut Vec<Token<'a>>) -> &'a str {
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(close) {
            return after;
        }
        let len = match c {
            '"' | '\'' => {
                let mut escaped = false;
                let end = rest[1..].find(|d| {
                    let ends = d == c && !escaped;
                    escaped = d == '\\' && !escaped;
                    ends
                });
                let end = end.map_or(rest.len(), |end| end + 1);
                tokens.push(Token::Text(&rest[1..end]));
                (end + 1).min(rest.len())
            }
            _ if c.is_alphanumeric() || c == '_' => {
                let end = rest.find(|d: char| !d.is_alphanumeric() && d != '_').unwrap_or(rest.len());
                tokens.push(Token::Name(&rest[..end]));
                end
            }
            _ => {
                if !c.is_whitespace() {
                    tokens.push(Token::Sign(c));
                }
                c.len_utf8()
            }
        };
        rest = &rest[len..];
    }
    ""
}

/// The column that `name` may have meant.
pub fn nearest<'a>(name: &str, columns: &'a [String]) -> Option<&'a String> {
    let plain = |text: &str| text.to_lowercase().replace([' ', '-', '_'], "");
    let wanted = plain(name);
    columns
        .iter()
        .map(|column| (distance(&wanted, &plain(column)), column))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 2.max(wanted.len() / 3))
        .map(|(_, column)| column)
}

/// Edits between two words, a swap of neighbours counting as two (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str) -> Vec<(String, bool)> {
        let env = minijinja::Environment::new();
        let undeclared =
            env.template_from_str(source).map(|t| t.undeclared_variables(false)).unwrap_or_default();
        let columns = ["first_name".to_owned(), "Full Name".to_owned()];
        missing(source, &undeclared, &HashSet::from(["range".to_owned()]), &columns)
            .into_iter()
            .map(|m| (m.name, m.guarded))
            .collect()
    }

    #[test]
    fn what_is_there_is_not_missing() {
        let source = "{{ first_name|upper }} {{ address }} {{ row['Full Name'] }} {% set x = 1 %}{{ x }}\
            {% for i in range(3) %}{{ i }}{% endfor %} {{ 'nick' }} {{ job }}{# {{ nick }} #}";
        assert_eq!(check(source), []);
    }

    #[test]
    fn a_missing_column_is_seen_guarded_or_not() {
        assert_eq!(check("{{ nick }}"), [("nick".to_owned(), false)]);
        assert_eq!(check("{{ nick | default('x') }} {{ nick|d }}"), [("nick".to_owned(), true)]);
        assert_eq!(check("{{ nick | default('x') }} {{ nick }}"), [("nick".to_owned(), false)]);
        assert_eq!(
            check("{% if nick is not defined %}a{% else %}{{ nick }}{% endif %}"),
            [("nick".to_owned(), true)]
        );
        assert_eq!(
            check("{{ row['Nick'] }}{{ row.nick|d }}"),
            [("Nick".to_owned(), false), ("nick".to_owned(), true)]
        );
    }

    #[test]
    fn the_nearest_column_is_named() {
        let columns = ["first_name".to_owned(), "city".to_owned()];
        assert_eq!(nearest("frist_name", &columns), Some(&columns[0]));
        assert_eq!(nearest("FirstName", &columns), Some(&columns[0]));
        assert_eq!(nearest("balance", &columns), None);
    }
}
