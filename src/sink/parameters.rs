//! MAIL and RCPT parameters (RFC 5321 §4.1.2; 1870, 3461, 6152, 6531; Postfix's XVERP): checked against what is offered.

use super::command::Complaint;
use super::settings::Offers;

/// The parameters of one command, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameters<'a>(&'a str);

/// What the session needs to know of checked MAIL parameters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    pub size_octets: Option<u64>,
    pub smtputf8: bool,
    /// XVERP's delimiters.
    pub verp: Option<[u8; 2]>,
}

/// Which command the parameters belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Mail,
    Rcpt,
}

const UNSUPPORTED: Complaint = Complaint::new(555, "5.5.4", "Unsupported option");
const MALFORMED: Complaint = Complaint::new(501, "5.5.4", "Bad parameter value");
const VERP_DELIMITERS: Complaint = Complaint::new(501, "5.5.4", "Error: XVERP needs two characters from -=+");
const TWICE: Complaint = Complaint::new(501, "5.5.4", "Parameter given twice");

impl<'a> Parameters<'a> {
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Name and value of each, in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.0.split(' ').filter(|p| !p.is_empty()).map(|p| match p.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (p, None),
        })
    }

    /// Refuses what is not offered (555), malformed or given twice (501). `offers` is `None` after HELO,
    /// where nothing was offered.
    pub fn check(self, of: Of, offers: Option<&Offers>) -> Result<Declared, Complaint> {
        let mut declared = Declared::default();
        for (i, (name, value)) in self.iter().enumerate() {
            if self.iter().take(i).any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
                return Err(TWICE);
            }
            let offers = offers.ok_or(UNSUPPORTED)?;
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let (offered, fine) = match of {
                Of::Mail if is("SIZE") => {
                    let digits = value.filter(|v| v.len() <= 20 && v.bytes().all(|b| b.is_ascii_digit()));
                    declared.size_octets = digits.and_then(|v| v.parse().ok());
                    (offers.size, declared.size_octets.is_some())
                }
                Of::Mail if is("BODY") => (offers.eight_bit_mime, one_of(value, &["7BIT", "8BITMIME"])),
                Of::Mail if is("SMTPUTF8") => {
                    declared.smtputf8 = true;
                    (offers.smtputf8, value.is_none())
                }
                Of::Mail if is("RET") => (offers.dsn, one_of(value, &["FULL", "HDRS"])),
                Of::Mail if is("ENVID") => (offers.dsn, value.is_some_and(|v| v.len() <= 100 && is_xtext(v))),
                Of::Mail if is("XVERP") => {
                    declared.verp = value.map_or(Some(*b"+="), verp_delimiters);
                    if offers.xverp && declared.verp.is_none() {
                        return Err(VERP_DELIMITERS);
                    }
                    (offers.xverp, true)
                }
                Of::Rcpt if is("NOTIFY") => (offers.dsn, value.is_some_and(is_notify)),
                Of::Rcpt if is("ORCPT") => (offers.dsn, value.is_some_and(is_orcpt)),
                _ => (false, false),
            };
            if !offered {
                return Err(UNSUPPORTED);
            }
            if !fine {
                return Err(MALFORMED);
            }
        }
        Ok(declared)
    }
}

fn one_of(value: Option<&str>, known: &[&str]) -> bool {
    value.is_some_and(|v| known.iter().any(|k| v.eq_ignore_ascii_case(k)))
}

/// Postfix's `verp_delimiter_filter` lets these three through.
fn verp_delimiters(value: &str) -> Option<[u8; 2]> {
    let pair: [u8; 2] = value.as_bytes().try_into().ok()?;
    pair.iter().all(|octet| b"-=+".contains(octet)).then_some(pair)
}

fn is_notify(value: &str) -> bool {
    value.eq_ignore_ascii_case("NEVER")
        || value.split(',').all(|when| one_of(Some(when), &["SUCCESS", "FAILURE", "DELAY"]))
}

/// `rfc822;xtext`, or RFC 6533's `utf-8;…`, whose value may hold raw UTF-8.
fn is_orcpt(value: &str) -> bool {
    value.split_once(';').is_some_and(|(kind, address)| {
        !kind.is_empty() && !address.is_empty() && (kind.eq_ignore_ascii_case("utf-8") || is_xtext(address))
    })
}

/// RFC 3461 §4: printable ASCII without `+` and `=`, or `+` and two upper-case hexadecimal digits.
fn is_xtext(value: &str) -> bool {
    let mut octets = value.bytes();
    while let Some(octet) = octets.next() {
        let hex = |d: Option<u8>| d.is_some_and(|d| d.is_ascii_digit() || (b'A'..=b'F').contains(&d));
        let fine = match octet {
            b'+' => hex(octets.next()) && hex(octets.next()),
            _ => (b'!'..=b'~').contains(&octet) && octet != b'=',
        };
        if !fine {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::settings::{Behaviour, Extension, Settings};

    fn offers(without: &[Extension]) -> Offers {
        Behaviour::from(&Settings { without: Some(without.to_vec()), ..Default::default() }).offers
    }

    fn code(of: Of, text: &str, offers: Option<&Offers>) -> u16 {
        Parameters::new(text).check(of, offers).map_or_else(|c| c.code, |_| 250)
    }

    #[test]
    fn what_is_offered_is_taken() {
        let all = offers(&[]);
        let mail = "SIZE=1000 body=8bitmime SMTPUTF8 RET=HDRS ENVID=a+2Bb";
        let declared = Parameters::new(mail).check(Of::Mail, Some(&all)).unwrap();
        assert_eq!(declared, Declared { size_octets: Some(1000), smtputf8: true, verp: None });
        assert_eq!(code(Of::Rcpt, "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@c", Some(&all)), 250);
    }

    #[test]
    fn what_is_not_offered_is_refused_with_555() {
        let none = offers(&[
            Extension::Size,
            Extension::Dsn,
            Extension::Smtputf8,
            Extension::EightBitMime,
            Extension::Xverp,
        ]);
        let known =
            ["SIZE=1", "BODY=7BIT", "SMTPUTF8", "RET=FULL", "ENVID=x", "XVERP", "XVERP=x", "NOTIFY=NEVER"];
        for text in known {
            assert_eq!(code(Of::Mail, text, Some(&none)), 555, "{text}");
            assert_eq!(code(Of::Mail, text, None), 555, "{text} after HELO");
        }
        assert_eq!(code(Of::Rcpt, "XVERP", Some(&offers(&[]))), 555);
        assert_eq!(code(Of::Mail, "NOTIFY=NEVER", Some(&offers(&[]))), 555);
        assert_eq!(code(Of::Rcpt, "SIZE=1", Some(&offers(&[]))), 555);
    }

    #[test]
    fn xverp_brings_its_delimiters_or_has_postfixs() {
        let verp = |text| Parameters::new(text).check(Of::Mail, Some(&offers(&[]))).map(|d| d.verp);
        assert_eq!(verp("XVERP"), Ok(Some(*b"+=")));
        assert_eq!(verp("xverp=-="), Ok(Some(*b"-=")));
        assert_eq!(verp("XVERP=++"), Ok(Some(*b"++")));
        for bad in ["XVERP=", "XVERP=+", "XVERP=+=-", "XVERP=#=", "XVERP=ab"] {
            assert_eq!(verp(bad), Err(VERP_DELIMITERS), "{bad}");
        }
    }

    #[test]
    fn bad_values_and_repetitions_are_refused_with_501() {
        let all = offers(&[]);
        for text in [
            "SIZE=",
            "SIZE",
            "SIZE=-1",
            "BODY=BINARYMIME",
            "SMTPUTF8=1",
            "RET=SOME",
            "ENVID=a+b",
            "SIZE=1 size=2",
        ] {
            assert_eq!(code(Of::Mail, text, Some(&all)), 501, "{text}");
        }
        for text in ["NOTIFY=NEVER,DELAY", "NOTIFY=", "ORCPT=a@b", "ORCPT=rfc822;a=b"] {
            assert_eq!(code(Of::Rcpt, text, Some(&all)), 501, "{text}");
        }
    }
}
