//! From a transaction to the commands MAIL, RCPT… and DATA or BDAT on the wire.
//!
//! Guarantees: no address or parameter ever brings a CR, LF, or other control octet onto the wire, nor
//! ends its angle brackets early. What the MTA does not offer is not used: a recipient that would need
//! it is refused with that reason, content that would need it is the job's fault. Pure: no I/O.

use std::borrow::Cow;

use super::lent::Lent;
use super::transaction::{Capabilities, JobFault, RcptResult, Said, Stage, Transaction, Work};

/// Octets an address may have on the wire: a command line (RFC 5321 §4.5.3.1.4) with its parameters
/// stays within what MTAs take.
pub const PATH_OCTETS_MAX: usize = 512;

/// Commands in wire form; reused from transaction to transaction.
#[derive(Debug, Default)]
pub struct Commands {
    pub octets: Vec<u8>,
    /// Where each command ends: MAIL, one RCPT for each live recipient, DATA or BDAT.
    pub ends: Vec<usize>,
}

/// What announces the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Data,
    /// BDAT with the last and only chunk, of so many octets (RFC 3030).
    Bdat {
        octets: usize,
    },
}

impl Commands {
    pub fn clear(&mut self) {
        self.octets.clear();
        self.ends.clear();
    }

    /// Before the MAIL that follows a transaction whose end isn't known to have reset the MTA.
    pub fn reset(&mut self) {
        self.line(&[b"RSET"]);
        self.end();
    }

    fn line(&mut self, parts: &[&[u8]]) {
        for part in parts {
            // a fold, which the compiler does for many octets at a time
            let is_control = part.iter().fold(false, |found, b| found | (*b < b' ') | (*b == 127));
            assert!(!is_control, "no control octet in a command");
            self.octets.extend_from_slice(part);
        }
    }

    fn end(&mut self) {
        self.octets.extend_from_slice(b"\r\n");
        self.ends.push(self.octets.len());
    }
}

/// Settles in `lent` what can't be sent to this MTA, and appends the commands for the rest. `false`:
/// nothing is left to send, and nothing was appended.
pub fn encode<W: Work>(
    lent: &mut Lent<W>,
    capabilities: &Capabilities,
    recipients_max: usize,
    out: &mut Commands,
    ending: Ending,
) -> bool {
    if let Some(unfit) = unfit(lent.transaction(), capabilities) {
        match unfit {
            Unfit::Job(fault) => lent.fault(fault),
            Unfit::Refused(said) => lent.decide(Stage::Mail, super::verdict::Fate::Refused, &said),
        }
        return false;
    }
    let start = (out.octets.len(), out.ends.len());
    if lent.transaction().xverp.is_some() && !capabilities.xverp {
        // Made for a session that offered it: whoever made it knows another way.
        lent.not_tried();
        return false;
    }
    if let Err(said) = mail(lent.transaction(), capabilities, out) {
        let said = Said { text: format!("the envelope sender: {}", said.text), ..said };
        lent.fault(JobFault { stage: Stage::Mail, said });
        return false;
    }
    let rcpts = rcpts(lent, capabilities, recipients_max, out);
    if rcpts == 0 {
        out.octets.truncate(start.0);
        out.ends.truncate(start.1);
        return false;
    }
    lent.rcpts_sent = rcpts;
    match ending {
        Ending::Data => out.line(&[b"DATA"]),
        Ending::Bdat { octets } => {
            let mut digits = [0; 20];
            out.line(&[b"BDAT ", decimal(octets as u64, &mut digits), b" LAST"]);
        }
    }
    out.end();
    assert_eq!(out.ends.len(), start.1 + rcpts + 2, "MAIL, an RCPT each, DATA or BDAT");
    true
}

/// MAIL with its parameters; nothing is appended on an error.
fn mail(transaction: &Transaction, capabilities: &Capabilities, out: &mut Commands) -> Result<(), Said> {
    let sender = wire_address(&transaction.sender, capabilities.smtputf8)?;
    let content = &transaction.content;
    out.line(&[b"MAIL FROM:<", sender.as_bytes(), b">"]);
    if capabilities.size.is_some() {
        let mut digits = [0; 20];
        out.line(&[b" SIZE=", decimal(content.size_octets, &mut digits)]);
    }
    if content.eight_bit && capabilities.eight_bit_mime {
        out.line(&[b" BODY=8BITMIME"]);
    }
    let utf8_local = |address: &str| {
        !address.is_ascii() && !address.rsplit_once('@').map_or(address, |(local, _)| local).is_ascii()
    };
    let utf8 = content.utf8_headers
        || !sender.is_ascii()
        || transaction.recipients.iter().any(|rcpt| utf8_local(&rcpt.address));
    if utf8 && capabilities.smtputf8 {
        out.line(&[b" SMTPUTF8"]);
    }
    if let Some(delimiters) = &transaction.xverp {
        assert!(!sender.is_empty() && delimiters.iter().all(u8::is_ascii_graphic), "XVERP={delimiters:?}");
        out.line(&[b" XVERP=", delimiters]);
    }
    if let Some(dsn) = transaction.dsn.as_ref().filter(|_| capabilities.dsn) {
        for (name, value) in [(" RET=", &dsn.ret), (" ENVID=", &dsn.envid)] {
            if let Some(value) = value {
                out.line(&[name.as_bytes(), parameter(value)]);
            }
        }
    }
    out.end();
    Ok(())
}

/// An RCPT for each recipient that can have one, the others settled; how many there are.
fn rcpts<W: Work>(
    lent: &mut Lent<W>,
    capabilities: &Capabilities,
    recipients_max: usize,
    out: &mut Commands,
) -> usize {
    let mut count = 0;
    let mut next = lent.next_live(0);
    while let Some(i) = next {
        next = lent.next_live(i + 1);
        if count >= recipients_max {
            lent.set(i, RcptResult::NotTried);
            continue;
        }
        let transaction = lent.transaction();
        let address = match wire_address(&transaction.recipients[i].address, capabilities.smtputf8) {
            Ok(address) if !address.is_empty() => address,
            Ok(_) => {
                lent.set(i, refused(said(553, "5.1.3 the address is empty (not sent)")));
                continue;
            }
            Err(said) => {
                lent.set(i, refused(said));
                continue;
            }
        };
        out.line(&[b"RCPT TO:<", address.as_bytes(), b">"]);
        if let Some(dsn) = transaction.dsn.as_ref().filter(|_| capabilities.dsn) {
            if let Some(notify) = &dsn.notify {
                out.line(&[b" NOTIFY=", parameter(notify)]);
            }
            // A non-ASCII ORCPT has a type of its own (RFC 6533), which MTAs hardly know.
            if address.is_ascii() {
                out.octets.extend_from_slice(b" ORCPT=rfc822;");
                xtext(address.as_bytes(), &mut out.octets);
            }
        }
        out.end();
        count += 1;
    }
    count
}

fn refused(said: Said) -> RcptResult {
    RcptResult::Refused { stage: Stage::Rcpt, said }
}

fn said(code: u16, text: impl Into<String>) -> Said {
    Said { code, text: text.into() }
}

enum Unfit {
    Job(JobFault),
    Refused(Said),
}

/// Why the content can't go to this MTA at all.
fn unfit(transaction: &Transaction, capabilities: &Capabilities) -> Option<Unfit> {
    let content = &transaction.content;
    let job = |code, text: &str| Some(Unfit::Job(JobFault { stage: Stage::Mail, said: said(code, text) }));
    if content.eight_bit && !capabilities.eight_bit_mime {
        return job(
            554,
            "5.6.3 the content has octets above 127 and the MTA does not offer 8BITMIME (not sent): \
             use another MTA, or encode the content as quoted-printable or base64",
        );
    }
    if content.utf8_headers && !capabilities.smtputf8 {
        return job(
            554,
            "5.6.7 a header holds raw UTF-8 and the MTA does not offer SMTPUTF8 (not sent): \
             use another MTA, or encode the header as in RFC 2047",
        );
    }
    let size_max = capabilities.size.filter(|&max| max > 0 && content.size_octets > max)?;
    let text = format!(
        "5.3.4 the content has {} octets and the MTA takes {size_max} (SIZE; not sent): raise its limit or \
         shorten the message",
        content.size_octets
    );
    Some(if transaction.shared_content {
        Unfit::Job(JobFault { stage: Stage::Mail, said: said(552, text) })
    } else {
        Unfit::Refused(said(552, text))
    })
}

/// The address as it goes between the angle brackets: a non-ASCII domain as A-labels where the local part
/// is ASCII, as it is where SMTPUTF8 is needed and offered. The error is the refusal, ours, not the MTA's.
fn wire_address(address: &str, smtputf8: bool) -> Result<Cow<'_, str>, Said> {
    if !well_formed(address) {
        return Err(said(
            553,
            "5.1.3 the address can't stand in a command: control octet, stray space or bracket, or too long (not sent)",
        ));
    }
    if address.is_ascii() {
        return Ok(Cow::Borrowed(address));
    }
    let Some((local, domain)) = address.rsplit_once('@') else {
        return Err(said(553, "5.1.3 the address has no domain and is not ASCII (not sent)"));
    };
    if !local.is_ascii() {
        return if smtputf8 {
            Ok(Cow::Borrowed(address))
        } else {
            Err(said(553, "5.6.7 the address needs SMTPUTF8, which the MTA does not offer (not sent)"))
        };
    }
    match idna::domain_to_ascii(domain) {
        Ok(domain) if !domain.is_empty() => Ok(Cow::Owned(format!("{local}@{domain}"))),
        _ => Err(said(553, format!("5.1.2 {domain:?} is no valid internationalised domain (not sent)"))),
    }
}

/// Octets that need no look at what stands beside them: graphic, and neither quote, backslash nor bracket.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut b = b'!';
    while b <= b'~' {
        plain[b as usize] = !matches!(b, b'"' | b'\\' | b'<' | b'>');
        b += 1;
    }
    plain
};

/// No control octets; spaces and brackets only inside a quoted local part, which is closed; bounded.
fn well_formed(address: &str) -> bool {
    // most are plain: octets, no characters
    if address.bytes().all(|b| PLAIN[usize::from(b)]) {
        return address.len() <= PATH_OCTETS_MAX;
    }
    let (mut quoted, mut escaped) = (false, false);
    for c in address.chars() {
        if c.is_control() {
            return false;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '<' | '>' if !quoted => return false,
            _ => (),
        }
    }
    !quoted && address.len() <= PATH_OCTETS_MAX
}

/// A DSN parameter, checked where it came in: a space here would be another parameter.
fn parameter(value: &str) -> &[u8] {
    assert!(value.bytes().all(|b| (33..127).contains(&b)), "a DSN parameter is printable ASCII: {value:?}");
    value.as_bytes()
}

/// RFC 3461 §4.
fn xtext(octets: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in octets {
        match b {
            b'+' | b'=' | ..=32 | 127.. => {
                out.extend_from_slice(&[b'+', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
            _ => out.push(b),
        }
    }
}

fn decimal(mut n: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
