//! Which rows of a list become recipients: bad ones rejected, duplicates dropped, the rest counted,
//! fingerprinted and handed on.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::error::{SubmitError, Tally};
use super::rows::{Checked, Flow, each_row};
use crate::intake::{
    DuplicateFinder, ListFingerprint, RecipientReader, Rejects, SuppressionList, address, dedupe,
};
use crate::message::Template;
use crate::spool::Submission;

/// Rows between two calls of the progress.
const PROGRESS_ROWS: u64 = 8_192;

/// A row that became a recipient.
pub(super) struct Recipient<'a> {
    pub ordinal: u64,
    pub address: &'a str,
    /// As `address::canonical_key` makes it.
    pub key: &'a [u8],
    pub values: &'a [&'a str],
    pub size_octets: u64,
}

/// Where the recipients go, and what a suspected duplicate is confirmed on.
pub(super) enum Destination {
    Job(Box<Submission>),
    /// Nothing is written.
    Nowhere(AddressHashes),
}

impl Destination {
    /// Whether recipient `ordinal` has the address of which `key` is the canonical form.
    fn has(&mut self, ordinal: u32, key: &[u8], scratch: &mut Vec<u8>) -> Result<bool, SubmitError> {
        match self {
            Self::Job(submission) => Ok(submission.with_address(ordinal, |earlier| {
                scratch.clear();
                address::canonical_key(earlier, scratch);
                scratch == key
            })?),
            Self::Nowhere(hashes) => Ok(hashes.has(ordinal, key)),
        }
    }

    fn push(&mut self, address: &str, key: &[u8], values: &[&str]) -> Result<(), SubmitError> {
        match self {
            Self::Job(submission) => Ok(submission.push(address, values)?),
            Self::Nowhere(hashes) => {
                hashes.push(key);
                Ok(())
            }
        }
    }
}

/// Four bytes of each address in order, where no spool holds the addresses themselves. Together with the
/// duplicate finder's own bits, 2^76 pairs of rows come to one that is taken for a duplicate and isn't.
#[derive(Default)]
pub(super) struct AddressHashes {
    key: RandomState,
    /// Blocks, so that no growth copies them all.
    blocks: Vec<Vec<u32>>,
}

impl AddressHashes {
    const BLOCK: usize = 64 * 1024;

    fn hash(&self, key: &[u8]) -> u32 {
        let mut hasher = self.key.build_hasher();
        hasher.write(key);
        hasher.finish() as u32
    }

    fn has(&self, ordinal: u32, key: &[u8]) -> bool {
        let at = ordinal as usize;
        self.blocks[at / Self::BLOCK][at % Self::BLOCK] == self.hash(key)
    }

    fn push(&mut self, key: &[u8]) {
        let hash = self.hash(key);
        match self.blocks.last_mut() {
            Some(block) if block.len() < Self::BLOCK => block.push(hash),
            _ => {
                let mut block = Vec::with_capacity(Self::BLOCK);
                block.push(hash);
                self.blocks.push(block);
            }
        }
    }
}

/// What to make of the rows.
pub(super) struct Rules<'a> {
    /// The list, as messages name it.
    pub path: String,
    /// The first bad line ends it.
    pub strict: bool,
    /// Recipients after which the rest of the list is left unread.
    pub recipients_max: Option<u64>,
    pub suppress: Option<&'a SuppressionList>,
    /// Where bad lines are listed.
    pub rejects: Option<&'a mut Rejects>,
}

/// What the rows came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    pub recipients: u64,
    /// Of the recipients, those on the suppression list now.
    pub suppressed: u64,
    pub tally: Tally,
}

/// Takes the rows of `reader`; `each` sees every recipient, `progress` the number of rows read.
pub(super) fn take(
    reader: &mut RecipientReader,
    template: &Template,
    destination: &mut Destination,
    fingerprint: &mut ListFingerprint,
    mut rules: Rules<'_>,
    progress: &mut dyn FnMut(u64),
    each: &mut dyn FnMut(Recipient<'_>),
) -> Result<Taken, SubmitError> {
    let mut finder = DuplicateFinder::new();
    let mut taken = Taken::default();
    let (mut key, mut scratch) = (Vec::new(), Vec::new());
    let mut rows = 0;
    let is_enough = |recipients| rules.recipients_max.is_some_and(|max| recipients >= max);
    each_row(reader, template, |row| -> Result<Flow, SubmitError> {
        rows += 1;
        if rows % PROGRESS_ROWS == 0 {
            progress(rows);
        }
        let (address, values, size_octets) = match row {
            Checked::Good { address, values, size_octets } => (address, values, size_octets),
            Checked::Bad { line, reason, .. } if rules.strict => {
                let path = rules.path.clone();
                return Err(SubmitError::Strict { path, line, reason: reason.to_owned() });
            }
            Checked::Bad { line, reason, raw } => {
                taken.tally.rejected_lines += 1;
                if let Some(rejects) = &mut rules.rejects {
                    rejects.write_reason(line, reason, raw)?;
                }
                return Ok(Flow::On);
            }
        };
        key.clear();
        address::canonical_key(address, &mut key);
        let ordinal = dedupe::ordinal(taken.recipients)?;
        if finder.insert(&key, ordinal, |earlier| destination.has(earlier, &key, &mut scratch))? {
            taken.tally.duplicates_dropped += 1;
            return Ok(Flow::On);
        }
        destination.push(address, &key, values)?;
        fingerprint.row(address, values.iter().copied());
        taken.suppressed += u64::from(rules.suppress.is_some_and(|list| list.contains(address)));
        let ordinal = u64::from(ordinal);
        each(Recipient { ordinal, address, key: &key, values, size_octets });
        taken.recipients += 1;
        Ok(if is_enough(taken.recipients) { Flow::Enough } else { Flow::On })
    })?;
    progress(rows);
    Ok(taken)
}
