//! The rows of a list, each rendered on its way: what can't be rendered is rejected before the commit.
//!
//! Rows travel in batches: read here, rendered on as many threads as there are processors where the
//! message or its sender differs by recipient, and handed on in the order of the list. Memory is a few
//! batches.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use crate::intake::{BadRow, IntakeError, RecipientReader, Row, RowRef};
use crate::message::{RecipientView, Template};

const BATCH_ROWS_MAX: usize = 512;
/// A batch ends once it holds so much text; one row is 64 KiB at most.
const BATCH_OCTETS: usize = 256 * 1024;
/// Batches that a thread has waiting.
const BATCHES_AHEAD: usize = 2;

/// A row that was read, and rendered where that can fail.
pub(super) enum Checked<'a> {
    Good { address: &'a str, values: &'a [&'a str], size_octets: u64 },
    Bad { line: u64, reason: &'a str, raw: &'a [u8] },
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Enough,
}

type Span = (usize, usize);

#[derive(Default)]
struct Batch {
    text: String,
    raw: Vec<u8>,
    fields: Vec<Span>,
    entries: Vec<Entry>,
}

struct Entry {
    line: u64,
    kind: Kind,
}

enum Kind {
    Row { address: Span, fields: Span, checked: Result<u64, String> },
    Bad { reason: BadRow, raw: Span },
}

/// Hands every row of `reader` to `each`, in order, until it has enough.
///
/// # Errors
/// A list that can't be read on, and those of `each`.
pub(super) fn each_row<E: From<IntakeError>>(
    reader: &mut RecipientReader,
    template: &Template,
    mut each: impl FnMut(Checked<'_>) -> Result<Flow, E>,
) -> Result<(), E> {
    let mut row = Row::new();
    if template.is_shared() && template.sender_is_shared() {
        let mut batch = Batch::default();
        let size_octets = template.shared_content().map_or(0, |content| content.size_octets);
        while batch.fill(reader, &mut row, size_octets)? {
            if batch.hand_on(&mut each)? == Flow::Enough {
                break;
            }
        }
        return Ok(());
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        let mut threads: VecDeque<Renderer> =
            (0..threads).map(|_| Renderer::start(scope, template)).collect();
        let mut spare = Vec::new();
        let mut under_way = 0;
        let mut at_end = false;
        loop {
            if !at_end && under_way < threads.len() * BATCHES_AHEAD {
                let mut batch: Batch = spare.pop().unwrap_or_default();
                at_end = !batch.fill(reader, &mut row, 0)?;
                if !at_end {
                    let at = (under_way) % threads.len();
                    threads[at].give(batch);
                    under_way += 1;
                }
                continue;
            }
            if under_way == 0 {
                return Ok(());
            }
            let batch = threads[0].take();
            threads.rotate_left(1);
            under_way -= 1;
            if batch.hand_on(&mut each)? == Flow::Enough {
                return Ok(());
            }
            spare.push(batch);
        }
    })
}

/// A thread that renders batches, first in, first out. It ends when this is dropped.
struct Renderer {
    to: SyncSender<Batch>,
    from: Receiver<Batch>,
}

impl Renderer {
    fn start<'scope>(scope: &'scope Scope<'scope, '_>, template: &'scope Template) -> Self {
        let (to, batches) = sync_channel::<Batch>(BATCHES_AHEAD);
        let (rendered, from) = sync_channel::<Batch>(BATCHES_AHEAD);
        scope.spawn(move || {
            for mut batch in batches {
                batch.render(template);
                if rendered.send(batch).is_err() {
                    // nobody waits for more
                    return;
                }
            }
        });
        Self { to, from }
    }

    fn give(&self, batch: Batch) {
        assert!(self.to.send(batch).is_ok(), "a rendering thread ended early");
    }

    fn take(&self) -> Batch {
        let batch = self.from.recv();
        assert!(batch.is_ok(), "a rendering thread ended early");
        batch.unwrap_or_default()
    }
}

impl Batch {
    /// Reads the next rows; false when there are none.
    fn fill(
        &mut self,
        reader: &mut RecipientReader,
        row: &mut Row,
        size_octets: u64,
    ) -> Result<bool, IntakeError> {
        self.text.clear();
        self.raw.clear();
        self.fields.clear();
        self.entries.clear();
        while self.entries.len() < BATCH_ROWS_MAX && self.text.len() < BATCH_OCTETS {
            match reader.next(row)? {
                None => break,
                Some(RowRef::Bad { line, reason, raw }) => {
                    let start = self.raw.len();
                    self.raw.extend_from_slice(raw);
                    let raw = (start, self.raw.len());
                    self.entries.push(Entry { line, kind: Kind::Bad { reason, raw } });
                }
                Some(RowRef::Ok { line, address, values }) => {
                    let address = push(&mut self.text, address);
                    let first = self.fields.len();
                    for value in values.iter() {
                        let value = push(&mut self.text, value);
                        self.fields.push(value);
                    }
                    let fields = (first, self.fields.len());
                    let kind = Kind::Row { address, fields, checked: Ok(size_octets) };
                    self.entries.push(Entry { line, kind });
                }
            }
        }
        Ok(!self.entries.is_empty())
    }

    fn render(&mut self, template: &Template) {
        let Self { text, fields: all, entries, .. } = self;
        let mut values = Vec::new();
        for (i, entry) in entries.iter_mut().enumerate() {
            let Kind::Row { address, fields, checked } = &mut entry.kind else { continue };
            values.clear();
            values.extend(all[fields.0..fields.1].iter().map(|&(start, end)| &text[start..end]));
            let address = &text[address.0..address.1];
            // the ordinal is only known later; it stands in the Message-ID alone
            let recipient = RecipientView { ordinal: i as u64, address, values: &values };
            *checked = template.render(&recipient).map(|r| r.content.size_octets).map_err(|e| e.to_string());
        }
    }

    fn hand_on<E>(&self, each: &mut impl FnMut(Checked<'_>) -> Result<Flow, E>) -> Result<Flow, E> {
        let mut values = Vec::new();
        for Entry { line, kind } in &self.entries {
            let flow = match kind {
                Kind::Bad { reason, raw } => {
                    let reason = reason.to_string();
                    each(Checked::Bad { line: *line, reason: &reason, raw: &self.raw[raw.0..raw.1] })?
                }
                Kind::Row { address, fields, checked } => {
                    values.clear();
                    let spans = &self.fields[fields.0..fields.1];
                    values.extend(spans.iter().map(|&(start, end)| &self.text[start..end]));
                    match checked {
                        Ok(size_octets) => each(Checked::Good {
                            address: &self.text[address.0..address.1],
                            values: &values,
                            size_octets: *size_octets,
                        })?,
                        Err(reason) => {
                            each(Checked::Bad { line: *line, reason, raw: values.join(",").as_bytes() })?
                        }
                    }
                }
            };
            if flow == Flow::Enough {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }
}

fn push(text: &mut String, part: &str) -> Span {
    let start = text.len();
    text.push_str(part);
    (start, text.len())
}
