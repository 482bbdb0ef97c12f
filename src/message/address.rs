//! Addresses as RFC 5321 §4.1.2 and RFC 6531 §3.3 write them, and their xtext form (RFC 3461 §4).
//!
//! [`check_address`] is the one gate: what passes can stand between `<` and `>` in MAIL and RCPT as it
//! is. It never holds CR, LF, NUL, another control character, a space outside a quoted local part, or
//! an angle bracket outside one. Errors are [`AddressError`]; they name what is wrong and where.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Octets of a local part (RFC 5321 §4.5.3.1.1).
pub const LOCAL_OCTETS_MAX: usize = 64;
/// Octets of a domain (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// Octets of an address: a path holds 256 with its angle brackets (RFC 5321 §4.5.3.1.3).
pub const ADDRESS_OCTETS_MAX: usize = 254;

/// Why a string is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("it is empty")]
    Empty,
    #[error("it has no @")]
    NoAt,
    #[error("it holds the control character U+{0:04X}")]
    Control(u32),
    #[error("the part before the @ is empty")]
    LocalEmpty,
    #[error("the part before the @ may not hold {0:?} (dots stand alone, between other characters)")]
    LocalCharacter(char),
    #[error("the quoted part before the @ is not closed, or goes on after its closing quote")]
    LocalQuote,
    #[error("the part before the @ holds an encoded word (=?), which mail programs would decode")]
    EncodedWord,
    #[error("the part before the @ has {0} octets; at most {LOCAL_OCTETS_MAX} are allowed")]
    LocalTooLong(usize),
    #[error("the domain is empty")]
    DomainEmpty,
    #[error("the domain {0:?} is not a domain name")]
    Domain(String),
    #[error("the domain literal {0:?} is not an IP address in brackets")]
    Literal(String),
    #[error("the domain has {0} octets; at most {DOMAIN_OCTETS_MAX} are allowed")]
    DomainTooLong(usize),
    #[error("it has {0} octets; at most {ADDRESS_OCTETS_MAX} are allowed")]
    TooLong(usize),
}

/// A checked address: `local@domain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address<'a> {
    whole: &'a str,
    at: usize,
    domain_ascii: Cow<'a, str>,
}

impl<'a> Address<'a> {
    /// As it was written.
    pub fn as_str(&self) -> &'a str {
        self.whole
    }

    /// The local part as written, with its quotes if it has them.
    pub fn local(&self) -> &'a str {
        &self.whole[..self.at]
    }

    /// The domain as written: may hold U-labels, or be a literal in brackets.
    pub fn domain(&self) -> &'a str {
        &self.whole[self.at + 1..]
    }

    /// The domain with A-labels only (`xn--…`), for MTAs without SMTPUTF8.
    pub fn domain_ascii(&self) -> &str {
        &self.domain_ascii
    }

    /// The local part holds non-ASCII: only an MTA that offers SMTPUTF8 takes it (RFC 6531). A domain
    /// with U-labels alone needs nothing: see [`Address::to_ascii`].
    pub fn needs_smtputf8(&self) -> bool {
        !self.local().is_ascii()
    }

    /// The address with an A-label domain; `None` where the local part needs SMTPUTF8.
    pub fn to_ascii(&self) -> Option<Cow<'a, str>> {
        if self.whole.is_ascii() {
            Some(Cow::Borrowed(self.whole))
        } else if self.needs_smtputf8() {
            None
        } else {
            Some(Cow::Owned(format!("{}@{}", self.local(), self.domain_ascii)))
        }
    }
}

/// Checks an address: a mailbox of RFC 5321 with the UTF-8 of RFC 6531, without angle brackets.
///
/// Takes no surrounding space. Allocates only for a domain that is not ASCII.
pub fn check_address(text: &str) -> Result<Address<'_>, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    let printable = text.bytes().all(|b| b.is_ascii_graphic());
    if !printable && let Some(c) = text.chars().find(|c| c.is_control()) {
        return Err(AddressError::Control(u32::from(c)));
    }
    let at = memchr::memrchr(b'@', text.as_bytes()).ok_or(AddressError::NoAt)?;
    let (local, domain) = (&text[..at], &text[at + 1..]);
    check_local(local)?;
    let domain_ascii = check_domain(domain)?;
    let longer = domain.len().max(domain_ascii.len());
    if local.len() + 1 + longer > ADDRESS_OCTETS_MAX {
        return Err(AddressError::TooLong(local.len() + 1 + longer));
    }
    Ok(Address { whole: text, at, domain_ascii })
}

fn check_local(local: &str) -> Result<(), AddressError> {
    if local.is_empty() {
        return Err(AddressError::LocalEmpty);
    }
    if local.len() > LOCAL_OCTETS_MAX {
        return Err(AddressError::LocalTooLong(local.len()));
    }
    if local.contains("=?") {
        return Err(AddressError::EncodedWord);
    }
    if local.starts_with('"') {
        return check_quoted(local);
    }
    if is_dot_atom(local) {
        return Ok(());
    }
    let bad = local.chars().find(|&c| !is_atext(c) && c != '.').unwrap_or('.');
    Err(AddressError::LocalCharacter(bad))
}

/// A Quoted-string of RFC 5321: `"` *(qtext / `\` printable) `"`.
fn check_quoted(local: &str) -> Result<(), AddressError> {
    if let Some(c) = local.chars().find(|&c| !c.is_ascii() && is_unseen(c)) {
        return Err(AddressError::LocalCharacter(c));
    }
    let inner =
        local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(AddressError::LocalQuote)?;
    let mut escaped = false;
    for c in inner.chars() {
        match (escaped, c) {
            (true, _) => escaped = false,
            (false, '\\') => escaped = true,
            (false, '"') => return Err(AddressError::LocalQuote),
            (false, _) => {}
        }
    }
    if escaped { Err(AddressError::LocalQuote) } else { Ok(()) }
}

/// RFC 5322 §3.2.3 `atext`, with the non-ASCII of RFC 6531; no space of any script.
pub(super) fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            '!' | '#'
                | '$'
                | '%'
                | '&'
                | '\''
                | '*'
                | '+'
                | '-'
                | '/'
                | '='
                | '?'
                | '^'
                | '_'
                | '`'
                | '{'
                | '|'
                | '}'
                | '~'
        )
        || (!c.is_ascii() && !is_unseen(c))
}

/// White space of any script, controls, and what is not seen or changes the order in which the rest is
/// read: two addresses that differ by such a character look alike. (Most of Unicode's
/// `Default_Ignorable_Code_Point`, and the specials.)
pub fn is_unseen(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffd}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

fn is_dot_atom(local: &str) -> bool {
    if !local.is_ascii() {
        return local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext));
    }
    // Intake checks hundreds of thousands a second: octets, no characters.
    let mut after_dot = true;
    for &b in local.as_bytes() {
        let is_dot = b == b'.';
        if (is_dot && after_dot) || !(is_dot || is_atext(char::from(b))) {
            return false;
        }
        after_dot = is_dot;
    }
    !after_dot
}

/// The domain with A-labels.
fn check_domain(domain: &str) -> Result<Cow<'_, str>, AddressError> {
    if domain.is_empty() {
        return Err(AddressError::DomainEmpty);
    }
    if domain.len() > DOMAIN_OCTETS_MAX {
        return Err(AddressError::DomainTooLong(domain.len()));
    }
    if domain.starts_with('[') {
        return check_literal(domain).map(|()| Cow::Borrowed(domain));
    }
    if domain.is_ascii() {
        // A label that claims to be encoded must decode.
        let valid =
            is_domain_name(domain) && (!holds_a_label(domain) || idna::domain_to_ascii(domain).is_ok());
        return if valid { Ok(Cow::Borrowed(domain)) } else { Err(AddressError::Domain(domain.to_owned())) };
    }
    match idna::domain_to_ascii_strict(domain) {
        Ok(ascii) if ascii.len() <= DOMAIN_OCTETS_MAX && is_domain_name(&ascii) => Ok(Cow::Owned(ascii)),
        _ => Err(AddressError::Domain(domain.to_owned())),
    }
}

fn holds_a_label(domain: &str) -> bool {
    domain.contains("--")
        && domain.split('.').any(|label| label.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("xn--")))
}

/// RFC 5321 `sub-domain *("." sub-domain)`, labels of at most 63 octets (RFC 1035).
fn is_domain_name(domain: &str) -> bool {
    let (mut label_len, mut before) = (0, b'.');
    for &b in domain.as_bytes() {
        if b == b'.' {
            if label_len == 0 || before == b'-' {
                return false;
            }
            label_len = 0;
        } else {
            label_len += 1;
            let fits = b.is_ascii_alphanumeric() || (b == b'-' && label_len > 1);
            if !fits || label_len > 63 {
                return false;
            }
        }
        before = b;
    }
    label_len > 0 && before != b'-'
}

fn check_literal(domain: &str) -> Result<(), AddressError> {
    let bad = || AddressError::Literal(domain.to_owned());
    let inner = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or_else(bad)?;
    let is_v6_tag = inner.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    let valid = if is_v6_tag {
        inner[5..].parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        inner.parse::<std::net::Ipv4Addr>().is_ok()
    };
    if valid { Ok(()) } else { Err(bad()) }
}

/// xtext (RFC 3461 §4): octets outside `!`–`~`, and `+` and `=`, become `+HH`.
pub fn xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for b in text.bytes() {
        if (b'!'..=b'~').contains(&b) && b != b'+' && b != b'=' {
            out.push(char::from(b));
        } else {
            push_hex(&mut out, '+', b);
        }
    }
    out
}

/// The value of ORCPT (RFC 3461 §4.2): `rfc822;` and xtext; for a local part beyond ASCII `utf-8;` and
/// the utf-8-addr-xtext of RFC 6533 §3, which passes MTAs with and without SMTPUTF8.
pub fn orcpt(address: &Address<'_>) -> String {
    if let Some(ascii) = address.to_ascii() {
        return format!("rfc822;{}", xtext(&ascii));
    }
    let mut out = String::from("utf-8;");
    for c in address.as_str().chars() {
        if c.is_ascii_graphic() && !matches!(c, '+' | '=' | '\\') {
            out.push(c);
        } else {
            // Writing to a String can't fail.
            write!(out, "\\x{{{:02X}}}", u32::from(c)).unwrap_or_default();
        }
    }
    out
}

/// `mark` and two upper-case hex digits.
pub(super) fn push_hex(out: &mut String, mark: char, b: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push(mark);
    out.push(char::from(HEX[usize::from(b >> 4)]));
    out.push(char::from(HEX[usize::from(b & 15)]));
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
