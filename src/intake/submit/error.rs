//! What ends a submission; nothing of the job exists afterwards, unless `SpoolError::Unknown` says so.

use std::io;

use crate::clock::{self, Micros};
use crate::intake::IntakeError;
use crate::message::{AddressError, MessageError};
use crate::spool::{JobId, SpoolError};

/// Why nothing was submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("{path}: can't be read: {source}; check the path and its permissions")]
    MessageRead { path: String, source: io::Error },
    #[error("{path}: {source}")]
    Message { path: String, source: MessageError },
    #[error(transparent)]
    Intake(#[from] IntakeError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(
        "message and recipients can't both come from standard input; name a file for one, `-` for the other"
    )]
    BothFromStdin,
    #[error("--test-to {address}: {reason}; give one address such as you@example.org")]
    TestTo { address: String, reason: AddressError },
    #[error(
        "{path}, line {line}: {reason}; nothing was submitted, since --strict refuses all for one bad line"
    )]
    Strict { path: String, line: u64, reason: String },
    #[error("{path}: no recipients ({tally}); nothing was submitted")]
    NoRecipients { path: String, tally: Tally },
    #[error(
        "{path}: {found} recipients, not the {expected} of --expect-recipients ({tally}); nothing was submitted: \
         look at the list, or correct the number"
    )]
    Expected { path: String, found: u64, expected: u64, tally: Tally },
    #[error(
        "the same message to the same list was submitted as job {job} at {}; nothing was submitted: \
         say --again to send it once more",
        clock::rfc3339(*at_us)
    )]
    Again { job: JobId, at_us: Micros },
    #[error(
        "--id names the job {job}, which has another message, list or options; nothing was submitted: \
         use a new --id for a new submission"
    )]
    OtherSubmission { job: JobId },
    #[error(
        "{recipients} recipients are more than {min} (catches.confirm_recipients_min), and there is no terminal to \
         ask on; nothing was submitted: say --yes if that is the number you mean, or --expect-recipients \
         {recipients} and --yes to be sure of it"
    )]
    Unconfirmed { recipients: u64, min: u64 },
    #[error("`{typed}` is not the count, {recipients}; nothing was submitted")]
    NotConfirmed { recipients: u64, typed: String },
    #[error("the terminal can't be read: {0}; nothing was submitted: say --yes instead of typing the count")]
    Terminal(io::Error),
}

/// What became of the lines that are no recipients; for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub duplicates_dropped: u64,
    pub rejected_lines: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} duplicates dropped, {} lines rejected", self.duplicates_dropped, self.rejected_lines)
    }
}
