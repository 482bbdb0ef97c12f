//! The token that every call needs: 256 random bits, in a file for its owner alone.
//!
//! The file is made once, under its name only when all of it is on disk, and never over another. One that is a
//! link, that others may read, that belongs to somebody else or that is too short ends the start: it may be in
//! other hands, or guessed. Errors: [`AdminError`].

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::rand::{GetRandomFlags, getrandom};
use subtle::ConstantTimeEq;

use super::error::AdminError;

/// Octets of randomness in a token that is made here.
const TOKEN_BYTES: usize = 32;
/// So many characters hold them at least, as base64url.
pub const TOKEN_CHARS_MIN: usize = 43;
/// The same in hexadecimal digits.
const TOKEN_HEX_MIN: usize = 64;
/// A file of more is no token's.
const FILE_BYTES_MAX: u64 = 4096;
/// For group and others.
const OTHERS: u32 = 0o077;

/// The token; shown nowhere.
pub struct Token(Vec<u8>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the file, and makes it where there is none.
    ///
    /// # Errors
    /// [`AdminError::TokenFile`], [`AdminError::TokenIo`].
    pub fn load(path: &Path) -> Result<Self, AdminError> {
        match read(path)? {
            Some(token) => return Ok(token),
            None => make(path)?,
        }
        let gone =
            || fault(path, "it went away at once".to_owned(), "see who else is at work in that folder");
        read(path)?.ok_or_else(gone)
    }

    /// Whether this is it; takes as long for a near miss as for any other of its length.
    pub fn is(&self, given: &[u8]) -> bool {
        self.0.ct_eq(given).into()
    }
}

fn fault(path: &Path, fault: String, remedy: &'static str) -> AdminError {
    AdminError::TokenFile { path: path.to_path_buf(), fault, remedy }
}

fn failed(path: &Path, what: &'static str) -> impl Fn(io::Error) -> AdminError {
    move |source| AdminError::TokenIo { path: path.to_path_buf(), what, source }
}

/// What was opened is what is looked at: whatever is put in its place meanwhile isn't read.
fn read(path: &Path) -> Result<Option<Token>, AdminError> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            return Ok(None);
        }
        Err(e) if e.raw_os_error() == Some(nix::libc::ELOOP) => {
            let remedy = "name the file itself with admin.token_file, or remove the link";
            return Err(fault(path, "it is a symbolic link".to_owned(), remedy));
        }
        Err(e) => return Err(failed(path, "opened")(e)),
    };
    let there = file.metadata().map_err(failed(path, "looked at"))?;
    check(path, &there)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed(path, "read"))?;
    let token = text.trim_ascii();
    let needed = if token.iter().all(u8::is_ascii_hexdigit) { TOKEN_HEX_MIN } else { TOKEN_CHARS_MIN };
    let remedy = "remove it, and the next start makes one (or: openssl rand -hex 32)";
    if token.len() < needed {
        let said = format!("{} characters are too few for a token, which has {needed} at least", token.len());
        return Err(fault(path, said, remedy));
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(fault(
            path,
            "there is more in it than one line of letters and digits".to_owned(),
            remedy,
        ));
    }
    Ok(Some(Token(token.to_vec())))
}

fn check(path: &Path, there: &fs::Metadata) -> Result<(), AdminError> {
    if !there.is_file() {
        return Err(fault(path, "it is no file".to_owned(), "name another with admin.token_file"));
    }
    // root serves in the spool of another user, to whom the token belongs then
    let folder = fs::metadata(folder_of(path)).map_err(failed(path, "looked at"))?;
    let us = rustix::process::geteuid().as_raw();
    let is_ours = there.uid() == us || us == 0 && there.uid() == folder.uid();
    if !is_ours {
        let said = format!("it belongs to user {}, and this is user {us}", there.uid());
        return Err(fault(path, said, "see who has put it there; remove it, and the next start makes one"));
    }
    if there.mode() & OTHERS != 0 {
        let said = format!("others may read or write it (mode {:o})", there.mode() & 0o7777);
        return Err(fault(
            path,
            said,
            "remove it, and the next start makes one; who has read it has the token",
        ));
    }
    if there.nlink() > 1 {
        let said = format!("it is one file with another that lies elsewhere ({} links)", there.nlink());
        return Err(fault(path, said, "remove it, and the next start makes one"));
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the file, all of it at once; one that came meanwhile stays.
fn make(path: &Path) -> Result<(), AdminError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.{:08x}.tmp", std::process::id(), fastrand::u32(..)));
    let tmp = path.with_file_name(name);
    let made = write(&tmp).and_then(|()| match fs::hard_link(&tmp, path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let removed = fs::remove_file(&tmp);
    made.map_err(failed(path, "made"))?;
    removed.map_err(failed(&tmp, "removed"))?;
    File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed(path, "made"))
}

fn write(tmp: &Path) -> io::Result<()> {
    let mut bytes = [0; TOKEN_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let flags = nix::libc::O_NOFOLLOW;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(tmp)?;
    let folder = fs::metadata(folder_of(tmp))?;
    if rustix::process::geteuid().is_root() && folder.uid() != 0 {
        std::os::unix::fs::fchown(&file, Some(folder.uid()), Some(folder.gid()))?;
    }
    writeln!(file, "{}", URL_SAFE_NO_PAD.encode(bytes))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    fn desk() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("admin.token");
        (folder, path)
    }

    fn put(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    }

    #[test]
    fn a_token_is_made_once_for_its_owner_alone_and_read_again() {
        let (folder, path) = desk();
        let made = Token::load(&path).expect("made");
        let text = fs::read_to_string(&path).expect("there");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o600);
        assert_eq!(text.trim().len(), TOKEN_CHARS_MIN);
        assert!(made.is(text.trim().as_bytes()));
        assert!(Token::load(&path).expect("read").is(text.trim().as_bytes()));
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1, "nothing is left over");
        let (_other_folder, other) = desk();
        Token::load(&other).expect("made");
        assert_ne!(fs::read_to_string(&other).expect("there"), text);
        assert!(!format!("{made:?}").contains(text.trim()), "a token shows nowhere");
    }

    #[test]
    fn nothing_but_the_token_is_the_token() {
        let (_folder, path) = desk();
        put(&path, &format!("{}\n", "5a".repeat(32)), 0o600);
        let token = Token::load(&path).expect("read");
        let whole = "5a".repeat(32);
        assert!(token.is(whole.as_bytes()));
        for wrong in
            ["", "5", &whole[1..], &format!("{whole}\n"), &format!("{whole}5"), &whole.to_uppercase()]
        {
            assert!(!token.is(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_that_may_be_in_other_hands_is_refused_with_the_remedy() {
        let good = "5a".repeat(32);
        let bad: [(&str, u32, &str); 7] = [
            (&good, 0o640, "mode 640"),
            (&good, 0o604, "mode 604"),
            (&good, 0o620, "mode 620"),
            ("", 0o600, "0 characters"),
            (&good[1..], 0o600, "64 at least"),
            ("too-short-for-a-token", 0o600, "43 at least"),
            ("two words, and long enough to be a token of its own", 0o600, "one line"),
        ];
        for (text, mode, said) in bad {
            let (_folder, path) = desk();
            put(&path, text, mode);
            let error = Token::load(&path).expect_err("refused").to_string();
            assert!(error.contains(said) && error.contains("remove it"), "{error}");
            assert!(error.contains(&*path.to_string_lossy()), "{error}");
            assert_eq!(fs::read_to_string(&path).expect("there"), text, "left as it is");
        }
    }

    #[test]
    fn a_link_in_the_tokens_place_is_not_followed() {
        let (folder, path) = desk();
        let target = folder.path().join("elsewhere");
        symlink(&target, &path).expect("linked");
        for _ in 0..2 {
            let error = Token::load(&path).expect_err("refused").to_string();
            assert!(error.contains("symbolic link"), "{error}");
            // at first it leads nowhere, then to a token
            if target.exists() {
                break;
            }
            put(&target, &"5a".repeat(32), 0o600);
        }
        assert_eq!(fs::read_to_string(&target).expect("there").len(), 64);
        let second = folder.path().join("second");
        fs::hard_link(&target, &second).expect("linked");
        assert!(Token::load(&second).expect_err("refused").to_string().contains("2 links"));
        assert!(Token::load(folder.path()).expect_err("a folder").to_string().contains("no file"));
    }
}
