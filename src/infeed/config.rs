//! What an infeed needs to know of the settings: resolved, no defaults hidden elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use super::transaction::Stage;
use crate::config::TlsMode;
use crate::config::settings::defaults;

/// Settings of a pool of infeeds to one MTA. Holds no secret, only where one is kept: equal settings are
/// no word about equal secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfeedConfig {
    /// `host:port`, `ADDR:port` or `[ADDR]:port` of the MTA, where a name is looked up at each connect; or
    /// `unix:PATH`, a Unix-domain socket.
    pub address: String,
    pub tls: TlsConfig,
    /// Who we say we are; `None`: no AUTH.
    pub auth: Option<AuthConfig>,
    /// A session with nothing to send for so long says QUIT; another one is opened when there is something.
    pub idle_timeout_ms: u64,
    /// Infeeds, each one SMTP connection, at most; at least 1.
    pub connections: usize,
    /// Our name in EHLO: a domain, or an address literal in brackets.
    pub helo_name: String,
    /// Messages after which a connection is ended and another one opened; at least 1.
    pub messages_per_connection_max: usize,
    /// Recipients a transaction; what is lent beyond it comes back as not tried. At least 1.
    pub recipients_per_transaction_max: usize,
    pub timeouts: Timeouts,
    /// First wait before a new connect after a failure; doubles up to the maximum.
    pub reconnect_delay_ms_min: u64,
    pub reconnect_delay_ms_max: u64,
    /// No new connects for so long (and up to half of it more) after one was refused while live sessions
    /// exist: sendmail under load closes its socket for 15 s.
    pub connect_refused_hold_ms: u64,
    /// How long anvil's "too much mail" stops the pool.
    pub rate_hold_ms: u64,
    /// Write `[content . MAIL RCPT… DATA]` in one group where the MTA lets us.
    pub group_across_dot: bool,
    /// Send content by BDAT where CHUNKING and PIPELINING are offered.
    pub chunking: bool,
    /// Messages that one BDAT group holds, at most: 1 to 4; what a lost connection
    /// leaves in doubt grows with it.
    pub pipelining_depth_max: usize,
    /// Let transactions ask for XVERP where it is offered.
    pub xverp: bool,
}

/// Bound of [`InfeedConfig::pipelining_depth_max`].
pub const PIPELINING_DEPTH_MAX: usize = 4;

/// TLS to the MTA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    pub mode: TlsMode,
    /// PEM file of the roots that the MTA's certificate must lead to; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate must bear; `None`: the host of the address.
    pub server_name: Option<String>,
    /// `false` takes any certificate: for rehearsals alone.
    pub verify: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { mode: TlsMode::Off, ca_file: None, server_name: None, verify: true }
    }
}

/// Who we say we are, by AUTH PLAIN or LOGIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    pub user: String,
    pub password: PasswordSource,
}

/// Where the password is kept. It is read at each connect, so that it can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// A file of one line.
    File(PathBuf),
    /// A file of this name in `$CREDENTIALS_DIRECTORY`, where systemd puts credentials.
    Credential(String),
    /// Nobody said: an error at the first connect.
    Missing,
}

/// How long each phase may take (RFC 5321 §4.5.3.2), in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect_ms: u64,
    pub banner_ms: u64,
    pub ehlo_ms: u64,
    pub mail_ms: u64,
    pub rcpt_ms: u64,
    pub data_ms: u64,
    /// Between two writes of content that make progress.
    pub content_block_ms: u64,
    pub final_dot_ms: u64,
    /// QUIT's reply: a courtesy, not worth a long wait.
    pub quit_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        const MINUTE_MS: u64 = 60_000;
        Self {
            connect_ms: 30_000,
            banner_ms: 5 * MINUTE_MS,
            ehlo_ms: 5 * MINUTE_MS,
            mail_ms: 5 * MINUTE_MS,
            rcpt_ms: 5 * MINUTE_MS,
            data_ms: 2 * MINUTE_MS,
            content_block_ms: 3 * MINUTE_MS,
            final_dot_ms: 10 * MINUTE_MS,
            quit_ms: 2_000,
        }
    }
}

impl Timeouts {
    /// How long the reply at `stage` may take.
    pub fn reply_ms(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Connect => self.connect_ms,
            Stage::Banner => self.banner_ms,
            Stage::Ehlo | Stage::StartTls | Stage::Auth => self.ehlo_ms,
            Stage::Tls => self.connect_ms,
            Stage::Mail => self.mail_ms,
            Stage::Rcpt => self.rcpt_ms,
            Stage::Data => self.data_ms,
            Stage::Content => self.final_dot_ms,
        }
    }
}

impl Default for InfeedConfig {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:25".into(),
            tls: TlsConfig::default(),
            auth: None,
            idle_timeout_ms: 30_000,
            connections: 4,
            helo_name: "localhost".into(),
            messages_per_connection_max: 1_000,
            recipients_per_transaction_max: 50,
            timeouts: Timeouts::default(),
            reconnect_delay_ms_min: 250,
            reconnect_delay_ms_max: 60_000,
            connect_refused_hold_ms: 15_000,
            rate_hold_ms: 60_000,
            group_across_dot: true,
            chunking: defaults::mta::chunking,
            pipelining_depth_max: defaults::mta::pipelining_depth_max,
            xverp: defaults::mta::xverp,
        }
    }
}

impl InfeedConfig {
    /// The wait before the connect that follows `failures` failures in a row: doubling, with jitter over
    /// its upper half so that infeeds do not come back in step.
    pub fn reconnect_delay(&self, failures: u32) -> Duration {
        let doubled = self.reconnect_delay_ms_min.saturating_mul(1 << failures.saturating_sub(1).min(20));
        jitter_down(doubled.min(self.reconnect_delay_ms_max))
    }

    /// The same to another MTA, the built-in sink, which speaks neither TLS nor AUTH.
    pub fn for_sink(self) -> Self {
        Self { tls: TlsConfig::default(), auth: None, ..self }
    }

    /// `connect_refused_hold_ms` and up to half of it more.
    pub fn connect_hold(&self) -> Duration {
        let hold = self.connect_refused_hold_ms;
        Duration::from_millis(hold + fastrand::u64(0..=hold / 2))
    }
}

/// Between half of `ms` and all of it.
fn jitter_down(ms: u64) -> Duration {
    Duration::from_millis(ms - fastrand::u64(0..=ms / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reconnect_delay_doubles_to_its_maximum_and_never_falls_below_half() {
        let config =
            InfeedConfig { reconnect_delay_ms_min: 100, reconnect_delay_ms_max: 1_000, ..Default::default() };
        for (failures, ms) in [(0, 100), (1, 100), (2, 200), (4, 800), (5, 1_000), (u32::MAX, 1_000)] {
            for _ in 0..50 {
                let delay = config.reconnect_delay(failures).as_millis();
                assert!((ms / 2..=ms).contains(&delay), "{failures} failures: {delay} ms");
            }
        }
    }
}
