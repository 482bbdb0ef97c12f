//! `infeed sink`: the load-test MTA as a command. Its rate goes to stderr, its summary to stdout.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::metrics;
use crate::metrics::Exporter;
use crate::sink::{Scenario, Settings, Sink, SinkConfig, SinkError, SinkHandle, Snapshot};

/// Take mail, count it, prove what arrived, and misbehave on demand (docs/sink.md)
#[derive(Debug, Clone, clap::Args)]
pub struct SinkArgs {
    /// Address and port to listen on; port 0: a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2525")]
    pub listen: String,
    /// Write the address listened on to FILE, once it is
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Append a line of JSON per accepted recipient to FILE, before its final reply
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Keep each content as DIR/QUEUE_ID.eml
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// A timeline of misbehaviour, in TOML; flags win over its `set`, its steps over flags
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// The name in banner and replies
    #[arg(long, value_name = "NAME", default_value = "sink.infeed.test")]
    pub hostname: String,
    // its help comes from the table of settings
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// Seed of the percentages: the same seed throws the same for the n-th connection
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,
    /// Print the rate every second, also without a terminal
    #[arg(long)]
    pub verbose: bool,
    #[command(flatten, next_help_heading = "Offers and misbehaviour")]
    pub settings: Settings,
}

/// Runs until SIGINT or SIGTERM. Gives the exit code 0.
///
/// # Errors
/// A [`crate::sink::SinkError`] (its `exit_code()` is the command's), or an I/O error on stdout, signals
/// or the port file.
pub async fn run(args: SinkArgs, json: bool) -> anyhow::Result<u8> {
    let scenario = args.scenario.as_deref().map(Scenario::load).transpose()?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be handled")?;
    let metrics = metrics::bind(args.metrics.as_deref(), true).await?;
    let sink = Sink::start(SinkConfig {
        listen: resolve(&args.listen).await?,
        hostname: args.hostname,
        settings: args.settings,
        scenario,
        ledger: args.ledger,
        store: args.store,
        seed: args.seed,
    })?;
    let _metrics = metrics.map(|mut server| {
        server.serve(Exporter::of_sink(sink.counter()));
        server
    });
    eprintln!("listening on {}", sink.local_addr());
    if let Some(path) = &args.port_file {
        write_address(path, sink.local_addr())
            .with_context(|| format!("{}: the address can't be written", path.display()))?;
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = show_rate(&sink, args.verbose) => {}
    }
    let last = sink.shutdown().await?;
    summary(&last, json).context("the summary can't be written to stdout")?;
    Ok(0)
}

async fn resolve(listen: &str) -> Result<SocketAddr, SinkError> {
    let wrong = |what: String| SinkError::Address { listen: listen.to_owned(), what };
    let mut found = tokio::net::lookup_host(listen).await.map_err(|e| wrong(e.to_string()))?;
    found.next().ok_or_else(|| wrong("the name has no address".to_owned()))
}

/// Under a temporary name first: who waits for the file never reads half an address.
fn write_address(path: &Path, addr: SocketAddr) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    std::fs::write(&name, format!("{addr}\n"))?;
    std::fs::rename(&name, path)
}

/// Never ends. Shows nothing unless stderr is a terminal or `verbose` says so.
async fn show_rate(sink: &SinkHandle, verbose: bool) {
    let terminal = std::io::stderr().is_terminal();
    if !terminal && !verbose {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut before = sink.counters();
    loop {
        ticks.tick().await;
        let now = sink.counters();
        let line = rate_line(&before, &now);
        if verbose {
            eprintln!("{line}");
        } else {
            // A carriage return and "clear to the end of the line", so that the line stays in place.
            eprint!("\r{line}\x1b[K");
        }
        before = now;
    }
}

fn rate_line(before: &Snapshot, now: &Snapshot) -> String {
    let seconds = now.seconds - before.seconds;
    let rate = if seconds > 0.0 { (now.messages - before.messages) as f64 / seconds } else { 0.0 };
    format!(
        "{rate:.0} messages/s · {} messages · {} recipients ({} refused, {} deferred) · {} open",
        now.messages, now.recipients_accepted, now.recipients_refused, now.recipients_deferred, now.open
    )
}

fn summary(last: &Snapshot, json: bool) -> anyhow::Result<()> {
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(last)?)?;
    } else {
        let l = last;
        writeln!(out, "messages      {} ({} octets)", l.messages, l.bytes)?;
        writeln!(
            out,
            "recipients    {} accepted, {} refused, {} deferred",
            l.recipients_accepted, l.recipients_refused, l.recipients_deferred
        )?;
        writeln!(
            out,
            "connections   {}, at most {} at a time, {} turned away",
            l.connections, l.open_max, l.connections_refused
        )?;
        writeln!(
            out,
            "dropped       {} before the dot, {} after it",
            l.dropped_before_dot, l.dropped_after_dot
        )?;
        writeln!(
            out,
            "rate          {:.0} messages/s over {:.1} s of {:.1} s",
            l.messages_per_second, l.seconds_active, l.seconds
        )?;
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_file_appears_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        write_address(&folder.path().join("port"), "127.0.0.1:2525".parse().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("port")).unwrap(), "127.0.0.1:2525\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_address_without_a_port_is_refused_with_the_remedy() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(resolve("127.0.0.1")).unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:2525"));
        assert_eq!(error.exit_code(), 64);
    }
}
