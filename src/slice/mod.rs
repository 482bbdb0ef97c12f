//! Slices: pure integer maths over SHA-1 space.
//!
//! The 256 first bytes of a digest (`xx`) are the grain. With `slices = 2^k`, k ≤ 8, slice `s` is the
//! contiguous range of `256 / 2^k` values of `xx` that begins at `s * 256 / 2^k`. Every digest is in
//! exactly one slice at every k, and a change of k moves no file. Errors: [`SliceError`].

use std::fmt;

/// A contiguous, non-empty range of first bytes, `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct XxRange {
    pub first: u8,
    pub last: u8,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SliceError {
    #[error("`spool.slices` is {0}: it must be a power of two from 1 to 256")]
    Count(u32),
    #[error("`{0}` is not a range of slices: write A-B or A, both from 0 to {1}")]
    Range(String, u32),
}

impl XxRange {
    pub const ALL: XxRange = XxRange { first: 0, last: 255 };

    pub fn contains(self, xx: u8) -> bool {
        (self.first..=self.last).contains(&xx)
    }

    pub fn overlaps(self, other: XxRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    pub fn covers(self, other: XxRange) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    pub fn iter(self) -> impl Iterator<Item = u8> {
        self.first..=self.last
    }

    /// The slices that this range is made of, at `slices` of them; for messages.
    pub fn slices(self, slices: u32) -> (u32, u32) {
        (slice_of(self.first, slices), slice_of(self.last, slices))
    }
}

/// `00-ff`, as a journal's name has it.
impl fmt::Display for XxRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}-{:02x}", self.first, self.last)
    }
}

impl XxRange {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (a, b) = text.split_once('-')?;
        if a.len() != 2 || b.len() != 2 {
            return None;
        }
        let range = Self { first: u8::from_str_radix(a, 16).ok()?, last: u8::from_str_radix(b, 16).ok()? };
        (range.first <= range.last).then_some(range)
    }
}

/// The slice of a first byte: the top k bits, by shift.
pub fn slice_of(xx: u8, slices: u32) -> u32 {
    assert!(slices.is_power_of_two() && slices <= 256, "{slices} slices");
    u32::from(xx) >> (8 - slices.trailing_zeros())
}

/// The first bytes that slice `slice` of `slices` holds.
pub fn range_of(slice: u32, slices: u32) -> XxRange {
    assert!(slices.is_power_of_two() && slices <= 256 && slice < slices, "slice {slice} of {slices}");
    let width = 256 / slices;
    let first = slice * width;
    XxRange { first: first as u8, last: (first + width - 1) as u8 }
}

/// Reads `--slices A-B` (or `A`), inclusive.
pub fn parse_slices(text: &str, slices: u32) -> Result<XxRange, SliceError> {
    if !slices.is_power_of_two() || slices > 256 {
        return Err(SliceError::Count(slices));
    }
    let bad = || SliceError::Range(text.to_owned(), slices - 1);
    let (a, b) = text.split_once('-').unwrap_or((text, text));
    let first: u32 = a.trim().parse().map_err(|_| bad())?;
    let last: u32 = b.trim().parse().map_err(|_| bad())?;
    if first > last || last >= slices {
        return Err(bad());
    }
    Ok(XxRange { first: range_of(first, slices).first, last: range_of(last, slices).last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_digest_is_in_exactly_one_slice_at_every_k(digest: [u8; 20], k in 0u32..=8) {
            let slices = 1 << k;
            let holders: Vec<u32> = (0..slices).filter(|&s| range_of(s, slices).contains(digest[0])).collect();
            prop_assert_eq!(holders, vec![slice_of(digest[0], slices)]);
        }

        #[test]
        fn a_slice_at_k_is_two_slices_at_k_plus_one(xx: u8, k in 0u32..8) {
            prop_assert_eq!(slice_of(xx, 1 << (k + 1)) >> 1, slice_of(xx, 1 << k));
        }

        #[test]
        fn the_slices_are_in_the_order_of_hash_space(a: u8, b: u8, k in 0u32..=8) {
            prop_assert_eq!(a <= b && slice_of(a, 1 << k) > slice_of(b, 1 << k), false);
        }

        #[test]
        fn a_range_is_read_as_it_is_written(a: u8, b: u8) {
            let r = XxRange { first: a.min(b), last: a.max(b) };
            prop_assert_eq!(XxRange::parse(&r.to_string()), Some(r));
        }
    }

    #[test]
    fn slices_cover_hash_space_without_gap_or_overlap() {
        for k in 0..=8 {
            let slices = 1 << k;
            let mut next = 0u32;
            for s in 0..slices {
                let r = range_of(s, slices);
                assert_eq!(u32::from(r.first), next);
                next = u32::from(r.last) + 1;
            }
            assert_eq!(next, 256);
        }
    }

    #[test]
    fn the_slices_option_says_what_is_wrong() {
        assert_eq!(parse_slices("0-7", 16), Ok(XxRange { first: 0, last: 127 }));
        assert_eq!(parse_slices("15", 16), Ok(XxRange { first: 240, last: 255 }));
        assert_eq!(parse_slices("0-16", 16), Err(SliceError::Range("0-16".into(), 15)));
        assert_eq!(parse_slices("7-0", 16), Err(SliceError::Range("7-0".into(), 15)));
        assert_eq!(parse_slices("0", 12), Err(SliceError::Count(12)));
    }
}
