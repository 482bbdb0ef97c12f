//! The rehearsal messages, and whom they go to.
//!
//! Guarantees: no letter has a recipient twice; with `%d` in an address each letter of the sweep has one of
//! its own there. Errors: [`TuneError`], all of them before the first letter is made.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::error::TuneError;
use crate::infeed::{Rcpt, Transaction};
use crate::message::{CompileOptions, Content, RecipientView, Template, check_address};

/// Where the number goes in an address.
const PLACEHOLDER: &str = "%d";
/// A line of the filling of a generated message.
const FILLING: &str = "This line fills a rehearsal message, which nobody needs to read or to keep.\n";

/// What letters are made of.
#[derive(Debug, Clone, Default)]
pub struct LettersConfig {
    /// As `--to`.
    pub to: Vec<String>,
    /// Envelope sender; `None`: the null sender, so that nothing bounces to anybody.
    pub sender: Option<String>,
    /// Octets of a generated message, about.
    pub size_octets: usize,
    /// A finished message in place of a generated one.
    pub message: Option<PathBuf>,
    /// What stands after the @ of a Message-ID.
    pub domain: String,
    /// Microseconds since the Unix epoch: the Date.
    pub now_us: u64,
    pub recipients_per_transaction_max: usize,
}

/// Gives letters, one after the other. Shared by all steps of a sweep.
#[derive(Debug)]
pub struct Letters {
    to: Vec<String>,
    sender: String,
    template: Template,
    next: AtomicU64,
    /// Octets of the content.
    pub size_octets: u64,
}

impl Letters {
    /// Reads and checks all of it.
    ///
    /// # Errors
    /// [`TuneError::Address`], [`TuneError::TooFewAddresses`], [`TuneError::Flag`], and those of the message.
    pub fn new(config: LettersConfig) -> Result<Self, TuneError> {
        if config.to.is_empty() {
            let what = "who gets the rehearsal messages? Name an address that is yours, or one that the MTA \
                        throws away";
            return Err(TuneError::Flag { flag: "to", what: what.to_owned() });
        }
        for address in &config.to {
            check_address(&numbered(address, u64::MAX))
                .map_err(|source| TuneError::Address { address: address.clone(), source })?;
        }
        let recipients = config.recipients_per_transaction_max;
        let is_plain = |address: &String| !address.contains(PLACEHOLDER);
        let distinct: std::collections::HashSet<&String> = config.to.iter().collect();
        if distinct.len() < config.to.len() {
            let what = "the same address twice: name each once".to_owned();
            return Err(TuneError::Flag { flag: "to", what });
        }
        if config.to.len() < recipients && config.to.iter().any(is_plain) {
            return Err(TuneError::TooFewAddresses { addresses: config.to.len(), recipients });
        }
        let (raw, what) = match &config.message {
            Some(path) => {
                let read = std::fs::read(path);
                let read = read.map_err(|source| TuneError::MessageRead { path: path.clone(), source })?;
                (read, path.display().to_string())
            }
            None => (generated(&config), "the generated message".to_owned()),
        };
        let sender = config.sender.unwrap_or_default();
        let options = CompileOptions {
            merge: false,
            columns: &[],
            job: "infeed-tune",
            submitted_us: config.now_us,
            message_id_domain: &config.domain,
            verp: None,
            sender: Some(&sender),
            allow_placeholders: true,
        };
        let template = Template::compile(&raw, &options)
            .map_err(|source| TuneError::Message { what: what.clone(), source })?;
        let letters = Letters { to: config.to, sender, template, next: AtomicU64::new(0), size_octets: 0 };
        let first = letters.content(0, &letters.address(0));
        let size_octets = first.map_err(|source| TuneError::Render { what, source })?.size_octets;
        Ok(Letters { size_octets, ..letters })
    }

    /// The next letter, to so many recipients; `None` when the message can't be rendered, which the first
    /// one could.
    pub fn next(&self, recipients: usize) -> Option<Transaction> {
        let first = self.next.fetch_add(recipients as u64, Relaxed);
        let recipients: Vec<Rcpt> = (first..first + recipients as u64)
            .map(|token| Rcpt { token, address: self.address(token) })
            .collect();
        let content = self.content(first, &recipients.first()?.address).ok()?;
        Some(Transaction {
            sender: self.sender.clone(),
            xverp: None,
            recipients,
            content,
            dsn: None,
            // a 5xx to it stops the sweep in any case
            shared_content: false,
        })
    }

    /// Recipients that letters were made for.
    pub fn count(&self) -> u64 {
        self.next.load(Relaxed)
    }

    fn address(&self, n: u64) -> String {
        let pattern = &self.to[(n % self.to.len() as u64) as usize];
        numbered(pattern, n + 1)
    }

    fn content(&self, ordinal: u64, address: &str) -> Result<Content, crate::message::RenderError> {
        if let Some(content) = self.template.shared_content() {
            return Ok(content.clone());
        }
        let recipient = RecipientView { ordinal, address, values: &[] };
        Ok(self.template.render(&recipient)?.content)
    }
}

fn numbered(pattern: &str, n: u64) -> String {
    pattern.replace(PLACEHOLDER, &n.to_string())
}

fn generated(config: &LettersConfig) -> Vec<u8> {
    let from = match config.sender.as_deref() {
        Some(sender) if !sender.is_empty() => sender.to_owned(),
        _ => config.to.first().map(|to| numbered(to, 0)).unwrap_or_default(),
    };
    let mut text = format!(
        "From: <{from}>\nTo: undisclosed-recipients:;\nSubject: infeed tune: a rehearsal message\n\
         Auto-Submitted: auto-generated\nPrecedence: bulk\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=us-ascii\n\n"
    );
    while text.len() < config.size_octets {
        text.push_str(FILLING);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(to: &[&str], recipients: usize) -> LettersConfig {
        LettersConfig {
            to: to.iter().map(|&to| to.to_owned()).collect(),
            size_octets: 4096,
            domain: "me.example".to_owned(),
            recipients_per_transaction_max: recipients,
            ..LettersConfig::default()
        }
    }

    #[test]
    fn no_letter_has_a_recipient_twice_and_numbers_are_never_used_again() {
        let letters = Letters::new(config(&["a+%d@x.example", "b%d@y.example"], 5)).expect("letters");
        let mut seen = std::collections::HashSet::new();
        for _ in 0..50 {
            for rcpt in letters.next(5).expect("a letter").recipients {
                assert!(seen.insert(rcpt.address.clone()), "{} again", rcpt.address);
            }
        }
        assert_eq!(letters.count(), 250);
        let error = Letters::new(config(&["a@x.example", "b@y.example"], 3)).expect_err("too few");
        assert!(error.to_string().contains("%d"), "{error}");
        Letters::new(config(&["a@x.example", "b@y.example"], 2)).expect("enough");
    }

    #[test]
    fn a_generated_letter_has_about_the_size_that_was_asked_for_and_a_null_sender() {
        for size in [1_000, 4_096, 100_000] {
            let letters = LettersConfig { size_octets: size, ..config(&["a@x.example"], 1) };
            let letters = Letters::new(letters).expect("letters");
            // what is added: CR, Date, Message-ID
            let octets = letters.size_octets as usize;
            assert!((size..size + size / 50 + 400).contains(&octets), "{octets} of {size}");
            assert_eq!(letters.next(1).expect("a letter").sender, "");
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        for bad in ["rehearsal", "a@", "a b@x.example", "%d"] {
            let error = Letters::new(config(&[bad], 1)).expect_err(bad).to_string();
            assert!(error.contains(bad), "{error}");
        }
        let twice = Letters::new(config(&["a@x.example", "a@x.example"], 1)).expect_err("twice");
        assert!(twice.to_string().starts_with("--to"), "{twice}");
        assert!(Letters::new(config(&[], 1)).is_err());
    }
}
