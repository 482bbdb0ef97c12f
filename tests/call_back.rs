//! Mail that a real Postfix has taken and not yet delivered is called back by the queue ids of its job.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::binary::infeed;
use common::desk::Desk;
use common::mta::{Postfix, Relay, skip_or_require};

/// Submits and sends; gives what `--queue-ids` prints.
fn deliver(desk: &Desk, mta: &Postfix, job: &str, recipients: usize) -> String {
    let message = desk.path("plain.eml");
    std::fs::write(&message, "From: news@lists.example\nSubject: x\n\nTo all.\n").expect("written");
    let list: String = (0..recipients).map(|i| format!("u{i}.{job}@x{}.example\n", i % 7)).collect();
    let on_desk = |words: &[&str]| infeed(["--spool"]).arg(desk.spool()).args(words);
    on_desk(&["submit", "--yes", "--to", "-", "--id", job]).arg(&message).stdin(list).run().expect_code(0);
    on_desk(&["drain", "--mta", &mta.address()]).run().expect_code(0);
    on_desk(&["job", "report", job, "--queue-ids"]).run().expect_code(0).stdout
}

/// `postsuper FLAG -` with these ids.
fn postsuper(mta: &Postfix, flag: &str, ids: &str) {
    let mut child = Command::new("/usr/sbin/postsuper")
        .arg("-c")
        .arg(mta.dir().join("etc"))
        .args([flag, "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("postsuper starts");
    child.stdin.take().expect("a pipe").write_all(ids.as_bytes()).expect("postsuper reads");
    let ended = child.wait_with_output().expect("postsuper ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn the_queue_ids_of_a_job_call_back_all_of_it_and_nothing_else() {
    if !skip_or_require("postfix") {
        return;
    }
    let desk = Desk::new();
    let mta = Postfix::start(Relay::Queue, &["enable_long_queue_ids=yes"]);
    let wrong = deliver(&desk, &mta, "wrong", 150);
    let wrong_messages = mta.queued();
    let right = deliver(&desk, &mta, "right", 90);
    let right_messages = mta.queued() - wrong_messages;
    assert_eq!((wrong.lines().count(), right.lines().count()), (wrong_messages, right_messages));

    postsuper(&mta, "-h", &wrong);
    assert_eq!(mta.queued(), wrong_messages + right_messages);
    postsuper(&mta, "-d", &wrong);
    assert_eq!(mta.queued(), right_messages);
    // once more does no harm
    postsuper(&mta, "-d", &wrong);
    postsuper(&mta, "-d", &right);
    assert_eq!(mta.queued(), 0);
}
