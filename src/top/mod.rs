//! `infeed top`: the status of a spool, live, on a terminal.
//!
//! | file | is |
//! | --- | --- |
//! | `model` | what is known, what is selected, what was asked and answered |
//! | `history` | throughput over the last minutes, of the whole and of each job |
//! | `keys` | what a key means: of a model and a key, an action |
//! | `view` | the screen: of a model and a size, cells |
//! | `plain` | one line of text, where there is no terminal to draw on |
//! | `look` | what a terminal can show: colours, other characters than ASCII |
//! | `text` | numbers for people; text of strangers made harmless |
//! | `terminal` | taking the terminal over, and giving it back however the process ends |
//!
//! Nothing here asks an owner, or waits: `cli::top` does. Guarantees: what came from MTAs, messages and other
//! people reaches the terminal without control characters; the terminal is given back as it was, after a
//! panic also. Errors: `io::Error` of the terminal, from `terminal` alone.

mod history;
mod keys;
mod look;
mod model;
mod plain;
mod terminal;
mod text;
mod view;

#[cfg(test)]
pub(crate) mod sample;

pub use keys::{Action, press};
pub use look::Look;
pub use model::{Answer, Ask, Heard, Model};
pub use plain::{line, nothing};
pub use terminal::{Screen, give_back};
pub use text::{count, printable_lines};
