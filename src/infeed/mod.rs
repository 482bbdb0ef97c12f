//! The infeeds: N SMTP connections to the local MTA, kept busy.
//!
//! | file | is |
//! | --- | --- |
//! | `transaction` | what an infeed is given (`Transaction`) and gives back (`Settlement`), and by whom (`Work`) |
//! | `pool` | N infeeds to one MTA: start, status, stop |
//! | `connection` | one infeed's life: connect, drain, rotate, reconnect |
//! | `handshake` | connect, greeting, EHLO; then, as the settings ask: |
//! | `tls`, `auth` | STARTTLS or implicit TLS, verified; AUTH PLAIN and LOGIN |
//! | `dialogue` | the exchange, pipelined or in lock step; by BDAT where that is offered |
//! | `verdict` | ALL failure policy: what a reply or a lost connection means |
//! | `streak` | the refusal breaker's counter |
//! | `state` | what the infeeds of one MTA know together: holds, limits learned, who may connect |
//! | `meter` | what they count for `pressure`, which decides how many they are |
//! | `lent` | a transaction on loan: settled exactly once |
//! | `observed` | what an infeed tells of how it goes, for those who measure |
//! | `envelope`, `wire`, `reply` | commands out, octets both ways, replies in |
//! | `stream` | TCP or a Unix-domain socket, in clear text or under TLS |
//!
//! Guarantees: every transaction taken is settled exactly once; nothing is called accepted that the MTA
//! did not accept by its reply to the final dot; what may have been taken without our knowing is
//! `InDoubt`, never anything else. Errors: [`InfeedError`], shown in [`MtaStatus`].

pub mod transaction;
mod auth;
mod config;
mod connection;
mod dialogue;
mod envelope;
mod error;
#[cfg(test)]
mod fuzz;
mod handshake;
mod lent;
mod meter;
mod observed;
mod pool;
mod reply;
mod state;
mod streak;
mod stream;
mod tls;
mod verdict;
mod wire;

pub use config::{AuthConfig, InfeedConfig, PasswordSource, Timeouts, TlsConfig};
pub use error::{CertificateFault, InfeedError};
pub use observed::{Observed, Opened};
pub use pool::{Pool, StopReport};
pub use reply::{BadReply, Reply, enhanced_code, parse as parse_reply, queue_id};
pub use state::{MtaState, MtaStatus};
pub use streak::{
    RefusalStreak, STREAK_DOMAINS_MIN, STREAK_HELD_MAX, STREAK_RECIPIENTS_MIN, Streak, StreakLimits,
};
pub use transaction::{
    Capabilities, Dsn, JobFault, NoRecord, Rcpt, RcptResult, Said, Settlement, Stage, Transaction, Work,
};
