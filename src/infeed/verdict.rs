//! What a reply, or an I/O error at its stage, means: for the session, for the transaction or the
//! recipient, and for the MTA. ALL failure policy is here, as pure functions; the rest obeys.
//!
//! The rows come from the MTAs' own sources and documents; each has a test below. Which recipients a
//! [`Fate`] concerns follows from the stage: at RCPT the one recipient, elsewhere every recipient of the
//! transaction that is still live.
//!
//! A BDAT group (RFC 3030) holds several transactions, each with its content, so that one reply may end the
//! session while others are on their way. The one that it answers is judged by its row. Of what follows
//! (and of the one itself, if it was not its content that was answered) nobody was tried whose last octet
//! was not written: a last chunk that is incomplete completes nothing. Whoever's was written is in doubt,
//! unless an error reply ended it and the MTA refused every further command or closed then: a 421 alone
//! does not say so, since Exim goes on after one, and another may (see [`rest_of_group`]).
//!
//! Nothing here fails: what no row knows is judged by its class (2, 3, 4, 5) at its stage.

use super::error::InfeedError;
use super::reply::enhanced_code;
use super::transaction::{Said, Stage};

/// What becomes of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    Go,
    /// Goes on, one transaction at a time until one is accepted.
    Cautious,
    /// Read what is still to come of this group, QUIT, and connect anew.
    Rotate,
    /// Close, read nothing more, never use it again.
    Close,
}

/// What becomes of the recipient (at RCPT) or of the transaction's live recipients (elsewhere).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The next step: RCPT, DATA, content; after the content: accepted.
    Taken,
    Refused,
    Deferred,
    /// Pending again, no attempt counted.
    NotTried,
    /// As `NotTried`, but a transaction that meets it again and again is deferred (see `losses`).
    Lost,
    /// The job pauses with the text; recipients stay pending.
    JobFault,
    /// The same transaction again, on this connection, in a group of its own.
    Again,
    InDoubt,
    /// Says nothing about anybody: DATA refused because no RCPT was accepted.
    Void,
}

/// What the MTA as a whole is to be spared, or what was learned about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mta {
    Fine,
    /// This infeed waits before it connects again.
    BackOff,
    /// No more connections than are established now, for a while.
    CapConnections,
    /// No new connection for a while; live sessions go on.
    HoldConnects,
    /// No transaction for a minute.
    HoldMinute,
    /// No transaction; one probe, at growing intervals, until one is accepted.
    StopAndProbe,
    /// A transient fault of the MTA's own: after several in a row, as `StopAndProbe`.
    Strain,
    /// No transaction until somebody resumes: a setting is wrong, or a certificate.
    Pause,
    /// The recipients accepted so far in this transaction are what it takes.
    LearnRecipientsMax,
    /// The messages sent so far on this connection are what it takes.
    LearnMessagesMax,
    /// It wants a wait after the final dot.
    LearnNoGroupAcrossDot,
    /// It offers CHUNKING and knows no BDAT.
    LearnNoChunking,
    /// It offers XVERP and does not take it.
    LearnNoXverp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub session: Session,
    pub fate: Fate,
    pub mta: Mta,
}

/// What is known where something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    /// RCPTs accepted so far in this transaction.
    pub rcpts_accepted: usize,
    /// Messages begun on this connection before this one.
    pub messages: usize,
    /// MAIL was written in one group with the final dot of the message before.
    pub across_dot: bool,
    /// The same content goes to other recipients too.
    pub shared_content: bool,
    /// The content goes by BDAT, and nothing of it was accepted on this connection before.
    pub first_chunk: bool,
    /// The content goes by BDAT.
    pub chunk: bool,
    /// MAIL asks for XVERP.
    pub xverp: bool,
    /// The MTA has said in this group that it takes no more messages on this connection.
    pub rotating: bool,
}

const fn verdict(session: Session, fate: Fate, mta: Mta) -> Verdict {
    Verdict { session, fate, mta }
}

const GO: Verdict = verdict(Session::Go, Fate::Taken, Mta::Fine);
/// A reply that does not belong where it came: the stream's place is no longer known.
const UNEXPECTED: Verdict = verdict(Session::Close, Fate::Lost, Mta::BackOff);

/// BDAT was offered, and is refused: DATA from now on, for the same recipients too.
const NO_CHUNKING: Verdict = verdict(Session::Close, Fate::NotTried, Mta::LearnNoChunking);

/// What a reply means. The reply to the content is only asked for when the whole of it, the final dot
/// included, was written.
pub fn on_reply(stage: Stage, said: &Said, context: &Context) -> Verdict {
    if let Some(verdict) = ill_pipelined(stage, said) {
        return verdict;
    }
    if context.rotating && stage == Stage::Mail && said.code >= 400 {
        return verdict(Session::Rotate, Fate::NotTried, Mta::Fine);
    }
    if said.code == 421 {
        return on_421(stage, said, context);
    }
    match stage {
        Stage::Connect | Stage::Banner | Stage::Ehlo | Stage::StartTls | Stage::Tls | Stage::Auth => {
            at_session_start(said)
        }
        Stage::Mail => at_mail(said, context),
        Stage::Rcpt => at_rcpt(said, context),
        Stage::Data => at_data(said, context),
        Stage::Content => at_content(said, context),
    }
}

/// What a lost connection, a timeout or a malformed reply means. `dot_written`: the final dot's last
/// octet was handed to the kernel, so that the MTA may have the message.
pub fn on_loss(dot_written: bool) -> Verdict {
    let fate = if dot_written { Fate::InDoubt } else { Fate::Lost };
    verdict(Session::Close, fate, Mta::BackOff)
}

/// What becomes of a transaction of a BDAT group whose own end was not answered when the session ended.
/// `refused`: it was an error reply that ended it, and the MTA refused every command that followed, or
/// closed.
pub fn rest_of_group(written: bool, refused: bool) -> Fate {
    if written && !refused { Fate::InDoubt } else { Fate::Lost }
}

/// What a failed connect means while `sessions_live` others stand. A refused connect with live sessions
/// is sendmail under load: it closes its socket for 15 s or more.
fn on_connect_failed(sessions_live: usize) -> Mta {
    if sessions_live > 0 { Mta::HoldConnects } else { Mta::BackOff }
}

/// What it means that no session came of a connect, and what is to be said of it. Nothing was sent to
/// anybody, so no recipient is touched, whatever it was. What only a change of settings, of a certificate
/// or of the MTA can mend pauses it: trying again would fail in the same way. A file that can't be read
/// here is tried again like an MTA that is down: putting it right is enough.
pub fn on_no_session(error: &InfeedError, sessions_live: usize) -> (Mta, Said) {
    let own = |code| Said { code, text: format!("{error} (not sent)") };
    match error {
        InfeedError::Said { stage, said } => (on_reply(*stage, said, &Context::default()).mta, said.clone()),
        InfeedError::StartTlsNotOffered { .. }
        | InfeedError::Certificate { .. }
        | InfeedError::TlsSetup { .. }
        | InfeedError::AuthInClear { .. }
        | InfeedError::NoPassword { .. }
        | InfeedError::NoMechanism { .. } => (Mta::Pause, own(554)),
        InfeedError::Roots { .. } | InfeedError::Password { .. } => (Mta::BackOff, own(421)),
        _ => (on_connect_failed(sessions_live), own(421)),
    }
}

/// Postfix 554 5.5.0, OpenSMTPD 500 5.5.1, Exim 554: commands came together that should not have. That
/// is a defect of ours, or an MTA that offers what it does not keep; no recipient is to blame.
fn ill_pipelined(stage: Stage, said: &Said) -> Option<Verdict> {
    let early = matches!(stage, Stage::Ehlo | Stage::Mail | Stage::Rcpt | Stage::Data);
    let told = has(said, "synchronization error")
        || has(said, "protocol synchronization")
        // a word of its own: an address that the MTA repeats may hold it too
        || has(said, " pipelining")
        || (said.code != 503 && has(said, " pipelined"));
    (early && said.code >= 500 && told).then_some(verdict(
        Session::Close,
        Fate::Lost,
        Mta::LearnNoGroupAcrossDot,
    ))
}

fn on_421(stage: Stage, said: &Said, context: &Context) -> Verdict {
    let too_many_messages = has(said, "too many messages");
    if stage == Stage::Mail && too_many_messages && context.messages > 0 {
        return verdict(Session::Rotate, Fate::NotTried, Mta::LearnMessagesMax);
    }
    let mta = if has(said, "too many connections") || has(said, "too many concurrent") {
        Mta::CapConnections
    } else if has(said, "too much load") {
        Mta::HoldConnects
    } else if matches!(stage, Stage::Banner | Stage::Ehlo)
        && enhanced_code(&said.text) == Some((4, 3, 2))
        && !has(said, "ports are busy")
    {
        // sendmail's connection and rate control.
        Mta::HoldConnects
    } else {
        Mta::BackOff
    };
    // A content that makes the MTA leave each time must not come back for ever.
    let fate = if matches!(stage, Stage::Data | Stage::Content) { Fate::Lost } else { Fate::NotTried };
    verdict(Session::Close, fate, mta)
}

fn at_session_start(said: &Said) -> Verdict {
    match said.code {
        200..300 => GO,
        400..500 if storage(said) => verdict(Session::Close, Fate::NotTried, Mta::StopAndProbe),
        400..500 => verdict(Session::Close, Fate::NotTried, Mta::HoldConnects),
        500.. => verdict(Session::Close, Fate::NotTried, Mta::Pause),
        _ => verdict(Session::Close, Fate::NotTried, Mta::BackOff),
    }
}

/// A 2xx that answers a command for mail. 220 and 221 speak of the service alone: it begins (behind a proxy
/// that has changed its server meanwhile), or it ends. Nobody was taken by that.
pub fn is_yes(code: u16) -> bool {
    (200..300).contains(&code) && !matches!(code, 220 | 221)
}

fn at_mail(said: &Said, context: &Context) -> Verdict {
    match said.code {
        code if is_yes(code) => GO,
        503 if context.across_dot => verdict(Session::Go, Fate::Again, Mta::LearnNoGroupAcrossDot),
        501 | 504 | 555 if context.xverp => verdict(Session::Cautious, Fate::NotTried, Mta::LearnNoXverp),
        // Out of sequence elsewhere: the two ends disagree about where they are.
        503 => UNEXPECTED,
        530 | 535 => verdict(Session::Close, Fate::NotTried, Mta::Pause),
        400..500 if too_much_mail(said) => verdict(Session::Cautious, Fate::NotTried, Mta::HoldMinute),
        400..500 if has(said, "too many messages") && context.messages > 0 => {
            verdict(Session::Rotate, Fate::NotTried, Mta::LearnMessagesMax)
        }
        400..500 if storage(said) => verdict(Session::Cautious, Fate::NotTried, Mta::StopAndProbe),
        400..500 => transient(said),
        500.. => verdict(Session::Cautious, Fate::JobFault, Mta::Fine),
        _ => UNEXPECTED,
    }
}

fn at_rcpt(said: &Said, context: &Context) -> Verdict {
    match said.code {
        code if is_yes(code) => GO,
        400..500 if too_much_mail(said) => verdict(Session::Cautious, Fate::NotTried, Mta::HoldMinute),
        451 | 452 | 552 if context.rcpts_accepted > 0 && too_many_recipients(said) => {
            verdict(Session::Go, Fate::NotTried, Mta::LearnRecipientsMax)
        }
        400..500 if storage(said) => verdict(Session::Cautious, Fate::NotTried, Mta::StopAndProbe),
        400..500 => verdict(Session::Go, Fate::Deferred, Mta::Fine),
        500.. => verdict(Session::Go, Fate::Refused, Mta::Fine),
        _ => UNEXPECTED,
    }
}

fn at_data(said: &Said, context: &Context) -> Verdict {
    match said.code {
        354 => GO,
        // Postfix 554 5.5.1 no valid recipients, sendmail 503 need RCPT: said of what is known already.
        400.. if context.rcpts_accepted == 0 => verdict(Session::Go, Fate::Void, Mta::Fine),
        400..500 if storage(said) => verdict(Session::Cautious, Fate::NotTried, Mta::StopAndProbe),
        400..500 => transient(said),
        500.. => verdict(Session::Cautious, Fate::JobFault, Mta::Fine),
        _ => UNEXPECTED,
    }
}

fn at_content(said: &Said, context: &Context) -> Verdict {
    match said.code {
        code if is_yes(code) => GO,
        // It may have taken the chunk for commands. One that has taken a chunk before knows BDAT.
        500 | 502 if context.first_chunk => NO_CHUNKING,
        // Postfix 554 5.5.1 no valid recipients, Exim 503: said of what is known already.
        400.. if context.chunk && context.rcpts_accepted == 0 => verdict(Session::Go, Fate::Void, Mta::Fine),
        503 if context.first_chunk => NO_CHUNKING,
        400..500 if storage(said) => verdict(Session::Cautious, Fate::Deferred, Mta::StopAndProbe),
        400..500 => transient(said),
        500.. if context.shared_content => verdict(Session::Cautious, Fate::JobFault, Mta::Fine),
        500.. => verdict(Session::Cautious, Fate::Refused, Mta::Fine),
        _ => verdict(Session::Close, Fate::InDoubt, Mta::BackOff),
    }
}

/// 4xx to MAIL, DATA or the final dot: all of the transaction, later. 451 4.3.0, 4.3.5 and 4.7.1 are the
/// MTA's own trouble (queue file, configuration, milter): several in a row are a reason to wait.
fn transient(said: &Said) -> Verdict {
    let own = said.code == 451 && matches!(enhanced_code(&said.text), Some((4, 3, 0 | 5) | (4, 7, 1)));
    verdict(Session::Cautious, Fate::Deferred, if own { Mta::Strain } else { Mta::Fine })
}

/// Postfix 452 4.3.1, sendmail 452 4.4.5, Exim "452 space shortage".
fn storage(said: &Said) -> bool {
    said.code == 452
        && (matches!(enhanced_code(&said.text), Some((4, 3, 1) | (4, 4, 5)))
            || has(said, "space shortage")
            || has(said, "insufficient disk space")
            || has(said, "insufficient system storage"))
}

/// Postfix's anvil counts the client, not the recipient. Its other 450 4.7.1 is greylisting.
fn too_much_mail(said: &Said) -> bool {
    said.code == 450
        && enhanced_code(&said.text) == Some((4, 7, 1))
        && (has(said, "too much mail") || has(said, "too many recipients"))
}

fn too_many_recipients(said: &Said) -> bool {
    matches!(enhanced_code(&said.text), Some((4 | 5, 5, 3))) || has(said, "too many recipients")
}

/// Case-insensitive; `needle` is in lower case. Only errors come here, so speed does not matter.
fn has(said: &Said, needle: &str) -> bool {
    said.text.to_ascii_lowercase().contains(needle)
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
