//! The envelope sender: one for the job, or one per recipient (VERP, variable envelope return path).
//!
//! The sender that comes out has passed [`check_address`], its local part's length aside: MTAs take a
//! VERP local part beyond 64 octets, and RFC 5321 §4.5.3.1 asks for no limit where none is needed; the
//! whole stays within a path. It is always ASCII, whatever the recipient's address holds.

use super::address::{ADDRESS_OCTETS_MAX, Address, AddressError, check_address, push_hex};
use super::error::{MessageError, RenderError};

/// How the envelope sender is made.
#[derive(Debug, Clone)]
pub enum Sender {
    /// The same for all; empty for the null sender.
    Fixed(String),
    Verp(Verp),
}

/// A VERP pattern cut at its marks.
#[derive(Debug, Clone)]
pub struct Verp {
    pieces: Vec<VerpPiece>,
}

#[derive(Debug, Clone)]
enum VerpPiece {
    Text(String),
    Local,
    Domain,
}

impl Verp {
    /// `list-bounces+{local}={domain}@host`, or the short form `list-bounces@host`, which means the
    /// same (the delimiters `+=` of Postfix's `default_verp_delimiters`). `{job}` is the job's id.
    pub fn parse(pattern: &str, job: &str) -> Result<Verp, MessageError> {
        let bad =
            |reason: &str| MessageError::Verp { pattern: pattern.to_owned(), reason: reason.to_owned() };
        let (local, host) = pattern.rsplit_once('@').ok_or_else(|| bad("it has no @"))?;
        if host.contains(['{', '}']) {
            return Err(bad("marks stand before the @ only"));
        }
        let long = if local.contains("{local}") || local.contains("{domain}") {
            pattern.to_owned()
        } else {
            format!("{local}+{{local}}={{domain}}@{host}")
        };
        if !(long.contains("{local}") && long.contains("{domain}")) {
            return Err(bad("it needs both {local} and {domain}"));
        }
        let mut pieces = Vec::new();
        let mut rest = long.as_str();
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or_else(|| bad("a { without }"))? + open;
            pieces.push(VerpPiece::Text(rest[..open].to_owned()));
            pieces.push(match &rest[open + 1..close] {
                "local" => VerpPiece::Local,
                "domain" => VerpPiece::Domain,
                "job" => VerpPiece::Text(job.to_owned()),
                _ => return Err(bad("it knows {local}, {domain} and {job} only")),
            });
            rest = &rest[close + 1..];
        }
        pieces.push(VerpPiece::Text(rest.to_owned()));
        let verp = Verp { pieces };
        // A sample shows at once whether the fixed text fits an address.
        let sample = check_address("u@d.example").map_err(|e| bad(&e.to_string()))?;
        verp.sender(&sample).map_err(|e| bad(&e.to_string()))?;
        Ok(verp)
    }

    /// The sender for one recipient.
    pub fn sender(&self, recipient: &Address<'_>) -> Result<String, RenderError> {
        let mut sender = String::with_capacity(recipient.as_str().len() + 40);
        for piece in &self.pieces {
            match piece {
                VerpPiece::Text(text) => sender.push_str(text),
                VerpPiece::Local => push_escaped(&mut sender, recipient.local()),
                VerpPiece::Domain => push_escaped(&mut sender, recipient.domain_ascii()),
            }
        }
        match check_verp(&sender) {
            Ok(()) => Ok(sender),
            Err(reason) => Err(RenderError::Verp { sender, reason }),
        }
    }
}

fn check_verp(sender: &str) -> Result<(), String> {
    if sender.len() > ADDRESS_OCTETS_MAX {
        return Err(format!("it has {} octets; at most {ADDRESS_OCTETS_MAX} are allowed", sender.len()));
    }
    if !sender.is_ascii() {
        return Err("it holds a character beyond ASCII".to_owned());
    }
    match check_address(sender) {
        Ok(_) => Ok(()),
        // The rest of an overlong local part, and the domain, are checked piece by piece.
        Err(AddressError::LocalTooLong(_)) => {
            let (local, host) = sender.rsplit_once('@').ok_or("it has no @")?;
            let atoms_fit =
                local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(super::address::is_atext));
            if !atoms_fit {
                return Err("the part before the @ is not a dot-atom".to_owned());
            }
            check_address(&format!("x@{host}")).map(|_| ()).map_err(|e| e.to_string())
        }
        Err(reason) => Err(reason.to_string()),
    }
}

/// Octets that an unquoted local part can't hold, and `~` itself, become `~HH`: the original can be
/// told from it.
fn push_escaped(out: &mut String, text: &str) {
    let bytes = text.as_bytes();
    for (i, &b) in bytes.iter().enumerate() {
        let c = char::from(b);
        let lone_dot = b == b'.' && i > 0 && i + 1 < bytes.len() && bytes[i + 1] != b'.';
        if lone_dot || (b.is_ascii() && b != b'~' && super::address::is_atext(c)) {
            out.push(c);
        } else {
            push_hex(out, '~', b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verp(pattern: &str, recipient: &str) -> Result<String, String> {
        let verp = Verp::parse(pattern, "j1").map_err(|e| e.to_string())?;
        let recipient = check_address(recipient).map_err(|e| e.to_string())?;
        verp.sender(&recipient).map_err(|e| e.to_string())
    }

    #[test]
    fn the_short_form_means_the_postfix_delimiters() {
        let want = Ok("list-bounces+user=example.org@host.example".to_owned());
        assert_eq!(verp("list-bounces@host.example", "user@example.org"), want);
        assert_eq!(verp("list-bounces+{local}={domain}@host.example", "user@example.org"), want);
        assert_eq!(
            verp("b-{job}@host.example", "user@example.org"),
            Ok("b-j1+user=example.org@host.example".to_owned())
        );
    }

    #[test]
    fn odd_recipients_still_yield_a_valid_sender() {
        assert_eq!(verp("b@h.example", "a+b=c@x.example"), Ok("b+a+b=c=x.example@h.example".to_owned()));
        assert_eq!(
            verp("b@h.example", "\"a b\"@x.example"),
            Ok("b+~22a~20b~22=x.example@h.example".to_owned())
        );
        assert_eq!(
            verp("b@h.example", "jörg@bücher.example"),
            Ok("b+j~C3~B6rg=xn--bcher-kva.example@h.example".to_owned())
        );
        assert_eq!(verp("b@h.example", "u@[192.0.2.1]"), Ok("b+u=~5B192.0.2.1~5D@h.example".to_owned()));
    }

    #[test]
    fn bad_patterns_and_overlong_senders_are_refused() {
        assert!(verp("nohost", "u@x.example").is_err());
        assert!(verp("b+{local}@h.example", "u@x.example").is_err());
        assert!(verp("b+{who}@h.example", "u@x.example").is_err());
        assert!(verp("b c@h.example", "u@x.example").is_err());
        assert!(verp("b@h..example", "u@x.example").is_err());
        let long = format!("u@{}.example", ["d".repeat(60).as_str(); 3].join("."));
        let reason = verp(&format!("{}@h.example", "b".repeat(60)), &long);
        assert!(reason.as_ref().is_err_and(|e| e.contains("at most 254")), "{reason:?}");
    }

    proptest! {
        #[test]
        fn a_verp_sender_is_an_address_or_an_error(local in "[a-z.+=~\"ü\\\\ ]{1,20}", domain in "[a-zü]{1,9}\\.example") {
            let text = format!("{local}@{domain}");
            if let Ok(recipient) = check_address(&text) {
                let verp = Verp::parse("b@h.example", "j").map_err(|e| TestCaseError::fail(e.to_string()))?;
                let sender = verp.sender(&recipient).map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert!(sender.is_ascii());
                if sender.len() < 60 {
                    prop_assert!(check_address(&sender).is_ok(), "{}", sender);
                }
            }
        }
    }
}
