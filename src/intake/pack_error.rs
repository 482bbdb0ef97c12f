//! Why a small job was not taken; every error but two means that nothing of it was committed.

use std::sync::Arc;

use super::address::AddressFault;
use crate::message::{MessageError, RenderError};
use crate::spool::{JobId, SpoolError};

/// What [`Packer::submit`](super::Packer::submit) can answer with. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PackError {
    #[error("PackSettings::{name} is {value}: {remedy}")]
    Setting { name: &'static str, value: String, remedy: String },
    #[error("the message: {0}")]
    Message(#[from] MessageError),
    #[error("the job has no recipients: name one at least")]
    NoRecipients,
    #[error("recipient {place} ({address:?}): {reason}; correct or leave it out")]
    Recipient { place: usize, address: String, reason: AddressFault },
    #[error("recipient {place} ({address:?}): {reason}")]
    Render { place: usize, address: String, reason: RenderError },
    #[error("the job has {found} recipients, a small one at most {max}: submit it as a job of its own")]
    TooManyRecipients { found: usize, max: usize },
    #[error("the job takes {found} bytes, a small one at most {max}: submit it as a job of its own")]
    TooLarge { found: usize, max: usize },
    #[error("the packer was shut down: start another one; nothing of this job was submitted")]
    Closed,
    #[error("nothing was committed: {0}")]
    Spool(Arc<SpoolError>),
    /// The pack was made a job, and it is not known whether that outlives a power cut.
    #[error("job {job} may or may not be committed: {source}")]
    Unknown { job: JobId, source: Arc<SpoolError> },
    /// The runtime that the packer ran on ended.
    #[error(
        "the packer ended before it could answer: this job may or may not be committed; look with `infeed jobs`"
    )]
    Gone,
}

impl PackError {
    /// Whether the job may be committed all the same: before it is submitted again, have a look.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Gone)
    }
}
