//! `domains`: how many recipients of which domain each chunk of a job holds, the largest few.
//!
//! Written with a job of more than one chunk, so that an owner of a list sorted by domain knows which
//! chunks to have in hand side by side. It is a help and no more: without it (older jobs), or when it is
//! damaged, chunks are claimed as they come. Numbers are those of the job's chunks; retries are of the
//! domains of the chunk that they come from.

use std::collections::HashMap;

use super::codec::{Dec, Enc, framed, unframe};
use super::dir::DirSpool;
use super::error::{At, Result};
use super::job::JobMeta;
use super::layout::JobDir;

const MAGIC: &[u8; 8] = b"IFDOMS01";
/// Domains noted of a chunk, at most.
const NOTED_MAX: usize = 8;

/// A domain, as a number: the CRC-32 of its lower-case letters. Two that share one are mixed as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct DomainKey(pub u32);

impl DomainKey {
    /// Stands for chunks of which no domain is known, or only domains too small to be told apart.
    pub const OTHER: DomainKey = DomainKey(0);

    pub fn of(domain: &str) -> Self {
        let mut hash = crc32fast::Hasher::new();
        let mut lower = [0; 64];
        for part in domain.as_bytes().chunks(lower.len()) {
            let lower = &mut lower[..part.len()];
            lower.copy_from_slice(part);
            lower.make_ascii_lowercase();
            hash.update(lower);
        }
        // 0 has its own meaning
        Self(hash.finalize().max(1))
    }

    /// The domain of an address.
    pub fn of_address(address: &str) -> Self {
        Self::of(address.rsplit_once('@').map_or("", |(_, domain)| domain))
    }
}

/// What one chunk holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Composition {
    pub recipients: u16,
    /// The largest domains, largest first.
    pub domains: Box<[(DomainKey, u16)]>,
}

/// Counts the domains of a chunk while it is written.
#[derive(Debug, Default)]
pub struct DomainTally {
    counts: HashMap<DomainKey, u16>,
    recipients: u16,
}

impl DomainTally {
    pub fn add(&mut self, address: &str) {
        *self.counts.entry(DomainKey::of_address(address)).or_default() += 1;
        self.recipients += 1;
    }

    /// What was counted; the next chunk begins at nothing.
    pub fn take(&mut self) -> Composition {
        let mut domains: Vec<(DomainKey, u16)> = self.counts.drain().collect();
        domains.sort_unstable_by_key(|&(domain, n)| (std::cmp::Reverse(n), domain));
        domains.truncate(NOTED_MAX);
        Composition { recipients: std::mem::take(&mut self.recipients), domains: domains.into() }
    }
}

/// The file, for the chunks by number.
pub fn encode(chunks: &[Composition]) -> Vec<u8> {
    let mut e = Enc::default();
    e.u32(chunks.len() as u32);
    for chunk in chunks {
        e.u16(chunk.recipients).u8(chunk.domains.len() as u8);
        for &(domain, n) in &chunk.domains {
            e.u32(domain.0).u16(n);
        }
    }
    framed(MAGIC, &e.0)
}

/// Reads what [`encode`] writes; the reason when it isn't that.
pub fn decode(bytes: &[u8]) -> std::result::Result<Vec<Composition>, String> {
    let (body, _) = unframe(MAGIC, bytes)?;
    let mut d = Dec(body);
    let read = |d: &mut Dec| -> Option<Vec<Composition>> {
        let n = d.u32()?;
        (0..n)
            .map(|_| {
                let (recipients, noted) = (d.u16()?, d.u8()?);
                let domains: Option<Vec<_>> =
                    (0..noted).map(|_| Some((DomainKey(d.u32()?), d.u16()?))).collect();
                Some(Composition { recipients, domains: domains?.into() })
            })
            .collect()
    };
    read(&mut d).ok_or_else(|| "it ends too early".to_owned())
}

impl DirSpool {
    /// What the chunks of a job hold, by number; `None` when that isn't known.
    pub(super) fn domains_of(&self, dir: &JobDir, meta: &JobMeta) -> Result<Option<Vec<Composition>>> {
        let path = dir.domains();
        let bytes = match self.fs.read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at("read", &path)?,
        };
        let reason = match decode(&bytes) {
            Ok(chunks) if chunks.len() == meta.chunks as usize => return Ok(Some(chunks)),
            Ok(chunks) => format!("it lists {} chunks, job.toml {}", chunks.len(), meta.chunks),
            Err(reason) => reason,
        };
        tracing::warn!("{}: {reason}; the job's domains are mixed less well without it", path.display());
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_noted_is_read_back_and_a_damaged_file_is_noticed(
            chunks in proptest::collection::vec(proptest::collection::vec(0u8..20, 1..100), 0..20),
            at in any::<proptest::sample::Index>(),
            bit in 0u8..8,
        ) {
            let mut tally = DomainTally::default();
            let noted: Vec<Composition> = chunks
                .iter()
                .map(|domains| {
                    domains.iter().for_each(|d| tally.add(&format!("a@D{d}.example")));
                    tally.take()
                })
                .collect();
            let mut bytes = encode(&noted);
            prop_assert_eq!(decode(&bytes), Ok(noted));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn the_largest_domains_are_noted_whatever_their_letters_are() {
        let mut tally = DomainTally::default();
        for i in 0..500 {
            tally.add(&format!("u{i}@{}", if i % 2 == 0 { "Big.Example" } else { "big.example" }));
        }
        (0..400).for_each(|i| tally.add(&format!("u@{}.example", i % 80)));
        let noted = tally.take();
        assert_eq!((noted.recipients, noted.domains.len()), (900, NOTED_MAX));
        assert_eq!(noted.domains[0], (DomainKey::of("big.example"), 500));
        assert_eq!(noted.domains[1].1, 5);
        assert_eq!(tally.take(), Composition::default());
    }
}
