//! Message: parsed once, rendered per recipient; and the envelope sender.
//!
//! ```text
//! raw ─ wire::normalise ─ mime::walk ─ compile ─→ Template ─ render ─→ Rendered { sender, content }
//! ```
//!
//! Guarantees:
//! - A finished message goes out as it came: line endings, dots, `Bcc`, `Resent-Bcc` and `Return-Path`
//!   aside. A merged one keeps byte for byte what holds no merge mark.
//! - A column value never adds a header, a recipient, a line to the envelope, or a body part: that
//!   recipient gets a [`RenderError`], the others go on.
//! - The same message, options and recipient give the same octets, Message-ID and Date included: a
//!   message that is compiled again after a restart goes on where it was.
//!
//! What is wrong with the message itself is a [`MessageError`], before anything is committed.

pub mod address;
mod codec;
mod columns;
mod compile;
pub mod content;
mod envelope;
mod error;
#[cfg(test)]
mod fuzz;
mod header;
mod lines;
mod merge;
mod mime;
mod parts;
mod placeholder;
mod plain;
mod sender;
mod template;
pub mod wire;
mod words;

pub use address::{Address, AddressError, check_address, orcpt, xtext};
pub use content::Content;
pub use envelope::Xverp;
pub use error::{MessageError, RenderError};
pub use placeholder::leftover_placeholders;
pub use template::{CompileOptions, RecipientView, Rendered, Template};
pub use wire::wire_encode;
