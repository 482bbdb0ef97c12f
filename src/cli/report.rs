//! `job report`: one line per recipient, streamed, as CSV or NDJSON.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::exit::{CANT_CREATE, ExitCode};
use super::session::Session;
use crate::clock;
use crate::spool::{DirSpool, JobId, ReportLine, SpoolError};

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
        return match write_report(spool, id, format, out) {
            Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(Failure::Output(error)) => Err(error).context("standard output can't be written"),
            Err(Failure::Spool(error)) => Err(error.into()),
            Ok(()) => Ok(()),
        };
    };
    let (part, file) = create_beside(path)
        .with_context(|| format!("{}: can't be created", path.display()))
        .exit_code(CANT_CREATE)?;
    let written = match write_report(spool, id, format, BufWriter::with_capacity(128 * 1024, &file)) {
        Ok(()) => file.sync_all().and_then(|()| std::fs::rename(&part, path)),
        Err(Failure::Output(error)) => Err(error),
        Err(Failure::Spool(error)) => {
            remove(&part);
            return Err(error.into());
        }
    };
    if written.is_err() {
        remove(&part);
    }
    written.with_context(|| format!("{}: can't be written; is there room?", path.display()))
}

fn remove(part: &Path) {
    if let Err(error) = std::fs::remove_file(part) {
        tracing::warn!("{} stays: {error}", part.display());
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

fn write_report(spool: &DirSpool, id: &JobId, format: ReportFormat, out: impl Write) -> Result<(), Failure> {
    let mut lines = Lines::new(format, out).map_err(Failure::Output)?;
    let mut failed = None;
    let streamed = spool.report(id, &mut |line| {
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

enum Lines<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Ndjson(W),
}

impl<W: Write> Lines<W> {
    fn new(format: ReportFormat, out: W) -> io::Result<Self> {
        match format {
            ReportFormat::Csv => {
                let mut csv = csv::Writer::from_writer(out);
                csv.write_record(COLUMNS)?;
                Ok(Self::Csv(Box::new(csv)))
            }
            ReportFormat::Ndjson => Ok(Self::Ndjson(out)),
        }
    }

    fn line(&mut self, line: &ReportLine) -> io::Result<()> {
        let code = (line.code > 0).then_some(line.code);
        let time = (line.at_us > 0).then(|| clock::rfc3339(line.at_us));
        match self {
            Self::Csv(csv) => Ok(csv.write_record([
                line.address.as_str(),
                line.outcome.as_str(),
                &code.map_or_else(String::new, |code| code.to_string()),
                &line.text,
                &line.queue_id,
                &line.attempts.to_string(),
                &time.unwrap_or_default(),
                if line.possible_repeat { "true" } else { "false" },
            ])?),
            Self::Ndjson(out) => {
                let object = serde_json::json!({
                    "address": line.address,
                    "outcome": line.outcome.as_str(),
                    "reply_code": code,
                    "reply_text": line.text,
                    "queue_id": line.queue_id,
                    "attempts": line.attempts,
                    "time": time,
                    "possible_repeat": line.possible_repeat,
                });
                writeln!(out, "{object}")
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Csv(mut csv) => csv.flush(),
            Self::Ndjson(mut out) => out.flush(),
        }
    }
}
