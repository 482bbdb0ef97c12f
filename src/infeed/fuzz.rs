//! Fuzz target: the MTA's replies, cut anywhere.

use super::reply::{
    REPLY_LINE_OCTETS_MAX, REPLY_OCTETS_MAX, SAID_TEXT_OCTETS_MAX, enhanced_code, parse, queue_id,
};
use crate::fuzzing::{Fuzz, as_it_is, is_not_quadratic};

const REPLIES: Fuzz = Fuzz {
    name: "replies",
    words: &[
        b"250 ",
        b"250-",
        b"354 ",
        b"421 4.3.2 ",
        b"550-5.1.1 ",
        b"\r\n",
        b"\r",
        b"\n",
        b" queued as ",
        b"id=",
        b"2.0.0 Ok: ",
        b" Message accepted",
        b"\xe2\x80\xa8",
        b"\xe2\x80\xae",
        b"\xc2\x85",
        b"\x1b[2J",
        b"\0",
        b"999 ",
        b"199 ",
    ],
    mend: as_it_is,
    target: reply,
};

fn reply(input: &[u8]) {
    let whole = parse(input);
    for cut in [1, 2, 3, 4, 5, 7, 11, 40, 200, 4_000].into_iter().filter(|cut| *cut < input.len()) {
        let cut = input.len() - cut;
        match (parse(&input[..cut]), &whole) {
            (Ok(None), _) => {}
            (Ok(part), whole) => assert_eq!(Ok(part), *whole, "a reply is the same once it is complete"),
            (Err(_), whole) => assert!(whole.is_err(), "what is no reply never becomes one"),
        }
    }
    let Ok(Some((reply, octets))) = whole else {
        let waits = matches!(whole, Ok(None));
        assert!(!waits || input.len() <= REPLY_OCTETS_MAX, "more than a reply may have is waited for");
        return;
    };
    assert!(octets <= input.len() && octets <= REPLY_OCTETS_MAX && input[octets - 1] == b'\n');
    assert!((200..600).contains(&reply.code));
    assert!(reply.lines().all(|line| line.len() < REPLY_LINE_OCTETS_MAX));
    let said = reply.said();
    assert!(said.code == reply.code && said.text.len() <= SAID_TEXT_OCTETS_MAX);
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}');
    assert!(!said.text.contains(breaks), "{:?}", said.text);
    if let Some(id) = queue_id(&said.text) {
        assert!(!id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic()), "{id:?}");
    }
    if let Some((class, ..)) = enhanced_code(&said.text) {
        assert!(matches!(class, 2 | 4 | 5));
    }
}

#[test]
fn replies() {
    REPLIES.run();
}

#[test]
fn a_reply_without_an_end_is_given_up_and_not_read_again_and_again() {
    is_not_quadratic("a reply of short lines", |octets| b"250-a\r\n".repeat(octets / 7), reply);
    is_not_quadratic("a reply of one line", |octets| vec![b'2'; octets], reply);
}
