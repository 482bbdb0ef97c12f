//! Spools that were moved, copied in part, or written by another version: what can't be drained safely is
//! refused with what to do, and nothing is lost by it.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use common::binary::infeed;
use common::daemon::{SHARED, list};
use common::desk::Desk;
use common::sink::SinkProcess;

/// A spool with a job of three chunks, of which nothing was sent.
fn submitted() -> (Desk, String) {
    let desk = Desk::new();
    let (message, list) = (desk.file("m.eml", SHARED), desk.file("l.csv", list("r", 2_500)));
    let job = desk.submit(&message, &list, &[]);
    (desk, job)
}

fn chunks(desk: &Desk) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![desk.spool().join("active")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let is_chunk = entry.path().components().any(|part| part.as_os_str() == "chunks");
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if is_chunk {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_chunk_that_is_missing_stops_its_job_and_is_named_until_it_is_put_back() {
    let (desk, job) = submitted();
    let other = desk.submit_list("other", 3, SHARED, &["--again"]);
    let lost = chunks(&desk).swap_remove(1);
    let aside = desk.path("aside");
    std::fs::rename(&lost, &aside).expect("moved");
    let sink = SinkProcess::start(&desk.path("sink"), &[]);

    let drain = desk.draining(&sink.address(), 2).run().expect_code(65);
    let said = drain.json();
    assert_eq!(said["left_alone"][0]["job"], job.as_str(), "{said}");
    let name = lost.file_name().expect("its name").to_string_lossy();
    for part in [name.as_ref(), "missing", "copied"] {
        assert!(drain.stderr.contains(part), "{part}: {}", drain.stderr);
    }
    assert_eq!((&said["accepted"], &desk.show(&other)["state"]), (&json!(3), &json!("done")), "others go on");
    assert_eq!(desk.show(&job)["pending"], 2_500);
    desk.infeed(&["spool", "check"]).run().expect_code(65);

    std::fs::rename(&aside, &lost).expect("moved back");
    desk.draining(&sink.address(), 2).run().expect_code(0);
    assert_eq!(desk.show(&job)["accepted"], 2_500);
    desk.check();
    let (_, ledger) = sink.stop();
    let once: BTreeSet<_> = ledger.iter().map(|entry| &entry.recipient).collect();
    assert_eq!((ledger.len(), once.len()), (2_503, 2_503));
}

#[test]
fn a_retry_chunk_that_is_missing_keeps_its_job_from_looking_drained() {
    let desk = Desk::new();
    let to = "defer-451-9x.a@d.example\nb@d.example\n";
    let (message, list) = (desk.file("m.eml", SHARED), desk.file("l.txt", to));
    let job = desk.submit(&message, &list, &[]);
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    desk.draining(&sink.address(), 1).run().expect_code(75);
    let before = chunks(&desk);
    let retry = before.iter().max().expect("a retry chunk");
    std::fs::remove_file(retry).expect("removed");
    let drain = desk.draining(&sink.address(), 1).run().expect_code(65);
    let name = retry.file_name().expect("its name").to_string_lossy();
    assert!(drain.stderr.contains(name.as_ref()), "{}", drain.stderr);
    assert_eq!(drain.json()["left_alone"][0]["job"], job.as_str());
    sink.stop();
}

#[test]
fn a_copy_that_lacks_a_part_is_refused_and_says_which() {
    for (lacks, code, says) in [
        ("meta.toml", 65, "meta.toml"),
        ("active", 65, "active"),
        ("journal", 65, "journal"),
        ("active/JOB/job.toml", 65, "job.toml"),
        ("active/JOB/manifest", 65, "manifest"),
        ("active/JOB/message", 75, "message"),
        ("active/JOB/chunks", 65, "missing"),
        ("active/JOB/results", 65, "results"),
        ("active/JOB/hold", 65, "hold"),
    ] {
        let (desk, job) = submitted();
        let path = desk.spool().join(lacks.replace("JOB", &job));
        let aside = desk.path("aside");
        std::fs::rename(&path, &aside).expect("moved");
        let sink = SinkProcess::start(&desk.path("sink"), &[]);
        let drain = desk.draining(&sink.address(), 2).run();
        assert_eq!(drain.code, Some(code), "without {lacks}: {drain:?}");
        assert!(drain.stderr.contains(says), "without {lacks}: {}", drain.stderr);
        if !lacks.ends_with("results") && !lacks.ends_with("hold") {
            let check = desk.infeed(&["spool", "check"]).run();
            assert_eq!(check.code, Some(65), "without {lacks}: {check:?}");
        }
        // nothing took its place, and nothing was sent
        assert!(!path.exists(), "without {lacks}: it was made anew");
        assert!(sink.taken().is_empty(), "without {lacks}");
        std::fs::rename(&aside, &path).expect("moved back");
        desk.draining(&sink.address(), 2).run().expect_code(0);
        assert_eq!(desk.show(&job)["accepted"], 2_500, "{lacks} was put back");
        sink.stop();
    }
}

#[test]
fn results_that_are_missing_beside_a_retry_of_theirs_stop_the_job() {
    let desk = Desk::new();
    let (message, list) =
        (desk.file("m.eml", SHARED), desk.file("l.txt", "defer-451-9x.a@d.example\nb@d.example\n"));
    let job = desk.submit(&message, &list, &[]);
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    desk.draining(&sink.address(), 1).run().expect_code(75);
    // the folders are kept, and what is in them is not: b was sent to
    let results = desk.spool().join("active").join(&job).join("results");
    for folder in std::fs::read_dir(&results).expect("results").flatten() {
        for file in std::fs::read_dir(folder.path()).expect("results").flatten() {
            std::fs::remove_file(file.path()).expect("removed");
        }
    }
    let drain = desk.draining(&sink.address(), 1).run().expect_code(65);
    assert!(drain.stderr.contains("results"), "{}", drain.stderr);
    let (_, ledger) = sink.stop();
    assert_eq!(ledger.len(), 1, "b was sent to again");
}

#[test]
fn a_chunk_that_was_in_hand_and_is_missing_at_the_start_is_not_sent_again_when_it_comes_back() {
    let desk = Desk::new();
    let (message, list) = (desk.file("m.eml", SHARED), desk.file("l.csv", list("r", 400)));
    let job = desk.submit(&message, &list, &[]);
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "5"]);
    let tail = sink.tail();
    let drain =
        desk.draining(&sink.address(), 2).env("INFEED_MTA_RECIPIENTS_PER_TRANSACTION_MAX", "1").spawn();
    common::wait::wait_until("deliveries", common::daemon::DEADLINE, || tail.waiting() > 50);
    drain.signal(rustix::process::Signal::KILL);
    drain.wait(common::daemon::DEADLINE);
    let lost = chunks(&desk).swap_remove(0);
    std::fs::rename(&lost, desk.path("aside")).expect("moved");
    let daemon = desk.infeed(&["serve", "--mta", &sink.address()]).spawn();
    common::wait::wait_until("an owner", common::daemon::DEADLINE, || {
        let show = desk.infeed(&["spool", "show", "--json"]).run();
        show.code == Some(0) && show.json()["owners"][0].is_object()
    });
    std::fs::rename(desk.path("aside"), &lost).expect("moved back");
    // looked at again and again, and not sent from
    std::thread::sleep(std::time::Duration::from_secs(2));
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait(common::daemon::DEADLINE).expect_code(0);
    desk.draining(&sink.address(), 2).run().expect_code(0);
    assert_eq!(desk.show(&job)["accepted"], 400);
    let (_, ledger) = sink.stop();
    let report = desk.report(&job);
    for row in &report {
        let times = ledger.iter().filter(|entry| entry.recipient == row.address).count();
        assert!(times == 1 || times == 2 && row.possible_repeat, "{times} times: {row:?}");
    }
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("a text");
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(path, text.replacen(from, to, 1)).expect("written");
}

#[test]
fn a_spool_of_another_machine_is_refused_until_it_is_adopted() {
    let (desk, job) = submitted();
    let meta = desk.spool().join("meta.toml");
    let here = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    if here.trim().is_empty() {
        common::mta::skip("this machine has no /etc/machine-id");
        return;
    }
    replace(&meta, here.trim(), "0123456789abcdef0123456789abcdef");
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    for command in [&["jobs"][..], &["drain", "--mta", &sink.address()], &["job", "show", &job]] {
        let refused = desk.infeed(command).run().expect_code(65);
        for part in ["another machine", "infeed spool adopt"] {
            assert!(refused.stderr.contains(part), "{command:?}: {}", refused.stderr);
        }
    }
    assert!(sink.taken().is_empty());
    desk.infeed(&["spool", "adopt"]).run().expect_code(0);
    desk.draining(&sink.address(), 2).run().expect_code(0);
    assert_eq!(desk.show(&job)["accepted"], 2_500);
    sink.stop();
}

#[test]
fn a_spool_or_a_job_of_a_newer_format_is_refused_with_what_reads_it() {
    let (desk, job) = submitted();
    let meta = desk.spool().join("meta.toml");
    replace(&meta, "format = 1", "format = 9");
    let refused = desk.infeed(&["drain"]).run().expect_code(65);
    assert!(refused.stderr.contains("format 9") && refused.stderr.contains("newer"), "{}", refused.stderr);
    replace(&meta, "format = 9", "format = 1");

    let job_meta = desk.spool().join("active").join(&job).join("job.toml");
    replace(&job_meta, "format = 1", "format = 9");
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let drain = desk.draining(&sink.address(), 2).run().expect_code(65);
    assert!(drain.stderr.contains("format 9"), "{}", drain.stderr);
    assert_eq!(drain.json()["left_alone"][0]["job"], job.as_str());
    assert!(sink.taken().is_empty());
    replace(&job_meta, "format = 9", "format = 1");
    desk.draining(&sink.address(), 2).run().expect_code(0);
    assert_eq!(desk.show(&job)["accepted"], 2_500);
    sink.stop();
}

/// What the fixtures of each format hold; `tests/fixtures/README.md` says how they were made.
#[test]
fn the_spools_of_every_format_so_far_open_and_are_drained() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut seen = 0;
    for entry in std::fs::read_dir(&fixtures).expect("the fixtures").flatten() {
        let archive = entry.path();
        if !archive.to_string_lossy().ends_with(".tar.gz") {
            continue;
        }
        seen += 1;
        let desk = Desk::new();
        let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(desk.path("")).status();
        assert!(unpacked.expect("tar runs").success());
        let expected: Value = {
            let path = archive.with_extension("").with_extension("json");
            serde_json::from_str(&std::fs::read_to_string(path).expect("what it holds")).expect("JSON")
        };
        desk.infeed(&["spool", "adopt"]).run().expect_code(0);
        desk.check();
        let states = || -> Value {
            let jobs = desk.jobs();
            let of = |job: &Value| (job["job"].as_str().expect("an id").to_owned(), job["state"].clone());
            Value::Object(jobs.iter().map(of).collect())
        };
        assert_eq!(states(), expected["states"], "{}", archive.display());
        for job in desk.jobs() {
            if job["state"] == "paused" {
                desk.infeed(&["job", "resume", job["job"].as_str().expect("an id")]).run().expect_code(0);
            }
        }
        let sink = SinkProcess::start(&desk.path("sink"), &[]);
        common::wait::wait_until("the end of all jobs", common::daemon::DEADLINE, || {
            desk.draining(&sink.address(), 2).run().code == Some(0)
        });
        desk.check();
        for (job, accepted) in expected["accepted"].as_object().expect("counts") {
            assert_eq!(&desk.show(job)["accepted"], accepted, "{job} in {}", archive.display());
        }
        // who was sent to after the fixture was made: those that had no final outcome then
        let (_, ledger) = sink.stop();
        assert_eq!(json!(ledger.len()), expected["sent_now"], "{}", archive.display());
    }
    assert!(seen >= 2, "{seen} fixtures");
}

#[test]
fn a_folder_that_is_no_spool_is_never_made_one() {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.spool().join("photos")).expect("a folder");
    let message = desk.file("m.eml", SHARED);
    let refused = infeed(["submit", "--yes", "--to", "-", "--spool"])
        .arg(desk.spool())
        .arg(&message)
        .stdin("a@x.example\n")
        .run()
        .expect_code(65);
    assert!(refused.stderr.contains("photos"), "{}", refused.stderr);
    let left = std::fs::read_dir(desk.spool()).expect("the folder").count();
    assert_eq!(left, 1);
}

/// Writes a spool, as it lies on the desk, and what it holds, into the fixtures; unless it is there.
fn keep(desk: &Desk, name: &str) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let archive = fixtures.join(format!("{name}.tar.gz"));
    assert!(!archive.exists(), "{} is there: a fixture is never made anew", archive.display());
    let jobs = desk.jobs();
    let count = |job: &Value, name: &str| job[name].as_u64().expect("a count");
    let unfinished = |job: &Value| match job["state"].as_str() {
        Some("active" | "paused") => count(job, "pending") + count(job, "deferred"),
        _ => 0,
    };
    let id = |job: &Value| job["job"].as_str().expect("an id").to_owned();
    let states: serde_json::Map<String, Value> =
        jobs.iter().map(|job| (id(job), job["state"].clone())).collect();
    let accepted: serde_json::Map<String, Value> =
        jobs.iter().map(|job| (id(job), json!(count(job, "accepted") + unfinished(job)))).collect();
    let sent_now: u64 = jobs.iter().map(unfinished).sum();
    let holds = json!({ "states": states, "accepted": accepted, "sent_now": sent_now });
    let text = serde_json::to_string_pretty(&holds).expect("JSON");
    std::fs::write(fixtures.join(format!("{name}.json")), text + "\n").expect("written");
    let packed = Command::new("tar")
        .args(["--owner=0", "--group=0", "-czf"])
        .arg(&archive)
        .arg("-C")
        .arg(desk.path(""))
        .arg("spool")
        .status();
    assert!(packed.expect("tar runs").success());
}

#[test]
#[ignore = "makes the fixtures that are absent; see tests/fixtures/README.md"]
fn make_the_fixtures() {
    use infeed::intake::{PackSettings, Packer, SmallJob};
    use infeed::spool::{DirSpool, Settings};

    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let named = |id: &str, to: &str| {
        let (message, list) = (desk.file("m.eml", SHARED), desk.file("l.txt", to));
        desk.submit(&message, &list, &["--id", id, "--again"])
    };
    named("finished", "a@d.example\nrefuse-550.b@d.example\n");
    assert_eq!(desk.draining(&sink.address(), 1).run().code, Some(0));
    let cancelled = named("cancelled", "c@d.example\n");
    desk.infeed(&["job", "cancel", &cancelled]).run().expect_code(0);
    let mut half =
        String::from("defer-451-1x.a@d.example\nslow-2000ms.a@d.example\nslow-2000ms.b@e.example\n");
    (0..30).for_each(|i| half.push_str(&format!("h{i}@d{i}.example\n")));
    let half = named("half", &half);
    let drain = desk
        .draining(&sink.address(), 2)
        .env("INFEED_MTA_RECIPIENTS_PER_TRANSACTION_MAX", "1")
        .env("INFEED_SPOOL_CHUNK_RECIPIENTS_MAX", "10")
        .spawn();
    common::wait::wait_until("outcomes", common::daemon::DEADLINE, || {
        desk.show(&half)["accepted"].as_u64() > Some(10)
    });
    drain.signal(rustix::process::Signal::KILL);
    drain.wait(common::daemon::DEADLINE);
    let paused = named("paused", "p@d.example\nq@d.example\n");
    desk.infeed(&["job", "pause", &paused]).run().expect_code(0);
    keep(&desk, "spool-1");
    sink.stop();

    let desk = Desk::new();
    let spool = DirSpool::open(&desk.spool(), Settings::default()).expect("a spool");
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let packer = std::sync::Arc::new(Packer::start(spool, PackSettings::default()).expect("a packer"));
        let submits = ["x", "y", "z"].map(|name| {
            let packer = std::sync::Arc::clone(&packer);
            let message = format!("From: <app@example.org>\r\nSubject: {name}\r\n\r\nHello {name}\r\n");
            let job = SmallJob::new(message.into_bytes(), vec![format!("{name}@d.example")]);
            tokio::spawn(async move { packer.submit(job).await })
        });
        for submit in submits {
            submit.await.expect("no panic").expect("submitted");
        }
        packer.shutdown().await;
    });
    keep(&desk, "spool-2");
}
