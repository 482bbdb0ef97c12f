//! Listens for HTTP/1, for the metrics and the admin API: bounded in everything that a stranger could make
//! large.
//!
//! | what | bound |
//! | --- | --- |
//! | connections side by side | [`CONNECTIONS_MAX`]; whoever comes then takes the place of the oldest stranger |
//! | a request's line and headers | [`HEAD_BYTES_MAX`], there within [`HEAD_WAIT`], as the TLS handshake is |
//! | a connection's life | `LIFE_MAX` and the answer that it is at, unless it is a stream ([`Seat::stream`]) |
//! | what the kernel holds for a reader that has stopped | `SEND_BUFFER_BYTES` |
//!
//! A stranger is a connection that no request of has shown who it is ([`Seat::trust`]): so many slow ones hold
//! nobody up who has something to say. Bodies of requests are the routes' to bound. Errors: [`ListenError`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Connections served side by side, at most.
pub const CONNECTIONS_MAX: usize = 64;
/// Of a request's line and headers.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long they may take to arrive, also on a connection that was used before.
pub const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long a connection is used again.
const LIFE_MAX: Duration = Duration::from_secs(60);
/// How long the last answer on it may take to be made and read.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// The same of somebody who is known: a job that is paused lets its transactions end.
const TRUSTED_ANSWER_WAIT: Duration = Duration::from_secs(90);
/// How long answers under way may take once nobody is listened to any more.
const STOP_WAIT: Duration = Duration::from_secs(3);
/// Before it is tried again to take connections, where the system has none to give.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What waits in the kernel for a reader, at most (it takes twice as much for its own needs).
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No such address.
    #[error("{listen}: {source}; write host:port, for instance 127.0.0.1:9925")]
    Address { listen: String, source: io::Error },
    /// It is taken, or not ours to take.
    #[error("can't listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// Where `host:port` is.
///
/// # Errors
/// [`ListenError::Address`].
pub async fn resolve(listen: &str) -> Result<SocketAddr, ListenError> {
    let wrong = |source| ListenError::Address { listen: listen.to_owned(), source };
    let mut found = tokio::net::lookup_host(listen).await.map_err(wrong)?;
    let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    found.next().ok_or_else(none).map_err(wrong)
}

/// Takes the address; nobody is answered before [`serve`].
///
/// # Errors
/// [`ListenError::Listen`].
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let taken = |source| ListenError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let local = listener.local_addr().map_err(taken)?;
    Ok((listener, local))
}

/// One connection, as its requests see it: an extension of each of them.
#[derive(Debug, Clone)]
pub struct Seat(Arc<Place>);

#[derive(Debug)]
struct Place {
    peer: SocketAddr,
    local: SocketAddr,
    is_tls: bool,
    trusted: AtomicBool,
    streams: AtomicBool,
    close: Notify,
}

impl Seat {
    fn new(peer: SocketAddr, local: SocketAddr, is_tls: bool) -> Self {
        let (trusted, streams) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Place { peer, local, is_tls, trusted, streams, close: Notify::new() }))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Our own address on this connection.
    pub fn local(&self) -> SocketAddr {
        self.0.local
    }

    pub fn is_tls(&self) -> bool {
        self.0.is_tls
    }

    /// Whoever is there has shown to be somebody: nobody takes its place.
    pub fn trust(&self) {
        self.0.trusted.store(true, Relaxed);
    }

    /// The answer goes on for as long as it is read.
    pub fn stream(&self) {
        self.0.streams.store(true, Relaxed);
    }

    /// Ends the connection, whatever it is at.
    pub fn close(&self) {
        self.0.close.notify_one();
    }

    fn is_trusted(&self) -> bool {
        self.0.trusted.load(Relaxed)
    }

    /// Waits for the end of its life: never while it is a stream.
    async fn lives(&self) {
        loop {
            tokio::time::sleep(LIFE_MAX).await;
            if !self.0.streams.load(Relaxed) {
                return;
            }
        }
    }
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Serving {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Serving {
    /// Listens no more; answers under way have a moment to end.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(e) = (&mut self.task).await {
            tracing::error!("a defect of a listener: {e}");
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers from now on; `what` names the listener in logs.
pub fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, what: &'static str) -> Serving {
    let (stop, stopped) = watch::channel(false);
    Serving { stop, task: tokio::spawn(listen(listener, Answers { tls, router, what, stopped })) }
}

/// What each connection is served with.
#[derive(Clone)]
struct Answers {
    tls: Option<TlsAcceptor>,
    router: Router,
    what: &'static str,
    stopped: watch::Receiver<bool>,
}

async fn listen(listener: TcpListener, answers: Answers) {
    let (what, mut stopped) = (answers.what, answers.stopped.clone());
    let mut serving: JoinSet<()> = JoinSet::new();
    let mut seats = Seats::default();
    loop {
        // those who were told to go are gone in a moment; until then they count
        let has_room =
            serving.len() < CONNECTIONS_MAX || serving.len() < 2 * CONNECTIONS_MAX && seats.has_stranger();
        tokio::select! {
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, peer)) => {
                    if serving.len() >= CONNECTIONS_MAX {
                        seats.make_room(what);
                    }
                    // one that has gone already has no address
                    let Ok(local) = stream.local_addr() else { continue };
                    let seat = Seat::new(peer, local, answers.tls.is_some());
                    seats.0.push_back(Arc::downgrade(&seat.0));
                    serving.spawn(serve_one(stream, seat, answers.clone()));
                }
                Err(e) => {
                    tracing::warn!("{what}: no connection can be taken: {e}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(ended) = serving.join_next(), if !serving.is_empty() => {
                tell_defect(what, ended);
                seats.0.retain(|seat| seat.strong_count() > 0);
            }
            // a sender that has gone is an end, too
            () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => break,
        }
    }
    drop(listener);
    let until = tokio::time::Instant::now() + STOP_WAIT;
    while let Ok(Some(ended)) = tokio::time::timeout_at(until, serving.join_next()).await {
        tell_defect(what, ended);
    }
}

fn tell_defect(what: &str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(e) = ended {
        tracing::error!("a defect of {what}: {e}");
    }
}

/// The connections that stand, oldest first, without those that were told to go.
#[derive(Default)]
struct Seats(VecDeque<Weak<Place>>);

impl Seats {
    fn has_stranger(&self) -> bool {
        self.0.iter().any(is_stranger)
    }

    fn make_room(&mut self, what: &str) {
        let oldest = self.0.iter().position(is_stranger);
        if let Some(place) = oldest.and_then(|at| self.0.remove(at)).and_then(|place| place.upgrade()) {
            tracing::debug!("{what}: {} makes room for others", place.peer);
            place.close.notify_one();
        }
    }
}

fn is_stranger(place: &Weak<Place>) -> bool {
    place.upgrade().is_some_and(|place| !place.trusted.load(Relaxed))
}

async fn serve_one(stream: TcpStream, seat: Seat, answers: Answers) {
    let closed = seat.clone();
    tokio::select! {
        () = greet(stream, seat, answers) => {}
        () = closed.0.close.notified() => {}
    }
}

async fn greet(stream: TcpStream, seat: Seat, answers: Answers) {
    let socket = SockRef::from(&stream);
    let set = socket.set_send_buffer_size(SEND_BUFFER_BYTES).and_then(|()| stream.set_nodelay(true));
    if let Err(e) = set {
        tracing::debug!("{}: {}: {e}", answers.what, seat.peer());
    }
    let Some(tls) = &answers.tls else { return converse(stream, seat, &answers).await };
    match tokio::time::timeout(HEAD_WAIT, tls.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, seat, &answers).await,
        Ok(Err(e)) => tracing::debug!("{}: no TLS with {}: {e}", answers.what, seat.peer()),
        Err(_) => tracing::debug!("{}: no TLS with {} in time", answers.what, seat.peer()),
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    seat: Seat,
    answers: &Answers,
) {
    let (what, mut stopped) = (answers.what, answers.stopped.clone());
    let (routes, its_seat) = (TowerToHyperService::new(answers.router.clone()), seat.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(its_seat.clone());
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let wait = tokio::select! {
        ended = connection.as_mut() => return tell_end(what, ended),
        () = seat.lives() => if seat.is_trusted() { TRUSTED_ANSWER_WAIT } else { ANSWER_WAIT },
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => STOP_WAIT,
    };
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(wait, connection.as_mut()).await {
        Ok(ended) => tell_end(what, ended),
        Err(_) => tracing::debug!("{what}: an answer was not read for {} s", wait.as_secs()),
    }
}

fn tell_end(what: &str, ended: hyper::Result<()>) {
    if let Err(e) = ended {
        tracing::debug!("{what}: {e}");
    }
}
