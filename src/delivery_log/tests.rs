//! The log alone: what is written, what is left out, what becomes of the files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::spool::{Outcome, Settled};

fn config(file: &Path) -> DeliveryLogConfig {
    DeliveryLogConfig { file: file.to_owned(), bytes_max: 0, keep: 3 }
}

fn line(i: usize) -> Line {
    let mut settled = Settled::local(Outcome::Refused, 1, 1_700_000_000_000_000, "5.1.1 no\r\nsuch user");
    settled.code = 550;
    Line { job: "j".into(), pack: None, address: format!("r{i}@d.example"), mta: None, settled }
}

/// The addresses in a file, in order; each line is one whole object.
fn addresses(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line in {}", file.display());
    let address = |line: &str| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        object["address"].as_str().unwrap().to_owned()
    };
    text.lines().map(address).collect()
}

fn numbered(file: &Path, n: usize) -> PathBuf {
    PathBuf::from(format!("{}.{n}", file.display()))
}

const CLOSE: Duration = Duration::from_secs(60);

#[test]
fn a_line_has_the_names_of_the_report_and_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = DeliveryLog::start(&config(&path), Arc::default()).unwrap();
    log.lines().put(vec![line(0)]);
    log.close(CLOSE);
    let text = std::fs::read_to_string(&path).unwrap();
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "time": "2023-11-14T22:13:20.000Z", "job": "j", "address": "r0@d.example", "outcome": "refused",
        "attempts": 1, "mta": null, "reply_code": 550, "enhanced_code": "5.1.1",
        "reply_text": "5.1.1 no\r\nsuch user", "queue_id": "", "possible_repeat": false,
    });
    assert_eq!(object, expected);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for column in crate::cli::report::COLUMNS {
        assert!(object.get(column).is_some(), "{column}");
    }
}

#[test]
fn a_file_that_is_moved_away_at_any_time_loses_no_line_and_doubles_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let told = Arc::<Told>::default();
    let log = DeliveryLog::start(&config(&path), told.clone()).unwrap();
    let (lines, n) = (log.lines(), 20_000);
    let mut moved = 0;
    for i in 0..n {
        lines.put(vec![line(i)]);
        if i % 2_000 == 1_000 {
            // with and without a word, as logrotate does and as somebody does who has forgotten it
            std::fs::rename(&path, numbered(&path, 100 + moved)).unwrap();
            moved += 1;
            if moved % 2 == 0 {
                lines.reopen();
            }
            // until there is one again: two moves without a line between would fail here
            while !path.exists() {
                lines.reopen();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    log.close(CLOSE);
    let mut all: Vec<String> = (0..moved).flat_map(|m| addresses(&numbered(&path, 100 + m))).collect();
    all.extend(addresses(&path));
    assert_eq!((told.lines.load(Relaxed), told.lines_dropped.load(Relaxed)), (n as u64, 0));
    assert!(all.iter().enumerate().all(|(i, address)| *address == format!("r{i}@d.example")), "out of order");
    assert_eq!(all.len(), n);
}

#[test]
fn a_file_is_put_aside_by_its_size_and_the_oldest_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let bytes_max = 300_000;
    let log = DeliveryLog::start(&DeliveryLogConfig { bytes_max, ..config(&path) }, Arc::default()).unwrap();
    for i in 0..10_000 {
        log.lines().put(vec![line(i)]);
    }
    log.close(CLOSE);
    let mut all = Vec::new();
    for n in (1..=3).rev() {
        assert!(std::fs::metadata(numbered(&path, n)).unwrap().len() <= bytes_max);
        all.extend(addresses(&numbered(&path, n)));
    }
    all.extend(addresses(&path));
    assert!(!numbered(&path, 4).exists(), "three are kept");
    // what is left is the end, without a gap
    let first = 10_000 - all.len();
    assert!(first > 0 && all.iter().zip(first..).all(|(address, i)| *address == format!("r{i}@d.example")));
}

#[test]
fn no_link_is_followed_and_nothing_but_a_file_of_ours_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    std::fs::write(&target, "").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let hard = folder.path().join("hard");
    std::fs::hard_link(&target, &hard).unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, says) in [
        (&link, "symbolic link"),
        (&hard, "second name"),
        (&pipe, "pipe"),
        (&folder.path().to_owned(), "delivery_log.file"),
        (&folder.path().join("nowhere/log"), "its folder must be there"),
    ] {
        let error = DeliveryLog::start(&config(path), Arc::default()).err().expect("refused").to_string();
        assert!(error.contains(says), "{}: {error}", path.display());
    }
    assert_eq!(std::fs::read(&target).unwrap(), b"");
}

#[test]
fn a_disk_that_is_full_costs_lines_and_nothing_else() {
    // the one file of which every write says that the disk is full
    let told = Arc::<Told>::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = DeliveryLog::start(&config(&path), told.clone()).unwrap();
    let lines = log.lines();
    // what lies there is a folder from now on: it can't be written
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let n = 2 * LINES_QUEUED_MAX;
    for i in 0..n {
        lines.put(vec![line(i)]);
    }
    assert!(told.lines_dropped.load(Relaxed) > 0, "the queue is bounded");
    log.close(CLOSE);
    assert_eq!(told.lines_dropped.load(Relaxed), n as u64, "each that is missing is counted");
    assert_eq!(told.lines.load(Relaxed), 0);
}

#[test]
fn a_disk_that_is_mended_gets_the_lines_that_waited() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let told = Arc::<Told>::default();
    let log = DeliveryLog::start(&config(&path), told.clone()).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    log.lines().put((0..10).map(line).collect());
    // taken from the queue, and not written
    while log.lines().shared.queued.load(Relaxed) > 0 {
        std::thread::yield_now();
    }
    std::fs::remove_dir(&path).unwrap();
    log.lines().put(vec![line(10)]);
    while told.lines.load(Relaxed) < 11 {
        std::thread::yield_now();
    }
    log.close(CLOSE);
    assert_eq!(addresses(&path).len(), 11);
    assert_eq!(told.lines_dropped.load(Relaxed), 0);
}
