//! What makes a job's messages: one template, or, of a pack, one for each member.
//!
//! A pack goes out like personalised mail, one recipient a transaction. A member's message is compiled
//! when it is first asked for; kept are those of members that have more recipients, at most
//! [`COMPILED_MAX`]. Messages are in memory while a chunk of the pack is in hand, no longer.
//!
//! A 5xx to MAIL or DATA is a fault of the job, and pauses it. Of a pack it is the refusal of that
//! recipient, held like any other in a streak, until it can't be one member's fault any more: when
//! [`SENDERS_FAULTED_MAX`] different senders, or all senders where the pack has fewer, had one with no
//! acceptance between, the pack is paused. So one member's bad sender holds up nobody else's mail, and
//! a wrong setting of the MTA doesn't refuse the world.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::infeed::Dsn;
use crate::message::{CompileOptions, RecipientView, Rendered, Template, Xverp, xtext};
use crate::spool::pack::member_id;
use crate::spool::{Chunk, JobId, JobMeta, PackContent};

/// Compiled messages that a pack keeps, at most.
const COMPILED_MAX: usize = 8;
/// Senders in a row that the MTA won't have, after which it is not the senders.
const SENDERS_FAULTED_MAX: usize = 3;

/// How the recipients of a job in hand get their messages.
pub(super) enum Rendering {
    Job(Box<Template>),
    Pack(PackRendering),
}

/// The members of a pack in hand.
pub(super) struct PackRendering {
    pack: JobId,
    meta: Arc<JobMeta>,
    content: PackContent,
    /// Distinct senders of its members.
    senders: usize,
    compiled: Mutex<HashMap<u32, Arc<Template>>>,
    /// Senders that the MTA refused since it last took a message.
    faulted: Mutex<HashSet<String>>,
}

impl Rendering {
    pub fn pack(pack: JobId, meta: Arc<JobMeta>, content: PackContent) -> Self {
        let senders: HashSet<&str> = content.members.iter().map(|(_, m)| m.sender.as_str()).collect();
        let senders = senders.len();
        let (compiled, faulted) = Default::default();
        Self::Pack(PackRendering { pack, meta, content, senders, compiled, faulted })
    }

    pub fn is_pack(&self) -> bool {
        matches!(self, Self::Pack(_))
    }

    /// The content is the same for all recipients.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Job(template) if template.is_shared())
    }

    pub fn sender_is_shared(&self) -> bool {
        matches!(self, Self::Job(template) if template.sender_is_shared())
    }

    /// What an MTA that offers XVERP needs to make the senders of a VERP job itself. Not of a pack: its
    /// members have little in common.
    pub fn xverp(&self) -> Option<&Xverp> {
        match self {
            Self::Job(template) => template.xverp(),
            Self::Pack(_) => None,
        }
    }

    /// Sender and content for one recipient; the reason when they can't be made.
    pub fn render(&self, recipient: &RecipientView<'_>) -> Result<Rendered, String> {
        match self {
            Self::Job(template) => template.render(recipient).map_err(|e| e.to_string()),
            Self::Pack(pack) => pack.render(recipient),
        }
    }

    /// The DSN parameters of a transaction: of a pack, ENVID is the member's id.
    pub fn dsn(&self, dsn: Option<Dsn>, chunk: &Chunk, indices: &[u16]) -> Option<Dsn> {
        let Self::Pack(pack) = self else { return dsn };
        let first = indices.first().and_then(|&i| chunk.recipient(usize::from(i)).ok());
        let values: Vec<&str> = first.iter().flat_map(|r| r.values()).collect();
        let member = member_number(&values).ok().map(|number| member_id(&pack.pack, number));
        dsn.map(|dsn| Dsn { envid: member.map(|id| xtext(id.as_str())).or(dsn.envid), ..dsn })
    }

    /// A message was accepted.
    pub fn on_accepted(&self) {
        if let Self::Pack(pack) = self {
            lock(&pack.faulted).clear();
        }
    }

    /// Whether a 5xx to MAIL or DATA with this sender speaks against the whole job.
    pub fn fault_is_the_jobs(&self, sender: &str) -> bool {
        let Self::Pack(pack) = self else { return true };
        let mut faulted = lock(&pack.faulted);
        faulted.insert(sender.to_owned());
        faulted.len() >= pack.senders.min(SENDERS_FAULTED_MAX)
    }
}

impl PackRendering {
    fn render(&self, recipient: &RecipientView<'_>) -> Result<Rendered, String> {
        let number = member_number(recipient.values)?;
        let first = self.content.members.get(number).map_or(0, |m| m.first_ordinal);
        let view =
            RecipientView { ordinal: recipient.ordinal.saturating_sub(first), values: &[], ..*recipient };
        let kept = lock(&self.compiled).get(&number).cloned();
        let template = match kept {
            Some(template) => template,
            None => self.compile(number)?,
        };
        template.render(&view).map_err(|e| e.to_string())
    }

    fn compile(&self, number: u32) -> Result<Arc<Template>, String> {
        let (member, raw) = self.content.message(number)?;
        let id = member_id(&self.pack, number);
        let options = CompileOptions {
            merge: false,
            columns: &[],
            job: id.as_str(),
            submitted_us: self.meta.submitted_us,
            message_id_domain: member.sender.rsplit_once('@').map_or("localhost", |(_, d)| d),
            verp: self.meta.verp.as_deref(),
            sender: Some(&member.sender),
            allow_placeholders: member.literal,
        };
        let template =
            Template::compile(raw, &options).map_err(|e| format!("its message can't be compiled: {e}"))?;
        let template = Arc::new(template);
        if member.recipients > 1 {
            let mut compiled = lock(&self.compiled);
            if compiled.len() >= COMPILED_MAX {
                compiled.clear();
            }
            compiled.insert(number, template.clone());
        }
        Ok(template)
    }
}

fn member_number(values: &[&str]) -> Result<u32, String> {
    let number = values.first().ok_or("its record names no member of the pack")?;
    number.parse().map_err(|_| format!("its record names the member {number:?}, which is no number"))
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}
