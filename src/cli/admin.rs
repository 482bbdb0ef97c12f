//! `--admin` of `serve`: the admin API and its page, from the first moment until the run has ended.

use super::exit::{self, ExitCode};
use super::session::Session;
use crate::admin::{AdminError, Server, Settings};
use crate::config::NO_LISTENER;

/// The token's file, where the configuration names none, in the spool's folder.
const TOKEN_FILE: &str = "admin.token";

/// Listens where the configuration says so, and says where.
///
/// # Errors
/// A configuration that makes no sense (78), a token that may be in other hands (77), an address that can't be
/// listened on (69, 77). Nothing listens then.
pub async fn start(session: &Session) -> anyhow::Result<Option<Server>> {
    let admin = &session.config.admin;
    let Some(listen) = admin.listen.clone().filter(|listen| listen != NO_LISTENER) else { return Ok(None) };
    let hosts = admin.hosts.as_deref().unwrap_or_default();
    let settings = Settings {
        listen,
        token_file: admin.token_file.clone().unwrap_or_else(|| session.spool_dir.join(TOKEN_FILE)),
        tls_cert_file: admin.tls_cert_file.clone(),
        tls_key_file: admin.tls_key_file.clone(),
        insecure: admin.insecure,
        hosts: hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned).collect(),
    };
    let server = Server::start(&settings).await;
    let code = server.as_ref().err().map_or(exit::DONE, code_of);
    let server = server.exit_code(code)?;
    tracing::info!(
        "the admin API and its page are on {}, their token in {}",
        server.url(),
        server.token_file().display()
    );
    if server.is_open() {
        tracing::warn!(
            "the admin API on {} is beyond loopback and without TLS (admin.insecure): whoever is on the way there has \
             the token",
            server.url()
        );
    }
    Ok(Some(server))
}

fn code_of(error: &AdminError) -> u8 {
    match error {
        AdminError::Address { .. }
        | AdminError::NotLoopback { .. }
        | AdminError::HalfTls { .. }
        | AdminError::TlsFile { .. } => exit::BAD_CONFIG,
        AdminError::Listen { source, .. } => exit::of_io(source, exit::UNAVAILABLE),
        AdminError::TokenFile { .. } => exit::NO_PERMISSION,
        AdminError::TokenIo { source, .. } => exit::of_io(source, exit::CANT_CREATE),
    }
}
