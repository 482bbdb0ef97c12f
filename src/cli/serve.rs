//! `serve`: the daemon. Drains whatever is submitted, until it is told to stop.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::sync::{mpsc, watch};

use super::metrics::{self, RunMetrics};
use super::owner::{self, Owned, ReloadAsked, owned_by_other};
use super::session::{self, GlobalOptions, Session};
use super::{admin, exit, mta::MtaOption, outlets};
use crate::config::Connections;
use crate::control;
use crate::delivery_log::Lines;
use crate::runner::{DrainConfig, Ended, MtaConfig, Reload, RunHandle};
use crate::sink::{Sink, SinkConfig};
use crate::spool::{DirSpool, retention};

/// How long a spool that another process drains is waited for, between two tries.
const OWNED_WAIT: Duration = Duration::from_secs(1);
/// How often systemd is told how it goes.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Drain whatever is submitted, until told to stop
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub mta: MtaOption,
    /// To each MTA
    #[arg(long, value_name = "N")]
    pub connections: Option<Connections>,
    /// Append a line of JSON per recipient of a rehearsal to FILE
    #[arg(long, value_name = "FILE")]
    pub sink_ledger: Option<PathBuf>,
    // its help comes from the table of settings
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    // and so does this one's
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
}

/// Runs `serve`.
///
/// # Errors
/// Bad configuration; those of the spool, the control socket, the runner.
pub fn run(args: &ServeArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let session = load(args, global)?;
    let spool = session.open_spool()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(super::threads(args.mta.is_sink()))
        .enable_all()
        .build()
        .context("the threads of the daemon can't be started")?;
    let ended = runtime.block_on(serve(args, global, &session, &spool));
    runtime.shutdown_timeout(super::AFTERMATH_WAIT);
    ended
}

/// The configuration as it is now: at the start, and at each reload.
fn load(args: &ServeArgs, global: &GlobalOptions) -> anyhow::Result<Session> {
    let connections = args.connections.map(|n| n.to_string());
    let flags = [
        ("mta.connections", connections, "--connections"),
        ("metrics.listen", args.metrics.clone(), "--metrics"),
        ("admin.listen", args.admin.clone(), "--admin"),
    ];
    let mut session = Session::new(global, &flags)?;
    args.mta.choose(&mut session)?;
    if args.mta.is_sink() {
        // what is for a real MTA waits for one: the sink takes rehearsals, here as always
        session.config.mta_entries.clear();
    }
    Ok(session)
}

async fn serve(
    args: &ServeArgs,
    global: &GlobalOptions,
    session: &Session,
    spool: &DirSpool,
) -> anyhow::Result<u8> {
    let stop = control::stop_on_signals(exit::PENDING).context("signals can't be handled")?;
    let stopped = stop.subscribe();
    let hangups = control::hangups().context("signals can't be handled")?;
    // what can't be served as it is set ends the start
    let admin = admin::start(session).await?;
    // rehearsals go into a sink of the daemon's own, on a free loopback port
    let mut sink_config = SinkConfig::new(([127, 0, 0, 1], 0).into());
    sink_config.ledger.clone_from(&args.sink_ledger);
    let sink = Sink::start(sink_config)?;
    let config = DrainConfig {
        forever: true,
        ..session::drain_config(&session.config, mta_configs(session, &sink.local_addr().to_string()))
    };
    let metrics = metrics::start(spool, session, &config, "serve").await?;
    let outlets = outlets::start(&session.config, spool, &metrics.progress).await?;
    let spool = &outlets.watched(spool);
    let (reload_asked, reloads) = mpsc::channel(1);
    let Some(owned) = own(spool, session, &config, &metrics, reload_asked.clone(), &stop).await? else {
        return Ok(exit::DONE);
    };
    if let Some(admin) = &admin {
        admin.attend(&owned.desk);
    }
    let recovered = crate::spool::Owner::recovered(owned.owner());
    tracing::info!("serving {}", session.spool_dir.display());
    if recovered.chunks > 0 {
        tracing::warn!(
            "an infeed died here with {} chunks in hand: {} outcomes of theirs are kept, {} recipients may get \
             their mail twice and are marked, {} chunks could not be read and are in quarantine",
            recovered.chunks,
            recovered.settled,
            recovered.doubtful,
            recovered.quarantined
        );
    }
    control::notify::ready("drains what is submitted");

    let aside = Aside {
        args: args.clone(),
        global: global.clone(),
        handle: owned.handle.clone(),
        sink_address: sink.local_addr().to_string(),
        log: outlets.log(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(aside.clone().reload(hangups, reloads));
    tasks.spawn(watchdog(owned.handle.clone()));
    tasks.spawn(tell_status(owned.handle.clone()));
    let (retention, ended) = (session::retention_settings(&session.config), stopped.clone());
    let housekeeping = tokio::spawn(retention::run(spool.clone(), retention, ended));

    let report = owned.drain(config, &metrics, stopped).await;
    control::notify::stopping();
    if let Some(admin) = admin {
        admin.stop().await;
    }
    tasks.shutdown().await;
    housekeeping.abort();
    outlets.finish().await;
    sink.shutdown().await?;
    let report = report?;
    tracing::info!(
        "stopped: {} recipients settled since the start, {} wait",
        report.settled,
        report.unfinished
    );
    match &report.ended {
        // the latter where somebody asked for it: `infeed stop --drain`
        Ended::Stopped | Ended::Drained => Ok(exit::DONE),
        // a run without end ends for nothing else; if it did, whoever started it should know
        ended => Err(exit::coded(exit::INTERNAL, format!("the daemon ended by itself: {ended:?}"))),
    }
}

/// Takes the slices, however long another process drains them; `None` when told to stop meanwhile.
async fn own(
    spool: &DirSpool,
    session: &Session,
    config: &DrainConfig,
    metrics: &RunMetrics,
    reload: mpsc::Sender<ReloadAsked>,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<Option<Owned>> {
    let mut stopped = stop.subscribe();
    let mut said = false;
    loop {
        let error = match owner::own(spool, session, config, "serve", Some(reload.clone()), stop).await {
            Ok(owned) => return Ok(Some(owned)),
            Err(error) => error,
        };
        let Some(who) = owned_by_other(&error) else { return Err(error) };
        if !said {
            tracing::warn!("the spool is drained by another process ({who}): waiting for it to end");
            metrics.source.waits(format!("another process drains the spool ({who})"));
            said = true;
        }
        control::notify::still_starting(&format!("waits: {who} drains"), OWNED_WAIT * 10);
        tokio::select! {
            () = tokio::time::sleep(OWNED_WAIT) => {}
            stopped = stopped.wait_for(|s| *s) => {
                tracing::debug!("stopped while waiting: {}", stopped.is_ok());
                return Ok(None);
            }
        }
    }
}

/// The MTAs of the configuration, and the daemon's own sink.
fn mta_configs(session: &Session, sink_address: &str) -> Vec<MtaConfig> {
    let mut mtas = session::mta_configs(&session.config);
    mtas.push(session::sink_mta_config(&session.config, sink_address.to_owned()));
    mtas
}

/// What goes on beside the run.
#[derive(Clone)]
struct Aside {
    args: ServeArgs,
    global: GlobalOptions,
    handle: RunHandle,
    sink_address: String,
    log: Option<Lines>,
}

impl Aside {
    /// Reads the configuration again at SIGHUP and at `infeed reload`; a bad one is told, and changes nothing.
    async fn reload(self, mut hangups: mpsc::Receiver<()>, mut asked: mpsc::Receiver<ReloadAsked>) {
        loop {
            let answer = tokio::select! {
                heard = hangups.recv() => match heard {
                    Some(()) => None,
                    None => return,
                },
                answer = asked.recv() => match answer {
                    Some(answer) => Some(answer),
                    None => return,
                },
            };
            control::notify::reloading();
            if let Some(log) = &self.log {
                log.reopen();
            }
            let result = self.reload_once().await;
            match &result {
                Ok(()) => tracing::info!("the configuration was read again"),
                Err(e) => tracing::error!("the configuration stays as it was: {}", e.replace('\n', "; ")),
            }
            control::notify::ready(match &result {
                Ok(()) => "drains what is submitted",
                Err(_) => "drains with the configuration from before: the new one is bad",
            });
            if let Some(answer) = answer
                && answer.send(result).is_err()
            {
                tracing::debug!("whoever asked for the reload has gone");
            }
        }
    }

    async fn reload_once(&self) -> Result<(), String> {
        let session = load(&self.args, &self.global).map_err(|e| exit::describe(&e))?;
        let reload = Reload {
            mtas: mta_configs(&session, &self.sink_address),
            domain_rates: session.config.rates.domains.clone(),
            retry: session::retry_policy(&session.config),
            breaker: session::streak_limits(&session.config),
        };
        self.handle.reload(reload).await.map_err(|e| e.to_string())
    }
}

/// Tells systemd that we are alive, as long as the run answers.
async fn watchdog(handle: RunHandle) {
    let Some(interval) = control::notify::watchdog_interval() else { return };
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        if handle.status().await.is_err() {
            // the run is ending, in its grace: systemd's stop timeout watches over that
            return;
        }
        control::notify::alive();
    }
}

/// One line for `systemctl status`, now and then.
async fn tell_status(handle: RunHandle) {
    let mut ticks = tokio::time::interval(STATUS_EVERY);
    loop {
        ticks.tick().await;
        let Ok(status) = handle.status().await else { return };
        let established: usize =
            status.mtas.iter().filter_map(|mta| mta.status.as_ref()).map(|s| s.established).sum();
        let note = status.progress.note.map(|note| format!("; {note}")).unwrap_or_default();
        control::notify::status(&format!(
            "{:.0} accepted/s over {established} connections, {} accepted since the start{note}",
            status.rate_10_s, status.progress.accepted
        ));
    }
}
