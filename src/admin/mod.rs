//! The admin API: what the control socket does, over HTTP, and the page that is made of it.
//!
//! | file | is |
//! | --- | --- |
//! | `server` | takes the address, answers from then on, ends |
//! | `calls` | every call: method, path, the request that it is; docs and openapi.json are held against it |
//! | `answer` | what a call's outcome is in HTTP |
//! | `events` | the status as a stream, made once for all who listen |
//! | `guard` | what stands before every answer: host, origin, token, and the headers after it |
//! | `origin` | pure: whose name we are called by, whose page calls |
//! | `token` | the token: made, read, held against what is sent |
//! | `tls` | certificate and key |
//! | `page` | the files of the page |
//!
//! Guarantees: nothing is changed and nothing told without the token, but the page's own files and the description
//! of the API; the token is compared in constant time, and is in no log and no URL; beyond loopback nothing
//! listens without TLS, unless the operator insists; a page of another origin, or of a name that isn't ours, gets
//! nothing; requests are bounded in size and time, and so is what they hold. One implementation carries out what
//! is asked here and on the control socket ([`crate::control::Desk`]). Errors: [`AdminError`], at the start alone.

mod answer;
mod calls;
mod error;
mod events;
mod guard;
mod origin;
mod page;
mod server;
mod tls;
mod token;

pub use calls::{BODY_BYTES_MAX, CALLS, CHANGES_MAX, Call, Field};
pub use error::AdminError;
pub use events::SUBSCRIBERS_MAX;
pub use server::{Server, Settings};
pub use token::TOKEN_CHARS_MIN;
