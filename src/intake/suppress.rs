//! The suppression list: who gets no mail, whatever a list of recipients says.
//!
//! A line holds one address (bare or as `<address>`), or `@` and a domain (that domain, not those under it),
//! or starts with `#`. Compared like duplicates: by `address::canonical_key`, whatever the case.
//!
//! Guarantee: it never fails open. It is read again at claim time, and a file that is gone, unreadable, empty,
//! being written, no regular file (a pipe is empty at its second reading), or holds one line that is no entry,
//! is an error and not a shorter list: a CSV given by mistake would otherwise suppress nobody. A list that
//! suppresses nobody on purpose holds a comment. Errors: [`IntakeError::Suppression`], `SuppressionEmpty`,
//! `SuppressionChanging`, `SuppressionLine`. Replace the file by a rename, so that it is never seen half written.
//!
//! Memory: 8 bytes an entry, sorted: a keyed hash of each. That a recipient who isn't listed shares a hash
//! with an entry has a probability of 5e-7 for ten million recipients and a million entries together.

use std::fs::{File, Metadata};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::address::{self, AddressFault};
use super::error::{BadRow, IntakeError};
use super::lines::{LineEnd, Lines, ROW_OCTETS_MAX, is_blank, without_cr};
use super::plain;

/// A suppression list in memory.
pub struct SuppressionList {
    path: PathBuf,
    version: Version,
    key: RandomState,
    /// Sorted, none twice.
    hashes: Vec<u64>,
    has_domains: bool,
}

/// What changes when the file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    octets: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(metadata: &Metadata) -> Version {
        Version {
            device: metadata.dev(),
            inode: metadata.ino(),
            octets: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl SuppressionList {
    /// Reads the list in `path`, a regular file.
    ///
    /// # Errors
    /// As the module says.
    pub fn load(path: impl Into<PathBuf>) -> Result<SuppressionList, IntakeError> {
        let path = path.into();
        let error = |source| IntakeError::Suppression { path: path.clone(), source };
        // Asked before opening, since opening a pipe may wait for its writer for ever.
        if !std::fs::metadata(&path).map_err(error)?.is_file() {
            return Err(error(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = File::open(&path).map_err(error)?;
        let version = Version::of(&file.metadata().map_err(error)?);
        let again = file.try_clone().map_err(error)?;
        let mut list = SuppressionList {
            path: path.clone(),
            version,
            key: RandomState::new(),
            hashes: Vec::new(),
            has_domains: false,
        };
        list.read(Lines::new(Box::new(file)))?;
        // A writer that doesn't rename may have shown a part of the list.
        if Version::of(&again.metadata().map_err(error)?) != version {
            return Err(IntakeError::SuppressionChanging { path });
        }
        Ok(list)
    }

    /// Reads the list again if the file is another one than was read; true: it was.
    ///
    /// # Errors
    /// As [`SuppressionList::load`]; the caller must then send nothing. The list in memory is as before.
    pub fn reload_if_changed(&mut self) -> Result<bool, IntakeError> {
        let metadata = std::fs::metadata(&self.path)
            .map_err(|source| IntakeError::Suppression { path: self.path.clone(), source })?;
        if Version::of(&metadata) == self.version {
            return Ok(false);
        }
        *self = SuppressionList::load(&self.path)?;
        Ok(true)
    }

    /// Whether `address`, already checked, or its domain is listed.
    pub fn contains(&self, address: &str) -> bool {
        if self.hashes.is_empty() {
            return false;
        }
        let mut key = Vec::with_capacity(address.len());
        address::canonical_key(address, &mut key);
        if self.has(&key) {
            return true;
        }
        let domain = memchr::memrchr(b'@', &key).filter(|_| self.has_domains);
        domain.is_some_and(|at| self.has(&key[at..]))
    }

    /// Entries, those that stand there twice counted once.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&mut self, mut lines: Lines) -> Result<(), IntakeError> {
        let path = self.path.clone();
        let error = |source| IntakeError::Suppression { path: path.clone(), source };
        match lines.fill(3).map_err(error)? {
            [] => return Err(IntakeError::SuppressionEmpty { path }),
            [0xef, 0xbb, 0xbf, ..] => lines.consume(3, 0),
            _ => {}
        }
        let mut key = Vec::new();
        loop {
            let (octets, octets_taken) = match lines.line_end(0).map_err(error)? {
                LineEnd::Lf(at) => (at, at + 1),
                LineEnd::Eof(0) => break,
                LineEnd::Eof(at) => (at, at),
                LineEnd::TooLong => {
                    let reason = BadRow::TooLong { max: ROW_OCTETS_MAX };
                    return Err(self.line_error(lines.line(), lines.unread(), reason));
                }
            };
            let line = without_cr(&lines.unread()[..octets]);
            if !is_blank(line) && !plain::is_comment(line) {
                key.clear();
                entry(line, &mut key).map_err(|reason| self.line_error(lines.line(), line, reason))?;
                self.has_domains |= key.starts_with(b"@");
                self.hashes.push(self.hash(&key));
            }
            lines.consume(octets_taken, 1);
        }
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.hashes.shrink_to_fit();
        Ok(())
    }

    fn has(&self, key: &[u8]) -> bool {
        self.hashes.binary_search(&self.hash(key)).is_ok()
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.key.build_hasher();
        hasher.write(key);
        hasher.finish()
    }

    fn line_error(&self, line: u64, text: &[u8], reason: BadRow) -> IntakeError {
        let text = String::from_utf8_lossy(&text[..text.len().min(200)]);
        let text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        IntakeError::SuppressionLine { path: self.path.clone(), line, text, reason }
    }
}

/// Appends the key of the entry on `line`: of an address, or `@` and a domain.
fn entry(line: &[u8], key: &mut Vec<u8>) -> Result<(), BadRow> {
    let text = std::str::from_utf8(line).map_err(|_| BadRow::NotUtf8)?;
    let text = plain::bare(text)?;
    if let Some(domain) = text.strip_prefix('@') {
        address::check_domain_only(domain)?;
        key.push(b'@');
        address::canonical_domain(domain, key);
        return Ok(());
    }
    match address::check(text) {
        // nobody of that address can be on a list; it is no reason to refuse this one
        Ok(()) | Err(AddressFault::EncodedWord) => {}
        Err(fault) => return Err(fault.into()),
    }
    address::canonical_key(text, key);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn list(text: &str) -> (tempfile::TempDir, Result<SuppressionList, IntakeError>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("suppress.txt");
        fs::write(&path, text).expect("written");
        let list = SuppressionList::load(path);
        (folder, list)
    }

    #[test]
    fn addresses_and_domains_are_suppressed_whatever_their_case() {
        let (_folder, list) = list(
            "\u{feff}# gone\r\nBob@Example.org\r\n\n  <zoë@bücher.example>\n@Gone.TEST\nbob@example.org",
        );
        let list = list.expect("a list");
        assert_eq!(list.len(), 3);
        for suppressed in [
            "bob@example.org",
            "BOB@EXAMPLE.ORG",
            "zoë@xn--bcher-kva.example",
            "a@gone.test",
            "\"bob\"@example.org",
        ] {
            assert!(list.contains(suppressed), "{suppressed}");
        }
        for free in ["rob@example.org", "bob@example.com", "a@sub.gone.test", "gone@test"] {
            assert!(!list.contains(free), "{free}");
        }
    }

    #[test]
    fn a_line_that_is_no_entry_is_an_error_that_names_it() {
        for (text, line) in [
            ("email,date\nbob@example.org,2026-01-01\n", "line 1"),
            ("bob@example.org\nbob@example.org # asked\n", "line 2"),
            ("@\n", "line 1"),
            ("#\n\nexample.org\n", "line 3"),
            ("Bob <bob@example.org>\n", "line 1"),
        ] {
            let (_folder, list) = list(text);
            let error = list.err().expect(text);
            assert!(error.to_string().contains(line), "{error}");
        }
    }

    #[test]
    fn only_a_comment_says_that_nobody_is_suppressed() {
        let (_folder, list) = self::list("# nobody yet\n");
        assert!(list.expect("a list").is_empty());
        let (_folder, list) = self::list("");
        assert!(matches!(list, Err(IntakeError::SuppressionEmpty { .. })));
        assert!(matches!(SuppressionList::load("/dev/null"), Err(IntakeError::Suppression { .. })));
    }

    #[test]
    fn a_file_that_is_gone_is_an_error_and_not_an_empty_list() {
        let (folder, list) = list("bob@example.org\n");
        let mut list = list.expect("a list");
        assert!(!list.reload_if_changed().expect("still there"));
        fs::remove_file(list.path()).expect("removed");
        assert!(matches!(list.reload_if_changed(), Err(IntakeError::Suppression { .. })));
        assert!(list.contains("bob@example.org"));
        assert!(matches!(SuppressionList::load(folder.path()), Err(IntakeError::Suppression { .. })));
    }

    #[test]
    fn a_replaced_file_is_read_again() {
        let (folder, list) = list("bob@example.org\n");
        let mut list = list.expect("a list");
        let new = folder.path().join("new");
        fs::write(&new, "rob@example.org\n").expect("written");
        fs::rename(&new, list.path()).expect("renamed");
        assert!(list.reload_if_changed().expect("read again"));
        assert!(list.contains("rob@example.org") && !list.contains("bob@example.org"));
        assert!(!list.reload_if_changed().expect("the same"));
    }
}
