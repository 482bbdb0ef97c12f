//! A template's source cut at line ends: lines without marks, and the others.
//!
//! Rendering the stretches one by one gives what rendering the whole gives. That holds because a stretch
//! begins and ends at a line's edge, no mark trims what stands beside it (`-}}`), and an expression
//! leaves nothing behind. Statements (`{% … %}`) may: from the first of them to the last all is one
//! stretch. Where in doubt, nothing is cut. Pure; nothing here fails.

use std::ops::Range;

use memchr::memmem;

/// Shorter runs of lines without marks stay with their neighbours.
const STATIC_OCTETS_MIN: usize = 64;

/// A stretch of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    pub range: Range<usize>,
    /// It holds no marks.
    pub is_static: bool,
}

/// Cuts the source; together the stretches are all of it.
pub fn cut(source: &str) -> Vec<Cut> {
    let trims = ["-}}", "-%}", "-#}", "{{-", "{%-", "{#-"];
    if source.contains(['\r', '\0']) || trims.iter().any(|mark| source.contains(mark)) {
        return vec![Cut { range: 0..source.len(), is_static: false }];
    }
    let mut marked = match expressions(source) {
        Some(marked) => marked,
        None => Vec::from([from_first_to_last(source)]),
    };
    // nothing at the end, which ends the lines before it
    marked.push(source.len()..source.len());
    let mut cuts = Vec::new();
    let mut at = 0;
    let mut merged_from = 0;
    for lines in marked.iter().map(|range| whole_lines(source, range)) {
        if lines.start >= at + STATIC_OCTETS_MIN {
            push(&mut cuts, merged_from..at, false);
            push(&mut cuts, at..lines.start, true);
            merged_from = lines.start;
        }
        at = at.max(lines.end);
    }
    push(&mut cuts, merged_from..source.len(), false);
    cuts
}

fn push(cuts: &mut Vec<Cut>, range: Range<usize>, is_static: bool) {
    if !range.is_empty() {
        cuts.push(Cut { range, is_static });
    }
}

/// The lines that hold a range.
fn whole_lines(source: &str, range: &Range<usize>) -> Range<usize> {
    let start = source[..range.start].rfind('\n').map_or(0, |at| at + 1);
    let end = source[range.end..].find('\n').map_or(source.len(), |at| range.end + at + 1);
    start..end
}

/// Each expression and comment; `None` when there are statements, or an expression whose end is not plain
/// to see.
fn expressions(source: &str) -> Option<Vec<Range<usize>>> {
    if source.contains("{%") {
        return None;
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = memmem::find(&source.as_bytes()[at..], b"{").map(|open| at + open) {
        let end = match source.as_bytes().get(open + 1) {
            Some(b'{') => {
                let inside = &source[open + 2..];
                let inside = &inside[..inside.find("}}")?];
                if inside.contains(['{', '\\']) || ends_in_string(inside) {
                    return None;
                }
                open + 2 + inside.len() + 2
            }
            Some(b'#') => open + 2 + source[open + 2..].find("#}")? + 2,
            _ => {
                at = open + 1;
                continue;
            }
        };
        found.push(open..end);
        at = end;
    }
    Some(found)
}

/// The octets are the beginning of an expression, and a string in it is not closed.
fn ends_in_string(inside: &str) -> bool {
    let after = |open: Option<char>, c: char| match open {
        Some(quote) => (c != quote).then_some(quote),
        None => matches!(c, '"' | '\'').then_some(c),
    };
    inside.chars().fold(None, after).is_some()
}

/// From the first mark that opens something to the last that closes.
fn from_first_to_last(source: &str) -> Range<usize> {
    let first = ["{{", "{%", "{#"].iter().filter_map(|mark| source.find(mark)).min();
    let last = ["}}", "%}", "#}"].iter().filter_map(|mark| source.rfind(mark)).max();
    match (first, last) {
        (Some(first), Some(last)) if first < last + 2 => first..last + 2,
        _ => 0..source.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statics(source: &str) -> Vec<&str> {
        let cuts = cut(source);
        assert_eq!(cuts.iter().map(|cut| &source[cut.range.clone()]).collect::<String>(), source);
        cuts.into_iter().filter(|cut| cut.is_static).map(|cut| &source[cut.range]).collect()
    }

    #[test]
    fn lines_without_marks_are_cut_out_where_nothing_reaches_into_them() {
        let line = "The towpath is open again, all of it, from the mill to the lock.\n";
        let mail = format!("Dear {{{{ name }}}},\n{line}{line}bye {{{{ name }}}}\n{line}");
        assert_eq!(statics(&mail), [format!("{line}{line}"), line.to_owned()]);
        // a statement's effect reaches to the last mark
        let mail = format!("{line}{{% if a %}}\n{line}{{% endif %}}\n{line}");
        assert_eq!(statics(&mail), [line, line]);
        // an expression over several lines
        let mail = format!("{line}{{{{ a\n}}}}\n{line}{{# {line} #}}\n");
        assert_eq!(statics(&mail), [line, line]);
    }

    #[test]
    fn in_doubt_nothing_is_cut() {
        let line = "The towpath is open again, all of it, from the mill to the lock.\n";
        for mark in ["{{ a -}}", "{{- a }}", "{#- a #}"] {
            assert!(statics(&format!("{line}{mark}\n{line}")).is_empty(), "{mark}");
        }
        // a string that holds a mark's end
        let mail = format!("{line}{{{{ \"}}}}\" }}}}\n{line}{{{{ b }}}}\n{line}");
        assert_eq!(statics(&mail), [line, line], "first and last lines alone");
        let mail = format!("{line}{{{{ '\"' ~ \"}}}}\n{line}\" }}}}\n{line}");
        assert_eq!(statics(&mail), [line, line], "first and last lines alone");
        assert!(statics("short\n{{ a }}\nshort\n").is_empty());
    }
}
