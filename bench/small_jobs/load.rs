//! The load: small jobs offered at a fixed rate, whatever becomes of the earlier ones, and drained into
//! the sink at the same time. Used by the bench and by `tests/packs.rs`.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use infeed::infeed::InfeedConfig;
use infeed::intake::{PackSettings, Packer, SmallJob};
use infeed::runner::{DrainConfig, MtaConfig, Progress, RetryPolicy, drain};
use infeed::sink::{Sink, SinkConfig};
use infeed::spool::{DirSpool, JobId, Settings};
use tokio::sync::watch;

use crate::counting::CountingFs;

/// After the last submit, the drain may take this long.
const DRAIN_WAIT: Duration = Duration::from_secs(60);

type Failure = Box<dyn Error + Send + Sync>;

/// What is offered.
#[derive(Debug, Clone)]
pub struct Load {
    pub jobs_per_second: u64,
    pub seconds: u64,
    /// Octets of a message, about.
    pub octets: usize,
    /// Where the spool is made.
    pub dir: PathBuf,
    /// The sink's ledger.
    pub ledger: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Came {
    /// Submits begun a second, and jobs that were durable by the end of the time a second.
    pub offered_per_second: f64,
    pub committed_per_second: f64,
    pub ids: Vec<JobId>,
    /// From the moment at which a submit was due to its id, sorted, in microseconds.
    pub latencies_us: Vec<u64>,
    pub packs: u64,
    /// Of the submitting side.
    pub submit_syncs: u64,
    pub submit_inodes: u64,
    /// Of the draining side.
    pub drain_syncs: u64,
    pub drain_inodes: u64,
    /// Accepted by the sink when the last submit was answered, and how long the rest took after that.
    pub accepted_in_time: u64,
    pub accepted: u64,
    pub drain_lag: Duration,
}

impl Came {
    /// The latency below which `share` of the submits stayed, in milliseconds.
    pub fn latency_ms(&self, share: f64) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies_us.get(at).map_or(0.0, |&us| us as f64 / 1_000.0)
    }
}

/// How the MTA at `mta` is drained into; `sink`: by rehearsals alone.
pub fn drain_config(mta: String, sink: bool) -> DrainConfig {
    let infeed = InfeedConfig { address: mta, connections: 4, ..InfeedConfig::default() };
    DrainConfig {
        retry: RetryPolicy { delay_s_min: 1, ..RetryPolicy::default() },
        ..DrainConfig::new(vec![MtaConfig { sink, ..MtaConfig::new("mta", infeed) }])
    }
}

fn message(number: u64, octets: usize) -> Vec<u8> {
    let mut text = format!(
        "From: Shop <shop@example.org>\r\nTo: user{number}@example.com\r\nSubject: Your order {number}\r\n\r\n"
    );
    while text.len() < octets {
        text.push_str("It is on its way, and nobody has to do anything about it any more.\r\n");
    }
    text.into_bytes()
}

/// The one recipient of a job.
pub fn recipient(number: u64) -> String {
    format!("user{number}@d{}.example", number % 499)
}

/// Offers the load, and drains it.
pub async fn run(load: &Load) -> Result<Came, Failure> {
    let spool_dir = load.dir.join("spool");
    let (submit_fs, drain_fs) = (CountingFs::default(), CountingFs::default());
    let spool = DirSpool::open_on(Arc::new(submit_fs.clone()), &spool_dir, Settings::default())?;
    let mut sink = SinkConfig::new("127.0.0.1:0".parse()?);
    sink.ledger = load.ledger.clone();
    let sink = Sink::start(sink)?;
    let accepted = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = watch::channel(false);
    let draining = tokio::spawn(drain_all(
        DirSpool::open_on(Arc::new(drain_fs.clone()), &spool_dir, Settings::default())?,
        sink.local_addr().to_string(),
        accepted.clone(),
        stopped,
    ));
    // what the opening cost is not the jobs'
    let before = (submit_fs.syncs(), submit_fs.inodes());
    let packer = Arc::new(Packer::start(spool, PackSettings { rehearsal: true, ..PackSettings::default() })?);
    let began = Instant::now();
    let in_time = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut submits = Vec::new();
    let jobs = load.jobs_per_second * load.seconds;
    for number in 0..jobs {
        let due = began + Duration::from_micros(number * 1_000_000 / load.jobs_per_second);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let (packer, in_time, over) = (packer.clone(), in_time.clone(), over.clone());
        let job = SmallJob::new(message(number, load.octets), [recipient(number)]);
        submits.push(tokio::spawn(async move {
            let id = packer.submit(job).await?;
            if !over.load(Relaxed) {
                in_time.fetch_add(1, Relaxed);
            }
            Ok::<_, Failure>((id, due.elapsed().as_micros() as u64))
        }));
    }
    let offered_in = began.elapsed().as_secs_f64();
    let until = began + Duration::from_secs(load.seconds);
    tokio::time::sleep_until(until.into()).await;
    over.store(true, Relaxed);
    let committed_in_time = in_time.load(Relaxed);
    let (mut ids, mut latencies_us) = (Vec::new(), Vec::new());
    for submit in submits {
        let (id, latency) = submit.await??;
        ids.push(id);
        latencies_us.push(latency);
    }
    latencies_us.sort_unstable();
    packer.shutdown().await;
    let (accepted_in_time, last) = (accepted.load(Relaxed), Instant::now());
    while accepted.load(Relaxed) < jobs && last.elapsed() < DRAIN_WAIT && !draining.is_finished() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let drain_lag = last.elapsed();
    stop.send_replace(true);
    draining.await??;
    sink.shutdown().await?;
    let mut packs: Vec<&str> =
        ids.iter().filter_map(|id| id.as_str().rsplit_once('.')).map(|(p, _)| p).collect();
    packs.sort_unstable();
    packs.dedup();
    Ok(Came {
        offered_per_second: jobs as f64 / offered_in.max(load.seconds as f64),
        committed_per_second: committed_in_time as f64 / load.seconds as f64,
        packs: packs.len() as u64,
        ids,
        latencies_us,
        submit_syncs: submit_fs.syncs() - before.0,
        submit_inodes: submit_fs.inodes() - before.1,
        drain_syncs: drain_fs.syncs(),
        drain_inodes: drain_fs.inodes(),
        accepted_in_time,
        accepted: accepted.load(Relaxed),
        drain_lag,
    })
}

/// Drains as the daemon does, until told to stop.
async fn drain_all(
    spool: DirSpool,
    mta: String,
    accepted: Arc<AtomicU64>,
    stop: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let progress = Progress::new();
    let config = DrainConfig { forever: true, ..drain_config(mta, true) };
    let running = drain(&spool, config, progress.clone(), stop);
    tokio::pin!(running);
    loop {
        tokio::select! {
            ended = &mut running => {
                ended?;
                accepted.store(progress.snapshot().accepted, Relaxed);
                return Ok(());
            }
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                accepted.store(progress.snapshot().accepted, Relaxed);
            }
        }
    }
}
