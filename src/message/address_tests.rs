use super::*;
use proptest::prelude::*;

#[test]
fn ordinary_and_odd_addresses_pass() {
    for good in [
        "user@example.org",
        "a.b+c=d@sub.example.org",
        "o'brien@example.org",
        "\"odd local\"@example.org",
        "\"a\\\"b@c\"@example.org",
        "user@[192.0.2.1]",
        "user@[IPv6:2001:db8::1]",
        "root@localhost",
        "jörg@bücher.example",
        "user@xn--bcher-kva.example",
    ] {
        assert!(check_address(good).is_ok(), "{good}: {:?}", check_address(good));
    }
}

#[test]
fn what_could_break_the_envelope_is_refused() {
    for bad in [
        "",
        "user",
        "@example.org",
        "user@",
        "a b@example.org",
        "<a@example.org>",
        "a@example.org>",
        "a@b@example.org",
        ".a@example.org",
        "a..b@example.org",
        "a.@example.org",
        "a,b@example.org",
        "a@exam ple.org",
        "a@-x.example",
        "a@example..org",
        "a@example.org.",
        "a@exa_mple.org",
        "a@[300.1.1.1]",
        "\"a@example.org",
        "\"a\"b\"@example.org",
        "\"a\\\"@example.org",
        "a\r\nRCPT TO:<x@y.example>@example.org",
        "a\0@example.org",
        "\"a\nb\"@example.org",
        "a@xn--.example",
    ] {
        assert!(check_address(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn lengths_are_bounded() {
    let domain = ["a".repeat(60).as_str(); 3].join(".");
    assert!(check_address(&format!("{}@example.org", "l".repeat(64))).is_ok());
    assert_eq!(
        check_address(&format!("{}@example.org", "l".repeat(65))),
        Err(AddressError::LocalTooLong(65))
    );
    assert_eq!(
        check_address(&format!("{}@{domain}.{}", "l".repeat(64), "b".repeat(10))),
        Err(AddressError::TooLong(258))
    );
    assert!(check_address(&format!("a@{}.example", "b".repeat(64))).is_err());
}

#[test]
fn only_a_local_part_beyond_ascii_needs_smtputf8() -> Result<(), AddressError> {
    let domain_only = check_address("user@bücher.example")?;
    assert!(!domain_only.needs_smtputf8());
    assert_eq!(domain_only.domain_ascii(), "xn--bcher-kva.example");
    assert_eq!(domain_only.to_ascii().as_deref(), Some("user@xn--bcher-kva.example"));
    let local = check_address("jörg@example.org")?;
    assert!(local.needs_smtputf8());
    assert_eq!(local.to_ascii(), None);
    Ok(())
}

#[test]
fn xtext_and_orcpt_follow_rfc_3461_and_6533() -> Result<(), AddressError> {
    assert_eq!(xtext("a+b=c d"), "a+2Bb+3Dc+20d");
    assert_eq!(orcpt(&check_address("a+b@example.org")?), "rfc822;a+2Bb@example.org");
    assert_eq!(orcpt(&check_address("jörg@example.org")?), "utf-8;j\\x{F6}rg@example.org");
    Ok(())
}

proptest! {
    #[test]
    fn what_passes_fits_between_angle_brackets(text in "\\PC{0,12}[@\"<>\r\n .a-z]{0,12}@[a-z.]{1,10}") {
        if let Ok(address) = check_address(&text) {
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert!(address.domain_ascii().is_ascii());
            if !text.starts_with('"') {
                prop_assert!(!text.contains(['<', '>', ' ', ',', '"']));
            }
        }
    }

    #[test]
    fn xtext_is_printable_and_reversible(text in "\\PC{0,40}") {
        let coded = xtext(&text);
        prop_assert!(coded.bytes().all(|b| b.is_ascii_graphic() && b != b'='));
        let mut back = Vec::new();
        let mut rest = coded.as_bytes();
        while let Some((&b, tail)) = rest.split_first() {
            if b == b'+' {
                let hex = std::str::from_utf8(&tail[..2]).unwrap_or("");
                back.push(u8::from_str_radix(hex, 16).unwrap_or(0));
                rest = &tail[2..];
            } else {
                back.push(b);
                rest = tail;
            }
        }
        prop_assert_eq!(back, text.into_bytes());
    }
}
