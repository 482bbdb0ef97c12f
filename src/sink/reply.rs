//! Reply texts, in Postfix's words where Postfix has them.

use std::fmt;
use std::io::Write;

use super::settings::Stage;

/// Adds `code enhanced text` and a line end; `enhanced` is left out when empty.
pub(super) fn append(out: &mut Vec<u8>, code: u16, enhanced: &str, text: fmt::Arguments<'_>) {
    begin(out, code, enhanced);
    match text.as_str() {
        Some(text) => out.extend_from_slice(text.as_bytes()),
        None => {
            let written = out.write_fmt(text);
            assert!(written.is_ok(), "writing to memory can't fail");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The same for a fixed text, without formatting: most replies are such.
pub(super) fn append_str(out: &mut Vec<u8>, code: u16, enhanced: &str, text: &str) {
    begin(out, code, enhanced);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The 250 to the end of content, in Postfix's words; with CHUNKING they name the octets.
pub(super) fn append_taken(out: &mut Vec<u8>, enhanced: &str, chunked_octets: Option<u64>, queue_id: &str) {
    begin(out, 250, enhanced);
    out.extend_from_slice(b"Ok: ");
    if let Some(octets) = chunked_octets {
        out.extend_from_slice(digits::<10>(octets, &mut [0; 20]).as_bytes());
        out.extend_from_slice(b" bytes ");
    }
    for part in [b"queued as ", queue_id.as_bytes(), b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// `n` to this base (10 or 16), in capitals.
pub(super) fn digits<const BASE: u64>(mut n: u64, room: &mut [u8; 20]) -> &str {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b"0123456789ABCDEF"[(n % BASE) as usize];
        n /= BASE;
        if n == 0 {
            break;
        }
    }
    std::str::from_utf8(&room[at..]).unwrap_or_default()
}

fn begin(out: &mut Vec<u8>, code: u16, enhanced: &str) {
    assert!((200..600).contains(&code), "{code} is no reply code");
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[digit(code / 100), digit(code / 10), digit(code), b' ']);
    if !enhanced.is_empty() {
        out.extend_from_slice(enhanced.as_bytes());
        out.push(b' ');
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digits_are_what_formatting_gives(n: u64) {
            let mut room = [0; 20];
            prop_assert_eq!(digits::<10>(n, &mut room), n.to_string());
            prop_assert_eq!(digits::<16>(n, &mut room), format!("{n:X}"));
        }
    }

    #[test]
    fn fixed_and_formatted_replies_look_alike() {
        for enhanced in ["", "2.0.0"] {
            let (mut fixed, mut formatted) = (Vec::new(), Vec::new());
            append_str(&mut fixed, 250, enhanced, "Ok: 7 bytes queued as 2F");
            append(&mut formatted, 250, enhanced, format_args!("Ok: {} bytes queued as {:X}", 7, 47));
            assert_eq!(fixed, formatted);
            let mut taken = Vec::new();
            append_taken(&mut taken, enhanced, Some(7), "2F");
            assert_eq!(taken, formatted);
        }
    }
}
