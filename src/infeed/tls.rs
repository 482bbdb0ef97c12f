//! TLS to the MTA, by rustls: verified against the system's roots or private ones.
//!
//! The system's roots are read from the host's own store (rustls-native-certs, of the rustls project):
//! a root that the operator adds to or takes from the store counts, also for a binary built years ago,
//! which roots compiled in (webpki-roots) would not give. Roots are kept between connects, and read again
//! after a handshake that failed: a renewed file needs no restart.
//!
//! Errors: `TlsSetup`, `Roots`, `Certificate`, `Tls`, `Timeout` of [`InfeedError`]; nothing that the MTA
//! is to see of a message went out before any of them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use super::config::{InfeedConfig, TlsConfig};
use super::error::{CertificateFault, InfeedError};
use super::stream::{Socket, Stream};
use super::transaction::Stage;
use crate::config::TlsMode;

/// Largest file of roots that is read: the whole of Mozilla's is below 300 KiB.
const ROOTS_OCTETS_MAX: u64 = 16 * 1024 * 1024;

/// What the connections of one pool share: roots, and the sessions that TLS can resume.
#[derive(Default)]
pub struct TlsClient {
    /// `None` before the first handshake and after one that failed.
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl TlsClient {
    /// What a handshake needs; `None` where there is to be none. Before the connect: a file that can't be
    /// read is no reason to trouble the MTA.
    pub async fn prepare(&self, config: &InfeedConfig) -> Result<Option<Prepared>, InfeedError> {
        if config.tls.mode == TlsMode::Off {
            return Ok(None);
        }
        let name = server_name(config)?;
        Ok(Some(Prepared { name, connector: self.client_config(config).await?.into() }))
    }

    /// Shakes hands over `socket`.
    pub async fn secure(
        &self,
        prepared: Prepared,
        socket: Socket,
        config: &InfeedConfig,
    ) -> Result<Stream, InfeedError> {
        let timeout_ms = config.timeouts.reply_ms(Stage::Tls);
        let handshake = prepared.connector.connect(prepared.name, socket);
        let shaken = tokio::time::timeout(Duration::from_millis(timeout_ms), handshake).await;
        let error = match shaken {
            Ok(Ok(stream)) => return Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(source)) => handshake_error(source, config),
            Err(_) => InfeedError::Timeout { stage: Stage::Tls, timeout_ms },
        };
        self.keep(None);
        Err(error)
    }

    fn keep(&self, config: Option<Arc<ClientConfig>>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    async fn client_config(&self, config: &InfeedConfig) -> Result<Arc<ClientConfig>, InfeedError> {
        let kept = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let (tls, address) = (config.tls.clone(), config.address.clone());
        // Files are read: a matter of milliseconds, but not one for the async threads.
        let built = tokio::task::spawn_blocking(move || build(&tls, &address));
        let built = Arc::new(built.await.map_err(|e| setup(&config.address, e))??);
        self.keep(Some(built.clone()));
        Ok(built)
    }
}

/// A handshake that can begin.
pub struct Prepared {
    name: ServerName<'static>,
    connector: TlsConnector,
}

fn setup(address: &str, reason: impl ToString) -> InfeedError {
    InfeedError::TlsSetup { address: address.to_owned(), reason: reason.to_string() }
}

fn build(tls: &TlsConfig, address: &str) -> Result<ClientConfig, InfeedError> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| setup(address, e))?;
    let verifier: Arc<dyn ServerCertVerifier> = if tls.verify {
        let roots = Arc::new(roots(tls, address)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        verifier.map_err(|e| setup(address, e))?
    } else {
        tracing::warn!(
            "mta.tls_verify is false: whoever sits between here and {address} can read and change all mail; \
             for rehearsals only"
        );
        Arc::new(TakesAny(provider))
    };
    // There is nothing dangerous about the first verifier: this is how one is given that may differ.
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn roots(tls: &TlsConfig, address: &str) -> Result<RootCertStore, InfeedError> {
    if let Some(path) = &tls.ca_file {
        return roots_of_file(path);
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        let why = found.errors.first().map_or_else(String::new, |e| format!(" ({e})"));
        return Err(setup(
            address,
            format!(
                "this host has no root certificates{why}; install its package of them (ca-certificates), \
                 or set mta.tls_ca_file"
            ),
        ));
    }
    Ok(roots)
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, InfeedError> {
    let bad = |reason: String| InfeedError::Roots { path: path.to_owned(), reason };
    let octets = read_bounded(path, ROOTS_OCTETS_MAX).map_err(|e| bad(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    for (i, certificate) in CertificateDer::pem_slice_iter(&octets).enumerate() {
        let certificate = certificate.map_err(|e| bad(format!("certificate {}: {e}", i + 1)))?;
        roots.add(certificate).map_err(|e| bad(format!("certificate {}: {e}", i + 1)))?;
    }
    if roots.is_empty() {
        return Err(bad("no certificate is in it; it must be PEM (-----BEGIN CERTIFICATE-----)".into()));
    }
    Ok(roots)
}

/// A file that must not be larger than `octets_max`.
pub fn read_bounded(path: &Path, octets_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut octets = Vec::new();
    std::fs::File::open(path)?.take(octets_max + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > octets_max {
        return Err(std::io::Error::other(format!("larger than {octets_max} octets")));
    }
    Ok(octets)
}

/// The name that the certificate must bear.
fn server_name(config: &InfeedConfig) -> Result<ServerName<'static>, InfeedError> {
    let host = match (&config.tls.server_name, config.address.strip_prefix("unix:")) {
        (Some(name), _) => name.as_str(),
        (None, Some(_)) => {
            let reason = "a Unix-domain socket has no host name; set mta.tls_server_name to a name that the \
                          MTA's certificate bears";
            return Err(setup(&config.address, reason));
        }
        (None, None) => {
            let host = config.address.rsplit_once(':').map_or(config.address.as_str(), |(host, _)| host);
            host.trim_start_matches('[').trim_end_matches(']')
        }
    };
    ServerName::try_from(host.to_owned()).map_err(|_| {
        let reason = format!("{host:?} is no name that a certificate can bear; set mta.tls_server_name");
        setup(&config.address, reason)
    })
}

fn handshake_error(source: std::io::Error, config: &InfeedConfig) -> InfeedError {
    let address = config.address.clone();
    let fault = match source.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidCertificate(error)) => certificate_fault(error, config),
        Some(TlsError::NoCertificatesPresented) => CertificateFault::Other("it sent none".into()),
        _ => {
            let implicit = config.tls.mode == TlsMode::Implicit;
            return InfeedError::Tls { address, implicit, source };
        }
    };
    InfeedError::Certificate { address, fault }
}

fn certificate_fault(error: &CertificateError, config: &InfeedConfig) -> CertificateFault {
    let at = |time: &UnixTime| {
        let shown = i64::try_from(time.as_secs()).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
        shown.map_or_else(String::new, |shown| format!(" ({shown})"))
    };
    match error {
        CertificateError::Expired => CertificateFault::Expired { at: String::new() },
        CertificateError::ExpiredContext { not_after, .. } => CertificateFault::Expired { at: at(not_after) },
        CertificateError::NotValidYet => CertificateFault::NotYetValid { at: String::new() },
        CertificateError::NotValidYetContext { not_before, .. } => {
            CertificateFault::NotYetValid { at: at(not_before) }
        }
        CertificateError::NotValidForName => CertificateFault::WrongName {
            expected: config.tls.server_name.clone().unwrap_or_else(|| config.address.clone()),
            presented: String::new(),
        },
        CertificateError::NotValidForNameContext { expected, presented } => CertificateFault::WrongName {
            expected: expected.to_str().into_owned(),
            presented: match presented.as_slice() {
                [] => " (it bears no name at all)".into(),
                names => {
                    let names: Vec<&str> = names.iter().map(|name| bare(name)).collect();
                    format!(" but for {}", names.join(", "))
                }
            },
        },
        // A root that was made anew under its old name shows itself by its signature alone.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => CertificateFault::UnknownRoot {
            roots: match &config.tls.ca_file {
                Some(path) => format!("known are those in {}", path.display()),
                None => "known are the system's".into(),
            },
        },
        // rustls has no name for it.
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            CertificateFault::Authority
        }
        other => CertificateFault::Other(other.to_string()),
    }
}

/// The name in `DnsName("name")`, which is how rustls gives it.
fn bare(shown: &str) -> &str {
    shown.split('"').nth(1).unwrap_or(shown)
}

/// `tls_verify = false`: any certificate will do, as long as the MTA has its key.
#[derive(Debug)]
struct TakesAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
