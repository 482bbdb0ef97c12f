//! The infeed stage against scripted MTAs on loopback.

mod any_octets;
mod auth;
#[path = "../common/certificates.rs"]
mod certificates;
mod exchange;
mod failures;
mod flood;
mod life;
mod limits;
mod number;
mod server;
mod tls;
mod unix;
#[path = "../common/work.rs"]
#[allow(dead_code, reason = "not all of it is used here")]
mod work;
