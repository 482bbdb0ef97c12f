//! `--dry-run`: everything that a submission would do, short of doing it.
//!
//! Renders every message, writes nothing, opens no spool and no connection. Memory is flat in the number
//! of rows, duplicate finding aside (at most 16 bytes a row).

use std::collections::{BTreeMap, HashMap};

use super::error::{SubmitError, Tally};
use super::take::{AddressHashes, Destination, Recipient, Rules, take};
use super::{Observer, Source, SubmitRequest, check_count, list_name};
use crate::intake::Rejects;
use crate::message::{Content, RecipientView, Template};
use crate::spool::JobId;

/// Domains that are told apart; beyond them the rarest are forgotten.
const DOMAINS_MAX: usize = 65_536;
/// Domains that are shown.
const DOMAINS_SHOWN: usize = 10;
/// Distinct sizes that are told apart; beyond them sizes are rounded up to a KiB.
const SIZES_MAX: usize = 65_536;

/// What a submission would be.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Survey {
    pub recipients: u64,
    pub duplicates_dropped: u64,
    pub rejected_lines: u64,
    /// Of the recipients, those on the suppression list now.
    pub suppressed: u64,
    /// Envelope sender; empty for the null sender.
    pub sender: String,
    pub size_octets_min: u64,
    pub size_octets_median: u64,
    pub size_octets_max: u64,
    /// Octets of all messages together.
    pub size_octets_total: u64,
    /// Those with most recipients first.
    pub top_domains: Vec<Domain>,
    pub warnings: Vec<String>,
    pub samples: Vec<Sample>,
}

/// A domain and its recipients.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Domain {
    pub domain: String,
    pub recipients: u64,
}

/// A message as it would go out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Sample {
    pub sender: String,
    pub recipient: String,
    /// Whole, what isn't UTF-8 replaced.
    pub message: String,
}

/// Reads, renders and counts; `expect_recipients` and `strict` catch here too.
///
/// # Errors
/// As [`submit`](super::submit), those of the spool aside.
pub fn survey(request: &SubmitRequest, observer: &mut dyn Observer) -> Result<Survey, SubmitError> {
    let mut source = Source::open(request)?;
    let job = request.key.as_deref().map_or_else(JobId::generate, JobId::from_key);
    let template = source.compile(request, &job, crate::clock::now_us())?;
    observer.compiled(template.sender(), template.warnings());
    let path = list_name(&request.list);
    // only where it was asked for by name: a dry run leaves no files about
    let mut rejects = request.rejects.as_ref().map(Rejects::new);
    let rules = Rules {
        path: path.clone(),
        strict: request.strict,
        recipients_max: request.test_to.is_some().then_some(request.samples),
        suppress: source.suppress.as_ref(),
        rejects: rejects.as_mut(),
    };
    let mut tables = Tables::default();
    let mut samples = Vec::new();
    let mut fingerprint = crate::intake::ListFingerprint::new();
    let taken = take(
        &mut source.reader,
        &template,
        &mut Destination::Nowhere(AddressHashes::default()),
        &mut fingerprint,
        rules,
        &mut |rows| observer.rows(rows),
        &mut |recipient| {
            tables.add(&recipient);
            if recipient.ordinal < request.samples {
                samples.extend(sample(&template, &recipient, request.test_to.as_deref()));
            }
        },
    )?;
    if let Some(rejects) = rejects {
        rejects.finish()?;
    }
    check_count(request, &path, &taken)?;
    let Tally { duplicates_dropped, rejected_lines } = taken.tally;
    Ok(Survey {
        recipients: taken.recipients,
        duplicates_dropped,
        rejected_lines,
        suppressed: taken.suppressed,
        sender: template.sender().to_owned(),
        size_octets_min: tables.sizes.keys().next().copied().unwrap_or(0),
        size_octets_median: tables.median(taken.recipients),
        size_octets_max: tables.sizes.keys().next_back().copied().unwrap_or(0),
        size_octets_total: tables.total,
        top_domains: tables.top_domains(),
        warnings: template.warnings().to_vec(),
        samples,
    })
}

/// The message for one recipient. It was rendered before, so that it can be.
fn sample(template: &Template, recipient: &Recipient<'_>, test_to: Option<&str>) -> Option<Sample> {
    let Recipient { ordinal, address, values, .. } = *recipient;
    let rendered = template.render(&RecipientView { ordinal, address, values }).ok()?;
    Some(Sample {
        sender: rendered.sender,
        recipient: test_to.unwrap_or(address).to_owned(),
        message: String::from_utf8_lossy(&unstuffed(&rendered.content)).into_owned(),
    })
}

/// The content as its reader will see it: dots unstuffed (RFC 5321 §4.5.2).
fn unstuffed(content: &Content) -> Vec<u8> {
    let mut octets = Vec::with_capacity(content.wire.len());
    for line in content.wire.split_inclusive(|&octet| octet == b'\n') {
        octets.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    octets
}

#[derive(Default)]
struct Tables {
    sizes: BTreeMap<u64, u64>,
    total: u64,
    domains: HashMap<String, u64>,
}

impl Tables {
    fn add(&mut self, recipient: &Recipient<'_>) {
        let size = recipient.size_octets;
        self.total += size;
        let size = if self.sizes.len() < SIZES_MAX || self.sizes.contains_key(&size) {
            size
        } else {
            size.next_multiple_of(1024)
        };
        *self.sizes.entry(size).or_default() += 1;
        let at = memchr::memrchr(b'@', recipient.key).map_or(0, |at| at + 1);
        let domain = String::from_utf8_lossy(&recipient.key[at..]);
        if let Some(count) = self.domains.get_mut(domain.as_ref()) {
            *count += 1;
            return;
        }
        if self.domains.len() >= DOMAINS_MAX {
            // a domain that is to be among the first ten is not among the rare ones
            let mut counts: Vec<u64> = self.domains.values().copied().collect();
            let middle = counts.len() / 2;
            let (_, &mut median, _) = counts.select_nth_unstable(middle);
            self.domains.retain(|_, &mut count| count > median);
        }
        self.domains.insert(domain.into_owned(), 1);
    }

    fn median(&self, recipients: u64) -> u64 {
        let mut below = 0;
        for (&size, &count) in &self.sizes {
            below += count;
            if below * 2 >= recipients {
                return size;
            }
        }
        0
    }

    fn top_domains(self) -> Vec<Domain> {
        let mut all: Vec<Domain> =
            self.domains.into_iter().map(|(domain, recipients)| Domain { domain, recipients }).collect();
        all.sort_by(|a, b| b.recipients.cmp(&a.recipients).then_with(|| a.domain.cmp(&b.domain)));
        all.truncate(DOMAINS_SHOWN);
        all
    }
}
