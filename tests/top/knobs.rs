//! What is on the screen is what the ledger says, and the keys do what the commands do.

use super::top;
use crate::common::daemon::{Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;

#[test]
fn the_screens_count_comes_to_the_ledgers_and_keys_pause_resume_and_turn_n() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    desk.configure(&format!("[mta]\naddress = '{}'\n", sink.address()));
    let daemon = Daemon::configured(&desk);
    // slow enough to be there while the keys are pressed
    let slowly = ["--merge", "--id", "weekly-47", "--messages-per-second", "20"];
    let job = desk.submit_list("job", 3_000, MERGED, &slowly);
    let mut terminal = top(&desk);
    terminal.wait_text(">weekly-47");
    terminal.wait_text(" up ");

    terminal.press("p");
    desk.wait_state(&job, "paused");
    terminal.wait_text("weekly-47 is paused: r goes on");
    terminal.wait_text("paused since");

    let mta = desk.status()["mtas"][0]["name"].as_str().expect("a name").to_owned();
    desk.infeed(&["mta", "connections", "4"]).run().expect_code(0);
    terminal.wait_text("N is 4: fixed by an operator");
    terminal.press("+++");
    terminal.wait_text(&format!("7 connections to {mta}, until a reload"));
    assert_eq!(desk.mta_status(&mta)["connections"], 7);
    terminal.press("-");
    terminal.wait_text(&format!("6 connections to {mta}, until a reload"));
    assert_eq!(desk.mta_status(&mta)["connections"], 6);
    terminal.press("a");
    terminal.wait_text(&format!("auto connections to {mta}, until a reload"));
    assert_eq!(desk.mta_status(&mta)["target"], "auto");

    // asked first, and not done without a yes
    terminal.press("P");
    terminal.wait_text("pause everything? ");
    terminal.press("n");
    terminal.wait_text("not done: pause everything");
    assert!(desk.status()["standstill"].is_null());
    terminal.press("Py");
    terminal.wait_text("EVERYTHING IS PAUSED");
    assert!(desk.status()["standstill"].is_object());
    terminal.press("Ry");
    terminal.wait_text("everything goes on");
    assert!(desk.status()["standstill"].is_null());

    terminal.press("r");
    terminal.wait_text("weekly-47 is active, and goes on");
    desk.infeed(&["job", "rate", &job, "none"]).run().expect_code(0);
    desk.wait_state(&job, "done");
    terminal.wait_text("3,000 accepted");
    terminal.wait_text("no job is active or paused");
    assert_eq!(sink.tail().waiting(), 3_000);
    terminal.press("q");
    terminal.wait_given_back().expect_code(0);
    daemon.stop();
}

#[test]
fn a_cancel_names_the_job_and_those_who_are_left_and_is_done_on_yes_alone() {
    let desk = Desk::new();
    // no owner: it is done to the spool itself
    let (one, other) = (
        desk.submit_list("one", 1_200, SHARED, &["--id", "one"]),
        desk.submit_list("other", 700, SHARED, &["--id", "other"]),
    );
    let mut terminal = top(&desk);
    terminal.wait_text("nobody drains this spool now");
    terminal.wait_text(">one");
    terminal.press("j");
    terminal.wait_text(">other");
    terminal.press("c");
    terminal.wait_text("cancel other? 700 recipients of it are left");
    terminal.press("n");
    terminal.wait_text("not done: cancel other");
    assert_eq!(desk.show(&other)["state"], "active");
    terminal.press("c");
    terminal.wait_text("cancel other? ");
    terminal.press("y");
    terminal.wait_text("other is cancelled: 700 recipients will not get it");
    let states = [&one, &other].map(|job| desk.show(job)["state"].clone());
    assert_eq!(states, ["active", "cancelled"]);
    // what only an owner can do says so, in full
    terminal.press("+");
    terminal.wait_text("there is no MTA to change: nobody drains this spool now");
    terminal.press("q");
    terminal.wait_given_back().expect_code(0);
}
