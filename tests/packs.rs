//! Small jobs in packs, end to end: submitted by the library, drained into the sink, told of by their ids.

#[path = "../bench/small_jobs/counting.rs"]
mod counting;
#[allow(dead_code, reason = "the bench tells more of a load than the tests look at")]
#[path = "../bench/small_jobs/load.rs"]
mod load;
mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::binary::infeed;
use common::ledger::{Entry, read_ledger};
use infeed::intake::{PackError, PackSettings, Packer, SmallJob};
use infeed::runner::{DrainReport, Ended, Progress, drain};
use infeed::sink::{Sink, SinkConfig, SinkHandle};
use infeed::spool::{DirSpool, JobId, JobState, Outcome, Settings};
use tokio::sync::watch;

fn spool(dir: &Path) -> DirSpool {
    let settings = Settings { free_bytes_min: 0, free_inodes_min: 0, ..Settings::default() };
    DirSpool::open(&dir.join("spool"), settings).unwrap()
}

fn sink(dir: &Path, flags: &[&str]) -> SinkHandle {
    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        settings: infeed::sink::Settings,
    }
    let args = std::iter::once("sink").chain(flags.iter().copied());
    let mut config = SinkConfig::new("127.0.0.1:0".parse().unwrap());
    config.settings = <Flags as clap::Parser>::try_parse_from(args).unwrap().settings;
    config.ledger = Some(dir.join("ledger"));
    config.store = Some(dir.join("store"));
    std::fs::create_dir_all(dir.join("store")).unwrap();
    Sink::start(config).unwrap()
}

async fn run(spool: &DirSpool, sink: &SinkHandle) -> DrainReport {
    let (_stop, stopped) = watch::channel(false);
    drain(spool, load::drain_config(sink.local_addr().to_string(), false), Progress::new(), stopped)
        .await
        .unwrap()
}

fn packer(spool: &DirSpool, change: impl Fn(&mut PackSettings)) -> Arc<Packer> {
    // long enough for all jobs of a test to meet in one pack
    let mut settings = PackSettings { linger_ms: 300, interval_ms_min: 0, ..PackSettings::default() };
    change(&mut settings);
    Arc::new(Packer::start(spool.clone(), settings).unwrap())
}

fn job(from: &str, recipients: &[&str]) -> SmallJob {
    let message =
        format!("From: <{from}>\nSubject: for {}\nBcc: spy@example.org\n\nHello\n", recipients.join(" "));
    SmallJob::new(message.into_bytes(), recipients.iter().map(|&r| r.to_owned()))
}

/// Submits all of them at the same time.
async fn submit_all(packer: &Arc<Packer>, jobs: Vec<SmallJob>) -> Vec<Result<JobId, PackError>> {
    let submits: Vec<_> = jobs
        .into_iter()
        .map(|job| {
            let packer = packer.clone();
            tokio::spawn(async move { packer.submit(job).await })
        })
        .collect();
    let mut answers = Vec::new();
    for submit in submits {
        answers.push(submit.await.unwrap());
    }
    answers
}

fn pack_of(member: &JobId) -> JobId {
    member.as_str().rsplit_once('.').unwrap().0.parse().unwrap()
}

fn outcomes(spool: &DirSpool, job: &JobId) -> HashMap<String, Outcome> {
    let mut lines = HashMap::new();
    spool
        .report(job, &mut |l| {
            assert!(lines.insert(l.address, l.outcome).is_none());
            Ok(())
        })
        .unwrap();
    spool.view(job).unwrap().check_sum().unwrap();
    lines
}

fn by_recipient(dir: &Path) -> HashMap<String, Vec<Entry>> {
    let mut by: HashMap<String, Vec<Entry>> = HashMap::new();
    for entry in read_ledger(&dir.join("ledger")) {
        by.entry(entry.recipient.clone()).or_default().push(entry);
    }
    by
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_arrive_together_share_a_pack_and_each_sends_its_own_message() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, sink) = (spool(dir.path()), sink(dir.path(), &[]));
    let packer = packer(&spool, |_| {});
    let jobs = vec![
        job("a@example.org", &["one@d1.example"]),
        job("b@example.org", &["two@d2.example", "three@d3.example"]),
        SmallJob { sender: Some(String::new()), ..job("c@example.org", &["four@d4.example"]) },
    ];
    let ids: Vec<JobId> = submit_all(&packer, jobs).await.into_iter().map(Result::unwrap).collect();
    let pack = pack_of(&ids[0]);
    assert!(ids.iter().all(|id| pack_of(id) == pack), "{ids:?}");
    assert_eq!(spool.view(&pack).unwrap().meta.pack, Some(3));
    let report = run(&spool, &sink).await;
    assert_eq!((report.ended, report.accepted, report.unfinished), (Ended::Drained, 4, 0));
    sink.shutdown().await.unwrap();
    assert_eq!(spool.view(&ids[1]).unwrap().state, JobState::Done);
    assert_eq!(outcomes(&spool, &ids[1]).len(), 2);
    let book = by_recipient(dir.path());
    let senders = [("one@d1", "a@example.org"), ("two@d2", "b@example.org"), ("four@d4", "")];
    for (recipient, sender) in senders {
        let entries = &book[&format!("{recipient}.example")];
        assert_eq!((entries.len(), entries[0].sender.as_str()), (1, sender));
    }
    // one message for the two recipients of one job, and its Message-ID is the member's
    let (two, three) = (&book["two@d2.example"][0], &book["three@d3.example"][0]);
    assert_eq!(two.content_sha1, three.content_sha1);
    assert_eq!(two.message_id.as_deref(), Some(format!("<{}@example.org>", ids[1]).as_str()));
    for stored in std::fs::read_dir(dir.path().join("store")).unwrap() {
        let message = String::from_utf8(std::fs::read(stored.unwrap().path()).unwrap()).unwrap();
        assert!(!message.contains("spy@"), "Bcc left: {message}");
        assert!(message.contains("\r\nDate: ") && !message.replace("\r\n", "").contains('\n'), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_job_gets_its_error_and_spoils_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(dir.path());
    let packer = packer(&spool, |s| s.bytes_max = 64 << 10);
    let answers = submit_all(
        &packer,
        vec![
            job("a@example.org", &["one@d1.example"]),
            job("a@example.org", &["not an address"]),
            SmallJob::new(b"From: a@example.org\n\nnul \0\n".to_vec(), ["x@d.example".to_owned()]),
            job("a@example.org", &[]),
            SmallJob::new(vec![b'x'; 100 << 10], ["x@d.example".to_owned()]),
            job("a@example.org", &["two@d2.example"]),
        ],
    )
    .await;
    assert!(matches!(answers[1], Err(PackError::Recipient { place: 0, .. })));
    assert!(matches!(answers[2], Err(PackError::Message(_))));
    assert!(matches!(answers[3], Err(PackError::NoRecipients)));
    assert!(matches!(answers[4], Err(PackError::TooLarge { .. })));
    let good = [answers[0].as_ref().unwrap(), answers[5].as_ref().unwrap()];
    assert_eq!(spool.view(&pack_of(good[0])).unwrap().meta.pack, Some(2));
    assert!(good.iter().all(|id| spool.view(id).unwrap().counts.of(Outcome::Pending) == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_commits_what_waits_and_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(dir.path());
    let packer = packer(&spool, |s| s.linger_ms = 600_000);
    // polled in this order: the job is taken, and then its packer is shut down
    let submit = packer.submit(job("a@example.org", &["one@d1.example"]));
    let (answer, ()) = tokio::join!(biased; submit, packer.shutdown());
    assert_eq!(spool.view(&answer.unwrap()).unwrap().counts.of(Outcome::Pending), 1);
    let late = packer.submit(job("a@example.org", &["two@d2.example"])).await;
    assert!(matches!(late, Err(PackError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_packer_commits_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(dir.path());
    let packer = packer(&spool, |s| s.linger_ms = 600_000);
    let submit = packer.submit(job("a@example.org", &["one@d1.example"]));
    // taken, and waiting
    assert!(tokio::time::timeout(Duration::from_millis(200), submit).await.is_err());
    drop(packer);
    while spool.views().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(spool.views().unwrap().remove(0).unwrap().meta.recipients, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_pending_bytes_submits_wait_and_all_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(dir.path());
    let packer = packer(&spool, |s| {
        (s.linger_ms, s.bytes_max, s.pending_bytes_max) = (0, 4 << 10, 4 << 10);
    });
    let jobs = (0..40).map(|i| job("a@example.org", &[&format!("r{i}@d.example")])).collect();
    let ids: Vec<JobId> = submit_all(&packer, jobs).await.into_iter().map(Result::unwrap).collect();
    let views = spool.views().unwrap();
    assert!(views.len() >= 10, "four jobs of a KiB at a time fit, {} packs were made", views.len());
    assert_eq!(views.into_iter().map(|v| v.unwrap().meta.recipients).sum::<u64>(), 40);
    assert!(ids.iter().all(|id| spool.view(id).is_ok()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_mta_says_to_one_member_is_not_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, sink) = (spool(dir.path()), sink(dir.path(), &[]));
    let packer = packer(&spool, |_| {});
    let jobs =
        ["content-552@d1.example", "refuse-550@d2.example", "defer-451-1x@d3.example", "ok@d4.example"];
    let jobs = jobs.iter().map(|r| job("a@example.org", &[r])).collect();
    let ids: Vec<JobId> = submit_all(&packer, jobs).await.into_iter().map(Result::unwrap).collect();
    run(&spool, &sink).await;
    let of = |id: &JobId| outcomes(&spool, id).into_values().next().unwrap();
    assert_eq!(
        ids.iter().map(of).collect::<Vec<_>>(),
        [Outcome::Refused, Outcome::Refused, Outcome::Deferred, Outcome::Accepted]
    );
    // the retry is rendered from its member's message again
    while run(&spool, &sink).await.unfinished > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    sink.shutdown().await.unwrap();
    assert_eq!(outcomes(&spool, &ids[2]).into_values().next(), Some(Outcome::Accepted));
    let book = by_recipient(dir.path());
    let id = book["defer-451-1x@d3.example"][0].message_id.clone().unwrap();
    assert_eq!(id, format!("<{}@example.org>", ids[2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_of_the_mta_that_refuses_every_sender_pauses_the_pack() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, sink) = (spool(dir.path()), sink(dir.path(), &["--fail", "mail=550"]));
    let packer = packer(&spool, |_| {});
    let jobs = (0..6).map(|i| job(&format!("s{i}@example.org"), &[&format!("r{i}@d{i}.example")])).collect();
    let ids: Vec<JobId> = submit_all(&packer, jobs).await.into_iter().map(Result::unwrap).collect();
    let report = run(&spool, &sink).await;
    sink.shutdown().await.unwrap();
    assert_eq!(report.paused.len(), 1, "{report:?}");
    let view = spool.view(&pack_of(&ids[0])).unwrap();
    assert_eq!((view.state, view.counts.of(Outcome::Pending)), (JobState::Paused, 6));
    assert_eq!(spool.view(&ids[3]).unwrap().state, JobState::Paused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_know_a_pack_and_its_members() {
    let dir = tempfile::tempdir().unwrap();
    let packer = packer(&spool(dir.path()), |_| {});
    let jobs = vec![
        job("a@example.org", &["one@d1.example"]),
        job("b@example.org", &["two@d2.example", "x@d3.example"]),
    ];
    let ids: Vec<JobId> = submit_all(&packer, jobs).await.into_iter().map(Result::unwrap).collect();
    let (pack, second) = (pack_of(&ids[0]), ids[1].as_str());
    let infeed = |words: &[&str]| infeed(["--spool"]).arg(dir.path().join("spool")).args(words).run();
    let table = infeed(&["jobs"]).expect_code(0).stdout;
    assert_eq!(table.lines().count(), 2, "a line for the pack, none for its members: {table}");
    assert!(table.contains("a pack of 2 jobs"), "{table}");
    let shown = infeed(&["job", "show", second, "--json"]).expect_code(0).json();
    assert_eq!((&shown["recipients"], &shown["pending"]), (&2.into(), &2.into()));
    assert_eq!((&shown["sender"], &shown["pack"]), (&"b@example.org".into(), &pack.as_str().into()));
    let report = infeed(&["job", "report", second]).expect_code(0).stdout;
    assert!(report.contains("two@d2.example") && !report.contains("one@d1.example"), "{report}");
    assert_eq!(infeed(&["job", "report", pack.as_str()]).expect_code(0).stdout.lines().count(), 4);
    for change in ["pause", "resume", "cancel"] {
        let refused = infeed(&["job", change, second]).expect_code(64);
        assert!(refused.stderr.contains(&format!("name {pack} to")), "{}", refused.stderr);
    }
    infeed(&["job", "cancel", pack.as_str()]).expect_code(0);
    let shown = infeed(&["job", "show", second]).expect_code(0).stdout;
    assert!(shown.contains("cancelled") && shown.contains(&format!("in the pack {pack}")), "{shown}");
}

/// Offers the load, and compares the sink's ledger with every job's report.
async fn hold(jobs_per_second: u64, seconds: u64, octets: usize) -> load::Came {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let load = load::Load {
        jobs_per_second,
        seconds,
        octets,
        dir: dir.path().to_owned(),
        ledger: Some(ledger.clone()),
    };
    let came = load::run(&load).await.unwrap();
    let jobs = (jobs_per_second * seconds) as usize;
    assert_eq!((came.ids.len(), came.accepted), (jobs, jobs as u64));
    let book = by_recipient(dir.path());
    let spool = spool(dir.path());
    for (number, id) in came.ids.iter().enumerate() {
        let entries = &book[&load::recipient(number as u64)];
        assert_eq!(entries.len(), 1, "{id}");
        assert_eq!(entries[0].message_id.as_deref(), Some(format!("<{id}@example.org>").as_str()));
    }
    for view in spool.views().unwrap() {
        let view = view.unwrap();
        assert_eq!((view.state, view.counts.of(Outcome::Accepted)), (JobState::Done, view.meta.recipients));
    }
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_small_job_of_a_load_is_delivered_once_under_its_own_id() {
    let came = hold(100, 3, 500).await;
    assert!(came.packs < 300, "{} packs for 300 jobs", came.packs);
}

/// Prints what `bench/run small-jobs` measures; nothing of it is asserted but that all of it arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_small_jobs_a_second_for_a_minute_are_all_delivered_once() {
    if !common::mta::long_tests() {
        return;
    }
    let came = hold(1_000, 60, 4_096).await;
    println!(
        "{:.0} jobs/s offered, {:.0} committed; submit p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms; {} packs; {} of {} \
         accepted in time, the rest {:.1} s later",
        came.offered_per_second,
        came.committed_per_second,
        came.latency_ms(0.5),
        came.latency_ms(0.99),
        came.latency_ms(1.0),
        came.packs,
        came.accepted_in_time,
        came.accepted,
        came.drain_lag.as_secs_f64(),
    );
}
