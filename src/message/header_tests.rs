use super::*;
use proptest::prelude::*;

/// `{…}` marks what a value brings.
fn render(name: &str, marked: &str) -> Result<String, RenderError> {
    let mut runs = Vec::new();
    let mut rest = marked;
    while let Some((text, tail)) = rest.split_once('{') {
        let (value, tail) = tail.split_once('}').unwrap_or((tail, ""));
        runs.push(Run { text, from_value: false });
        runs.push(Run { text: value, from_value: true });
        rest = tail;
    }
    runs.push(Run { text: rest, from_value: false });
    field(name, Kind::of(name), &runs, name)
}

fn is(name: &str, marked: &str, want: &str) {
    assert_eq!(render(name, marked), Ok(format!("{name}: {want}\r\n")), "{marked}");
}

#[test]
fn display_names_are_quoted_or_encoded() {
    is("To", "{Ann Lee} <{a@b.example}>", "Ann Lee <a@b.example>");
    is("To", "\"{Ann}\" <{a@b.example}>", "Ann <a@b.example>");
    is("To", "\"{Lee, \"Ann\"}\" <{a@b.example}>", "\"Lee, \\\"Ann\\\"\" <a@b.example>");
    is("To", "{Lee, Ann <x@y.example>} <{a@b.example}>", "\"Lee, Ann <x@y.example>\" <a@b.example>");
    is("To", "\"{J\u{f6}rg}\" <{a@b.example}>", "=?utf-8?B?SsO2cmc=?= <a@b.example>");
    is("To", "{=?utf-8?Q?x?=} <{a@b.example}>", "=?utf-8?B?PT91dGYtOD9RP3g/PQ==?= <a@b.example>");
    is("To", "{} <{a@b.example}>", "<a@b.example>");
}

#[test]
fn a_value_never_adds_an_address() {
    for bad in [
        "{a@b.example, x@y.example}",
        "<{a@b.example>, <x@y.example}>",
        "{n} <{a@b.example,x@y.example}>",
        "{n} <{}>",
        "{}",
        "{a@b.example\r\nBcc: x@y.example}",
        "\"{a\0b}\" <a@b.example>",
    ] {
        assert!(render("To", bad).is_err(), "{bad}: {:?}", render("To", bad));
    }
    is("Cc", "{a@b.example}, {c@d.example},", "a@b.example, c@d.example");
}

#[test]
fn idn_domains_in_headers_go_as_a_labels() {
    is("To", "<{user@b\u{fc}cher.example}>", "<user@xn--bcher-kva.example>");
}

#[test]
fn a_value_never_leaves_its_uri() {
    is("List-Unsubscribe", "<https://x.example/u?t={a%20b}>", "<https://x.example/u?t=a%20b>");
    for bad in
        ["<https://x.example/{a b}>", "<https://x.example/{>, <y}>", "{<x>}", "<{\u{fc}}>", "{a, b} <id>"]
    {
        assert!(render("List-Unsubscribe", bad).is_err(), "{bad}");
    }
}

#[test]
fn text_beyond_ascii_is_encoded_and_long_text_folded() {
    is("Subject", "Hi {Ann},  two spaces", "Hi Ann,  two spaces");
    is("Subject", "Gr\u{fc}\u{df}e an {Ann}", "=?utf-8?B?R3LDvMOfZQ==?= an Ann");
    let long = render("Subject", &"word ".repeat(60)).unwrap_or_default();
    assert!(long.split("\r\n").all(|line| line.len() <= LINE_FOLD), "{long}");
    let one_word = render("Subject", &format!("{{{}}}", "x".repeat(3000))).unwrap_or_default();
    assert!(one_word.split("\r\n").all(|line| line.len() <= LINE_OCTETS_MAX));
    // nothing from a value begins a quoted string, a comment or an encoded word around the brackets, or in them
    for bad in [
        "{\"} <https://x.example/>",
        "{\\} <https://x.example/>",
        "{(} <https://x.example/>",
        "\"{\"}\" <https://x.example/>",
        "<https://x.example/{=?utf-8?Q?x?=}>",
        "<https://x.example/?t={?utf-8?Q?x?=}>",
        "<https://x.example/?t{=}?x>",
    ] {
        assert!(render("List-Help", bad).is_err(), "{bad}");
    }
    // nor does a long one become encoded words, which would be no link any more
    let long = format!("<https://x.example/{}>", "x".repeat(900));
    is("List-Help", &long, &long);
    assert!(render("List-Help", &format!("<https://x.example/{{{}}}>", "x".repeat(2_000))).is_err());
    is("List-Help", "\"{a (b)}\" <https://x.example/?t={a=b}>", "\"a (b)\" <https://x.example/?t=a=b>");
    let uri = render("List-Unsubscribe", &format!("<https://x.example/{{{}}}>", "x".repeat(700)));
    assert!(uri.is_ok_and(|line| line.len() > 700 && line.lines().count() == 1));
}

fn decoded(field: &str) -> String {
    mail_parser::MessageParser::default()
        .parse_headers(format!("{field}\r\n").as_bytes())
        .and_then(|message| message.subject().map(str::to_owned))
        .unwrap_or_default()
}

proptest! {
    #[test]
    fn any_subject_is_refused_or_reads_back(value in "(\\PC|[ \r\n\0a-z=?\u{fc}]){0,80}") {
        match render("Subject", &format!("S {{{}}}", value.replace('}', ""))) {
            Err(_) => prop_assert!(value.chars().any(char::is_control)),
            Ok(line) => {
                prop_assert!(line.is_ascii());
                for part in line.trim_end().split("\r\n") {
                    prop_assert!(part.len() <= LINE_OCTETS_MAX && !part.contains(['\r', '\n']));
                }
                let squeeze = |text: &str| text.split_whitespace().collect::<String>();
                prop_assert_eq!(squeeze(&decoded(&line)), squeeze(&format!("S {}", value.replace('}', ""))));
            }
        }
    }

    #[test]
    fn any_display_name_is_refused_or_leaves_one_address(value in "(\\PC|[\r\n\0,<>\"\\\\@;:() a-z]){0,40}") {
        let value = value.replace('}', "");
        for marked in [format!("\"{{{value}}}\" <a@b.example>"), format!("{{{value}}} <a@b.example>")] {
            if let Ok(line) = render("To", &marked) {
                let message = format!("{line}\r\n");
                let message = mail_parser::MessageParser::default().parse_headers(message.as_bytes());
                let to = message.as_ref().and_then(|m| m.to().cloned()).map(|to| to.into_list());
                let addresses: Vec<_> =
                    to.unwrap_or_default().iter().filter_map(|a| a.address.as_deref().map(str::to_owned)).collect();
                prop_assert_eq!(addresses, ["a@b.example"], "{}", line);
            }
        }
    }

    #[test]
    fn any_address_value_is_refused_or_stays_one_address(value in "[a-z.@,<>\"\\\\ ;:()\u{fc}\r\n]{0,30}") {
        for marked in [format!("<{{{value}}}>"), format!("{{{value}}}")] {
            if let Ok(line) = render("To", &marked) {
                let text = line.trim_start_matches("To: ").trim_end().trim_matches(['<', '>']).to_owned();
                prop_assert!(check_address(&text).is_ok(), "{}", line);
            }
        }
    }
}
