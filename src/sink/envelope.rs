//! The envelope of the transaction in hand, held as ready JSON so that a ledger line is a copy.

use super::conduct::Conduct;
use super::parameters::{Declared, Parameters};

/// Sender and accepted recipients. Its buffers are used again for the next transaction.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    open: bool,
    /// `"sender":"…"` and, where given, `,"mail_parameters":{…}`; with XVERP the latter alone.
    sender_json: Vec<u8>,
    /// XVERP was asked for: the sender as given, and the delimiters.
    verp: Option<(String, [u8; 2])>,
    /// `"recipient":"…"` and, where given, `,"rcpt_parameters":{…}`, one after the other; with XVERP each
    /// has its `"sender":"…",` before it.
    recipients_json: Vec<u8>,
    ends: Vec<usize>,
    pub recipients: u64,
    pub rcpt_commands: u64,
    pub smtputf8: bool,
    /// Content has begun, by BDAT.
    pub chunked: bool,
    /// Accepted recipients whose address asks for something later than RCPT; seldom any.
    pub conducts: Vec<(String, Conduct)>,
}

impl Envelope {
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Back to no transaction; keeps the buffers.
    pub fn clear(&mut self) {
        self.open = false;
        self.sender_json.clear();
        self.recipients_json.clear();
        self.ends.clear();
        self.conducts.clear();
        self.verp = None;
        (self.recipients, self.rcpt_commands, self.smtputf8, self.chunked) = (0, 0, false, false);
    }

    /// MAIL was accepted. `keep`: a ledger wants the text.
    pub fn open(&mut self, sender: &str, parameters: Parameters<'_>, declared: &Declared, keep: bool) {
        assert!(!self.open, "a transaction is open already");
        self.open = true;
        self.smtputf8 = declared.smtputf8;
        if !keep {
            return;
        }
        self.verp = declared.verp.map(|delimiters| (sender.to_owned(), delimiters));
        if self.verp.is_none() {
            member(&mut self.sender_json, "sender", sender);
        }
        object(&mut self.sender_json, "mail_parameters", parameters);
    }

    /// RCPT was accepted.
    pub fn add(&mut self, recipient: &str, parameters: Parameters<'_>, conduct: Option<Conduct>, keep: bool) {
        self.recipients += 1;
        if let Some(conduct) = conduct {
            self.conducts.push((recipient.to_owned(), conduct));
        }
        if keep {
            let out = &mut self.recipients_json;
            if let Some((sender, delimiters)) = &self.verp {
                member(out, "sender", &verp_sender(sender, *delimiters, recipient));
                out.push(b',');
            }
            member(out, "recipient", recipient);
            object(out, "rcpt_parameters", parameters);
            self.ends.push(self.recipients_json.len());
        }
    }

    /// JSON members of the sender.
    pub fn sender_json(&self) -> &[u8] {
        &self.sender_json
    }

    /// JSON members of each recipient, in order; none unless they are kept.
    pub fn recipients_json(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.recipients_json[start..*end])
    }
}

/// The sender that this recipient's copy gets, as Postfix's VERP_README has it: `list@host` and
/// `user@domain` become `list+user=domain@host`. Both addresses as they were written.
fn verp_sender(sender: &str, [first, second]: [u8; 2], recipient: &str) -> String {
    let (list, host) = sender.rsplit_once('@').unwrap_or((sender, ""));
    let mut made = format!("{list}{}", char::from(first));
    match recipient.rsplit_once('@') {
        Some((user, domain)) => {
            made.push_str(user);
            made.push(char::from(second));
            made.push_str(domain);
        }
        None => made.push_str(recipient),
    }
    if !host.is_empty() {
        made.push('@');
        made.push_str(host);
    }
    made
}

fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    json_string(out, name);
    out.push(b':');
    json_string(out, value);
}

/// `"name":{…}` of the parameters; nothing where there are none. After what stands there, with a comma.
fn object(out: &mut Vec<u8>, name: &str, parameters: Parameters<'_>) {
    let mut separator = b'{';
    for (key, value) in parameters.iter() {
        if separator == b'{' {
            if !out.is_empty() {
                out.push(b',');
            }
            json_string(out, name);
            out.push(b':');
        }
        out.push(separator);
        json_string(out, &key.to_ascii_uppercase());
        out.push(b':');
        match value {
            Some(value) => json_string(out, value),
            None => out.extend_from_slice(b"null"),
        }
        separator = b',';
    }
    if separator == b',' {
        out.push(b'}');
    }
}

/// Adds `text` as a JSON string, quotes included.
pub(super) fn json_string(out: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(out, text);
    assert!(written.is_ok(), "writing a string to memory can't fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recipients_sender_is_made_as_postfix_makes_it() {
        for (sender, delimiters, recipient, want) in [
            ("list@a.example", b"+=", "user@b.example", "list+user=b.example@a.example"),
            ("list-0@a.example", b"-=", "u-x+y@b.example", "list-0-u-x+y=b.example@a.example"),
            ("list@a.example", b"++", "x@y@b.example", "list+x@y+b.example@a.example"),
            ("list@a.example", b"+=", "postmaster", "list+postmaster@a.example"),
        ] {
            assert_eq!(verp_sender(sender, *delimiters, recipient), want);
        }
    }
}
