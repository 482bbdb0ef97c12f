//! The results of a chunk's pass: written once, when the pass ends, beside the chunk.
//!
//! What was deferred or never tried is not in it: that went into the chunks that it names
//! (`children`), and a child counts only once its parent's results name it. So the rename of this
//! file is the one moment at which a pass has ended.

use super::codec::{Dec, Enc, framed, unframe};
use super::id::{ChunkDigest, ChunkName, Counts, Outcome};
use crate::clock::Micros;

const MAGIC: &[u8; 8] = b"IFRSLT01";

/// The final word on one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub outcome: Outcome,
    /// Deliveries tried, this one included.
    pub attempts: u16,
    pub possible_repeat: bool,
    pub at_us: Micros,
    /// Reply code; 0 when the MTA said nothing.
    pub code: u16,
    pub text: String,
    /// The MTA's queue id; empty when none was given.
    pub queue_id: String,
    /// For `Deferred`: when it is tried again, and since when it is being tried.
    pub due_us: Micros,
    pub deferred_since_us: Micros,
}

/// Octets of the text of an outcome that infeed itself gives.
const LOCAL_TEXT_OCTETS_MAX: usize = 1024;

impl Settled {
    /// An outcome that infeed itself gives, without a reply. A long text is cut: what names a place may
    /// hold a header's name of any length, and a record of the journal holds 64 KiB.
    pub fn local(outcome: Outcome, attempts: u16, at_us: Micros, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(LOCAL_TEXT_OCTETS_MAX));
        Self {
            outcome,
            attempts,
            possible_repeat: false,
            at_us,
            code: 0,
            text,
            queue_id: String::new(),
            due_us: 0,
            deferred_since_us: 0,
        }
    }
}

/// A chunk that holds recipients whose pass has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Child {
    pub name: ChunkName,
    pub recipients: u16,
    /// Of them, those that were deferred at least once.
    pub deferred: u16,
    /// Of them, those marked as possible repeats.
    pub marked: u16,
}

/// What a results file says before its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultsHeader {
    /// The chunks that hold the rest of the recipients.
    pub children: Vec<Child>,
    /// Final outcomes in this file.
    pub counts: Counts,
}

/// The results file, and what it counts. `settled` are the final ones, by index in the chunk.
pub fn encode<'a>(
    children: &[Child],
    settled: impl ExactSizeIterator<Item = (u16, &'a Settled)>,
) -> (Vec<u8>, Counts) {
    // most replies say less than this
    let mut body = Enc(Vec::with_capacity(settled.len() * 96));
    let mut counts = Counts::default();
    for (index, s) in settled {
        assert!(s.outcome.is_final(), "{:?} is not final", s.outcome);
        counts.add(s.outcome, 1);
        counts.possible_repeats += u64::from(s.possible_repeat);
        encode_settled(&mut body, index, s);
    }
    let mut h = Enc::default();
    h.u16(children.len() as u16);
    for c in children {
        h.u64(c.name.due_us).raw(&c.name.digest.0).u16(c.recipients).u16(c.deferred).u16(c.marked);
    }
    for outcome in Outcome::ALL {
        h.u32(counts.of(outcome) as u32);
    }
    h.u32(counts.possible_repeats as u32);
    h.u32(body.0.len() as u32).u32(crc32fast::hash(&body.0));
    let mut out = framed(MAGIC, &h.0);
    out.extend_from_slice(&body.0);
    (out, counts)
}

fn decode_header(d: &mut Dec<'_>) -> Option<(ResultsHeader, usize, u32)> {
    let n = d.u16()?;
    let mut children = Vec::with_capacity(usize::from(n));
    for _ in 0..n {
        let due_us = d.u64()?;
        let digest = ChunkDigest(d.take(20)?.try_into().ok()?);
        let name = ChunkName { due_us, digest };
        children.push(Child { name, recipients: d.u16()?, deferred: d.u16()?, marked: d.u16()? });
    }
    let mut counts = Counts::default();
    for outcome in Outcome::ALL {
        counts.add(outcome, u64::from(d.u32()?));
    }
    counts.possible_repeats = u64::from(d.u32()?);
    let len = d.u32()? as usize;
    let crc = d.u32()?;
    d.is_empty().then_some((ResultsHeader { children, counts }, len, crc))
}

/// The header alone, from a prefix of the file that holds it.
pub fn header(bytes: &[u8]) -> Result<ResultsHeader, String> {
    let (h, _) = unframe(MAGIC, bytes)?;
    decode_header(&mut Dec(h)).map(|(h, _, _)| h).ok_or_else(|| "its header ends too early".into())
}

/// All of it: the header, and each final outcome with its index in the chunk.
pub fn decode(bytes: &[u8]) -> Result<(ResultsHeader, Vec<(u16, Settled)>), String> {
    let (h, body) = unframe(MAGIC, bytes)?;
    let (header, len, crc) = decode_header(&mut Dec(h)).ok_or("its header ends too early")?;
    let body = body.get(..len).ok_or("its records end too early")?;
    if crc32fast::hash(body) != crc {
        return Err("the checksum of its records doesn't match".into());
    }
    let mut d = Dec(body);
    // by what is there, not by what the header counts: that may be any number
    let mut settled = Vec::with_capacity(body.len() / SETTLED_OCTETS_MIN);
    while !d.is_empty() {
        settled.push(decode_settled(&mut d).ok_or("a record ends too early")?);
    }
    Ok((header, settled))
}

/// One outcome, as results and journal both hold it.
pub fn encode_settled(e: &mut Enc, index: u16, s: &Settled) {
    e.u16(index).u8(s.outcome as u8).u8(u8::from(s.possible_repeat)).u16(s.attempts);
    e.u64(s.at_us).u64(s.due_us).u64(s.deferred_since_us).u16(s.code).str16(&s.queue_id).str16(&s.text);
}

/// Octets of the shortest record: one without queue id and text.
const SETTLED_OCTETS_MIN: usize = 2 + 1 + 1 + 2 + 3 * 8 + 2 + 2 + 2;

/// Reads what [`encode_settled`] wrote.
pub fn decode_settled(d: &mut Dec<'_>) -> Option<(u16, Settled)> {
    let index = d.u16()?;
    let outcome = Outcome::from_u8(d.u8()?)?;
    let possible_repeat = d.u8()? != 0;
    let attempts = d.u16()?;
    let (at_us, due_us, deferred_since_us) = (d.u64()?, d.u64()?, d.u64()?);
    let code = d.u16()?;
    let queue_id = d.str16()?.to_owned();
    let text = d.str16()?.to_owned();
    Some((
        index,
        Settled {
            outcome,
            attempts,
            possible_repeat,
            at_us,
            code,
            text,
            queue_id,
            due_us,
            deferred_since_us,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::id::JobId;

    #[test]
    fn results_are_read_as_they_were_written_and_damage_is_noticed() {
        let job: JobId = "weekly".parse().unwrap();
        let name = ChunkName { due_us: 77, digest: ChunkDigest::of(&job, 0) };
        let child = Child { name, recipients: 3, deferred: 2, marked: 1 };
        let mut accepted = Settled::local(Outcome::Accepted, 1, 5, "2.0.0 Ok");
        accepted.queue_id = "4abc".into();
        accepted.possible_repeat = true;
        let refused = Settled::local(Outcome::Refused, 2, 6, "5.1.1 no");
        let (bytes, counts) = encode(&[child], [(4, &accepted), (9, &refused)].into_iter());
        let (head, settled) = decode(&bytes).unwrap();
        assert_eq!((head.children.as_slice(), head.counts), ([child].as_slice(), counts));
        assert_eq!((head.counts.of(Outcome::Accepted), head.counts.possible_repeats), (1, 1));
        assert_eq!(counts, head.counts);
        assert_eq!(settled, [(4, accepted), (9, refused)]);
        assert_eq!(header(&bytes).unwrap(), head);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(decode(&bad).is_err(), "byte {at}");
        }
    }
}
