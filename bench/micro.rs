//! Micro-benchmarks of the hot parts, each by itself: what a delivery costs the engine beside system calls.
//!
//! `cargo bench --bench micro`, or `bench/run micro` for a table beside the committed figures. `reference`
//! is plain arithmetic over 4 KiB: `bench/run` divides by it, so that figures of two machines compare.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use infeed::infeed::parse_reply;
use infeed::intake::{PackSettings, Packer, SmallJob};
use infeed::message::{CompileOptions, RecipientView, Template, wire_encode};
use infeed::slice::XxRange;
use infeed::spool::chunk::{Chunk, ChunkHeader, ChunkWriter, RecipientState};
use infeed::spool::fs::RealFs;
use infeed::spool::journal::JournalWriter;
use infeed::spool::owner::DirOwner;
use infeed::spool::results::Settled;
use infeed::spool::{DirSpool, JobId, Outcome, Settings, Spool};

type Failure = Box<dyn Error + Send + Sync>;

const OCTETS: usize = 4096;
/// Recipients of a shared transaction, as everywhere in the bench.
const RECIPIENTS: usize = 50;
const CHUNK_RECIPIENTS: usize = 1000;
const SCANNED_JOBS: u64 = 32;
const ALL: XxRange = XxRange { first: 0, last: 255 };

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .sample_size(30)
        .configure_from_args();
    reference(&mut criterion);
    render(&mut criterion)?;
    dot_stuffing(&mut criterion);
    replies(&mut criterion)?;
    journal(&mut criterion)?;
    chunk(&mut criterion)?;
    slice_scan(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn reference(criterion: &mut Criterion) {
    let octets: Vec<u8> = (0..OCTETS).map(|i| i as u8).collect();
    criterion.bench_function("reference", |b| {
        b.iter(|| {
            black_box(&octets).iter().fold(1_u64, |sum, &octet| {
                // each step waits for the one before: no machine does it several octets at a time
                (sum ^ u64::from(octet)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            })
        });
    });
}

/// A template of 4 KiB over four columns, the next recipient each time.
fn render(criterion: &mut Criterion) -> Result<(), Failure> {
    let mut raw = String::from(
        "From: Bench <news@bench.example>\nTo: {{ address }}\nSubject: {{ first_name }}, it is open\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\
         Dear {{ first_name }},\n\nsee you in {{ city }} ({{ plan }}).\n\
         https://bench.example/u?t={{ unsubscribe_token }}\n\n",
    );
    while raw.len() < OCTETS {
        raw.push_str("The towpath is open again between the old mill and the lock, all of it.\n");
    }
    let columns = ["first_name", "city", "plan", "unsubscribe_token"].map(str::to_owned);
    let options = CompileOptions {
        merge: true,
        columns: &columns,
        job: "20261122-080000-aaaaaa",
        submitted_us: 1_793_000_000_000_000,
        message_id_domain: "bench.example",
        verp: Some("bounces@bench.example"),
        sender: None,
        allow_placeholders: false,
    };
    let template = Template::compile(raw.as_bytes(), &options)?;
    let tokens: Vec<String> = (0..CHUNK_RECIPIENTS).map(|i| format!("{i:032x}")).collect();
    let addresses: Vec<String> =
        (0..CHUNK_RECIPIENTS).map(|i| format!("user{i}@d{}.example", i % 200)).collect();
    let mut group = criterion.benchmark_group("render");
    group.throughput(Throughput::Elements(1));
    group.bench_function("merged_4k", |b| {
        let mut ordinal = 0;
        b.iter(|| {
            ordinal = (ordinal + 1) % CHUNK_RECIPIENTS;
            let values = ["Ada", "Leeds", "monthly", tokens[ordinal].as_str()];
            template.render(&RecipientView {
                ordinal: ordinal as u64,
                address: &addresses[ordinal],
                values: &values,
            })
        });
    });
    group.finish();
    Ok(())
}

/// Raw content to wire form: nothing to stuff, and a dot on every line.
fn dot_stuffing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dot_stuffing");
    group.throughput(Throughput::Bytes(OCTETS as u64));
    let line = "The towpath is open again between the old mill and the lock, all of it.\r\n";
    let plain = line.repeat(OCTETS.div_ceil(line.len()));
    let dotted = plain.replace("The", ".he");
    for (name, raw) in [("plain_4k", &plain), ("dotted_4k", &dotted)] {
        group.bench_function(name, |b| b.iter(|| wire_encode(black_box(raw.as_bytes()))));
    }
    group.finish();
}

/// The replies to a group of 50 recipients, as Postfix words them.
fn replies(criterion: &mut Criterion) -> Result<(), Failure> {
    let mut octets = b"250 2.0.0 Ok: queued as 4Xyz12abcdZ1234\r\n250 2.1.0 Ok\r\n".to_vec();
    octets.extend(b"250 2.1.5 Ok\r\n".repeat(RECIPIENTS));
    octets.extend(b"354 End data with <CR><LF>.<CR><LF>\r\n");
    let expected = RECIPIENTS + 3;
    let all = |mut rest: &[u8]| {
        let mut found = 0;
        while let Ok(Some((reply, taken))) = parse_reply(rest) {
            black_box(reply.code);
            rest = &rest[taken..];
            found += 1;
        }
        found
    };
    if all(&octets) != expected {
        return Err(format!("{} of {expected} replies were found", all(&octets)).into());
    }
    let mut group = criterion.benchmark_group("replies");
    group.throughput(Throughput::Elements(expected as u64));
    group.bench_function("group_of_50", |b| b.iter(|| all(black_box(&octets))));
    group.finish();
    Ok(())
}

fn outcome(index: u16) -> Settled {
    Settled {
        outcome: Outcome::Accepted,
        attempts: 1,
        possible_repeat: false,
        at_us: 1_793_000_000_000_000 + u64::from(index),
        code: 250,
        text: "2.0.0 Ok: queued as 4Xyz12abcdZ1234".to_owned(),
        queue_id: "4Xyz12abcdZ1234".to_owned(),
        due_us: 0,
        deferred_since_us: 0,
    }
}

/// What one transaction writes: outcomes, and that the next one is handed out; to a file that is not synced.
fn journal(criterion: &mut Criterion) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut group = criterion.benchmark_group("journal");
    for (name, recipients) in [("append_1", 1), ("append_50", RECIPIENTS as u16)] {
        let handed: Vec<u16> = (0..recipients).collect();
        let outcomes: Vec<(u16, Settled)> = handed.iter().map(|&index| (index, outcome(index))).collect();
        let dir = folder.path().join(name);
        std::fs::create_dir(&dir)?;
        let mut writer = JournalWriter::create(Arc::new(RealFs), &dir, ALL, 1, 16 << 20, "bench")?;
        let mut failed = None;
        group.throughput(Throughput::Elements(u64::from(recipients)));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut step = || {
                    if writer.is_full() {
                        writer.rotate(&mut std::iter::empty())?;
                    }
                    for (index, outcome) in &outcomes {
                        writer.note_outcome(1, *index, outcome);
                    }
                    writer.note_handed(1, &handed);
                    writer.flush()
                };
                failed = step().err().or(failed.take());
            });
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    group.finish();
    Ok(())
}

/// A chunk of 1,000 recipients as a claim reads it: checked, and each recipient looked at.
fn chunk(criterion: &mut Criterion) -> Result<(), Failure> {
    let job: JobId = "20261122-080000-aaaaaa".parse()?;
    let mut writer = ChunkWriter::default();
    for i in 0..CHUNK_RECIPIENTS as u64 {
        let values = ["Ada", "Leeds", "monthly", "0123456789abcdef0123456789abcdef"];
        let address = format!("user{i}@d{}.example", i % 200);
        writer.push(i, &address, values.into_iter(), &RecipientState::default());
    }
    let octets = writer.finish(&ChunkHeader { job, number: 0, parent: None, deaths: 0 });
    let mut group = criterion.benchmark_group("chunk");
    group.throughput(Throughput::Elements(CHUNK_RECIPIENTS as u64));
    group.bench_function("read_1000", |b| {
        b.iter_batched(
            || octets.clone(),
            |octets| {
                let Ok(chunk) = Chunk::parse(octets) else { return 0 };
                (0..chunk.len()).filter_map(|i| chunk.recipient(i).ok()).map(|r| r.address.len()).sum()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
    Ok(())
}

/// An owner's look at what is due: 32 jobs wait, nothing is new.
fn slice_scan(criterion: &mut Criterion) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let spool = DirSpool::open(folder.path(), Settings::default())?;
    let owner = runtime.block_on(async {
        let settings = PackSettings { rehearsal: true, ..PackSettings::default() };
        let packer = Packer::start(spool.clone(), settings)?;
        for number in 0..SCANNED_JOBS {
            // one after the other: each becomes a job of its own
            let text = format!("From: a@bench.example\r\nSubject: {number}\r\n\r\nhello\r\n");
            packer.submit(SmallJob::new(text.into_bytes(), [format!("user{number}@d.example")])).await?;
        }
        packer.shutdown().await;
        Ok::<_, Failure>(Spool::own(&spool, ALL).await?)
    })?;
    let jobs = DirOwner::scan(&owner)?.len();
    if jobs as u64 != SCANNED_JOBS {
        return Err(format!("{jobs} of {SCANNED_JOBS} jobs were found").into());
    }
    let mut group = criterion.benchmark_group("slice");
    group.throughput(Throughput::Elements(SCANNED_JOBS));
    group.bench_function("scan_32_jobs", |b| b.iter(|| DirOwner::scan(&owner).map(|due| due.len())));
    group.finish();
    Ok(())
}
