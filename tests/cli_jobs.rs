//! `jobs`, `job …`, `spool …` and the command line as a whole.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::binary::{Infeed, infeed};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        fs::write(place.path("plain.eml"), "From: news@lists.example\nSubject: x\n\nTo all.\n")
            .expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn infeed(&self, words: &[&str]) -> Infeed {
        infeed(["--spool"]).arg(self.path("spool")).args(words)
    }

    fn submit(&self, id: &str, recipients: usize) {
        let tail = id.replace(' ', "-");
        let list: String = (0..recipients).map(|i| format!("u{i}.{tail}@x.example\n")).collect();
        let submit = self.infeed(&["submit", "--yes", "--to", "-", "--id", id]).arg(self.path("plain.eml"));
        submit.stdin(list).run().expect_code(0);
    }
}

#[test]
fn without_a_spool_there_are_no_jobs_and_none_is_made() {
    let place = Place::new();
    assert_eq!(place.infeed(&["jobs", "--json"]).run().expect_code(0).json(), serde_json::json!([]));
    place.infeed(&["jobs"]).run().expect_code(0);
    place.infeed(&["drain"]).run().expect_code(0);
    place.infeed(&["spool", "check"]).run().expect_code(0);
    place.infeed(&["spool", "show", "--json"]).run().expect_code(0).json();
    place.infeed(&["job", "show", "weekly"]).run().expect_code(66);
    assert!(!place.path("spool").exists());
}

#[test]
fn a_priority_is_kept_shown_and_has_its_bounds() {
    let place = Place::new();
    place.submit("usual", 1);
    let message = place.path("plain.eml");
    let submit = |priority: &str| {
        let words = ["submit", "--yes", "--to", "-", "--id", "urgent", "--priority", priority];
        place.infeed(&words).arg(&message).stdin("a@x.example\n").run()
    };
    for bad in ["10", "high"] {
        let refused = submit(bad).expect_code(64);
        assert!(refused.stderr.contains("--priority"), "{}", refused.stderr);
    }
    submit("9").expect_code(0);
    let show = |id: &str| place.infeed(&["job", "show", id, "--json"]).run().expect_code(0).json();
    assert_eq!((&show("usual")["priority"], &show("urgent")["priority"]), (&5.into(), &9.into()));
    let text = |id: &str| place.infeed(&["job", "show", id]).run().expect_code(0).stdout;
    assert!(text("urgent").contains("priority 9") && !text("usual").contains("priority"));
}

#[test]
fn a_job_is_listed_shown_cancelled_and_removed_and_only_in_that_order() {
    let place = Place::new();
    place.submit("one", 3);
    place.submit("two", 5);
    let jobs = place.infeed(&["jobs", "--json"]).run().expect_code(0).json();
    let ids: Vec<_> = jobs.as_array().expect("a list").iter().map(|job| job["id"].clone()).collect();
    assert_eq!(ids, ["one", "two"]);
    let table = place.infeed(&["jobs"]).run().expect_code(0).stdout;
    assert!(table.lines().any(|line| line.starts_with("two") && line.contains("active")), "{table}");

    let refused = place.infeed(&["job", "remove", "two"]).run().expect_code(65);
    assert!(refused.stderr.contains("cancel it first"), "{}", refused.stderr);
    place.infeed(&["job", "cancel", "two"]).run().expect_code(0);
    place.infeed(&["job", "cancel", "two"]).run().expect_code(0);
    let show = place.infeed(&["job", "show", "two", "--json"]).run().expect_code(0).json();
    assert_eq!((&show["state"], &show["cancelled"]), (&"cancelled".into(), &5.into()));
    assert_eq!(show["pending"], 0);
    let report = place.infeed(&["job", "report", "two"]).run().expect_code(0).stdout;
    let rows = common::report::parse_report(&report);
    assert!(rows.len() == 5 && rows.iter().all(|row| row.outcome == "cancelled"), "{report}");
    place.infeed(&["job", "resume", "two"]).run().expect_code(65);
    place.infeed(&["job", "remove", "two"]).run().expect_code(0);
    place.infeed(&["job", "show", "two"]).run().expect_code(66);
    place.infeed(&["job", "report", "one"]).run().expect_code(0);
}

#[test]
fn the_outcomes_of_a_job_sum_to_its_recipients() {
    let place = Place::new();
    place.submit("one", 1234);
    let show = place.infeed(&["job", "show", "one", "--json"]).run().expect_code(0).json();
    let outcomes = [
        "accepted",
        "refused",
        "deferred",
        "pending",
        "expired",
        "cancelled",
        "suppressed",
        "quarantined",
        "in_doubt",
    ];
    let sum: u64 = outcomes.iter().map(|outcome| show[outcome].as_u64().expect("a count")).sum();
    assert_eq!(show["recipients"], sum);
    assert_eq!(sum, 1234);
}

#[test]
fn a_report_holds_the_same_as_csv_and_as_ndjson_and_in_a_file() {
    let place = Place::new();
    place.submit("one", 7);
    let csv = place.infeed(&["job", "report", "one"]).run().expect_code(0).stdout;
    let header = "address,outcome,reply_code,reply_text,queue_id,attempts,time,possible_repeat";
    assert_eq!(csv.lines().next(), Some(header));
    let from_csv: Vec<String> = common::report::parse_report(&csv)
        .into_iter()
        .map(|row| format!("{} {}", row.address, row.outcome))
        .collect();
    let ndjson = place.infeed(&["job", "report", "one", "--format", "ndjson"]).run().expect_code(0).stdout;
    let from_ndjson: Vec<String> = ndjson
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let mut keys: Vec<_> = row.as_object().expect("an object").keys().cloned().collect();
            let mut wanted: Vec<_> = header.split(',').map(str::to_owned).collect();
            keys.sort();
            wanted.sort();
            assert_eq!(keys, wanted);
            format!("{} {}", row["address"].as_str().expect("text"), row["outcome"].as_str().expect("text"))
        })
        .collect();
    assert_eq!(from_csv, from_ndjson);
    let file = place.path("report.csv");
    infeed(["job", "report", "one", "--spool"])
        .arg(place.path("spool"))
        .arg("--output")
        .arg(&file)
        .run()
        .expect_code(0);
    assert_eq!(fs::read_to_string(&file).expect("a report"), csv);
    place.infeed(&["job", "report", "one", "--output", "/nowhere/at/all"]).run().expect_code(73);
}

#[test]
fn a_reader_that_goes_away_ends_the_report_quietly() {
    let place = Place::new();
    place.submit("one", 20_000);
    let mut child = Command::new(env!("CARGO_BIN_EXE_infeed"))
        .args(["job", "report", "one", "--spool"])
        .arg(place.path("spool"))
        .env("INFEED_CONFIG", "/dev/null")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("infeed starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("infeed ends");
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn check_is_clean_on_a_good_spool_and_names_what_is_damaged() {
    let place = Place::new();
    place.submit("one", 10);
    let good = place.infeed(&["spool", "check", "--json"]).run().expect_code(0).json();
    assert_eq!((&good["recipients"], &good["damaged"]), (&10.into(), &false.into()));
    let message = place.path("spool/active/one/message");
    fs::write(&message, "From: other@lists.example\n\n").expect("written");
    let bad = place.infeed(&["spool", "check"]).run().expect_code(65);
    assert!(bad.stdout.contains("active/one"), "{}", bad.stdout);
}

#[test]
fn a_job_that_cant_be_read_hides_no_other() {
    let place = Place::new();
    place.submit("one", 1);
    place.submit("two", 2);
    fs::write(place.path("spool/active/one/job.toml"), "format = ").expect("written");
    let run = place.infeed(&["jobs", "--json"]).run().expect_code(65);
    assert_eq!(run.json()[0]["id"], "two");
    assert!(run.stderr.contains("active/one/job.toml"), "{}", run.stderr);
}

#[test]
fn show_tells_backlog_and_states() {
    let place = Place::new();
    place.submit("one", 10);
    place.submit("two", 5);
    place.infeed(&["job", "cancel", "two"]).run().expect_code(0);
    let show = place.infeed(&["spool", "show", "--json"]).run().expect_code(0).json();
    assert_eq!((&show["jobs"]["active"], &show["jobs"]["cancelled"]), (&1.into(), &1.into()));
    let slices = show["slices"].as_array().expect("slices");
    assert_eq!(slices.len(), 16);
    assert_eq!(slices.iter().map(|slice| slice["recipients"].as_u64().expect("a count")).sum::<u64>(), 10);
    assert_eq!(show["owners"], serde_json::json!([]));
    assert!(show["oldest_due"].is_string());
}

#[test]
fn a_copied_spool_is_refused_until_it_is_adopted() {
    let place = Place::new();
    place.submit("one", 1);
    let meta = place.path("spool/meta.toml");
    let text = fs::read_to_string(&meta).expect("read");
    let ours = text.lines().find(|line| line.starts_with("machine_id")).expect("a machine id").to_owned();
    if ours == "machine_id = \"\"" {
        eprintln!("this machine has no id: not tested");
        return;
    }
    fs::write(&meta, text.replace(&ours, "machine_id = \"another\"")).expect("written");
    let refused = place.infeed(&["jobs"]).run().expect_code(65);
    assert!(refused.stderr.contains("spool adopt"), "{}", refused.stderr);
    place.infeed(&["spool", "adopt"]).run().expect_code(0);
    place.infeed(&["job", "show", "one"]).run().expect_code(0);
}

#[test]
fn every_command_has_help_with_an_example() {
    let commands: [&[&str]; 25] = [
        &[],
        &["send"],
        &["submit"],
        &["drain"],
        &["jobs"],
        &["jobs", "prune"],
        &["pause"],
        &["resume"],
        &["job"],
        &["job", "show"],
        &["job", "report"],
        &["job", "pause"],
        &["job", "resume"],
        &["job", "cancel"],
        &["job", "remove"],
        &["sink"],
        &["spool"],
        &["spool", "check"],
        &["spool", "show"],
        &["spool", "adopt"],
        &["make-list"],
        &["config"],
        &["config", "show"],
        &["config", "check"],
        &["config", "sample"],
    ];
    for command in commands {
        let help = infeed(command).arg("--help").run().expect_code(0).stdout;
        assert!(help.matches("infeed ").count() >= 2, "{command:?}:\n{help}");
    }
    infeed(["--version"]).run().expect_code(0);
    infeed(["bogus"]).run().expect_code(64);
    infeed::<_, &str>([]).run().expect_code(64);
    // it stands for what `submit --id ../../etc` would have made of it, and there is none
    infeed(["job", "show", "../../etc"]).run().expect_code(66);
}

#[test]
fn config_and_make_list_are_there() {
    let sample = infeed(["config", "sample"]).run().expect_code(0).stdout;
    assert!(sample.contains("[mta]"));
    let shown =
        infeed(["config", "show", "--json", "--set", "mta.connections=3"]).run().expect_code(0).json();
    assert!(shown["settings"].is_array());
    infeed(["--json", "config", "show"]).run().expect_code(0).json();
    let list = infeed(["make-list", "--recipients", "3"]).run().expect_code(0).stdout;
    assert_eq!(list.lines().count(), 4);
}

#[test]
fn a_job_is_paused_by_its_key_with_a_reason_and_resumed() {
    let place = Place::new();
    place.submit("weekly 47", 3);
    place.infeed(&["job", "pause", "weekly 47", "--reason", "the link is wrong"]).run().expect_code(0);
    let again = place.infeed(&["job", "pause", "weekly 47"]).run().expect_code(0).stdout;
    assert!(again.contains("the link is wrong"), "{again}");
    let show = place.infeed(&["job", "show", "weekly 47", "--json"]).run().expect_code(0).json();
    assert_eq!((&show["state"], &show["paused_reason"]), (&"paused".into(), &"the link is wrong".into()));
    place.infeed(&["job", "resume", "weekly 47"]).run().expect_code(0);
    let show = place.infeed(&["job", "show", "weekly 47", "--json"]).run().expect_code(0).json();
    assert_eq!((&show["state"], &show["paused_reason"]), (&"active".into(), &serde_json::Value::Null));
    place.infeed(&["job", "cancel", "weekly 47"]).run().expect_code(0);
    place.infeed(&["job", "pause", "weekly 47"]).run().expect_code(65);
}

#[test]
fn while_everything_is_paused_nothing_is_sent_and_submissions_are_taken() {
    let place = Place::new();
    // not where there is no spool: the operator named the wrong one
    place.infeed(&["pause", "--all"]).run().expect_code(66);
    place.infeed(&["pause"]).run().expect_code(64);
    place.submit("one", 3);
    let paused =
        place.infeed(&["pause", "--all", "--reason", "the MTA burns", "--json"]).run().expect_code(0).json();
    assert_eq!((&paused["accepted"], &paused["waiting"]), (&0.into(), &3.into()));
    place.submit("two", 4);
    let again = place.infeed(&["pause", "--all"]).run().expect_code(0).stdout;
    assert!(again.contains("the MTA burns") && again.contains("all jobs"), "{again}");
    let drain = place.infeed(&["drain", "--mta", "sink", "--yes"]).run().expect_code(75);
    assert!(
        drain.stderr.contains("the MTA burns") && drain.stderr.contains("resume --all"),
        "{}",
        drain.stderr
    );
    let resumed = place.infeed(&["resume", "--all", "--json"]).run().expect_code(0).json();
    assert_eq!((&resumed["changed"], &resumed["waiting"]), (&true.into(), &7.into()));
    place.infeed(&["drain", "--mta", "sink", "--yes"]).run().expect_code(0);
    let resumed = place.infeed(&["resume", "--all", "--json"]).run().expect_code(0).json();
    assert_eq!((&resumed["changed"], &resumed["waiting"]), (&false.into(), &0.into()));
}

#[test]
fn queue_ids_are_those_of_what_was_accepted_each_once() {
    let place = Place::new();
    place.submit("one", 120);
    place.infeed(&["drain", "--mta", "sink", "--yes"]).run().expect_code(0);
    let csv = place.infeed(&["job", "report", "one"]).run().expect_code(0).stdout;
    let mut wanted: Vec<String> = Vec::new();
    for row in csv::Reader::from_reader(csv.as_bytes()).records() {
        let queue_id = row.expect("a line").get(4).expect("a queue id").to_owned();
        if !wanted.contains(&queue_id) {
            wanted.push(queue_id);
        }
    }
    assert!(!wanted.is_empty() && !wanted.contains(&String::new()), "{csv}");
    let ids = place.infeed(&["job", "report", "one", "--queue-ids"]).run().expect_code(0).stdout;
    assert_eq!(ids.lines().collect::<Vec<_>>(), wanted);
    // nobody was sent to twice
    let repeats = place.infeed(&["job", "report", "one", "--only", "possible-repeat"]).run().expect_code(0);
    assert_eq!(repeats.stdout.lines().count(), 1, "{}", repeats.stdout);
    let none = place.infeed(&["job", "report", "nobody"]).run().expect_code(66);
    assert_eq!(none.stdout, "");
}

#[test]
fn a_report_overwrites_nothing_unless_forced() {
    let place = Place::new();
    place.submit("one", 2);
    let file = place.path("report.csv");
    fs::write(&file, "dear").expect("written");
    let report =
        |more: &[&str]| place.infeed(&["job", "report", "one", "--output"]).arg(&file).args(more).run();
    let refused = report(&[]).expect_code(73);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&file).expect("read"), "dear");
    report(&["--force"]).expect_code(0);
    assert!(fs::read_to_string(&file).expect("read").contains("u0.one@x.example"));
}

#[test]
fn prune_removes_what_ended_long_ago_and_says_what_it_would() {
    let place = Place::new();
    place.submit("one", 2);
    place.infeed(&["job", "cancel", "one"]).run().expect_code(0);
    place.submit("two", 2);
    let none =
        place.infeed(&["jobs", "prune", "--older-than-days", "1", "--json"]).run().expect_code(0).json();
    assert_eq!(none, serde_json::json!([]));
    let standing = place.path("spool/cancelled/one/standing.toml");
    fs::write(&standing, "ended_us = 1\n").expect("written");
    let would = place.infeed(&["jobs", "prune", "--dry-run", "--json"]).run().expect_code(0).json();
    assert_eq!((&would[0]["job"], &would[0]["removed"]), (&"one".into(), &false.into()));
    let kept = place.infeed(&["jobs", "prune", "--set", "retention.days=0"]).run().expect_code(0);
    assert!(kept.stderr.contains("retention.days"), "{}", kept.stderr);
    let gone = place.infeed(&["jobs", "prune"]).run().expect_code(0).stdout;
    assert!(gone.starts_with("one") && gone.lines().count() == 1, "{gone}");
    place.infeed(&["job", "show", "one"]).run().expect_code(66);
    place.infeed(&["job", "show", "two"]).run().expect_code(0);
    place.infeed(&["jobs", "prune", "--older-than-days", "0"]).run().expect_code(64);
}

/// Somebody else's spool: said with the remedy, before anything is tried.
#[test]
fn a_user_who_may_not_use_a_spool_is_told_whose_it_is() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: not tested");
        return;
    }
    let place = Place::new();
    place.submit("one", 2);
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    // the binary lies where only root may look
    let binary = place.path("infeed");
    fs::copy(env!("CARGO_BIN_EXE_infeed"), &binary).expect("copied");
    let refused = Command::new(&binary)
        .args(["jobs", "--spool"])
        .arg(place.path("spool"))
        .env("INFEED_CONFIG", "/dev/null")
        .uid(65_534)
        .gid(65_534)
        .output()
        .expect("infeed starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(77), "{said}");
    assert!(said.contains("belongs to the user root") && said.contains("sudo -u root infeed"), "{said}");
}
