//! The content of one message as the sink keeps it while it comes, and what the ledger says of it.

use memchr::{memchr, memmem};

/// Content so far. Octets are kept only where a ledger or a store wants them.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub octets: u64,
    kept: Vec<u8>,
    keep: bool,
    octets_max: u64,
}

/// What a session keeps allocated between messages.
const IDLE_CAPACITY_MAX: usize = 1 << 20;

impl Content {
    /// Empty, for the next message; `octets_max` bounds what is kept (0: no bound).
    pub fn begin(&mut self, keep: bool, octets_max: u64) {
        self.kept.clear();
        self.kept.shrink_to(IDLE_CAPACITY_MAX);
        (self.octets, self.keep, self.octets_max) = (0, keep, octets_max);
    }

    pub fn push(&mut self, piece: &[u8]) {
        self.octets += piece.len() as u64;
        if self.keep && !self.too_big() {
            self.kept.extend_from_slice(piece);
        }
    }

    pub fn too_big(&self) -> bool {
        self.octets_max > 0 && self.octets > self.octets_max
    }

    /// So many octets more would not make it too big.
    pub fn has_room_for(&self, octets: u64) -> bool {
        self.octets_max == 0 || self.octets.saturating_add(octets) <= self.octets_max
    }

    /// The octets; empty unless they are kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.kept
    }
}

/// The header section, and the body after the first empty line (empty when there is none).
pub(super) fn split(content: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = content.strip_prefix(b"\r\n") {
        return (&[], body);
    }
    match memmem::find(content, b"\r\n\r\n") {
        Some(at) => (&content[..at + 2], &content[at + 4..]),
        None => (content, &[]),
    }
}

/// The first Message-ID's value, unfolded and trimmed; what is not UTF-8 is replaced.
pub(super) fn message_id(header: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"message-id";
    let mut lines = header;
    while !lines.is_empty() {
        let end = memmem::find(lines, b"\r\n").map_or(lines.len(), |at| at + 2);
        let (line, rest) = lines.split_at(end);
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let colon = memchr(b':', line)?;
            if line[NAME.len()..colon].iter().all(|b| matches!(b, b' ' | b'\t')) {
                let mut value = line[colon + 1..].to_vec();
                let mut rest = rest;
                while rest.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
                    let end = memmem::find(rest, b"\r\n").map_or(rest.len(), |at| at + 2);
                    value.extend_from_slice(&rest[..end]);
                    rest = &rest[end..];
                }
                value.retain(|b| !matches!(b, b'\r' | b'\n'));
                return Some(String::from_utf8_lossy(&value).trim().to_owned());
            }
        }
        lines = rest;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_starts_after_the_first_empty_line() {
        assert_eq!(split(b"A: b\r\n\r\nbody\r\n\r\nmore"), (&b"A: b\r\n"[..], &b"body\r\n\r\nmore"[..]));
        assert_eq!(split(b"\r\nbody"), (&b""[..], &b"body"[..]));
        assert_eq!(split(b"A: b\r\n"), (&b"A: b\r\n"[..], &b""[..]));
        assert_eq!(split(b"A: b\n\nbody"), (&b"A: b\n\nbody"[..], &b""[..]));
    }

    #[test]
    fn a_folded_message_id_is_unfolded() {
        let header =
            b"X-Message-ID: <no@x>\r\nMessage-IDs: <no@x>\r\nmessage-id:\r\n <a@b>\r\nSubject: x\r\n";
        assert_eq!(message_id(header).as_deref(), Some("<a@b>"));
        assert_eq!(message_id(b"Subject: x\r\n"), None);
    }

    #[test]
    fn content_over_the_bound_is_counted_but_not_kept() {
        let mut content = Content::default();
        content.begin(true, 4);
        content.push(b"abcd");
        content.push(b"efgh");
        assert!(content.too_big());
        assert_eq!((content.octets, content.as_bytes()), (8, &b"abcd"[..]));
    }
}
