//! What an infeed is given, and what it gives back.
//!
//! The runner (`Work`) owns recipients; an infeed only ever holds a `Transaction` on loan, and returns
//! every recipient of it, exactly once, through [`Work::settle`].

use std::future::Future;

use super::observed::Observed;
use crate::message::Content;

/// What the MTA at the other end offers, as EHLO told it and as experience taught it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    pub pipelining: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub dsn: bool,
    pub enhanced_status_codes: bool,
    /// BDAT (RFC 3030), and nothing speaks against its use.
    pub chunking: bool,
    /// Postfix's XVERP, and nothing speaks against its use.
    pub xverp: bool,
    /// `SIZE` was offered; the bound in octets, 0 for none declared (RFC 1870).
    pub size: Option<u64>,
    /// Recipients a transaction, learned from 452/552 replies; `usize::MAX` while unknown.
    pub recipients_max: usize,
}

/// DSN parameters (RFC 3461), already checked; sent only where the MTA offers DSN.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dsn {
    /// `FULL` or `HDRS`.
    pub ret: Option<String>,
    /// xtext-encoded.
    pub envid: Option<String>,
    /// `NEVER` or a comma list of `SUCCESS,FAILURE,DELAY`.
    pub notify: Option<String>,
}

/// One recipient of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt {
    /// The runner's own handle for this recipient; an infeed only hands it back.
    pub token: u64,
    /// As submitted: may be an IDN or need SMTPUTF8; the dialogue decides its wire form.
    pub address: String,
}

/// MAIL, RCPT…, content.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Envelope sender; empty for the null sender.
    pub sender: String,
    /// The MTA makes each recipient's own sender (VERP) of `sender`, with these two delimiters: only where
    /// [`Capabilities::xverp`] says that it can, and never with the null sender.
    pub xverp: Option<[u8; 2]>,
    /// Never empty.
    pub recipients: Vec<Rcpt>,
    pub content: Content,
    pub dsn: Option<Dsn>,
    /// The same content goes to other recipients too: a 5xx to it is a fault of the job, not of a recipient.
    pub shared_content: bool,
}

/// Where in the dialogue something was said, or went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Connect,
    Banner,
    Ehlo,
    StartTls,
    /// The TLS handshake, after STARTTLS or at once.
    Tls,
    Auth,
    Mail,
    Rcpt,
    /// The reply to DATA.
    Data,
    /// The reply to the final dot.
    Content,
}

/// An SMTP reply as the report shows it: `text` is one line, printable, bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub code: u16,
    pub text: String,
}

/// What became of one recipient in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RcptResult {
    Accepted {
        said: Said,
        queue_id: Option<String>,
    },
    Refused {
        stage: Stage,
        said: Said,
    },
    Deferred {
        stage: Stage,
        said: Said,
    },
    /// Nothing was sent that could have delivered it: pending again, no attempt counted.
    NotTried,
    /// The connection was lost between the final dot and its reply.
    InDoubt {
        error: String,
    },
}

/// A transaction's end. `results[i]` belongs to `transaction.recipients[i]`.
#[derive(Debug)]
pub struct Settlement {
    pub transaction: Transaction,
    pub results: Vec<RcptResult>,
    /// The refusal breaker's business: a 5xx to MAIL, DATA or shared content (verdict.rs decides).
    /// Then every result that it concerns is `NotTried`... unless the job accepts refusals: the runner
    /// uses `job_fault` as the text, and `Refused` where the job says `--accept-refusals`.
    pub job_fault: Option<JobFault>,
}

/// What the MTA said against the job as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFault {
    pub stage: Stage,
    pub said: Said,
}

/// The side of the runner that infeeds pull from and settle into.
pub trait Work: Send + Sync + 'static {
    /// The next transaction if one is ready at once; never waits. Used to close the group
    /// `[content . MAIL RCPT… DATA]`.
    fn try_next(&self, capabilities: &Capabilities) -> Option<Transaction>;

    /// Waits for the next transaction; `None`: the drain is over, close the connection.
    /// Cancel-safe: dropping the future loses no transaction.
    fn next(&self, capabilities: &Capabilities) -> impl Future<Output = Option<Transaction>> + Send;

    /// Records that the content of these transactions is about to be written, all of them in one record.
    /// Called before the first octet of content, with DATA after its 354; on `Err` none of them may be
    /// sent (close, settle as `NotTried`). Never empty.
    fn hand_out(&self, transactions: &[&Transaction]) -> impl Future<Output = Result<(), NoRecord>> + Send;

    /// Takes back the transaction, every recipient with its result.
    fn settle(&self, settlement: Settlement);

    /// Is told how long each phase took, and what went wrong with sessions; see [`Observed`]. Never blocks.
    fn observed(&self, _what: &Observed<'_>) {}
}

/// The journal can't take a record now: no transaction may start.
#[derive(Debug, thiserror::Error)]
#[error("the progress journal can't be written: {0}")]
pub struct NoRecord(pub String);
