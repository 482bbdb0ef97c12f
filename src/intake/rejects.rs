//! The rejects file: lines of a list that can't be used, as CSV with the columns `line`, `reason`, `text`.
//!
//! It is created at the first bad line (a clean list leaves none), mode 0600 since addresses stand in it, and
//! never over a file that is there: the name gets `.1`, `.2`, … then. Errors: [`IntakeError::Rejects`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{BadRow, IntakeError};

/// Octets of a bad line that are kept.
const TEXT_OCTETS_MAX: usize = 4096;
/// Names that are tried beside an existing file.
const SUFFIX_MAX: u32 = 10_000;

/// Writes bad lines, and counts them.
pub struct Rejects {
    wanted: PathBuf,
    open: Option<(PathBuf, csv::Writer<File>)>,
    count: u64,
}

impl Rejects {
    /// Will write to `path`, or beside it when it exists; touches nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Rejects {
        Rejects { wanted: path.into(), open: None, count: 0 }
    }

    /// Adds a line: its number, why it is bad, and what stands there (cut at 4 KiB, and what isn't UTF-8
    /// replaced).
    ///
    /// # Errors
    /// [`IntakeError::Rejects`]: the file can't be created or written.
    pub fn write(&mut self, line: u64, reason: BadRow, raw: &[u8]) -> Result<(), IntakeError> {
        self.write_reason(line, &reason.to_string(), raw)
    }

    /// As [`Rejects::write`], for a reason that the reader doesn't know (a value that can't be rendered, say).
    ///
    /// # Errors
    /// As [`Rejects::write`].
    pub fn write_reason(&mut self, line: u64, reason: &str, raw: &[u8]) -> Result<(), IntakeError> {
        let written = match &mut self.open {
            Some((_, writer)) => record(writer, line, reason, raw),
            None => create(&self.wanted).and_then(|(path, file)| {
                let (_, writer) = self.open.insert((path, csv::Writer::from_writer(file)));
                writer.write_record(["line", "reason", "text"])?;
                record(writer, line, reason, raw)
            }),
        };
        written.map_err(|source| self.error(source))?;
        self.count += 1;
        Ok(())
    }

    /// Bad lines so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The file that is being written; `None` while there was no bad line.
    pub fn path(&self) -> Option<&Path> {
        self.open.as_ref().map(|(path, _)| path.as_path())
    }

    /// Writes out what is buffered; the file's name, when there is one.
    ///
    /// # Errors
    /// [`IntakeError::Rejects`].
    pub fn finish(mut self) -> Result<Option<PathBuf>, IntakeError> {
        let Some((path, writer)) = self.open.take() else {
            return Ok(None);
        };
        let flushed = writer.into_inner().map_err(|error| io::Error::from(error.error().kind()));
        match flushed {
            Ok(_) => Ok(Some(path)),
            Err(source) => Err(IntakeError::Rejects { path, source }),
        }
    }

    fn error(&self, source: io::Error) -> IntakeError {
        IntakeError::Rejects { path: self.path().unwrap_or(&self.wanted).to_owned(), source }
    }
}

fn record(writer: &mut csv::Writer<File>, line: u64, reason: &str, raw: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(&raw[..raw.len().min(TEXT_OCTETS_MAX)]);
    writer.write_record([&line.to_string(), reason, &text])?;
    Ok(())
}

/// Creates `wanted`, or the first of `wanted.1`, `wanted.2`, … that isn't there.
fn create(wanted: &Path) -> io::Result<(PathBuf, File)> {
    let mut path = wanted.to_owned();
    let mut suffix = 0;
    loop {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && suffix < SUFFIX_MAX => {
                suffix += 1;
                let mut name = wanted.as_os_str().to_owned();
                name.push(format!(".{suffix}"));
                path = PathBuf::from(name);
            }
            created => return created.map(|file| (path, file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_clean_list_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rejects.csv");
        assert_eq!(Rejects::new(&path).finish().expect("nothing to write"), None);
        assert!(!path.exists());
    }

    #[test]
    fn an_existing_file_is_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rejects.csv");
        fs::write(&path, "mine").expect("written");
        let mut rejects = Rejects::new(&path);
        rejects.write(7, BadRow::NotUtf8, b"Zo\xeb,\"x\"").expect("written");
        rejects.write_reason(9, "no such thing", b"a\nb").expect("written");
        assert_eq!(rejects.count(), 2);
        let written = rejects.finish().expect("written").expect("a file");
        assert_eq!(written, folder.path().join("rejects.csv.1"));
        assert_eq!(fs::read_to_string(&path).expect("read"), "mine");
        let text = fs::read_to_string(&written).expect("read");
        let reason = BadRow::NotUtf8.to_string();
        assert_eq!(
            text,
            format!("line,reason,text\n7,\"{reason}\",\"Zo\u{fffd},\"\"x\"\"\"\n9,no such thing,\"a\nb\"\n")
        );
        assert_eq!(fs::metadata(&written).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none/rejects.csv");
        let error = Rejects::new(&path).write(1, BadRow::NotUtf8, b"x").expect_err("no folder");
        assert!(error.to_string().contains("none/rejects.csv"), "{error}");
    }
}
