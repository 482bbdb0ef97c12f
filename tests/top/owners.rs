//! Owners that die, hang and come back, while somebody looks on.

use rustix::process::Signal;

use super::top;
use crate::common::daemon::{Daemon, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;

#[test]
fn an_owner_that_is_killed_is_gone_from_the_screen_and_its_successor_is_on_it() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "20"]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    let job = desk.submit_list("job", 2_000, SHARED, &["--id", "weekly-47", "--messages-per-second", "1"]);
    let mut terminal = top(&desk);
    terminal.wait_text(&format!("serve, process {}", daemon.pid()));
    daemon.kill();
    terminal.wait_text("nobody drains this spool now");
    // the spool's own figures
    terminal.wait_text("weekly-47");
    assert_eq!(desk.show(&job)["state"], "active");
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    terminal.wait_text(&format!("serve, process {}", daemon.pid()));
    assert!(!terminal.text().contains("nobody drains"), "{}", terminal.text());
    terminal.press("q");
    terminal.wait_given_back().expect_code(0);
    daemon.stop();
}

#[test]
fn keys_are_heard_while_an_owner_does_not_answer() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    desk.submit_list("job", 200, SHARED, &["--id", "weekly-47", "--messages-per-second", "0.1"]);
    let mut terminal = top(&desk);
    terminal.wait_text("weekly-47");
    daemon.signal(Signal::STOP);
    terminal.wait_text("NO ANSWER for");
    terminal.wait_text("weekly-47");
    terminal.press("?");
    terminal.wait_text("infeed top: keys");
    terminal.press("x");
    terminal.wait_text("NO ANSWER for");
    daemon.signal(Signal::CONT);
    terminal.wait("answer", |text| text.contains("weekly-47") && !text.contains("NO ANSWER"));
    daemon.signal(Signal::STOP);
    terminal.wait_text("NO ANSWER for");
    // nor does its end wait for the owner
    terminal.press("q");
    terminal.wait_given_back().expect_code(0);
    daemon.signal(Signal::CONT);
    daemon.stop();
}
