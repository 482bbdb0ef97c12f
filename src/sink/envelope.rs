//! The envelope of the transaction in hand, held as ready JSON so that a ledger line is a copy.

use super::conduct::Conduct;
use super::parameters::Parameters;

/// Sender and accepted recipients. Its buffers are used again for the next transaction.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    open: bool,
    /// `"sender":"…"` and, where given, `,"mail_parameters":{…}`.
    sender_json: Vec<u8>,
    /// `"recipient":"…"` and, where given, `,"rcpt_parameters":{…}`, one after the other.
    recipients_json: Vec<u8>,
    ends: Vec<usize>,
    pub recipients: u64,
    pub rcpt_commands: u64,
    pub smtputf8: bool,
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
        (self.recipients, self.rcpt_commands, self.smtputf8) = (0, 0, false);
    }

    /// MAIL was accepted. `keep`: a ledger wants the text.
    pub fn open(&mut self, sender: &str, parameters: Parameters<'_>, smtputf8: bool, keep: bool) {
        assert!(!self.open, "a transaction is open already");
        self.open = true;
        self.smtputf8 = smtputf8;
        if keep {
            pairs(&mut self.sender_json, "sender", sender, "mail_parameters", parameters);
        }
    }

    /// RCPT was accepted.
    pub fn add(&mut self, recipient: &str, parameters: Parameters<'_>, conduct: Option<Conduct>, keep: bool) {
        self.recipients += 1;
        if let Some(conduct) = conduct {
            self.conducts.push((recipient.to_owned(), conduct));
        }
        if keep {
            pairs(&mut self.recipients_json, "recipient", recipient, "rcpt_parameters", parameters);
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

fn pairs(out: &mut Vec<u8>, name: &str, address: &str, parameters_name: &str, parameters: Parameters<'_>) {
    json_string(out, name);
    out.push(b':');
    json_string(out, address);
    let mut separator = b'{';
    for (key, value) in parameters.iter() {
        if separator == b'{' {
            out.push(b',');
            json_string(out, parameters_name);
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
