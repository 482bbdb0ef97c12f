//! The engine as a library, from spool to the sink: outcomes, retries, the refusal breaker, ends.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use infeed::infeed::InfeedConfig;
use infeed::runner::{DrainConfig, DrainReport, Ended, MtaConfig, Progress, RetryPolicy, drain};
use infeed::sink::{Sink, SinkConfig, SinkHandle};
use infeed::slice::XxRange;
use infeed::spool::{
    Begin, Claim, DirSpool, JobId, JobMeta, JobState, OnDoubt, Outcome, Settings, Settled, Submission,
};
use tokio::sync::watch;

const MESSAGE: &[u8] = b"From: List <list@example.org>\r\nTo: you@example.org\r\nSubject: x\r\n\r\nHello\r\n";

/// A VERP pattern that no MTA fills in itself: one recipient a transaction.
const ONE_EACH: &str = "b+{local}.at.{domain}@example.org";

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
    toml::from_str(text).unwrap()
}

fn spool(root: &Path) -> DirSpool {
    let settings =
        Settings { chunk_recipients_max: 100, free_bytes_min: 0, free_inodes_min: 0, ..Settings::default() };
    DirSpool::open(root, settings).unwrap()
}

fn submit(
    spool: &DirSpool,
    addresses: impl Iterator<Item = String>,
    message: &[u8],
    change: impl Fn(&mut JobMeta),
) -> JobId {
    let Begin::New(mut s) = spool.begin(None).unwrap() else { panic!("a new job") };
    for a in addresses {
        s.push(&a, &[&a]).unwrap();
    }
    let meta = |s: &Submission| {
        let mut m = meta(s);
        change(&mut m);
        m
    };
    s.commit(message, meta).unwrap().job_id().unwrap()
}

fn sink(ledger: Option<&Path>, flags: &[&str]) -> SinkHandle {
    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        settings: infeed::sink::Settings,
    }
    let args = std::iter::once("sink").chain(flags.iter().copied());
    let mut config = SinkConfig::new("127.0.0.1:0".parse().unwrap());
    config.settings = <Flags as clap::Parser>::try_parse_from(args).unwrap().settings;
    config.ledger = ledger.map(Into::into);
    Sink::start(config).unwrap()
}

fn config(address: String) -> DrainConfig {
    let infeed = InfeedConfig { address, connections: 4, ..InfeedConfig::default() };
    let mta = MtaConfig {
        wait_first: Duration::from_secs(2),
        wait: Duration::from_secs(20),
        ..MtaConfig::new("mta", infeed)
    };
    DrainConfig {
        retry: RetryPolicy { delay_s_min: 1, ..RetryPolicy::default() },
        shutdown_grace: Duration::from_secs(10),
        ..DrainConfig::new(vec![mta])
    }
}

async fn run(spool: &DirSpool, config: DrainConfig) -> DrainReport {
    let (_stop, stopped) = watch::channel(false);
    drain(spool, config, Progress::new(), stopped).await.unwrap()
}

fn report(spool: &DirSpool, job: &JobId) -> HashMap<String, (Outcome, u16, bool)> {
    let mut lines = HashMap::new();
    spool
        .report(job, &mut |l| {
            assert!(lines.insert(l.address, (l.outcome, l.attempts, l.possible_repeat)).is_none());
            Ok(())
        })
        .unwrap();
    spool.view(job).unwrap().check_sum().unwrap();
    lines
}

/// Deliveries by recipient.
fn ledger(path: &Path) -> HashMap<String, usize> {
    let mut n = HashMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let v: serde_json::Value = serde_json::from_str(line).unwrap();
        *n.entry(v["recipient"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    n
}

fn people(n: usize) -> impl Iterator<Item = String> {
    (0..n).map(|i| format!("r{i}@d{}.example", i % 17))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_is_the_sinks_word_and_the_ledger_equals_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let book = dir.path().join("ledger");
    let sink = sink(Some(&book), &[]);
    let list = people(950)
        .chain((0..20).map(|i| format!("refuse-550.{i}@example.org")))
        .chain((0..20).map(|i| format!("defer-451-1x.{i}@example.org")))
        .chain((0..10).map(|i| format!("content-550.{i}@example.net")));
    // one a transaction: what is said of the content is said of one recipient
    let job = submit(&spool, list, MESSAGE, |m| {
        m.verp = Some(ONE_EACH.into());
        m.accept_refusals = true;
    });
    let config = config(sink.local_addr().to_string());
    let first = run(&spool, config.clone()).await;
    assert_eq!((first.ended, first.unfinished), (Ended::Drained, 20));
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let second = run(&spool, config).await;
    assert_eq!((second.ended, second.unfinished, second.accepted), (Ended::Drained, 0, 20));
    sink.shutdown().await.unwrap();
    assert_eq!(spool.find(&job).unwrap().0, JobState::Done);
    let (report, book) = (report(&spool, &job), ledger(&book));
    assert_eq!(report.len(), 1_000);
    for (address, (outcome, attempts, repeat)) in &report {
        let refused = address.starts_with("refuse") || address.starts_with("content");
        let deferred = u16::from(address.starts_with("defer"));
        let expected = if refused { Outcome::Refused } else { Outcome::Accepted };
        assert_eq!((*outcome, *attempts, *repeat), (expected, 1 + deferred, false), "{address}");
        assert_eq!(book.get(address).copied().unwrap_or(0), usize::from(!refused), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_refusal_breaker_pauses_the_job_and_leaves_its_recipients_pending() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let sink = sink(None, &["--fail", "rcpt=554"]);
    let job = submit(&spool, people(500), MESSAGE, |_| {});
    let report = run(&spool, config(sink.local_addr().to_string())).await;
    assert_eq!(report.paused.len(), 1, "{report:?}");
    let view = spool.view(&job).unwrap();
    assert_eq!((view.state, view.counts.of(Outcome::Pending)), (JobState::Paused, 500));
    assert!(view.standing.paused_reason.unwrap().contains("554"));
    // resumed with the refusals accepted, they are final
    spool.resume(&job, true).unwrap();
    run(&spool, config(sink.local_addr().to_string())).await;
    assert_eq!(spool.view(&job).unwrap().counts.of(Outcome::Refused), 500);
    sink.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_refusals_that_never_become_a_streak_are_final() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let sink = sink(None, &[]);
    let job = submit(&spool, (0..30).map(|i| format!("refuse-550.{i}@d{i}.example")), MESSAGE, |_| {});
    let report = run(&spool, config(sink.local_addr().to_string())).await;
    assert_eq!((report.ended, report.unfinished), (Ended::Drained, 0));
    assert_eq!(spool.view(&job).unwrap().counts.of(Outcome::Refused), 30);
    sink.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_5xx_to_shared_content_pauses_the_job_and_refuses_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let sink = sink(None, &["--fail", "content=552"]);
    let job = submit(&spool, people(300), MESSAGE, |_| {});
    let report = run(&spool, config(sink.local_addr().to_string())).await;
    assert_eq!(report.paused.len(), 1, "{report:?}");
    assert_eq!(spool.view(&job).unwrap().counts.of(Outcome::Pending), 300);
    sink.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_around_the_dot_loses_nobody_and_no_repeat_is_unmarked() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let book = dir.path().join("ledger");
    let sink = sink(Some(&book), &[]);
    let list = people(400)
        .chain((0..5).map(|i| format!("drop-after-dot-1x.{i}@example.org")))
        .chain((0..5).map(|i| format!("drop-before-dot-1x.{i}@example.org")));
    let job = submit(&spool, list, MESSAGE, |m| m.verp = Some(ONE_EACH.into()));
    for _ in 0..20 {
        let report = run(&spool, config(sink.local_addr().to_string())).await;
        if report.unfinished == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    sink.shutdown().await.unwrap();
    let (report, book) = (report(&spool, &job), ledger(&book));
    for (address, (outcome, _, repeat)) in &report {
        assert_eq!(*outcome, Outcome::Accepted, "{address}");
        let n = book.get(address).copied().unwrap_or(0);
        let twice = address.starts_with("drop-after");
        assert_eq!(n, 1 + usize::from(twice), "{address}");
        // all of the content was written when the connection went: nobody can know, so it is marked
        assert_eq!(*repeat, address.starts_with("drop-"), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_doubt_hold_leaves_them_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let book = dir.path().join("ledger");
    let sink = sink(Some(&book), &[]);
    let list = people(20).chain(std::iter::once("drop-after-dot-1x@example.org".to_owned()));
    let job = submit(&spool, list, MESSAGE, |m| {
        m.verp = Some(ONE_EACH.into());
        m.on_doubt = OnDoubt::Hold;
    });
    run(&spool, config(sink.local_addr().to_string())).await;
    sink.shutdown().await.unwrap();
    assert_eq!(report(&spool, &job)["drop-after-dot-1x@example.org"].0, Outcome::InDoubt);
    assert!(ledger(&book).values().all(|&n| n == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_sends_so_many_and_leaves_the_rest_pending() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let sink = sink(None, &[]);
    let job = submit(&spool, people(500), MESSAGE, |_| {});
    let first = DrainConfig { first: Some(37), ..config(sink.local_addr().to_string()) };
    let report = run(&spool, first).await;
    assert_eq!((report.ended, report.accepted, report.unfinished), (Ended::FirstReached, 37, 463));
    assert_eq!(spool.view(&job).unwrap().counts.of(Outcome::Pending), 463);
    let report = run(&spool, config(sink.local_addr().to_string())).await;
    assert_eq!((report.ended, report.accepted), (Ended::Drained, 463));
    sink.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_repeats_nobody_and_forgets_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let book = dir.path().join("ledger");
    let sink = sink(Some(&book), &["--latency-ms", "2"]);
    let job = submit(&spool, people(3_000), MESSAGE, |m| m.verp = Some(ONE_EACH.into()));
    let mut rounds = 0;
    loop {
        let (stop, stopped) = watch::channel(false);
        let progress = Progress::new();
        let running = tokio::spawn({
            let (spool, progress) = (spool.clone(), progress.clone());
            let config = config(sink.local_addr().to_string());
            async move { drain(&spool, config, progress, stopped).await.unwrap() }
        });
        while progress.snapshot().accepted < 300 && !running.is_finished() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stop.send_replace(true);
        let report = running.await.unwrap();
        rounds += 1;
        if report.ended == Ended::Drained {
            break;
        }
        assert_eq!(report.ended, Ended::Stopped);
        assert!(rounds < 100);
    }
    assert!(rounds > 2);
    sink.shutdown().await.unwrap();
    assert!(report(&spool, &job).values().all(|r| *r == (Outcome::Accepted, 1, false)));
    let book = ledger(&book);
    assert!(book.len() == 3_000 && book.values().all(|&n| n == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_mta_burns_no_attempts_and_a_5xx_banner_touches_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let job = submit(&spool, people(50), MESSAGE, |_| {});
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = config(unused.to_string());
    config.mtas[0].wait_first = Duration::from_millis(300);
    let report = run(&spool, config.clone()).await;
    assert!(matches!(report.ended, Ended::MtaUnavailable(_)), "{report:?}");
    let sink = sink(None, &["--fail", "banner=554"]);
    config.mtas[0].infeed.address = sink.local_addr().to_string();
    let report = run(&spool, config).await;
    assert!(matches!(report.ended, Ended::MtaPaused(_)), "{report:?}");
    sink.shutdown().await.unwrap();
    let lines = self::report(&spool, &job);
    assert!(lines.values().all(|l| *l == (Outcome::Pending, 0, false)), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_owners_of_disjoint_slices_drain_one_job_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let book = dir.path().join("ledger");
    let sink = sink(Some(&book), &[]);
    let job = submit(&spool, people(4_000), MESSAGE, |_| {});
    let halves = [XxRange { first: 0, last: 127 }, XxRange { first: 128, last: 255 }];
    let runs = halves.map(|range| {
        let (spool, config) = (spool.clone(), DrainConfig { range, ..config(sink.local_addr().to_string()) });
        tokio::spawn(async move { run(&spool, config).await })
    });
    for r in runs {
        assert_eq!(r.await.unwrap().ended, Ended::Drained);
    }
    sink.shutdown().await.unwrap();
    assert_eq!(spool.find(&job).unwrap().0, JobState::Done);
    assert!(ledger(&book).len() == 4_000 && ledger(&book).values().all(|&n| n == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_job_submitted_while_a_huge_one_drains_starts_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let sink = sink(None, &["--latency-ms", "5"]);
    submit(&spool, people(20_000), MESSAGE, |m| m.verp = Some(ONE_EACH.into()));
    let (stop, stopped) = watch::channel(false);
    let progress = Progress::new();
    let running = tokio::spawn({
        let (spool, progress, config) =
            (spool.clone(), progress.clone(), config(sink.local_addr().to_string()));
        async move { drain(&spool, config, progress, stopped).await.unwrap() }
    });
    while progress.snapshot().accepted < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let small = submit(&spool, people(40), MESSAGE, |m| m.verp = Some(ONE_EACH.into()));
    while spool.find(&small).unwrap().0 != JobState::Done {
        assert!(progress.snapshot().accepted < 19_000, "the small job waited for the huge one");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send_replace(true);
    running.await.unwrap();
    sink.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suppressed_address_is_never_sent_to_and_an_unreadable_list_sends_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let book = dir.path().join("ledger");
    let sink = sink(Some(&book), &[]);
    let list = dir.path().join("suppress");
    std::fs::write(&list, "R3@d3.example\n@d5.example\n").unwrap();
    let job = submit(&spool, people(100), MESSAGE, |m| m.suppress = Some(list.display().to_string()));
    let away = dir.path().join("away");
    std::fs::rename(&list, &away).unwrap();
    let report = run(&spool, config(sink.local_addr().to_string())).await;
    assert_eq!((report.settled, report.unfinished, report.left_alone.len()), (0, 100, 1));
    std::fs::rename(&away, &list).unwrap();
    run(&spool, config(sink.local_addr().to_string())).await;
    sink.shutdown().await.unwrap();
    let (lines, book) = (self::report(&spool, &job), ledger(&book));
    for (address, (outcome, ..)) in &lines {
        let named = address == "r3@d3.example" || address.ends_with("@d5.example");
        assert_eq!(*outcome == Outcome::Suppressed, named, "{address}");
        assert_eq!(book.contains_key(address), !named, "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rehearsals_go_to_the_sink_and_real_jobs_to_real_mtas() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let sink = sink(None, &[]);
    submit(&spool, people(10), MESSAGE, |m| m.rehearsal = true);
    let report = run(&spool, config(sink.local_addr().to_string())).await;
    assert_eq!((report.settled, report.unfinished, report.left_alone.len()), (0, 0, 1));
    // and a real job never into the sink, unless somebody insists on that one
    let real = submit(&spool, people(20), MESSAGE, |_| {});
    let mut rehearse = config(sink.local_addr().to_string());
    rehearse.mtas[0].sink = true;
    assert_eq!(run(&spool, rehearse.clone()).await.settled, 10);
    assert_eq!(run(&spool, DrainConfig { real_into_sink: vec![real], ..rehearse }).await.settled, 20);
    sink.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_that_wait_for_a_streak_never_hold_up_the_drain() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        Settings { chunk_recipients_max: 10, free_bytes_min: 0, free_inodes_min: 0, ..Settings::default() };
    let spool = DirSpool::open(&dir.path().join("spool"), settings).unwrap();
    let sink = sink(None, &[]);
    // one unknown user in each chunk, everybody else greylisted: nobody is accepted, no streak trips
    let list = (0..300).map(|i| match i % 10 {
        0 => format!("refuse-550.{i}@corp.example"),
        _ => format!("defer-451.{i}@corp.example"),
    });
    let job = submit(&spool, list, MESSAGE, |_| {});
    let slow = RetryPolicy { delay_s_min: 3_600, ..RetryPolicy::default() };
    let run = run(&spool, DrainConfig { retry: slow, ..config(sink.local_addr().to_string()) });
    let report = tokio::time::timeout(Duration::from_secs(60), run).await.unwrap();
    sink.shutdown().await.unwrap();
    assert_eq!((report.ended, report.unfinished), (Ended::Drained, 270));
    let counts = spool.view(&job).unwrap().counts;
    assert_eq!((counts.of(Outcome::Refused), counts.of(Outcome::Deferred)), (30, 270));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_last_outcome_was_recovered_is_done_after_the_next_drain() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(&dir.path().join("spool"));
    let job = submit(&spool, people(2), MESSAGE, |_| {});
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let name = owner.next_due(&job).unwrap();
    let Claim::Claimed(claimed) = owner.claim(&job, name).unwrap() else { panic!("claimed") };
    for i in 0..2 {
        owner.hand_out(&[(claimed.handle, vec![i])]).await.unwrap();
        owner.record(claimed.handle, vec![(i, Settled::local(Outcome::Accepted, 1, 1, "Ok"))]);
    }
    // dies before the pass is ended
    drop(owner);
    let report = run(&spool, config("127.0.0.1:9".to_owned())).await;
    assert_eq!((report.ended, report.unfinished), (Ended::Drained, 0));
    assert_eq!(spool.find(&job).unwrap().0, JobState::Done);
}
