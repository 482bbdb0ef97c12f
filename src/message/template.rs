//! A message, compiled once per job, rendered once per recipient.
//!
//! Compiling cuts the normalised message at what changes from recipient to recipient; the runs between
//! are put in wire form once. Rendering fills the gaps and appends. The same message, options and
//! recipient give the same octets at any time and in any process.

use std::io::Write as _;

use super::compile;
use super::content::Content;
use super::envelope::{Sender, Xverp};
use super::error::{MessageError, RenderError};
use super::header::{Kind, field};
use super::merge::{Merge, TemplateId};
use super::parts::{Body, MergedPart};
use super::wire::{WirePiece, WireWriter};

/// What a message is compiled with.
#[derive(Debug, Clone, Copy)]
pub struct CompileOptions<'a> {
    /// Headers and text parts are templates.
    pub merge: bool,
    /// Column names, in the order of [`RecipientView::values`].
    pub columns: &'a [String],
    /// The job's id: letters, digits, `.`, `-` and `_`.
    pub job: &'a str,
    /// When the job was submitted, in microseconds since the Unix epoch: the Date of a message without.
    pub submitted_us: u64,
    /// What stands after the @ of a Message-ID that is added.
    pub message_id_domain: &'a str,
    /// `list-bounces@host`, or a pattern with `{local}`, `{domain}` and `{job}`.
    pub verp: Option<&'a str>,
    /// Envelope sender in place of the address in From; empty for the null sender.
    pub sender: Option<&'a str>,
    /// Sends left-over placeholders as they stand.
    pub allow_placeholders: bool,
}

/// One recipient, as much of it as a message needs.
#[derive(Debug, Clone, Copy)]
pub struct RecipientView<'a> {
    /// Its number in the job: with the address, what makes its Message-ID.
    pub ordinal: u64,
    pub address: &'a str,
    /// In the order of [`CompileOptions::columns`].
    pub values: &'a [&'a str],
}

/// Envelope sender (empty for the null sender) and content for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub sender: String,
    pub content: Content,
}

/// A stretch of the message.
#[derive(Debug)]
pub(super) enum Piece {
    Static(WirePiece),
    Header {
        name: String,
        kind: Kind,
        template: TemplateId,
    },
    /// A header of part `part`, as it came and as it is when the part had to be re-labelled.
    PartHeader {
        part: usize,
        as_is: WirePiece,
        upgraded: WirePiece,
    },
    Body {
        part: usize,
    },
    /// `Message-ID`, its own for each recipient.
    MessageId {
        job: String,
        domain: String,
    },
}

/// A compiled message.
#[derive(Debug)]
pub struct Template {
    pub(super) warnings: Vec<String>,
    pub(super) fixed_sender: String,
    pub(super) sender: Sender,
    pub(super) pieces: Vec<Piece>,
    pub(super) parts: Vec<MergedPart>,
    pub(super) merge: Option<Merge>,
    pub(super) shared: Option<Content>,
    pub(super) eight_bit: bool,
    pub(super) utf8_headers: bool,
    /// What a render's scratch buffer starts with: room for the largest part in most cases.
    pub(super) scratch_octets: usize,
    /// Octets of the static pieces, and a little for the others.
    pub(super) size_hint: usize,
}

impl Template {
    /// Compiles a message as it was submitted; see [`MessageError`] for what can be wrong with it.
    pub fn compile(raw: &[u8], options: &CompileOptions<'_>) -> Result<Template, MessageError> {
        compile::compile(raw, options)
    }

    /// What the operator should hear of and may send nevertheless.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// `--sender`, else the address in From; what VERP replaces per recipient. Empty: the null sender.
    pub fn sender(&self) -> &str {
        &self.fixed_sender
    }

    /// The content is the same for all recipients.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// The envelope sender is the same for all recipients (no VERP).
    pub fn sender_is_shared(&self) -> bool {
        matches!(self.sender, Sender::Fixed(_))
    }

    /// What an MTA that offers XVERP needs to make the recipients' senders itself, where it can.
    pub fn xverp(&self) -> Option<&Xverp> {
        match &self.sender {
            Sender::Fixed(_) => None,
            Sender::Verp(verp) => verp.xverp(),
        }
    }

    /// The content, where it is the same for all.
    pub fn shared_content(&self) -> Option<&Content> {
        self.shared.as_ref()
    }

    /// Sender and content for one recipient. An error is that recipient's alone.
    pub fn render(&self, recipient: &RecipientView<'_>) -> Result<Rendered, RenderError> {
        let sender = self.sender_for(recipient)?;
        let content = match &self.shared {
            Some(content) => content.clone(),
            None => self.content_for(recipient)?,
        };
        Ok(Rendered { sender, content })
    }

    fn sender_for(&self, recipient: &RecipientView<'_>) -> Result<String, RenderError> {
        match &self.sender {
            Sender::Fixed(sender) => Ok(sender.clone()),
            Sender::Verp(verp) => {
                let address = super::address::check_address(recipient.address).map_err(|reason| {
                    RenderError::Address {
                        place: "recipient".to_owned(),
                        address: recipient.address.to_owned(),
                        reason,
                    }
                })?;
                verp.sender(&address)
            }
        }
    }

    pub(super) fn content_for(&self, recipient: &RecipientView<'_>) -> Result<Content, RenderError> {
        let mut buffer = Vec::with_capacity(self.scratch_octets);
        let context = self.merge.as_ref().map(|merge| (merge, merge.context(recipient)));
        let mut bodies = Vec::with_capacity(self.parts.len());
        if let Some((merge, context)) = &context {
            for part in &self.parts {
                bodies.push(part.render(merge, context, &mut buffer)?);
            }
        }
        assert!(bodies.len() == self.parts.len(), "a merged part without a merge environment");
        let body_octets: usize = bodies.iter().map(Body::len).sum();
        let mut wire = WireWriter::with_capacity(self.size_hint + body_octets + body_octets / 32);
        let mut utf8_headers = self.utf8_headers;
        for piece in &self.pieces {
            match piece {
                Piece::Static(piece) => wire.push_piece(piece),
                Piece::Header { name, kind, template } => {
                    if let Some((merge, context)) = &context {
                        let runs = merge.header(template, context, &mut buffer)?;
                        let line = field(name, *kind, &runs, &template.place)?;
                        utf8_headers |= !line.is_ascii();
                        wire.push(line.as_bytes());
                    }
                }
                Piece::PartHeader { part, as_is, upgraded } => {
                    wire.push_piece(if bodies[*part].upgraded { upgraded } else { as_is });
                }
                Piece::Body { part } => self.parts[*part].write(&bodies[*part], &mut wire),
                Piece::MessageId { job, domain } => {
                    let ordinal = recipient.ordinal;
                    let hash = crc32fast::hash(recipient.address.as_bytes());
                    buffer.clear();
                    // Writing to a Vec can't fail.
                    write!(buffer, "Message-ID: <{job}.{ordinal}-{hash:08x}@{domain}>\r\n")
                        .unwrap_or_default();
                    wire.push(&buffer);
                }
            }
        }
        let (octets, size_octets) = wire.finish();
        let eight_bit = self.eight_bit || utf8_headers || bodies.iter().any(|body| body.eight_bit);
        Ok(Content { wire: octets.into(), size_octets, eight_bit, utf8_headers })
    }
}
