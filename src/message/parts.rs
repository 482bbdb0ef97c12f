//! Text parts that are templates: decoded once, rendered and encoded per recipient.
//!
//! Most lines of a newsletter are the same for everybody. Where a part can be cut at line ends into
//! those and the others ([`lines`]), they are encoded once, and only the others are rendered. What comes
//! out is, octet for octet, what rendering the whole gives; for a recipient for whom it can't be (a name
//! that the part's charset lacks), the whole is rendered.

use memchr::memmem::Finder;

use super::codec::{Charset, Transfer, base64_encode, qp_encode};
use super::error::{MessageError, RenderError};
use super::header::LINE_OCTETS_MAX;
use super::lines;
use super::merge::{Context, Merge, RENDERED_OCTETS_MAX, TemplateId};
use super::mime::{TextPart, content_type};
use super::wire::{LineCounter, WirePiece, WireWriter};

/// What tells a template from text.
const MARKS: [&str; 3] = ["{{", "{%", "{#"];

/// The text holds something that minijinja reads.
pub fn has_marks(text: &str) -> bool {
    MARKS.iter().any(|mark| text.contains(mark))
}

/// A text part with its compiled template.
#[derive(Debug)]
pub struct MergedPart {
    /// All of it: for recipients whose values don't fit the part's charset or transfer encoding.
    template: TemplateId,
    transfer: Transfer,
    charset: Charset,
    /// `--boundary` of every multipart around it.
    delimiters: Vec<Finder<'static>>,
    /// The same in stretches, where that can be; else empty.
    stretches: Vec<Stretch>,
    /// A stretch that never changes holds octets above 127.
    static_eight_bit: bool,
}

/// Whole lines of a part.
#[derive(Debug)]
enum Stretch {
    /// The same for everybody: encoded once.
    Static(WirePiece),
    Merged(TemplateId),
}

/// A part's octets for one recipient.
#[derive(Debug, Default)]
pub struct Body {
    /// Encoded; line ends may still be LF. Where the part was rendered in stretches, the merged ones alone.
    octets: Vec<u8>,
    /// Where each merged stretch ends.
    ends: Vec<usize>,
    /// It did not fit the part's own charset or transfer encoding: the part's headers change.
    pub upgraded: bool,
    pub eight_bit: bool,
}

impl Body {
    pub fn len(&self) -> usize {
        self.octets.len()
    }
}

impl MergedPart {
    /// Compiles the part; `None` when it holds no marks and stays as it is.
    pub fn compile(
        raw: &[u8],
        part: &TextPart,
        merge: &mut Merge,
        lines: &mut LineCounter<'_>,
    ) -> Result<Option<MergedPart>, MessageError> {
        let kind = if part.html { "text/html" } else { "text/plain" };
        let place = format!("{kind} part that starts at line {}", lines.line_of(part.body.start));
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
        let cuts = super::lines::cut(&text);
        let template = merge.add_part(&place, part.html, text.clone())?;
        let delimiters = part
            .boundaries
            .iter()
            .map(|boundary| Finder::new(&[b"--", boundary.as_slice()].concat()).into_owned())
            .collect();
        let (stretches, static_eight_bit) = (Vec::new(), false);
        let mut part = MergedPart { template, transfer, charset, delimiters, stretches, static_eight_bit };
        if transfer != Transfer::Base64 && cuts.iter().any(|cut| cut.is_static) {
            part.stretches = part.stretch(&text, &cuts, merge);
        }
        Ok(Some(part))
    }

    /// The part in stretches; none when something in it has to be upgraded whoever gets it.
    fn stretch(&mut self, text: &str, cuts: &[lines::Cut], merge: &mut Merge) -> Vec<Stretch> {
        let mut stretches = Vec::with_capacity(cuts.len());
        for (number, cut) in cuts.iter().enumerate() {
            let source = &text[cut.range.clone()];
            if !cut.is_static {
                // The whole compiled: what doesn't was cut at a place that only looked like a mark's end.
                let Ok(template) = merge.add_stretch(&self.template, number, source) else {
                    return Vec::new();
                };
                stretches.push(Stretch::Merged(template));
                continue;
            }
            let mut octets = Vec::with_capacity(source.len() + source.len() / 16);
            if !self.encode(source, &mut octets) {
                return Vec::new();
            }
            self.static_eight_bit |= !octets.is_ascii();
            assert!(source.ends_with('\n'), "a stretch that never changes is of whole lines");
            stretches.push(Stretch::Static(WirePiece::new(&super::wire::normalise(&octets))));
        }
        stretches
    }

    /// Appends whole lines in the part's charset and transfer encoding; `false` when they don't fit.
    fn encode(&self, text: &str, out: &mut Vec<u8>) -> bool {
        let Some(octets) = self.charset.encode(text) else { return false };
        let start = out.len();
        match self.transfer {
            Transfer::QuotedPrintable => qp_encode(&octets, out),
            Transfer::SevenBit if !octets.is_ascii() => return false,
            Transfer::SevenBit | Transfer::EightBit if has_long_line(&octets) => return false,
            Transfer::SevenBit | Transfer::EightBit => out.extend_from_slice(&octets),
            Transfer::Base64 => return false,
        }
        !self.delimiters.iter().any(|delimiter| delimiter.find(&out[start..]).is_some())
    }

    /// Renders and encodes; `buffer` is scratch.
    pub fn render(
        &self,
        merge: &Merge,
        context: &Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<Body, RenderError> {
        match self.render_stretches(merge, context, buffer) {
            Some(body) => Ok(body),
            // whatever is wrong with it, it is told of the whole
            None => self.render_whole(merge, context, buffer),
        }
    }

    /// The merged stretches; `None` where all of it has to be rendered.
    fn render_stretches(&self, merge: &Merge, context: &Context<'_>, buffer: &mut Vec<u8>) -> Option<Body> {
        if self.stretches.is_empty() {
            return None;
        }
        let mut body = Body::default();
        for stretch in &self.stretches {
            let Stretch::Merged(template) = stretch else { continue };
            let text = merge.part(template, context, buffer).ok()?;
            if !self.encode(text, &mut body.octets) {
                return None;
            }
            if body.octets.len() > RENDERED_OCTETS_MAX {
                return None;
            }
            body.ends.push(body.octets.len());
        }
        let eight_bit = self.static_eight_bit || !body.octets.is_ascii();
        body.eight_bit = self.transfer == Transfer::EightBit && eight_bit;
        Some(body)
    }

    /// Appends what [`MergedPart::render`] gave.
    pub fn write(&self, body: &Body, wire: &mut WireWriter) {
        if body.ends.is_empty() {
            return wire.push(&body.octets);
        }
        let mut merged = body.ends.iter().scan(0, |start, &end| {
            let octets = &body.octets[*start..end];
            *start = end;
            Some(octets)
        });
        for stretch in &self.stretches {
            match stretch {
                Stretch::Static(piece) => wire.push_piece(piece),
                Stretch::Merged(_) => wire.push(merged.next().unwrap_or_default()),
            }
        }
    }

    /// Octets of the stretches that never change.
    pub fn static_len(&self) -> usize {
        let len = |stretch: &Stretch| if let Stretch::Static(piece) = stretch { piece.len() } else { 0 };
        self.stretches.iter().map(len).sum()
    }

    fn render_whole(
        &self,
        merge: &Merge,
        context: &Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<Body, RenderError> {
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
        Ok(Body { octets: out, ends: Vec::new(), upgraded, eight_bit })
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

#[cfg(test)]
mod tests {
    use crate::message::{CompileOptions, RecipientView, Template};
    use proptest::prelude::*;

    fn compile(raw: &str) -> Option<Template> {
        let columns = ["x".to_owned()];
        let options = CompileOptions {
            merge: true,
            columns: &columns,
            job: "j-1",
            submitted_us: 1_795_317_240_000_000,
            message_id_domain: "mail.example",
            verp: None,
            sender: None,
            allow_placeholders: true,
        };
        Template::compile(raw.as_bytes(), &options).ok()
    }

    fn part(charset: &str, transfer: &str, text: &str) -> String {
        format!(
            "Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {transfer}\n\n{text}"
        )
    }

    const LINES: &[&str] = &[
        "The towpath is open again between the old mill and the lock, all of it, at last.\n",
        ".The towpath is open again between the old mill and the lock, all of it, at last. \n",
        "Caf\u{e9} and tea, between the old mill and the lock, as long as the season lasts, =20\n",
        "\u{201c}Caf\u{e9}\u{201d}, between the old mill and the lock, as long as the season lasts\n",
        "Dear {{ x }},\n",
        "{{ x | upper }} and {{ x | default('friend') }}\n",
        "{# a remark\nof two lines #}{{ x\n}}\n",
        "{% if x == 'a' %}\n",
        "{% endif %}\n",
        "{{ x -}}\n",
        "--b\n",
        "\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
        #[test]
        fn a_part_in_stretches_comes_out_as_the_whole_would(
            lines in proptest::collection::vec(prop::sample::select(LINES), 1..14),
            last in prop::sample::select(&["", "the end", "the end {{ x }}"][..]),
            charset in prop::sample::select(&["utf-8", "us-ascii", "iso-8859-1"][..]),
            transfer in prop::sample::select(&["7bit", "8bit", "quoted-printable", "base64"][..]),
            multipart in any::<bool>(),
            value in prop_oneof![
                Just("a".to_owned()), Just("J\u{f6}rg".to_owned()), Just("\u{65e5}\u{672c}".to_owned()),
                Just("two\nlines".to_owned()), Just(".".to_owned()), Just("--b".to_owned()), Just("l".repeat(999)),
            ],
        ) {
            let text = lines.concat() + last;
            let head = "From: a@b.example\nDate: Sun, 22 Nov 2026 03:14:00 +0000\nMIME-Version: 1.0\n";
            let part = part(charset, transfer, &text);
            let raw = match multipart {
                true => format!("{head}Content-Type: multipart/mixed; boundary=b\n\n--b\n{part}\n--b--\n"),
                false => format!("{head}{part}"),
            };
            let (Some(template), Some(mut whole)) = (compile(&raw), compile(&raw)) else { return Ok(()) };
            whole.parts.iter_mut().for_each(|part| part.stretches.clear());
            let view = RecipientView { ordinal: 1, address: "u@d.example", values: &[&value] };
            prop_assert_eq!(template.render(&view).ok(), whole.render(&view).ok());
        }
    }

    #[test]
    fn lines_that_are_the_same_for_everybody_are_encoded_once() {
        let text = format!("Dear {{{{ x }}}},\n{}{{{{ x }}}}\n{}", LINES[0].repeat(9), LINES[2].repeat(9));
        let template = compile(&format!("From: a@b.example\n{}", part("utf-8", "8bit", &text)));
        let parts = template.map(|t| t.parts).unwrap_or_default();
        assert_eq!(parts[0].stretches.len(), 4);
        assert!(parts[0].static_len() > 9 * (LINES[0].len() + LINES[2].len()));
    }
}
