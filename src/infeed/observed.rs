//! What an infeed tells of how it goes, for those who measure: the one place where phases are named.
//!
//! Whoever implements [`Work`](super::Work) may look at it in [`Work::observed`](super::Work::observed),
//! which does nothing by default; then it costs a few reads of the clock a message and no more. It is told
//! on the hot path, between two awaits: it must not block. Nothing is decided by it, and nothing fails.

use std::time::Duration;

use super::error::InfeedError;

/// Something that took time, or went wrong.
#[derive(Debug)]
pub enum Observed<'a> {
    /// A session stands.
    Session(&'a Opened),
    /// No session came of a connect.
    NoSession(&'a InfeedError),
    /// A session ended otherwise than by our will.
    SessionLost(&'a InfeedError),
    /// The envelope was answered: from its write, or from the reply to the final dot that went before it in
    /// the same group, to the reply to the last RCPT.
    Envelope { took: Duration },
    /// The content was answered: from the write of the group that it opens (by BDAT, of the group that it is
    /// in) to its final reply.
    Content { took: Duration },
}

/// How a session began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opened {
    /// Until the MTA's kernel had taken the connection: longer than a moment, the listen backlog is full.
    pub connect: Duration,
    /// From there to the greeting; with implicit TLS, behind the handshake. Longer than a moment, the MTA
    /// looks up our name, or has no process free.
    pub greeting: Duration,
    /// All of it, up to a session that may send: EHLO, TLS and AUTH too.
    pub session: Duration,
    /// The text of the greeting, one printable line.
    pub banner: String,
    /// The keywords of the last EHLO reply, in capitals.
    pub keywords: Vec<String>,
}
