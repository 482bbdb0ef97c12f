//! The delivery log of `drain` and `serve`: it says what the report says, and a file that is moved away costs no line.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::daemon::{DEADLINE, Daemon, MERGED, SHARED, list};
use common::desk::Desk;
use common::report::Row;
use common::sink::SinkProcess;
use common::wait::wait_until;
use rustix::process::Signal;
use serde_json::Value;

/// The lines of a log, each one whole object.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line in {}", path.display());
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// A line as a row of the report.
fn row(line: &Value) -> Row {
    let text = |name: &str| line[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Row {
        address: text("address").unwrap_or_default(),
        outcome: text("outcome").unwrap_or_default(),
        reply_code: line["reply_code"].as_u64().map(|code| code as u16),
        reply_text: text("reply_text"),
        queue_id: text("queue_id"),
        attempts: line["attempts"].as_u64().expect("attempts") as u32,
        time: text("time"),
        possible_repeat: line["possible_repeat"].as_bool().expect("possible_repeat"),
    }
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| a.address.cmp(&b.address));
    rows
}

fn setting(path: &Path) -> String {
    format!("delivery_log.file={}", path.display())
}

#[test]
fn the_log_says_of_each_recipient_what_the_report_says() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--fail", "rcpt=550%10"]);
    let message = desk.file("news.eml", SHARED);
    let suppress = desk.file("suppress.txt", "r-3@d3.example\n").display().to_string();
    let flags = ["--accept-refusals", "--suppress", &suppress];
    let job = desk.submit(&message, &desk.file("list.csv", list("r", 1_500)), &flags);
    let log = desk.path("delivery.ndjson");
    desk.draining(&sink.address(), 4).args(["--set", &setting(&log)]).run().expect_code(1);
    let lines = lines(&log);
    assert_eq!(sorted(lines.iter().map(row).collect()), sorted(desk.report(&job)));
    for line in &lines {
        assert_eq!(line["job"], job.as_str());
        let refused = line["outcome"] == "refused";
        assert!(
            !refused || line["enhanced_code"].as_str().is_some_and(|code| code.starts_with("5.")),
            "{line}"
        );
        assert_eq!(line["mta"].is_null(), line["outcome"] == "suppressed", "{line}");
    }
    assert!(lines.iter().any(|line| line["outcome"] == "refused"));
}

#[test]
fn each_try_of_who_is_deferred_is_a_line_of_its_own() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--fail", "rcpt=451%30"]);
    let log = desk.path("delivery.ndjson");
    let flags = ["--mta", &sink.address(), "--set", &setting(&log), "--set", "retry.delay_s_max=1"];
    let daemon = Daemon::start(&desk, &flags);
    let job = desk.submit_list("d", 300, MERGED, &["--merge"]);
    desk.wait_state(&job, "done");
    daemon.stop();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines(&log) {
        let (address, attempts) = (row(&line).address, line["attempts"].as_u64().expect("a number"));
        assert_eq!(attempts, last.get(&address).copied().unwrap_or(0) + 1, "{line}");
        assert_eq!(line["due"].is_string(), line["outcome"] == "deferred", "{line}");
        last.insert(address, attempts);
    }
    let tried: BTreeMap<String, u64> =
        desk.report(&job).into_iter().map(|row| (row.address, u64::from(row.attempts))).collect();
    assert_eq!(last, tried);
    assert!(last.values().any(|attempts| *attempts > 1));
}

#[test]
fn a_log_that_is_moved_away_and_a_hangup_lose_no_line() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "2"]);
    let log = desk.path("delivery.ndjson");
    let daemon =
        Daemon::start(&desk, &["--mta", &sink.address(), "--connections", "4", "--set", &setting(&log)]);
    let job = desk.submit_list("m", 4_000, MERGED, &["--merge"]);
    let mut moved = Vec::new();
    for n in 0..3 {
        wait_until("lines", DEADLINE, || std::fs::metadata(&log).is_ok_and(|there| there.len() > 0));
        let to = desk.path(&format!("moved.{n}"));
        std::fs::rename(&log, &to).expect("moved");
        moved.push(to);
        daemon.signal(Signal::HUP);
        wait_until("a new log", DEADLINE, || log.exists());
    }
    desk.wait_state(&job, "done");
    daemon.stop();
    let mut rows: Vec<Row> =
        moved.iter().chain([&log]).flat_map(|path| lines(path)).map(|l| row(&l)).collect();
    rows.retain(|row| row.outcome == "accepted");
    assert_eq!(sorted(rows), sorted(desk.report(&job)));
}

#[test]
fn two_drains_write_to_one_log_and_put_it_aside_by_size() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let message = desk.file("news.eml", SHARED);
    let job = desk.submit(&message, &desk.file("list.csv", list("s", 8_000)), &[]);
    let log = desk.path("delivery.ndjson");
    let both: Vec<_> = ["0-7", "8-15"]
        .iter()
        .map(|slices| {
            let sizes = ["--set", "delivery_log.bytes_max=300000", "--set", "delivery_log.keep=50"];
            desk.draining(&sink.address(), 2)
                .args(["--slices", slices, "--set", &setting(&log)])
                .args(sizes)
                .spawn()
        })
        .collect();
    for run in both {
        let run = run.wait(DEADLINE);
        assert!(matches!(run.code, Some(0 | 75)), "{}", run.stderr);
    }
    let numbered = (1..).map(|n| desk.path(&format!("delivery.ndjson.{n}"))).take_while(|path| path.exists());
    let files: Vec<_> = numbered.chain([log]).collect();
    assert!(files.len() > 2, "{files:?}");
    let rows: Vec<Row> = files.iter().flat_map(|path| lines(path)).map(|line| row(&line)).collect();
    assert_eq!(sorted(rows), sorted(desk.report(&job)));
}

#[test]
fn a_log_that_cant_be_opened_is_told_at_the_start() {
    let desk = Desk::new();
    desk.submit(&desk.file("news.eml", SHARED), &desk.file("list.csv", list("e", 5)), &[]);
    let nowhere = desk.path("nowhere/delivery.ndjson");
    let run = desk.infeed(&["drain", "--mta", "127.0.0.1:9", "--set", &setting(&nowhere)]).run();
    assert_eq!(run.code, Some(73), "{}", run.stderr);
    assert!(run.stderr.contains("delivery_log.file") && run.stderr.contains("nowhere"), "{}", run.stderr);
}
