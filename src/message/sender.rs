//! The job's own envelope sender: `--sender`, else the address in From.

use mail_parser::MessageParser;

use super::address::check_address;
use super::error::MessageError;
use super::mime::Header;
use super::parts::has_marks;
use super::template::CompileOptions;
use super::wire::line_of;

/// The sender, its domain in A-labels where its local part is ASCII; empty for the null sender.
pub fn fixed_sender(raw: &[u8], header: &Header, o: &CompileOptions<'_>) -> Result<String, MessageError> {
    let mut fields = header.fields.iter().filter(|field| field.is(raw, "From"));
    let from = fields.next().ok_or(MessageError::NoFrom)?;
    let line = line_of(raw, from.whole.start);
    if let Some(second) = fields.next() {
        return Err(MessageError::Twice { name: "From".to_owned(), line: line_of(raw, second.whole.start) });
    }
    if let Some(sender) = o.sender {
        let sender = sender.strip_prefix('<').and_then(|s| s.strip_suffix('>')).unwrap_or(sender);
        if sender.is_empty() {
            return Ok(String::new());
        }
        return as_sender(sender)
            .map_err(|reason| MessageError::Sender { sender: sender.to_owned(), reason });
    }
    let text = from.text(raw);
    let wrong = |reason: String| MessageError::From { line, reason };
    let address = if o.merge && has_marks(&text) {
        // A merged display name is fine; the address itself must stand there.
        let bracketed =
            text.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(inner, _)| inner);
        match bracketed {
            Some(inner) if !has_marks(inner) => inner.trim().to_owned(),
            _ => return Err(MessageError::FromMerged { line }),
        }
    } else {
        let line = format!("From: {text}\r\n\r\n");
        let parsed = MessageParser::default().parse_headers(line.as_bytes());
        let addresses: Vec<String> = parsed
            .as_ref()
            .and_then(|message| message.from())
            .map(|from| from.iter().filter_map(|a| a.address.as_ref()).map(ToString::to_string).collect())
            .unwrap_or_default();
        match <[String; 1]>::try_from(addresses) {
            Ok([one]) => one,
            Err(none) if none.is_empty() => return Err(wrong("it holds no address".to_owned())),
            Err(many) => return Err(wrong(format!("it holds {} addresses", many.len()))),
        }
    };
    as_sender(&address).map_err(|reason| wrong(format!("{address:?}: {reason}")))
}

fn as_sender(text: &str) -> Result<String, super::address::AddressError> {
    let address = check_address(text)?;
    Ok(address.to_ascii().map_or_else(|| text.to_owned(), std::borrow::Cow::into_owned))
}
