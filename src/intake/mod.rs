//! Intake: from what a person hands in (a message and a list of recipients) to committed chunks.
//!
//! ```text
//!  list ──→ reader ──→ address ──→ dedupe ──→ suppress ──→ submit (the durable commit)
//!             └─ bad lines ──→ rejects          └─ accepted rows ──→ fingerprint ("sent before?")
//! ```
//!
//! Memory is flat in the number of rows, duplicate finding aside (at most 16 bytes a row, see
//! [`dedupe`]). Everything here blocks; async callers run it on a blocking thread.
//!
//! Errors are [`IntakeError`]: each names the file, the line where there is one, and the remedy. A
//! line of a list that can't be used is not an error: it comes back as [`RowRef::Bad`] with its
//! [`BadRow`] reason, and the caller decides whether the rest goes on.

pub mod address;
pub mod dedupe;
pub mod error;
pub mod fingerprint;
pub mod pack;
pub mod reader;
pub mod rejects;
pub mod submit;
pub mod suppress;

mod csv;
#[cfg(test)]
mod fuzz;
mod lines;
mod pack_check;
mod pack_error;
mod ndjson;
mod plain;
mod row;
mod sniff;

pub use dedupe::DuplicateFinder;
pub use error::{BadRow, IntakeError};
pub use fingerprint::ListFingerprint;
pub use pack::{PackError, PackSettings, Packer, SmallJob};
pub use reader::{Format, RecipientReader};
pub use rejects::Rejects;
pub use row::{Row, RowRef, Values};
pub use suppress::SuppressionList;
