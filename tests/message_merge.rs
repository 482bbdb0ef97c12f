//! Merged messages: what changes, what stays, and what a column value can't do.

use infeed::message::{CompileOptions, MessageError, RecipientView, RenderError, Template};
use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;

fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn options(columns: &[String]) -> CompileOptions<'_> {
    CompileOptions {
        merge: true,
        columns,
        job: "j-1",
        submitted_us: 1_795_317_240_000_000,
        message_id_domain: "mail.example",
        verp: None,
        sender: None,
        allow_placeholders: false,
    }
}

fn compile(raw: &str, names: &[&str]) -> Result<Template, MessageError> {
    Template::compile(raw.as_bytes(), &options(&columns(names)))
}

fn view<'a>(address: &'a str, values: &'a [&'a str]) -> RecipientView<'a> {
    RecipientView { ordinal: 7, address, values }
}

/// The wire form for one recipient with one column `x`.
fn render(raw: &str, value: &str) -> Result<String, RenderError> {
    let template = compile(raw, &["x"]).unwrap();
    template
        .render(&view("u@d.example", &[value]))
        .map(|rendered| String::from_utf8_lossy(&rendered.content.wire).into_owned())
}

const HEAD: &str = "From: a@b.example\nDate: Sun, 22 Nov 2026 03:14:00 +0000\nMessage-ID: <x@y.example>\n";

/// The rendered body of a one-part message.
fn body(headers: &str, body: &str, value: &str) -> Result<String, RenderError> {
    let wire = render(&format!("{HEAD}{headers}\n{body}"), value)?;
    Ok(wire.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
}

const QP: &str = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n";

#[test]
fn conditions_filters_and_defaults_work() {
    assert_eq!(body("", "Hi {{ x | upper }}!\n", "ann").unwrap(), "Hi ANN!\r\n");
    assert_eq!(body("", "{% if x == 'a' %}A{% else %}B{% endif %}", "a").unwrap(), "A\r\n");
    assert_eq!(body("", "{{ x | default('friend') }}\n", "").unwrap(), "friend\r\n");
    assert_eq!(body("", "{{ x | urlencode }}\n", "a b/\u{fc}").unwrap(), "a%20b%2F%C3%BC\r\n");
    assert_eq!(
        body("", "{{ address }} {{ email }} {{ job }}\n", "").unwrap(),
        "u@d.example u@d.example j-1\r\n"
    );
}

#[test]
fn columns_that_are_no_identifiers_are_reached_through_row() {
    let template = compile(&format!("{HEAD}\n{{{{ row['First Name'] }}}}\n"), &["First Name"]).unwrap();
    let wire = template.render(&view("u@d.example", &["Ann"])).unwrap().content.wire;
    assert!(wire.ends_with(b"\r\n\r\nAnn\r\n"));
}

#[test]
fn html_is_escaped_and_plain_text_is_not() {
    let html = "Content-Type: text/html\n";
    assert_eq!(body(html, "<b>{{ x }}</b>\n", "<i>&").unwrap(), "<b>&lt;i&gt;&amp;</b>\r\n");
    assert_eq!(body("", "{{ x }}\n", "<i>&").unwrap(), "<i>&\r\n");
}

#[test]
fn parts_are_encoded_again_as_they_were() {
    assert_eq!(body(QP, "=C3=BC {{ x=\n }} =3D\n", "\u{e9}=").unwrap(), "=C3=BC =C3=A9=3D =3D\r\n");
    let base64 = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n";
    // "Hi {{ x }}!"
    assert_eq!(body(base64, "SGkge3sgeCB9fSE=\n", "\u{fc}").unwrap(), "SGkgw7wh\r\n");
    let latin = "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n";
    assert_eq!(body(latin, "=FC {{ x }}\n", "\u{e9}").unwrap(), "=FC =E9\r\n");
}

#[test]
fn a_part_that_outgrows_its_encoding_is_relabelled() {
    let wire =
        render(&format!("{HEAD}Content-Type: text/plain; format=flowed\n\nHi {{{{ x }}}}\n"), "\u{fc}")
            .unwrap();
    assert!(wire.contains("Content-Type: text/plain; charset=utf-8;\r\n format=\"flowed\"\r\n"), "{wire}");
    assert!(
        wire.contains("Content-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\n"),
        "{wire}"
    );
    assert!(wire.ends_with("Hi =C3=BC\r\n"));
    let plain =
        render(&format!("{HEAD}Content-Type: text/plain; format=flowed\n\nHi {{{{ x }}}}\n"), "u").unwrap();
    assert!(plain.contains("Content-Type: text/plain; format=flowed\r\n\r\nHi u\r\n"), "{plain}");
    let latin = "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n";
    let wire = render(&format!("{HEAD}{latin}\n{{{{ x }}}}\n"), "\u{20ac}").unwrap();
    assert!(wire.contains("charset=utf-8") && wire.ends_with("=E2=82=AC\r\n"), "{wire}");
    let long = body("", "{{ x }}\n", &"y".repeat(2000)).unwrap();
    assert!(long.split("\r\n").all(|line| line.len() <= 998));
}

#[test]
fn headers_are_encoded_and_blind_copies_still_removed() {
    let raw = format!(
        "{HEAD}Bcc: {{{{ x }}}}\nSubject: =?utf-8?Q?F=C3=BCr_=7B=7Bx=7D=7D?=\nTo: \"{{{{ x }}}}\" <{{{{ address }}}}>\n\nhi\n"
    );
    let wire = render(&raw, "J\u{f6}, \"R\"").unwrap();
    assert!(!wire.to_lowercase().contains("bcc"), "{wire}");
    let message = MessageParser::default().parse(wire.as_bytes()).unwrap();
    assert_eq!(message.subject(), Some("F\u{fc}r J\u{f6}, \"R\""));
    let to = message.to().and_then(|to| to.first()).unwrap();
    assert_eq!((to.name(), to.address()), (Some("J\u{f6}, \"R\""), Some("u@d.example")));
    assert!(wire.is_ascii());
}

#[test]
fn what_holds_no_marks_is_kept_octet_for_octet() {
    let image = "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n  iVBOR  =\n\n.\n";
    let nested = "Content-Type: message/rfc822\n\nFrom: n@o.example\nBcc: k@o.example\n\n{{ not_ours }}\n";
    let odd = "Content-Type: text/plain; charset=x-odd\n\nno marks\t \n";
    let raw = format!(
        "{HEAD}X-Odd:   kept  as\n\t is \nContent-Type: multipart/mixed; boundary=b\n\npre\n--b\n\n{{{{ x }}}}\n--b\n{image}\n--b\n{nested}\n--b\n{odd}\n--b--\nepi\n"
    );
    let want = raw.replace('\n', "\r\n").replace("\r\n.\r\n", "\r\n..\r\n").replace("{{ x }}", "Ann");
    assert_eq!(render(&raw, "Ann").unwrap(), want);
}

#[test]
fn a_value_that_would_add_a_line_or_an_address_is_refused() {
    for (header, value) in [
        ("Subject: {{ x }}", "a\r\nBcc: x@y.example"),
        ("Subject: {{ x }}", "a\nb"),
        ("X-Any: {{ x }}", "a\0b"),
        ("To: {{ x }}", "a@b.example, c@d.example"),
        ("To: <{{ x }}>", "a@b.example>, <c@d.example"),
        ("List-Unsubscribe: <https://h.example/{{ x }}>", "a> <b"),
    ] {
        let result = render(&format!("{HEAD}{header}\n\nhi\n"), value);
        assert!(result.is_err(), "{header} {value:?}: {result:?}");
    }
    let mixed = "Content-Type: multipart/mixed; boundary=b0\n";
    let raw = format!("{HEAD}{mixed}\n--b0\n\n{{{{ x }}}}\n--b0--\n");
    assert!(matches!(render(&raw, "a\n--b0\nnew part"), Err(RenderError::Boundary { .. })));
    assert!(matches!(body("", "{{ x }}", "a\0"), Err(RenderError::Control { code: 0, .. })));
}

#[test]
fn a_column_that_is_not_there_fails_the_compile_and_names_the_nearest() {
    let error = compile(&format!("{HEAD}\n\nDear {{{{ frist_name }}}}\n"), &["first_name", "city"]).err();
    let text = error.map(|e| e.to_string()).unwrap_or_default();
    assert!(
        text.contains("no column \"frist_name\"") && text.contains("did you mean \"first_name\"?"),
        "{text}"
    );
    assert!(
        text.contains("text/plain part that starts at line 5") && text.contains("first_name, city"),
        "{text}"
    );
    let guarded = compile(&format!("{HEAD}\n{{{{ nick | default('you') }}}}\n"), &["city"]).unwrap();
    assert!(guarded.warnings().iter().any(|w| w.contains("nick")));
    assert!(guarded.render(&view("u@d.example", &["c"])).is_ok());
    assert!(compile(&format!("{HEAD}\n{{% if %}}\n"), &[]).is_err());
    assert!(compile(&format!("{HEAD}\n{{{{ x }} ${{HOME}}\n"), &["x"]).is_err());
}

#[test]
fn a_style_sheet_that_looks_like_a_comment_gets_a_hint() {
    let raw =
        format!("{HEAD}Content-Type: text/html\n\n<style>@media print{{#a{{b:c}}}}</style>{{{{ x }}}}\n");
    let error = compile(&raw, &["x"]).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("write `{ #`"), "{error}");
}

#[test]
fn a_row_that_is_too_short_costs_one_recipient() {
    let template = compile(&format!("{HEAD}Subject: {{{{ y }}}}\n\n{{{{ y }}}}\n"), &["x", "y"]).unwrap();
    assert!(matches!(template.render(&view("u@d.example", &["a"])), Err(RenderError::Template { .. })));
    let body_only = compile(&format!("{HEAD}\n{{{{ y }}}}\n"), &["x", "y"]).unwrap();
    assert!(matches!(body_only.render(&view("u@d.example", &["a"])), Err(RenderError::Template { .. })));
}

#[test]
fn what_a_block_captured_counts_as_a_value_in_headers() {
    let raw = format!(
        "{HEAD}To: {{% set n %}}{{{{ x }}}}, Dr{{% endset %}}{{{{ n }}}} <{{{{ address }}}}>\n\nhi\n"
    );
    let wire = render(&raw, "Ann <x@y.example>").unwrap();
    assert!(wire.contains("To: \"Ann <x@y.example>, Dr\" <u@d.example>\r\n"), "{wire}");
}

#[test]
fn a_part_without_a_header_still_becomes_a_valid_part() {
    let mixed = "Content-Type: multipart/mixed; boundary=b\n";
    let raw = format!("{HEAD}{mixed}\n--b\nHi {{{{ x }}}}\n--b--\n");
    let wire = render(&raw, "\u{fc}").unwrap();
    let message = MessageParser::default().parse(wire.as_bytes()).unwrap();
    assert_eq!(message.body_text(0).as_deref(), Some("Hi \u{fc}"), "{wire}");
}

#[test]
fn a_loop_without_end_costs_one_recipient_and_no_hang() {
    let raw = format!(
        "{HEAD}\n{{% for i in range(9999) %}}{{% for j in range(9999) %}}{{{{ x }}}}{{% endfor %}}{{% endfor %}}\n"
    );
    let error = render(&raw, "a").err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("loop without end"), "{error}");
}

#[test]
fn a_part_in_a_charset_that_is_not_known_fails_only_with_marks() {
    let raw = |text: &str| format!("{HEAD}Content-Type: text/plain; charset=koi8-r\n\n{text}\n");
    assert!(matches!(compile(&raw("{{ x }}"), &["x"]), Err(MessageError::Charset { .. })));
    assert!(compile(&raw("x"), &["x"]).is_ok());
}

#[test]
fn each_recipient_gets_its_own_stable_message_id() {
    let raw = "From: a@b.example\n\n{{ x }}\n";
    let id = |ordinal, address| {
        let template = compile(raw, &["x"]).unwrap();
        let view = RecipientView { ordinal, address, values: &["v"] };
        let wire = template.render(&view).unwrap().content.wire;
        MessageParser::default().parse(&wire[..]).unwrap().message_id().unwrap().to_owned()
    };
    assert_eq!(id(7, "u@d.example"), id(7, "u@d.example"));
    assert_ne!(id(7, "u@d.example"), id(8, "u@d.example"));
    assert_ne!(id(7, "u@d.example"), id(7, "v@d.example"));
    assert!(id(7, "u@d.example").starts_with("j-1.7-"));
}

#[test]
fn merging_without_marks_shares_the_content_and_says_so() {
    let template = compile("From: a@b.example\n\nhi\n", &["x"]).unwrap();
    assert!(template.is_shared());
    assert!(template.warnings().iter().any(|w| w.contains("no merge marks")));
}

#[test]
fn a_merged_from_needs_its_address_in_plain_sight() {
    let from = |from: &str| compile(&format!("From: {from}\n\nhi\n"), &["x"]);
    assert_eq!(from("{{ x }} <a@b.example>").unwrap().sender(), "a@b.example");
    assert!(matches!(from("{{ x }} <{{ x }}@b.example>"), Err(MessageError::FromMerged { line: 1 })));
}

const NEWSLETTER: &str = include_str!("../examples/newsletter.eml");
const NEWSLETTER_COLUMNS: [&str; 5] = ["email", "first_name", "city", "plan", "unsubscribe_token"];

#[test]
fn the_example_newsletter_compiles_and_renders() {
    let template = compile(NEWSLETTER, &NEWSLETTER_COLUMNS).unwrap();
    assert_eq!(template.warnings(), Vec::<String>::new());
    assert_eq!(template.sender(), "letter@letters.example");
    let values = ["zoe@example.org", "Zo\u{eb}", "K\u{f6}ln", "Member", "t/1+2"];
    let content = template.render(&view(values[0], &values)).unwrap().content;
    assert!(!content.eight_bit && !content.utf8_headers);
    let message = MessageParser::default().parse(&content.wire[..]).unwrap();
    assert_eq!(
        message.subject(),
        Some("Zo\u{eb}, the towpath is open \u{2013} and the kingfishers are back")
    );
    let text = message.body_text(0).unwrap();
    let html = message.body_html(0).unwrap();
    for part in [&text, &html] {
        assert!(
            part.contains("Zo\u{eb}") && part.contains("K\u{f6}ln") && part.contains("You are a member"),
            "{part}"
        );
        assert!(!part.contains("{{") && !part.contains("{%"));
    }
    assert!(text.contains("u?t=t%2F1%2B2"));
    let wire = String::from_utf8(content.wire.to_vec()).unwrap();
    assert!(
        wire.contains("List-Unsubscribe: <https://letters.example/u?t=t%2F1%2B2>,\r\n <mailto:"),
        "{wire}"
    );
    let picture =
        message.parts.iter().find(|p| p.content_type().is_some_and(|ct| ct.ctype() == "image")).unwrap();
    assert!(picture.contents().starts_with(b"\x89PNG"));
    let empty = ["zoe@example.org", "", "", "", "t"];
    let content = template.render(&view(empty[0], &empty)).unwrap().content;
    let message = MessageParser::default().parse(&content.wire[..]).unwrap();
    assert_eq!(message.subject(), Some("The towpath is open \u{2013} and the kingfishers are back"));
    assert!(message.body_text(0).unwrap().starts_with("Dear reader,"));
}

/// Header names in order, addresses in To, and parts: what no value may change.
fn shape(wire: &[u8]) -> (Vec<String>, Vec<String>, usize) {
    let message = MessageParser::default().parse(wire).unwrap();
    let names = message.headers().iter().map(|header| header.name().to_lowercase()).collect();
    let to = message.to().map(|to| to.iter().filter_map(|a| a.address().map(str::to_owned)).collect());
    (names, to.unwrap_or_default(), message.parts.len())
}

fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,20}",
        "[\r\n\0\t ,<>\"\\\\@;:()=?.a-z\u{fc}\u{2028}-]{0,30}",
        Just("\r\nBcc: x@y.example\r\n\r\nbody".to_owned()),
        Just("--=_towpath-alternative".to_owned()),
        Just("a\r\n--=_towpath-related--\r\n".to_owned()),
        Just("\r\n.\r\nMAIL FROM:<x@y.example>\r\n".to_owned()),
        Just("=?utf-8?Q?=0D=0ABcc:_x=40y.example?=".to_owned()),
        Just("</p><script>{{ address }}{% raw %}".to_owned()),
    ]
}

proptest! {
    #[test]
    fn no_column_value_changes_the_shape_of_the_message(
        name in nasty(), city in nasty(), plan in nasty(), token in nasty()
    ) {
        let template = compile(NEWSLETTER, &NEWSLETTER_COLUMNS).unwrap();
        let plain = ["u@d.example", "Ann", "Bonn", "free", "t"];
        let want = shape(&template.render(&view(plain[0], &plain)).unwrap().content.wire);
        let values = ["u@d.example", name.as_str(), city.as_str(), plan.as_str(), token.as_str()];
        if let Ok(rendered) = template.render(&view(values[0], &values)) {
            let wire = &rendered.content.wire;
            prop_assert!(memchr::memmem::find(wire, b"\r\n.\r\n").is_none());
            prop_assert!(wire.ends_with(b"\r\n"));
            prop_assert_eq!(rendered.sender, "letter@letters.example");
            prop_assert_eq!(shape(wire), want);
        }
    }

    #[test]
    fn no_value_in_an_unencoded_part_changes_the_shape(value in nasty(), name in nasty()) {
        let raw = "From: a@b.example\nTo: {{ name }} <{{ address }}>\nSubject: {{ x }}\nMIME-Version: 1.0\n\
            Content-Type: multipart/mixed; boundary=\"=_towpath-alternative\"\n\n--=_towpath-alternative\n\
            Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nA {{ x }}\n\
            --=_towpath-alternative\n\n{{ x }}\n--=_towpath-alternative--\n";
        let template = compile(raw, &["x", "name"]).unwrap();
        let plain = template.render(&view("u@d.example", &["v", "Ann"])).unwrap();
        if let Ok(rendered) = template.render(&view("u@d.example", &[&value, &name])) {
            let wire = &rendered.content.wire;
            prop_assert!(memchr::memmem::find(wire, b"\r\n.\r\n").is_none());
            prop_assert_eq!(shape(wire), shape(&plain.content.wire));
        }
    }
}
