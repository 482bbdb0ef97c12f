//! `infeed sink` as a command: its flags, its address file, its end.

use std::time::Duration;

use clap::Parser;
use infeed::cli::sink::{SinkArgs, run};

use crate::client::{Client, read_ledger};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SinkArgs,
}

fn parse(line: &str) -> Result<SinkArgs, clap::Error> {
    Line::try_parse_from(["sink"].into_iter().chain(line.split_whitespace())).map(|line| line.args)
}

#[test]
fn every_flag_is_understood() {
    let flags = "--listen 127.0.0.1:0 --port-file p --ledger l --store s --scenario c --hostname h --seed 1 \
        --verbose --without pipelining,8bitmime,smtputf8,enhancedstatuscodes,size,dsn,chunking,xverp --size-max 1 \
        --latency-ms 1 --banner-delay-ms 1 --connections-max 1 --fail rcpt=451%5 --fail content=drop \
        --drop-before-dot-percent 0.5 --drop-after-dot-percent 5 --storage-full --refuse-connects=false \
        --knee 8 --service-us 100 --drain-rate 9 --queue-max 9 --messages-per-connection-max 9 \
        --session-limit-style opensmtpd --recipients-per-transaction-max 9 --no-group-across-dot --strict-sync";
    let settings = parse(flags).unwrap().settings;
    assert_eq!(settings.without.map(|w| w.len()), Some(8));
    assert_eq!(settings.fail.map(|f| f.len()), Some(2));
    assert_eq!((settings.storage_full, settings.refuse_connects), (Some(true), Some(false)));
    assert_eq!(settings.strict_sync, Some(true));
}

#[test]
fn impossible_values_are_refused() {
    for line in ["--fail rcpt=250", "--drop-after-dot-percent 101", "--without starttls", "--knee -1"] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[tokio::test]
async fn the_command_tells_its_port_and_ends_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let (port, ledger) = (folder.path().join("port"), folder.path().join("ledger"));
    let flags = format!("--listen 127.0.0.1:0 --port-file {} --ledger {}", port.display(), ledger.display());
    let command = tokio::spawn(run(parse(&flags).unwrap(), true));
    let mut polls = 0;
    let addr = loop {
        match std::fs::read_to_string(&port) {
            Ok(addr) => break addr.trim().parse().unwrap(),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        polls += 1;
        assert!(polls < 1_000, "the address file does not come");
    };
    let mut c = Client::ehlo(addr).await;
    assert!(c.deliver("a@example.org").await.starts_with("250 "));
    // Only now: the signal's handler stands before the address file is written.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
    assert!(c.reply().await.starts_with("421 "));
    drop(c);
    assert_eq!(command.await.unwrap().unwrap(), 0);
    assert_eq!(read_ledger(&ledger).len(), 1);
}
