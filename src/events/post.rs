//! One POST: connect, TLS where the URL wants it, one request, the status of the answer.
//!
//! hyper's client alone, on a connection of its own for each event: they are few, and it brings no pool, no
//! redirects, no proxies and no cookies that would have to be turned off. Guarantees: all of it takes
//! `webhook.timeout_ms` at most; of an answer the head is read, [`HEAD_OCTETS_MAX`] of it at most, and nothing of its
//! body. Errors: a text that names the host and nothing else of the URL.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::EventsError;

/// Octets of an answer's head, at most.
const HEAD_OCTETS_MAX: usize = 64 * 1024;
/// Octets of a file of roots, at most.
const ROOTS_OCTETS_MAX: u64 = 16 * 1024 * 1024;

/// Where events go. Shows its scheme, host and port: the rest of the URL may be a secret.
#[derive(Clone)]
pub(super) struct Target {
    host: String,
    port: u16,
    /// As `Host` has it.
    authority: String,
    path_and_query: String,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a signed event is posted with.
pub(super) struct Post {
    pub id: String,
    pub timestamp_s: u64,
    pub signature: String,
    pub body: Bytes,
}

impl Target {
    /// Reads the URL, and the roots where it is https.
    ///
    /// # Errors
    /// It is no URL of ours; the roots can't be read.
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, EventsError> {
        let bad = |reason: &str| EventsError::Url { reason: reason.to_owned() };
        // the text itself stays out of it: whoever reads the error may not be the one who wrote the URL
        let uri: Uri = url.parse().map_err(|_| bad("it is no URL"))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("it must begin with http:// or https://")),
        };
        let Some(authority) = uri.authority() else { return Err(bad("it has no host")) };
        if authority.as_str().contains('@') {
            return Err(bad("a user name or password has no place in it: events are signed"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = if is_https {
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|_| bad("its host is no name that a certificate can bear"))?;
            Some(Tls { name, config: Arc::new(client_config(ca_file)?) })
        } else {
            None
        };
        Ok(Self {
            port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path_and_query: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            host,
            tls,
        })
    }

    /// Whether nobody between reads what is posted: it is encrypted, or stays on this host.
    pub fn is_private(&self) -> bool {
        let is_loopback = self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.tls.is_some() || is_loopback || self.host == "localhost"
    }

    /// Posts, and gives the status of the answer.
    ///
    /// # Errors
    /// There was none, for people.
    pub async fn post(&self, post: Post, timeout: Duration) -> Result<u16, String> {
        match tokio::time::timeout(timeout, self.post_unbounded(post)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} ms", timeout.as_millis())),
        }
    }

    async fn post_unbounded(&self, post: Post) -> Result<u16, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port));
        let stream = stream.await.map_err(|e| format!("no connection: {e}"))?;
        match &self.tls {
            None => self.converse(stream, post).await,
            Some(tls) => {
                let connector = TlsConnector::from(tls.config.clone());
                let stream = connector.connect(tls.name.clone(), stream).await;
                self.converse(stream.map_err(|e| format!("no TLS: {e}"))?, post).await
            }
        }
    }

    async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        post: Post,
    ) -> Result<u16, String> {
        let request = Request::post(&self.path_and_query)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("infeed/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .header("webhook-id", &post.id)
            .header("webhook-timestamp", post.timestamp_s)
            .header("webhook-signature", &post.signature)
            .body(Full::new(post.body))
            .map_err(|e| format!("no request can be made: {e}"))?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_OCTETS_MAX);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|e| format!("no request: {e}"))?;
        // goes with this set, whatever of the answer is still on its way
        let mut beside = tokio::task::JoinSet::new();
        beside.spawn(async move {
            if let Err(e) = connection.await {
                tracing::trace!("a webhook's connection: {e}");
            }
        });
        let answer = sender.send_request(request).await;
        answer.map(|answer| answer.status().as_u16()).map_err(|e| format!("no answer: {e}"))
    }
}

fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, EventsError> {
    let roots = match ca_file {
        Some(path) => roots_of_file(path)?,
        None => {
            let mut roots = RootCertStore::empty();
            let (taken, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if taken == 0 {
                let reason = "this host has no root certificates; install its package of them \
                              (ca-certificates), or set webhook.tls_ca_file";
                return Err(EventsError::Tls { reason: reason.to_owned() });
            }
            roots
        }
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| EventsError::Tls { reason: e.to_string() })?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, EventsError> {
    use std::io::Read;
    let bad = |reason: String| EventsError::Roots { path: path.to_owned(), reason };
    let mut octets = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| bad(e.to_string()))?;
    file.take(ROOTS_OCTETS_MAX).read_to_end(&mut octets).map_err(|e| bad(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&octets) {
        let certificate = certificate.map_err(|e| bad(e.to_string()))?;
        roots.add(certificate).map_err(|e| bad(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("no certificate is in it; it must be PEM (-----BEGIN CERTIFICATE-----)".into()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_secret_in_it() {
        let target = Target::new("http://127.0.0.1:8080/hook/T0PS3CR3T?token=T0PS3CR3T", None).unwrap();
        assert_eq!(format!("{target} {target:?}"), "http://127.0.0.1:8080 http://127.0.0.1:8080");
        assert_eq!(target.path_and_query, "/hook/T0PS3CR3T?token=T0PS3CR3T");
        for url in ["ftp://T0PS3CR3T", "T0PS3CR3T", "http://me:T0PS3CR3T@host/", "http:///T0PS3CR3T"] {
            let error = Target::new(url, None).expect_err(url).to_string();
            assert!(!error.contains("T0PS3CR3T"), "{error}");
        }
    }

    #[test]
    fn what_is_private_is_encrypted_or_stays_here() {
        for (url, is_private) in
            [("http://127.0.0.1/", true), ("http://[::1]:80/", true), ("http://example.org/", false)]
        {
            assert_eq!(Target::new(url, None).unwrap().is_private(), is_private, "{url}");
        }
    }
}
