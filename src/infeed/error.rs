//! What can go wrong between an infeed and its MTA, as one enum for the stage.
//!
//! Every message names the MTA's address or the stage, the value that was wrong, and what to do where
//! there is something to do. An error here never decides about a recipient: `verdict` does.

use super::reply::BadReply;
use super::transaction::{NoRecord, Said, Stage};

/// An infeed's errors.
#[derive(Debug, thiserror::Error)]
pub enum InfeedError {
    #[error("can't connect to the MTA at {address}: {source}; is it running, and is `--mta` right?")]
    Connect { address: String, source: std::io::Error },
    #[error("the connection to the MTA failed at {stage}: {source}")]
    Io { stage: Stage, source: std::io::Error },
    #[error("the MTA closed the connection at {stage} without a reply")]
    Closed { stage: Stage },
    #[error("the MTA did not answer at {stage} within {timeout_ms} ms")]
    Timeout { stage: Stage, timeout_ms: u64 },
    #[error("the MTA's reply at {stage} is not SMTP: {source}")]
    BadReply { stage: Stage, source: BadReply },
    #[error("the MTA spoke at {stage} before it was asked: {text:?}")]
    Unsolicited { stage: Stage, text: String },
    #[error("the MTA said at {stage}: {} {}", said.code, said.text)]
    Said { stage: Stage, said: Said },
    #[error("the MTA answered {code} at {stage}, which does not belong there: {text}")]
    Unexpected { stage: Stage, code: u16, text: String },
    #[error(transparent)]
    NoRecord(#[from] NoRecord),
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Connect => "connect",
            Stage::Banner => "the greeting",
            Stage::Ehlo => "EHLO",
            Stage::Mail => "MAIL",
            Stage::Rcpt => "RCPT",
            Stage::Data => "DATA",
            Stage::Content => "the end of the content",
        })
    }
}
