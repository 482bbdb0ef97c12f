//! MTAs that are down, silent, slow or unwilling, beside a good one.

use crate::common::daemon::{DEADLINE, MERGED, SHARED};
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;
use crate::farm::Farm;

#[test]
fn what_may_go_to_any_goes_through_the_good_mta_without_waiting_for_bad_ones() {
    let mut farm = Farm::new();
    farm.down("down");
    farm.hole("hole");
    farm.sink("slow", &["--latency-ms", "400"], "connections = 2");
    farm.sink("unwilling", &["--fail", "banner=554"], "");
    farm.sink("hesitant", &["--fail", "mail=451"], "");
    farm.sink("good", &[], "");
    let daemon = farm.serve();
    let job = farm.submit("job", 4_000, MERGED, &["--merge"], None);
    // deferred by one of them, a recipient is tried again
    let done = farm.desk.wait_state(&job, "done");
    assert_eq!((&done["accepted"], &done["refused"]), (&4_000.into(), &0.into()));
    // a whole hour is not enough for the silent one to give up: its timeouts are RFC 5321's
    for (name, state) in [("down", "down"), ("hole", "idle"), ("unwilling", "paused"), ("good", "up")] {
        let mta = farm.desk.mta_status(name);
        assert_eq!(mta["state"], state, "{mta}");
        assert_eq!(mta["why"].is_string(), matches!(state, "down" | "paused"), "{mta}");
    }
    assert!(farm.desk.mta_status("unwilling")["why"].as_str().is_some_and(|why| why.contains("554")));
    let screen = farm.desk.infeed(&["status"]).run().expect_code(0).stdout;
    for name in ["down", "hole", "slow", "unwilling", "hesitant", "good"] {
        assert!(screen.contains(&format!("mta       {name} ")), "{name}: {screen}");
    }
    daemon.stop();
    let tally = Tally::of(&farm.taken_by_all());
    assert_eq!(tally.judge(&farm.desk, &job, "job", Repeats::None).accepted, 4_000);
    let (good, slow) = (farm.taken("good").len(), farm.taken("slow").len());
    assert_eq!(good + slow, 4_000);
    assert!(good > slow * 5, "{good} through the good one, {slow} through the slow one");
}

#[test]
fn an_mta_that_refused_us_is_used_again_after_mta_resume() {
    let mut farm = Farm::new();
    farm.sink("only", &["--fail", "banner=554"], "");
    let daemon = farm.serve();
    let job = farm.submit("job", 200, SHARED, &[], None);
    wait_until("paused MTA", DEADLINE, || farm.desk.mta_status("only")["state"] == "paused");
    assert_eq!(farm.desk.show(&job)["pending"], 200, "nobody was touched");
    farm.mend("only", &[]);
    let said = farm.desk.infeed(&["mta", "resume", "only", "--json"]).run().expect_code(0).json();
    assert_eq!(said["resumed"], 1);
    farm.desk.wait_state(&job, "done");
    daemon.stop();
    let tally = Tally::of(&farm.taken_by_all());
    assert_eq!(tally.judge(&farm.desk, &job, "job", Repeats::None).accepted, 200);
}

#[test]
fn a_full_mta_is_held_and_status_says_why() {
    let mut farm = Farm::new();
    farm.sink("only", &["--storage-full"], "");
    let daemon = farm.serve();
    let job = farm.submit("job", 200, SHARED, &[], None);
    wait_until("held MTA", DEADLINE, || farm.desk.mta_status("only")["state"] == "held");
    let mta = farm.desk.mta_status("only");
    assert!(mta["why"].as_str().is_some_and(|why| why.contains("452")), "{mta}");
    let screen = farm.desk.infeed(&["status"]).run().expect_code(0).stdout;
    assert!(screen.contains("held") && screen.contains("452 4.3.1"), "{screen}");
    farm.mend("only", &[]);
    assert_eq!(farm.desk.wait_state(&job, "done")["accepted"], 200);
    daemon.stop();
}

#[test]
fn an_mta_that_was_refusing_mail_for_a_while_takes_all_of_it_in_the_end() {
    let mut farm = Farm::new();
    let scenario =
        farm.desk.file("scenario.toml", "[[step]]\nat_s = 0\nfor_s = 2\nset = { fail = ['mail=451'] }\n");
    farm.sink("only", &["--scenario", &scenario.display().to_string()], "");
    let daemon = farm.serve();
    let job = farm.submit("job", 300, SHARED, &[], None);
    let done = farm.desk.wait_state(&job, "done");
    assert_eq!((&done["accepted"], &done["refused"]), (&300.into(), &0.into()));
    daemon.stop();
    let tally = Tally::of(&farm.taken_by_all());
    tally.judge(&farm.desk, &job, "job", Repeats::None);
}

#[test]
fn an_mta_that_restarts_is_used_again_and_nobody_is_lost_or_repeated_unmarked() {
    let mut farm = Farm::new();
    farm.sink("only", &["--latency-ms", "5"], "");
    let daemon = farm.serve();
    let job = farm.submit("job", 3_000, MERGED, &["--merge"], None);
    for round in 1..=3 {
        wait_until("growth of the ledger", DEADLINE, || farm.taken("only").len() >= round * 400);
        farm.mend("only", &["--latency-ms", "5"]);
    }
    farm.desk.wait_state(&job, "done");
    daemon.stop();
    let tally = Tally::of(&farm.taken_by_all());
    // connections that were cut between the dot and its reply are in doubt
    assert_eq!(tally.judge(&farm.desk, &job, "job", Repeats::Marked).accepted, 3_000);
    farm.desk.check();
}

#[test]
fn the_refusal_breaker_pauses_that_job_alone() {
    let mut farm = Farm::new();
    farm.sink("only", &["--latency-ms", "5"], "");
    let daemon = farm.serve();
    let other = farm.submit("other", 2_000, MERGED, &["--merge"], None);
    let people: Vec<String> = (0..300).map(|i| format!("refuse-550.{i}@d{}.example", i % 31)).collect();
    let (message, list) = (farm.desk.file("bad.eml", SHARED), farm.desk.file("bad.txt", people.join("\n")));
    let bad = farm.desk.submit(&message, &list, &[]);
    let show = farm.desk.wait_state(&bad, "paused");
    assert!(show["paused_reason"].as_str().is_some_and(|why| why.contains("550")), "{show}");
    assert_eq!((&show["refused"], &show["pending"]), (&0.into(), &300.into()), "{show}");
    let status = farm.desk.status();
    assert_eq!(status["paused"][0]["job"], bad.as_str(), "{status}");
    farm.desk.wait_state(&other, "done");
    // they are meant
    farm.desk.infeed(&["job", "resume", "--accept-refusals", &bad]).run().expect_code(0);
    assert_eq!(farm.desk.wait_state(&bad, "done")["refused"], 300);
    daemon.stop();
    let tally = Tally::of(&farm.taken_by_all());
    assert_eq!(tally.judge(&farm.desk, &other, "other", Repeats::None).accepted, 2_000);
    assert_eq!(tally.all(), 2_000);
}
