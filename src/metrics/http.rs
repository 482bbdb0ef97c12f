//! What `--metrics` answers, on a listener that is bounded as [`crate::http`] is. Bodies of requests are not
//! read. Errors: [`MetricsError`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::exporter::Exporter;
use super::text::CONTENT_TYPE;
use crate::http::{self, ListenError, Serving};

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("--metrics {listen}: {source}; write host:port, for instance 127.0.0.1:9925")]
    Address { listen: String, source: io::Error },
    #[error(
        "the metrics can't listen on {address}: {source}; choose another --metrics address (metrics.listen), or \
         port 0 for a free one"
    )]
    Listen { address: SocketAddr, source: io::Error },
}

impl From<ListenError> for MetricsError {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::Address { listen, source } => MetricsError::Address { listen, source },
            ListenError::Listen { address, source } => MetricsError::Listen { address, source },
        }
    }
}

/// Listens; ends when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: Option<TcpListener>,
    serving: Option<(Serving, JoinHandle<()>)>,
}

impl Server {
    /// Takes the address, `host:port`; nobody is answered before [`Server::serve`].
    ///
    /// # Errors
    /// [`MetricsError`]: no such address, or it is in use.
    pub async fn bind(listen: &str) -> Result<Self, MetricsError> {
        let (listener, address) = http::bind(http::resolve(listen).await?).await?;
        Ok(Self { address, listener: Some(listener), serving: None })
    }

    /// Where it listens; also the port that stood for 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on.
    ///
    /// # Panics
    /// When called twice.
    pub fn serve(&mut self, exporter: Exporter) {
        let Some(listener) = self.listener.take() else { panic!("the metrics are served already") };
        let exporter = Arc::new(exporter);
        let upkeep = exporter.clone();
        let upkeep = tokio::spawn(async move { upkeep.upkeep().await });
        self.serving = Some((http::serve(listener, None, router(exporter), "the metrics"), upkeep));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((_, upkeep)) = &self.serving {
            upkeep.abort();
        }
    }
}

fn router(exporter: Arc<Exporter>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(exporter)
}

async fn metrics(State(exporter): State<Arc<Exporter>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], exporter.scrape().await)
}

async fn readyz(State(exporter): State<Arc<Exporter>>) -> impl IntoResponse {
    match exporter.ready().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", why.replace(['\r', '\n'], " "))),
    }
}
