//! Transfer encodings (RFC 2045 §6) and the charsets that merging can decode and encode.
//!
//! Decoding quoted-printable never fails (what is no escape stands for itself); base64 and charsets
//! can, with a reason. Encoded text has lines of at most 76 characters and ends without a line end.

use std::borrow::Cow;

/// Characters of an encoded line, its CRLF aside (RFC 2045 §6.7, §6.8).
const LINE_MAX: usize = 76;

/// Content-Transfer-Encoding of a text part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    SevenBit,
    EightBit,
    QuotedPrintable,
    Base64,
}

impl Transfer {
    /// From the lower-case header value; `None` for one that isn't standard.
    pub fn parse(name: &str) -> Option<Transfer> {
        match name {
            "" | "7bit" => Some(Transfer::SevenBit),
            "8bit" | "binary" => Some(Transfer::EightBit),
            "quoted-printable" => Some(Transfer::QuotedPrintable),
            "base64" => Some(Transfer::Base64),
            _ => None,
        }
    }

    pub fn decode(self, raw: &[u8]) -> Result<Cow<'_, [u8]>, String> {
        match self {
            Transfer::SevenBit | Transfer::EightBit => Ok(Cow::Borrowed(raw)),
            Transfer::QuotedPrintable => Ok(Cow::Owned(qp_decode(raw))),
            Transfer::Base64 => base64_decode(raw).map(Cow::Owned),
        }
    }
}

/// A charset of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    Ascii,
    Utf8,
    Latin1,
    Windows1252,
}

/// 0x80–0x9F of windows-1252; 0 where nothing is assigned.
const WINDOWS_1252: [u16; 32] = [
    0x20AC, 0, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,
    0x017D, 0, 0, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A,
    0x0153, 0, 0x017E, 0x0178,
];

impl Charset {
    /// From the lower-case parameter; nothing said is us-ascii (RFC 2045 §5.2).
    pub fn parse(name: &str) -> Option<Charset> {
        match name {
            "" | "us-ascii" | "ascii" => Some(Charset::Ascii),
            "utf-8" | "utf8" => Some(Charset::Utf8),
            "iso-8859-1" | "latin1" => Some(Charset::Latin1),
            "windows-1252" | "cp1252" => Some(Charset::Windows1252),
            _ => None,
        }
    }

    /// Text of the octets. us-ascii is read as UTF-8: a part that holds more than it says is re-labelled
    /// when it is encoded.
    pub fn decode(self, octets: &[u8]) -> Result<String, String> {
        match self {
            Charset::Ascii | Charset::Utf8 => std::str::from_utf8(octets)
                .map(str::to_owned)
                .map_err(|e| format!("octet {} is not UTF-8", e.valid_up_to() + 1)),
            Charset::Latin1 => Ok(octets.iter().map(|&b| char::from(b)).collect()),
            Charset::Windows1252 => octets
                .iter()
                .map(|&b| match b {
                    0x80..=0x9F => match WINDOWS_1252[usize::from(b - 0x80)] {
                        0 => Err(format!("octet 0x{b:02X} is not in windows-1252")),
                        code => Ok(char::from_u32(u32::from(code)).unwrap_or('\u{FFFD}')),
                    },
                    _ => Ok(char::from(b)),
                })
                .collect(),
        }
    }

    /// Octets of the text; `None` where the charset lacks a character.
    pub fn encode(self, text: &str) -> Option<Cow<'_, [u8]>> {
        if self == Charset::Utf8 || text.is_ascii() {
            return Some(Cow::Borrowed(text.as_bytes()));
        }
        let octet = |c: char| match (self, u32::from(c)) {
            (_, code @ 0..=0x7F) => u8::try_from(code).ok(),
            (Charset::Latin1, code @ 0x80..=0xFF) => u8::try_from(code).ok(),
            (Charset::Windows1252, code @ 0xA0..=0xFF) => u8::try_from(code).ok(),
            (Charset::Windows1252, code) => {
                WINDOWS_1252.iter().position(|&w| w != 0 && u32::from(w) == code).map(|i| 0x80 + i as u8)
            }
            _ => None,
        };
        text.chars().map(octet).collect::<Option<Vec<u8>>>().map(Cow::Owned)
    }
}

/// Quoted-printable of text whose line ends are LF or CRLF; the output has CRLF.
pub fn qp_encode(octets: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut column = 0;
    let mut at = 0;
    while at < octets.len() {
        // Most text is runs that stand for themselves.
        let limit = octets.len().min(at + LINE_MAX - 1 - column);
        let run = octets[at..limit].iter().position(|b| !QP_PLAIN[usize::from(*b)]);
        let mut end = run.map_or(limit, |len| at + len);
        // Space at the end of a line would be lost on the way.
        if end > at && matches!(octets[end - 1], b' ' | b'\t') && line_end_len(octets, end).is_some() {
            end -= 1;
        }
        out.extend_from_slice(&octets[at..end]);
        column += end - at;
        at = end;
        let Some(&b) = octets.get(at) else { break };
        if let Some(len) = line_end_len(octets, at) {
            out.extend_from_slice(b"\r\n");
            column = 0;
            at += len;
            continue;
        }
        // A plain octet here found its line full, or is space that ends a line.
        let full = QP_PLAIN[usize::from(b)] && column == LINE_MAX - 1;
        if full || column + 3 > LINE_MAX - 1 {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        if !full {
            out.extend_from_slice(&[b'=', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            column += 3;
            at += 1;
        }
    }
}

/// The octets of the line end at `at`; `Some(0)` at the end of the text.
fn line_end_len(octets: &[u8], at: usize) -> Option<usize> {
    match octets.get(at) {
        None => Some(0),
        Some(b'\n') => Some(1),
        Some(b'\r') if octets.get(at + 1) == Some(&b'\n') => Some(2),
        Some(_) => None,
    }
}

/// Octets that stand for themselves; space and tab do unless they end a line.
const QP_PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut b = b' ' as usize;
    while b <= b'~' as usize {
        plain[b] = b != b'=' as usize;
        b += 1;
    }
    plain[b'\t' as usize] = true;
    plain
};

/// Decodes quoted-printable; what is no escape stands for itself.
pub fn qp_decode(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    for line in raw.split_inclusive(|&b| b == b'\n') {
        // Space at the end of an encoded line was added on the way (RFC 2045 §6.7, rule 3).
        let text = line.trim_ascii_end();
        let ended = line.ends_with(b"\n");
        let soft = text.ends_with(b"=");
        let text = text.strip_suffix(b"=").unwrap_or(text);
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'=', rest) {
            out.extend_from_slice(&rest[..at]);
            let digits = rest.get(at + 1..at + 3).and_then(|d| std::str::from_utf8(d).ok());
            match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
                Some(b) => {
                    out.push(b);
                    rest = &rest[at + 3..];
                }
                None => {
                    out.push(b'=');
                    rest = &rest[at + 1..];
                }
            }
        }
        out.extend_from_slice(rest);
        if ended && !soft {
            out.extend_from_slice(b"\r\n");
        }
    }
    out
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 without line breaks, as encoded words have it.
pub fn base64_word(octets: &[u8], out: &mut Vec<u8>) {
    for three in octets.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            out.push(if i <= three.len() { BASE64[(bits >> (18 - 6 * i) & 63) as usize] } else { b'=' });
        }
    }
}

/// Base64 in lines.
pub fn base64_encode(octets: &[u8], out: &mut Vec<u8>) {
    for (i, line) in octets.chunks(LINE_MAX / 4 * 3).enumerate() {
        if i > 0 {
            out.extend_from_slice(b"\r\n");
        }
        base64_word(line, out);
    }
}

fn base64_decode(raw: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(raw.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for &b in raw {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ if b.is_ascii_whitespace() => continue,
            _ => return Err(format!("{:?} is not in the base64 alphabet", char::from(b))),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xFF) as u8);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn qp(text: &str) -> String {
        let mut out = Vec::new();
        qp_encode(text.as_bytes(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn quoted_printable_escapes_what_it_must() {
        assert_eq!(qp("a=b \nü\tx\t"), "a=3Db=20\r\n=C3=BC\tx=09");
    }

    #[test]
    fn windows_1252_knows_the_euro_and_latin_1_does_not() {
        assert_eq!(Charset::Windows1252.decode(b"\x80\xFC"), Ok("€ü".to_owned()));
        assert_eq!(Charset::Windows1252.encode("€ü").as_deref(), Some(&b"\x80\xFC"[..]));
        assert_eq!(Charset::Latin1.encode("€"), None);
        assert_eq!(Charset::Ascii.encode("ü"), None);
    }

    proptest! {
        #[test]
        fn quoted_printable_reads_back_and_keeps_its_line_length(
            text in "([a-z= \t\n]|\\PC|\\PC{60}){0,80}"
        ) {
            let coded = qp(&text);
            prop_assert!(coded.is_ascii());
            for line in coded.split("\r\n") {
                prop_assert!(line.len() <= LINE_MAX, "{}", line);
                prop_assert!(!line.ends_with([' ', '\t']));
                prop_assert!(!line.contains(['\r', '\n']));
            }
            prop_assert_eq!(qp_decode(coded.as_bytes()), text.replace('\n', "\r\n").into_bytes());
        }

        #[test]
        fn base64_reads_back_and_keeps_its_line_length(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut coded = Vec::new();
            base64_encode(&octets, &mut coded);
            prop_assert!(coded.split(|&b| b == b'\n').all(|line| line.len() <= LINE_MAX + 1));
            prop_assert_eq!(base64_decode(&coded), Ok(octets));
        }

        #[test]
        fn single_octet_charsets_read_back(octets in proptest::collection::vec(0xA0u8..=0xFF, 0..50)) {
            for charset in [Charset::Latin1, Charset::Windows1252] {
                let text = charset.decode(&octets).unwrap_or_default();
                let back = charset.encode(&text);
                prop_assert_eq!(back.as_deref(), Some(&octets[..]));
            }
        }
    }
}
