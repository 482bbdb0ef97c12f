//! The end of DATA, and dot-unstuffing (RFC 5321 §4.5.2).
//!
//! Guarantee: content ends only at CRLF `.` CRLF, or at a lone dot on its first line (an empty message).
//! A bare LF or a bare CR ends no line; and a lone dot after a line end that a bare CR runs into
//! (`CR CR LF . CR LF`) is kept as content, because MTAs disagree on that one: some read CR CR LF as one
//! line end, some as two, some as none. A well-behaved client sends no bare CR at all.

use memchr::memchr;

/// Reads content as it comes, in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    /// At the start of a line; `clean` unless a bare CR runs into the line end before it.
    #[default]
    Start,
    StartUnclean,
    /// After a line's first dot, which is not passed on (yet).
    Dot {
        clean: bool,
    },
    /// After that dot and a CR.
    DotCr {
        clean: bool,
    },
    Mid,
    /// After a CR; `twice` when a CR stands before it.
    Cr {
        twice: bool,
    },
}

/// What one call of [`Receiver::feed`] did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fed {
    /// Octets of the input used; all of it unless `ended`.
    pub used: usize,
    /// The lone dot and its CRLF were used; the receiver is ready for the next message.
    pub ended: bool,
}

impl Receiver {
    /// Takes `input`, hands the unstuffed octets to `keep`, and stops after the final dot's CRLF.
    pub fn feed(&mut self, input: &[u8], mut keep: impl FnMut(&[u8])) -> Fed {
        let mut from = 0; // first octet not yet handed on
        let mut i = 0;
        while i < input.len() {
            let octet = input[i];
            self.at = match self.at {
                At::Start | At::StartUnclean if octet == b'.' => {
                    keep(&input[from..i]);
                    from = i + 1;
                    At::Dot { clean: self.at == At::Start }
                }
                At::Dot { clean } if octet == b'\r' => {
                    from = i + 1; // the CR is held back too
                    At::DotCr { clean }
                }
                At::DotCr { clean: true } if octet == b'\n' => {
                    self.at = At::Start;
                    return Fed { used: i + 1, ended: true };
                }
                At::DotCr { clean: false } if octet == b'\n' => {
                    keep(b".\r");
                    from = i;
                    At::Start
                }
                At::DotCr { .. } => {
                    keep(b"\r");
                    from = i;
                    if octet == b'\r' { At::Cr { twice: true } } else { At::Mid }
                }
                At::Cr { twice } if octet == b'\n' => {
                    if twice {
                        At::StartUnclean
                    } else {
                        At::Start
                    }
                }
                At::Cr { .. } if octet == b'\r' => At::Cr { twice: true },
                _ if octet == b'\r' => At::Cr { twice: false },
                _ => match memchr(b'\r', &input[i..]) {
                    Some(skip) => {
                        i += skip;
                        self.at = At::Cr { twice: false };
                        i += 1;
                        continue;
                    }
                    None => {
                        self.at = At::Mid;
                        break;
                    }
                },
            };
            i += 1;
        }
        keep(&input[from..]);
        Fed { used: input.len(), ended: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Content and what follows the end, or `None` while the end has not come.
    fn receive(wire: &[u8], piece: usize) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut receiver = Receiver::default();
        let mut content = Vec::new();
        let mut done = 0;
        for part in wire.chunks(piece) {
            let fed = receiver.feed(part, |octets| content.extend_from_slice(octets));
            done += fed.used;
            if fed.ended {
                return (content, Some(wire[done..].to_vec()));
            }
            assert_eq!(fed.used, part.len());
        }
        (content, None)
    }

    #[test]
    fn a_lone_dot_on_the_first_line_ends_an_empty_message() {
        assert_eq!(receive(b".\r\nMAIL", 64), (vec![], Some(b"MAIL".to_vec())));
    }

    #[test]
    fn dots_are_unstuffed_from_the_first_line_on() {
        let (content, rest) = receive(b"..a\r\n.\xff\r\n...\r\nb.\r\n.\r\n", 64);
        assert_eq!(content, b".a\r\n\xff\r\n..\r\nb.\r\n");
        assert_eq!(rest, Some(vec![]));
    }

    #[test]
    fn smuggling_sequences_end_nothing_and_are_kept() {
        let inside: [(&[u8], &[u8]); 11] = [
            (b"\n.\n", b"\n.\n"),
            (b"\r.\r", b"\r.\r"),
            (b"\r\n.\n", b"\r\n\n"),
            (b"\n.\r\n", b"\n.\r\n"),
            (b"\r\r\n.\r\n", b"\r\r\n.\r\n"),
            (b"\r.\r\n", b"\r.\r\n"),
            (b"\r\n.\r", b"\r\n\r"),
            (b"\r\n.\r\r\n", b"\r\n\r\r\n"),
            (b"\r\r\n.\r\r\n", b"\r\r\n\r\r\n"),
            (b"\r\n\0.\r\n", b"\r\n\0.\r\n"),
            (b"\n\r.\n\r", b"\n\r.\n\r"),
        ];
        for (sent, kept) in inside {
            for piece in 1..=32 {
                let wire = [b"a", sent, b"MAIL FROM:<smuggled@example.org>\r\n.\r\n" as &[u8]].concat();
                let want = [b"a", kept, b"MAIL FROM:<smuggled@example.org>\r\n" as &[u8]].concat();
                let (content, rest) = receive(&wire, piece);
                assert_eq!(content, want, "{:?}", String::from_utf8_lossy(sent));
                assert_eq!(rest, Some(vec![]), "{:?}", String::from_utf8_lossy(sent));
            }
        }
    }

    #[test]
    fn stuffed_dots_after_a_bare_cr_and_crlf_are_unstuffed() {
        assert_eq!(receive(b"a\r\r\n..b\r\n.\r\n", 64), (b"a\r\r\n.b\r\n".to_vec(), Some(vec![])));
    }

    /// The plain way to say it: lines by CRLF, one dot off, a lone dot ends.
    fn stuff(content: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut start = true;
        for (i, octet) in content.iter().enumerate() {
            if start && *octet == b'.' {
                wire.push(b'.');
            }
            wire.push(*octet);
            start = *octet == b'\n' && i > 0 && content[i - 1] == b'\r';
        }
        wire
    }

    fn awkward() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![b'.', b'\r', b'\n', b'a', 0xff]), 0..40)
    }

    proptest! {
        #[test]
        fn what_was_stuffed_comes_back(mut content in awkward(), piece in 1usize..9) {
            if !content.is_empty() { content.extend_from_slice(b"x\r\n"); }
            let wire = [&stuff(&content)[..], b".\r\nnext"].concat();
            prop_assert_eq!(receive(&wire, piece), (content, Some(b"next".to_vec())));
        }

        #[test]
        fn pieces_never_matter(wire in awkward(), piece in 1usize..9) {
            prop_assert_eq!(receive(&wire, piece), receive(&wire, 1_000));
        }

        #[test]
        fn the_end_is_always_crlf_dot_crlf(wire in awkward()) {
            if let (_, Some(rest)) = receive(&wire, 3) {
                let used = &wire[..wire.len() - rest.len()];
                prop_assert!(used == b".\r\n" || used.ends_with(b"\r\n.\r\n"));
            }
        }
    }
}
