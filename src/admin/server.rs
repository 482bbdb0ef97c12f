//! Takes the address and answers: at first that it waits, then what the desk says, until it is stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodFilter, get, on};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::answer::{self, USAGE};
use super::calls::{self, CALLS};
use super::error::AdminError;
use super::events::Events;
use super::guard::{self, Failures};
use super::page::{ASSETS, Asset};
use super::tls;
use super::token::Token;
use crate::control::Desk;
use crate::http::{self, Seat, Serving};

pub const OPENAPI_PATH: &str = "/api/v1/openapi.json";
pub const EVENTS_PATH: &str = "/api/v1/events";

/// The description of the API, as it is served.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What the operator set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `host:port`.
    pub listen: String,
    pub token_file: PathBuf,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub insecure: bool,
    /// Names that we go by.
    pub hosts: Vec<String>,
}

/// What every request sees.
pub struct Admin {
    pub token: Token,
    /// In lower case.
    pub hosts: Vec<String>,
    pub failures: Failures,
    /// Room for changes under way.
    pub changes: Arc<Semaphore>,
    desk: OnceLock<Arc<Desk>>,
    events: Arc<Events>,
}

impl Admin {
    /// `None`: the slices aren't ours yet.
    pub fn desk(&self) -> Option<Arc<Desk>> {
        self.desk.get().cloned()
    }
}

/// Answers; ends when dropped.
pub struct Server {
    address: SocketAddr,
    is_tls: bool,
    token_file: PathBuf,
    admin: Arc<Admin>,
    serving: Serving,
    telling: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Listens. Until [`Server::attend`] calls are told to come again.
    ///
    /// # Errors
    /// [`AdminError`]; nothing listens then.
    pub async fn start(settings: &Settings) -> Result<Self, AdminError> {
        let tls = tls::acceptor(settings.tls_cert_file.as_ref(), settings.tls_key_file.as_ref())?;
        let address = http::resolve(&settings.listen).await?;
        if !is_loopback(address) && tls.is_none() && !settings.insecure {
            return Err(AdminError::NotLoopback { listen: settings.listen.clone(), address });
        }
        let token = Token::load(&settings.token_file)?;
        let (listener, address) = http::bind(address).await?;
        let admin = Arc::new(Admin {
            token,
            hosts: settings.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            failures: Failures::default(),
            changes: Arc::new(Semaphore::new(calls::CHANGES_MAX)),
            desk: OnceLock::new(),
            events: Arc::default(),
        });
        let is_tls = tls.is_some();
        let serving = http::serve(listener, tls, router(&admin), "the admin API");
        let (token_file, telling) = (settings.token_file.clone(), Mutex::new(None));
        Ok(Self { address, is_tls, token_file, admin, serving, telling })
    }

    /// Where it listens; also the port that stood for 0.
    pub fn url(&self) -> String {
        format!("{}://{}/", if self.is_tls { "https" } else { "http" }, self.address)
    }

    /// Others than this host reach it, and read what is sent.
    pub fn is_open(&self) -> bool {
        !self.is_tls && !is_loopback(self.address)
    }

    pub fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// Calls go to this desk from now on.
    ///
    /// # Panics
    /// When called twice.
    pub fn attend(&self, desk: &Arc<Desk>) {
        assert!(self.admin.desk.set(desk.clone()).is_ok(), "the admin API has a desk already");
        let telling = tokio::spawn(self.admin.events.clone().run(desk.clone()));
        *self.telling.lock().unwrap_or_else(PoisonError::into_inner) = Some(telling);
    }

    /// Every stream ends, answers under way have a moment, and nothing listens any more.
    pub async fn stop(self) {
        self.admin.events.end();
        if let Some(telling) = self.telling.lock().unwrap_or_else(PoisonError::into_inner).take() {
            telling.abort();
        }
        self.serving.stop().await;
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn router(admin: &Arc<Admin>) -> Router {
    let mut router = Router::new()
        .route(OPENAPI_PATH, get(async || file("application/json", OPENAPI.as_bytes())))
        .route(EVENTS_PATH, get(events));
    for asset in ASSETS {
        let Asset { path, content_type, bytes } = *asset;
        router = router.route(path, get(async move || file(content_type, bytes)));
    }
    for call in CALLS {
        let handler =
            move |State(admin): State<Arc<Admin>>,
                  parameters: Result<RawPathParams, RawPathParamsRejection>,
                  request: Request| { calls::carry_out(call, admin, parameters.ok(), request) };
        router = router.route(call.path, on(filter(call.method), handler));
    }
    router
        .fallback(async || answer::refused(StatusCode::NOT_FOUND, "there is nothing here", USAGE))
        .method_not_allowed_fallback(async |method: Method| {
            let text = format!("{method} is no call here: {OPENAPI_PATH} has all that there are");
            answer::refused(StatusCode::METHOD_NOT_ALLOWED, &text, USAGE)
        })
        .layer(middleware::from_fn_with_state(admin.clone(), guard::guard))
        .with_state(admin.clone())
}

fn filter(method: &str) -> MethodFilter {
    match method {
        "GET" => MethodFilter::GET,
        "POST" => MethodFilter::POST,
        "PATCH" => MethodFilter::PATCH,
        "DELETE" => MethodFilter::DELETE,
        other => panic!("no call has the method {other}"),
    }
}

fn file(content_type: &'static str, bytes: &'static [u8]) -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(bytes)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

async fn events(State(admin): State<Arc<Admin>>, request: Request) -> Response {
    if admin.desk().is_none() {
        return calls::not_yet();
    }
    let Some(seat) = request.extensions().get::<Seat>() else { panic!("a request of no connection") };
    admin.events.subscribe(seat).unwrap_or_else(|| {
        let text = "too many listen already: end one of them, or ask for /api/v1/status now and then";
        answer::refused(StatusCode::SERVICE_UNAVAILABLE, text, answer::UNAVAILABLE)
    })
}
