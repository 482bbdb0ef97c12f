//! Reply texts, in Postfix's words where Postfix has them.

use std::fmt;

use super::settings::Stage;

/// Adds `code enhanced text` and a line end; `enhanced` is left out when empty.
pub(super) fn append(out: &mut Vec<u8>, code: u16, enhanced: &str, text: fmt::Arguments<'_>) {
    use std::io::Write;
    let gap = if enhanced.is_empty() { "" } else { " " };
    let written = write!(out, "{code}{gap}{enhanced} {text}\r\n");
    assert!(written.is_ok(), "writing to memory can't fail");
}

/// Enhanced status code (RFC 3463) and text of a failure on demand.
pub(super) fn failure(stage: Stage, code: u16) -> (&'static str, &'static str) {
    match (stage, code) {
        (_, 421) => ("4.3.2", "Error: service not available, closing (on demand)"),
        (Stage::Rcpt, 450) => ("4.2.0", "Recipient address rejected: greylisted (on demand)"),
        (_, 451) => ("4.3.0", "Error: queue file write error (on demand)"),
        (_, 452) => ("4.3.1", "Insufficient system storage (on demand)"),
        (Stage::Rcpt, 550) => ("5.1.1", "Recipient address rejected: User unknown (on demand)"),
        (Stage::Rcpt, 554) => ("5.7.1", "Relay access denied (on demand)"),
        (_, 552) => ("5.3.4", "Error: message file too big (on demand)"),
        (_, 550 | 554) => ("5.7.1", "Message rejected (on demand)"),
        (_, 400..500) => ("4.0.0", "Error: temporary failure (on demand)"),
        _ => ("5.0.0", "Error: permanent failure (on demand)"),
    }
}
