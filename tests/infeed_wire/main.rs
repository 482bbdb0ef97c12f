//! The infeed stage against scripted MTAs on loopback.

mod any_octets;
mod exchange;
mod failures;
mod life;
mod limits;
mod server;
mod work;
