//! What intake costs a row, before anything is written: read, check, find duplicates, fingerprint.
//!
//! `cargo bench --bench intake -- [ROWS]`; one thread, over a list in a temporary file.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use infeed::cli::make_list::{MakeListArgs, write_list};
use infeed::intake::{
    DuplicateFinder, Format, IntakeError, ListFingerprint, RecipientReader, Row, RowRef, address, dedupe,
};

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` says --bench; `cargo test --benches` doesn't, and only wants to see it run.
    let rows_default = if std::env::args().any(|arg| arg == "--bench") { 2_000_000 } else { 1_000 };
    let rows = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(rows_default);
    let args = MakeListArgs {
        recipients: rows,
        seed: 1,
        domains: 200,
        bad_percent: 0.0,
        duplicates_percent: 0.0,
        refuse_percent: 0.0,
        defer_percent: 0.0,
        sorted_by_domain: false,
        output: None,
    };
    let path = std::env::temp_dir().join(format!("infeed-bench-{}.csv", std::process::id()));
    let start = Clock::start()?;
    let mut file = std::io::BufWriter::with_capacity(1 << 18, fs::File::create_new(&path)?);
    write_list(&args, &mut file)?;
    drop(file);
    print("make-list", rows, start)?;
    let measured = measure(&path, rows);
    fs::remove_file(&path)?;
    measured
}

fn measure(path: &Path, rows: u64) -> Result<(), Box<dyn Error>> {
    let start = Clock::start()?;
    let mut reader = RecipientReader::open(path, Format::Auto, None)?;
    let mut row = Row::new();
    while reader.next(&mut row)?.is_some() {}
    print("read + check", rows, start)?;

    let start = Clock::start()?;
    let mut reader = RecipientReader::open(path, Format::Auto, None)?;
    let mut fingerprint = ListFingerprint::new();
    while let Some(read) = reader.next(&mut row)? {
        if let RowRef::Ok { address, values, .. } = read {
            fingerprint.row(address, values.iter());
        }
    }
    print("… + fingerprint", rows, start)?;

    let before_kib = resident_kib()?;
    let start = Clock::start()?;
    let mut reader = RecipientReader::open(path, Format::Auto, None)?;
    let mut finder = DuplicateFinder::new();
    let mut key = Vec::new();
    while let Some(read) = reader.next(&mut row)? {
        if let RowRef::Ok { address, .. } = read {
            key.clear();
            address::canonical_key(address, &mut key);
            let ordinal = dedupe::ordinal(finder.rows())?;
            finder.insert(&key, ordinal, |_| Ok::<_, IntakeError>(false))?;
        }
    }
    print("… + duplicates", rows, start)?;
    println!(
        "{:18} {:8.2} bytes/row counted, {:.2} resident",
        "",
        finder.memory_bytes() as f64 / rows as f64,
        (resident_kib()?.saturating_sub(before_kib) * 1024) as f64 / rows as f64
    );
    Ok(())
}

struct Clock {
    wall: Instant,
    cpu_ns: u64,
}

impl Clock {
    fn start() -> Result<Clock, Box<dyn Error>> {
        Ok(Clock { wall: Instant::now(), cpu_ns: cpu_ns()? })
    }
}

fn print(what: &str, rows: u64, start: Clock) -> Result<(), Box<dyn Error>> {
    let seconds = start.wall.elapsed().as_secs_f64();
    let cpu_ns = cpu_ns()? - start.cpu_ns;
    let rate = rows as f64 / seconds;
    println!("{what:18} {:6.0} ns of CPU/row {rate:10.0} rows/s", cpu_ns as f64 / rows as f64);
    Ok(())
}

/// Nanoseconds that this thread has run: other load on the machine doesn't count.
fn cpu_ns() -> Result<u64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().ok_or("an empty schedstat")?.parse()?)
}

/// The most that was resident so far.
fn resident_kib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
