//! What every command has at hand: configuration, spool, how to print. And the one place where the
//! configuration becomes what spool, infeeds and runner take.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::config::ConfigOptions;
use super::exit::{ExitCode, NO_INPUT};
use super::help::GLOBAL_HEADING;
use crate::config::{self, Config, Connections, Environment, MtaEntry};
use crate::infeed::StreakLimits;
use crate::infeed::{AuthConfig, InfeedConfig, PasswordSource, Timeouts, TlsConfig};
use crate::intake::address::check_domain_only;
use crate::pressure::queue::{QueueConfig, QueueFolder};
use crate::runner::{DrainConfig, MtaConfig, RetryPolicy};
use crate::spool::{DirSpool, RetentionSettings, Settings};
use crate::top::printable_lines;

/// The options that all commands share.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = GLOBAL_HEADING)]
pub struct GlobalOptions {
    #[command(flatten)]
    pub config: ConfigOptions,

    // its help comes from the table of settings
    #[arg(long, value_name = "DIR", global = true)]
    pub spool: Option<PathBuf>,

    /// Print results as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,

    /// No progress and no remarks on standard error; errors still show
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// Log more to standard error (-vv: more still)
    #[arg(short = 'v', global = true, action = clap::ArgAction::Count)]
    pub log_more: u8,
}

/// A command's surroundings.
#[derive(Debug, Clone)]
pub struct Session {
    pub config: Config,
    pub spool_dir: PathBuf,
    pub json: bool,
    pub quiet: bool,
    /// The one MTA that what is submitted may go to.
    pub pinned: Option<String>,
}

impl Session {
    /// Resolves configuration and spool folder; `flags` are settings with a flag of their own, as full
    /// name, value and flag.
    ///
    /// # Errors
    /// Bad configuration (78).
    pub fn new(global: &GlobalOptions, flags: &[(&str, Option<String>, &str)]) -> anyhow::Result<Self> {
        let mut request = global.config.request()?;
        for (name, value, flag) in flags {
            if let Some(value) = value {
                request.set(name, value, flag);
            }
        }
        let config = config::load(&request, &Environment::of_process())?.config;
        let spool_dir = config::resolve_spool_dir(global.spool.clone(), &config)?;
        let spool_dir = std::path::absolute(&spool_dir).unwrap_or(spool_dir);
        Ok(Self { config, spool_dir, json: global.json, quiet: global.quiet, pinned: None })
    }

    /// Opens the spool, and makes it where there is none.
    ///
    /// # Errors
    /// Those of the spool.
    pub fn open_spool(&self) -> anyhow::Result<DirSpool> {
        Ok(DirSpool::open(&self.spool_dir, spool_settings(&self.config))?)
    }

    /// Opens the spool; `None` where there is none, which a remark says.
    ///
    /// # Errors
    /// Those of the spool.
    pub fn existing_spool(&self) -> anyhow::Result<Option<DirSpool>> {
        let spool = self.spool_if_any()?;
        if spool.is_none() {
            self.remark_no_spool();
        }
        Ok(spool)
    }

    /// The same without the remark.
    ///
    /// # Errors
    /// Those of the spool.
    pub fn spool_if_any(&self) -> anyhow::Result<Option<DirSpool>> {
        if DirSpool::exists(&self.spool_dir)? { self.open_spool().map(Some) } else { Ok(None) }
    }

    /// That there is no spool.
    pub fn remark_no_spool(&self) {
        self.remark(format_args!("no spool at {} yet: nothing was submitted", self.spool_dir.display()));
    }

    /// Opens the spool that a named job must be in.
    ///
    /// # Errors
    /// There is none (66); those of the spool.
    pub fn spool_of_job(&self, job: &str) -> anyhow::Result<DirSpool> {
        if !DirSpool::exists(&self.spool_dir)? {
            let dir = self.spool_dir.display();
            let none: anyhow::Result<()> =
                Err(anyhow::anyhow!("no job {job}: there is no spool at {dir}; name another with --spool"));
            none.exit_code(NO_INPUT)?;
        }
        self.open_spool()
    }

    /// A line for the operator on standard error, unless `--quiet`.
    pub fn remark(&self, line: fmt::Arguments<'_>) {
        if !self.quiet {
            eprintln!("infeed: {line}");
        }
    }

    /// Whether progress can be shown.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }
}

/// A bar or spinner of this template, in which `{rate}` is whole steps a second.
pub fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => {
            bar.with_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
                // a rate that can't be drawn is not drawn
                write!(out, "{:.0}/s", state.per_sec()).unwrap_or_default();
            }))
        }
        Err(_) => bar,
    }
}

/// Prints a result; a reader that has gone (`| head`) is no error. On a terminal, what the terminal would obey
/// is shown as `?`: reasons, paths and messages are other people's words. Files and pipes get it as it is.
///
/// # Errors
/// Standard output can't be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let harmless = out.is_terminal().then(|| printable_lines(text));
    let text = harmless.as_deref().unwrap_or(text);
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).context("standard output can't be written"))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON value and a line end.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    print(&text)
}

/// The spool's part of the configuration.
pub fn spool_settings(config: &Config) -> Settings {
    let spool = &config.spool;
    Settings {
        chunk_recipients_max: spool.chunk_recipients_max,
        chunk_bytes_max: usize::try_from(spool.chunk_bytes_max).unwrap_or(usize::MAX),
        progress_commit_ms: spool.progress_commit_ms,
        progress_unsynced_max: spool.progress_unsynced_max as u64,
        journal_segment_bytes: spool.journal_segment_bytes,
        free_bytes_min: spool.free_bytes_min,
        free_inodes_min: spool.free_inodes_min,
        again_window_s: config.catches.again_window_s,
        retry_delay_s_max: retry_policy(config).wait_s_max(),
    }
}

/// `spool.slices`, which is a power of two up to 256.
pub fn slices(config: &Config) -> u32 {
    u32::try_from(config.spool.slices).unwrap_or(256)
}

/// The MTAs that mail is handed to.
pub fn mta_configs(config: &Config) -> Vec<MtaConfig> {
    config.mta_entries.iter().map(mta_config).collect()
}

fn mta_config(entry: &MtaEntry) -> MtaConfig {
    MtaConfig {
        name: entry.name.clone(),
        weight: entry.weight,
        sink: false,
        connections: entry.settings.connections,
        connections_max: entry.settings.connections_max,
        queue: queue_config(&entry.settings),
        infeed: infeed_config(&entry.settings),
        messages_per_second: entry.settings.messages_per_second.0,
        wait_first: Duration::from_secs(entry.settings.wait_first_s),
        wait: Duration::from_secs(entry.settings.wait_s),
        pause_probe: Duration::from_secs(entry.settings.pause_probe_s),
    }
}

/// Where the queue of an MTA is looked for.
fn queue_config(mta: &config::Mta) -> QueueConfig {
    QueueConfig {
        address: mta.address.clone(),
        folder: match &mta.queue_dir {
            None => QueueFolder::Ask,
            Some(dir) if dir.as_os_str() == "none" => QueueFolder::Off,
            Some(dir) => QueueFolder::At(dir.clone()),
        },
        control_socket: mta.control_socket.clone(),
        target: mta.queue_target,
    }
}

/// The built-in sink as an MTA, with the settings that all MTAs start from.
pub fn sink_mta_config(config: &Config, address: String) -> MtaConfig {
    let settings = config::Mta { address, ..config.mta.clone() };
    let entry = MtaEntry { name: super::mta::SINK.to_owned(), weight: 1, settings };
    let mta = mta_config(&entry);
    MtaConfig { sink: true, queue: QueueConfig::off(), infeed: mta.infeed.clone().for_sink(), ..mta }
}

/// The infeeds' part of the settings of one MTA.
fn infeed_config(mta: &config::Mta) -> InfeedConfig {
    InfeedConfig {
        address: mta.address.clone(),
        tls: TlsConfig {
            mode: mta.tls,
            ca_file: mta.tls_ca_file.clone(),
            server_name: mta.tls_server_name.clone(),
            verify: mta.tls_verify,
        },
        auth: mta.auth_user.clone().map(|user| AuthConfig { user, password: password_source(mta) }),
        idle_timeout_ms: mta.idle_timeout_ms,
        connections: match mta.connections {
            Connections::Auto => mta.connections_max,
            Connections::Fixed(count) => count,
        },
        helo_name: mta.helo_name.clone().unwrap_or_else(helo_name),
        messages_per_connection_max: mta.messages_per_connection_max,
        recipients_per_transaction_max: mta.recipients_per_transaction_max,
        timeouts: Timeouts {
            connect_ms: mta.connect_timeout_ms,
            banner_ms: mta.banner_timeout_ms,
            ehlo_ms: mta.ehlo_timeout_ms,
            mail_ms: mta.mail_timeout_ms,
            rcpt_ms: mta.rcpt_timeout_ms,
            data_ms: mta.data_timeout_ms,
            content_block_ms: mta.content_timeout_ms,
            final_dot_ms: mta.final_dot_timeout_ms,
            ..Timeouts::default()
        },
        reconnect_delay_ms_min: mta.reconnect_delay_ms_min,
        reconnect_delay_ms_max: mta.reconnect_delay_ms_max,
        connect_refused_hold_ms: mta.refused_hold_ms,
        group_across_dot: mta.group_across_dot,
        chunking: mta.chunking,
        pipelining_depth_max: mta.pipelining_depth_max,
        xverp: mta.xverp,
        ..InfeedConfig::default()
    }
}

/// Where the MTA's password is kept; the file goes before the credential.
fn password_source(mta: &config::Mta) -> PasswordSource {
    match (&mta.auth_password_file, &mta.auth_password_credential) {
        (Some(file), _) => PasswordSource::File(file.clone()),
        (None, Some(name)) => PasswordSource::Credential(name.clone()),
        (None, None) => PasswordSource::Missing,
    }
}

/// The host's name where it is a domain, else an address literal (RFC 5321 §4.1.4).
fn helo_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let is_domain = name.is_ascii() && name.contains('.') && check_domain_only(name).is_ok();
    if is_domain { name.to_owned() } else { "[127.0.0.1]".to_owned() }
}

/// A drain into these MTAs as the configuration wants it.
pub fn drain_config(config: &Config, mtas: Vec<MtaConfig>) -> DrainConfig {
    DrainConfig {
        breaker: streak_limits(config),
        retry: retry_policy(config),
        domain_rates: config.rates.domains.clone(),
        shutdown_grace: Duration::from_millis(config.drain.shutdown_grace_ms),
        ..DrainConfig::new(mtas)
    }
}

/// When the refusal breaker trips.
pub fn streak_limits(config: &Config) -> StreakLimits {
    StreakLimits {
        recipients_min: config.catches.breaker_recipients_min,
        domains_min: config.catches.breaker_domains_min,
    }
}

/// When deferred recipients are tried again.
pub fn retry_policy(config: &Config) -> RetryPolicy {
    let retry = &config.retry;
    RetryPolicy {
        delay_s_min: retry.delay_s_min,
        delay_s_max: retry.delay_s_max,
        expire_after_s: retry.expire_after_s,
    }
}

/// When ended jobs go.
pub fn retention_settings(config: &Config) -> RetentionSettings {
    let retention = &config.retention;
    RetentionSettings { days: retention.days, unlinks_per_s_max: retention.unlinks_per_s_max }
}
