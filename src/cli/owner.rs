//! A run with its control socket: what `serve`, `drain` and `send` have in common.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::exit;
use super::metrics::RunMetrics;
use super::session::Session;
use crate::clock;
use crate::control::{self, ControlError, Desk, Listening, Place};
use crate::runner::{self, DrainConfig, DrainReport, RunHandle, RunnerError};
use crate::spool::{DirSpool, Owner, Spool, SpoolError};

/// How long the named socket of an owner that just ended is waited for.
const NAME_WAIT: Duration = Duration::from_secs(5);

/// Asks for the configuration to be read again; the answer goes to the sender that comes with it.
pub type ReloadAsked = oneshot::Sender<Result<(), String>>;

/// The slices are ours, and the control socket answers.
pub struct Owned {
    owner: <DirSpool as Spool>::Owner,
    served: control::Served,
    commands: mpsc::Receiver<runner::RunCommand>,
    pub handle: RunHandle,
    /// What the control socket acts on.
    pub desk: Arc<Desk>,
}

/// Takes the slices and begins to listen. `stop` ends the run, for whoever asks for that at the desk.
///
/// # Errors
/// `SpoolError::Owned` as the spool's; those of the socket.
pub async fn own(
    spool: &DirSpool,
    session: &Session,
    config: &DrainConfig,
    command: &'static str,
    reload: Option<mpsc::Sender<ReloadAsked>>,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<Owned> {
    let owner = Spool::own(spool, config.range).await?;
    let mut sockets = Vec::new();
    let mut places = vec![Place::Spool { root: spool.root().to_path_buf(), range: config.range }];
    // one that drains for a moment doesn't take the daemon's name
    if reload.is_some()
        && let Some(path) = session.config.control.socket.clone()
    {
        places.push(Place::Named { path, group: session.config.control.socket_group.clone() });
    }
    for place in places {
        sockets.push(listen(&place).await?);
    }
    let (handle, commands) = RunHandle::new();
    let desk = Arc::new(Desk {
        spool: spool.clone(),
        run: handle.clone(),
        command,
        begun_us: clock::now_us(),
        slices: config.range.to_string(),
        reload,
        stop: stop.clone(),
        exit_code: exit::of_spool,
        exit_code_config: exit::BAD_CONFIG,
        exit_code_usage: exit::USAGE,
        exit_code_other: exit::INTERNAL,
    });
    Ok(Owned { owner, served: control::serve(sockets, &desk), commands, handle, desk })
}

/// Listens, once an owner that has let the slices go has also let go of the name.
async fn listen(place: &Place) -> Result<Listening, ControlError> {
    let until = Instant::now() + NAME_WAIT;
    loop {
        match place.listen() {
            Err(ControlError::InUse { .. }) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return other,
        }
    }
}

impl Owned {
    pub fn owner(&self) -> &<DirSpool as Spool>::Owner {
        &self.owner
    }

    /// Drains until the run ends. The slices go with it, the sockets after that: whoever asks meanwhile is
    /// answered, and a next owner that has taken a name over keeps it.
    ///
    /// # Errors
    /// Those of the runner.
    pub async fn drain(
        self,
        config: DrainConfig,
        metrics: &RunMetrics,
        stop: watch::Receiver<bool>,
    ) -> Result<DrainReport, RunnerError> {
        let Owned { owner, served, commands, handle, desk: _ } = self;
        let recorder = &metrics.progress.recorder;
        recorder.possible_repeats.fetch_add(owner.recovered().doubtful, Relaxed);
        recorder.journal_sync.get_or_init(|| owner.sync_latency());
        metrics.source.runs(handle);
        let ended = runner::drain_owned(owner, config, metrics.progress.clone(), stop, commands).await;
        metrics.source.ends();
        served.stop().await;
        ended
    }
}

/// Who owns the slices, where an error says that somebody else does.
pub fn owned_by_other(error: &anyhow::Error) -> Option<&str> {
    match error.downcast_ref::<SpoolError>() {
        Some(SpoolError::Owned { owner }) => Some(owner),
        _ => None,
    }
}
