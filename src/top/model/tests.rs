//! What the model makes of what comes in.

use super::*;
use crate::top::sample;

fn heard(status: Status) -> Heard {
    Heard::Status(Box::new(status))
}

fn model() -> Model {
    let mut model = Model::new("/spool", SECOND_US, 0);
    model.hear(heard(sample::status()), SECOND_US);
    model
}

fn jobs(model: &Model) -> Vec<&str> {
    model.rows.iter().map(|row| row.job.as_str()).collect()
}

#[test]
fn active_jobs_come_first_in_the_order_asked_for_and_every_job_is_there_once() {
    let mut model = model();
    assert_eq!(jobs(&model), ["weekly-47", "alerts", "night", "old-1", "old-2"]);
    let mut status = sample::status();
    status.active[1].accepted += 5;
    model.hear(heard(status), 2 * SECOND_US);
    model.turn(Turn::Sort);
    assert_eq!(jobs(&model)[0], "alerts", "by rate");
    model.turn(Turn::Sort);
    assert_eq!(jobs(&model), ["alerts", "night", "weekly-47", "old-1", "old-2"], "by name");
    model.turn(Turn::Sort);
    assert_eq!(jobs(&model)[0], "weekly-47", "by what is left");
}

#[test]
fn a_job_that_is_left_alone_says_why_listed_or_not() {
    let mut model = model();
    let mut status = sample::status();
    for job in ["weekly-47", "hidden"] {
        let reason = format!("{job} is for the MTA eu-2 alone");
        status.left_alone.push(PausedLine { job: job.to_owned(), reason, since_us: None });
    }
    model.hear(heard(status), 2 * SECOND_US);
    let why = |job: &str| {
        let row = model.rows.iter().find(|row| row.job == job).expect("in the list");
        match &row.what {
            JobWhat::Active { note, .. } => note.clone().unwrap_or_default(),
            JobWhat::Still { word, reason, .. } => format!("{word}: {reason}"),
        }
    };
    assert_eq!(why("weekly-47"), "weekly-47 is for the MTA eu-2 alone");
    assert_eq!(why("hidden"), "left alone: hidden is for the MTA eu-2 alone");
    assert_eq!(why("night"), "its window opens in 5 h");
}

#[test]
fn the_selection_stays_with_its_job_and_goes_to_the_next_one_when_that_ends() {
    let mut model = model();
    assert_eq!(model.selected_job().map(|(at, _)| at), Some(0));
    model.turn(Turn::Jobs(1));
    let mut status = sample::status();
    status.active.remove(0);
    model.hear(heard(status.clone()), 2 * SECOND_US);
    assert_eq!(model.selected_job().map(|(at, row)| (at, row.job.as_str())), Some((0, "alerts")));
    status.active.remove(0);
    model.hear(heard(status.clone()), 3 * SECOND_US);
    assert_eq!(model.selected_job().map(|(_, row)| row.job.as_str()), Some("night"));
    (status.active, status.paused) = (Vec::new(), Vec::new());
    model.hear(heard(status), 4 * SECOND_US);
    assert_eq!(model.selected_job(), None);
    model.turn(Turn::Jobs(1));
    assert_eq!(model.selected_job(), None);
}

#[test]
fn the_selection_ends_at_the_ends_of_the_list_and_mtas_go_round() {
    let mut model = model();
    for (by, at) in [(-1, 0), (3, 3), (isize::MAX, 4), (isize::MIN, 0)] {
        model.turn(Turn::Jobs(by));
        assert_eq!(model.selected_job().map(|(at, _)| at), Some(at), "{by}");
    }
    for (by, at) in [(1, 1), (1, 0), (-1, 1)] {
        model.turn(Turn::Mtas(by));
        assert_eq!(model.selected_mta(), Some(at), "{by}");
    }
}

#[test]
fn a_selected_mta_is_selected_still_after_nobody_drained_for_a_while() {
    let mut model = model();
    model.turn(Turn::Mtas(1));
    let mut nobody = sample::status();
    (nobody.mtas, nobody.owners) = (Vec::new(), Vec::new());
    model.hear(heard(nobody), 2 * SECOND_US);
    assert_eq!((model.selected_mta(), model.is_drained()), (None, Some(false)));
    model.hear(heard(sample::status()), 3 * SECOND_US);
    assert_eq!(model.selected_mta(), Some(1));
}

#[test]
fn figures_that_are_old_are_called_so_and_trouble_keeps_them() {
    let mut model = model();
    assert_eq!(model.stale_s(), None);
    model.hear(Heard::Trouble("no permission\u{1b}[2J".to_owned()), 20 * SECOND_US);
    assert_eq!(model.stale_s(), Some(19));
    assert_eq!(model.trouble.as_deref(), Some("no permission?[2J"));
    assert!(model.status.is_some());
    model.hear(heard(sample::status()), 21 * SECOND_US);
    assert_eq!((model.stale_s(), model.trouble), (None, None));
}

#[test]
fn a_spool_that_is_gone_has_no_jobs() {
    let mut model = model();
    model.hear(Heard::NoSpool, 2 * SECOND_US);
    assert!(model.rows.is_empty() && model.status.is_none() && model.no_spool);
}

#[test]
fn an_error_is_told_in_full_with_what_was_asked_and_harmless() {
    let mut model = model();
    let ask = Ask::PauseJob { job: "weekly-47".to_owned() };
    model.asks(&ask);
    model.answered(&ask, Err("it is in hand\u{1b}]0;x\u{7}".to_owned()));
    let said = model.said.expect("said");
    assert!(said.is_error);
    assert_eq!(said.text, "pause weekly-47: it is in hand?]0;x?");
}

#[test]
fn a_question_that_is_open_is_not_replaced_by_another() {
    let mut model = model();
    model.question = Some(Ask::PauseAll);
    model.answered(&Ask::LookAtJob { job: "alerts".to_owned() }, Ok(Answer::Left(10)));
    assert_eq!(model.question, Some(Ask::PauseAll));
    model.turn(Turn::DropQuestion);
    assert_eq!(model.question, None);
    assert_eq!(model.said.map(|said| said.text).as_deref(), Some("not done: pause everything"));
}
