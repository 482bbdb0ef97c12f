use super::*;
use proptest::prelude::*;

fn whole(text: &str) -> Said {
    parse(text.as_bytes()).unwrap().unwrap().0.said()
}

#[test]
fn a_reply_ends_at_the_line_without_a_hyphen() {
    let octets = b"250-one\r\n250-two\r\n250 three\r\n354 next\r\n";
    let (reply, taken) = parse(octets).unwrap().unwrap();
    assert_eq!((reply.code, taken), (250, 29));
    assert_eq!(reply.lines().collect::<Vec<_>>(), [b"one".as_slice(), b"two", b"three"]);
    assert_eq!(parse(&octets[taken..]).unwrap().unwrap().0.code, 354);
}

#[test]
fn a_code_alone_and_a_bare_lf_are_replies() {
    assert_eq!(whole("250\r\n"), Said { code: 250, text: String::new() });
    assert_eq!(whole("221 bye\n"), Said { code: 221, text: "bye".into() });
}

#[test]
fn what_is_no_reply_is_told_at_once() {
    for bad in
        ["HTTP/1.1 400\r\n", "\r\n\r\n\r\n", "2x0 no\r\n", "199 no\r\n", "600 no\r\n", "250_no\r\n", "HTTP"]
    {
        assert!(matches!(parse(bad.as_bytes()), Err(BadReply::NoCode(_))), "{bad:?}");
    }
    assert_eq!(parse(b"250-a\r\n550 b\r\n"), Err(BadReply::CodesDiffer(250, 550)));
}

#[test]
fn a_reply_is_bounded_in_line_and_in_all() {
    let line = format!("250 {}", "x".repeat(REPLY_LINE_OCTETS_MAX));
    assert_eq!(parse(line.as_bytes()), Err(BadReply::LineTooLong));
    let lines = "250-x\r\n".repeat(REPLY_OCTETS_MAX / 7 + 1);
    assert_eq!(parse(lines.as_bytes()), Err(BadReply::TooLong));
}

#[test]
fn text_is_one_printable_line_with_the_enhanced_code_once() {
    assert_eq!(whole("550-5.1.1 no\r\n550 5.1.1 such user\r\n").text, "5.1.1 no such user");
    assert_eq!(whole("550 a\x07b\tc\r\n").text, "a?b?c");
    assert_eq!(whole("550 a\u{2028}b\u{e9}\r\n").text, "a?b\u{e9}");
    let long = format!("550-{}\r\n550 {}\r\n", "\u{e9}".repeat(400), "y".repeat(400));
    assert!(whole(&long).text.len() <= SAID_TEXT_OCTETS_MAX);
}

#[test]
fn enhanced_codes_are_read_only_where_they_are_one() {
    assert_eq!(enhanced_code("4.3.1 Insufficient system storage"), Some((4, 3, 1)));
    assert_eq!(enhanced_code("5.7.1"), Some((5, 7, 1)));
    for none in ["", "ok", "3.1.1 x", "5.1 x", "5.1.1.1 x", "5.a.1 x", "5..1 x", "5.1.1234 x"] {
        assert_eq!(enhanced_code(none), None, "{none:?}");
    }
}

#[test]
fn each_mta_tells_its_queue_id_in_its_own_way() {
    for (text, id) in [
        ("2.0.0 Ok: queued as 4XyZ12abcDz1k", Some("4XyZ12abcDz1k")),
        ("2.0.0 Ok: queued as 3F1A2B", Some("3F1A2B")),
        ("2.0.0 6AM3xQ9i012345 Message accepted for delivery", Some("6AM3xQ9i012345")),
        ("2.0.0: 1f2e3d4c Message accepted for delivery", Some("1f2e3d4c")),
        ("2.0.0 1f2e3d4c Message accepted for delivery", Some("1f2e3d4c")),
        ("OK id=1tF0aB-0001Xy-2z", Some("1tF0aB-0001Xy-2z")),
        ("Message Queued (C0FFEE.1) id: abc-1", Some("abc-1")),
        ("2.6.0 <x@y> Queued mail for delivery", None),
        ("2.0.0 Message accepted for delivery", None),
        ("2.0.0 Ok", None),
        ("valid=yes", None),
        ("", None),
    ] {
        assert_eq!(queue_id(text), id, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_octets_are_a_reply_or_an_error_or_want_more(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some((reply, taken))) = parse(&octets) {
            prop_assert!(taken <= octets.len() && (200..600).contains(&reply.code));
            let said = reply.said();
            prop_assert!(said.text.len() <= SAID_TEXT_OCTETS_MAX && !said.text.contains(char::is_control));
            queue_id(&said.text);
        }
    }

    #[test]
    fn a_reply_is_found_when_its_last_octet_is_there_and_not_before(
        code in 200u16..600, lines in prop::collection::vec("[ -~]{0,30}", 1..5)) {
        let last = lines.len() - 1;
        let octets: String = lines.iter().enumerate()
            .map(|(i, l)| format!("{code}{}{l}\r\n", if i == last { ' ' } else { '-' })).collect();
        for cut in 0..octets.len() {
            prop_assert_eq!(parse(&octets.as_bytes()[..cut]).unwrap().map(|(r, _)| r.code), None);
        }
        let (reply, taken) = parse(octets.as_bytes()).unwrap().unwrap();
        prop_assert_eq!((reply.code, taken), (code, octets.len()));
        prop_assert_eq!(reply.lines().map(|l| String::from_utf8_lossy(l).into_owned()).collect::<Vec<_>>(), lines);
    }
}
