//! What a key means: of a model and a key, an action. Nothing is done here.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::{Ask, JobRow, JobWhat, Model, Turn};
use crate::config::{CONNECTIONS_MAX, Connections};

/// What is to be done about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Nothing,
    Quit,
    /// Stop the process, as Ctrl-Z does.
    Suspend,
    /// Draw all of it anew.
    Redraw,
    Turn(Turn),
    /// Put the question before it is done.
    Question(Ask),
    /// Do it.
    Ask(Ask),
    /// It can't be, for this reason.
    Say(String),
}

/// Lines that a page is.
const PAGE: isize = 10;

/// Every key and what it does, as the help shows them.
pub const KEYS: &[(&str, &str)] = &[
    ("q, Esc, Ctrl-C", "end; what is sent goes on"),
    ("up, down, k, j", "select a job (also Page up, Page down, Home, End)"),
    ("p, r", "pause the selected job, resume it"),
    ("c", "cancel the selected job; asks first"),
    ("P, R", "pause everything, resume it; asks first"),
    ("Tab", "select the next MTA (Shift-Tab: the one before)"),
    ("+, -", "one connection more or less to the selected MTA, until a reload"),
    ("a", "auto: infeed finds the number of connections itself"),
    ("s", "sort the active jobs: by what is left, by rate, by name"),
    ("Ctrl-Z, Ctrl-L", "to the shell (`fg` comes back), draw anew"),
    ("?", "this help; any key ends it"),
];

/// What this key means now.
pub fn press(model: &Model, key: KeyEvent) -> Action {
    if key.kind == KeyEventKind::Release {
        return Action::Nothing;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'C') => Action::Quit,
            KeyCode::Char('z' | 'Z') => Action::Suspend,
            KeyCode::Char('l' | 'L') => Action::Redraw,
            _ => Action::Nothing,
        };
    }
    if let Some(ask) = &model.question {
        return answer(ask, key.code);
    }
    if model.help {
        return Action::Turn(Turn::Help(false));
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Action::Quit,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => Action::Turn(Turn::Help(true)),
        KeyCode::Down | KeyCode::Char('j') => Action::Turn(Turn::Jobs(1)),
        KeyCode::Up | KeyCode::Char('k') => Action::Turn(Turn::Jobs(-1)),
        KeyCode::PageDown => Action::Turn(Turn::Jobs(PAGE)),
        KeyCode::PageUp => Action::Turn(Turn::Jobs(-PAGE)),
        KeyCode::Home | KeyCode::Char('g') => Action::Turn(Turn::Jobs(isize::MIN)),
        KeyCode::End | KeyCode::Char('G') => Action::Turn(Turn::Jobs(isize::MAX)),
        KeyCode::Tab => Action::Turn(Turn::Mtas(1)),
        KeyCode::BackTab => Action::Turn(Turn::Mtas(-1)),
        KeyCode::Char('s') => Action::Turn(Turn::Sort),
        KeyCode::Char('p') => pause(model),
        KeyCode::Char('r') => resume(model),
        KeyCode::Char('c') => of_job(model, |row| Action::Ask(Ask::LookAtJob { job: row.job.clone() })),
        KeyCode::Char('P') => Action::Question(Ask::PauseAll),
        KeyCode::Char('R') => Action::Question(Ask::ResumeAll),
        // a key for + and one for - need no shift on any keyboard then
        KeyCode::Char('+' | '=') => number(model, 1),
        KeyCode::Char('-' | '_') => number(model, -1),
        KeyCode::Char('a') => auto(model),
        _ => Action::Nothing,
    }
}

/// Only a clear yes is one; anything but a clear no leaves the question where it is.
fn answer(ask: &Ask, key: KeyCode) -> Action {
    match key {
        KeyCode::Char('y' | 'Y') => Action::Ask(ask.clone()),
        KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => Action::Turn(Turn::DropQuestion),
        _ => Action::Nothing,
    }
}

fn of_job(model: &Model, act: impl FnOnce(&JobRow) -> Action) -> Action {
    match model.selected_job() {
        Some((_, row)) => act(row),
        None => Action::Say("no job is selected: none is active or paused".to_owned()),
    }
}

fn pause(model: &Model) -> Action {
    of_job(model, |row| match &row.what {
        JobWhat::Still { word: "paused", reason, .. } => {
            Action::Say(format!("{} is paused already: {reason}", row.job))
        }
        _ => Action::Ask(Ask::PauseJob { job: row.job.clone() }),
    })
}

fn resume(model: &Model) -> Action {
    of_job(model, |row| match &row.what {
        JobWhat::Active { note: Some(note), .. } => {
            Action::Say(format!("{} is not paused, but: {note}", row.job))
        }
        JobWhat::Active { .. } => Action::Say(format!("{} is not paused", row.job)),
        JobWhat::Still { .. } => Action::Ask(Ask::ResumeJob { job: row.job.clone() }),
    })
}

fn number(model: &Model, by: isize) -> Action {
    let Some((mta, now)) = model.number() else { return no_mta() };
    let Some(next) = now.checked_add_signed(by).filter(|next| *next >= 1) else {
        return Action::Say(format!("{mta} has one connection: P pauses everything"));
    };
    if next > CONNECTIONS_MAX {
        return Action::Say(format!("{mta} has {now} connections, and {CONNECTIONS_MAX} is the most"));
    }
    Action::Ask(Ask::Connections { mta: mta.to_owned(), connections: Connections::Fixed(next) })
}

fn auto(model: &Model) -> Action {
    let Some((mta, _)) = model.number() else { return no_mta() };
    Action::Ask(Ask::Connections { mta: mta.to_owned(), connections: Connections::Auto })
}

fn no_mta() -> Action {
    Action::Say("there is no MTA to change: nobody drains this spool now".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::model::{Answer, Heard};
    use crate::top::sample;

    fn model() -> Model {
        let mut model = Model::new("/spool", 1_000_000, 0);
        model.hear(Heard::Status(Box::new(sample::status())), 1);
        model
    }

    fn key(model: &Model, c: char) -> Action {
        press(model, KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE))
    }

    /// What the loop does with it, as far as the model is concerned.
    fn act(model: &mut Model, action: Action) {
        match action {
            Action::Turn(turn) => model.turn(turn),
            Action::Question(ask) => model.question = Some(ask),
            Action::Ask(ask) => model.asks(&ask),
            _ => {}
        }
    }

    fn to(model: &Model, n: usize) -> Action {
        let mta = model.number().expect("an MTA").0.to_owned();
        Action::Ask(Ask::Connections { mta, connections: Connections::Fixed(n) })
    }

    #[test]
    fn q_escape_and_ctrl_c_end_it_and_ctrl_c_does_always() {
        let mut model = model();
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let escape = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        assert_eq!([key(&model, 'q'), press(&model, escape)], [Action::Quit, Action::Quit]);
        assert_eq!(press(&model, ctrl_c), Action::Quit);
        model.question = Some(Ask::PauseAll);
        assert_eq!(press(&model, ctrl_c), Action::Quit);
        (model.question, model.help) = (None, true);
        assert_eq!(press(&model, ctrl_c), Action::Quit);
    }

    #[test]
    fn a_key_that_is_let_go_means_nothing() {
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(press(&model(), released), Action::Nothing);
    }

    #[test]
    fn only_y_confirms_and_it_confirms_what_was_asked() {
        let mut model = model();
        let action = key(&model, 'P');
        assert_eq!(action, Action::Question(Ask::PauseAll));
        act(&mut model, action);
        for other in ['p', 'r', 'c', '+', ' ', 'x', 'R'] {
            assert_eq!(key(&model, other), Action::Nothing, "{other}");
        }
        assert_eq!(key(&model, 'n'), Action::Turn(Turn::DropQuestion));
        assert_eq!(key(&model, 'q'), Action::Turn(Turn::DropQuestion));
        assert_eq!(key(&model, 'y'), Action::Ask(Ask::PauseAll));
    }

    #[test]
    fn a_cancel_asks_first_with_the_job_and_how_many_are_left() {
        let mut model = model();
        let job = "weekly-47".to_owned();
        let look = Ask::LookAtJob { job: job.clone() };
        assert_eq!(key(&model, 'c'), Action::Ask(look.clone()));
        act(&mut model, Action::Ask(look.clone()));
        model.answered(&look, Ok(Answer::Left(149_988)));
        let question = model.question.as_ref().and_then(Ask::question).expect("a question");
        assert!(question.contains("weekly-47") && question.contains("149,988"), "{question}");
        assert_eq!(key(&model, 'y'), Action::Ask(Ask::CancelJob { job, left: 149_988 }));
    }

    #[test]
    fn the_selected_job_is_paused_and_a_paused_one_is_resumed() {
        let mut model = model();
        let job = "weekly-47".to_owned();
        assert_eq!(key(&model, 'p'), Action::Ask(Ask::PauseJob { job }));
        assert!(matches!(key(&model, 'r'), Action::Say(text) if text.contains("not paused")));
        model.turn(Turn::Jobs(isize::MAX));
        assert_eq!(key(&model, 'r'), Action::Ask(Ask::ResumeJob { job: "old-2".to_owned() }));
        assert!(matches!(key(&model, 'p'), Action::Say(text) if text.contains("already")));
    }

    #[test]
    fn a_plus_that_is_pressed_thrice_before_a_status_comes_is_three_more() {
        let mut model = model();
        for n in [17, 18, 19] {
            let action = key(&model, '+');
            assert_eq!(action, to(&model, n));
            act(&mut model, action);
        }
        let action = key(&model, '-');
        assert_eq!(action, to(&model, 18));
        act(&mut model, action);
        // what the owner made of it counts, once it has answered
        let ask = Ask::Connections { mta: "main".to_owned(), connections: Connections::Fixed(18) };
        model.hear(Heard::Status(Box::new(sample::status())), 2);
        assert_eq!(model.number(), Some(("main", 18)));
        model.answered(&ask, Ok(Answer::Text("18 connections".to_owned())));
        model.hear(Heard::Status(Box::new(sample::status())), 3);
        assert_eq!(model.number(), Some(("main", 16)));
        assert_eq!(
            key(&model, 'a'),
            Action::Ask(Ask::Connections { mta: "main".to_owned(), connections: Connections::Auto })
        );
    }

    #[test]
    fn the_number_stays_within_its_bounds() {
        let mut model = model();
        let mut status = sample::status();
        (status.mtas[0].connections, status.mtas[1].connections) = (1, CONNECTIONS_MAX);
        model.hear(Heard::Status(Box::new(status)), 2);
        assert!(matches!(key(&model, '-'), Action::Say(_)));
        act(&mut model, Action::Turn(Turn::Mtas(-1)));
        assert!(matches!(key(&model, '+'), Action::Say(_)));
        assert_eq!(key(&model, '-'), to(&model, CONNECTIONS_MAX - 1));
    }

    #[test]
    fn where_there_is_nothing_to_change_that_is_said() {
        let empty = Model::new("/spool", 1_000_000, 0);
        for c in ['p', 'r', 'c', '+', '-', 'a'] {
            assert!(matches!(key(&empty, c), Action::Say(text) if !text.is_empty()), "{c}");
        }
    }
}
