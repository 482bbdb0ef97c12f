//! Jobs that only one MTA may take.

use std::io::Write;

use crate::common::daemon::{MERGED, SHARED};
use crate::common::tally::{Repeats, Tally};
use crate::farm::Farm;

#[test]
fn jobs_for_a_dead_mta_wait_are_told_and_keep_nobody_else_waiting() {
    let mut farm = Farm::new();
    farm.sink("good", &[], "");
    farm.down("dead");
    farm.hole("hole");
    let daemon = farm.serve();
    // more than fits in the hand at once, for each of the bad ones
    let dead: Vec<(String, String)> = (0..3)
        .map(|i| format!("dead{i}"))
        .map(|tag| (farm.submit(&tag, 12_000, SHARED, &[], Some("dead")), tag))
        .collect();
    let hole = farm.submit("hole", 12_000, MERGED, &["--merge"], Some("hole"));
    let any = farm.submit("any", 1_500, MERGED, &["--merge"], None);
    let good = farm.submit("good", 1_500, SHARED, &[], Some("good"));
    for job in [&any, &good] {
        farm.desk.wait_state(job, "done");
    }
    let status = farm.desk.status();
    assert_eq!((&status["jobs"]["active"], &status["backlog"]["recipients"]), (&4.into(), &48_000.into()));
    for job in dead.iter().map(|(job, _)| job).chain([&hole]) {
        let active = status["active"].as_array().expect("a list");
        let line = active.iter().find(|line| line["job"] == job.as_str());
        assert!(line.is_some_and(|line| line["pending"] == 12_000), "{job}: {status}");
    }
    let mta = farm.desk.mta_status("dead");
    assert!(mta["state"] == "down" && mta["why"].is_string(), "{mta}");
    assert!(status["note"].as_str().is_some_and(|note| note.contains("dead: the MTA is down")), "{status}");

    // it comes back; the other goes
    farm.desk.infeed(&["job", "cancel", &hole]).run().expect_code(0);
    farm.mend("dead", &[]);
    for (job, _) in &dead {
        farm.desk.wait_state(job, "done");
    }
    daemon.stop();
    let tally = Tally::of(&farm.taken("dead"));
    for (job, tag) in &dead {
        assert_eq!(tally.judge(&farm.desk, job, tag, Repeats::None).accepted, 12_000);
    }
    assert_eq!((tally.all(), farm.taken("good").len()), (36_000, 3_000));
    farm.desk.check();
}

#[test]
fn a_job_whose_mta_is_taken_out_is_named_and_goes_on_when_it_is_back() {
    let mut farm = Farm::new();
    farm.sink("stays", &[], "");
    farm.sink("goes", &["--latency-ms", "20"], "connections = 2");
    let with_both = std::fs::read_to_string(farm.config()).expect("the configuration");
    let (with_one, _) = with_both.split_once("[[mta]]\nname = 'goes'").expect("two tables");
    let daemon = farm.serve();
    let job = farm.submit("job", 1_000, MERGED, &["--merge"], Some("goes"));
    farm.desk.wait_accepted(&job, 20);
    farm.desk.configure(with_one);
    farm.desk.infeed(&["reload"]).run().expect_code(0);
    let other = farm.submit("other", 200, SHARED, &[], None);
    farm.desk.wait_state(&other, "done");
    let status = farm.desk.status();
    let left = status["left_alone"].as_array().expect("a list");
    let line = left.iter().find(|line| line["job"] == job.as_str()).unwrap_or_else(|| panic!("{status}"));
    assert!(line["reason"].as_str().is_some_and(|why| why.contains("goes")), "{line}");
    // whoever follows it is told the same
    let progress = progress(&farm, &job);
    assert_eq!(progress["ok"]["left_alone"], line["reason"], "{progress}");
    farm.desk.configure(&with_both);
    farm.desk.infeed(&["reload"]).run().expect_code(0);
    farm.desk.wait_state(&job, "done");
    assert_eq!(farm.desk.status()["left_alone"], serde_json::json!([]));
    daemon.stop();
    let tally = Tally::of(&farm.taken("goes"));
    assert_eq!(tally.judge(&farm.desk, &job, "job", Repeats::None).accepted, 1_000);
    assert_eq!((tally.all(), farm.taken("stays").len()), (1_000, 200));
}

/// What the daemon answers to one who follows the job.
fn progress(farm: &Farm, job: &str) -> serde_json::Value {
    let socket = farm.desk.spool().join("control.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("the daemon listens");
    writeln!(stream, r#"{{"do":"progress","job":"{job}"}}"#).expect("asked");
    serde_json::from_reader(stream).expect("an answer")
}

#[test]
fn a_drain_gives_a_dead_mta_up_with_69_and_has_done_the_rest() {
    let mut farm = Farm::new();
    farm.sink("good", &[], "");
    farm.down("dead");
    let pinned = farm.submit("pinned", 40, SHARED, &[], Some("dead"));
    let any = farm.submit("any", 800, MERGED, &["--merge"], None);
    let drain = || {
        let config = farm.config();
        farm.desk.infeed(&["drain", "--json", "--config", &config, "--set", "mta.wait_first_s=1"])
    };
    let run = drain().run().expect_code(69);
    let said = run.json();
    assert_eq!((&said["accepted"], &said["unfinished"]), (&800.into(), &40.into()), "{said}");
    assert!(run.stderr.contains("dead"), "{}", run.stderr);
    assert_eq!(
        (&farm.desk.show(&any)["state"], &farm.desk.show(&pinned)["pending"]),
        (&"done".into(), &40.into())
    );
    farm.mend("dead", &[]);
    let config = farm.config();
    farm.desk.infeed(&["drain", "--config", &config]).run().expect_code(0);
    assert_eq!((farm.taken("dead").len(), farm.taken("good").len()), (40, 800));
}
