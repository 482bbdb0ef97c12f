//! The page of `infeed serve` in a real browser, during a live drain.
//!
//! The guarantee: what it shows is what the ledger says; what is turned on it is turned at the MTA; what an
//! MTA or a person says is text there, and nothing else; it asks nothing of anybody but its own daemon; and
//! everybody can read and use it: by keyboard, by ear, in the dark, on a phone.

mod common;

#[path = "page/chrome.rs"]
mod chrome;
#[path = "metrics/http.rs"]
#[allow(dead_code, reason = "compiled into two test binaries, and each uses a part")]
mod http;
#[path = "page/hostile.rs"]
mod hostile;
#[path = "page/knobs.rs"]
mod knobs;
#[path = "page/numbers.rs"]
mod numbers;
#[path = "page/readers.rs"]
mod readers;
#[path = "page/visit.rs"]
mod visit;
