//! A program that takes events: it keeps what was posted, and answers as the test wants.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use crate::common::certificates::Identity;

pub const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How one POST is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    /// Never.
    Hang,
    /// 200 with so many octets.
    Large(usize),
    /// 307 to this URL.
    Redirect(String),
}

/// One POST.
#[derive(Debug, Clone)]
pub struct Posted {
    pub id: String,
    pub body: Vec<u8>,
    pub event: Value,
    /// It was answered with 2xx.
    pub is_taken: bool,
}

#[derive(Default)]
struct Shared {
    posted: Vec<Posted>,
    answers: VecDeque<Answer>,
    /// Once there are no more answers.
    then: Option<Answer>,
}

/// Listens on a free port of 127.0.0.1 until dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    runtime: tokio::runtime::Runtime,
}

impl Receiver {
    /// Answers with these, then with 204.
    pub fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let shared =
            Arc::new(Mutex::new(Shared { answers: answers.into_iter().collect(), ..Shared::default() }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let app = Router::new().fallback(take).with_state(shared.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("its address");
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(app.clone());
                let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // whoever posted may hang up as it likes
                tokio::spawn(async move { drop(serving.await) });
            }
        });
        Self { address, shared, runtime }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks/T0PS3CR3T?token=T0PS3CR3T", self.address)
    }

    /// The URL of a door with TLS before it.
    pub fn tls_url(&self, identity: &Identity) -> String {
        let (acceptor, behind) = (identity.acceptor(), self.address);
        let listener = self.runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // a client that doesn't trust us has gone
                    let Ok(mut outside) = acceptor.accept(stream).await else { return };
                    let mut inside = tokio::net::TcpStream::connect(behind).await.expect("the receiver");
                    let copied = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                    // whoever posted may hang up as it likes
                    drop(copied);
                });
            }
        });
        format!("https://127.0.0.1:{port}/hooks")
    }

    /// From now on, whatever it was told before.
    pub fn answer(&self, then: Answer) {
        let mut shared = self.lock();
        shared.answers.clear();
        shared.then = Some(then);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no thread panics with it")
    }

    /// All that was posted, whatever it was answered.
    pub fn posted(&self) -> Vec<Posted> {
        self.lock().posted.clone()
    }

    /// Events of a type that were taken.
    pub fn taken(&self, kind: &str) -> Vec<Posted> {
        let all = self.posted().into_iter();
        all.filter(|posted| posted.is_taken && posted.event["type"] == kind).collect()
    }
}

async fn take(State(shared): State<Arc<Mutex<Shared>>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers[name].to_str().expect(name).to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    // as the specification has it, and not as infeed does it
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64.decode(&KEY["whsec_".len()..]).expect("base64"));
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &body].concat();
    let signature =
        BASE64.decode(header("webhook-signature").strip_prefix("v1,").expect("v1")).expect("base64");
    hmac::verify(&key, &signed, &signature).expect("the signature is right");
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    let event: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(event["id"], id.as_str());
    let answer = {
        let mut shared = shared.lock().expect("no thread panics with it");
        let next = shared.answers.pop_front().or_else(|| shared.then.clone());
        let answer = next.unwrap_or(Answer::Status(204));
        let is_taken = match answer {
            Answer::Status(status) => (200..300).contains(&status),
            Answer::Large(_) => true,
            Answer::Hang | Answer::Redirect(_) => false,
        };
        shared.posted.push(Posted { id, body: body.to_vec(), event, is_taken });
        answer
    };
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        Answer::Hang => std::future::pending().await,
        Answer::Large(octets) => vec![b'x'; octets].into_response(),
        Answer::Redirect(url) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url)]).into_response(),
    }
}
