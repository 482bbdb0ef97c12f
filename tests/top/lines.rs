//! Where there is no terminal to draw on: lines of text.

use std::io::Read;

use crate::common::daemon::{DEADLINE, Daemon, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::terminal::Terminal;
use crate::common::wait::wait_until;

#[test]
fn a_dumb_terminal_gets_lines_without_any_escape() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    let job = desk.submit_list("job", 40, SHARED, &[]);
    desk.wait_state(&job, "done");
    let hostile = "\u{1b}[31mx";
    desk.infeed(&["pause", "--all", "--reason", hostile]).run().expect_code(0);
    let infeed = desk.infeed(&["top", "--interval", "0.1"]).env("TERM", "dumb");
    let terminal = Terminal::start(infeed, 24, 200);
    wait_until("three lines", DEADLINE, || terminal.octets().iter().filter(|&&o| o == b'\n').count() >= 3);
    let octets = terminal.octets();
    let text = String::from_utf8_lossy(&octets);
    assert!(text.lines().next().is_some_and(|line| line.contains("40 accepted")), "{text}");
    assert!(text.contains("EVERYTHING IS PAUSED: ?[31mx"), "{text}");
    // the terminal's own line ends
    assert!(octets.iter().all(|o| !o.is_ascii_control() || b"\r\n".contains(o)), "{text:?}");
    terminal.signal(rustix::process::Signal::KILL);
    daemon.stop();
}

#[test]
fn a_pipe_gets_a_line_once_and_json_is_the_status() {
    let desk = Desk::new();
    let once = |flags: &[&str]| desk.infeed(&["top", "--once"]).args(flags).run().expect_code(0);
    assert!(once(&[]).stdout.contains("no spool at"));
    assert!(once(&["--json"]).json().is_null());
    desk.submit_list("job", 40, SHARED, &[]);
    let line = once(&[]).stdout;
    assert!(line.contains("nobody drains this spool now") && line.contains("backlog 40: 40 due"), "{line}");
    assert_eq!((line.lines().count(), line.ends_with('\n')), (1, true));
    let (of_top, mut of_status) = (once(&["--json"]).json(), desk.status());
    // what is free changes by itself
    of_status["space"] = of_top["space"].clone();
    assert_eq!(of_top, of_status);
    desk.infeed(&["top", "--interval", "0"]).run().expect_code(64);
}

#[test]
fn it_ends_when_nobody_reads_its_lines_any_more() {
    let desk = Desk::new();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut running = desk.infeed(&["top", "--interval", "0.1"]).spawn_on(&writer.into());
    let mut line = [0; 10];
    reader.read_exact(&mut line).expect("a line");
    drop(reader);
    wait_until("its end", DEADLINE, || running.try_wait().is_some());
    assert_eq!(running.wait(DEADLINE).code, Some(0));
}

#[test]
fn what_people_wrote_is_harmless_on_a_terminal_whatever_command_shows_it() {
    let desk = Desk::new();
    let job = desk.submit_list("job", 40, SHARED, &[]);
    let hostile = "\u{1b}]0;owned\u{7}\u{9b}31mx";
    desk.infeed(&["job", "pause", &job, "--reason", hostile]).run().expect_code(0);
    for command in
        [&["status"][..], &["jobs"], &["job", "show", &job], &["job", "resume", &job], &["pause", "--all"]]
    {
        let terminal = Terminal::start(desk.infeed(command), 24, 200);
        wait_until("a line", DEADLINE, || terminal.octets().contains(&b'\n'));
        let octets = terminal.wait_end();
        let text = String::from_utf8_lossy(&octets);
        assert!(!text.contains(|c: char| c.is_control() && !"\r\n".contains(c)), "{command:?}: {text:?}");
    }
    // a file has what was said
    desk.infeed(&["job", "pause", &job, "--reason", hostile]).run().expect_code(0);
    assert!(desk.infeed(&["status"]).run().expect_code(0).stdout.contains(hostile));
}
