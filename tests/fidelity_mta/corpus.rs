//! The messages, and what each must look like on the wire, by rules that share no code with infeed.

/// A finished message, as its file holds it.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub message: Vec<u8>,
}

/// With all that infeed would add.
const HEADERS: &str = "From: List <list@example.org>\r\nTo: Readers <readers@example.org>\r\n\
    Subject: awkward\r\nDate: Sun, 22 Nov 2026 03:14:00 +0000\r\nMessage-ID: <awkward@example.org>\r\n\
    MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";

/// As it must leave: every lone CR, every lone LF a CRLF, and one at the end.
pub fn on_the_wire(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    let mut octets = message.iter().copied().peekable();
    while let Some(octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            octet => out.push(octet),
        }
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// What follows the first empty line; nothing where there is none.
pub fn body(content: &[u8]) -> Vec<u8> {
    let empty_line = content.windows(4).position(|octets| octets == b"\r\n\r\n");
    empty_line.map_or_else(Vec::new, |at| content[at + 4..].to_vec())
}

fn sample(name: impl Into<String>, body: impl AsRef<[u8]>) -> Sample {
    let mut message = HEADERS.as_bytes().to_vec();
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(body.as_ref());
    Sample { name: name.into(), message }
}

/// What other programs trip over.
pub fn awkward() -> Vec<Sample> {
    let long =
        |n: usize| format!("before\r\n{}\r\nafter\r\n", "0123456789".repeat(n.div_ceil(10)).split_at(n).0);
    let every_octet: Vec<u8> = (1..=255).filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
    let mut samples = vec![
        sample("a dot first of all", ".first\r\nsecond\r\n"),
        sample("leading dots", "x\r\n.one\r\n..two\r\n...three\r\n"),
        sample("only dots", ".\r\n..\r\n...\r\n"),
        sample("a lone dot at the end", "text\r\n."),
        sample("a lone dot line at the end", "text\r\n.\r\n"),
        sample("a lone CR in a line", "before\rafter\r\n"),
        sample("a lone CR at the end", "text\r"),
        sample("CR CR LF", "one\r\r\ntwo\r\n"),
        sample("lone LFs", "one\ntwo\n.three\n\nfour\n"),
        sample("LF CR", "one\n\rtwo\r\n"),
        sample("all kinds of line ends", "a\nb\rc\r\nd\n\ne\r\rf\n"),
        sample("no line end at the end", "one\r\ntwo"),
        sample("empty lines at the end", "text\r\n\r\n\r\n"),
        sample("empty lines only", "\r\n\r\n"),
        sample("an empty body", ""),
        sample("spaces at line ends", "one \r\n\ttwo\t \r\n \r\n"),
        sample("8-bit", "Löwenbach, Ελλάδα, 日本\r\n"),
        sample("octets that are no UTF-8", b"\xff\xfe\xe4\r\n.\xff\r\n"),
        sample("every octet but NUL", every_octet),
        sample("From at a line's start", "From me\r\nFrom: me\r\n>From you\r\n"),
        sample("lines that look like commands", "QUIT\r\nRSET\r\nDATA\r\n"),
        sample("a dot at an old reader's buffer end", format!("{}\r\n.\r\n.x\r\n", "y".repeat(997))),
        sample("much of it", "a line like any other, and not a short one\r\n.dotted\r\n".repeat(20_000)),
    ];
    for n in [988, 989, 990, 991, 997, 998, 999, 1_000, 2_500, 10_000] {
        samples.push(sample(format!("a line of {n} octets"), long(n)));
    }
    let mut lf_only = HEADERS.replace("\r\n", "\n").into_bytes();
    lf_only.extend_from_slice(b"\nLF all over\n.\n");
    samples.push(Sample { name: "a file with LF only".into(), message: lf_only });
    samples.push(Sample { name: "headers and no empty line".into(), message: HEADERS.into() });
    samples
}

/// What some server once took for the end of the content, each followed by a whole second transaction.
pub fn smuggling(victim: &str) -> Vec<Sample> {
    let ends = [
        "\n.\n",
        "\r.\r",
        "\r.\n",
        "\n.\r",
        "\r\n.\n",
        "\r\n.\r",
        "\n.\r\n",
        "\r.\r\n",
        "\r\r\n.\r\n",
        "\r\n.\r\r\n",
        "\n\n.\n\n",
        "\r\r.\r\r",
        "\r\n.\r\n",
        "\r\n\r\n.\r\n",
        "\n\r.\n\r",
        "\n\r\n.\n\r\n",
        "\r\n .\r\n",
        "\r\n. \r\n",
        "\r\n..\r\n",
        "\r\n.\t\r\n",
        "\r\n.\x0b\r\n",
        "\u{85}.\u{85}",
        "\u{2028}.\u{2028}",
    ];
    let mut samples = Vec::new();
    for end in ends {
        for line_end in ["\r\n", "\n", "\r"] {
            let second = second_transaction(victim).replace("\r\n", line_end);
            let name = format!("{:?}, then {line_end:?}", end);
            samples.push(sample(name, format!("the first{end}{second}")));
        }
    }
    samples
}

/// The same around a NUL, which no message may hold.
pub fn with_nul(victim: &str) -> Vec<(String, Vec<u8>)> {
    let ends = ["\0", "\r\n\0.\r\n", "\r\n.\0\r\n", "\r\0\n.\r\n", "\n.\0\n", "\r\n.\r\0\n"];
    let of = |end: &&str| {
        let message = sample("", format!("the first{end}{}", second_transaction(victim))).message;
        (format!("{end:?}"), message)
    };
    let mut all: Vec<(String, Vec<u8>)> = ends.iter().map(of).collect();
    all.push(("in a header".into(), format!("X-Odd: a\0b\r\n{HEADERS}\r\ntext\r\n").into_bytes()));
    all
}

fn second_transaction(victim: &str) -> String {
    format!(
        "MAIL FROM:<list@example.org>\r\nRCPT TO:<{victim}>\r\nDATA\r\n\
         From: evil@example.org\r\nSubject: smuggled\r\n\r\nthe second\r\n.\r\nQUIT\r\n"
    )
}
