//! The end of a chunk's pass: its results on disk, and what is left in chunks of its own.
//!
//! Order: the children under temporary names, synced; then the results, which name them, synced and
//! renamed (the one moment at which the pass has ended); then the children get their names. Cut short
//! before that moment, nothing has happened and the temporaries are swept; after it, [`list_chunks`]
//! completes what is left to do.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use super::chunk::{Chunk, ChunkHeader, ChunkWriter, RecipientState};
use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::fs;
use super::id::{ChunkName, Counts, Outcome};
use super::journal::OpenChunk;
use super::layout::JobDir;
use super::results::{self, Child, Settled};
use crate::clock::{self, Micros, SECOND_US};

/// What a pass came to.
#[derive(Debug)]
pub struct PassEnd {
    pub children: Vec<Child>,
    /// Final outcomes of this pass.
    pub counts: Counts,
}

/// Ends a pass. What is settled for good goes into the results, what is deferred into retry chunks by
/// due time, what was never tried into a remainder that is due where its chunk was.
pub(super) fn end_pass(
    spool: &DirSpool,
    dir: &JobDir,
    open: &OpenChunk,
    deaths: u8,
    solo_died: Option<u16>,
) -> Result<PassEnd> {
    let fs = spool.fs.as_ref();
    let now = clock::now_us();
    let xx = open.name.xx();
    spool.ensure_result_dirs(dir, xx)?;
    if let Some(ended) = complete(spool, dir, open.name)? {
        return Ok(ended);
    }
    let mut finals: Vec<(u16, Cow<'_, Settled>)> = Vec::with_capacity(open.settled.len());
    let mut later: Vec<(Micros, u16)> = Vec::new();
    let mut untried: Vec<u16> = Vec::new();
    for (i, settled) in open.settled.iter().enumerate() {
        let index = i as u16;
        match (settled, open.chunk.readable(i)) {
            (Some(s), _) if s.outcome.is_final() => {
                let marked = open.marked[i] && !s.possible_repeat;
                let s = match marked {
                    true => Cow::Owned(Settled { possible_repeat: true, ..s.clone() }),
                    false => Cow::Borrowed(s),
                };
                finals.push((index, s));
            }
            (_, Err(reason)) => {
                finals.push((index, Cow::Owned(Settled::local(Outcome::Quarantined, 0, now, reason))));
            }
            (Some(s), Ok(())) => later.push((s.due_us, index)),
            (None, Ok(())) => untried.push(index),
        }
    }
    later.sort_unstable();
    let mut groups: Vec<(Micros, Vec<u16>)> = Vec::new();
    if !untried.is_empty() {
        groups.push((open.name.due_us + 1, untried));
    }
    // whatever the clock says, this chunk was due
    for group in by_due(&later, clock::steady_us().max(open.name.due_us)) {
        groups.push(group);
    }
    let mut children = Vec::with_capacity(groups.len());
    let mut taken = HashSet::new();
    for (due_us, indices) in groups {
        let mut name = ChunkName { due_us, digest: open.name.digest };
        while taken.contains(&name) || fs.exists(&dir.chunk(name)).at("look at", &dir.chunk(name))? {
            name.due_us += 1;
        }
        taken.insert(name);
        let (child, bytes) = child_chunk(open, name, &indices, deaths, solo_died);
        let tmp = dir.chunk_tmp(name);
        match fs.remove_file(&tmp) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).at("remove", &tmp),
            _ => {}
        }
        fs::write_new(fs, &tmp, &bytes).at("write", &tmp)?;
        children.push(child);
    }
    if !children.is_empty() {
        fs.sync_dir(&dir.chunks_of(xx)).at("sync", &dir.chunks_of(xx))?;
    }
    let (bytes, counts) = results::encode(&children, finals.iter().map(|(i, s)| (*i, s.as_ref())));
    let result = dir.result(open.name);
    // its folder is synced by this, too: the pass has ended
    fs::replace(fs, &result, &bytes).at("write", &result)?;
    name_children(spool, dir, xx, &children)?;
    Ok(PassEnd { children, counts })
}

/// What is left to do once the results are there: also when an error or a death came between. `None`:
/// they are not there.
///
/// Whoever gave them their name may have died before it was on disk. Or the sync failed: then the name is
/// lost, and the next sync reports success all the same. So they get it anew.
///
/// # Errors
/// [`SpoolError::Damaged`]: they can't be read, and their recipients count as quarantined.
pub(super) fn complete(spool: &DirSpool, dir: &JobDir, name: ChunkName) -> Result<Option<PassEnd>> {
    let fs = spool.fs.as_ref();
    let path = dir.result(name);
    let bytes = match fs.read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.raw_os_error() == Some(nix::libc::EIO) => {
            return Err(SpoolError::damaged(&path, format!("it can't be read: {e}")));
        }
        other => other.at("read", &path)?,
    };
    let header = results::header(&bytes).map_err(|reason| SpoolError::damaged(&path, reason))?;
    spool.ensure_result_dirs(dir, name.xx())?;
    fs::replace(fs, &path, &bytes).at("write", &path)?;
    for child in &header.children {
        // the same of their names
        match fs.rename(&dir.chunk(child.name), &dir.chunk_tmp(child.name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).at("rename", &dir.chunk(child.name));
            }
            _ => {}
        }
    }
    name_children(spool, dir, name.xx(), &header.children)?;
    Ok(Some(PassEnd { children: header.children, counts: header.counts }))
}

/// Once the results that name them are durable.
fn name_children(spool: &DirSpool, dir: &JobDir, xx: u8, children: &[Child]) -> Result<()> {
    let fs = spool.fs.as_ref();
    for child in children {
        let tmp = dir.chunk_tmp(child.name);
        match fs.rename(&tmp, &dir.chunk(child.name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).at("rename", &tmp),
            _ => {}
        }
    }
    if !children.is_empty() {
        let folder = dir.chunks_of(xx);
        fs.sync_dir(&folder).at("sync", &folder)?;
    }
    Ok(())
}

/// Groups due times so that nobody is tried early, and nobody later than a tenth of the wait.
fn by_due(later: &[(Micros, u16)], now: Micros) -> Vec<(Micros, Vec<u16>)> {
    let mut groups: Vec<(Micros, Micros, Vec<u16>)> = Vec::new();
    for &(due, index) in later {
        match groups.last_mut() {
            Some((first, last, members))
                if due - *first <= (first.saturating_sub(now) / 10).max(SECOND_US) =>
            {
                *last = due;
                members.push(index);
            }
            _ => groups.push((due, due, vec![index])),
        }
    }
    groups.into_iter().map(|(_, last, members)| (last, members)).collect()
}

fn child_chunk(
    open: &OpenChunk,
    name: ChunkName,
    indices: &[u16],
    deaths: u8,
    solo_died: Option<u16>,
) -> (Child, Vec<u8>) {
    let mut w = ChunkWriter::default();
    let mut child = Child { name, recipients: indices.len() as u16, deferred: 0, marked: 0 };
    for &index in indices {
        let i = usize::from(index);
        let Ok(r) = open.chunk.recipient(i) else { continue };
        let mut state = r.state;
        state.possible_repeat = open.marked[i];
        if let Some(s) = &open.settled[i] {
            state = RecipientState {
                attempts: s.attempts,
                possible_repeat: open.marked[i] || s.possible_repeat,
                solo_deaths: 0,
                deferred_since_us: s.deferred_since_us,
                due_us: s.due_us,
                last_us: s.at_us,
                code: s.code,
                text: &s.text,
            };
        }
        if solo_died == Some(index) {
            state.solo_deaths = state.solo_deaths.saturating_add(1).min(100);
        }
        child.deferred += u16::from(state.attempts > 0);
        child.marked += u16::from(state.possible_repeat);
        let values: Vec<&str> = r.values().collect();
        w.push(r.ordinal, r.address, values.into_iter(), &state);
    }
    let header = ChunkHeader {
        job: open.job.clone(),
        number: open.chunk.header.number,
        parent: Some(open.name),
        deaths,
    };
    (child, w.finish(&header))
}

/// What a listing of one `xx` of a job finds.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Chunks whose pass has not ended.
    pub live: Vec<ChunkName>,
    /// Chunks whose pass has ended, be the chunk itself there or in quarantine.
    pub results: HashSet<ChunkName>,
}

/// The chunks of one folder, and their results. Completes or sweeps what a pass that was cut short has
/// left; only for the owner of `xx`.
pub(super) fn list_chunks(spool: &DirSpool, dir: &JobDir, xx: u8) -> Result<Listed> {
    let fs = spool.fs.as_ref();
    let results: HashSet<ChunkName> =
        spool.names(&dir.results_of(xx))?.iter().filter_map(|n| ChunkName::parse(n)).collect();
    let mut live = Vec::new();
    let mut named = false;
    for name in spool.names(&dir.chunks_of(xx))? {
        if let Some(chunk) = ChunkName::parse(&name) {
            if !results.contains(&chunk) {
                live.push(chunk);
            }
        } else if let Some(chunk) = name.strip_suffix(".tmp").and_then(ChunkName::parse) {
            let tmp = dir.chunk_tmp(chunk);
            if is_named(spool, dir, chunk, &results)? {
                fs.rename(&tmp, &dir.chunk(chunk)).at("rename", &tmp)?;
                named = true;
                if !results.contains(&chunk) {
                    live.push(chunk);
                }
            } else {
                fs.remove_file(&tmp).at("remove", &tmp)?;
            }
        }
    }
    if named {
        let folder = dir.chunks_of(xx);
        fs.sync_dir(&folder).at("sync", &folder)?;
    }
    Ok(Listed { live, results })
}

/// Whether the results of its parent name this child.
fn is_named(spool: &DirSpool, dir: &JobDir, child: ChunkName, results: &HashSet<ChunkName>) -> Result<bool> {
    // all chunks of one digest are one family: its parent is among them
    for &family in results.iter().filter(|n| n.digest == child.digest) {
        let path = dir.result(family);
        let bytes = spool.fs.read(&path).at("read", &path)?;
        if let Ok(header) = results::header(&bytes)
            && header.children.iter().any(|c| c.name == child)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads a chunk, for a report, wherever it is: until somebody drains, a death or a power cut may have left
/// it under its temporary name.
pub(super) fn find_chunk(
    spool: &DirSpool,
    dir: &JobDir,
    name: ChunkName,
) -> Result<std::result::Result<Chunk, String>> {
    match read_chunk(spool, dir, name) {
        Err(e) if e.is_not_found() => match read_chunk_at(spool, &dir.chunk_tmp(name)) {
            // neither is there: what is missing is the chunk
            Err(tmp) if tmp.is_not_found() => Err(e),
            read => read,
        },
        other => other,
    }
}

/// Reads a chunk; the reason when it can't be read as one.
pub(super) fn read_chunk(
    spool: &DirSpool,
    dir: &JobDir,
    name: ChunkName,
) -> Result<std::result::Result<Chunk, String>> {
    read_chunk_at(spool, &dir.chunk(name))
}

fn read_chunk_at(spool: &DirSpool, path: &Path) -> Result<std::result::Result<Chunk, String>> {
    match spool.fs.read(path) {
        Ok(bytes) => Ok(Chunk::parse(bytes)),
        // a bad sector is damage; too many open files, no memory or no permission are not
        Err(e) if e.raw_os_error() == Some(nix::libc::EIO) => Ok(Err(format!("it can't be read: {e}"))),
        Err(e) => Err(e).at("read", path),
    }
}
