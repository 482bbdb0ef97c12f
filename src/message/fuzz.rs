//! Fuzz target: messages, compiled and rendered with values, with and without merging.

use super::address::check_address;
use super::wire::{normalise, unstuff, wire_encode};
use super::{CompileOptions, RecipientView, Rendered, Template, leftover_placeholders};
use crate::fuzzing::{Fuzz, as_it_is, is_not_quadratic};

/// An input is a message, and after a NUL each, the values of the columns `x` and `y`.
const MESSAGES: Fuzz = Fuzz {
    name: "messages",
    words: &[
        b"{{ x }}",
        b"{{ y }}",
        b"{{ x | default('z') }}",
        b"{% if x %}",
        b"{% endif %}",
        b"{# ",
        b" #}",
        b"{{",
        b"}}",
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\r\r\n",
        b"\0",
        b"From: a@b.example\n",
        b"To: {{ x }} <{{ y }}>\n",
        b"Subject: {{ x }}\n",
        b"Bcc: c@d.example\n",
        b"List-Unsubscribe: <https://l.example/?{{ x }}>\n",
        b"Content-Type: multipart/mixed; boundary=b\n",
        b"Content-Type: text/html; charset=iso-8859-1\n",
        b"Content-Transfer-Encoding: base64\n",
        b"Content-Transfer-Encoding: quoted-printable\n",
        b"\n--b\n",
        b"\n--b--\n",
        b"=?utf-8?Q?=0D=0ABcc:_a@b?=",
        b"=?utf-8?B?DQpCY2M6IGFAYg==?=",
        b"%0d%0a",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"\xe2\x80\xae",
        b"\xff",
        b"*|NAME|*",
        b"<!--",
        b"\"",
        b"<",
        b">",
        b"(",
        b",",
    ],
    mend: as_it_is,
    target: message,
};

/// Headers that infeed adds, or changes with a part's encoding.
const ADDED: [&str; 5] = ["date", "message-id", "mime-version", "content-type", "content-transfer-encoding"];
const REMOVED: [&str; 3] = ["bcc", "resent-bcc", "return-path"];

fn message(input: &[u8]) {
    let mut parts = input.split(|&b| b == 0);
    let raw = parts.next().unwrap_or_default();
    let mut value = || String::from_utf8_lossy(parts.next().unwrap_or(b"v")).into_owned();
    let values = [value(), value()];
    drop(leftover_placeholders(raw));
    for merge in [false, true] {
        let columns = ["x".to_owned(), "y".to_owned()];
        let options = CompileOptions {
            merge,
            columns: &columns,
            job: "j-1",
            submitted_us: 1_795_317_240_000_000,
            message_id_domain: "mail.example",
            verp: merge.then_some("b+{local}={domain}@host.example"),
            sender: None,
            allow_placeholders: true,
        };
        let Ok(template) = Template::compile(raw, &options) else { continue };
        assert!(template.warnings().len() < 100, "{} warnings", template.warnings().len());
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let view = RecipientView { ordinal: 7, address: "u@d.example", values: &values };
        let Ok(rendered) = template.render(&view) else { continue };
        check(&rendered, raw);
        assert_eq!(template.render(&view).as_ref(), Ok(&rendered), "the same every time");
    }
}

fn check(rendered: &Rendered, raw: &[u8]) {
    let wire = &rendered.content.wire;
    for (i, &b) in wire.iter().enumerate() {
        assert!(b != b'\n' || (i > 0 && wire[i - 1] == b'\r'), "a bare LF at {i}");
        assert!(b != b'\r' || wire.get(i + 1) == Some(&b'\n'), "a bare CR at {i}");
        assert!(b != 0, "a NUL at {i}");
    }
    assert!(wire.ends_with(b"\r\n"));
    for line in wire.split(|&b| b == b'\n') {
        assert!(!line.starts_with(b".") || line.starts_with(b".."), "a dot that is not stuffed");
    }
    let plain = unstuff(wire);
    assert_eq!(plain.len() as u64, rendered.content.size_octets);
    assert_eq!(wire_encode(&plain).0, *wire);
    assert!(rendered.content.eight_bit || wire.is_ascii(), "octets above 127 that are not declared");
    assert!(rendered.sender.is_empty() || check_address(&rendered.sender).is_ok(), "{}", rendered.sender);
    // a value adds no header, and takes none away
    let start = raw.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(raw);
    let start = match memchr::memchr2(b'\r', b'\n', start).filter(|_| start.starts_with(b"From ")) {
        Some(end) => start[end..].strip_prefix(b"\r\n").unwrap_or(&start[end + 1..]),
        None => start,
    };
    let (before, after) = (names(&normalise(start)), names(&plain));
    let others = |names: &[String]| -> Vec<String> {
        let counts = |n: &&String| !ADDED.contains(&n.as_str()) && !REMOVED.contains(&n.as_str());
        names.iter().filter(counts).cloned().collect()
    };
    assert_eq!(others(&before), others(&after), "headers");
    for name in ADDED {
        let count = |names: &[String]| names.iter().filter(|n| *n == name).count();
        assert!(count(&after) <= count(&before).max(1), "{name} was added to what has it");
    }
    assert!(!after.iter().any(|name| REMOVED.contains(&name.as_str())), "{after:?}");
}

/// The headers' names in lower case, in order.
fn names(message: &[u8]) -> Vec<String> {
    let lines = message.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with(b" ") && !line.starts_with(b"\t"))
        .map(|line| {
            let end = line.iter().position(|&b| b == b':').unwrap_or(line.len());
            String::from_utf8_lossy(line[..end].trim_ascii_end()).to_ascii_lowercase()
        })
        .collect()
}

#[test]
fn messages() {
    MESSAGES.run();
}

#[test]
fn no_message_takes_the_square_of_its_length() {
    let shapes: [(&str, &str, &str); 14] = [
        ("headers", "", "X: y\n"),
        ("headers that are not ASCII", "", "X: \u{fc}\n"),
        ("merged headers", "", "X: {{ x }}\n"),
        ("merged headers that are not ASCII", "", "X: \u{fc}{{ x }}\n"),
        ("open marks in a header", "Subject: ", "{{"),
        ("open marks", "\n", "{{"),
        ("open statements", "\n", "{%"),
        ("open marks with names", "\n", "{{a"),
        ("placeholders", "\n", "${a"),
        ("placeholders of another system", "\n", "*|a"),
        ("encoded words", "Subject: ", "=?utf-8?Q?=41?= "),
        ("broken encoded words", "Subject: ", "=?utf-8?Q?"),
        ("parts", "Content-Type: multipart/mixed; boundary=b\n\n", "--b\n\nx\n"),
        (
            "multiparts in a multipart",
            "Content-Type: multipart/mixed; boundary=b\n\n",
            "--b\nContent-Type: multipart/mixed; boundary=c\n\n",
        ),
    ];
    for (what, head, piece) in shapes {
        let input = |octets: usize| {
            let mut raw = format!("From: a@b.example\n{head}").into_bytes();
            raw.extend(piece.repeat(octets / piece.len()).bytes());
            raw
        };
        is_not_quadratic(what, input, |raw| {
            drop(leftover_placeholders(raw));
            message(raw);
        });
    }
}
