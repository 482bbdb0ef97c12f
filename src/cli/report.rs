//! `job report`: one line per recipient, streamed, as CSV or NDJSON; or the queue ids of what was accepted.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::exit::{CANT_CREATE, ExitCode, coded};
use super::session::Session;
use crate::clock;
use crate::spool::{DirSpool, JobId, Outcome, ReportLine, SpoolError};

/// The columns of the CSV, and the keys of the NDJSON.
pub const COLUMNS: [&str; 8] =
    ["address", "outcome", "reply_code", "reply_text", "queue_id", "attempts", "time", "possible_repeat"];

/// How a report is written.
#[derive(Debug, Clone, Args)]
pub struct ReportOptions {
    /// How the lines are written [default: csv, or ndjson with --json]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<ReportFormat>,
    /// A file instead of standard output; it appears when it is whole
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite the file of --output
    #[arg(long, requires = "output")]
    pub force: bool,
    /// Only these recipients
    #[arg(long, value_enum, value_name = "WHICH")]
    pub only: Option<Only>,
    /// The MTA's queue ids of accepted recipients instead, one a line, each once, for
    /// `| postsuper -d -` (as root)
    #[arg(long, conflicts_with = "format")]
    pub queue_ids: bool,
}

/// A part of a job's recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// Those that may have been sent twice
    PossibleRepeat,
}

impl ReportOptions {
    fn wants(&self, line: &ReportLine) -> bool {
        let has_queue_id = line.outcome == Outcome::Accepted && !line.queue_id.is_empty();
        (!self.queue_ids || has_queue_id)
            && match self.only {
                Some(Only::PossibleRepeat) => line.possible_repeat,
                None => true,
            }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A header line, then comma-separated fields
    Csv,
    /// One JSON object a line
    Ndjson,
}

/// Streams the report. A reader that has gone (`| head`) ends it quietly.
///
/// # Errors
/// Those of the spool; a file that can't be made (73) or written (74).
pub fn run(spool: &DirSpool, id: &JobId, options: &ReportOptions, session: &Session) -> anyhow::Result<()> {
    let format =
        options.format.unwrap_or(if session.json { ReportFormat::Ndjson } else { ReportFormat::Csv });
    let Some(path) = &options.output else {
        let out = BufWriter::with_capacity(128 * 1024, io::stdout().lock());
        return match write_report(spool, id, options, format, out) {
            Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(Failure::Output(error)) => Err(error).context("standard output can't be written"),
            Err(Failure::Spool(error)) => Err(error.into()),
            Ok(()) => Ok(()),
        };
    };
    if !options.force && path.symlink_metadata().is_ok() {
        return Err(coded(CANT_CREATE, already_there(path)));
    }
    let (part, file) = create_beside(path)
        .with_context(|| format!("{}: can't be created", path.display()))
        .exit_code(CANT_CREATE)?;
    let out = BufWriter::with_capacity(128 * 1024, &file);
    let written = match write_report(spool, id, options, format, out) {
        Ok(()) => file.sync_all().and_then(|()| put_in_place(&part, path, options.force)),
        Err(Failure::Output(error)) => Err(error),
        Err(Failure::Spool(error)) => {
            remove(&part);
            return Err(error.into());
        }
    };
    if written.is_err() {
        remove(&part);
    }
    if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
        return Err(coded(CANT_CREATE, already_there(path)));
    }
    written.with_context(|| format!("{}: can't be written; is there room?", path.display()))
}

fn remove(part: &Path) {
    if let Err(error) = std::fs::remove_file(part) {
        tracing::warn!("{} stays: {error}", part.display());
    }
}

fn already_there(path: &Path) -> String {
    format!("{}: is there already, and was left as it is; --force overwrites it", path.display())
}

/// Nothing that came there meanwhile is overwritten either.
fn put_in_place(part: &Path, path: &Path, force: bool) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if force {
        return std::fs::rename(part, path);
    }
    match renameat_with(CWD, part, CWD, path, RenameFlags::NOREPLACE) {
        // a file system that can't: it wasn't there a moment ago
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => std::fs::rename(part, path),
        other => other.map_err(Into::into),
    }
}

/// Addresses stand in it: nobody else may read it.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&name)?;
    Ok((name.into(), file))
}

enum Failure {
    Output(io::Error),
    Spool(SpoolError),
}

fn write_report(
    spool: &DirSpool,
    id: &JobId,
    options: &ReportOptions,
    format: ReportFormat,
    out: impl Write,
) -> Result<(), Failure> {
    let mut lines = if options.queue_ids { Lines::queue_ids(out) } else { Lines::new(format, out) };
    let mut failed = None;
    let streamed = spool.report(id, &mut |line| {
        if !options.wants(&line) {
            return Ok(());
        }
        lines.line(&line).map_err(|error| {
            let kind = error.kind();
            failed = Some(error);
            SpoolError::Io { what: "write", path: "the report".into(), source: kind.into() }
        })
    });
    match (failed, streamed) {
        (Some(error), _) => Err(Failure::Output(error)),
        (None, Err(error)) => Err(Failure::Spool(error)),
        (None, Ok(())) => lines.finish().map_err(Failure::Output),
    }
}

/// What a report is written as. The header comes with the first line, or at the end: a job that can't be
/// read leaves no empty report behind.
enum Lines<W: Write> {
    Csv { csv: Box<csv::Writer<W>>, has_header: bool },
    Ndjson(W),
    QueueIds { out: W, seen: Seen },
}

impl<W: Write> Lines<W> {
    fn new(format: ReportFormat, out: W) -> Self {
        match format {
            ReportFormat::Csv => {
                Self::Csv { csv: Box::new(csv::Writer::from_writer(out)), has_header: false }
            }
            ReportFormat::Ndjson => Self::Ndjson(out),
        }
    }

    fn queue_ids(out: W) -> Self {
        Self::QueueIds { out, seen: Seen::default() }
    }

    fn line(&mut self, line: &ReportLine) -> io::Result<()> {
        let code = (line.code > 0).then_some(line.code);
        let time = || (line.at_us > 0).then(|| clock::rfc3339(line.at_us));
        match self {
            Self::Csv { csv, has_header } => {
                header(csv, has_header)?;
                csv.write_record([
                    line.address.as_str(),
                    line.outcome.as_str(),
                    &code.map_or_else(String::new, |code| code.to_string()),
                    &line.text,
                    &line.queue_id,
                    &line.attempts.to_string(),
                    &time().unwrap_or_default(),
                    if line.possible_repeat { "true" } else { "false" },
                ])
                .map_err(io_error)
            }
            Self::Ndjson(out) => {
                let object = serde_json::json!({
                    "address": line.address,
                    "outcome": line.outcome.as_str(),
                    "reply_code": code,
                    "reply_text": line.text,
                    "queue_id": line.queue_id,
                    "attempts": line.attempts,
                    "time": time(),
                    "possible_repeat": line.possible_repeat,
                });
                writeln!(out, "{object}")
            }
            Self::QueueIds { out, seen } => {
                if seen.is_new(&line.queue_id) {
                    writeln!(out, "{}", line.queue_id)?;
                }
                Ok(())
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Csv { mut csv, mut has_header } => {
                header(&mut csv, &mut has_header)?;
                csv.flush()
            }
            Self::Ndjson(mut out) | Self::QueueIds { mut out, .. } => out.flush(),
        }
    }
}

fn header(csv: &mut csv::Writer<impl Write>, has_header: &mut bool) -> io::Result<()> {
    if !*has_header {
        csv.write_record(COLUMNS).map_err(io_error)?;
        *has_header = true;
    }
    Ok(())
}

/// Queue ids seen so far, as a keyed hash of 128 bits each: less than the ids themselves, and too long
/// for two of them to be taken for one.
#[derive(Default)]
struct Seen {
    keys: (RandomState, RandomState),
    seen: HashSet<(u64, u64)>,
}

impl Seen {
    fn is_new(&mut self, id: &str) -> bool {
        self.seen.insert((self.keys.0.hash_one(id), self.keys.1.hash_one(id)))
    }
}

/// With its own kind, which `From` would hide: a closed pipe must be known as one.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
