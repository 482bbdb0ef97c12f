//! The finished content of one transaction, in wire form.

use bytes::Bytes;

use super::wire::unstuff;

/// Content ready for DATA (RFC 5321 §4.5.2): CRLF line endings only, dots stuffed from the first line
/// on, ends with CRLF, and is *not* yet closed by the lone dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Wire form, dots stuffed; cheap to clone.
    pub wire: Bytes,
    /// Octets before dot-stuffing: what SIZE declares (RFC 1870).
    pub size_octets: u64,
    /// Holds octets above 127: needs BODY=8BITMIME.
    pub eight_bit: bool,
    /// A header holds raw UTF-8: needs SMTPUTF8 (RFC 6531).
    pub utf8_headers: bool,
}

impl Content {
    /// The octets as BDAT sends them (RFC 3030), without stuffed dots. Mostly nothing was stuffed: then it
    /// is `wire` itself, with no copy.
    pub fn unstuffed(&self) -> Bytes {
        if self.wire.len() as u64 == self.size_octets {
            return self.wire.clone();
        }
        unstuff(&self.wire).into()
    }
}
