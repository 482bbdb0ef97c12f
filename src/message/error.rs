//! What can be wrong with a message ([`MessageError`], before anything is committed) and with one
//! recipient's rendering of it ([`RenderError`], which costs that recipient only).
//!
//! No column value and no secret is ever shown, only where it stands.

use super::address::AddressError;

/// The message can't be sent as it is; nothing was submitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("the message is empty; it needs at least a From header")]
    Empty,
    #[error("line {line}: a NUL octet; mail can't carry one: encode that part as base64")]
    Nul { line: usize },
    #[error(
        "line {line}: {text:?} is neither a header (`Name: value`) nor the empty line that ends the headers; \
         put an empty line between the headers and the text"
    )]
    NotAHeader { line: usize, text: String },
    #[error("the message has no From header; add `From: Name <address>`")]
    NoFrom,
    #[error("line {line}: {name} stands twice in the message; keep one")]
    Twice { name: String, line: usize },
    #[error("line {line}: no usable address in From: {reason}; correct it, or name the sender with --sender")]
    From { line: usize, reason: String },
    #[error("line {line}: the address in From is a merge mark; name the envelope sender with --sender")]
    FromMerged { line: usize },
    #[error("the sender {sender:?} is not an address: {reason}")]
    Sender { sender: String, reason: AddressError },
    #[error(
        "the VERP pattern {pattern:?}: {reason}; write it like list-bounces+{{local}}={{domain}}@example.org"
    )]
    Verp { pattern: String, reason: String },
    #[error(
        "{value:?} can't stand in a Message-ID: {what} holds characters other than letters, digits, . and -"
    )]
    MessageId { what: &'static str, value: String },
    #[error("{place}: {reason}")]
    Template { place: String, reason: String },
    #[error("{place}: no column {name:?} in the recipients{}; the columns are {}", nearest_hint(.nearest), .columns.join(", "))]
    UnknownColumn { place: String, name: String, nearest: Option<String>, columns: Vec<String> },
    #[error(
        "{place}: merge marks in a part of charset {charset:?}; save it as utf-8 (us-ascii, iso-8859-1 and \
         windows-1252 work too)"
    )]
    Charset { place: String, charset: String },
    #[error("{place}: can't be decoded: {reason}")]
    Decode { place: String, reason: String },
    #[error("the message holds merge marks, did you mean --merge? {}", .0.join("; "))]
    MergeMarks(Vec<String>),
    #[error("left-over placeholders or secrets: {}; replace them, or say --allow-placeholders", .0.join("; "))]
    Placeholders(Vec<String>),
}

fn nearest_hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean {name:?}?)"))
}

/// This recipient can't be mailed; the others go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("{place}: {reason}")]
    Template { place: String, reason: String },
    #[error("{place}: a column value brings the character U+{code:04X}, which could add a line; remove it")]
    Control { place: String, code: u32 },
    #[error("{place}: a column value brings {character:?}, which could change the header; remove it")]
    Injection { place: String, character: char },
    #[error("{place}: {address:?} is not an address: {reason}")]
    Address { place: String, address: String, reason: AddressError },
    #[error("{place}: rendered to no address")]
    NoAddress { place: String },
    #[error("{place}: a line of {octets} octets can't be folded under 998; shorten the value")]
    LineTooLong { place: String, octets: usize },
    #[error("{place}: a column value holds the boundary of this multipart; remove it")]
    Boundary { place: String },
    #[error("the VERP sender for it would be {sender:?}: {reason}")]
    Verp { sender: String, reason: String },
}
