//! Every call of the API: which request of the control socket it is. The body of a call is the rest of that
//! request; src/admin/openapi.json describes the same for clients, and a test holds it against this table.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawPathParams, Request};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use futures_core::Stream;
use serde_json::{Map, Value};

use super::answer::{self, Refusal, UNAVAILABLE, USAGE};
use super::server::Admin;
use crate::control::{self, REQUEST_BYTES_MAX};
use crate::http::Seat;

/// Octets of a call's body, at most: as of a request on the control socket.
pub const BODY_BYTES_MAX: usize = REQUEST_BYTES_MAX as usize;
/// How long it may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Of a call, in the log.
const LOGGED_CHARS_MAX: usize = 300;
/// So many changes may be under way, those of callers that hung up among them.
pub const CHANGES_MAX: usize = 64;

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub method: &'static str,
    /// What is in braces is part of the request.
    pub path: &'static str,
    /// `do` of the request.
    pub request: &'static str,
    /// What the body may hold.
    pub fields: &'static [Field],
}

/// One value of a body.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    /// It must be said; what it means when it isn't would be a guess.
    pub required: bool,
}

const fn call(
    method: &'static str,
    path: &'static str,
    request: &'static str,
    fields: &'static [Field],
) -> Call {
    Call { method, path, request, fields }
}

const fn must(name: &'static str) -> Field {
    Field { name, required: true }
}

const fn may(name: &'static str) -> Field {
    Field { name, required: false }
}

/// All of them, but for the stream of events.
pub const CALLS: &[Call] = &[
    call("GET", "/api/v1/status", "status", &[]),
    call("GET", "/api/v1/jobs", "jobs", &[]),
    call("GET", "/api/v1/jobs/{job}", "job", &[]),
    call("DELETE", "/api/v1/jobs/{job}", "remove", &[]),
    call("POST", "/api/v1/jobs/{job}/pause", "pause", &[may("reason")]),
    call("POST", "/api/v1/jobs/{job}/resume", "resume", &[may("accept_refusals")]),
    call("POST", "/api/v1/jobs/{job}/cancel", "cancel", &[]),
    call("POST", "/api/v1/jobs/{job}/rate", "rate", &[must("messages_per_second")]),
    call("POST", "/api/v1/jobs/{job}/window", "window", &[must("windows")]),
    call("POST", "/api/v1/pause", "pause_all", &[may("reason")]),
    call("POST", "/api/v1/resume", "resume_all", &[]),
    call("POST", "/api/v1/connections", "mta_connections", &[must("connections")]),
    call("POST", "/api/v1/mtas/{mta}/connections", "mta_connections", &[must("connections")]),
    call("POST", "/api/v1/mtas/{mta}/resume", "resume_mta", &[]),
    call(
        "PATCH",
        "/api/v1/mtas/{mta}",
        "mta_set",
        &[may("address"), may("weight"), may("messages_per_second"), may("queue_target")],
    ),
    call("POST", "/api/v1/domains/{domain}/rate", "domain_rate", &[must("messages_per_second")]),
    call("POST", "/api/v1/reload", "reload", &[]),
    call("POST", "/api/v1/drain", "drain", &[]),
    call("POST", "/api/v1/shutdown", "shutdown", &[]),
];

/// Carries one out. What changes something is carried out to its end, also for a caller that has gone.
pub async fn carry_out(
    call: &'static Call,
    admin: Arc<Admin>,
    parameters: Option<RawPathParams>,
    request: Request,
) -> Response {
    let Some(desk) = admin.desk() else { return not_yet() };
    let is_change = *request.method() != Method::GET && *request.method() != Method::HEAD;
    let peer = request.extensions().get::<Seat>().map(|seat| seat.peer().to_string());
    // without the name a request may mean all of them
    if call.path.contains('{') && parameters.is_none() {
        return answer::refused(StatusCode::BAD_REQUEST, "the path isn't UTF-8", USAGE);
    }
    let body = match body_of(call, is_change, request).await {
        Ok(body) => body,
        Err(refusal) => return refusal.answer(),
    };
    let named = parameters.iter().flatten().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let asked = match request_of(call, named, body) {
        Ok(asked) => asked,
        Err(text) => return answer::refused(StatusCode::BAD_REQUEST, &text, USAGE),
    };
    if !is_change {
        return answer::of(&desk, desk.answer(asked).await);
    }
    // who hangs up leaves a change behind that may wait long, for a drain that doesn't come to its end for instance
    let Ok(permit) = admin.changes.clone().try_acquire_owned() else {
        let text = format!("{CHANGES_MAX} changes are under way, and wait: ask again");
        return answer::refused(StatusCode::SERVICE_UNAVAILABLE, &text, UNAVAILABLE);
    };
    tracing::info!("the admin API: {} from {}", told(&asked), peer.unwrap_or_default());
    let carried = {
        let desk = desk.clone();
        tokio::spawn(async move {
            let answer = desk.answer(asked).await;
            drop(permit);
            answer
        })
    };
    match carried.await {
        Ok(answer) => answer::of(&desk, answer),
        Err(e) => {
            tracing::error!("a defect of the admin API: {e}");
            let text = "a defect of infeed: its log says more";
            answer::refused(StatusCode::INTERNAL_SERVER_ERROR, text, desk.exit_code_other)
        }
    }
}

/// Another process drains the spool, and ours waits for it.
pub fn not_yet() -> Response {
    let text = "this infeed waits for the spool, which another process drains: ask again";
    answer::refused(StatusCode::SERVICE_UNAVAILABLE, text, UNAVAILABLE)
}

/// The request in one line, as the control socket has it; of a long one its beginning.
fn told(request: &control::Request) -> String {
    let line = serde_json::to_string(request).unwrap_or_else(|e| e.to_string());
    line.chars().take(LOGGED_CHARS_MAX).collect()
}

/// The call as a request of the control socket; an error is what is wrong with it.
fn request_of(
    call: &Call,
    named: impl Iterator<Item = (String, String)>,
    body: Map<String, Value>,
) -> Result<control::Request, String> {
    let mut object = Map::new();
    object.insert("do".to_owned(), call.request.into());
    object.extend(named.map(|(name, value)| (name, value.into())));
    for (name, value) in body {
        if !call.fields.iter().any(|field| field.name == name) {
            let known: Vec<&str> = call.fields.iter().map(|field| field.name).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            return Err(format!("{name:?} is not part of this call, which takes {known}"));
        }
        object.insert(name, value);
    }
    if let Some(missing) = call.fields.iter().find(|field| field.required && !object.contains_key(field.name))
    {
        return Err(format!("{:?} is missing (openapi.json says what it takes)", missing.name));
    }
    serde_json::from_value(Value::Object(object)).map_err(|e| e.to_string())
}

/// The body as an object: empty, where there is none.
async fn body_of(call: &Call, is_change: bool, request: Request) -> Result<Map<String, Value>, Refusal> {
    if !is_change {
        return Ok(Map::new());
    }
    let media_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let is_json = media_type.as_ref().map(|value| {
        let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
    });
    let bad = |status, text: &str| Err(Refusal::usage(status, text));
    // also where there is no body: what a form sends is no call of ours
    if is_json == Some(false) {
        return bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body of a call is application/json");
    }
    let octets = read(request).await?;
    if octets.is_empty() {
        return Ok(Map::new());
    }
    if is_json.is_none() {
        let text = "the body of a call is application/json, and its Content-Type says so";
        return bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    }
    match serde_json::from_slice(&octets) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => bad(StatusCode::BAD_REQUEST, "the body is no JSON object"),
        Err(e) => {
            bad(StatusCode::BAD_REQUEST, &format!("{} {}: the body is no JSON: {e}", call.method, call.path))
        }
    }
}

/// All of the body, bounded in size and time.
async fn read(request: Request) -> Result<Vec<u8>, Refusal> {
    let too_large = || {
        let text = format!("the body has more than {BODY_BYTES_MAX} octets");
        Refusal::usage(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    let body = request.into_body();
    let said = axum::body::HttpBody::size_hint(&body).lower();
    if said > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut stream = body.into_data_stream();
    let mut octets = Vec::new();
    let all = async {
        while let Some(part) = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
            let part = part.map_err(|e| Refusal::usage(StatusCode::BAD_REQUEST, e.to_string()))?;
            if octets.len() + part.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            octets.extend_from_slice(&part);
        }
        Ok(())
    };
    match tokio::time::timeout(BODY_WAIT, all).await {
        Ok(all) => all?,
        Err(_) => {
            let text = format!("the body was not there within {} s", BODY_WAIT.as_secs());
            return Err(Refusal::usage(StatusCode::REQUEST_TIMEOUT, text));
        }
    }
    Ok(octets)
}

#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
