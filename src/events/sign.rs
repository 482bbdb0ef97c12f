//! The key, and the signature of Standard Webhooks (standardwebhooks.com): `v1,` and the base64 of HMAC-SHA256 over
//! `id.timestamp.body`.
//!
//! Guarantees: the key is shown nowhere. Errors: [`EventsError::Secret`], which says nothing of what is in the file.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::EventsError;

/// Octets of the file, at most.
const FILE_OCTETS_MAX: u64 = 1024;
/// Octets of a key, at least: shorter ones are guessed.
const KEY_OCTETS_MIN: usize = 16;
const OTHERS_MAY: u32 = 0o007;

/// A key.
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Secret {
    /// Reads it. Blocks on the disk.
    ///
    /// # Errors
    /// It can't be read, others can read it, or it is no key.
    pub fn read(path: &Path) -> Result<Self, EventsError> {
        let bad = |reason: &str| EventsError::Secret { path: path.to_owned(), reason: reason.to_owned() };
        let cannot = |e: std::io::Error| {
            bad(&format!("{e}; it must be a file of one line, readable by infeed's user"))
        };
        let file = File::open(path).map_err(cannot)?;
        let there = file.metadata().map_err(cannot)?;
        if !there.is_file() {
            return Err(bad("it is no file"));
        }
        if there.mode() & OTHERS_MAY != 0 {
            return Err(bad("others on this host can read the key, or write it: chmod 600"));
        }
        let mut octets = Vec::new();
        file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets).map_err(cannot)?;
        Self::of_octets(&octets).map_err(bad)
    }

    /// `whsec_` and the key in base64, or the key as it stands; a line end is not part of it.
    fn of_octets(octets: &[u8]) -> Result<Self, &'static str> {
        if octets.len() as u64 > FILE_OCTETS_MAX {
            return Err("it is larger than a key");
        }
        let line = octets.strip_suffix(b"\n").unwrap_or(octets);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.contains(&b'\n') {
            return Err("it must be one line");
        }
        let key = match line.strip_prefix(b"whsec_") {
            Some(encoded) => BASE64.decode(encoded).map_err(|_| "what follows whsec_ is not base64")?,
            None => line.to_vec(),
        };
        if key.len() < KEY_OCTETS_MIN {
            return Err("a key has 16 octets at least; `openssl rand -base64 32` makes one");
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp_s}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        // the example of the specification
        let secret = Secret::of_octets(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_no_key_is_told_without_it() {
        for (octets, says) in [
            (&b"short"[..], "16 octets"),
            (b"", "16 octets"),
            (b"whsec_no base64 at all", "not base64"),
            (b"one line of text\nand another one", "one line"),
            (&[b'x'; 2000], "larger"),
        ] {
            let error = Secret::of_octets(octets).err().unwrap();
            assert!(error.contains(says), "{error}");
        }
        let shown = format!("{:?}", Secret::of_octets(b"a key of its own, long enough").unwrap());
        assert_eq!(shown, "[hidden]");
    }

    #[test]
    fn a_key_that_others_can_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
        for (mode, is_good) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Secret::read(&path).is_ok(), is_good, "{mode:o}");
        }
        assert!(Secret::read(folder.path()).unwrap_err().to_string().contains("it is no file"));
        assert!(Secret::read(&folder.path().join("none")).is_err());
    }
}
