//! Encoded words (RFC 2047) of a header that is to be a template: mail programs encode what holds
//! anything beyond ASCII, merge marks and all.

use mail_parser::MessageParser;

/// The value with its encoded words decoded. In address headers the text of a word is put in quotes,
/// so that a comma in a name stays in the name.
pub fn decode_words(value: &str, in_address_header: bool) -> String {
    if !value.contains("=?") {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    let mut quoted = false;
    while !rest.is_empty() {
        if let Some(len) = run_len(rest)
            && let Some(text) = decode(&rest[..len])
        {
            if in_address_header {
                let text = text.replace('\\', "\\\\").replace('"', "\\\"");
                // Within quotes an encoded word should not be, and often is.
                let quote = if quoted { "" } else { "\"" };
                out.push_str(&format!("{quote}{text}{quote}"));
            } else {
                out.push_str(&text);
            }
            rest = &rest[len..];
            continue;
        }
        let Some(c) = rest.chars().next() else { break };
        if c == '"' {
            quoted = !quoted;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

fn decode(words: &str) -> Option<String> {
    let line = format!("Subject: {words}\r\n\r\n");
    let message = MessageParser::default().parse_headers(line.as_bytes())?;
    message.subject().map(str::to_owned)
}

/// The length of a run of encoded words with nothing but space between them.
fn run_len(text: &str) -> Option<usize> {
    let mut end = word_len(text)?;
    loop {
        let tail = &text[end..];
        let space = tail.len() - tail.trim_start().len();
        match word_len(&tail[space..]) {
            Some(len) if space > 0 => end += space + len,
            _ => return Some(end),
        }
    }
}

/// `=?charset?B?text?=`
fn word_len(text: &str) -> Option<usize> {
    let mut fields = text.strip_prefix("=?")?.splitn(4, '?');
    let (charset, encoding, coded, tail) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let valid = !charset.is_empty()
        && matches!(encoding, "B" | "b" | "Q" | "q")
        && tail.starts_with('=')
        && !charset.contains(' ');
    valid.then(|| 2 + charset.len() + 1 + encoding.len() + 1 + coded.len() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_inside_encoded_words_are_seen() {
        assert_eq!(
            decode_words("Re: =?utf-8?Q?Gr=C3=BC=C3=9Fe_=7B=7Bfirst=5Fname=7D=7D?= !", false),
            "Re: Gr\u{fc}\u{df}e {{first_name}} !"
        );
        assert_eq!(decode_words("=?utf-8?B?w7w=?= =?utf-8?B?w7w=?= x", false), "\u{fc}\u{fc} x");
        assert_eq!(decode_words("=?nonsense", false), "=?nonsense");
    }

    #[test]
    fn a_name_in_an_address_header_stays_one_name() {
        assert_eq!(decode_words("=?utf-8?Q?M=2C_J?= <{{ address }}>", true), "\"M, J\" <{{ address }}>");
    }
}
