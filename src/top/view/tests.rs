//! The screen as text: what is on it at which size.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::*;
use crate::clock::SECOND_US;
use crate::control::{PausedLine, Status};
use crate::top::model::{Ask, Heard, Turn};
use crate::top::sample;

const NOW: Micros = 1_795_317_240_123_456;
const LOOK: Look = Look { colours: true, ascii: false };

fn model_of(status: Status) -> Model {
    let mut model = Model::new("/var/spool/infeed", SECOND_US, 0);
    let mut before = status.clone();
    before.active.iter_mut().for_each(|job| job.accepted = job.accepted.saturating_sub(5_000));
    before.outcomes.insert("accepted".to_owned(), 0);
    model.hear(Heard::Status(Box::new(before)), 0);
    model.hear(Heard::Status(Box::new(status)), 10 * SECOND_US);
    model
}

fn model() -> Model {
    model_of(sample::status())
}

fn buffer(model: &Model, look: Look, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| view(model, look, NOW, frame.area(), frame.buffer_mut())).expect("drawn");
    terminal.backend().buffer().clone()
}

fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    lines_of(&buffer(model, LOOK, width, height))
}

fn lines_of(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    (0..area.height)
        .map(|y| {
            let line: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
            line.trim_end().to_owned()
        })
        .collect()
}

fn has(lines: &[String], parts: &[&str]) {
    for part in parts {
        assert!(lines.iter().any(|line| line.contains(part)), "no {part:?} in\n{}", lines.join("\n"));
    }
}

#[test]
fn the_essential_is_on_80_by_24() {
    let lines = screen(&model(), 80, 24);
    has(
        &lines,
        &[
            "infeed top  /var/spool/infeed  serve, process 4711, up 1 h 1 min",
            "03:14:00Z",
            "1,234/s (10 s)  1,200/s (1 min)  4.32 M/h  16 in flight",
            "151,000: 150,000 due, 1,000 deferred, all due gone in 2 min",
            "49,000 accepted, 1,000 deferred, 12 refused",
            ">main               up             12/16    1,234      120",
            "4.2/8.1/42",
            "N is 12 gave 95 % of what 16 give",
            "spare              down",
            "connection refused",
            ">weekly-47               ███░░░░░░░░░  25%     149,988      12     500    4 min",
            "night",
            "its window opens in 5 h",
            "old-1                   paused: wrong footer",
            "03:13:59 refused  a@b.example: 550 5.1.1 no such user (weekly-47, main)",
            "q end  ? help",
            "at most",
        ],
    );
    assert_eq!(lines.len(), 24);
}

#[test]
fn no_size_makes_it_fail_and_small_ones_keep_what_matters_most() {
    let mut model = model();
    for question in [false, true] {
        model.question = question.then(|| Ask::CancelJob { job: "weekly-47".to_owned(), left: 7 });
        for help in [false, true] {
            model.help = help;
            for width in [1, 2, 3, 10, 19, 20, 40, 59, 60, 80, 110, 200] {
                for height in [1, 2, 3, 5, 8, 10, 13, 24, 60] {
                    buffer(&model, LOOK, width, height);
                    buffer(&model, Look { colours: false, ascii: true }, width, height);
                }
            }
        }
    }
    (model.question, model.help) = (None, false);
    let narrow = screen(&model, 40, 20);
    has(&narrow, &["1,234/s (10 s)", "main", "up", "12/16", "weekly-47", "25%", "149,988", "paused"]);
    has(&screen(&model, 80, 8), &["1,234/s", "150,000 due", "main", "weekly-47"]);
}

#[test]
fn a_question_is_seen_at_every_size_that_has_room_for_it() {
    let mut model = model();
    model.question = Some(Ask::CancelJob { job: "weekly-47".to_owned(), left: 149_988 });
    for (width, height) in [(80, 24), (40, 10), (30, 4)] {
        let text = screen(&model, width, height).join(" ");
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        assert!(text.contains("cancel weekly-47? 149,988 recipients"), "{width}x{height}: {text}");
        assert!(text.contains("(y/n)"), "{width}x{height}: {text}");
    }
}

#[test]
fn an_error_is_shown_in_full() {
    let mut model = model();
    let error = "the control socket /var/spool/infeed/control.sock is listened on by user 1000, who is neither \
                 root, nor you, nor the spool's owner: nothing was said to it; remove it";
    model.say(error.to_owned(), true);
    let text = screen(&model, 50, 24).join(" ");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains(error), "{text}");
}

#[test]
fn where_nobody_drains_that_is_said_and_the_spools_own_figures_stay() {
    let mut status = sample::status();
    (status.owners, status.mtas) = (Vec::new(), Vec::new());
    (status.rate_10_s, status.rate_60_s) = (0.0, 0.0);
    let lines = screen(&model_of(status), 80, 24);
    has(&lines, &["nobody drains this spool now", "150,000 due", "weekly-47", "old-1"]);
}

#[test]
fn what_holds_everything_up_is_at_the_top_in_words() {
    let mut status = sample::status();
    let reason = "the MTA is being moved".to_owned();
    status.standstill = Some(PausedLine { job: "all".to_owned(), reason, since_us: Some(NOW) });
    status.note = Some("the journal can't be written".to_owned());
    status.space.bytes_free = 0;
    status.damaged = vec!["job x: chunk y is cut off".to_owned()];
    let mut model = model_of(status);
    model.hear(Heard::Trouble("no permission".to_owned()), 60 * SECOND_US);
    let lines = screen(&model, 100, 40);
    has(
        &lines[..10],
        &[
            "NO ANSWER for 50 s",
            "NO STATUS: no permission",
            "EVERYTHING IS PAUSED since 2026-11-22T03:14:00.123Z: the MTA is being moved",
            "NOTE the journal can't be written",
            "THE SPOOL IS FULL",
            "1 jobs can't be read",
        ],
    );
}

#[test]
fn the_selected_job_is_on_the_screen_wherever_it_is_in_the_list() {
    let mut status = sample::status();
    for i in 0..300 {
        let paused = PausedLine { job: format!("job-{i}"), reason: "x".to_owned(), since_us: None };
        status.paused.push(paused);
    }
    let mut model = model_of(status);
    for turn in [0, 1, 100, 50, -30, isize::MAX, -1, isize::MIN] {
        model.turn(Turn::Jobs(turn));
        let job = model.selected_job().expect("selected").1.job.clone();
        has(&screen(&model, 80, 24), &[format!(">{job} ").as_str()]);
    }
}

#[test]
fn nothing_but_ascii_is_drawn_where_the_locale_has_no_more() {
    let mut status = sample::status();
    status.note = Some("naïve — 漢字".to_owned());
    let ascii = Look { colours: true, ascii: true };
    let lines = lines_of(&buffer(&model_of(status), ascii, 60, 24));
    assert!(lines.iter().all(|line| line.is_ascii()), "{}", lines.join("\n"));
    has(&lines, &["NOTE na?ve ? ??"]);
}

#[test]
fn without_colours_there_is_none_and_the_words_are_the_same() {
    let plain = Look { colours: false, ascii: false };
    let (with, without) = (buffer(&model(), LOOK, 80, 24), buffer(&model(), plain, 80, 24));
    assert_eq!(lines_of(&with), lines_of(&without));
    assert!(without.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert!(with.content.iter().any(|cell| cell.fg == Color::Red));
}

#[test]
fn what_strangers_say_draws_no_control_character() {
    let mut status = sample::status();
    let hostile = "x\u{1b}]0;owned\u{7}\u{9b}2J\r\n\u{202e}y";
    status.mtas[0].connections_why = Some(hostile.to_owned());
    status.mtas[1].why = Some(hostile.to_owned());
    status.paused[0].reason = hostile.to_owned();
    status.refusals[0].text = hostile.to_owned();
    let mut model = model_of(status);
    model.say(hostile.to_owned(), true);
    let lines = screen(&model, 120, 40);
    has(&lines, &["x?]0;owned??2J???y"]);
    assert!(!lines.concat().contains(|c: char| c.is_control() || c == '\u{202e}'));
}

#[test]
fn the_help_names_every_key() {
    let mut model = model();
    model.turn(Turn::Help(true));
    has(&screen(&model, 80, 24), &["q, Esc, Ctrl-C", "p, r", "P, R", "Tab", "+, -", "auto", "docs/top.md"]);
}

#[test]
fn before_the_first_answer_and_without_a_spool_that_is_what_it_says() {
    let mut model = Model::new("/nowhere", SECOND_US, 0);
    has(&screen(&model, 80, 24), &["/nowhere", "q end"]);
    model.hear(Heard::NoSpool, SECOND_US);
    has(&screen(&model, 80, 24), &["no spool at /nowhere yet: nothing was submitted"]);
}
