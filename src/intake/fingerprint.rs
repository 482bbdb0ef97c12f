//! "Was this message sent to this list before?": one SHA-1 over a message, a list and the options.
//!
//! Rows count as a set with repetitions: the same list in another order is the same list, as a database
//! exports it. So each row is hashed by itself, and the digests are added up, modulo 2^160; the message, the
//! options, the columns, the number of rows and that sum are hashed into the result. Every part is written
//! with its length before it, so that no two inputs read alike.
//!
//! Cost: a row of up to 120 octets, lengths included, is two blocks of SHA-1; nothing is allocated and no row
//! is kept. This guards against slips, not against people who construct collisions.

use sha1::{Digest, Sha1};

/// The fingerprint while it is computed.
pub struct ListFingerprint {
    head: Sha1,
    sum: [u32; 5],
    rows: u64,
    scratch: Vec<u8>,
}

impl Default for ListFingerprint {
    fn default() -> Self {
        ListFingerprint::new()
    }
}

impl ListFingerprint {
    pub fn new() -> ListFingerprint {
        ListFingerprint { head: Sha1::new(), sum: [0; 5], rows: 0, scratch: Vec::with_capacity(256) }
    }

    /// Adds the message as submitted.
    pub fn message(&mut self, octets: &[u8]) {
        self.part(b"message", &[octets]);
    }

    /// Adds an option that changes what is sent, e.g. the envelope sender.
    pub fn option(&mut self, name: &str, value: &str) {
        self.part(b"option", &[name.as_bytes(), value.as_bytes()]);
    }

    /// Adds the names of the columns.
    pub fn columns(&mut self, columns: &[String]) {
        self.part(b"columns", &[&(columns.len() as u64).to_le_bytes()]);
        for column in columns {
            self.part(b"column", &[column.as_bytes()]);
        }
    }

    /// Adds an accepted row, in any order. `values` are those of all columns.
    #[inline]
    pub fn row<'a>(&mut self, address: &str, values: impl IntoIterator<Item = &'a str>) {
        self.scratch.clear();
        push(&mut self.scratch, address.as_bytes());
        for value in values {
            push(&mut self.scratch, value.as_bytes());
        }
        let digest = Sha1::digest(&self.scratch);
        let mut carry = 0;
        for (word, octets) in self.sum.iter_mut().zip(digest.chunks_exact(4)) {
            let octets = u32::from_le_bytes([octets[0], octets[1], octets[2], octets[3]]);
            let total = u64::from(*word) + u64::from(octets) + carry;
            *word = total as u32;
            carry = total >> 32;
        }
        self.rows += 1;
    }

    /// The SHA-1 of it all.
    pub fn finish(mut self) -> [u8; 20] {
        let sum: Vec<u8> = self.sum.iter().flat_map(|word| word.to_le_bytes()).collect();
        let rows = self.rows.to_le_bytes();
        self.part(b"rows", &[&rows, &sum]);
        self.head.finalize().into()
    }

    fn part(&mut self, tag: &[u8], fields: &[&[u8]]) {
        for field in [tag].iter().chain(fields) {
            self.head.update((field.len() as u64).to_le_bytes());
            self.head.update(field);
        }
    }
}

/// Appends `field` with its length before it (one octet for up to 254, else 255 and eight).
fn push(to: &mut Vec<u8>, field: &[u8]) {
    match u8::try_from(field.len()) {
        Ok(short) if short < 255 => to.push(short),
        _ => {
            to.push(255);
            to.extend_from_slice(&(field.len() as u64).to_le_bytes());
        }
    }
    to.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(message: &[u8], options: &[(&str, &str)], rows: &[Vec<String>]) -> [u8; 20] {
        let mut fingerprint = ListFingerprint::new();
        fingerprint.message(message);
        for (name, value) in options {
            fingerprint.option(name, value);
        }
        fingerprint.columns(&["email".into(), "city".into()]);
        for row in rows {
            fingerprint.row(&row[0], row.iter().map(String::as_str));
        }
        fingerprint.finish()
    }

    fn rows() -> impl Strategy<Value = Vec<Vec<String>>> {
        proptest::collection::vec(proptest::collection::vec("[ab]{0,3}", 2..4), 1..12)
    }

    proptest! {
        #[test]
        fn the_order_of_rows_does_not_count(rows in rows(), seed in any::<u64>()) {
            let mut shuffled = rows.clone();
            fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
            prop_assert_eq!(of(b"m", &[], &rows), of(b"m", &[], &shuffled));
        }

        #[test]
        fn other_rows_give_another_fingerprint(a in rows(), b in rows()) {
            let (mut sorted_a, mut sorted_b) = (a.clone(), b.clone());
            sorted_a.sort();
            sorted_b.sort();
            prop_assert_eq!(of(b"m", &[], &a) == of(b"m", &[], &b), sorted_a == sorted_b);
        }
    }

    #[test]
    fn message_options_and_the_seams_between_fields_count() {
        let row = |fields: &[&str]| vec![fields.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>()];
        let base = of(b"m", &[("sender", "x")], &row(&["ab", "c"]));
        assert_eq!(base, of(b"m", &[("sender", "x")], &row(&["ab", "c"])));
        assert_ne!(base, of(b"n", &[("sender", "x")], &row(&["ab", "c"])));
        assert_ne!(base, of(b"m", &[("sender", "y")], &row(&["ab", "c"])));
        assert_ne!(base, of(b"m", &[("sende", "rx")], &row(&["ab", "c"])));
        assert_ne!(base, of(b"m", &[("sender", "x")], &row(&["a", "bc"])));
        assert_ne!(base, of(b"m", &[], &row(&["ab", "c"])));
    }
}
