//! Taking the terminal over, and giving it back as it was: at the end, before a stop, after a panic.
//!
//! Guarantees: whatever ends the process in order, and a panic of any thread, gives the terminal back once:
//! echo and line mode on, the alternate screen left, the cursor shown. Errors: `io::Error`.

use std::io::{self, Stdout, stdout};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::execute;
use ratatui::crossterm::style::ResetColor;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::look::Look;
use super::model::Model;
use super::view::view;
use crate::clock;

/// Whether it is ours just now.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, taken over; given back when dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    look: Look,
}

impl Screen {
    /// Takes the terminal of standard input and output over.
    ///
    /// # Errors
    /// There is none, or it can't be written.
    pub fn take(look: Look) -> io::Result<Self> {
        give_back_on_panic();
        Ok(Self { terminal: take()?, look })
    }

    /// The same again, after [`give_back`]; draws everything anew.
    ///
    /// # Errors
    /// As [`Screen::take`].
    pub fn take_again(&mut self) -> io::Result<()> {
        self.terminal = take()?;
        Ok(())
    }

    /// Shows the model, at whatever size the terminal has now.
    ///
    /// # Errors
    /// The terminal can't be written, or has gone.
    pub fn draw(&mut self, model: &Model) -> io::Result<()> {
        let look = self.look;
        self.terminal
            .draw(|frame| view(model, look, clock::now_us(), frame.area(), frame.buffer_mut()))
            .map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Err(e) = give_back() {
            // it has gone, most likely, and nobody reads this then
            tracing::debug!("the terminal was not given back: {e}");
        }
    }
}

fn take() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    enable_raw_mode()?;
    TAKEN.store(true, SeqCst);
    begin().inspect_err(|_| {
        if let Err(e) = give_back() {
            tracing::debug!("the terminal was not given back: {e}");
        }
    })
}

fn begin() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    // pasted text is not keys: a P and a y in it would pause everything
    execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide, Clear(ClearType::All))?;
    Terminal::new(CrosstermBackend::new(stdout()))
}

/// Gives the terminal back, where it is taken.
///
/// # Errors
/// It can't be written; its modes are restored all the same.
pub fn give_back() -> io::Result<()> {
    if !TAKEN.swap(false, SeqCst) {
        return Ok(());
    }
    let modes = disable_raw_mode();
    execute!(stdout(), ResetColor, DisableBracketedPaste, LeaveAlternateScreen, Show)?;
    modes
}

/// Before anything is said about a panic, so that it is said on the terminal as it was.
fn give_back_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Err(e) = give_back() {
            eprintln!("the terminal was not given back: {e}; `reset` does it");
        }
        before(panic);
    }));
}
