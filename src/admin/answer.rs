//! What a call came to, in HTTP: JSON, and a status that a client can go by.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::control::{Desk, Reply, Trouble};

/// Exit codes, as sysexits.h and `infeed --help` have them.
pub const USAGE: u8 = 64;
pub const UNAVAILABLE: u8 = 69;
pub const PENDING: u8 = 75;
pub const NO_PERMISSION: u8 = 77;

/// After how many seconds a call may be made again that comes too early.
const AGAIN_S: u16 = 1;

/// Done.
pub fn done(value: &Value) -> Response {
    json(StatusCode::OK, value)
}

/// Not done: `{"error": text, "exit_code": …}`, the code being what the command would have ended with.
pub fn refused(status: StatusCode, text: &str, exit_code: u8) -> Response {
    let mut response = json(status, &json!({ "error": text, "exit_code": exit_code }));
    let headers = response.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"infeed\""));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, AGAIN_S.into());
        }
        _ => {}
    }
    response
}

fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string() + "\n"));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What the desk came to.
pub fn of(desk: &Desk, answer: Result<Reply, Trouble>) -> Response {
    let (trouble, reply) = match answer {
        Ok(Reply::Ok(value)) => return done(&value),
        Ok(reply) => (None, reply),
        Err(trouble) => {
            let reply = desk.refusal(&trouble);
            (Some(trouble), reply)
        }
    };
    match reply {
        Reply::Ok(value) => done(&value),
        Reply::Ending { text } => refused(StatusCode::SERVICE_UNAVAILABLE, &text, PENDING),
        Reply::Error { text, exit_code } => {
            let status = match trouble {
                Some(Trouble::NoSuchMta { .. }) => StatusCode::NOT_FOUND,
                Some(Trouble::Reload(_)) => StatusCode::UNPROCESSABLE_ENTITY,
                _ => status_of(exit_code),
            };
            refused(status, &text, exit_code)
        }
    }
}

fn status_of(exit_code: u8) -> StatusCode {
    match exit_code {
        USAGE => StatusCode::BAD_REQUEST,
        // another state than the call needs, or somebody else has it in hand
        65 | PENDING => StatusCode::CONFLICT,
        66 => StatusCode::NOT_FOUND,
        UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        NO_PERMISSION => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
