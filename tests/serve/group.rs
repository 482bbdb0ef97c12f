//! The second control socket, for people who may not read the spool. Needs root: it acts as other users.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::daemon::{Daemon, SHARED};
use crate::common::desk::Desk;
use crate::common::mta::skip;

/// Numbers that need no entry in passwd(5) or group(5).
const OPERATOR: u32 = 54_321;
const GROUP: u32 = 54_322;
const STRANGERS: u32 = 54_323;

#[test]
fn people_of_the_sockets_group_may_ask_and_pause_and_others_may_not() {
    if !rustix::process::geteuid().is_root() {
        skip("the control socket for a group: needs root, to act as other users");
        return;
    }
    let desk = Desk::new();
    // where they may go, with a binary that they may run
    let open = tempfile::tempdir().expect("a temporary folder");
    let all = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(open.path(), all(0o755)).expect("opened");
    let binary = open.path().join("infeed");
    std::fs::copy(env!("CARGO_BIN_EXE_infeed"), &binary).expect("copied");
    std::fs::set_permissions(&binary, all(0o755)).expect("opened");
    let socket = open.path().join("control.sock");
    let place = format!("control.socket={}", socket.display());
    let group = format!("control.socket_group={GROUP}");
    let daemon = Daemon::start(&desk, &["--mta", "127.0.0.1:1", "--set", &place, "--set", &group]);
    let job = desk.submit_list("job", 20, SHARED, &[]);

    let spool = desk.spool();
    let as_one_of = |gid: u32, words: &[&str]| run_as(&binary, gid, &spool, &place, words);
    let status = as_one_of(GROUP, &["status", "--json"]);
    assert!(status.status.success(), "{status:?}");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(
        (&status["owners"][0]["command"], &status["backlog"]["recipients"]),
        (&"serve".into(), &20.into())
    );
    for words in [&["job", "pause", &job][..], &["job", "show", &job], &["jobs"], &["pause", "--all"]] {
        let run = as_one_of(GROUP, words);
        assert!(run.status.success(), "{words:?}: {run:?}");
    }
    assert_eq!(
        (&desk.show(&job)["state"], &desk.status()["standstill"]["job"]),
        (&"paused".into(), &"all".into())
    );

    let run = as_one_of(STRANGERS, &["job", "resume", &job]);
    assert_eq!(run.status.code(), Some(77), "{run:?}");
    assert_eq!(desk.show(&job)["state"], "paused");
    daemon.stop();
    assert!(!socket.exists(), "an orderly end takes the name away");
}

fn run_as(binary: &Path, gid: u32, spool: &Path, place: &str, words: &[&str]) -> Output {
    Command::new(binary)
        .args(words)
        .arg("--spool")
        .arg(spool)
        .args(["--set", place])
        .env_clear()
        .env("INFEED_CONFIG", "/dev/null")
        .current_dir("/")
        .uid(OPERATOR)
        .gid(gid)
        .output()
        .expect("infeed runs")
}
