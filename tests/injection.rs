//! What an attacker may put into a list, and what becomes of it: each trick in each place, submitted and
//! drained into the sink as an operator would, and what arrived is read as a mail program reads it.
//!
//! The tables of docs/injection.md are what these tests saw; `INFEED_UPDATE_DOCS=1` writes them anew. Beside
//! what a table says of it, whatever arrived must have the headers, parts and recipients of its template.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use common::desk::Desk;
use common::sink::SinkProcess;
use infeed::message::check_address;
use mail_parser::{MessageParser, MimeHeaders, PartType};

/// Each trick with the name that the table gives it.
fn tricks() -> Vec<(&'static str, String)> {
    let all: [(&str, &str); 27] = [
        ("CR", "a\rBcc: v@w.example"),
        ("LF", "a\nBcc: v@w.example"),
        ("CRLF, a header", "a\r\nBcc: v@w.example"),
        ("CRLF, a body", "a\r\n\r\nbody"),
        ("CRLF, folded", "a\r\n\tb"),
        ("CRLF, the end of DATA", "a\r\n.\r\nMAIL FROM:<v@w.example>"),
        ("LF, half an end of DATA", "a\n.\nMAIL FROM:<v@w.example>"),
        ("NUL", "a\0b"),
        ("TAB", "a\tb"),
        ("angle brackets", "a <v@w.example>"),
        ("closing bracket", "a>, <v@w.example"),
        ("comma", "a, v@w.example"),
        ("double quote", "a\", \"v"),
        ("backslash", "a\\"),
        ("comment", "a (v@w.example"),
        ("source route", "<@a,@b:c@d.example>"),
        ("`%00`", "a%00b"),
        ("`%0d%0a`", "a%0d%0aBcc: v@w.example"),
        ("encoded word", "=?utf-8?Q?a=0D=0ABcc:_v@w.example?="),
        ("homograph (Cyrillic)", "p\u{430}ypal"),
        ("U+2028 line separator", "a\u{2028}Bcc: v@w.example"),
        ("U+0085 next line", "a\u{85}Bcc: v@w.example"),
        ("U+202E right to left", "a\u{202e}b"),
        ("template mark", "{{ 7 * 7 }}"),
        ("HTML", "\"><script>a</script>"),
        ("boundary", "a\n--BOUNDARY\nContent-Type: text/evil\n\nb"),
        ("lone dot", "."),
    ];
    let long = [("300 octets", "a".repeat(300)), ("2,000 octets", "a".repeat(2_000))];
    all.into_iter().map(|(name, text)| (name, text.to_owned())).chain(long).collect()
}

/// The places, as column names: each is used in one place of the template.
const PLACES: [(&str, &str); 8] = [
    ("subject", "`Subject`"),
    ("custom", "`X-Custom`"),
    ("name", "name in `To`"),
    ("label", "name in `List-Id`"),
    ("token", "URL in `List-Unsubscribe`"),
    ("escaped", "the same with `urlencode`"),
    ("text", "text part"),
    ("html", "HTML part"),
];

const MESSAGE: &str = "From: News <news@lists.example>\nTo: \"{{ name }}\" <{{ email }}>\nSubject: {{ subject }}\n\
    X-Custom: {{ custom }}\nList-Id: {{ label }} <news.lists.example>\n\
    List-Unsubscribe: <https://lists.example/u?t={{ token }}>\nList-Help: <https://lists.example/h?{{ escaped | urlencode }}>\n\
    Date: Sun, 22 Nov 2026 03:14:00 +0000\nMIME-Version: 1.0\n\
    Content-Type: multipart/alternative; boundary=BOUNDARY\n\n\
    --BOUNDARY\nContent-Type: text/plain; charset=utf-8\n\nDear {{ text }}, hello\n\
    --BOUNDARY\nContent-Type: text/html; charset=utf-8\n\n<p title=\"x\">{{ html }}, hello</p>\n--BOUNDARY--\n";

/// Headers of what arrives, in order.
const HEADERS: [&str; 11] = [
    "From",
    "To",
    "Subject",
    "X-Custom",
    "List-Id",
    "List-Unsubscribe",
    "List-Help",
    "Date",
    "MIME-Version",
    "Content-Type",
    "Message-ID",
];

/// A job that was submitted and drained: its rejected lines, by number, and what arrived, by recipient.
struct Went {
    rejected: BTreeMap<usize, String>,
    arrived: BTreeMap<String, Arrived>,
}

struct Arrived {
    sender: String,
    content: Vec<u8>,
}

fn send(list: &str, name: &str, flags: &[&str]) -> Went {
    let desk = Desk::new();
    let store = desk.path("store");
    let sink = SinkProcess::start(&desk.path("sink"), &["--store", &store.display().to_string()]);
    let message = desk.file("letter.eml", MESSAGE);
    let list = desk.file(name, list);
    let rejects = desk.path("rejects.csv");
    let rejects_flag = rejects.display().to_string();
    let flags = [&["--merge", "--rejects", &rejects_flag], flags].concat();
    desk.submit(&message, &list, &flags);
    desk.draining(&sink.address(), 2).run().expect_code(0);
    let (_, taken) = sink.stop();
    let content =
        |id: &str| std::fs::read(store.join(format!("{id}.eml"))).expect("what the sink has stored");
    let arrived = taken.into_iter().map(|entry| {
        let content = content(&entry.queue_id);
        (entry.recipient, Arrived { sender: entry.sender, content })
    });
    let mut rejected = BTreeMap::new();
    let mut reader = csv::Reader::from_path(&rejects).expect("the rejects file");
    for row in reader.records() {
        let row = row.expect("a row of it");
        rejected.insert(row[0].parse().expect("a line's number"), row[1].to_owned());
    }
    Went { rejected, arrived: arrived.collect() }
}

/// A reason without the place that it names.
fn reason(text: &str) -> String {
    let text =
        text.split_once("): ").filter(|(place, _)| place.starts_with("line ")).map_or(text, |(_, t)| t);
    let text =
        text.split_once(": a column value").map_or_else(|| text.to_owned(), |(_, t)| format!("a value{t}"));
    text.replace('|', "\\|")
}

/// Checks that what arrived has the shape of the template, and gives what became of the value.
fn judge(place: &str, value: &str, recipient: &str, arrived: &Arrived) -> &'static str {
    let content = &arrived.content;
    let text = String::from_utf8_lossy(content);
    assert!(content.windows(2).all(|two| two[1] != b'\n' || two[0] == b'\r'), "a bare LF: {text}");
    assert!(content.windows(2).all(|two| two[0] != b'\r' || two[1] == b'\n'), "a bare CR: {text}");
    let parsed = MessageParser::default().parse(content).expect("a message");
    let names: Vec<&str> = parsed.headers().iter().map(|header| header.name.as_str()).collect();
    // a part's own headers may have changed with its encoding; the message's are the template's
    let mut wanted = HEADERS.to_vec();
    let mut found = names.clone();
    wanted.sort_unstable();
    found.sort_unstable();
    assert_eq!(found.len(), wanted.len(), "{names:?}");
    assert!(found.iter().zip(&wanted).all(|(a, b)| a.eq_ignore_ascii_case(b)), "{names:?}");
    let to = parsed.to().expect("a To").iter().collect::<Vec<_>>();
    assert_eq!(to.len(), 1, "{text}");
    assert_eq!(to[0].address.as_deref(), Some(recipient), "{text}");
    assert_eq!(parsed.parts.len(), 3, "{text}");
    let body = |i: usize| match &parsed.parts[i].body {
        PartType::Text(text) | PartType::Html(text) => text.to_string(),
        other => panic!("{other:?} in {text}"),
    };
    assert_eq!(parsed.parts[1].content_type().and_then(|t| t.subtype()), Some("plain"));
    assert_eq!(parsed.parts[2].content_type().and_then(|t| t.subtype()), Some("html"));
    let header = |name: &'static str| parsed.header_raw(name).expect("it is there").to_owned();
    let (shown, raw) = match place {
        "subject" => (parsed.subject().unwrap_or_default().to_owned(), header("Subject")),
        "custom" => {
            // read as text, as a mail program shows it
            let raw = header("X-Custom");
            let as_subject = format!("Subject:{raw}\r\n\r\n");
            let again = MessageParser::default().parse(as_subject.as_bytes()).expect("a header");
            (again.subject().unwrap_or_default().to_owned(), raw)
        }
        "name" => (to[0].name.as_deref().unwrap_or_default().to_owned(), header("To")),
        "label" => {
            let raw = header("List-Id");
            assert!(raw.trim_end().ends_with("<news.lists.example>"), "{raw}");
            (raw.trim().trim_end_matches("<news.lists.example>").trim().to_owned(), raw)
        }
        "token" => (header("List-Unsubscribe").trim().to_owned(), header("List-Unsubscribe")),
        "escaped" => (header("List-Help").trim().to_owned(), header("List-Help")),
        "text" => (body(1), body(1)),
        _ => (body(2), body(2)),
    };
    match place {
        "text" => {
            let lines = value.replace("\r\n", "\n").replace(['\r'], "\n");
            let wanted = format!("Dear {lines}, hello");
            assert_eq!(shown.replace("\r\n", "\n").trim_end(), wanted, "{text}");
            if lines.contains('\n') { "lines of the text" } else { "as it is" }
        }
        "html" => {
            assert!(!shown.contains("<script"), "{shown}");
            let is_escaped = !shown.contains(value) && value.contains(['<', '>', '"', '&', '\'']);
            let lines = value.contains(['\r', '\n']);
            if is_escaped {
                "escaped"
            } else if lines {
                "lines of the text"
            } else {
                "as it is"
            }
        }
        "escaped" => {
            let url = shown.trim_start_matches("<https://lists.example/h?").trim_end_matches('>');
            assert!(url.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)), "{shown}");
            if url == value { "as it is" } else { "percent-encoded" }
        }
        "token" => {
            assert!(shown.starts_with("<https://lists.example/u?t=") && shown.ends_with('>'), "{shown}");
            assert_eq!(shown.matches(['<', '>']).count(), 2, "{shown}");
            assert!(shown.contains(value), "{shown}");
            "as it is"
        }
        "label" => {
            if raw.contains("=?utf-8?") {
                "encoded"
            } else {
                "as it is"
            }
        }
        _ => {
            assert_eq!(shown.trim(), value.trim(), "{raw:?}");
            let is_encoded = raw.contains("=?utf-8?B?");
            let is_quoted = place == "name" && raw.contains('"');
            if is_encoded {
                "encoded"
            } else if is_quoted {
                "quoted"
            } else {
                "as it is"
            }
        }
    }
}

/// What becomes of each trick in each place, one row of the list each.
fn placed(format: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (_, value) in tricks() {
        for (place, _) in PLACES {
            rows.push((place, value.clone(), format!("u{}@d.example", rows.len())));
        }
    }
    let mut list = String::new();
    if format == "csv" {
        writeln!(list, "email,{}", PLACES.map(|(place, _)| place).join(",")).expect("a string");
    }
    let mut line_of = Vec::new();
    let mut line = if format == "csv" { 2 } else { 1 };
    for (place, value, address) in &rows {
        let before = list.len();
        let cell = |name: &str| if name == *place { value.as_str() } else { "plain" };
        if format == "csv" {
            let cells = PLACES.map(|(name, _)| format!("\"{}\"", cell(name).replace('"', "\"\"")));
            writeln!(list, "{address},{}", cells.join(",")).expect("a string");
        } else {
            let mut row = serde_json::Map::new();
            row.insert("email".into(), address.as_str().into());
            for (name, _) in PLACES {
                row.insert(name.into(), cell(name).into());
            }
            writeln!(list, "{}", serde_json::Value::Object(row)).expect("a string");
        }
        line_of.push(line);
        line += list[before..].matches('\n').count();
    }
    let went = send(&list, &format!("list.{format}"), &[]);
    assert_eq!(went.arrived.len() + went.rejected.len(), rows.len(), "somebody is lost");
    let cell = |i: usize| {
        let (place, value, address) = &rows[i];
        match (went.rejected.get(&line_of[i]), went.arrived.get(address)) {
            (Some(said), None) => format!("refused: {}", reason(said)),
            (None, Some(arrived)) => judge(place, value, address, arrived).to_owned(),
            other => panic!("{place} {value:?}: both or neither: {:?}", other.0),
        }
    };
    (0..tricks().len()).map(|t| (0..PLACES.len()).map(|p| cell(t * PLACES.len() + p)).collect()).collect()
}

/// Reasons that stand in many cells have a letter, and are told below the table.
fn table(head: &[&str], names: &[String], cells: &[Vec<String>]) -> String {
    let mut reasons: Vec<String> = Vec::new();
    let mut out = format!("| | {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len() + 1));
    for (name, cells) in names.iter().zip(cells) {
        let cells: Vec<String> = cells
            .iter()
            .map(|cell| {
                let Some(said) = cell.strip_prefix("refused: ") else { return cell.clone() };
                let at = reasons.iter().position(|r| r == said).unwrap_or_else(|| {
                    reasons.push(said.to_owned());
                    reasons.len() - 1
                });
                format!("**refused** ({})", at + 1)
            })
            .collect();
        writeln!(out, "| {name} | {} |", cells.join(" | ")).expect("a string");
    }
    out.push('\n');
    for (i, said) in reasons.iter().enumerate() {
        writeln!(out, "{}. {said}", i + 1).expect("a string");
    }
    out
}

/// Holds that docs/injection.md has this between the marks of `name`, or puts it there.
fn hold_docs(name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/injection.md");
    let text = std::fs::read_to_string(&path).expect("docs/injection.md");
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = text.split_once(&open).expect("the table's beginning");
    let (found, after) = rest.split_once(&close).expect("the table's end");
    let wanted = format!("\n{table}\n");
    if std::env::var_os("INFEED_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{open}{wanted}{close}{after}")).expect("written");
    } else {
        assert_eq!(found, wanted, "docs/injection.md is not what happens: INFEED_UPDATE_DOCS=1 writes it");
    }
}

#[test]
fn no_column_value_brings_a_header_a_recipient_a_part_or_an_end_of_data() {
    let cells = placed("ndjson");
    assert_eq!(cells, placed("csv"), "the format of the list makes no difference");
    let names: Vec<String> = tricks().into_iter().map(|(name, _)| name.to_owned()).collect();
    hold_docs("values", &table(&PLACES.map(|(_, title)| title), &names, &cells));
}

/// Forms of an address, as an attacker would write them into a list.
fn addresses() -> Vec<(&'static str, String)> {
    let all = [
        ("CR", "u\r@d.example"),
        ("LF and a command", "u@d.example\nRCPT TO:<v@w.example>"),
        ("CRLF in the local part", "u\r\nDATA\r\n@d.example"),
        ("NUL", "u\0@d.example"),
        ("angle brackets", "u@d.example> <v@w.example"),
        ("two addresses", "u@d.example,v@w.example"),
        ("a space", "u v@d.example"),
        ("a name", "Jane <u@d.example>"),
        ("quoted local part", "\"u@v\"@d.example"),
        ("quoted, with a bracket", "\"u>\"@d.example"),
        ("quoted, with a space", "\"u v\"@d.example"),
        ("quote that is not closed", "\"u@d.example"),
        ("comment", "u(comment)@d.example"),
        ("source route", "@a,@b:u@d.example"),
        ("source route, in brackets", "<@a,@b:u@d.example>"),
        ("percent route", "u%w.example@d.example"),
        ("bang path", "w!u@d.example"),
        ("two @", "u@v@d.example"),
        ("`%00`", "u%00@d.example"),
        ("`%0d%0a`", "u%0d%0arcpt@d.example"),
        ("encoded word", "=?utf-8?Q?u=0D=0A?=@d.example"),
        ("a pipe", "|sh@d.example"),
        ("a path", "/etc/passwd@d.example"),
        ("a flag", "-oQ/tmp@d.example"),
        ("homograph in the domain (Cyrillic)", "u@p\u{430}ypal.example"),
        ("homograph in the local part (Cyrillic)", "\u{430}dmin@d.example"),
        ("IDN", "u@b\u{fc}cher.example"),
        ("full-width dot", "u@d\u{ff0e}example"),
        ("U+2028 line separator", "u\u{2028}@d.example"),
        ("U+0085 next line", "u\u{85}@d.example"),
        ("U+202E right to left", "u\u{202e}v@d.example"),
        ("U+061C Arabic mark", "u\u{61c}v@d.example"),
        ("U+200B zero width", "u\u{200b}@d.example"),
        ("address literal", "u@[127.0.0.1]"),
        ("bare IP address", "u@127.0.0.1"),
        ("no domain", "root"),
        ("dot at the end", "u@d.example."),
        ("underscore in the domain", "u@d_e.example"),
    ];
    let long = [
        ("local part of 65 octets", format!("{}@d.example", "u".repeat(65))),
        ("label of 64 octets", format!("u@{}.example", "d".repeat(64))),
        ("domain of 256 octets", format!("u@{}example", "d.".repeat(125))),
        ("255 octets in all", format!("u@{}example", "d.".repeat(123))),
    ];
    all.into_iter().map(|(name, text)| (name, text.to_owned())).chain(long).collect()
}

/// How it is shown in a table.
fn shown(text: &str) -> String {
    if text.len() > 100 {
        return format!("… of {} octets", text.len());
    }
    format!("`{}`", text.replace('|', "\\|"))
}

#[test]
fn no_address_brings_a_command_a_second_recipient_or_another_sender() {
    let cell = |value: &str| {
        let mut row = serde_json::Map::new();
        row.insert("email".into(), value.into());
        PLACES.iter().for_each(|(name, _)| drop(row.insert((*name).into(), "plain".into())));
        serde_json::Value::Object(row)
    };
    let list: String = addresses().iter().map(|(_, address)| format!("{}\n", cell(address))).collect();
    let went = send(&list, "list.ndjson", &["--verp", "b+{local}={domain}@host.example"]);
    let mut arrived: Vec<(&String, &Arrived)> = went.arrived.iter().collect();
    let mut cells = Vec::new();
    for (i, (name, address)) in addresses().iter().enumerate() {
        if let Some(said) = went.rejected.get(&(i + 1)) {
            cells.push(vec![format!("refused: {}", reason(said)), String::new()]);
            continue;
        }
        // as it stands there, or with its domain as A-labels
        let wire = check_address(address).ok().and_then(|checked| checked.to_ascii());
        let wire = wire.map_or_else(|| address.clone(), |wire| wire.into_owned());
        let at = arrived.iter().position(|(to, _)| **to == wire);
        let (recipient, went) =
            arrived.remove(at.unwrap_or_else(|| panic!("{name}: neither sent nor refused")));
        assert!(went.sender.ends_with("@host.example") && went.sender.is_ascii(), "{}", went.sender);
        let plain = |b: u8| b.is_ascii_graphic() && !b"<>\"(),:;[\\]".contains(&b);
        assert!(went.sender.bytes().all(plain), "{}", went.sender);
        assert_eq!(went.sender.matches('@').count(), 1, "{}", went.sender);
        assert_eq!(judge("subject", "plain", recipient, went), "as it is", "{name}");
        cells.push(vec![shown(recipient), shown(&went.sender)]);
    }
    assert!(arrived.is_empty(), "recipients that nobody listed: {:?}", arrived[0].0);
    let names: Vec<String> = addresses().iter().map(|(name, _)| (*name).to_owned()).collect();
    hold_docs("addresses", &table(&["`RCPT TO`", "sender by VERP"], &names, &cells));
}

/// The reason in what a command said, without paths.
fn said(stderr: &str) -> String {
    let last = stderr.lines().rfind(|line| line.starts_with("infeed: ")).unwrap_or_default();
    let mut text = last.trim_start_matches("infeed: ").to_owned();
    for mark in ["letter.eml: ", "is not an address: ", "is not an entry of a suppression list: "] {
        if let Some((_, after)) = text.split_once(mark) {
            text = after.to_owned();
        }
    }
    let text = text.split_once("; a line holds one").map_or(text.as_str(), |(reason, _)| reason);
    text.replace('|', "\\|")
}

#[test]
fn flags_and_suppression_lists_take_what_the_table_says_and_nothing_worse() {
    let desk = Desk::new();
    let message = desk.file("letter.eml", "From: a@b.example\nSubject: x\n\nx\n");
    let list = desk.file("list.txt", "u@d.example\n");
    let dry = |flags: &[&str]| desk.submitting(&message, &list, flags).arg("--dry-run").run();
    let mut cells = Vec::new();
    for (name, address) in addresses() {
        // what an argument can't hold is no argument
        let sender = match address.contains('\0') {
            true => "no argument".to_owned(),
            false => match dry(&[&format!("--sender={address}")]) {
                run if run.code == Some(0) => "as it is".to_owned(),
                run => {
                    assert!(matches!(run.code, Some(64 | 65)), "{name}: {}", run.stderr);
                    assert!(
                        !run.stderr.trim_end_matches('\n').contains(['\r', '\0', '\u{202e}', '\u{85}']),
                        "{name}"
                    );
                    format!("refused: {}", said(&run.stderr))
                }
            },
        };
        let entries = desk.file("suppress.txt", format!("{address}\n"));
        let suppress = match dry(&["--suppress", &entries.display().to_string()]) {
            run if run.code == Some(0) => "as it is".to_owned(),
            run => {
                assert_eq!(run.code, Some(65), "{name}: {}", run.stderr);
                format!("refused: {}", said(&run.stderr))
            }
        };
        cells.push(vec![sender, suppress]);
    }
    let names: Vec<String> = addresses().iter().map(|(name, _)| (*name).to_owned()).collect();
    hold_docs("flags", &table(&["`--sender`", "`--suppress`, a line"], &names, &cells));
}

#[test]
fn a_key_becomes_a_plain_id_and_a_job_is_never_named_by_a_path() {
    let desk = Desk::new();
    let message = desk.file("letter.eml", "From: a@b.example\nSubject: x\n\nx\n");
    let list = desk.file("list.txt", "u@d.example\n");
    let keys = [
        "weekly-47",
        "../../etc/passwd",
        ".",
        "a/b",
        "a\nb",
        "a\u{202e}b",
        "<a>",
        "%00",
        "-rf",
        "a.lock",
        " ",
    ];
    for key in keys {
        let flag = format!("--id={key}");
        let run = desk.submitting(&message, &list, &["--again", &flag]).run().expect_code(0).json();
        let id = run["job"].as_str().expect("an id").to_owned();
        let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        assert!(plain && !id.starts_with(['.', '-']), "{key:?} became {id:?}");
        assert!(id == key || id.starts_with("id-"), "{key:?} became {id:?}");
        assert!(desk.spool().join("active").join(&id).is_dir(), "{id:?}");
        // under the same key again, the same job
        let again = desk.submitting(&message, &list, &["--again", &flag]).run().expect_code(0).json();
        assert_eq!(again["job"], id.as_str(), "{key:?}");
        // a job is named by its id or its key, never by a path to it
        let run = desk.infeed(&["job", "show", "--json"]).arg("--").arg(key).run().expect_code(0).json();
        assert_eq!(run["job"], id.as_str(), "{key:?}");
        let path = format!("../active/{id}");
        for command in ["show", "pause", "cancel", "remove", "report"] {
            let run = desk.infeed(&["job", command]).arg("--").arg(&path).run();
            assert!(matches!(run.code, Some(64 | 66)), "{command} {path}: {:?} {}", run.code, run.stderr);
        }
    }
    assert_eq!(desk.jobs().len(), keys.len());
    desk.check();
}
