//! A spool, a sink with a ledger, and drains between them.

use std::path::PathBuf;
use std::time::Duration;

use infeed::infeed::InfeedConfig;
use infeed::runner::{DrainConfig, Ended, MtaConfig, Progress, RetryPolicy, drain};
use infeed::sink::{Sink, SinkConfig, SinkHandle};
use infeed::slice::XxRange;
use infeed::spool::{Begin, DirSpool, JobMeta, Settings, Submission};
use tokio::sync::watch;

const MESSAGE: &[u8] = b"From: List <list@example.org>\r\nTo: you@example.org\r\nSubject: x\r\n\r\nHello\r\n";
const MERGED: &[u8] =
    b"From: List <list@example.org>\r\nTo: {{ email }}\r\nSubject: x\r\n\r\nHello {{ email }}\r\n";

pub struct Desk {
    dir: tempfile::TempDir,
    spool: DirSpool,
    sink: SinkHandle,
}

pub struct Options {
    pub priority: u8,
    pub merge: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { priority: 5, merge: false }
    }
}

/// One line of the ledger.
#[derive(Debug, serde::Deserialize)]
pub struct Arrival {
    pub recipient: String,
    pub connection: u64,
    pub transaction: u64,
}

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    settings: infeed::sink::Settings,
}

impl Desk {
    /// `flags`: how the sink behaves.
    pub fn new(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { free_bytes_min: 0, free_inodes_min: 0, ..Settings::default() };
        let spool = DirSpool::open(&dir.path().join("spool"), settings).unwrap();
        let args = std::iter::once("sink").chain(flags.iter().copied());
        let mut config = SinkConfig::new("127.0.0.1:0".parse().unwrap());
        config.settings = <Flags as clap::Parser>::try_parse_from(args).unwrap().settings;
        config.ledger = Some(dir.path().join("ledger"));
        Self { spool, sink: Sink::start(config).unwrap(), dir }
    }

    pub fn submit(&self, id: &str, addresses: &[String], options: &Options) {
        let Begin::New(mut s) = self.spool.begin(Some(id)).unwrap() else { panic!("{id} is there") };
        for a in addresses {
            s.push(a, &[a]).unwrap();
        }
        let meta = |_: &Submission| meta(options);
        s.commit(if options.merge { MERGED } else { MESSAGE }, meta).unwrap();
    }

    /// Does something once so many have arrived; says how many had, when it was done.
    pub async fn after(&self, arrivals: usize, act: impl FnOnce()) -> usize {
        while self.count() < arrivals {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::task::block_in_place(act);
        self.count()
    }

    /// Drains everything over so many connections.
    pub async fn drain(&self, connections: usize, recipients_max: usize) {
        self.drain_range(0, 255, connections, recipients_max).await;
    }

    pub async fn drain_range(&self, first: u8, last: u8, connections: usize, recipients_max: usize) {
        let infeed = InfeedConfig {
            address: self.sink.local_addr().to_string(),
            connections,
            recipients_per_transaction_max: recipients_max,
            ..InfeedConfig::default()
        };
        let config = DrainConfig {
            range: XxRange { first, last },
            retry: RetryPolicy { delay_s_min: 1, ..RetryPolicy::default() },
            ..DrainConfig::new(vec![MtaConfig::new("mta", infeed)])
        };
        let (_stop, stopped) = watch::channel(false);
        let report = drain(&self.spool, config, Progress::new(), stopped).await.unwrap();
        assert_eq!(report.ended, Ended::Drained);
    }

    /// Everything that has arrived, in order.
    pub fn arrivals(&self) -> Vec<Arrival> {
        let ledger = std::fs::read_to_string(self.dir.path().join("ledger")).unwrap();
        ledger.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn count(&self) -> usize {
        std::fs::read(self.dir.path().join("ledger")).unwrap().iter().filter(|b| **b == b'\n').count()
    }

    /// The file that names the domains of a job's chunks.
    pub fn domains_of(&self, id: &str) -> PathBuf {
        self.dir.path().join("spool/active").join(id).join("domains")
    }
}

fn meta(options: &Options) -> JobMeta {
    let text = r#"
        format = 1
        id = ""
        submitted_us = 0
        submitted_by = "tester"
        recipients = 0
        chunks = 0
        duplicates_dropped = 0
        rejected_lines = 0
        merge = false
        columns = ["email"]
        sender = "list@example.org"
        on_doubt = "resend"
        accept_refusals = false
        rehearsal = false
        fingerprint = "f"
        message_sha1 = ""
        message_bytes = 0
        manifest_crc32 = 0
    "#;
    let mut meta: JobMeta = toml::from_str(text).unwrap();
    meta.priority = options.priority;
    meta.merge = options.merge;
    meta
}
