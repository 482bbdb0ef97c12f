//! `infeed top` through a pseudo-terminal: what it shows is what is, its keys do what they say, and the terminal
//! is given back whatever happens.

mod common;

#[path = "top/knobs.rs"]
mod knobs;
#[path = "top/lines.rs"]
mod lines;
#[path = "top/owners.rs"]
mod owners;
#[path = "top/screen.rs"]
mod screen;

use common::desk::Desk;
use common::terminal::Terminal;

/// `infeed top` on a terminal of 24 lines and 100 columns; it has drawn its screen when this returns.
fn top(desk: &Desk) -> Terminal {
    let infeed = desk
        .infeed(&["top", "--interval", "0.2"])
        .env("TERM", "xterm-256color")
        .env("LC_ALL", "C.UTF-8")
        .env("NO_COLOR", "");
    let terminal = Terminal::start(infeed, 24, 100);
    terminal.wait_text("q end");
    terminal
}
