//! Certificate and key of the admin API. Errors: [`AdminError::TlsFile`], [`AdminError::HalfTls`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::AdminError;

const CERT: &str = "tls_cert_file";
const KEY: &str = "tls_key_file";

/// What the handshakes need, where there are to be any.
///
/// # Errors
/// [`AdminError::HalfTls`]: one file without the other; [`AdminError::TlsFile`]: one that is none, or the two don't
/// belong together.
pub fn acceptor(cert: Option<&PathBuf>, key: Option<&PathBuf>) -> Result<Option<TlsAcceptor>, AdminError> {
    let (cert, key) = match (cert, key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => return Err(AdminError::HalfTls { given: CERT, missing: KEY }),
        (None, Some(_)) => return Err(AdminError::HalfTls { given: KEY, missing: CERT }),
    };
    let of_cert = |e: pem::Error| bad(CERT, cert, told(&e));
    let certs: Vec<_> =
        CertificateDer::pem_file_iter(cert).map_err(of_cert)?.collect::<Result<_, _>>().map_err(of_cert)?;
    if certs.is_empty() {
        return Err(bad(CERT, cert, "there is no certificate in it".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(KEY, key, told(&e)))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certs, secret))
        .map_err(|e| bad(KEY, key, format!("it doesn't go with {}: {e}", cert.display())))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn bad(setting: &'static str, path: &Path, fault: String) -> AdminError {
    AdminError::TlsFile { setting, path: path.to_path_buf(), fault }
}

fn told(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "nothing of that kind is in it".to_owned(),
        other => other.to_string(),
    }
}
