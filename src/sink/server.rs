//! The listener: accepts, bounds, and starts a task per connection; and the handle that ends it all.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::backlog::Backlog;
use super::conduct::Attempts;
use super::counters::{Counters, Snapshot, add};
use super::error::SinkError;
use super::ledger::Ledger;
use super::reply;
use super::scenario::Scenario;
use super::session::Session;
use super::settings::Settings;
use super::timeline::Timeline;
use super::wire::Wire;
use crate::clock;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long sessions may take to end once the sink stops.
const STOP_MAX: Duration = Duration::from_secs(2);
/// Between attempts to listen or accept again.
const RETRY: Duration = Duration::from_millis(50);

/// What [`Sink::start`] is given.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// Port 0: a free one, see [`SinkHandle::local_addr`].
    pub listen: SocketAddr,
    /// In banner, EHLO and 421.
    pub hostname: String,
    /// Win over the scenario's `set`.
    pub settings: Settings,
    pub scenario: Option<Scenario>,
    /// NDJSON, a line per accepted recipient; appended to.
    pub ledger: Option<PathBuf>,
    /// A folder that gets each content as `<queue id>.eml`.
    pub store: Option<PathBuf>,
    /// For percentages: the same seed throws the same for the n-th connection.
    pub seed: u64,
}

impl SinkConfig {
    /// A well-behaved sink on `listen`, without a ledger.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            hostname: "sink.infeed.test".to_owned(),
            settings: Settings::default(),
            scenario: None,
            ledger: None,
            store: None,
            seed: 0,
        }
    }
}

/// What all sessions share.
pub(super) struct Shared {
    pub hostname: String,
    pub seed: u64,
    pub counters: Arc<Counters>,
    pub timeline: Timeline,
    pub ledger: Ledger,
    pub attempts: Attempts,
    pub backlog: Backlog,
    pub stop: watch::Sender<bool>,
    started: Instant,
    /// Queue ids count on from the start's microsecond: unique over restarts too, as long as the sink
    /// takes less than a message per microsecond.
    first_queue_id: u64,
    taken: AtomicU64,
}

impl Shared {
    /// Time since the start.
    pub fn up(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn open(&self) -> u64 {
        self.counters.open.load(Relaxed)
    }

    /// The same at a moment that was read from the clock already.
    pub fn up_at(&self, moment: tokio::time::Instant) -> Duration {
        moment.into_std().saturating_duration_since(self.started)
    }

    /// The number of this message, from 1, and its queue id, which is written in hexadecimal.
    pub fn next_queue_id(&self) -> (u64, u64) {
        let n = self.taken.fetch_add(1, Relaxed) + 1;
        (n, self.first_queue_id + n)
    }

    fn snapshot(&self) -> Snapshot {
        let rate = self.timeline.subscribe().borrow().drain_rate_per_s;
        let queued = if rate > 0 { self.backlog.level(self.up(), rate) } else { 0 };
        self.counters.snapshot(queued, self.up())
    }
}

/// The sink MTA.
pub struct Sink;

impl Sink {
    /// Listens and serves in the background until [`SinkHandle::shutdown`], or until the handle is
    /// dropped.
    ///
    /// # Errors
    /// [`SinkError::NoRuntime`], [`SinkError::Listen`], [`SinkError::LedgerOpen`], [`SinkError::Store`].
    pub fn start(config: SinkConfig) -> Result<SinkHandle, SinkError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(SinkError::NoRuntime);
        }
        let ledger = Ledger::open(config.ledger.as_deref(), config.store.as_deref())?;
        let refused = |cause| SinkError::Listen { addr: config.listen, cause };
        let listener = listen(config.listen).map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        let scenario = config.scenario.unwrap_or_default();
        let shared = Arc::new(Shared {
            hostname: config.hostname,
            seed: config.seed,
            counters: Arc::default(),
            timeline: Timeline::new(config.settings.over(&scenario.set), scenario.steps),
            ledger,
            attempts: Attempts::default(),
            backlog: Backlog::default(),
            stop: watch::Sender::new(false),
            started: Instant::now(),
            first_queue_id: clock::now_us(),
            taken: AtomicU64::new(0),
        });
        let stop = shared.stop.subscribe();
        // Closed before anyone can know the address, if that is how the scenario starts.
        let refuse = shared.timeline.subscribe().borrow().refuse_connects;
        let listener = (!refuse).then_some(listener);
        let server = tokio::spawn(serve(Arc::clone(&shared), listener, addr, stop));
        Ok(SinkHandle { addr, shared, server: Some(server) })
    }
}

/// A running sink.
pub struct SinkHandle {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl SinkHandle {
    /// Where it listens; also the port that stood for 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The numbers now; cheap.
    pub fn counters(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// Gives the numbers as of when it is called, also once the sink has ended.
    pub fn counter(&self) -> impl Fn() -> Snapshot + Send + Sync + use<> {
        let shared = self.shared.clone();
        move || shared.snapshot()
    }

    /// Closes the listener, tells every session 421, waits for them (2 s at most), and gives the last
    /// numbers.
    ///
    /// # Errors
    /// [`SinkError::LedgerWrite`] if any message could not be written down.
    pub async fn shutdown(mut self) -> Result<Snapshot, SinkError> {
        self.shared.stop.send_replace(true);
        if let Some(server) = self.server.take() {
            report_panic(server.await);
        }
        self.shared.ledger.close()?;
        Ok(self.shared.snapshot())
    }
}

impl Drop for SinkHandle {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // So that the port can be had again while connections of the closed listener live on.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

async fn serve(
    shared: Arc<Shared>,
    mut listener: Option<TcpListener>,
    addr: SocketAddr,
    mut stop: watch::Receiver<bool>,
) {
    let mut sessions = JoinSet::new();
    let mut behaviour = shared.timeline.subscribe();
    let mut times = shared.timeline.times();
    loop {
        let refuse = behaviour.borrow_and_update().refuse_connects;
        if refuse {
            listener = None;
        } else if listener.is_none() {
            match listen(addr) {
                Ok(again) => listener = Some(again),
                Err(e) => tracing::warn!("the sink can't listen on {addr} again yet: {e}"),
            }
        }
        let next_time = *times.borrow_and_update();
        tokio::select! {
            accepted = accept(listener.as_ref()) => match accepted {
                Ok(stream) => admit(&shared, stream, &mut sessions),
                Err(e) => {
                    tracing::warn!("the sink can't accept a connection: {e}");
                    tokio::time::sleep(RETRY).await;
                }
            },
            Some(ended) = sessions.join_next() => report_panic(ended),
            changed = behaviour.changed() => assert!(changed.is_ok(), "the timeline outlives the server"),
            changed = times.changed() => assert!(changed.is_ok(), "the timeline outlives the server"),
            () = due(shared.started, next_time) => {
                shared.timeline.advance(shared.up(), shared.counters.messages.load(Relaxed));
            }
            () = tokio::time::sleep(RETRY), if listener.is_none() && !refuse => {}
            () = stopped(&mut stop) => break,
        }
    }
    drop(listener);
    let all_ended = async {
        while let Some(ended) = sessions.join_next().await {
            report_panic(ended)
        }
    };
    if tokio::time::timeout(STOP_MAX, all_ended).await.is_err() {
        tracing::warn!("{} sessions did not end in time and are cut", sessions.len());
        sessions.shutdown().await;
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let stopped = stop.wait_for(|stop| *stop).await.is_ok();
    assert!(stopped, "the server holds the sender too");
}

async fn due(started: Instant, at: Option<Duration>) {
    match at {
        Some(at) => tokio::time::sleep_until((started + at).into()).await,
        None => std::future::pending().await,
    }
}

fn admit(shared: &Arc<Shared>, stream: TcpStream, sessions: &mut JoinSet<()>) {
    let connection = shared.counters.connections.fetch_add(1, Relaxed) + 1;
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!("connection {connection}: no TCP_NODELAY: {e}");
    }
    let max = shared.timeline.subscribe().borrow().connections_max;
    if max > 0 && shared.open() >= max {
        add(&shared.counters.connections_refused, 1);
        let shared = Arc::clone(shared);
        sessions.spawn(async move {
            if let Err(e) = turn_away(&shared, stream).await {
                tracing::debug!("connection {connection}: {e}");
            }
        });
        return;
    }
    let open = shared.counters.enter();
    let session = Session::new(Arc::clone(shared), stream, connection, open);
    sessions.spawn(async move {
        if let Err(e) = session.run().await {
            tracing::debug!("connection {connection}: {e}");
        }
    });
}

async fn turn_away(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip();
    let mut wire = Wire::new(stream, shared.stop.subscribe());
    let host = &shared.hostname;
    reply::append(
        &mut wire.out,
        421,
        "4.7.0",
        format_args!("{host} Error: too many connections from {peer}"),
    );
    wire.flush(0).await?;
    wire.close().await
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(e) = ended
        && e.is_panic()
    {
        tracing::error!("a defect of the sink: {e}");
    }
}
