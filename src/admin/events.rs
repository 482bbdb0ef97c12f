//! The status as a stream of server-sent events: made once a second for all who listen, and not at all while nobody
//! does. Whoever doesn't read is dropped after a while; what it missed was held for nobody.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::control::{Desk, Reply, Request};
use crate::http::Seat;

/// Who listen side by side, at most.
pub const SUBSCRIBERS_MAX: usize = 16;
/// One status is made so often, at most.
const EVERY: Duration = Duration::from_secs(1);
/// The next one comes after so many times what this one took: a large spool is not read all the time.
const COST_SHARE: u32 = 10;
/// Whoever has taken none of so many is dropped.
const MISSED_MAX: u32 = 10;

/// Those who listen.
#[derive(Debug, Default)]
pub struct Events {
    hub: Mutex<Hub>,
    joined: Notify,
}

#[derive(Debug, Default)]
struct Hub {
    subscribers: Vec<Subscriber>,
    /// The last event, while somebody listens.
    latest: Option<Bytes>,
    ended: bool,
}

#[derive(Debug)]
struct Subscriber {
    sender: mpsc::Sender<Bytes>,
    seat: Seat,
    missed: u32,
}

impl Subscriber {
    /// Whether it is to stay.
    fn send(&mut self, event: &Bytes) -> bool {
        match self.sender.try_send(event.clone()) {
            Ok(()) => self.missed = 0,
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
            Err(mpsc::error::TrySendError::Full(_)) => self.missed += 1,
        }
        let stays = self.missed < MISSED_MAX;
        if !stays {
            tracing::info!("the admin API: {} doesn't read its events, and is let go of", self.seat.peer());
            self.seat.close();
        }
        stays
    }
}

/// What one of them reads.
struct Subscription(mpsc::Receiver<Bytes>);

impl Stream for Subscription {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|event| event.map(Ok))
    }
}

impl Events {
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream for one more; `None`: there are too many, or it has ended.
    pub fn subscribe(&self, seat: &Seat) -> Option<Response> {
        let (sender, receiver) = mpsc::channel(1);
        {
            let mut hub = self.hub();
            hub.subscribers.retain(|subscriber| !subscriber.sender.is_closed());
            if hub.ended || hub.subscribers.len() >= SUBSCRIBERS_MAX {
                return None;
            }
            let mut subscriber = Subscriber { sender, seat: seat.clone(), missed: 0 };
            let latest = hub.latest.clone();
            if latest.is_none_or(|latest| subscriber.send(&latest)) {
                hub.subscribers.push(subscriber);
            }
        }
        seat.stream();
        self.joined.notify_one();
        let mut response = Response::new(Body::from_stream(Subscription(receiver)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        // a proxy before us is to hand each on at once
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        Some(response)
    }

    fn is_heard(&self) -> bool {
        let mut hub = self.hub();
        hub.subscribers.retain(|subscriber| !subscriber.sender.is_closed());
        if hub.subscribers.is_empty() {
            hub.latest = None;
        }
        !hub.subscribers.is_empty()
    }

    fn tell(&self, event: Bytes) {
        let mut hub = self.hub();
        hub.subscribers.retain_mut(|subscriber| subscriber.send(&event));
        hub.latest = Some(event);
    }

    /// Every stream ends.
    pub fn end(&self) {
        let mut hub = self.hub();
        hub.ended = true;
        hub.subscribers.clear();
    }

    /// Tells the status for as long as it is let.
    pub async fn run(self: Arc<Self>, desk: Arc<Desk>) {
        loop {
            while !self.is_heard() {
                self.joined.notified().await;
            }
            let begun = Instant::now();
            let event = match desk.answer(Request::Status).await {
                Ok(Reply::Ok(status)) => event("status", &status),
                Ok(_) => return,
                Err(trouble) => event("trouble", &json!({ "error": trouble.to_string() })),
            };
            self.tell(event);
            tokio::time::sleep(EVERY.max(begun.elapsed() * COST_SHARE)).await;
        }
    }
}

/// One event: JSON has no line ends of its own.
fn event(name: &str, value: &Value) -> Bytes {
    format!("event: {name}\ndata: {value}\n\n").into()
}
