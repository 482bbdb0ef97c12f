//! The checks of one small job before it is taken: those of an ordinary submission, so that what is
//! wrong with it costs nobody else of its pack anything.
//!
//! The message is compiled as its runner will compile it: NUL, headers, From, left-over placeholders;
//! Date and Message-ID are added and Bcc is left out there. Errors: [`PackError`].

use std::collections::HashSet;

use super::address;
use super::pack::{PackSettings, SmallJob};
use super::pack_error::PackError;
use crate::clock;
use crate::message::{CompileOptions, RecipientView, Template};
use crate::spool::PackedJob;

/// As long as a member's id can be: it stands in the Message-ID and in VERP senders.
const LONGEST_ID: &str = "20261122-031400-aaaaaa.1000";
/// What a recipient takes in its chunk besides its address, at most.
const RECIPIENT_OCTETS: usize = 96;

/// Octets that a job takes in memory and on disk, about.
pub(super) fn octets_of(job: &SmallJob) -> usize {
    job.message.len() + job.recipients.iter().map(|r| r.len() + RECIPIENT_OCTETS).sum::<usize>()
}

/// The bounds of a small job, before anything else is looked at.
pub(super) fn check_size(job: &SmallJob, settings: &PackSettings) -> Result<(), PackError> {
    let (found, max) = (job.recipients.len(), settings.recipients_max);
    if found == 0 {
        return Err(PackError::NoRecipients);
    }
    if found > max {
        return Err(PackError::TooManyRecipients { found, max });
    }
    let (found, max) = (octets_of(job), settings.bytes_max);
    if found > max {
        return Err(PackError::TooLarge { found, max });
    }
    Ok(())
}

/// Checks a job; gives it as a pack takes it, and how many addresses it held twice.
pub(super) fn check(job: SmallJob, settings: &PackSettings) -> Result<(PackedJob, u64), PackError> {
    let template = compile(&job, settings)?;
    let sender = template.sender().to_owned();
    let mut recipients = Vec::with_capacity(job.recipients.len());
    let mut seen: HashSet<Vec<u8>> = HashSet::with_capacity(job.recipients.len());
    let mut duplicates = 0;
    for (place, address) in job.recipients.into_iter().enumerate() {
        if let Err(reason) = address::check(&address) {
            return Err(PackError::Recipient { place, address, reason });
        }
        let mut key = Vec::with_capacity(address.len());
        address::canonical_key(&address, &mut key);
        if !seen.insert(key) {
            duplicates += 1;
            continue;
        }
        if !template.sender_is_shared() {
            let view = RecipientView { ordinal: place as u64, address: &address, values: &[] };
            if let Err(reason) = template.render(&view) {
                return Err(PackError::Render { place, address, reason });
            }
        }
        recipients.push(address);
    }
    Ok((PackedJob { sender, literal: job.literal, message: job.message, recipients }, duplicates))
}

fn compile(job: &SmallJob, settings: &PackSettings) -> Result<Template, PackError> {
    let compile = |message_id_domain: &str| {
        let options = CompileOptions {
            merge: false,
            columns: &[],
            job: LONGEST_ID,
            submitted_us: clock::now_us(),
            message_id_domain,
            verp: settings.verp.as_deref(),
            sender: job.sender.as_deref(),
            allow_placeholders: job.literal,
        };
        Template::compile(&job.message, &options)
    };
    let template = compile("localhost")?;
    // an added Message-ID stands in the sender's domain, which can be none that fits (an address literal)
    let domain = template.sender().rsplit_once('@').map_or("", |(_, domain)| domain);
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-');
    match domain.bytes().all(plain) {
        true => Ok(template),
        false => Ok(compile(domain)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageError;

    fn job(message: &[u8], recipients: &[&str]) -> SmallJob {
        SmallJob::new(message.to_vec(), recipients.iter().map(|&r| r.to_owned()))
    }

    const GOOD: &[u8] = b"From: a@example.org\r\n\r\nHello\r\n";

    fn checked(job: SmallJob) -> Result<(PackedJob, u64), PackError> {
        let settings = PackSettings::default();
        check_size(&job, &settings)?;
        check(job, &settings)
    }

    #[test]
    fn what_an_ordinary_submission_refuses_a_small_job_is_refused_for() {
        let refused = |message: &[u8]| match checked(job(message, &["x@example.org"])) {
            Err(PackError::Message(error)) => error,
            other => panic!("{other:?}"),
        };
        assert!(matches!(refused(b"From: a@example.org\r\n\r\nnul \0\r\n"), MessageError::Nul { .. }));
        assert!(matches!(refused(b"Subject: x\r\n\r\ny\r\n"), MessageError::NoFrom));
        assert!(matches!(refused(b""), MessageError::Empty));
        let mark = b"From: a@example.org\r\n\r\nDear {{ first_name }}\r\n";
        assert!(matches!(refused(mark), MessageError::MergeMarks(_) | MessageError::Placeholders(_)));
        let meant = SmallJob { literal: true, ..job(mark, &["x@example.org"]) };
        assert!(checked(meant).is_ok());
    }

    #[test]
    fn a_bad_recipient_is_named_with_its_place() {
        let bad = checked(job(GOOD, &["x@example.org", "no address"]));
        assert!(matches!(bad, Err(PackError::Recipient { place: 1, .. })), "{bad:?}");
        assert!(matches!(checked(job(GOOD, &[])), Err(PackError::NoRecipients)));
        let line = checked(job(GOOD, &["x@example.org\r\nRCPT TO:<y@example.org>"]));
        assert!(matches!(line, Err(PackError::Recipient { place: 0, .. })), "{line:?}");
    }

    #[test]
    fn an_address_that_stands_twice_gets_one_message() {
        let (packed, duplicates) = checked(job(GOOD, &["x@example.org", "X@Example.org"])).unwrap();
        assert_eq!((packed.recipients, duplicates), (vec!["x@example.org".to_owned()], 1));
        assert_eq!(packed.sender, "a@example.org");
    }

    #[test]
    fn a_job_beyond_its_bounds_is_told_where_to_go() {
        let settings = PackSettings { recipients_max: 1, bytes_max: 1_000, ..PackSettings::default() };
        let two = check_size(&job(GOOD, &["a@x.example", "b@x.example"]), &settings);
        assert!(matches!(two, Err(PackError::TooManyRecipients { found: 2, max: 1 })));
        let large = check_size(&job(&[b'x'; 2_000], &["a@x.example"]), &settings);
        assert!(matches!(large, Err(PackError::TooLarge { max: 1_000, .. })));
    }
}
