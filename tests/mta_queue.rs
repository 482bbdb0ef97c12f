//! The MTA's own queue as infeed counts it, against what a real Postfix and a real sendmail say of theirs.

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use common::daemon::{DEADLINE, Daemon, SHARED};
use common::desk::Desk;
use common::mta::{Postfix, Relay, Sendmail, skip, skip_or_require};
use common::sink::SinkProcess;
use common::wait::{wait_for, wait_until};

/// Messages that are queued: one recipient each.
const MESSAGES: usize = 120;
/// A user who may read nothing of an MTA's.
const NOBODY: u32 = 65_534;

/// A daemon whose MTA has these further settings; it has handed over all of a job when this returns.
fn fill(desk: &Desk, address: &str, settings: &str) -> Daemon {
    let mta = format!("[mta]\naddress = '{address}'\nrecipients_per_transaction_max = 1\n");
    desk.configure(&(mta + settings));
    let daemon = Daemon::configured(desk);
    let job = desk.submit_list("job", MESSAGES, SHARED, &[]);
    desk.wait_state(&job, "done");
    daemon
}

/// What `status` says of the queue, once it says that.
fn wait_queue(desk: &Desk, what: &str, is_it: impl Fn(&Value) -> bool) -> String {
    let mut last = String::new();
    wait_for(&format!("queue of {what}"), DEADLINE, || {
        let mta = desk.mta_status("mta");
        let said = mta["queue_why"].as_str().unwrap_or_default().to_owned();
        if last != said {
            last.clone_from(&said);
            eprintln!("the queue of {what}: {said}");
        }
        is_it(&mta["queue"]).then_some(said)
    })
}

/// What `postqueue` lists in `incoming` and `active`.
fn postqueue(mta: &Postfix) -> usize {
    let listed = Command::new("/usr/sbin/postqueue").arg("-c").arg(mta.dir().join("etc")).arg("-j").output();
    let listed = String::from_utf8(listed.expect("postqueue runs").stdout).expect("JSON");
    let messages = listed.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    messages
        .filter(|message| message["queue_name"] == "incoming" || message["queue_name"] == "active")
        .count()
}

#[test]
fn what_waits_in_a_postfix_is_what_postqueue_lists_as_incoming_and_active() {
    if !skip_or_require("postfix") {
        return;
    }
    // nobody answers there: what is under way stays active
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its port").port();
    for hashed in ["hash_queue_names=deferred, defer", "hash_queue_names=incoming, active, deferred, defer"] {
        let mta = Postfix::start(Relay::To(port), &[hashed, "hash_queue_depth=2"]);
        let desk = Desk::new();
        let dir = mta.dir().join("spool");
        let daemon = fill(&desk, &mta.address(), &format!("queue_dir = '{}'\n", dir.display()));
        wait_until("all of it in Postfix's queue", DEADLINE, || postqueue(&mta) == MESSAGES);
        let said = wait_queue(&desk, hashed, |n| *n == MESSAGES);
        let expected = format!("{MESSAGES} messages (Postfix's incoming and active in {})", dir.display());
        assert_eq!(said, expected);
        let screen = desk.infeed(&["status"]).run().expect_code(0).stdout;
        assert!(screen.contains(&format!("queue {expected}")), "{screen}");
        daemon.stop();
    }
}

#[test]
fn a_postfix_whose_queue_is_not_ours_to_read_goes_by_its_replies_and_status_says_so() {
    if !skip_or_require("postfix") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("other users are played as root");
    }
    let mta = Postfix::start(Relay::Queue, &[]);
    let folder = common::mta::open_folder();
    let (binary, home) = (folder.path().join("infeed"), folder.path().join("home"));
    // by another process: a file that this one has open for writing can't be run by its other threads
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_infeed")).arg(&binary).status();
    assert!(copied.is_ok_and(|status| status.success()), "a copy that others may run");
    fs::create_dir(&home).expect("a home");
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).expect("root may");
    fs::write(home.join("m.eml"), SHARED).expect("a message");
    fs::write(home.join("list.csv"), "email\na@d.example\n").expect("a list");
    let dir = mta.dir().join("spool");
    let infeed = |words: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(words).arg("--spool").arg(home.join("spool")).current_dir(&home).uid(NOBODY).gid(NOBODY);
        command.env_clear().env("HOME", &home).env("INFEED_CONFIG", "/dev/null").stdin(Stdio::null());
        command.env("INFEED_MTA_ADDRESS", mta.address()).env("INFEED_MTA_QUEUE_DIR", &dir);
        command
    };
    let mut daemon = infeed(&["serve"]).stderr(Stdio::null()).spawn().expect("it starts");
    let submitted = infeed(&["submit", "m.eml", "--to", "list.csv", "--yes"]).output().expect("it runs");
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let said = wait_for("reason in the status", DEADLINE, || {
        assert_eq!(daemon.try_wait().expect("ours"), None, "the daemon has ended");
        let status = infeed(&["status", "--json"]).output().expect("it runs").stdout;
        let status: Value = serde_json::from_slice(&status).ok()?;
        let queue =
            status["mtas"].as_array()?.iter().find(|mta| mta["name"] == "mta")?["queue_why"].as_str()?;
        queue.contains("Permission denied").then(|| queue.to_owned())
    });
    let unreadable =
        format!("not known (not readable ({}: Permission denied", dir.join("incoming").display());
    assert!(said.starts_with(&unreadable) && said.ends_with("by its replies alone"), "{said}");
    wait_until("the message in Postfix's queue", DEADLINE, || mta.queued() == 1);
    let daemon_pid = Pid::from_raw(i32::try_from(daemon.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(daemon_pid, Signal::TERM).expect("ours");
    assert!(daemon.wait().expect("ours").success());
}

/// How far above its target the queue may come: what was taken before the first reading showed it.
const OVERSHOOT: usize = 3;

#[test]
fn a_postfix_that_delivers_slowly_is_fed_as_fast_as_it_delivers_and_its_queue_stays_bounded() {
    if !skip_or_require("postfix") {
        return;
    }
    let (target, messages) = (100, 700);
    let desk = Desk::new();
    let world = SinkProcess::start(&desk.path("world"), &["--service-us", "40000"]);
    // two deliveries at a time, so that some 50 a second leave, where it takes several times as many
    let slow = ["default_destination_concurrency_limit=2", "initial_destination_concurrency=2"];
    let mta = Postfix::start(Relay::To(world.port()), &slow);
    let dir = mta.dir().join("spool");
    desk.configure(&format!(
        "[mta]\naddress = '{}'\nrecipients_per_transaction_max = 1\nqueue_dir = '{}'\nqueue_target = {target}\n",
        mta.address(),
        dir.display(),
    ));
    let daemon = Daemon::configured(&desk);
    let job = desk.submit_list("job", messages, SHARED, &[]);
    let mut most = 0;
    wait_until("the end of the job", DEADLINE, || {
        most = most.max(postqueue(&mta));
        desk.show(&job)["state"] == "done"
    });
    assert!(most <= OVERSHOOT * target, "{most} messages in a queue that is to hold {target}");
    assert!(most >= target / 5, "{most} messages at most: it was kept waiting");
    wait_until("all of it delivered", DEADLINE, || world.tail().waiting() >= messages);
    daemon.stop();
    assert_eq!(world.stop().1.len(), messages);
}

#[test]
fn what_waits_in_a_sendmail_is_what_lies_in_its_queue_folders() {
    if !skip_or_require("sendmail") {
        return;
    }
    let queues = common::mta::open_folder();
    for name in ["q1", "q2/qf", "q2/df", "q2/xf"] {
        fs::create_dir_all(queues.path().join(name)).expect("a queue folder");
    }
    let groups = format!("define(`QUEUE_DIR', `{}/q*')dnl", queues.path().display());
    let mta = Sendmail::start(Relay::Queue, &[&groups]);
    let desk = Desk::new();
    let daemon = fill(&desk, &mta.address(), &format!("queue_dir = '{}/q*'\n", queues.path().display()));
    let said = wait_queue(&desk, "sendmail", |n| *n == MESSAGES);
    assert_eq!(said, format!("{MESSAGES} messages (sendmail's {}/q*)", queues.path().display()));
    let of = |folder: &str| files(&queues.path().join(folder));
    assert!(of("q1") > 0 && of("q2/qf") > 0, "one queue folder has it all");
    daemon.stop();
}

fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    entries.filter(|name| name.to_string_lossy().starts_with("qf")).count()
}

#[test]
fn a_sendmail_is_asked_by_its_control_socket() {
    if !skip_or_require("sendmail") {
        return;
    }
    // sendmail makes it only where nobody else may write in a folder above it
    let Ok(folder) = tempfile::tempdir_in("/run") else {
        return skip("no folder of root's for a socket: /run");
    };
    let socket = folder.path().join("control");
    // nobody answers there: what the queue runners take up stays queued
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    // a key of this process's own: the sendmails of other tests must not meet in it
    let key = 0x1f_0000 + std::process::id();
    let lines = [
        format!("define(`confCONTROL_SOCKET_NAME', `{}')dnl", socket.display()),
        format!("define(`confSHARED_MEMORY_KEY', `{key}')dnl"),
        "define(`confDELIVERY_MODE', `queueonly')dnl".to_owned(),
    ];
    let port = silent.local_addr().expect("its port").port();
    let mta = Sendmail::start(Relay::To(port), &lines.each_ref().map(String::as_str));
    let desk = Desk::new();
    let daemon = fill(&desk, &mta.address(), &format!("control_socket = '{}'\n", socket.display()));
    let said = wait_queue(&desk, "sendmail", |n| *n == MESSAGES);
    assert_eq!(said, format!("{MESSAGES} messages (sendmail's control socket {})", socket.display()));
    assert_eq!(mta.queued(), 2 * MESSAGES, "an envelope and a body each");
    daemon.stop();
}
