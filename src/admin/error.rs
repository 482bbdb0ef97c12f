//! Why the admin API isn't there.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::http::ListenError;

/// Why it doesn't start; each names the setting or the file, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("admin.listen = {listen}: {source}; write host:port, for instance 127.0.0.1:9926")]
    Address { listen: String, source: io::Error },

    #[error(
        "the admin API can't listen on {address}: {source}; choose another address (--admin, admin.listen), or port \
         0 for a free one"
    )]
    Listen { address: SocketAddr, source: io::Error },

    #[error(
        "admin.listen = {listen}: others than this host reach {address}, and the token would go there in the clear; \
         set admin.tls_cert_file and admin.tls_key_file, or listen on 127.0.0.1, or, where nobody else is on that \
         network, admin.insecure = true"
    )]
    NotLoopback { listen: String, address: SocketAddr },

    #[error("admin.{given} is set and admin.{missing} is not: TLS needs both, or neither")]
    HalfTls { given: &'static str, missing: &'static str },

    #[error("admin.{setting} = {}: {fault}; it takes a PEM file that infeed may read", path.display())]
    TlsFile { setting: &'static str, path: PathBuf, fault: String },

    #[error("the token's file {}: {fault}; {remedy}", path.display())]
    TokenFile { path: PathBuf, fault: String, remedy: &'static str },

    #[error("the token's file {} can't be {what}: {source}; name another with admin.token_file", path.display())]
    TokenIo { path: PathBuf, what: &'static str, source: io::Error },
}

impl From<ListenError> for AdminError {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::Address { listen, source } => AdminError::Address { listen, source },
            ListenError::Listen { address, source } => AdminError::Listen { address, source },
        }
    }
}
