//! What stands before every answer, and what is put on it: the names in the request, the page that calls, the token;
//! the headers that keep a browser from being used against us.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::answer::{self, NO_PERMISSION, USAGE};
use super::origin::{Stranger, check_host, check_origin};
use super::server::{Admin, OPENAPI_PATH};
use crate::http::Seat;

/// How long an answer to a call without the right token is held back.
const WRONG_TOKEN_WAIT: Duration = Duration::from_millis(200);
/// Such calls are logged so often, at most.
const LOGGED_EVERY: Duration = Duration::from_secs(10);

/// The page may run its own scripts, wear its own styles and call its own host: nothing else, and in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Calls without the right token, since they were logged last.
#[derive(Debug, Default)]
pub struct Failures(Mutex<(u64, Option<Instant>)>);

impl Failures {
    fn note(&self, seat: &Seat) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, logged) = &mut *kept;
        *count += 1;
        if logged.is_none_or(|at| at.elapsed() >= LOGGED_EVERY) {
            tracing::warn!(
                "the admin API: {count} calls without the right token, the last from {}",
                seat.peer()
            );
            (*count, *logged) = (0, Some(Instant::now()));
        }
    }
}

/// Why a request goes no further.
struct Refusal {
    status: StatusCode,
    text: String,
    exit_code: u8,
}

/// Lets a request through, or doesn't; in any case its answer is one that a browser keeps to itself.
pub async fn guard(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let is_api = is_api(request.uri().path());
    let mut response = match check(&admin, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            drop(request);
            if refusal.status == StatusCode::UNAUTHORIZED {
                tokio::time::sleep(WRONG_TOKEN_WAIT).await;
            }
            let mut response = answer::refused(refusal.status, &refusal.text, refusal.exit_code);
            // what follows on this connection is nobody's request
            if refusal.status == StatusCode::LENGTH_REQUIRED {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    };
    put_headers(response.headers_mut(), is_api);
    response
}

/// All but the page and the description of the API.
fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

fn check(admin: &Admin, request: &Request) -> Result<(), Refusal> {
    let Some(seat) = request.extensions().get::<Seat>() else { panic!("a request of no connection") };
    let (headers, uri) = (request.headers(), request.uri());
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // nothing that we take is long, and where a body ends is said in one way alone: Content-Length
        let text = "a body comes with its Content-Length, and without Transfer-Encoding".to_owned();
        return Err(Refusal { status: StatusCode::LENGTH_REQUIRED, text, exit_code: USAGE });
    }
    let host = check_host(uri, headers, seat.local(), &admin.hosts)?;
    let is_page = !is_api(uri.path());
    check_origin(request.method(), headers, &host, seat.is_tls(), is_page)?;
    if is_page || uri.path() == OPENAPI_PATH {
        return Ok(());
    }
    if bearer(headers).is_some_and(|token| admin.token.is(token)) {
        seat.trust();
        return Ok(());
    }
    admin.failures.note(seat);
    let text = "the token is needed: Authorization: Bearer TOKEN, from the file that the log names at the start (never \
                in the URL)";
    Err(Refusal { status: StatusCode::UNAUTHORIZED, text: text.to_owned(), exit_code: NO_PERMISSION })
}

impl From<Stranger> for Refusal {
    fn from(stranger: Stranger) -> Self {
        let status = match stranger {
            Stranger::Host => StatusCode::BAD_REQUEST,
            Stranger::OtherHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Stranger::OtherOrigin(_) | Stranger::OtherSite => StatusCode::FORBIDDEN,
        };
        Refusal { status, text: stranger.to_string(), exit_code: NO_PERMISSION }
    }
}

/// The token that is sent, if one is, in the one header that there may be (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

fn put_headers(headers: &mut HeaderMap, is_api: bool) {
    // an API's answers are not kept; a page's files are asked for anew, and are small
    let cache = if is_api { "no-store" } else { "no-cache" };
    for (name, value) in [
        (header::CACHE_CONTROL, cache),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
