//! A finished message goes out as it came: awkward messages through the public API of the stage.

use infeed::message::{CompileOptions, MessageError, RecipientView, Template, leftover_placeholders};
use proptest::prelude::*;

fn options<'a>() -> CompileOptions<'a> {
    CompileOptions {
        merge: false,
        columns: &[],
        job: "j-1",
        submitted_us: 1_795_317_240_000_000,
        message_id_domain: "mail.example",
        verp: None,
        sender: None,
        allow_placeholders: false,
    }
}

const HEAD: &str =
    "From: a@b.example\r\nDate: Sun, 22 Nov 2026 03:14:00 +0000\r\nMessage-ID: <x@y.example>\r\n";

fn compile(raw: &[u8]) -> Result<Template, MessageError> {
    Template::compile(raw, &options())
}

fn wire(raw: &[u8]) -> Vec<u8> {
    compile(raw).unwrap().shared_content().unwrap().wire.to_vec()
}

/// The wire form of a message with this body, its header left out.
fn body(body: &[u8]) -> Vec<u8> {
    let wire = wire(&[HEAD.as_bytes(), b"\r\n", body].concat());
    wire.strip_prefix(format!("{HEAD}\r\n").as_bytes()).unwrap().to_vec()
}

fn is_refused(raw: &[u8], says: &str) {
    let error = compile(raw).err().map(|e| e.to_string());
    assert!(error.as_ref().is_some_and(|e| e.contains(says)), "{error:?}");
}

#[test]
fn bodies_keep_their_octets_line_ends_and_dots_aside() {
    assert_eq!(body(b"one\r\ntwo\r\n"), b"one\r\ntwo\r\n");
    assert_eq!(body(b".one\n.\n..two"), b"..one\r\n..\r\n...two\r\n");
    assert_eq!(body(b"a\rb\nc\r\r\nd"), b"a\r\nb\r\nc\r\n\r\nd\r\n");
    assert_eq!(body(b"  \t\r\n \r\n"), b"  \t\r\n \r\n");
    assert_eq!(body(b"{ not % a mark }\r\n"), b"{ not % a mark }\r\n");
}

#[test]
fn an_empty_body_adds_no_line() {
    assert_eq!(body(b""), b"");
    assert_eq!(wire(HEAD.as_bytes()), HEAD.as_bytes());
    assert_eq!(wire(HEAD.trim_end().as_bytes()), HEAD.as_bytes());
}

#[test]
fn smuggling_sequences_never_end_the_message() {
    for end in [
        "\n.\n",
        "\r.\r",
        "\r\n.\n",
        "\n.\r\n",
        "\r\r\n.\r\n",
        "\r\n.\r",
        "\r.\r\n",
        "\r.\n",
        "\n.\r",
        "\r\n.\r\n",
    ] {
        let out = body(format!("a{end}MAIL FROM:<x@y.example>").as_bytes());
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains("\r\n.\r\n"), "{end:?}");
        assert!(text.contains("\r\n..\r\nMAIL FROM"), "{end:?}: {text:?}");
    }
}

#[test]
fn eight_bit_content_is_declared_and_kept() {
    let template = compile(&[HEAD.as_bytes(), b"\r\n\xFF\xFE\xE9\r\n"].concat()).unwrap();
    let content = template.shared_content().unwrap();
    assert!(content.eight_bit && !content.utf8_headers);
    assert!(content.wire.ends_with(b"\r\n\xFF\xFE\xE9\r\n"));
    let template = compile(format!("{HEAD}Subject: Gr\u{fc}\u{df}e\r\n\r\nx\r\n").as_bytes()).unwrap();
    let content = template.shared_content().unwrap();
    assert!(content.eight_bit && content.utf8_headers);
    assert!(template.warnings().iter().any(|w| w.contains("line 4: Subject holds raw UTF-8")));
    let latin = compile(&[HEAD.as_bytes(), b"Subject: \xFC\r\n\r\nx\r\n"].concat()).unwrap();
    let content = latin.shared_content().unwrap();
    assert!(content.eight_bit && !content.utf8_headers);
}

#[test]
fn size_counts_octets_before_dot_stuffing() {
    let template = compile(format!("{HEAD}\r\n.\r\n").as_bytes()).unwrap();
    let content = template.shared_content().unwrap();
    assert_eq!(content.size_octets as usize, HEAD.len() + 2 + 3);
    assert_eq!(content.wire.len(), HEAD.len() + 2 + 4);
}

#[test]
fn blind_copies_and_return_paths_never_leave() {
    let raw = format!(
        "Return-Path: <r@s.example>\r\n{HEAD}bcc: x@y.example,\r\n\tz@y.example\r\nTo: t@u.example\r\n\
         Resent-Bcc : q@y.example\r\n\r\nBcc: in the body stays\r\n"
    );
    let want = format!("{HEAD}To: t@u.example\r\n\r\nBcc: in the body stays\r\n");
    assert_eq!(String::from_utf8(wire(raw.as_bytes())).unwrap(), want);
}

#[test]
fn date_and_message_id_are_added_once_and_stay_the_same() {
    let raw = b"From: a@b.example\nSubject: x\n\nbody\n";
    let want = "From: a@b.example\r\nSubject: x\r\nDate: Sun, 22 Nov 2026 03:14:00 +0000\r\n\
                Message-ID: <j-1@mail.example>\r\n\r\nbody\r\n";
    assert_eq!(String::from_utf8(wire(raw)).unwrap(), want);
    assert_eq!(wire(raw), wire(raw));
    // Compiled from what was sent, nothing more is added.
    assert_eq!(wire(want.as_bytes()), want.as_bytes());
}

#[test]
fn what_is_no_message_is_refused_with_its_line() {
    is_refused(b"", "empty");
    is_refused(b"\r\n\r\n", "empty");
    is_refused(b"Subject: x\n\nbody\n", "no From");
    is_refused(b"From: a@b.example\n\na\n\0\n", "line 4: a NUL");
    is_refused(b"From: a@b.example\nHello there\n", "line 2: \"Hello there\"");
    is_refused(b" folded\nFrom: a@b.example\n\nx\n", "line 1");
    is_refused(b"From: a@b.example\nFrom: c@d.example\n\nx\n", "line 2: From stands twice");
    is_refused(b"From: nobody\n\nx\n", "line 1: no usable address in From");
    is_refused(b"From: a@b.example, c@d.example\n\nx\n", "2 addresses");
}

#[test]
fn merge_marks_without_merge_ask_for_it() {
    let raw = format!("{HEAD}\r\nDear {{{{ name }}}},\r\n");
    is_refused(raw.as_bytes(), "did you mean --merge? line 5: {{ name }}");
    is_refused(format!("{HEAD}\r\nDear *|FNAME|*,\r\n").as_bytes(), "line 5: *|FNAME|*");
    let forced = CompileOptions { allow_placeholders: true, ..options() };
    assert!(Template::compile(raw.as_bytes(), &forced).is_ok());
}

#[test]
fn an_mbox_line_and_a_byte_order_mark_are_dropped_with_a_warning() {
    for before in ["From a@b Sun Nov 22 03:14:00 2026\r\n", "From a@b Sun Nov 22 03:14:00 2026\n", "\u{feff}"]
    {
        let template = compile(format!("{before}{HEAD}\r\nx\r\n").as_bytes()).unwrap();
        let content = template.shared_content().unwrap();
        assert_eq!(String::from_utf8_lossy(&content.wire), format!("{HEAD}\r\nx\r\n"));
        assert!(template.warnings().iter().any(|w| w.contains("dropped")));
    }
}

#[test]
fn warnings_name_what_receivers_will_mind() {
    let bare = compile(format!("{HEAD}\r\n{}\r\n", "x".repeat(999)).as_bytes()).unwrap();
    for what in ["List-Id", "List-Unsubscribe", "line 5: 999 octets"] {
        assert!(bare.warnings().iter().any(|w| w.contains(what)), "{what}: {:?}", bare.warnings());
    }
    let full = format!(
        "{HEAD}List-Id: <l.example>\r\nList-Unsubscribe: <https://l.example/u>\r\n\
         List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n{}\r\n",
        "x".repeat(998)
    );
    assert_eq!(compile(full.as_bytes()).unwrap().warnings(), Vec::<String>::new());
}

#[test]
fn the_sender_is_the_option_or_the_address_in_from() {
    let raw = b"From: \"Lee, Ann\" <ann@b\xC3\xBCcher.example>\n\nx\n";
    assert_eq!(compile(raw).unwrap().sender(), "ann@xn--bcher-kva.example");
    let with = |sender| Template::compile(raw, &CompileOptions { sender: Some(sender), ..options() });
    assert_eq!(with("bounce@c.example").unwrap().sender(), "bounce@c.example");
    assert_eq!(with("").unwrap().sender(), "");
    assert_eq!(with("<>").unwrap().sender(), "");
    assert!(with("a b@c.example").is_err());
}

#[test]
fn verp_changes_the_sender_and_not_the_content() {
    let o = CompileOptions { verp: Some("list-{job}@b.example"), ..options() };
    let template = Template::compile(format!("{HEAD}\r\nx\r\n").as_bytes(), &o).unwrap();
    assert!(template.is_shared() && !template.sender_is_shared());
    let one = RecipientView { ordinal: 1, address: "u@d.example", values: &[] };
    let rendered = template.render(&one).unwrap();
    assert_eq!(rendered.sender, "list-j-1+u=d.example@b.example");
    assert_eq!(Some(&rendered.content), template.shared_content());
}

/// Pieces that messages are made of, and break on.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        proptest::sample::select(vec![
            "\r\n",
            "\n",
            "\r",
            "\r\n\r\n",
            "\n\n",
            "From: a@b.example\n",
            "From: {{ x }} <a@b.example>\n",
            "To: {{ x }} <{{ address }}>\n",
            "Subject: =?utf-8?Q?=7B=7B_x_=7D=7D?=\n",
            "Bcc: x@y.example\n z\n",
            "Content-Type: multipart/mixed; boundary=b\n\n",
            "Content-Type: text/html; charset=utf-8\n",
            "Content-Transfer-Encoding: base64\n",
            "Content-Transfer-Encoding: quoted-printable\n",
            "--b\n",
            "--b--\n",
            "--b",
            "{{ x }}",
            "{{",
            "{%",
            "{#",
            "{% if x %}",
            "{% endif %}",
            "=\n",
            "=C3=BC",
            "e3sgeCB9fQ==",
            ".",
            ": ",
            " ",
            "\u{fc}",
            "%%",
            "*|",
            "[[a]]",
            "${",
            "sk_",
            "=?",
            "?=",
            "\"",
            "<",
            ">",
            ",",
            "@",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    #[test]
    fn any_octets_are_refused_or_go_out_in_wire_form(
        start in 0usize..5, fragments in proptest::collection::vec(fragment(), 0..16), value in "\\PC{0,8}|[\r\n.=b-]{0,8}"
    ) {
        let starts = [
            "",
            "From: a@b.example\n",
            "From: a@b.example\n\n",
            "From: a@b.example\nContent-Type: multipart/mixed; boundary=b\n\n--b\n",
            "From: a@b.example\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n",
        ];
        let raw = [starts[start].as_bytes(), &fragments.concat()].concat();
        prop_assert!(leftover_placeholders(&raw).len() <= 42);
        let columns = ["x".to_owned()];
        for merge in [false, true] {
            let o = CompileOptions { merge, columns: &columns, allow_placeholders: true, ..options() };
            let Ok(template) = Template::compile(&raw, &o) else { continue };
            let Ok(rendered) = template.render(&RecipientView { ordinal: 1, address: "u@d.example", values: &[&value] })
            else { continue };
            let wire = &rendered.content.wire;
            prop_assert!(wire.ends_with(b"\r\n"));
            prop_assert!(memchr::memmem::find(wire, b"\r\n.\r\n").is_none());
            prop_assert!(memchr::memchr_iter(b'\n', wire).all(|i| i > 0 && wire[i - 1] == b'\r'));
            prop_assert!(memchr::memchr_iter(b'\r', wire).all(|i| wire.get(i + 1) == Some(&b'\n')));
            prop_assert!(wire.is_ascii() || rendered.content.eight_bit);
            let again = Template::compile(&raw, &o).ok().and_then(|t| {
                t.render(&RecipientView { ordinal: 1, address: "u@d.example", values: &[&value] }).ok()
            });
            prop_assert_eq!(again.map(|r| r.content), Some(rendered.content));
        }
    }
}
