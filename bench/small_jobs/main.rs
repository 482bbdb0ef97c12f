//! Small jobs through the library's API: submitted at a fixed rate, every one durable before it is
//! acknowledged, and drained into the sink beside it, all in this process.
//!
//! `cargo bench --bench small_jobs -- [--rate JOBS/S] [--seconds S] [--octets N] [--dir DIR]` prints one line
//! of JSON. `bench/run small-jobs` makes a table of several.

mod counting;
mod load;

use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // `cargo bench` says --bench; `cargo test --benches` doesn't, and only wants to see it run
    let in_earnest = std::env::args().any(|arg| arg == "--bench");
    let rate = number("--rate")?.unwrap_or(1_000);
    let seconds = number("--seconds")?.unwrap_or(if in_earnest { 60 } else { 1 });
    let octets = number("--octets")?.unwrap_or(4_096);
    let parent = text("--dir").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("infeed-small-jobs-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let load = load::Load {
        jobs_per_second: rate,
        seconds,
        octets: usize::try_from(octets)?,
        dir: dir.clone(),
        ledger: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let came = runtime.block_on(load::run(&load));
    let left = inodes(&dir.join("spool"));
    std::fs::remove_dir_all(&dir)?;
    let came = came?;
    let jobs = came.ids.len() as f64;
    let each = |n: u64| n as f64 / jobs;
    let line = serde_json::json!({
        "rate": rate,
        "seconds": seconds,
        "octets": octets,
        "jobs": came.ids.len(),
        "offered_per_s": came.offered_per_second,
        "committed_per_s": came.committed_per_second,
        "latency_ms_p50": came.latency_ms(0.5),
        "latency_ms_p99": came.latency_ms(0.99),
        "latency_ms_max": came.latency_ms(1.0),
        "packs": came.packs,
        "jobs_a_pack": jobs / came.packs as f64,
        "submit_syncs_a_job": each(came.submit_syncs),
        "drain_syncs_a_job": each(came.drain_syncs),
        "inodes_a_job": each(left?),
        "accepted": came.accepted,
        "accepted_in_time": came.accepted_in_time,
        "drain_lag_s": came.drain_lag.as_secs_f64(),
        "submit_inodes_a_job": each(came.submit_inodes),
        "drain_inodes_a_job": each(came.drain_inodes),
    });
    println!("{line}");
    Ok(())
}

/// Files and folders under `path`.
fn inodes(path: &Path) -> std::io::Result<u64> {
    let mut n = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        n += 1;
        if entry.file_type()?.is_dir() {
            n += inodes(&entry.path())?;
        }
    }
    Ok(n)
}

fn text(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn number(name: &str) -> Result<Option<u64>, std::num::ParseIntError> {
    text(name).map(|value| value.parse()).transpose()
}
