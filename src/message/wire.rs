//! Wire form: the one place where line endings and leading dots are dealt with.
//!
//! Guarantees (RFC 5321 §2.3.8, §4.5.2): the output holds no CR without LF and no LF without CR, every
//! line that starts with a dot got another one (the first line too), it ends with CRLF, and it never
//! holds CRLF `.` CRLF. Whatever comes in, a message can't end early, so it can't smuggle a second one.
//! Nothing here fails.

use bytes::Bytes;
use memchr::{memchr_iter, memchr2, memmem};

/// Every bare CR and every bare LF becomes CRLF (`\r\r\n` is two line ends); a missing final CRLF is
/// added, except to empty input. No dots are stuffed.
pub fn normalise(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + raw.len() / 32 + 2);
    push_lines(&mut out, raw);
    if !raw.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Appends `raw` with CRLF line ends; adds nothing at the end.
fn push_lines(out: &mut Vec<u8>, raw: &[u8]) {
    let mut rest = raw;
    while let Some(at) = memchr2(b'\r', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\r\n");
        let skip = if rest[at] == b'\r' && rest.get(at + 1) == Some(&b'\n') { 2 } else { 1 };
        rest = &rest[at + skip..];
    }
    out.extend_from_slice(rest);
}

/// Raw octets to wire form, and the octets before dot-stuffing (what SIZE declares, RFC 1870).
/// Empty input becomes one empty line.
pub fn wire_encode(raw: &[u8]) -> (Bytes, u64) {
    let mut wire = WireWriter::with_capacity(raw.len() + raw.len() / 32 + 8);
    wire.push(raw);
    let (out, size) = wire.finish();
    (Bytes::from(out), size)
}

/// Builds wire form from pieces. It keeps track of line starts and of a CR at the end of a piece, so
/// that cutting the input anywhere gives the same output.
#[derive(Debug)]
pub struct WireWriter {
    out: Vec<u8>,
    stuffed: u64,
    at_line_start: bool,
    /// The last piece ended in CR, already written as CRLF: an LF that follows belongs to it.
    after_cr: bool,
}

impl WireWriter {
    pub fn with_capacity(octets: usize) -> Self {
        WireWriter { out: Vec::with_capacity(octets), stuffed: 0, at_line_start: true, after_cr: false }
    }

    /// Appends octets with any line endings.
    pub fn push(&mut self, raw: &[u8]) {
        let mut rest = raw;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            if rest[0] == b'\n' {
                rest = &rest[1..];
            }
        }
        while !rest.is_empty() {
            if self.at_line_start && rest[0] == b'.' {
                self.out.push(b'.');
                self.stuffed += 1;
            }
            let Some(at) = memchr2(b'\r', b'\n', rest) else {
                self.out.extend_from_slice(rest);
                self.at_line_start = false;
                return;
            };
            if rest[at] == b'\r' && rest.get(at + 1) == Some(&b'\n') {
                self.out.extend_from_slice(&rest[..at + 2]);
                rest = &rest[at + 2..];
            } else {
                self.out.extend_from_slice(&rest[..at]);
                self.out.extend_from_slice(b"\r\n");
                self.after_cr = rest[at] == b'\r' && at + 1 == rest.len();
                rest = &rest[at + 1..];
            }
            self.at_line_start = true;
        }
    }

    /// Appends a piece that is already in wire form when it starts where a line starts.
    pub fn push_piece(&mut self, piece: &WirePiece) {
        if piece.wire.is_empty() {
            return;
        }
        assert!(
            self.at_line_start || !piece.needs_line_start,
            "a header piece starts in the middle of a line"
        );
        self.out.extend_from_slice(&piece.wire);
        self.stuffed += piece.stuffed;
        self.at_line_start = piece.wire.ends_with(b"\r\n");
        self.after_cr = false;
    }

    /// The wire form, closed by CRLF, and its octets before dot-stuffing.
    pub fn finish(mut self) -> (Vec<u8>, u64) {
        if !self.at_line_start || self.out.is_empty() {
            self.out.extend_from_slice(b"\r\n");
        }
        let size = self.out.len() as u64 - self.stuffed;
        (self.out, size)
    }
}

/// Takes the stuffed dots out of wire form.
pub fn unstuff(wire: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(wire.len());
    let mut rest = wire.strip_prefix(b".").unwrap_or(wire);
    while let Some(at) = memmem::find(rest, b"\n.") {
        out.extend_from_slice(&rest[..=at]);
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
    out
}

/// A static run of the message in wire form, made once per job.
#[derive(Debug, Clone, Default)]
pub struct WirePiece {
    wire: Vec<u8>,
    stuffed: u64,
    /// It was encoded as starting a line; a piece that begins with CRLF may follow anything.
    needs_line_start: bool,
}

impl WirePiece {
    /// `normalised` starts a line, or begins with the CRLF that ends one.
    pub fn new(normalised: &[u8]) -> Self {
        let mut writer = WireWriter::with_capacity(normalised.len() + 8);
        writer.push(normalised);
        WirePiece {
            wire: writer.out,
            stuffed: writer.stuffed,
            needs_line_start: !normalised.is_empty() && !normalised.starts_with(b"\r\n"),
        }
    }

    pub fn len(&self) -> usize {
        self.wire.len()
    }

    pub fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }

    pub fn eight_bit(&self) -> bool {
        !self.wire.is_ascii()
    }
}

/// The number, from 1, of the line that holds the octet at `at`.
pub fn line_of(raw: &[u8], at: usize) -> usize {
    memchr_iter(b'\n', &raw[..at.min(raw.len())]).count() + 1
}

/// Numbers of lines asked for from the front to the back: each octet is looked at once.
#[derive(Debug)]
pub struct LineCounter<'a> {
    raw: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    pub fn new(raw: &'a [u8]) -> Self {
        Self { raw, at: 0, line: 1 }
    }

    /// As [`line_of`].
    pub fn line_of(&mut self, at: usize) -> usize {
        let at = at.min(self.raw.len());
        if at < self.at {
            *self = Self::new(self.raw);
        }
        self.line += memchr_iter(b'\n', &self.raw[self.at..at]).count();
        self.at = at;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(raw: &[u8]) -> Vec<u8> {
        wire_encode(raw).0.to_vec()
    }

    #[test]
    fn a_lone_cr_and_a_lone_lf_become_crlf() {
        assert_eq!(wire(b"a\rb\nc\r\nd"), b"a\r\nb\r\nc\r\nd\r\n");
        assert_eq!(wire(b"a\r\r\nb\n\rc"), b"a\r\n\r\nb\r\n\r\nc\r\n");
    }

    #[test]
    fn dots_are_stuffed_from_the_first_line_on() {
        assert_eq!(wire(b".\n..a\n.b"), b"..\r\n...a\r\n..b\r\n");
        assert_eq!(wire_encode(b".a\n").1, 4);
    }

    #[test]
    fn no_blank_line_is_added() {
        assert_eq!(wire(b"a\r\n"), b"a\r\n");
        assert_eq!(wire(b""), b"\r\n");
    }

    #[test]
    fn smuggling_sequences_stay_inside_the_message() {
        for end in
            ["\n.\n", "\r.\r", "\r\n.\n", "\n.\r\n", "\r\r\n.\r\n", "\r\n.\r", "\r.\r\n", "\n.\r", "\r.\n"]
        {
            let out = wire(format!("a{end}MAIL FROM:<x@y.example>\r\n").as_bytes());
            assert!(memchr::memmem::find(&out, b"\r\n.\r\n").is_none(), "{end:?}");
            assert!(memchr::memmem::find(&out, b"\r\n..\r\n").is_some(), "{end:?}");
        }
    }

    fn awkward() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), any::<u8>()],
            0..200,
        )
    }

    #[test]
    fn lines_are_counted_the_same_in_any_order() {
        let raw = b"a\nb\n\nc\nd";
        let mut counter = LineCounter::new(raw);
        for at in [0, 1, 2, 4, 5, 5, 9, 3, 0, 20, 8] {
            assert_eq!(counter.line_of(at), line_of(raw, at), "{at}");
        }
    }

    proptest! {
        #[test]
        fn wire_form_has_only_crlf_line_ends_and_unstuffs_to_the_normalised_input(raw in awkward()) {
            let (out, size) = wire_encode(&raw);
            for (i, &b) in out.iter().enumerate() {
                prop_assert!(b != b'\n' || i > 0 && out[i - 1] == b'\r');
                prop_assert!(b != b'\r' || out.get(i + 1) == Some(&b'\n'));
            }
            prop_assert!(out.ends_with(b"\r\n"));
            prop_assert!(!out.starts_with(b".\r\n"));
            prop_assert!(memchr::memmem::find(&out, b"\r\n.\r\n").is_none());
            let plain = unstuff(&out);
            prop_assert_eq!(size, plain.len() as u64);
            let want = if raw.is_empty() { b"\r\n".to_vec() } else { normalise(&raw) };
            prop_assert_eq!(plain, want);
        }

        #[test]
        fn normalising_twice_changes_nothing(raw in awkward()) {
            let once = normalise(&raw);
            prop_assert_eq!(normalise(&once), once);
        }

        #[test]
        fn clean_input_passes_unchanged(lines in proptest::collection::vec("[a-z][a-z.]{0,20}", 1..10)) {
            let clean = lines.join("\r\n") + "\r\n";
            prop_assert_eq!(wire(clean.as_bytes()), clean.into_bytes());
        }

        #[test]
        fn cutting_the_input_anywhere_gives_the_same_wire_form(raw in awkward(), cut in 0usize..200) {
            let cut = cut.min(raw.len());
            let mut writer = WireWriter::with_capacity(0);
            writer.push(&raw[..cut]);
            writer.push(&raw[cut..]);
            let (out, size) = writer.finish();
            let (whole, whole_size) = wire_encode(&raw);
            prop_assert_eq!(&out[..], &whole[..]);
            prop_assert_eq!(size, whole_size);
        }
    }
}
