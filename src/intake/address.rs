//! Addresses of recipients: what may go into RCPT TO, and when two of them are one mailbox.
//!
//! [`check`] holds RFC 5321 §4.1.2 with the lengths of §4.5.3.1, and RFC 6531 for non-ASCII. It is
//! stricter where a list is more likely to be broken than to mean it: no space, control character or
//! angle bracket even within a quoted local part, no invisible character, no all-digit last label, and no
//! `=?`: mail programs decode an encoded word (RFC 2047) wherever they see one, and read another address.
//!
//! [`canonical_key`] is what duplicates and suppressions are compared by: the domain as A-labels, all of it
//! in lower case, *the local part too*. RFC 5321 §2.4 lets a host tell `Bob` from `bob`; hardly any does, and
//! one mail that goes twice costs more than one that a case-sensitive host would have taken twice.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::message::address::is_unseen;

/// RFC 5321 §4.5.3.1.1.
pub const LOCAL_OCTETS_MAX: usize = 64;
/// RFC 5321 §4.5.3.1.2.
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// A path is at most 256 octets with its brackets (RFC 5321 §4.5.3.1.3).
pub const ADDRESS_OCTETS_MAX: usize = 254;
/// RFC 1035 §2.3.4.
const LABEL_OCTETS_MAX: usize = 63;

/// Why an address can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    #[error("no address")]
    Empty,
    #[error("no @ in the address")]
    NoAt,
    #[error("more than one @ in the address")]
    SecondAt,
    #[error("nothing before the @")]
    LocalEmpty,
    #[error("more than {LOCAL_OCTETS_MAX} octets before the @")]
    LocalTooLong,
    #[error("a dot at the start or the end of the local part, or two in a row")]
    LocalDot,
    #[error("a bad quoted local part")]
    LocalQuote,
    #[error("an encoded word (=?) before the @, which mail programs would decode")]
    EncodedWord,
    #[error("nothing after the @")]
    DomainEmpty,
    #[error("more than {DOMAIN_OCTETS_MAX} octets after the @")]
    DomainTooLong,
    #[error("an empty label in the domain (a dot too many)")]
    LabelEmpty,
    #[error("a label of more than {LABEL_OCTETS_MAX} octets in the domain")]
    LabelTooLong,
    #[error("a hyphen at the start or the end of a label of the domain")]
    LabelHyphen,
    #[error("a domain of digits only; an IP address stands in brackets")]
    DomainNumeric,
    #[error("a bad address literal after the @")]
    Literal,
    #[error("a domain that IDNA doesn't allow")]
    Idna,
    #[error("the address is longer than {ADDRESS_OCTETS_MAX} octets")]
    TooLong,
    #[error("{0:?} in the address")]
    Character(char),
}

const ATEXT: u8 = 1;
const LDH: u8 = 2;

/// Character classes of ASCII: `ATEXT` (RFC 5322 §3.2.3), `LDH` (letters, digits, hyphen).
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut octet = 0;
    while octet < 128 {
        let c = octet as u8;
        if c.is_ascii_alphanumeric() {
            class[octet] = ATEXT | LDH;
        }
        octet += 1;
    }
    let special = b"!#$%&'*+-/=?^_`{|}~";
    let mut i = 0;
    while i < special.len() {
        class[special[i] as usize] |= ATEXT;
        i += 1;
    }
    class[b'-' as usize] |= LDH;
    class
};

/// Whether mail can be sent to `address` (bare: no brackets, no surrounding white space).
///
/// # Errors
/// The first [`AddressFault`] found.
pub fn check(address: &str) -> Result<(), AddressFault> {
    if address.is_empty() {
        return Err(AddressFault::Empty);
    }
    let Some(at) = memchr::memrchr(b'@', address.as_bytes()) else {
        return Err(first_bad_character(address).map_or(AddressFault::NoAt, AddressFault::Character));
    };
    let (local, domain) = (&address[..at], &address[at + 1..]);
    check_local(local)?;
    check_domain(domain)?;
    if address.len() > ADDRESS_OCTETS_MAX {
        return Err(AddressFault::TooLong);
    }
    Ok(())
}

fn check_local(local: &str) -> Result<(), AddressFault> {
    let octets = local.as_bytes();
    if octets.is_empty() {
        return Err(AddressFault::LocalEmpty);
    }
    if octets[0] == b'"' {
        return check_quoted_local(local);
    }
    let mut after_dot = true;
    for &octet in octets {
        if octet == b'.' {
            if after_dot {
                return Err(AddressFault::LocalDot);
            }
            after_dot = true;
        } else if CLASS[octet as usize] & ATEXT != 0 || octet >= 0x80 {
            after_dot = false;
        } else if octet == b'@' {
            return Err(AddressFault::SecondAt);
        } else {
            return Err(AddressFault::Character(char::from(octet)));
        }
    }
    if after_dot {
        return Err(AddressFault::LocalDot);
    }
    end_of_local(local)
}

/// `"` qcontentSMTP `"` of RFC 5321 §4.1.2, without spaces and angle brackets.
fn check_quoted_local(local: &str) -> Result<(), AddressFault> {
    let inner = local.strip_prefix('"').and_then(|l| l.strip_suffix('"')).ok_or(AddressFault::LocalQuote)?;
    let mut escaped = false;
    for octet in inner.bytes() {
        match octet {
            0..=b' ' | b'<' | b'>' | 0x7f => return Err(AddressFault::Character(char::from(octet))),
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Err(AddressFault::LocalQuote),
            _ => {}
        }
    }
    if escaped || inner.is_empty() {
        return Err(AddressFault::LocalQuote);
    }
    end_of_local(local)
}

fn end_of_local(local: &str) -> Result<(), AddressFault> {
    if local.len() > LOCAL_OCTETS_MAX {
        return Err(AddressFault::LocalTooLong);
    }
    if local.contains("=?") {
        return Err(AddressFault::EncodedWord);
    }
    if !local.is_ascii() {
        return first_bad_character(local).map_or(Ok(()), |c| Err(AddressFault::Character(c)));
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), AddressFault> {
    if let Some(literal) = domain.strip_prefix('[') {
        return check_literal(literal);
    }
    if domain.is_ascii() {
        return check_ascii_domain(domain);
    }
    if let Some(c) = first_bad_character(domain) {
        return Err(AddressFault::Character(c));
    }
    let a_labels = idna::domain_to_ascii_cow(domain.as_bytes(), idna::AsciiDenyList::STD3)
        .map_err(|_| AddressFault::Idna)?;
    check_ascii_domain(&a_labels)
}

fn check_ascii_domain(domain: &str) -> Result<(), AddressFault> {
    if domain.is_empty() {
        return Err(AddressFault::DomainEmpty);
    }
    if domain.len() > DOMAIN_OCTETS_MAX {
        return Err(AddressFault::DomainTooLong);
    }
    let mut label_octets = 0;
    let mut digits_only = true;
    let mut last = b'-';
    for &octet in domain.as_bytes() {
        if octet == b'.' {
            end_of_label(label_octets, last)?;
            label_octets = 0;
            digits_only = true;
        } else if CLASS[octet as usize] & LDH != 0 {
            if octet == b'-' && label_octets == 0 {
                return Err(AddressFault::LabelHyphen);
            }
            label_octets += 1;
            digits_only &= octet.is_ascii_digit();
        } else {
            return Err(AddressFault::Character(char::from(octet)));
        }
        last = octet;
    }
    end_of_label(label_octets, last)?;
    // A top-level domain is never numeric (RFC 3696 §2): this was meant to be an IP address.
    if digits_only { Err(AddressFault::DomainNumeric) } else { Ok(()) }
}

fn end_of_label(label_octets: usize, last: u8) -> Result<(), AddressFault> {
    match label_octets {
        0 => Err(AddressFault::LabelEmpty),
        _ if label_octets > LABEL_OCTETS_MAX => Err(AddressFault::LabelTooLong),
        _ if last == b'-' => Err(AddressFault::LabelHyphen),
        _ => Ok(()),
    }
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3); `literal` comes without its first bracket.
fn check_literal(literal: &str) -> Result<(), AddressFault> {
    let inner = literal.strip_suffix(']').ok_or(AddressFault::Literal)?;
    let good = match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => inner[5..].parse::<Ipv6Addr>().is_ok(),
        _ => inner.parse::<Ipv4Addr>().is_ok(),
    };
    if good { Ok(()) } else { Err(AddressFault::Literal) }
}

/// The first character that no part of an address holds: white space, controls, angle brackets, and the
/// invisible ones that pasting brings along.
fn first_bad_character(text: &str) -> Option<char> {
    text.chars().find(|&c| matches!(c, '<' | '>') || is_unseen(c))
}

/// Appends the form by which `address`, already checked, is compared: domain as A-labels, all in lower case,
/// a needless quoting of the local part undone.
pub fn canonical_key(address: &str, key: &mut Vec<u8>) {
    let at = memchr::memrchr(b'@', address.as_bytes()).unwrap_or(address.len());
    let (local, domain) = address.split_at(at);
    let local = unquoted(local);
    if local.is_ascii() {
        push_lower(&local, key);
    } else {
        key.extend_from_slice(local.to_lowercase().as_bytes());
    }
    if let Some(domain) = domain.strip_prefix('@') {
        key.push(b'@');
        canonical_domain(domain, key);
    }
}

/// Appends the form by which a domain is compared: A-labels in lower case.
pub fn canonical_domain(domain: &str, key: &mut Vec<u8>) {
    if domain.is_ascii() {
        push_lower(domain, key);
        return;
    }
    match idna::domain_to_ascii_cow(domain.as_bytes(), idna::AsciiDenyList::STD3) {
        Ok(a_labels) => push_lower(&a_labels, key),
        // Not a domain that `check` lets through; it still needs some one form.
        Err(_) => key.extend_from_slice(domain.to_lowercase().as_bytes()),
    }
}

/// Whether `domain` could stand after the @ of an address.
///
/// # Errors
/// As [`check`].
pub fn check_domain_only(domain: &str) -> Result<(), AddressFault> {
    if domain.is_empty() {
        return Err(AddressFault::DomainEmpty);
    }
    check_domain(domain)
}

fn push_lower(text: &str, key: &mut Vec<u8>) {
    let start = key.len();
    key.extend_from_slice(text.as_bytes());
    key[start..].make_ascii_lowercase();
}

/// `"bob"@` and `bob@` are one mailbox (RFC 5321 §4.1.2): quotes that aren't needed go.
fn unquoted(local: &str) -> Cow<'_, str> {
    let Some(inner) = local.strip_prefix('"').and_then(|l| l.strip_suffix('"')) else {
        return Cow::Borrowed(local);
    };
    let mut bare = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        bare.push(if c == '\\' { characters.next().unwrap_or(c) } else { c });
    }
    if !bare.starts_with('"') && check_local(&bare).is_ok() { Cow::Owned(bare) } else { Cow::Borrowed(local) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(address: &str) -> String {
        let mut key = Vec::new();
        canonical_key(address, &mut key);
        String::from_utf8(key).expect("keys are UTF-8")
    }

    #[test]
    fn addresses_that_rfc_5321_and_6531_allow_pass() {
        let longest = format!("{}@{}.example", "a".repeat(64), "b".repeat(63));
        for good in [
            "a@b",
            "bob.o'hara+tag=x@example.org",
            "refuse-550@sink.test",
            "\"a@b\"@example.org",
            "\"a\\\"b\"@example.org",
            "x@[192.0.2.1]",
            "x@[IPv6:2001:db8::1]",
            "zoë@example.org",
            "bob@bücher.example",
            "bob@xn--bcher-kva.example",
            "用户@例子.测试",
            "a@1.2.3.4.example",
            &longest,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn each_fault_is_named() {
        use AddressFault::*;
        let long_local = format!("{}@example.org", "a".repeat(65));
        let long_label = format!("a@{}.example", "b".repeat(64));
        let long_domain = format!("a@{}example", "b.".repeat(125));
        let long_total = format!("{}@{}example", "a".repeat(64), "b.".repeat(100));
        for (bad, fault) in [
            ("", Empty),
            ("bob", NoAt),
            ("bob example.org", Character(' ')),
            ("@example.org", LocalEmpty),
            ("a@b@example.org", SecondAt),
            ("bob@", DomainEmpty),
            (".bob@example.org", LocalDot),
            ("bob.@example.org", LocalDot),
            ("b..b@example.org", LocalDot),
            ("bob@example..org", LabelEmpty),
            ("bob@example.org.", LabelEmpty),
            ("bob@-a.example", LabelHyphen),
            ("bob@a-.example", LabelHyphen),
            ("bob@a_b.example", Character('_')),
            ("bob@192.0.2.1", DomainNumeric),
            ("bob@[192.0.2.1", Literal),
            ("bob@[300.0.2.1]", Literal),
            ("bob@[IPv6:zz]", Literal),
            ("bo b@example.org", Character(' ')),
            ("<bob@example.org>", Character('<')),
            ("bob@example.org>", Character('>')),
            ("bob\r\nDATA@example.org", Character('\r')),
            ("bob@example.org\r\nDATA", Character('\r')),
            ("bob\0@example.org", Character('\0')),
            ("\u{200b}bob@example.org", Character('\u{200b}')),
            ("bob\u{a0}@example.org", Character('\u{a0}')),
            ("bob\u{61c}@example.org", Character('\u{61c}')),
            ("bob\u{2028}@example.org", Character('\u{2028}')),
            ("bob\u{85}@example.org", Character('\u{85}')),
            ("b\u{202e}ob@example.org", Character('\u{202e}')),
            ("bob\u{e0041}@example.org", Character('\u{e0041}')),
            ("bob@exa\u{61c}mple.org", Character('\u{61c}')),
            ("=?utf-8?q?bob=40evil.test=3E?=@example.org", EncodedWord),
            ("\"=?x?q?a?=\"@example.org", EncodedWord),
            ("\"a b\"@example.org", Character(' ')),
            ("\"a\"b\"@example.org", LocalQuote),
            ("\"a\\\"@example.org", LocalQuote),
            ("\"\"@example.org", LocalQuote),
            ("bob@\u{301}a.example", Idna),
            ("bob@é_b.example", Idna),
            (&long_local, LocalTooLong),
            (&long_label, LabelTooLong),
            (&long_domain, DomainTooLong),
            (&long_total, TooLong),
        ] {
            assert_eq!(check(bad), Err(fault), "{bad}");
        }
    }

    #[test]
    fn one_mailbox_has_one_key() {
        assert_eq!(key("Bob@EXAMPLE.org"), "bob@example.org");
        assert_eq!(key("bob@Bücher.example"), key("BOB@xn--bcher-kva.EXAMPLE"));
        assert_eq!(key("\"bob\"@example.org"), key("bob@example.org"));
        assert_eq!(key("Zoë@example.org"), key("ZOË@example.org"));
        assert_ne!(key("\"a@b\"@c.example"), key("a@b.c.example"));
        assert_ne!(key("bob@example.org"), key("rob@example.org"));
    }

    proptest! {
        #[test]
        fn nothing_that_passes_could_break_a_command_line(text in "\\PC{0,12}|[ -~\\r\\n\\t<>@.\"\\\\é]{0,24}@[a-zA-Z.é \\r\\n<>]{0,12}") {
            if check(&text).is_ok() {
                prop_assert!(text.len() <= ADDRESS_OCTETS_MAX);
                prop_assert!(!text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '<' || c == '>'));
            }
        }

        #[test]
        fn a_key_is_its_own_key_and_knows_no_case(address in "[a-zA-Z0-9.+é-]{1,12}@[a-zA-Zé0-9]{1,8}\\.[a-zA-Z]{2,5}") {
            prop_assume!(check(&address).is_ok());
            prop_assert_eq!(key(&key(&address)), key(&address));
            prop_assert_eq!(key(&address.to_ascii_uppercase()), key(&address));
        }
    }
}
