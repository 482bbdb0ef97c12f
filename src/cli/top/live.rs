//! The live view: keys, signals, statuses and answers come in one after the other, and each changes what is
//! shown. Nothing here waits for anything but the next of them.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::crossterm::event::{self, KeyEvent};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::super::exit::{self, ExitCode};
use super::super::session::Session;
use super::asker::Asker;
use crate::clock;
use crate::top::{Action, Answer, Ask, Heard, Look, Model, Screen, give_back, press};

/// The clock and the ages on the screen go on without anything that happens.
const TICK: Duration = Duration::from_millis(500);

/// What happens.
#[derive(Debug)]
pub enum Event {
    Key(KeyEvent),
    /// The screen has another size.
    Resized,
    Heard(Heard),
    Answered(Ask, Result<Answer, String>),
    /// A signal wants the end.
    End,
    /// The process goes on after a stop.
    Continued,
    /// There is no input any more.
    NoInput(io::Error),
}

/// Runs the view until a key or a signal ends it.
///
/// # Errors
/// The terminal can't be used (74).
pub fn run(interval: Duration, session: &Session, look: Look) -> anyhow::Result<u8> {
    let (events, happen) = channel();
    hear_signals(events.clone()).context("signals can't be handled")?;
    let mut screen = Screen::take(look)
        .context("the terminal can't be used; `infeed top --plain` does without one")
        .exit_code(exit::IO_ERROR)?;
    let interval_us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX / 4);
    let mut model = Model::new(&session.spool_dir.display().to_string(), interval_us, clock::steady_us());
    let mut asker = Asker::start(session, interval, events.clone());
    std::thread::spawn(move || read_keys(&events));
    let shown = show(&mut screen, &mut model, &mut asker, &happen);
    drop(screen);
    shown.context("the terminal has gone, or can't be used").exit_code(exit::IO_ERROR)?;
    Ok(exit::DONE)
}

/// Whether it goes on.
enum Next {
    GoOn,
    End,
    /// Stop, as Ctrl-Z wants it.
    Suspend,
    TakeAgain,
}

fn show(
    screen: &mut Screen,
    model: &mut Model,
    asker: &mut Asker,
    happen: &Receiver<Event>,
) -> io::Result<()> {
    // while the process is about to be stopped, the terminal is the shell's
    let mut given_back: Option<Instant> = None;
    loop {
        // nobody has stopped us: there is no shell that would; or somebody has, and it is over
        if given_back.is_some_and(|at| at.elapsed() >= TICK) {
            screen.take_again()?;
            given_back = None;
        }
        if given_back.is_none() {
            screen.draw(model)?;
        }
        let mut event = match happen.recv_timeout(TICK) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        model.tick(clock::steady_us());
        // all that has come before it is drawn once
        while let Some(now) = event {
            match take(now, model, asker)? {
                Next::GoOn => {}
                Next::End => return Ok(()),
                Next::Suspend => {
                    give_back()?;
                    given_back = Some(Instant::now());
                    kill_process(getpid(), Signal::TSTP)?;
                }
                Next::TakeAgain => {
                    // a shell may have changed the modes meanwhile
                    give_back()?;
                    screen.take_again()?;
                    given_back = None;
                }
            }
            event = happen.try_recv().ok();
        }
    }
}

fn take(event: Event, model: &mut Model, asker: &mut Asker) -> io::Result<Next> {
    match event {
        Event::Key(key) => return Ok(act(press(model, key), model, asker)),
        Event::Resized => {}
        Event::Heard(heard) => model.hear(heard, clock::steady_us()),
        Event::Answered(ask, answer) => model.answered(&ask, answer),
        Event::End => return Ok(Next::End),
        Event::Continued => return Ok(Next::TakeAgain),
        Event::NoInput(error) => return Err(error),
    }
    Ok(Next::GoOn)
}

fn act(action: Action, model: &mut Model, asker: &mut Asker) -> Next {
    match action {
        Action::Nothing => {}
        Action::Quit => return Next::End,
        Action::Suspend => return Next::Suspend,
        Action::Redraw => return Next::TakeAgain,
        Action::Turn(turn) => model.turn(turn),
        Action::Question(ask) => model.question = Some(ask),
        Action::Say(text) => model.say(text, false),
        Action::Ask(ask) => {
            model.asks(&ask);
            asker.ask(ask);
        }
    }
    Next::GoOn
}

/// Reads keys until nobody listens.
fn read_keys(events: &Sender<Event>) {
    loop {
        let event = match event::read() {
            Ok(event::Event::Key(key)) => Event::Key(key),
            Ok(event::Event::Resize(..)) => Event::Resized,
            // pasted text among them
            Ok(_) => continue,
            Err(error) => Event::NoInput(error),
        };
        let is_last = matches!(event, Event::NoInput(_));
        if events.send(event).is_err() || is_last {
            return;
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP end the view, SIGCONT draws it anew.
fn hear_signals(events: Sender<Event>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut goes_on = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    drop(inside);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let event = tokio::select! {
                    _ = terminate.recv() => Event::End,
                    _ = interrupt.recv() => Event::End,
                    _ = hangup.recv() => Event::End,
                    _ = goes_on.recv() => Event::Continued,
                };
                if events.send(event).is_err() {
                    return;
                }
            }
        });
    });
    Ok(())
}
