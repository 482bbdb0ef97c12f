//! `--metrics` of `serve`, `drain`, `send` and `sink`: the listener, and what it tells.

use std::sync::Arc;

use super::exit::{self, ExitCode};
use super::session::{self, Session};
use crate::config::NO_LISTENER;
use crate::logs;
use crate::metrics::{Exporter, MetricsError, RunSource, Server};
use crate::runner::{DrainConfig, Progress};
use crate::spool::DirSpool;

/// Takes the address, where there is one, and says so. Nobody is answered yet.
///
/// # Errors
/// It is no address (64), or it can't be listened on (69, 77).
pub async fn bind(listen: Option<&str>, says: bool) -> anyhow::Result<Option<Server>> {
    let Some(listen) = listen.filter(|listen| *listen != NO_LISTENER) else { return Ok(None) };
    let server = Server::bind(listen).await;
    let code = server.as_ref().err().map_or(exit::DONE, code_of);
    let server = server.exit_code(code)?;
    let address = server.local_addr();
    if !address.ip().is_loopback() {
        tracing::warn!(
            "the metrics on {address} can be read by whoever reaches this host: there is no password"
        );
    }
    if !logs::are_for_people() && tracing::enabled!(tracing::Level::INFO) {
        tracing::info!("metrics on http://{address}/metrics");
    } else if says {
        eprintln!("infeed: metrics on http://{address}/metrics");
    }
    Ok(Some(server))
}

fn code_of(error: &MetricsError) -> u8 {
    match error {
        MetricsError::Address { .. } => exit::USAGE,
        MetricsError::Listen { source, .. } => exit::of_io(source, exit::UNAVAILABLE),
    }
}

/// The listener of a run, which answers as long as this lives; and what is told of the run.
pub struct RunMetrics {
    _server: Option<Server>,
    pub source: Arc<RunSource>,
    pub progress: Arc<Progress>,
}

/// Begins to answer, before the slices are owned.
///
/// # Errors
/// As [`bind`].
pub async fn start(
    spool: &DirSpool,
    session: &Session,
    config: &DrainConfig,
    command: &'static str,
) -> anyhow::Result<RunMetrics> {
    let progress = Progress::new();
    let slices = session::slices(&session.config);
    let source = RunSource::new(progress.clone(), spool.clone(), config.range, slices);
    let mut server = bind(session.config.metrics.listen.as_deref(), !session.quiet).await?;
    if let Some(server) = &mut server {
        server.serve(Exporter::of_run(command, source.clone()));
    }
    Ok(RunMetrics { _server: server, source, progress })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn none_sets_an_address_aside() {
        assert!(bind(Some(NO_LISTENER), false).await.unwrap().is_none());
        assert!(bind(None, false).await.unwrap().is_none());
        assert!(bind(Some("127.0.0.1:0"), false).await.unwrap().is_some());
    }
}
