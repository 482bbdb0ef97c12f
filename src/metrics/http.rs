//! The listener of `--metrics`: HTTP/1 alone, bounded in everything that a stranger could make large.
//!
//! Guarantees: [`CONNECTIONS_MAX`] connections at a time, the others wait in the kernel; a request head of
//! [`HEAD_BYTES_MAX`] at most, there within [`HEAD_WAIT`]; a connection lives for [`LIFE_MAX`] and the
//! answer that it is at. Bodies of requests are not read. Errors: [`MetricsError`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::exporter::Exporter;
use super::text::CONTENT_TYPE;

/// Connections served side by side, at most.
pub const CONNECTIONS_MAX: usize = 64;
/// Of a request's line and headers.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long they may take to arrive, also on a connection that was used before.
pub const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long a connection is used again.
const LIFE_MAX: Duration = Duration::from_secs(60);
/// How long the last answer on it may take to be read.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Before it is tried again to take connections, where the system has none to give.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

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

/// Listens; ends when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: Option<TcpListener>,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Takes the address, `host:port`; nobody is answered before [`Server::serve`].
    ///
    /// # Errors
    /// [`MetricsError`]: no such address, or it is in use.
    pub async fn bind(listen: &str) -> Result<Self, MetricsError> {
        let wrong = |source| MetricsError::Address { listen: listen.to_owned(), source };
        let mut found = tokio::net::lookup_host(listen).await.map_err(wrong)?;
        let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let address = found.next().ok_or_else(none).map_err(wrong)?;
        let taken = |source| MetricsError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        Ok(Self { address, listener: Some(listener), tasks: Vec::new() })
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
        self.tasks.push(tokio::spawn(async move { upkeep.upkeep().await }));
        self.tasks.push(tokio::spawn(listen(listener, router(exporter))));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
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

async fn listen(listener: TcpListener, router: Router) {
    let mut serving: JoinSet<()> = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if serving.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => drop(serving.spawn(serve_one(stream, router.clone()))),
                Err(e) => {
                    tracing::warn!("the metrics take no connection: {e}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(ended) = serving.join_next(), if !serving.is_empty() => {
                if let Err(e) = ended {
                    tracing::error!("a defect of the metrics: {e}");
                }
            }
        }
    }
}

async fn serve_one(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = tokio::time::sleep(LIFE_MAX) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(ANSWER_WAIT, connection.as_mut()).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!("a scrape: {e}"),
        Err(_) => tracing::debug!("a scrape was not read for {} s", ANSWER_WAIT.as_secs()),
    }
}
