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
    xverp: Option<Xverp>,
}

/// A VERP pattern of the form that an MTA fills in itself (XVERP; Postfix's VERP_README): of `list@host`
/// and `user@domain` it makes `list+user=domain@host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xverp {
    /// `list@host`, ASCII, never the null sender.
    pub sender: String,
    /// What stands before and after the recipient's local part; each one of `-=+`.
    pub delimiters: [u8; 2],
}

#[derive(Debug, Clone, PartialEq, Eq)]
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
        let xverp = Xverp::of(&pieces);
        let verp = Verp { pieces, xverp };
        // A sample shows at once whether the fixed text fits an address.
        let sample = check_address("u@d.example").map_err(|e| bad(&e.to_string()))?;
        verp.sender(&sample).map_err(|e| bad(&e.to_string()))?;
        Ok(verp)
    }

    /// What an MTA that offers XVERP needs to make the senders itself; `None`: it can't make these.
    pub fn xverp(&self) -> Option<&Xverp> {
        self.xverp.as_ref()
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

impl Xverp {
    fn of(pieces: &[VerpPiece]) -> Option<Self> {
        // neighbouring texts are one: a job's id stands in a piece of its own
        let (mut texts, mut marks) = (vec![String::new()], Vec::new());
        for piece in pieces {
            match (piece, texts.last_mut()) {
                (VerpPiece::Text(text), Some(last)) => last.push_str(text),
                (mark, _) => {
                    marks.push(mark);
                    texts.push(String::new());
                }
            }
        }
        let ([before, between, after], [VerpPiece::Local, VerpPiece::Domain]) = (&texts[..], &marks[..])
        else {
            return None;
        };
        let host = after.strip_prefix('@')?;
        let (&first, list) = before.as_bytes().split_last()?;
        let &[second] = between.as_bytes() else { return None };
        let list = std::str::from_utf8(list).ok()?;
        let delimiters = [first, second];
        // a quoted local part would have to be taken apart and quoted again
        let fits =
            delimiters.iter().all(|d| b"-=+".contains(d)) && is_plain(list, b"-=+_'") && is_plain(host, b"-");
        fits.then(|| Self { sender: format!("{list}@{host}"), delimiters })
    }

    /// The MTA makes the very sender that `Verp::sender` makes. Not so where octets are escaped, where
    /// the address on the wire differs from the one here (IDN), where an MTA might read more into a local
    /// part than stands there (`%`, `!`, quotes), or where the sender is too long to be one.
    pub fn suits(&self, recipient: &str) -> bool {
        recipient.rsplit_once('@').is_some_and(|(local, domain)| {
            // one more for the first delimiter; the second stands where the recipient's @ was
            self.sender.len() + recipient.len() < ADDRESS_OCTETS_MAX
                && is_plain(local, b"-=+_'")
                && is_plain(domain, b"-")
        })
    }
}

/// ASCII letters, digits and `others`, in atoms between single dots.
fn is_plain(text: &str, others: &[u8]) -> bool {
    let mut before = b'.';
    for &octet in text.as_bytes() {
        let fine = match octet {
            b'.' => before != b'.',
            _ => octet.is_ascii_alphanumeric() || others.contains(&octet),
        };
        if !fine {
            return false;
        }
        before = octet;
    }
    before != b'.'
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

    fn xverp_of(pattern: &str) -> Option<(String, String)> {
        let verp = Verp::parse(pattern, "j1").unwrap();
        verp.xverp().map(|x| (x.sender.clone(), String::from_utf8_lossy(&x.delimiters).into_owned()))
    }

    #[test]
    fn a_pattern_that_the_mta_can_fill_in_is_told_apart() {
        let some = |sender: &str, delimiters: &str| Some((sender.to_owned(), delimiters.to_owned()));
        assert_eq!(xverp_of("b@h.example"), some("b@h.example", "+="));
        assert_eq!(xverp_of("b-{job}@h.example"), some("b-j1@h.example", "+="));
        assert_eq!(xverp_of("b-{job}-{local}={domain}@h.example"), some("b-j1@h.example", "-="));
        assert_eq!(xverp_of("b+{job}+{local}+{domain}@h.example"), some("b+j1@h.example", "++"));
        for other in [
            "b+{domain}={local}@h.example",
            "b+{local}={domain}.x@h.example",
            "b+{local}=={domain}@h.example",
            "b.{local}={domain}@h.example",
            "b+{local}.at.{domain}@h.example",
            "b+{local}={domain}={job}@h.example",
            "{local}={domain}@h.example",
            "b+{local}{local}={domain}@h.example",
            "b!c@h.example",
        ] {
            assert_eq!(xverp_of(other), None, "{other}");
        }
    }

    /// Postfix's `verp_sender()`.
    fn made_by_postfix(xverp: &Xverp, recipient: &str) -> String {
        let (list, host) = xverp.sender.rsplit_once('@').unwrap();
        let (local, domain) = recipient.rsplit_once('@').unwrap();
        let [first, second] = xverp.delimiters.map(char::from);
        format!("{list}{first}{local}{second}{domain}@{host}")
    }

    #[test]
    fn only_plain_recipients_are_left_to_the_mta() {
        let verp = Verp::parse("b@h.example", "j").unwrap();
        let xverp = verp.xverp().unwrap();
        for plain in ["u@x.example", "A.b-c_d+e=f'g@X-y.example"] {
            assert!(xverp.suits(plain), "{plain}");
        }
        let long = format!("u@{}.example", ["d".repeat(58).as_str(); 4].join("."));
        for odd in [
            "\"a b\"@x.example",
            "a~b@x.example",
            "jörg@x.example",
            "u@bücher.example",
            "u@[192.0.2.1]",
            "a%b@x.example",
            &long,
        ] {
            assert!(!xverp.suits(odd), "{odd}");
        }
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
        /// Nobody's bounces ever go to another address than the one that goes without XVERP.
        #[test]
        fn a_recipient_left_to_the_mta_gets_the_very_same_sender(
            local in "[a-zA-Z0-9.+=~_'%!\"ü\\\\ -]{1,64}|\"[ -~]{0,20}\"",
            domain in "[a-zA-Zü0-9.-]{1,60}|[a-z]{1,60}(\\.[a-z]{1,60}){1,3}|\\[[0-9.]{7,11}\\]",
            pattern in prop::sample::select(vec!["b@h.example", "b-{job}-{local}={domain}@h.example", "b+{local}-{domain}@h.example"]),
        ) {
            let text = format!("{local}@{domain}");
            let verp = Verp::parse(pattern, "j").map_err(|e| TestCaseError::fail(e.to_string()))?;
            let Some(xverp) = verp.xverp() else { return Err(TestCaseError::fail("it has XVERP's form")) };
            if let Ok(recipient) = check_address(&text)
                && xverp.suits(&text)
            {
                let sender = verp.sender(&recipient).map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert_eq!(sender, made_by_postfix(xverp, &text));
            }
        }

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
