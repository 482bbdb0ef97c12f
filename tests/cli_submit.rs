//! `submit` as a person runs it: its catches, what it leaves behind, its exit codes.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::binary::{Infeed, Run, infeed};

const MESSAGE: &str = "From: News <news@lists.example>\nTo: {{ address }}\nSubject: Hello {{ first_name }}\n\
                       Content-Type: text/plain; charset=utf-8\n\nDear {{ first_name }}.\n";
const PLAIN: &str = "From: News <news@lists.example>\nSubject: Hello\n\nTo all.\n";

/// A folder with a message, and a spool that isn't there yet.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a temporary folder"));
        place.file("letter.eml", MESSAGE);
        place.file("plain.eml", PLAIN);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), text).expect("written");
        self.path(name)
    }

    fn list(&self, recipients: usize) -> PathBuf {
        let rows = (0..recipients).map(|i| format!("u{i}@d{}.example,Name{i}\n", i % 7));
        self.file("list.csv", "email,first_name\n".to_owned() + &rows.collect::<String>())
    }

    fn infeed(&self, words: &[&str]) -> Infeed {
        infeed(["--spool"]).arg(self.path("spool")).args(words)
    }

    /// `submit letter.eml --merge --to LIST`.
    fn merged(&self, list: &Path) -> Infeed {
        self.infeed(&["submit", "--merge"]).arg(self.path("letter.eml")).arg("--to").arg(list)
    }

    /// `submit plain.eml --to LIST`.
    fn plain(&self, list: &Path) -> Infeed {
        self.infeed(&["submit"]).arg(self.path("plain.eml")).arg("--to").arg(list)
    }

    fn jobs(&self) -> Vec<serde_json::Value> {
        let jobs = self.infeed(&["jobs", "--json"]).run().expect_code(0).json();
        jobs.as_array().expect("a list").clone()
    }

    fn addresses(&self, job: &str) -> Vec<String> {
        let report = self.infeed(&["job", "report", job]).run().expect_code(0).stdout;
        common::report::parse_report(&report).into_iter().map(|row| row.address).collect()
    }
}

fn job_of(run: &Run) -> &str {
    run.stdout.trim()
}

#[test]
fn submit_prints_the_id_of_a_job_that_holds_every_recipient() {
    let place = Place::new();
    let run = place.merged(&place.list(2500)).arg("--yes").run().expect_code(0);
    let addresses = place.addresses(job_of(&run));
    let wanted: Vec<String> = (0..2500).map(|i| format!("u{i}@d{}.example", i % 7)).collect();
    assert_eq!(addresses.len(), 2500);
    let mut sorted = addresses.clone();
    sorted.sort();
    let mut wanted_sorted = wanted;
    wanted_sorted.sort();
    assert_eq!(sorted, wanted_sorted);
    let show = place.infeed(&["job", "show", "--json", job_of(&run)]).run().expect_code(0).json();
    assert_eq!(show["state"], "active");
    assert_eq!(show["sender"], "news@lists.example");
    assert_eq!(show["pending"], 2500);
    assert!(run.stderr.contains("from <news@lists.example>"), "{}", run.stderr);
}

#[test]
fn a_column_that_the_list_lacks_refuses_the_message() {
    let place = Place::new();
    let list = place.file("l.csv", "email,name\na@b.example,A\n");
    let run = place.merged(&list).run().expect_code(65);
    assert!(run.stderr.contains("first_name") && run.stderr.contains("letter.eml"), "{}", run.stderr);
    assert!(place.jobs().is_empty());
}

#[test]
fn merge_marks_without_merge_and_leftover_placeholders_refuse_the_message() {
    let place = Place::new();
    let list = place.list(3);
    let run = place.infeed(&["submit"]).arg(place.path("letter.eml")).arg("--to").arg(&list).run();
    assert!(run.expect_code(65).stderr.contains("--merge"));
    let left = place.file("left.eml", "From: a@b.example\nSubject: x\n\nDear %FIRST_NAME%, [[NAME]]\n");
    let submit = |more: &[&str]| place.infeed(&["submit"]).arg(&left).arg("--to").arg(&list).args(more).run();
    assert!(submit(&[]).expect_code(65).stderr.contains("--allow-placeholders"));
    assert!(place.jobs().is_empty());
    submit(&["--allow-placeholders"]).expect_code(0);
    assert_eq!(place.jobs().len(), 1);
}

#[test]
fn expect_recipients_counts_what_would_be_mailed() {
    let place = Place::new();
    let list = place.file("l.csv", "email\na@x.example\nA@x.example\nb@x.example\nnot an address\n");
    for wrong in ["4", "3", "1"] {
        let run = place.plain(&list).args(["--expect-recipients", wrong]).run().expect_code(65);
        assert!(run.stderr.contains("2 recipients"), "{}", run.stderr);
    }
    assert!(place.jobs().is_empty());
    place.plain(&list).args(["--expect-recipients", "2"]).run().expect_code(0);
}

#[test]
fn a_large_list_without_a_terminal_needs_yes_unless_it_goes_to_the_sink() {
    let place = Place::new();
    let list = place.list(1001);
    let run = place.plain(&list).run().expect_code(64);
    assert!(run.stderr.contains("1001 recipients") && run.stderr.contains("--yes"), "{}", run.stderr);
    assert!(place.jobs().is_empty());
    place.plain(&list).args(["--mta", "sink"]).run().expect_code(0);
    place.plain(&list).arg("--yes").run().expect_code(0);
    let small = place.plain(&list).args(["--again", "--set", "catches.confirm_recipients_min=1001"]);
    small.run().expect_code(0);
    assert_eq!(place.jobs().len(), 3);
}

#[test]
fn the_same_submission_within_a_day_needs_again_whatever_the_order_of_the_rows() {
    let place = Place::new();
    let list = place.file("l.csv", "email\na@x.example\nb@x.example\n");
    let first = place.plain(&list).run().expect_code(0);
    let turned = place.file("turned.csv", "email\nb@x.example\na@x.example\n");
    for list in [&list, &turned] {
        let run = place.plain(list).run().expect_code(65);
        assert!(run.stderr.contains(job_of(&first)) && run.stderr.contains("--again"), "{}", run.stderr);
    }
    assert_eq!(place.jobs().len(), 1);
    place.plain(&list).arg("--again").run().expect_code(0);
    let other = place.file("other.csv", "email\na@x.example\nc@x.example\n");
    place.plain(&other).run().expect_code(0);
    // what was cancelled was not sent
    place.plain(&other).run().expect_code(65);
    for job in place.jobs() {
        place.infeed(&["job", "cancel", job["id"].as_str().expect("an id")]).run().expect_code(0);
    }
    place.plain(&other).run().expect_code(0);
    // a window that has passed
    place.plain(&other).args(["--set", "catches.again_window_s=0"]).run().expect_code(0);
}

#[test]
fn a_rehearsal_is_another_submission_than_the_real_one() {
    let place = Place::new();
    let list = place.list(2);
    place.plain(&list).args(["--mta", "sink"]).run().expect_code(0);
    place.plain(&list).args(["--mta", "sink"]).run().expect_code(65);
    place.plain(&list).run().expect_code(0);
}

#[test]
fn an_id_makes_a_second_submission_harmless_and_another_one_an_error() {
    let place = Place::new();
    let list = place.file("l.csv", "email\na@x.example\nb@x.example\nA@X.example\n");
    let first = place.plain(&list).args(["--id", "weekly 47/b"]).run().expect_code(0);
    let second = place.plain(&list).args(["--id", "weekly 47/b"]).run().expect_code(0);
    assert_eq!(job_of(&first), job_of(&second));
    assert_eq!(place.jobs().len(), 1);
    assert_eq!(place.addresses(job_of(&first)).len(), 2);
    let json = place.plain(&list).args(["--id", "weekly 47/b", "--json"]).run().expect_code(0).json();
    assert_eq!((&json["existed"], json["recipients"].as_u64()), (&true.into(), Some(2)));
    let other = place.file("other.csv", "email\nc@x.example\n");
    let run = place.plain(&other).args(["--id", "weekly 47/b"]).run().expect_code(65);
    assert!(run.stderr.contains(job_of(&first)), "{}", run.stderr);
    assert_eq!(place.addresses(job_of(&first)), ["a@x.example", "b@x.example"]);
}

#[test]
fn bad_lines_are_listed_beside_the_list_and_the_rest_goes_on() {
    let place = Place::new();
    let rows = "email,first_name\na@x.example,A\nnot-an-address,B\nb@x.example\n\
                c@x.example,\"C\nBcc: evil@x.example\"\nd@x.example,D\nD@x.example,D2\n";
    let list = place.file("l.csv", rows);
    let run = place.merged(&list).run().expect_code(0);
    assert_eq!(place.addresses(job_of(&run)), ["a@x.example", "d@x.example"]);
    let rejects = fs::read_to_string(place.path("l.csv.rejects.csv")).expect("a rejects file");
    let lines: Vec<csv::StringRecord> =
        csv::Reader::from_reader(rejects.as_bytes()).records().map(|r| r.expect("CSV")).collect();
    assert_eq!(lines.iter().map(|l| &l[0]).collect::<Vec<_>>(), ["3", "4", "5"], "{rejects}");
    assert!(lines[2][1].contains("Subject"), "the place of the line break: {rejects}");
    let show = place.infeed(&["job", "show", "--json", job_of(&run)]).run().expect_code(0).json();
    assert_eq!((show["rejected_lines"].as_u64(), show["duplicates_dropped"].as_u64()), (Some(3), Some(1)));
}

#[test]
fn a_duplicate_of_a_row_that_was_rejected_is_no_duplicate() {
    let place = Place::new();
    let list = place.file("l.csv", "email,first_name\na@x.example,\"A\nB\"\na@x.example,A\n");
    let run = place.merged(&list).run().expect_code(0);
    assert_eq!(place.addresses(job_of(&run)), ["a@x.example"]);
}

#[test]
fn rejects_go_where_they_are_asked_to_and_never_over_a_file() {
    let place = Place::new();
    let list = place.file("l.csv", "email\na@x.example\nbad\n");
    let there = place.file("there.csv", "mine");
    place.plain(&list).arg("--rejects").arg(&there).run().expect_code(0);
    assert_eq!(fs::read_to_string(&there).expect("read"), "mine");
    assert!(fs::read_to_string(place.path("there.csv.1")).expect("a rejects file").contains("3,"));
    assert!(!place.path("l.csv.rejects.csv").exists());
}

#[test]
fn strict_refuses_all_for_one_bad_line_and_leaves_nothing() {
    let place = Place::new();
    let list = place.file("l.csv", "email\na@x.example\nbad\nb@x.example\n");
    let run = place.plain(&list).arg("--strict").run().expect_code(65);
    assert!(run.stderr.contains("line 3") && run.stderr.contains("--strict"), "{}", run.stderr);
    assert!(place.jobs().is_empty());
    assert!(!place.path("l.csv.rejects.csv").exists());
    assert_eq!(fs::read_dir(place.path("spool/incoming")).expect("a folder").count(), 0);
}

#[test]
fn a_list_without_recipients_is_refused() {
    let place = Place::new();
    for rows in ["email\n", "email\nbad\n"] {
        let list = place.file("l.csv", rows);
        let run = place.plain(&list).run().expect_code(65);
        assert!(run.stderr.contains("no recipients"), "{}", run.stderr);
    }
    assert!(place.jobs().is_empty());
}

#[test]
fn a_suppression_list_must_be_readable_when_it_is_submitted() {
    let place = Place::new();
    let list = place.list(3);
    place.plain(&list).arg("--suppress").arg(place.path("absent")).run().expect_code(66);
    let empty = place.file("empty", "");
    place.plain(&list).arg("--suppress").arg(&empty).run().expect_code(65);
    let wrong = place.file("wrong", "email,first_name\n");
    place.plain(&list).arg("--suppress").arg(&wrong).run().expect_code(65);
    assert!(place.jobs().is_empty());
    let good = place.file("good", "@d1.example\n");
    let json = place.plain(&list).arg("--json").arg("--suppress").arg(&good).run().expect_code(0).json();
    assert_eq!(json["suppressed"], 1);
}

#[test]
fn what_is_not_there_is_no_input_and_what_is_misspelt_is_usage() {
    let place = Place::new();
    let list = place.list(1);
    place.plain(&place.path("absent.csv")).run().expect_code(66);
    place.infeed(&["submit", "absent.eml", "--to"]).arg(&list).run().expect_code(66);
    place.plain(&list).arg("--bogus").run().expect_code(64);
    place.plain(&list).args(["--notify", "sometimes"]).run().expect_code(64);
    place.infeed(&["submit"]).arg(place.path("plain.eml")).run().expect_code(64);
    place.infeed(&["submit", "-", "--to", "-"]).run().expect_code(64);
    place.plain(&list).args(["--test-to", "nobody"]).run().expect_code(64);
    place.plain(&list).args(["--set", "mta.conections=3"]).run().expect_code(64);
    place.plain(&list).args(["--mta", "no port"]).run().expect_code(64);
    place.plain(&list).args(["--sender", "not an address"]).run().expect_code(65);
    assert!(place.jobs().is_empty());
}

#[test]
fn message_or_list_may_come_from_standard_input() {
    let place = Place::new();
    let run = place.plain(Path::new("-")).stdin("a@x.example\nb@x.example\n").run().expect_code(0);
    assert_eq!(place.addresses(job_of(&run)).len(), 2);
    let list = place.list(3);
    let run = place.infeed(&["submit", "-", "--to"]).arg(&list).stdin(PLAIN).run().expect_code(0);
    assert_eq!(place.addresses(job_of(&run)).len(), 3);
}

#[test]
fn test_to_is_a_job_of_the_first_samples_and_needs_no_confirmation() {
    let place = Place::new();
    let list = place.list(1500);
    let test = || place.merged(&list).args(["--test-to", "me@x.example", "--samples", "3"]).run();
    let run = test().expect_code(0);
    test().expect_code(0);
    assert_eq!(place.addresses(job_of(&run)).len(), 3);
    let show = place.infeed(&["job", "show", "--json", job_of(&run)]).run().expect_code(0).json();
    assert_eq!(show["test_to"], "me@x.example");
    // the real one is not held to be sent
    place.merged(&list).arg("--yes").run().expect_code(0);
}

#[test]
fn a_dry_run_tells_everything_and_leaves_nothing() {
    let place = Place::new();
    let rows = "email,first_name\na@x.example,Ann\nb@y.example,Bob\nb@Y.example,Bob\nbad,X\nc@y.example,Christopher\n";
    let list = place.file("l.csv", rows);
    let sup = place.file("sup", "c@y.example\n");
    let dry = || place.merged(&list).arg("--dry-run").arg("--suppress").arg(&sup);
    let json = dry().args(["--json", "--samples", "2"]).run().expect_code(0).json();
    for (key, value) in
        [("recipients", 3), ("duplicates_dropped", 1), ("rejected_lines", 1), ("suppressed", 1)]
    {
        assert_eq!(json[key], value, "{key}: {json}");
    }
    assert_eq!(json["sender"], "news@lists.example");
    assert_eq!(json["top_domains"][0], serde_json::json!({ "domain": "y.example", "recipients": 2 }));
    let samples = json["samples"].as_array().expect("samples");
    assert_eq!(samples.len(), 2);
    let second = samples[1]["message"].as_str().expect("text");
    assert!(second.contains("Dear Bob.\r\n") && second.contains("Message-ID: "), "{second}");
    let size = |key: &str| json[key].as_u64().expect("a number");
    assert_eq!(size("size_octets_median") as usize, second.len());
    assert!(size("size_octets_min") <= size("size_octets_median"));
    assert_eq!(size("size_octets_max") - size("size_octets_min"), 2 * ("Christopher".len() - 3) as u64);
    let text = dry().run().expect_code(0).stdout;
    assert!(text.contains("Dear Ann.") && text.contains("y.example"), "{text}");
    assert!(!place.path("spool").exists());
    assert!(!place.path("l.csv.rejects.csv").exists());
    dry().args(["--expect-recipients", "4"]).run().expect_code(65);
    dry().arg("--strict").run().expect_code(65);
}

#[test]
fn the_spool_is_the_flag_s_else_the_configuration_s_else_the_user_s() {
    let place = Place::new();
    let list = place.list(1);
    let submit = || infeed(["submit"]).arg(place.path("plain.eml")).arg("--to").arg(&list);
    let by_config = format!("spool.dir={}", place.path("configured").display());
    submit().args(["--set", &by_config]).run().expect_code(0);
    assert!(place.path("configured/meta.toml").exists());
    submit().args(["--set", &by_config]).arg("--spool").arg(place.path("flag")).run().expect_code(0);
    assert!(place.path("flag/meta.toml").exists());
    let variable = place.path("variable");
    submit().env("INFEED_SPOOL_DIR", &variable).run().expect_code(0);
    assert!(variable.join("meta.toml").exists());
    if !rustix::process::geteuid().is_root() && !Path::new("/var/spool/infeed").exists() {
        submit().env("XDG_STATE_HOME", place.path("state")).run().expect_code(0);
        assert!(place.path("state/infeed/spool/meta.toml").exists());
    }
}

#[test]
fn a_folder_that_is_no_spool_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path("spool")).expect("a folder");
    place.file("spool/precious", "mine");
    let list = place.list(1);
    place.plain(&list).run().expect_code(65);
    assert_eq!(fs::read_dir(place.path("spool")).expect("a folder").count(), 1);
}

#[test]
fn a_submit_that_is_killed_leaves_nothing_or_the_whole_job() {
    let place = Place::new();
    let recipients = 30_000;
    let list = place.list(recipients);
    let whole = std::time::Instant::now();
    place.plain(&list).args(["--yes", "--id", "calm"]).run().expect_code(0);
    let whole = whole.elapsed();
    let (mut nothing, mut all) = (0, 0);
    for round in 0..24u32 {
        let id = format!("killed-{round}");
        let running = place.plain(&list).args(["--yes", "--again", "--id", &id]).spawn();
        // moments spread over the time that a whole submission takes, and beyond it
        std::thread::sleep(whole * round / 20);
        running.signal(rustix::process::Signal::KILL);
        running.wait(std::time::Duration::from_secs(60));
        let show = place.infeed(&["job", "show", "--json", &id]).run();
        match show.code {
            Some(66) => nothing += 1,
            Some(0) => {
                all += 1;
                assert_eq!(show.json()["pending"], recipients, "{id}");
                assert_eq!(place.addresses(&id).len(), recipients, "{id}");
            }
            code => panic!("{id}: {code:?}: {}", show.stderr),
        }
        // and the way is free for the next one under the same id
        if round % 8 == 0 {
            let again = place.plain(&list).args(["--yes", "--again", "--id", &id]);
            again.run().expect_code(0);
        }
    }
    assert!(nothing > 0, "every kill came too late: {all}");
    place
        .infeed(&["submit"])
        .arg(place.path("plain.eml"))
        .arg("--to")
        .arg(place.list(1))
        .run()
        .expect_code(0);
    assert_eq!(fs::read_dir(place.path("spool/incoming")).expect("a folder").count(), 0, "swept");
    place.infeed(&["spool", "check"]).run().expect_code(0);
}
