//! One small mailing into the sink, over a wire that is cut; and what must be true of everybody then.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use infeed::config::TlsMode;
use infeed::infeed::{InfeedConfig, TlsConfig};
use infeed::runner::{DrainConfig, DrainReport, Ended, MtaConfig, Progress, RetryPolicy, drain};
use infeed::sink::{Extension, Sink, SinkConfig};
use infeed::spool::{Begin, DirSpool, JobId, JobMeta, Outcome, ReportLine, Settings, Submission};
use memchr::memmem;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::common::certificates::Authority;
use super::common::ledger::{Entry, read_ledger};
use super::cut::{Carried, Cut, Wire};
use super::front::Front;

const MESSAGE: &[u8] =
    b"From: List <list@example.org>\r\nSubject: x\r\nMessage-ID: <1@example.org>\r\n\r\n.dots\r\n.\r\n";

/// Recipients a transaction.
pub const RECIPIENTS_MAX: usize = 2;

/// What they are named for happens to them; everybody else is accepted.
const RECIPIENTS: [&str; 13] = [
    "a@d1.example",
    "b@d2.example",
    "refuse-550@d1.example",
    "c@d2.example",
    "defer-451-1x@d3.example",
    "d@d3.example",
    "e@d1.example",
    "f@d2.example",
    "refuse-551@d4.example",
    "refuse-554@d4.example",
    "g@d5.example",
    "h@d5.example",
    "i@d1.example",
];

/// A bound for one round: a hang is a failure, not a stuck test.
const ROUND_MAX: Duration = Duration::from_secs(120);

/// How the messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// DATA, each envelope in one group with the final dot before it.
    Data,
    /// No PIPELINING.
    LockStep,
    /// BDAT, one message a group.
    Bdat1,
    /// BDAT, up to four messages a group.
    Bdat4,
    /// DATA, and the MTA makes the senders.
    Xverp,
    /// DATA under STARTTLS.
    Tls,
    /// BDAT in groups under STARTTLS.
    TlsBdat4,
}

impl Mode {
    /// D of the bound N × D × R.
    fn depth(self) -> usize {
        if matches!(self, Mode::Bdat4 | Mode::TlsBdat4) { 4 } else { 1 }
    }

    /// How many rounds in clear text one of this mode costs.
    pub fn cost(self) -> usize {
        if self.is_tls() { 2 } else { 1 }
    }

    fn is_bdat(self) -> bool {
        matches!(self, Mode::Bdat1 | Mode::Bdat4 | Mode::TlsBdat4)
    }

    fn is_tls(self) -> bool {
        matches!(self, Mode::Tls | Mode::TlsBdat4)
    }

    fn without(self) -> Vec<Extension> {
        match self {
            Mode::LockStep => vec![Extension::Pipelining, Extension::Chunking],
            _ => vec![],
        }
    }
}

/// What the rounds of a mode share.
pub struct Course {
    mode: Mode,
    place: PathBuf,
    /// The server's side of TLS, and the file of the root that it leads to.
    tls: Option<(TlsAcceptor, PathBuf)>,
    _roots: tempfile::TempDir,
}

impl Course {
    pub fn new(mode: Mode) -> Self {
        let roots = tempfile::tempdir().expect("a temporary folder");
        let tls = mode.is_tls().then(|| {
            let authority = Authority::named("the test's own root");
            let path = roots.path().join("roots.pem");
            authority.write(&path);
            (authority.sign(&["127.0.0.1"]).acceptor(), path)
        });
        // nothing here is to outlive a power cut: in memory thousands of spools cost little
        let memory = PathBuf::from("/dev/shm");
        let place = if tempfile::tempdir_in(&memory).is_ok() { memory } else { std::env::temp_dir() };
        Self { mode, place, tls, _roots: roots }
    }

    /// Drains the mailing over a wire with these cuts, and judges; gives what each connection carried.
    pub async fn round(self: Arc<Self>, cuts: Vec<Cut>) -> Result<Vec<Carried>, String> {
        let round = self.round_unbounded(&cuts);
        let played = tokio::time::timeout(ROUND_MAX, round).await;
        let played = played.unwrap_or_else(|_| Err("it hangs".to_owned()));
        played.map_err(|what| format!("{:?} {cuts:?}: {what}", self.mode))
    }

    async fn round_unbounded(&self, cuts: &[Cut]) -> Result<Vec<Carried>, String> {
        let dir = tempfile::tempdir_in(&self.place).expect("a temporary folder");
        let spool = spool(&dir.path().join("spool"));
        let job = self.submit(&spool);
        let book = dir.path().join("ledger");
        let mut sink = SinkConfig::new("127.0.0.1:0".parse().expect("an address"));
        sink.settings.without = Some(self.mode.without());
        sink.ledger = Some(book.clone());
        let sink = Sink::start(sink).expect("the sink starts");
        let mut target = sink.local_addr();
        let front = match &self.tls {
            Some((tls, _)) => Some(Front::start(target, tls.clone()).await),
            None => None,
        };
        if let Some(front) = &front {
            target = front.address;
        }
        let wire = Wire::start(target, cuts).await;
        let drained = self.drain(&spool, &wire).await;
        let carried = wire.carried();
        drop((wire, front));
        sink.shutdown().await.expect("the ledger was written");
        let judge =
            Judge { mode: self.mode, losses: cuts.len(), carried: &carried, ledger: &read_ledger(&book) };
        judge.all(&drained, &report(&spool, &job))?;
        Ok(carried)
    }

    fn submit(&self, spool: &DirSpool) -> JobId {
        let Begin::New(mut submission) = spool.begin(None).expect("a spool that takes jobs") else {
            panic!("a new job")
        };
        for address in RECIPIENTS {
            submission.push(address, &[address]).expect("a recipient");
        }
        let verp = (self.mode == Mode::Xverp).then(|| "bounces-{job}@host.example".to_owned());
        let meta = |submission: &Submission| JobMeta { verp: verp.clone(), ..meta(submission) };
        let committed = submission.commit(MESSAGE, meta).expect("a job is taken");
        committed.job_id().expect("a job of its own")
    }

    async fn drain(&self, spool: &DirSpool, wire: &Wire) -> DrainReport {
        let mut infeed = InfeedConfig {
            address: wire.address.to_string(),
            connections: 1,
            recipients_per_transaction_max: RECIPIENTS_MAX,
            reconnect_delay_ms_min: 1,
            reconnect_delay_ms_max: 5,
            connect_refused_hold_ms: 5,
            chunking: self.mode.is_bdat(),
            pipelining_depth_max: self.mode.depth(),
            ..InfeedConfig::default()
        };
        if let Some((_, roots)) = &self.tls {
            infeed.tls =
                TlsConfig { mode: TlsMode::StartTls, ca_file: Some(roots.clone()), ..TlsConfig::default() };
        }
        let mta = MtaConfig { wait_first: ROUND_MAX, wait: ROUND_MAX, ..MtaConfig::new("mta", infeed) };
        let config = DrainConfig {
            retry: RetryPolicy { delay_s_min: 0, delay_s_max: 0, ..RetryPolicy::default() },
            ..DrainConfig::new(vec![mta])
        };
        let (_stop, stopped) = watch::channel(false);
        drain(spool, config, Progress::new(), stopped).await.expect("the spool is ours")
    }
}

fn spool(root: &Path) -> DirSpool {
    let settings = Settings {
        progress_commit_ms: 1,
        journal_segment_bytes: 64 << 10,
        free_bytes_min: 0,
        free_inodes_min: 0,
        ..Settings::default()
    };
    DirSpool::open(root, settings).expect("a new spool")
}

fn meta(_: &Submission) -> JobMeta {
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
    toml::from_str(text).expect("a job's description")
}

fn report(spool: &DirSpool, job: &JobId) -> Vec<ReportLine> {
    let mut lines = Vec::new();
    let told = spool.report(job, &mut |line| {
        lines.push(line);
        Ok(())
    });
    told.expect("a report");
    spool.view(job).expect("the job").check_sum().expect("counts that sum");
    lines
}

/// What is held against each other when a round is over.
struct Judge<'a> {
    mode: Mode,
    losses: usize,
    carried: &'a [Carried],
    ledger: &'a [Entry],
}

impl Judge<'_> {
    fn all(&self, drained: &DrainReport, report: &[ReportLine]) -> Result<(), String> {
        if drained.ended != Ended::Drained || drained.unfinished != 0 || !drained.paused.is_empty() {
            return Err(format!("the drain ended otherwise: {drained:?}"));
        }
        let mut taken: HashMap<&str, usize> = HashMap::new();
        for entry in self.ledger {
            *taken.entry(&entry.recipient).or_default() += 1;
            // never a part of it
            if entry.content_sha1 != self.ledger[0].content_sha1 {
                return Err(format!("another content: {entry:?}"));
            }
        }
        let mut addresses: Vec<&str> = report.iter().map(|line| line.address.as_str()).collect();
        addresses.sort_unstable();
        let mut all = RECIPIENTS;
        all.sort_unstable();
        if addresses != all {
            return Err(format!("the report has {addresses:?}"));
        }
        for line in report {
            self.one(line, taken.get(line.address.as_str()).copied().unwrap_or(0))
                .map_err(|what| format!("{what}: {line:?}"))?;
        }
        self.doubts(report.iter().filter(|line| line.possible_repeat).count())
    }

    /// One recipient, who is in the ledger so many times.
    fn one(&self, line: &ReportLine, times: usize) -> Result<(), String> {
        let refused = line.address.starts_with("refuse-");
        let due = if refused { Outcome::Refused } else { Outcome::Accepted };
        // what the address asks for, and the third loss of one transaction (docs/wire.md)
        let deferrals = usize::from(line.address.starts_with("defer-"));
        let attempts_max = 1 + deferrals + self.losses / 2;
        if line.outcome != due {
            return Err(format!("{due:?} is due"));
        }
        if refused && (times > 0 || !line.address.contains(&line.code.to_string())) {
            return Err(format!("taken {times} times, or refused with another code"));
        }
        if !refused && times == 0 {
            return Err("accepted, and not in the ledger".to_owned());
        }
        if times > 1 && !line.possible_repeat {
            return Err(format!("taken {times} times, and not marked"));
        }
        if times > 1 + self.losses {
            return Err(format!("taken {times} times with {} losses", self.losses));
        }
        if !(1..=attempts_max).contains(&usize::from(line.attempts)) {
            return Err(format!("1 to {attempts_max} attempts are due"));
        }
        Ok(())
    }

    /// So many are marked.
    fn doubts(&self, marked: usize) -> Result<(), String> {
        let bound = self.losses * self.mode.depth() * RECIPIENTS_MAX;
        if marked > bound {
            return Err(format!("{marked} in doubt, at most {bound} may be"));
        }
        // content is only written once its 354 has come
        let began = self.carried.iter().any(|c| memmem::find(&c.to_client, b"354 ").is_some());
        if marked > 0 && !began && !self.mode.is_bdat() && !self.mode.is_tls() {
            return Err(format!("{marked} in doubt, and no content was begun"));
        }
        Ok(())
    }
}
