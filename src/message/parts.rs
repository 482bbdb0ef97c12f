//! Text parts that are templates: decoded once, rendered and encoded per recipient.

use memchr::memmem::Finder;
use minijinja::value::Value;

use super::codec::{Charset, Transfer, base64_encode, qp_encode};
use super::error::{MessageError, RenderError};
use super::header::LINE_OCTETS_MAX;
use super::merge::{Merge, TemplateId};
use super::mime::{TextPart, content_type};
use super::wire::line_of;

/// What tells a template from text.
const MARKS: [&str; 3] = ["{{", "{%", "{#"];

/// The text holds something that minijinja reads.
pub fn has_marks(text: &str) -> bool {
    MARKS.iter().any(|mark| text.contains(mark))
}

/// A text part with its compiled template.
#[derive(Debug)]
pub struct MergedPart {
    template: TemplateId,
    transfer: Transfer,
    charset: Charset,
    /// `--boundary` of every multipart around it.
    delimiters: Vec<Finder<'static>>,
}

/// A part's octets for one recipient.
#[derive(Debug)]
pub struct Body {
    /// Encoded; line ends may still be LF.
    pub octets: Vec<u8>,
    /// It did not fit the part's own charset or transfer encoding: the part's headers change.
    pub upgraded: bool,
    pub eight_bit: bool,
}

impl MergedPart {
    /// Compiles the part; `None` when it holds no marks and stays as it is.
    pub fn compile(
        raw: &[u8],
        part: &TextPart,
        merge: &mut Merge,
    ) -> Result<Option<MergedPart>, MessageError> {
        let kind = if part.html { "text/html" } else { "text/plain" };
        let place = format!("{kind} part that starts at line {}", line_of(raw, part.body.start));
        let body = &raw[part.body.clone()];
        let wrong = |reason: String| MessageError::Decode { place: place.clone(), reason };
        let Some(transfer) = Transfer::parse(&part.transfer_encoding) else {
            return match has_marks(&String::from_utf8_lossy(body)) {
                true => {
                    Err(wrong(format!("Content-Transfer-Encoding {:?} is not known", part.transfer_encoding)))
                }
                false => Ok(None),
            };
        };
        // What can't be decoded can't have been written as a template: it goes out as it came.
        let Ok(octets) = transfer.decode(body) else { return Ok(None) };
        if !has_marks(&String::from_utf8_lossy(&octets)) {
            return Ok(None);
        }
        let charset = Charset::parse(&part.charset)
            .ok_or_else(|| MessageError::Charset { place: place.clone(), charset: part.charset.clone() })?;
        let text = charset.decode(&octets).map_err(wrong)?.replace("\r\n", "\n");
        let template = merge.add_part(&place, part.html, text)?;
        let delimiters = part
            .boundaries
            .iter()
            .map(|boundary| Finder::new(&[b"--", boundary.as_slice()].concat()).into_owned())
            .collect();
        Ok(Some(MergedPart { template, transfer, charset, delimiters }))
    }

    /// Renders and encodes; `buffer` is scratch.
    pub fn render(&self, merge: &Merge, context: &Value, buffer: &mut Vec<u8>) -> Result<Body, RenderError> {
        let text = merge.part(&self.template, context, buffer)?;
        let native = self.charset.encode(text);
        let mut upgraded = native.is_none();
        let octets = native.as_deref().unwrap_or(text.as_bytes());
        let mut transfer = self.transfer;
        let plain = matches!(transfer, Transfer::SevenBit | Transfer::EightBit);
        let must_be_ascii = transfer == Transfer::SevenBit;
        if plain && (upgraded || (must_be_ascii && !octets.is_ascii()) || has_long_line(octets)) {
            upgraded = true;
            transfer = Transfer::QuotedPrintable;
        }
        // An upgraded part says utf-8.
        let octets = if upgraded { text.as_bytes() } else { octets };
        let mut out = Vec::with_capacity(octets.len() + octets.len() / 16 + 64);
        match transfer {
            Transfer::SevenBit | Transfer::EightBit => out.extend_from_slice(octets),
            Transfer::QuotedPrintable => qp_encode(octets, &mut out),
            Transfer::Base64 => base64_encode(&crlf(octets), &mut out),
        }
        if self.delimiters.iter().any(|delimiter| delimiter.find(&out).is_some()) {
            return Err(RenderError::Boundary { place: self.template.place.clone() });
        }
        let eight_bit = transfer == Transfer::EightBit && !out.is_ascii();
        Ok(Body { octets: out, upgraded, eight_bit })
    }

    /// The transfer encoding of the part once upgraded.
    pub fn upgraded_transfer(&self) -> &'static str {
        match self.transfer {
            Transfer::Base64 => "base64",
            _ => "quoted-printable",
        }
    }
}

fn has_long_line(octets: &[u8]) -> bool {
    if octets.len() <= LINE_OCTETS_MAX {
        return false;
    }
    // every octet of every recipient's part passes here: memchr, not a look at each
    let mut start = 0;
    for end in memchr::memchr2_iter(b'\n', b'\r', octets) {
        if end - start > LINE_OCTETS_MAX {
            return true;
        }
        start = end + 1;
    }
    octets.len() - start > LINE_OCTETS_MAX
}

/// Text in base64 has CRLF line ends (RFC 2045 §6.8).
fn crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = super::wire::normalise(octets);
    if !octets.ends_with(b"\n") && !octets.ends_with(b"\r") && !octets.is_empty() {
        out.truncate(out.len() - 2);
    }
    out
}

/// The part's Content-Type, charset utf-8, its other parameters kept.
pub fn upgraded_content_type(raw: &[u8], part: &TextPart) -> String {
    let kind = if part.html { "html" } else { "plain" };
    let mut line = format!("Content-Type: text/{kind}; charset=utf-8");
    for (name, value) in content_type(raw, &part.header).unwrap_or_default().parameters {
        let printable = value.bytes().all(|b| (b' '..=b'~').contains(&b));
        if name == "charset" || !printable {
            continue;
        }
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        line.push_str(&format!(";\r\n {name}=\"{value}\""));
    }
    line.push_str("\r\n");
    line
}
