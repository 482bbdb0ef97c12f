//! Lists of recipients, from the outside: what is read, what is refused, and what a person is told.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::Path;

use infeed::cli::make_list::{MakeListArgs, write_list};
use infeed::intake::{
    BadRow, DuplicateFinder, Format, IntakeError, RecipientReader, Row, RowRef, address, dedupe,
};
use proptest::prelude::*;

/// A row, owned.
#[derive(Debug, Clone, PartialEq)]
enum Read1 {
    Ok { line: u64, address: String, values: Vec<String> },
    Bad { line: u64, reason: BadRow, raw: Vec<u8> },
}

impl Read1 {
    fn line(&self) -> u64 {
        match self {
            Read1::Ok { line, .. } | Read1::Bad { line, .. } => *line,
        }
    }
}

/// Gives at most `step` octets a read.
struct Trickle {
    octets: io::Cursor<Vec<u8>>,
    step: usize,
}

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let octets = self.step.min(buffer.len());
        self.octets.read(&mut buffer[..octets])
    }
}

fn open_named(
    octets: &[u8],
    name: &str,
    format: Format,
    column: Option<&str>,
) -> Result<RecipientReader, IntakeError> {
    RecipientReader::from_read(Box::new(io::Cursor::new(octets.to_vec())), name, format, column)
}

fn open(octets: &[u8], format: Format) -> Result<RecipientReader, IntakeError> {
    open_named(octets, "list", format, None)
}

fn rows_of(mut reader: RecipientReader) -> Vec<Read1> {
    let mut row = Row::new();
    let mut rows = Vec::new();
    while let Some(read) = reader.next(&mut row).expect("memory can be read") {
        rows.push(match read {
            RowRef::Ok { line, address, values } => {
                Read1::Ok { line, address: address.into(), values: values.iter().map(String::from).collect() }
            }
            RowRef::Bad { line, reason, raw } => Read1::Bad { line, reason, raw: raw.to_vec() },
        });
    }
    rows
}

fn rows(octets: &[u8], format: Format) -> Vec<Read1> {
    rows_of(open(octets, format).expect("a list"))
}

fn ok(line: u64, address: &str, values: &[&str]) -> Read1 {
    Read1::Ok { line, address: address.into(), values: values.iter().map(|v| (*v).to_owned()).collect() }
}

fn bad(line: u64, reason: BadRow, raw: &[u8]) -> Read1 {
    Read1::Bad { line, reason, raw: raw.to_vec() }
}

fn message(octets: &[u8], name: &str, column: Option<&str>) -> String {
    open_named(octets, name, Format::Auto, column).err().expect("an error").to_string()
}

#[test]
fn csv_is_read_with_any_of_its_delimiters() {
    for delimiter in [",", ";", "\t"] {
        let text = "\u{feff}name,E-Mail Address,city\r\nBob, bob@example.org ,\"a\"\"b\"\r\n\r\nZoë,zoe@example.org,\r\n";
        let text = text.replace(',', delimiter);
        let reader = open(text.as_bytes(), Format::Auto).expect("a list");
        assert_eq!(reader.columns(), ["name", "E-Mail Address", "city"]);
        assert_eq!(reader.address_column(), 1);
        assert_eq!(
            rows_of(reader),
            [
                ok(2, "bob@example.org", &["Bob", "bob@example.org", "a\"b"]),
                ok(4, "zoe@example.org", &["Zoë", "zoe@example.org", ""]),
            ]
        );
    }
}

#[test]
fn line_numbers_are_physical_lines_also_after_quoted_line_ends() {
    let text =
        b"email,note\na@example.org,\"one\r\ntwo, and\n\nthree\"\nb@example.org,x\nnonsense\nc@example.org,y";
    assert_eq!(
        rows(text, Format::Auto),
        [
            ok(2, "a@example.org", &["a@example.org", "one\r\ntwo, and\n\nthree"]),
            ok(6, "b@example.org", &["b@example.org", "x"]),
            bad(7, BadRow::FieldCount { found: 1, expected: 2 }, b"nonsense"),
            ok(8, "c@example.org", &["c@example.org", "y"]),
        ]
    );
}

#[test]
fn a_stray_quote_costs_its_own_line_alone() {
    let text = b"email,name\na@example.org,\"Bob\nb@example.org,\"Smith, J\"\nc@example.org,\"x\"y\nd@example.org,5\" nail\ne@example.org,\"open\nf@example.org,z\n";
    assert_eq!(
        rows(text, Format::Auto),
        [
            bad(2, BadRow::TextAfterQuote, b"a@example.org,\"Bob"),
            ok(3, "b@example.org", &["b@example.org", "Smith, J"]),
            bad(4, BadRow::TextAfterQuote, b"c@example.org,\"x\"y"),
            ok(5, "d@example.org", &["d@example.org", "5\" nail"]),
            bad(6, BadRow::QuoteNotClosed, b"e@example.org,\"open"),
            ok(7, "f@example.org", &["f@example.org", "z"]),
        ]
    );
}

#[test]
fn octets_that_are_not_utf_8_spoil_only_their_line() {
    let text = b"email,name\na@example.org,J\xf6rg\nb@example.org,\"\xc3\",\xa9\nc@example.org,x\n";
    let rows = rows(text, Format::Auto);
    assert_eq!(rows[0], bad(2, BadRow::NotUtf8, b"a@example.org,J\xf6rg"));
    assert!(matches!(rows[1], Read1::Bad { line: 3, reason: BadRow::NotUtf8, .. }));
    assert_eq!(rows[2], ok(4, "c@example.org", &["c@example.org", "x"]));
}

#[test]
fn a_row_over_64_kib_is_bad_and_the_next_is_read() {
    let long = "x".repeat(300_000);
    let quoted = format!("\"{}\"", "y\n".repeat(40_000));
    let text = format!(
        "email,name\na@example.org,{long}\nb@example.org,ok\nc@example.org,{quoted}\nd@example.org,ok\n"
    );
    let rows = rows(text.as_bytes(), Format::Auto);
    assert!(
        matches!(&rows[0], Read1::Bad { line: 2, reason: BadRow::TooLong { .. }, raw } if raw.len() == 65_536)
    );
    assert_eq!(rows[1], ok(3, "b@example.org", &["b@example.org", "ok"]));
    assert!(matches!(rows[2], Read1::Bad { line: 4, reason: BadRow::QuoteNotClosed, .. }));
    assert!(rows[3..rows.len() - 1].iter().all(|row| matches!(row, Read1::Bad { .. })));
    assert_eq!(rows.last(), Some(&ok(40_005, "d@example.org", &["d@example.org", "ok"])));
}

#[test]
fn a_plain_list_holds_addresses_and_comments() {
    let text = b"# friends\n\na@example.org\r\n  <b@example.org>\t\nBob <c@example.org>\nd@@example.org\n";
    let reader = open(text, Format::Auto).expect("a list");
    assert_eq!((reader.format(), reader.columns()), (Format::List, &["email".to_owned()][..]));
    let rows = rows_of(reader);
    assert_eq!(rows[0], ok(3, "a@example.org", &["a@example.org"]));
    assert_eq!(rows[1], ok(4, "b@example.org", &["b@example.org"]));
    assert_eq!(rows[2], bad(5, BadRow::NameBesideAddress, b"Bob <c@example.org>"));
    assert_eq!(rows[3], bad(6, BadRow::Address(address::AddressFault::SecondAt), b"d@@example.org"));
}

#[test]
fn ndjson_has_the_columns_of_its_first_object_and_the_text_of_its_scalars() {
    let text = r#"{"n": 1.50, "email": "a@example.org", "x": "l\u00e9 \"q\"\n"}
{"email":"b@example.org","more":1,"n":null}

{"x":true,"n":-1e3,"email":"c@example.org"}
{"email":"d@example.org","n":{"a":1}}
{"email":"e@example.org","email":"f@example.org"}
{"email":"g@example.org",}
{"email":"h@example.org"} x
{"email":"i@example.org","n":01}
{"email":"j@example.org","n":nan}
{"n":1}
{"email":"k\ud800@example.org"}
"#;
    let reader = open(text.as_bytes(), Format::Auto).expect("a list");
    assert_eq!(reader.columns(), ["n", "email", "x"]);
    let rows = rows_of(reader);
    assert_eq!(rows[0], ok(1, "a@example.org", &["1.50", "a@example.org", "lé \"q\"\n"]));
    assert_eq!(rows[1], ok(2, "b@example.org", &["", "b@example.org", ""]));
    assert_eq!(rows[2], ok(4, "c@example.org", &["-1e3", "c@example.org", "true"]));
    let reasons: Vec<String> = rows[3..]
        .iter()
        .map(|row| match row {
            Read1::Bad { line, reason, .. } => {
                format!("{line}: {}", reason.to_string().split(' ').next().unwrap_or(""))
            }
            Read1::Ok { line, .. } => format!("{line}: ok"),
        })
        .collect();
    assert_eq!(reasons, ["5: a", "6: a", "7: not", "8: not", "9: not", "10: not", "11: no", "12: not"]);
}

#[test]
fn a_list_without_header_never_loses_its_first_recipient() {
    let one_column = rows(b"a@example.org\nb@example.org\n", Format::Auto);
    assert_eq!(one_column.len(), 2);
    let named_csv =
        open_named(b"a@example.org\nb@example.org\n", "x.csv", Format::Auto, None).expect("a list");
    assert_eq!((named_csv.format(), rows_of(named_csv).len()), (Format::List, 2));
    for text in [&b"Bob,a@example.org\nEve,b@example.org\n"[..], b"a@example.org;Bob\n"] {
        let error = message(text, "x.csv", None);
        assert!(error.contains("x.csv, line 1: `a@example.org`") && error.contains("no header"), "{error}");
    }
    let forced = open(b"a@example.org\nb@example.org\n", Format::Csv).err().expect("an error").to_string();
    assert!(forced.contains("no header"), "{forced}");
}

#[test]
fn the_column_of_addresses_is_found_by_name_or_named() {
    let column = |header: &str, column: Option<&str>| {
        open_named(format!("{header}\n").as_bytes(), "x.csv", Format::Auto, column)
            .map(|r| r.address_column())
    };
    for (header, at) in [
        ("id,email", 1),
        ("E-mail;id", 0),
        ("address,EMAIL_ADDRESS", 1),
        ("to,name,address", 0),
        ("name,Recipient", 1),
        ("email", 0),
        ("name,address", 1),
    ] {
        assert_eq!(column(header, None).expect(header), at, "{header}");
    }
    assert_eq!(column("email,Work Email", Some("work email")).expect("named"), 1);
    assert_eq!(column("E,e", Some("e")).expect("named exactly"), 1);
    for (header, named, says) in [
        (
            "id,name",
            None,
            "no column of addresses among: `id`, `name`; rename one to `email`, or name it with --column",
        ),
        ("email,e-mail", None, "more than one column could hold the address: `email`, `e-mail`"),
        ("id,name", Some("email"), "no column `email` among: `id`, `name`"),
        ("email,a,a", None, "the column `a` stands there twice"),
    ] {
        let error = column(header, named).expect_err(header).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_is_no_list_is_refused_with_the_remedy() {
    let utf16: Vec<u8> = "\u{feff}email\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(message(&utf16, "x.csv", None).contains("iconv -f UTF-16 -t UTF-8"));
    assert!(message(&utf16[2..], "x.csv", None).contains("UTF-16"));
    assert!(message(b"PK\x03\x04rest", "x.xlsx", None).contains("export the sheet as CSV"));
    assert!(message(b"\x1f\x8b\x08\x00", "x.csv", None).contains("zcat"));
    assert!(message(b"[{\"email\":\"a@example.org\"}]", "x.json", None).contains("jq -c"));
    assert!(message(b"", "x.csv", None).contains("is empty"));
    assert!(message(b"\n \n", "x.csv", None).contains("is empty"));
    assert!(message(b"email,name\ra@example.org,x\r", "x.csv", None).contains("lone carriage returns"));
    assert!(message(b"a@example.org\n", "x", Some("mail")).contains("--column `mail`"));
    let missing = RecipientReader::open(Path::new("/nonexistent/list.csv"), Format::Auto, None);
    assert!(missing.err().expect("no file").to_string().contains("/nonexistent/list.csv"));
}

fn args(recipients: u64) -> MakeListArgs {
    MakeListArgs {
        recipients,
        seed: 7,
        domains: 50,
        bad_percent: 0.0,
        duplicates_percent: 0.0,
        refuse_percent: 0.0,
        defer_percent: 0.0,
        sorted_by_domain: false,
        output: None,
    }
}

fn list(args: &MakeListArgs) -> (Vec<u8>, infeed::cli::make_list::Counts) {
    let mut octets = Vec::new();
    let counts = write_list(args, &mut octets).expect("memory can be written");
    (octets, counts)
}

/// Recipients, bad lines and duplicates, as a submission counts them.
fn take_in(octets: &[u8]) -> (Vec<String>, u64, u64) {
    let mut finder = DuplicateFinder::new();
    let (mut accepted, mut keys, mut bad, mut duplicates) = (Vec::new(), Vec::new(), 0, 0);
    for row in rows(octets, Format::Auto) {
        let Read1::Ok { address, .. } = row else {
            bad += 1;
            continue;
        };
        let mut key = Vec::new();
        address::canonical_key(&address, &mut key);
        let ordinal = dedupe::ordinal(finder.rows()).expect("few rows");
        let same = |earlier: u32| Ok::<_, IntakeError>(keys[earlier as usize] == key);
        if finder.insert(&key, ordinal, same).expect("no error in memory") {
            duplicates += 1;
        } else {
            accepted.push(address);
            keys.push(key);
        }
    }
    (accepted, bad, duplicates)
}

#[test]
fn a_made_list_holds_what_it_says_and_only_reserved_domains() {
    for sorted_by_domain in [false, true] {
        let args = MakeListArgs {
            bad_percent: 3.0,
            duplicates_percent: 5.0,
            refuse_percent: 2.0,
            defer_percent: 1.0,
            sorted_by_domain,
            ..args(20_000)
        };
        let (octets, counts) = list(&args);
        assert_eq!(list(&args).0, octets, "the same seed gives the same list");
        let (accepted, bad, duplicates) = take_in(&octets);
        assert_eq!((accepted.len() as u64, bad, duplicates), (20_000, counts.bad, counts.duplicates));
        assert!((400..800).contains(&bad) && (800..1_200).contains(&duplicates), "{counts:?}");
        let starting = |with: &str| accepted.iter().filter(|a| a.starts_with(with)).count() as u64;
        assert_eq!((starting("refuse-550."), starting("defer-451-1x.")), (counts.refused, counts.deferred));
        assert!((300..500).contains(&counts.refused) && (120..280).contains(&counts.deferred), "{counts:?}");
        let mut domains: Vec<&str> = accepted.iter().map(|a| a.split_once('@').expect("an @").1).collect();
        for domain in &domains {
            let top = domain.rsplit('.').next().unwrap_or_default();
            let reserved = ["example", "test"].contains(&top)
                || ["example.com", "example.org", "example.net"]
                    .iter()
                    .any(|r| domain == r || domain.ends_with(&format!(".{r}")));
            assert!(reserved, "{domain}");
        }
        if sorted_by_domain {
            domains.dedup();
            assert_eq!(domains.len(), domains.iter().collect::<HashSet<_>>().len());
            assert_eq!(domains.len(), 50);
        }
    }
}

#[test]
fn a_made_list_reads_as_the_csv_crate_reads_it() {
    let (octets, _) = list(&args(30_000));
    let mut expected = csv::Reader::from_reader(&octets[..]);
    let rows = rows(&octets, Format::Csv);
    assert_eq!(rows.len(), 30_000);
    for (row, record) in rows.iter().zip(expected.records()) {
        let record = record.expect("valid CSV");
        let Read1::Ok { values, .. } = row else { panic!("{row:?}") };
        assert!(record.iter().eq(values.iter().map(String::as_str)), "{row:?}");
    }
}

#[test]
fn the_example_is_valid_and_unique() {
    let octets =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/recipients.csv")).expect("the example");
    let reader = open(&octets, Format::Auto).expect("a list");
    assert_eq!(reader.columns(), ["email", "first_name", "city", "plan", "unsubscribe_token"]);
    let (accepted, bad, duplicates) = take_in(&octets);
    assert_eq!((accepted.len(), bad, duplicates), (200, 0, 0));
}

/// Octets that often look like a list.
fn listlike() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b"a@example.org"[..]),
        Just(&b"email"[..]),
        Just(&b","[..]),
        Just(&b";"[..]),
        Just(&b"\""[..]),
        Just(&b"\"\""[..]),
        Just(&b"\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\r"[..]),
        Just(&b" "[..]),
        Just(&b"#"[..]),
        Just(&b"\xff"[..]),
        Just(&b"\xc3\xa9"[..]),
        Just(&b"{\"email\":"[..]),
        Just(&b"}"[..]),
        Just(&b"\\u00e9"[..]),
        Just(&b"\\"[..]),
        Just(&b"1"[..]),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// The lines that must come back: neither blank nor, in a plain list, a comment.
fn lines_with_text(octets: &[u8]) -> Vec<u64> {
    let is_text =
        |line: &&[u8]| !line.iter().all(|c| b" \t\r".contains(c)) && line.trim_ascii_start()[0] != b'#';
    (1..).zip(octets.split(|&c| c == b'\n')).filter(|(_, line)| is_text(line)).map(|(n, _)| n).collect()
}

proptest! {
    #[test]
    fn no_octets_make_the_reader_panic_or_go_back(
        octets in prop_oneof![listlike(), proptest::collection::vec(any::<u8>(), 0..200)],
        header in any::<bool>(),
        format in prop_oneof![Just(Format::Auto), Just(Format::Csv), Just(Format::List), Just(Format::Ndjson)],
    ) {
        let octets = if header { [&b"email,x\n"[..], &octets].concat() } else { octets };
        if let Ok(reader) = open(&octets, format) {
            let columns = reader.columns().len();
            let rows = rows_of(reader);
            for pair in rows.windows(2) {
                prop_assert!(pair[0].line() < pair[1].line());
            }
            for row in &rows {
                if let Read1::Ok { address, values, .. } = row {
                    prop_assert_eq!(values.len(), columns);
                    prop_assert!(values.contains(address));
                    prop_assert_eq!(address::check(address), Ok(()));
                }
            }
        }
    }

    #[test]
    fn every_line_of_a_list_comes_back_once(octets in listlike()) {
        if let Ok(reader) = open(&octets, Format::List) {
            let read: Vec<u64> = rows_of(reader).iter().map(Read1::line).collect();
            prop_assert_eq!(read, lines_with_text(&octets));
        }
    }

    #[test]
    fn the_size_of_reads_changes_nothing(octets in listlike(), step in 1_usize..9) {
        let octets = [&b"email,x\n"[..], &octets].concat();
        let input = Trickle { octets: io::Cursor::new(octets.clone()), step };
        let trickled = RecipientReader::from_read(Box::new(input), "list", Format::Csv, None).map(rows_of);
        prop_assert_eq!(trickled.expect("a header"), rows(&octets, Format::Csv));
    }

    #[test]
    fn what_a_csv_writer_writes_is_read_back(
        values in proptest::collection::vec(("[a-z]{1,8}", "[ -~\\r\\né\"]{0,20}", "\\PC{0,6}"), 1..30),
        delimiter in prop_oneof![Just(b','), Just(b';'), Just(b'\t')],
    ) {
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
        writer.write_record(["one", "email", "two"]).expect("memory");
        for (local, one, two) in &values {
            writer.write_record([one, &format!("{local}@example.org"), two]).expect("memory");
        }
        let octets = writer.into_inner().expect("memory");
        let read = rows(&octets, Format::Csv);
        prop_assert_eq!(read.len(), values.len());
        for (row, (local, one, two)) in read.iter().zip(&values) {
            let Read1::Ok { address, values, .. } = row else { panic!("{row:?}") };
            prop_assert_eq!(address, &format!("{local}@example.org"));
            prop_assert_eq!(values, &vec![one.clone(), address.clone(), two.clone()]);
        }
    }
}
