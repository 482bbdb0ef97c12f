//! What can go wrong between an infeed and its MTA, as one enum for the stage.
//!
//! Every message names the MTA's address or the stage, the value that was wrong, and what to do where
//! there is something to do. An error here never decides about a recipient: `verdict` does.

use std::path::PathBuf;

use super::reply::BadReply;
use super::transaction::{NoRecord, Said, Stage};

/// An infeed's errors.
#[derive(Debug, thiserror::Error)]
pub enum InfeedError {
    #[error("can't connect to the MTA at {address}: {source}; {}", connect_remedy(source))]
    Connect { address: String, source: std::io::Error },
    #[error(
        "the MTA at {address} offers no STARTTLS, and nothing is sent to it in clear text: switch TLS on there, \
         or set mta.tls to \"implicit\" for a port that begins with TLS (465), or to \"off\" for an MTA on \
         this host"
    )]
    StartTlsNotOffered { address: String },
    #[error("the certificate of the MTA at {address} {fault}")]
    Certificate { address: String, fault: CertificateFault },
    #[error("no TLS with the MTA at {address}: {source}; {}", tls_remedy(*implicit))]
    Tls { address: String, implicit: bool, source: std::io::Error },
    #[error("TLS to the MTA at {address} can't be set up: {reason}")]
    TlsSetup { address: String, reason: String },
    #[error("the root certificates in {}: {reason}; see mta.tls_ca_file", path.display())]
    Roots { path: PathBuf, reason: String },
    #[error(
        "mta.auth_user is set, and nothing says where the password for the MTA at {address} is: set \
         mta.auth_password_file or mta.auth_password_credential"
    )]
    NoPassword { address: String },
    #[error("the password for the MTA can't be had ({setting}): {reason}")]
    Password { setting: String, reason: String },
    #[error(
        "mta.auth_user is set, but the way to the MTA at {address} is neither encrypted nor on this host, and a \
         password is not sent over it: set mta.tls to \"starttls\" or \"implicit\""
    )]
    AuthInClear { address: String },
    #[error(
        "mta.auth_user is set, and the MTA at {address} offers {offered}, where infeed speaks PLAIN and LOGIN: \
         let it offer one of them, or unset mta.auth_user"
    )]
    NoMechanism { address: String, offered: String },
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

impl InfeedError {
    /// The MTA closed the connection; with something of ours unread that is a reset.
    pub(super) fn is_end(&self) -> bool {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match self {
            Self::Closed { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
            }
            _ => false,
        }
    }
}

/// What is wrong with the MTA's certificate, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("has expired{at}: renew it there, and resume the MTA")]
    Expired { at: String },
    #[error("is not yet valid{at}: is the clock of this host right?")]
    NotYetValid { at: String },
    #[error("is not for {expected}{presented}: set mta.tls_server_name to a name that it bears")]
    WrongName { expected: String, presented: String },
    #[error(
        "leads to no root that is known ({roots}): set mta.tls_ca_file to the PEM file of the root that signed \
         it, and let the MTA send the certificates between"
    )]
    UnknownRoot { roots: String },
    #[error(
        "is one of an authority, not of a server: sign another one for the MTA, with basicConstraints=CA:FALSE \
         (`openssl req -x509` alone makes the other kind), and keep this one as mta.tls_ca_file"
    )]
    Authority,
    #[error("is not good: {0}; give the MTA another one")]
    Other(String),
}

fn connect_remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "infeed's user needs search permission on the folders, and write permission on the socket"
        }
        _ => "is it running, and is `--mta` right?",
    }
}

fn tls_remedy(implicit: bool) -> &'static str {
    if implicit {
        "does this port begin with TLS? If it speaks plain SMTP first, set mta.tls to \"starttls\""
    } else {
        "see the MTA's log, and the TLS versions and ciphers that it allows (infeed speaks TLS 1.2 and 1.3)"
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Connect => "connect",
            Stage::Banner => "the greeting",
            Stage::Ehlo => "EHLO",
            Stage::StartTls => "STARTTLS",
            Stage::Tls => "the TLS handshake",
            Stage::Auth => "AUTH",
            Stage::Mail => "MAIL",
            Stage::Rcpt => "RCPT",
            Stage::Data => "DATA",
            Stage::Content => "the end of the content",
        })
    }
}
