//! The terminal: taken over, followed when its size changes, given back; and nobody else writes on it.

use rustix::process::Signal;

use super::top;
use crate::common::daemon::{Daemon, MERGED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;

/// What takes the alternate screen.
const ALTERNATE: &[u8] = b"\x1b[?1049h";

fn times(octets: &[u8], what: &[u8]) -> usize {
    octets.windows(what.len()).filter(|part| *part == what).count()
}

#[test]
fn a_key_and_every_signal_that_ends_it_give_the_terminal_back() {
    let desk = Desk::new();
    for keys in ["q", "\u{3}", "\u{1b}"] {
        let mut terminal = top(&desk);
        assert_eq!(times(&terminal.octets(), ALTERNATE), 1);
        terminal.press(keys);
        terminal.wait_given_back().expect_code(0);
    }
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let terminal = top(&desk);
        terminal.signal(signal);
        terminal.wait_given_back().expect_code(0);
    }
}

#[test]
fn a_stop_gives_the_terminal_to_the_shell_and_it_is_taken_again_after_it() {
    let desk = Desk::new();
    let mut terminal = top(&desk);
    // without a shell nothing stops it; it takes the terminal again all the same
    terminal.press("\u{1a}");
    wait_until("screen taken again", crate::common::daemon::DEADLINE, || {
        times(&terminal.octets(), ALTERNATE) == 2
    });
    terminal.wait_text("no spool at");
    terminal.signal(Signal::STOP);
    terminal.signal(Signal::CONT);
    wait_until("screen drawn anew", crate::common::daemon::DEADLINE, || {
        times(&terminal.octets(), ALTERNATE) == 3
    });
    terminal.press("q");
    terminal.wait_given_back().expect_code(0);
}

#[test]
fn the_screen_follows_its_size() {
    let desk = Desk::new();
    let mut terminal = top(&desk);
    terminal.wait_text("Tab MTA");
    terminal.resize(12, 40);
    terminal.wait("small screen", |text| {
        text.lines().count() == 12
            && text.lines().last().is_some_and(|line| line == "q end  ? help  p r job  P R all")
    });
    terminal.resize(50, 160);
    terminal.wait("large screen", |text| {
        text.lines().count() == 50 && text.lines().last().is_some_and(|line| line.ends_with("s sort"))
    });
    terminal.press("q");
    terminal.wait_given_back().expect_code(0);
}

#[test]
fn what_strangers_and_operators_write_puts_no_escape_onto_the_terminal() {
    let desk = Desk::new();
    // as a script may hand a reason on
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31mhostile";
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "20"]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    let flags = ["--merge", "--messages-per-second", "1", "--id", "weekly\u{1b}[31m"];
    let job = desk.submit_list("hostile", 200, MERGED, &flags);
    desk.infeed(&["job", "pause", &job, "--reason", hostile]).run().expect_code(0);
    desk.infeed(&["pause", "--all", "--reason", hostile]).run().expect_code(0);
    let mut terminal = top(&desk);
    let line = terminal.wait_text("EVERYTHING IS PAUSED");
    assert!(line.contains("?]0;owned??[2J?31mhostile"), "{line}");
    terminal.wait_text(&job);
    terminal.press("q");
    let octets = terminal.octets();
    terminal.wait_given_back().expect_code(0);
    for escape in [&b"\x1b]"[..], b"\x07", b"\xc2\x9b", b"\x1b[2Jh"] {
        assert_eq!(times(&octets, escape), 0, "{escape:?}");
    }
    daemon.stop();
}

#[test]
fn pasted_text_is_no_keys() {
    let desk = Desk::new();
    let mut terminal = top(&desk);
    terminal.press("\u{1b}[200~Pyqqq\u{1b}[201~");
    terminal.press("?");
    terminal.wait_text("infeed top: keys");
    assert!(!terminal.text().contains("pause everything? "), "{}", terminal.text());
    terminal.press("x");
    terminal.wait_text("no spool at");
    terminal.press("q");
    terminal.wait_given_back().expect_code(0);
}
