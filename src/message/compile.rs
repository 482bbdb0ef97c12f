//! From a submitted message to a [`Template`]: what is removed, added, cut out and warned of.
//!
//! Removed: `Bcc`, `Resent-Bcc`, `Return-Path`, an mbox `From ` line, a byte order mark. Added when
//! absent: `Date`, `Message-ID`. Everything else that is no template keeps its octets, line endings
//! aside. Errors are [`MessageError`]s, before anything is committed.

use std::collections::HashSet;
use std::ops::Range;

use super::content::Content;
use super::envelope::{Sender, Verp};
use super::error::MessageError;
use super::header::{Kind, LINE_OCTETS_MAX};
use super::merge::Merge;
use super::mime::{Field, Header, Structure, TextPart, message_header, walk};
use super::parts::{MergedPart, has_marks, upgraded_content_type};
use super::placeholder;
use super::sender::fixed_sender;
use super::template::{CompileOptions, Piece, RecipientView, Template};
use super::wire::{LineCounter, WirePiece, line_of, normalise};
use super::words::decode_words;
use crate::clock;

/// Headers that say who else got it, or that only the last MTA may write.
const REMOVED: [&str; 3] = ["Bcc", "Resent-Bcc", "Return-Path"];
/// Headers that a message has once (RFC 5322 §3.6); From is checked on its own.
const ONCE: [&str; 7] = ["Date", "Message-ID", "Subject", "Sender", "Reply-To", "To", "Cc"];
/// Long lines named, and headers that are not UTF-8; more are counted.
const LONG_LINES_MAX: usize = 10;

/// What stands in place of a range of the message.
struct Edit {
    range: Range<usize>,
    piece: Option<Piece>,
}

pub fn compile(raw: &[u8], o: &CompileOptions<'_>) -> Result<Template, MessageError> {
    let mut warnings = Vec::new();
    let raw = &prepare(raw, &mut warnings)?;
    let header = message_header(raw)?;
    let structure = walk(raw, &header);
    warnings.extend(structure.warnings.iter().cloned());
    warn_of_headers(raw, &header, &mut warnings);
    warn_of_long_lines(raw, &mut warnings);
    check_leftovers(raw, &structure, o)?;
    let fixed_sender = fixed_sender(raw, &header, o)?;

    let mut edits = Vec::new();
    let mut merge = o.merge.then(|| Merge::new(o.columns, o.job));
    let mut parts = Vec::new();
    let mut lines = LineCounter::new(raw);
    for field in &header.fields {
        if REMOVED.iter().any(|name| field.is(raw, name)) {
            edits.push(Edit { range: field.whole.clone(), piece: None });
        } else if let Some(merge) = &mut merge
            && let Some(piece) = header_template(raw, field, merge, &mut lines)?
        {
            edits.push(Edit { range: field.whole.clone(), piece: Some(piece) });
        }
    }
    if let Some(merge) = &mut merge {
        for text in &structure.texts {
            if let Some(part) = MergedPart::compile(raw, text, merge, &mut lines)? {
                part_edits(raw, text, &part, parts.len(), &mut edits);
                parts.push(part);
            }
        }
        warnings.append(&mut merge.warnings);
    }
    let is_merged = edits.iter().any(|edit| edit.piece.is_some());
    if let Some(merge) = &merge
        && !is_merged
    {
        warnings.push(format!(
            "--merge, but the message holds no merge marks: all recipients get the same (columns: {})",
            merge.column_names().join(", ")
        ));
    }
    if is_merged {
        warn_of_merging(raw, &header, &structure, &mut warnings);
    }
    let raw_utf8 = raw_utf8_header(raw, &structure, &edits);
    let utf8_headers = raw_utf8.is_some();
    warnings.extend(raw_utf8);
    add_headers(raw, &header, o, is_merged, &mut edits)?;
    let pieces = assemble(raw, edits);
    let eight_bit = pieces.iter().any(|piece| match piece {
        Piece::Static(piece) => piece.eight_bit(),
        Piece::PartHeader { as_is, .. } => as_is.eight_bit(),
        _ => false,
    });
    let size_hint =
        pieces.iter().map(|piece| if let Piece::Static(piece) = piece { piece.len() } else { 200 });
    let size_hint = size_hint.sum::<usize>() + parts.iter().map(MergedPart::static_len).sum::<usize>();
    let sender = match o.verp {
        Some(pattern) => Sender::Verp(Verp::parse(pattern, o.job)?),
        None => Sender::Fixed(fixed_sender.clone()),
    };
    let merge = if is_merged { merge } else { None };
    let largest_text = structure.texts.iter().map(|text| text.body.len()).max().unwrap_or(0);
    let mut template = Template {
        warnings,
        fixed_sender,
        sender,
        pieces,
        parts,
        merge,
        shared: None,
        eight_bit,
        utf8_headers,
        scratch_octets: if is_merged { largest_text + largest_text / 4 + 256 } else { 0 },
        size_hint,
    };
    if !is_merged {
        template.shared = Some(shared_content(&template)?);
    }
    Ok(template)
}

/// Nothing in it depends on the recipient, so any will do.
fn shared_content(template: &Template) -> Result<Content, MessageError> {
    template
        .content_for(&RecipientView { ordinal: 0, address: "", values: &[] })
        .map_err(|e| MessageError::Template { place: "message".to_owned(), reason: e.to_string() })
}

/// Checks octets, drops what stands before the first header, normalises line ends.
fn prepare(raw: &[u8], warnings: &mut Vec<String>) -> Result<Vec<u8>, MessageError> {
    if let Some(at) = memchr::memchr(0, raw) {
        return Err(MessageError::Nul { line: line_of(raw, at) });
    }
    let mut raw = raw;
    if let Some(rest) = raw.strip_prefix(b"\xEF\xBB\xBF") {
        warnings.push("line 1: a byte order mark was dropped".to_owned());
        raw = rest;
    }
    if raw.starts_with(b"From ") {
        warnings
            .push("line 1: an mbox `From ` line was dropped; lines below are counted without it".to_owned());
        let end = memchr::memchr2(b'\r', b'\n', raw).unwrap_or(raw.len());
        let rest = &raw[end..];
        raw = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)).unwrap_or(b"");
    }
    if raw.trim_ascii().is_empty() {
        return Err(MessageError::Empty);
    }
    Ok(normalise(raw))
}

fn warn_of_headers(raw: &[u8], header: &Header, warnings: &mut Vec<String>) {
    let has = |name: &str| header.find(raw, name).is_some();
    if !has("List-Id") {
        warnings.push("no List-Id header: receivers can't tell this list's mail from other mail".to_owned());
    }
    if !has("List-Unsubscribe") {
        warnings.push("no List-Unsubscribe header: large receivers hold it against bulk mail".to_owned());
    } else if !has("List-Unsubscribe-Post") {
        warnings.push("no List-Unsubscribe-Post header: no one-click unsubscribing (RFC 8058)".to_owned());
    }
    for name in ONCE {
        let mut fields = header.fields.iter().filter(|field| field.is(raw, name));
        if let (Some(_), Some(second)) = (fields.next(), fields.next()) {
            let line = line_of(raw, second.whole.start);
            warnings
                .push(format!("line {line}: a second {name} header; some receivers refuse that (RFC 5322)"));
        }
    }
    let not_utf8 = |field: &&Field| std::str::from_utf8(&raw[field.value.clone()]).is_err();
    let mut fields = header.fields.iter().filter(not_utf8);
    for field in fields.by_ref().take(LONG_LINES_MAX) {
        let line = line_of(raw, field.whole.start);
        warnings.push(format!("line {line}: {} holds octets that are not UTF-8", field.name(raw)));
    }
    match fields.count() {
        0 => {}
        more => warnings.push(format!("{more} more headers hold octets that are not UTF-8")),
    }
}

fn warn_of_long_lines(raw: &[u8], warnings: &mut Vec<String>) {
    let mut start = 0;
    let mut long = 0;
    for (i, end) in memchr::memchr_iter(b'\n', raw).enumerate() {
        let octets = (end + 1 - start).saturating_sub(2);
        if octets > LINE_OCTETS_MAX {
            long += 1;
            if long <= LONG_LINES_MAX {
                warnings.push(format!(
                    "line {}: {octets} octets; MTAs may cut lines over {LINE_OCTETS_MAX} (RFC 5322 §2.1.1)",
                    i + 1
                ));
            }
        }
        start = end + 1;
    }
    if long > LONG_LINES_MAX {
        warnings.push(format!("{} more lines over {LINE_OCTETS_MAX} octets", long - LONG_LINES_MAX));
    }
}

fn warn_of_merging(raw: &[u8], header: &Header, structure: &Structure, warnings: &mut Vec<String>) {
    for name in ["Message-ID", "DKIM-Signature"] {
        let Some(field) = header.find(raw, name) else { continue };
        let line = line_of(raw, field.whole.start);
        if name == "DKIM-Signature" {
            warnings.push(format!("line {line}: merging breaks this DKIM-Signature; let the MTA sign"));
        } else if !has_marks(&field.text(raw)) {
            warnings.push(format!(
                "line {line}: every recipient gets this Message-ID; leave it out, and each gets its own"
            ));
        }
    }
    if structure.sealed {
        warnings.push("a signed or encrypted part is not merged".to_owned());
    }
}

/// Merge marks without --merge, and others in any case.
fn check_leftovers(raw: &[u8], structure: &Structure, o: &CompileOptions<'_>) -> Result<(), MessageError> {
    if o.allow_placeholders {
        return Ok(());
    }
    let found = placeholder::scan(raw, structure);
    if !o.merge && !found.merge_marks.is_empty() {
        return Err(MessageError::MergeMarks(found.merge_marks));
    }
    if found.others.is_empty() { Ok(()) } else { Err(MessageError::Placeholders(found.others)) }
}

/// The field as a template, if it holds marks. MIME's own headers are not merged.
fn header_template(
    raw: &[u8],
    field: &Field,
    merge: &mut Merge,
    lines: &mut LineCounter<'_>,
) -> Result<Option<Piece>, MessageError> {
    let name = field.name(raw).into_owned();
    let kind = Kind::of(&name);
    let text = decode_words(&field.text(raw), kind == Kind::Addresses);
    if !has_marks(&text) {
        return Ok(None);
    }
    let place = format!("line {} ({name})", lines.line_of(field.whole.start));
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("content-") || lower == "mime-version" {
        let reason = "MIME headers are not merged; take the merge marks out".to_owned();
        return Err(MessageError::Template { place, reason });
    }
    let template = merge.add_header(&place, text)?;
    Ok(Some(Piece::Header { name, kind, template }))
}

/// The body of a merged part, and its headers for the case that it must be upgraded.
fn part_edits(raw: &[u8], text: &TextPart, part: &MergedPart, number: usize, edits: &mut Vec<Edit>) {
    let transfer = format!("Content-Transfer-Encoding: {}\r\n", part.upgraded_transfer());
    let mut upgraded =
        vec![("Content-Type", upgraded_content_type(raw, text)), ("Content-Transfer-Encoding", transfer)];
    let is_whole_message = text.boundaries.is_empty();
    if is_whole_message && text.header.find(raw, "MIME-Version").is_none() {
        upgraded.push(("MIME-Version", "MIME-Version: 1.0\r\n".to_owned()));
    }
    let mut absent = String::new();
    for (name, line) in upgraded {
        match text.header.find(raw, name) {
            Some(field) => edits.push(Edit {
                range: field.whole.clone(),
                piece: Some(Piece::PartHeader {
                    part: number,
                    as_is: WirePiece::new(&raw[field.whole.clone()]),
                    upgraded: WirePiece::new(line.as_bytes()),
                }),
            }),
            None => absent.push_str(&line),
        }
    }
    if text.header.end == text.header.body {
        // No empty line stood between this part's header and its text.
        absent.push_str("\r\n");
    }
    let at = text.header.end;
    let upgraded = WirePiece::new(absent.as_bytes());
    let as_is = WirePiece::default();
    edits.push(Edit { range: at..at, piece: Some(Piece::PartHeader { part: number, as_is, upgraded }) });
    edits.push(Edit { range: text.body.clone(), piece: Some(Piece::Body { part: number }) });
}

/// Date and Message-ID where absent.
fn add_headers(
    raw: &[u8],
    header: &Header,
    o: &CompileOptions<'_>,
    is_merged: bool,
    edits: &mut Vec<Edit>,
) -> Result<(), MessageError> {
    let mut add = |piece| edits.push(Edit { range: header.end..header.end, piece: Some(piece) });
    if header.find(raw, "Date").is_none() {
        let line = format!("Date: {}\r\n", clock::rfc5322(o.submitted_us));
        add(Piece::Static(WirePiece::new(line.as_bytes())));
    }
    if header.find(raw, "Message-ID").is_none() {
        for (what, value) in [("the job's id", o.job), ("the domain", o.message_id_domain)] {
            let fits = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
            let dots = value.split('.').any(str::is_empty);
            if !fits || dots {
                return Err(MessageError::MessageId { what, value: value.to_owned() });
            }
        }
        let (job, domain) = (o.job.to_owned(), o.message_id_domain.to_owned());
        add(match is_merged {
            true => Piece::MessageId { job, domain },
            false => Piece::Static(WirePiece::new(format!("Message-ID: <{job}@{domain}>\r\n").as_bytes())),
        });
    }
    Ok(())
}

/// The first header that goes out as it came and holds raw UTF-8 (RFC 6532), as a warning.
fn raw_utf8_header(raw: &[u8], structure: &Structure, edits: &[Edit]) -> Option<String> {
    let edited: HashSet<&Range<usize>> = edits.iter().map(|edit| &edit.range).collect();
    let field = structure.headers.iter().flat_map(|header| &header.fields).find(|field| {
        let value = &raw[field.whole.clone()];
        let is_utf8 = !value.is_ascii() && std::str::from_utf8(value).is_ok();
        is_utf8 && !edited.contains(&field.whole)
    })?;
    Some(format!(
        "line {}: {} holds raw UTF-8, which only mail systems with SMTPUTF8 take all the way; encode it (RFC 2047)",
        line_of(raw, field.whole.start),
        field.name(raw)
    ))
}

/// The message with its edits in place, in order.
fn assemble(raw: &[u8], mut edits: Vec<Edit>) -> Vec<Piece> {
    // Stable: what is added at one place keeps its order.
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut pieces = Vec::new();
    let mut at = 0;
    for edit in edits {
        assert!(edit.range.start >= at, "two edits of one range of the message");
        if edit.range.start > at {
            pieces.push(Piece::Static(WirePiece::new(&raw[at..edit.range.start])));
        }
        pieces.extend(edit.piece);
        at = edit.range.end;
    }
    if at < raw.len() {
        pieces.push(Piece::Static(WirePiece::new(&raw[at..])));
    }
    pieces
}
