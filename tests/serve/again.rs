//! A key that is used again: what is submitted under it is what goes out, whatever it stood for before.

use crate::common::daemon::{DEADLINE, Daemon, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;

const JOBS: usize = 60;
const RECIPIENTS: usize = 12;

#[test]
fn a_job_submitted_anew_under_the_key_of_a_cancelled_one_sends_the_new_message() {
    let desk = Desk::new();
    let ledger = desk.path("sink");
    let sink = SinkProcess::start(&ledger, &["--latency-ms", "20"]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--connections", "4"]);
    let corrected = SHARED.replace("Hello, all of you", "The link in our last letter was wrong");
    let submit = |tag: &str, text: &str| {
        let flags = ["--id", tag, "--again", "--set", "spool.chunk_recipients_max=1"];
        desk.submit_list(tag, RECIPIENTS, text, &flags)
    };
    let tags: Vec<String> = (0..JOBS).map(|i| format!("k{i}")).collect();
    for tag in &tags {
        submit(tag, SHARED);
    }
    // in the midst of them all, some with a chunk in hand and some without
    wait_until("deliveries", DEADLINE, || sink.tail().waiting() >= 200);
    desk.infeed(&["pause", "--all"]).run().expect_code(0);
    wait_until("end of what was in flight", DEADLINE, || desk.status()["in_flight"] == 0);
    let before = sink.tail().waiting();
    let mut renewed = Vec::new();
    for tag in &tags {
        if desk.show(tag)["state"] == "done" {
            continue;
        }
        desk.infeed(&["job", "cancel", tag]).run().expect_code(0);
        desk.infeed(&["job", "remove", tag]).run().expect_code(0);
        submit(tag, &corrected);
        renewed.push(tag.clone());
    }
    assert!(!renewed.is_empty(), "all were done: {before} deliveries before the pause");
    desk.infeed(&["resume", "--all"]).run().expect_code(0);
    for tag in &renewed {
        desk.wait_state(tag, "done");
    }
    daemon.stop();
    let lines = sink.stop().1;
    let (old, after) = lines.split_at(before);
    let body = &old[0].body_sha1;
    assert!(old.iter().all(|entry| entry.body_sha1 == *body));
    assert_eq!(after.len(), renewed.len() * RECIPIENTS);
    let stale = after.iter().filter(|entry| entry.body_sha1 == *body).count();
    assert_eq!(stale, 0, "the old message went to {stale} of {} after it was corrected", after.len());
}
