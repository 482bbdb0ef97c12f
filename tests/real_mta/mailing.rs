//! A mailing: message, recipients, what is due to happen to each, and what each must get.

use std::collections::HashMap;
use std::path::PathBuf;

use infeed::message::{CompileOptions, RecipientView, Template};
use infeed::spool::{DirSpool, JobId, Settings};
use sha1::{Digest, Sha1};

use crate::common::desk::Desk;

/// Sent to all alike: 8-bit text, lines with dots.
const SHARED: &str = "From: The Towpath Letter <letter@letters.example>\r\n\
    To: Our readers <readers@letters.example>\r\n\
    Subject: The towpath is open\r\n\
    List-Id: The Towpath Letter <towpath.letters.example>\r\n\
    MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\
    \r\n\
    Dear readers,\r\n\
    .\r\n\
    spring is back on the Löwenbach\r\n\
    ... and so are the kingfishers.\r\n";

/// A recipient with its merge columns.
#[derive(Debug, Clone)]
pub struct Person {
    pub address: String,
    values: [String; 4],
}

const COLUMNS: [&str; 5] = ["email", "first_name", "city", "plan", "unsubscribe_token"];

#[derive(Debug, Clone)]
pub struct Mailing {
    message: Vec<u8>,
    merge: bool,
    pub people: Vec<Person>,
}

/// What of a message is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Content,
    /// What follows the first empty line: MTAs add headers.
    Body,
}

impl Mailing {
    /// `examples/newsletter.eml`, merged.
    pub fn newsletter(recipients: usize) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/newsletter.eml");
        let message = std::fs::read(path).expect("the example");
        Mailing { message, merge: true, people: people(recipients) }
    }

    /// One content for all.
    pub fn shared(recipients: usize) -> Self {
        Mailing { message: SHARED.into(), merge: false, people: people(recipients) }
    }

    /// The sink has other names for those that are deferred at first, and nobody is for good.
    pub fn for_the_sink(mut self) -> Self {
        for person in &mut self.people {
            person.address = person.address.replace("wait-", "defer-").replace("defer-451.", "ordinary.");
        }
        self
    }

    /// Submits it from files.
    pub fn submit(&self, desk: &Desk) -> String {
        let mut list = csv::Writer::from_writer(Vec::new());
        list.write_record(COLUMNS).expect("a line in memory");
        for person in &self.people {
            let row = std::iter::once(&person.address).chain(&person.values);
            list.write_record(row).expect("a line in memory");
        }
        let list = list.into_inner().expect("a list in memory");
        let (message, list) = (desk.file("message.eml", &self.message), desk.file("list.csv", list));
        desk.submit(&message, &list, if self.merge { &["--merge"] } else { &[] })
    }

    /// The SHA-1, in hex, of what each recipient must get, by address.
    pub fn expected(&self, desk: &Desk, job: &str, part: Part) -> HashMap<String, String> {
        let spool = DirSpool::open(&desk.spool(), Settings::default()).expect("the spool");
        let job: JobId = job.parse().expect("a job's id");
        let meta = spool.view(&job).expect("the job").meta;
        let template = Template::compile(
            &self.message,
            &CompileOptions {
                merge: self.merge,
                columns: &meta.columns,
                job: &meta.id,
                submitted_us: meta.submitted_us,
                message_id_domain: "letters.example",
                verp: None,
                sender: None,
                allow_placeholders: false,
            },
        )
        .expect("the message compiles");
        let mut hashes = HashMap::new();
        for (ordinal, person) in self.people.iter().enumerate() {
            let value = |column: &String| match COLUMNS.iter().position(|name| name == column) {
                Some(0) => person.address.as_str(),
                Some(at) => person.values[at - 1].as_str(),
                None => panic!("a column that nobody gave: {column}"),
            };
            let values: Vec<&str> = meta.columns.iter().map(value).collect();
            let recipient =
                RecipientView { ordinal: ordinal as u64, address: &person.address, values: &values };
            let rendered = template.render(&recipient).expect("everybody's message can be made");
            let content = unstuffed(&rendered.content.wire);
            let from = match part {
                Part::Content => 0,
                Part::Body => body_start(&content),
            };
            hashes.insert(person.address.clone(), hex(&Sha1::digest(&content[from..])));
        }
        let different = hashes.values().collect::<std::collections::HashSet<_>>().len();
        assert_eq!(different, if self.merge { self.people.len() } else { 1 });
        hashes
    }
}

/// People of 23 domains; in a hundred of them, two are refused, two are deferred once or twice by the MTA,
/// and in two hundred one is deferred for good.
fn people(n: usize) -> Vec<Person> {
    let names = ["Vera", "Ελένη", "Jürgen", "O'Brien", "", "<b>Bob</b>", "=?utf-8?q?x?=", "Zoë \"Zo\""];
    let cities = ["São Paulo", "", "Dublin", "St. Gallen", ".", "København"];
    let person = |i: usize| {
        let local = match i % 200 {
            7 | 33 | 71 | 107 => format!("refuse-550.{i}"),
            13 | 88 => format!("wait-451-1x.{i}"),
            113 | 150 => format!("wait-451-2x.{i}"),
            42 => format!("defer-451.{i}"),
            _ => format!("reader{i}"),
        };
        Person {
            address: format!("{local}@d{}.example", i % 23),
            values: [
                names[i % names.len()].to_owned(),
                cities[i % cities.len()].to_owned(),
                ["member", "basic", "Member"][i % 3].to_owned(),
                format!("{:016x}", (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            ],
        }
    };
    (0..n).map(person).collect()
}

pub fn is_deferred_for_good(address: &str) -> bool {
    address.starts_with("defer-451.")
}

/// Outcome, reply code, and the least and most attempts that an address asks for.
pub fn due_outcome(address: &str) -> (&'static str, u16, u32, u32) {
    let times = |prefix: &str| -> Option<u32> {
        let rest = address.strip_prefix(prefix)?;
        rest.split_once('x')?.0.parse().ok()
    };
    if address.starts_with("refuse-550") {
        ("refused", 550, 1, 1)
    } else if is_deferred_for_good(address) {
        ("deferred", 451, 2, u32::MAX)
    } else if let Some(times) = times("wait-451-").or_else(|| times("defer-451-")) {
        ("accepted", 250, 1 + times, 1 + times)
    } else {
        ("accepted", 250, 1, 1)
    }
}

/// Without the dots that were doubled for the wire (RFC 5321 §4.5.2).
fn unstuffed(wire: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(wire.len());
    for line in wire.split_inclusive(|&octet| octet == b'\n') {
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    content
}

/// Where the body begins.
fn body_start(content: &[u8]) -> usize {
    let empty_line = content.windows(4).position(|octets| octets == b"\r\n\r\n");
    empty_line.map_or(content.len(), |at| at + 4)
}

pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
