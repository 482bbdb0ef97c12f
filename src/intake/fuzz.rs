//! Fuzz target: lists of recipients in every format, read in pieces of any size.

use std::io::{self, Read};

use super::lines::ROW_OCTETS_MAX;
use super::reader::{COLUMNS_MAX, Format, RecipientReader};
use super::row::{Row, RowRef};
use super::{address, plain};
use crate::fuzzing::{Fuzz, as_it_is, is_not_quadratic};

/// The first octet of an input chooses the format.
const RECIPIENTS: Fuzz = Fuzz {
    name: "recipients",
    words: &[
        b"email",
        b"a@b.example",
        b"\"",
        b"\"\"",
        b",",
        b";",
        b"\t",
        b"\r\n",
        b"\n",
        b"\r",
        b"a\",\"\n",
        b"{\"email\":\"",
        b"\"}",
        b"\\u000a",
        b"\\ud800",
        b"null",
        b"1e999",
        b"{",
        b"[",
        b"#",
        b"<",
        b">",
        b"@",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\0",
        b"\xe2\x80\xae",
    ],
    mend: as_it_is,
    target: list,
};

/// Gives a few octets at a time.
struct Trickle {
    octets: Vec<u8>,
    at: usize,
    step: usize,
}

impl Read for Trickle {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let n = self.step.min(room.len()).min(self.octets.len() - self.at);
        room[..n].copy_from_slice(&self.octets[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// What a list comes to: its columns, and each row's line with its values, or why it is bad.
type Found = (Vec<String>, Vec<(u64, Result<Vec<String>, String>)>);

fn read(octets: &[u8], step: usize, format: Format) -> Option<Found> {
    let input = Trickle { octets: octets.to_vec(), at: 0, step };
    let mut reader = RecipientReader::from_read(Box::new(input), "list", format, None).ok()?;
    let columns = reader.columns().to_vec();
    assert!(!columns.is_empty() && columns.len() <= COLUMNS_MAX);
    let (mut row, mut rows) = (Row::new(), Vec::new());
    while let Some(found) = reader.next(&mut row).expect("it is all in memory") {
        rows.push(match found {
            RowRef::Bad { line, reason, raw } => {
                assert!(raw.len() <= ROW_OCTETS_MAX);
                (line, Err(reason.to_string()))
            }
            RowRef::Ok { line, address, values } => {
                assert_eq!(address::check(address), Ok(()));
                assert_eq!(values.len(), columns.len());
                assert_eq!(values.get(reader.address_column()), Some(address));
                (line, Ok(values.iter().map(str::to_owned).collect()))
            }
        });
        assert!(row.text.capacity() <= 4 * ROW_OCTETS_MAX, "{} octets of a row", row.text.capacity());
    }
    assert!(rows.windows(2).all(|two| two[0].0 < two[1].0), "a line belongs to one row");
    Some((columns, rows))
}

fn list(input: &[u8]) {
    let Some((choice, octets)) = input.split_first() else { return };
    let format = [Format::Auto, Format::Csv, Format::List, Format::Ndjson][usize::from(choice % 4)];
    let whole = read(octets, octets.len().max(1), format);
    if octets.len() < 4_096 {
        assert_eq!(read(octets, 1, format), whole, "an octet at a time");
    }
    assert_eq!(read(octets, 4_093, format), whole, "in pieces");
    let Some((columns, rows)) = whole else { return };
    // what was read, written as CSV and read again, is the same
    let mut writer = csv::Writer::from_writer(Vec::new());
    let good: Vec<&Vec<String>> = rows.iter().filter_map(|(_, row)| row.as_ref().ok()).collect();
    let names = (0..columns.len()).map(|i| format!("c{i}"));
    let address = good.first().and_then(|row| row.iter().position(|v| address::check(v).is_ok()));
    let Some(address) = address else { return };
    writer.write_record(names).expect("in memory");
    good.iter().for_each(|row| writer.write_record(*row).expect("in memory"));
    let text = writer.into_inner().expect("in memory");
    let column = format!("c{address}");
    let again =
        RecipientReader::from_read(Box::new(io::Cursor::new(text)), "again.csv", Format::Csv, Some(&column));
    let mut again = again.expect("a CSV file");
    let mut row = Row::new();
    for good in good {
        match again.next(&mut row).expect("in memory") {
            Some(RowRef::Ok { values, .. }) => assert!(values.iter().eq(good.iter().map(String::as_str))),
            // quoted, it may be longer than a row may be; or another column held the address
            Some(RowRef::Bad { .. }) => return,
            None => panic!("a row is lost"),
        }
    }
    let key = |address: &str| {
        let mut key = Vec::new();
        address::canonical_key(address, &mut key);
        key
    };
    for (_, row) in rows.iter().filter(|(_, row)| row.is_ok()) {
        for value in row.iter().flatten().filter(|value| address::check(value).is_ok()) {
            assert!(plain::bare(value).is_ok_and(|bare| bare == value.as_str()));
            let first = key(value);
            let text = String::from_utf8(first.clone()).expect("keys are UTF-8");
            assert_eq!(key(&text), first, "{value:?}");
        }
    }
}

#[test]
fn recipients() {
    RECIPIENTS.run();
}

/// Read once, in one format.
fn work(format: Format) -> impl Fn(&[u8]) {
    move |octets: &[u8]| drop(read(octets, octets.len().max(1), format))
}

#[test]
fn a_file_of_quotes_that_are_never_closed_is_not_read_over_and_over() {
    // each line ends inside a field, whether it begins inside one or not
    let rows = |octets: usize| [b"email,x\n".as_slice(), &b"a\",\"\n".repeat(octets / 5)].concat();
    is_not_quadratic("lines that open a field", rows, work(Format::Csv));
}

#[test]
fn what_is_known_of_a_quoted_stretch_is_what_looking_again_finds() {
    // rows whose quote is closed far behind, in reach of some and out of reach of those before them
    for lines in [10, 12_000, 13_200, 20_000] {
        let mut text = b"email,x\n".to_vec();
        text.extend(b"a\",\"\n".repeat(lines));
        text.extend_from_slice(b"\"\nz@example.org,1\n");
        let (_, rows) = read(&text, text.len(), Format::Csv).expect("a list");
        let last = rows.last().expect("a row");
        assert_eq!(last.0, lines as u64 + 3, "{lines}");
        // from the first line that reaches the closing quote on, all of it is one row (and a bad one)
        let reach = ROW_OCTETS_MAX / 5;
        let single = lines.saturating_sub(reach);
        assert!(rows.len() >= single && rows.len() <= single + 4, "{} of {lines}", rows.len());
        assert!(last.1.is_ok() && rows.iter().rev().skip(1).all(|(_, row)| row.is_err()));
    }
}

#[test]
fn keys_in_another_order_cost_no_more() {
    let object = |octets: usize| {
        let keys = (octets / 16).min(COLUMNS_MAX - 1);
        let line = |order: Vec<usize>| {
            let pairs: Vec<String> = order.iter().map(|i| format!("\"key{i}\":\"value\"")).collect();
            format!("{{\"email\":\"a@b.example\",{}}}\n", pairs.join(","))
        };
        (line((0..keys).collect()) + &line((0..keys).rev().collect()).repeat(octets / 16_384 + 1))
            .into_bytes()
    };
    is_not_quadratic("NDJSON", object, work(Format::Ndjson));
}

#[test]
fn more_columns_than_a_record_can_hold_are_refused_with_the_header() {
    let names: Vec<String> = (0..=COLUMNS_MAX).map(|i| format!("c{i}")).collect();
    let csv = format!("email,{}\n", names.join(","));
    let pairs: Vec<String> = names.iter().map(|name| format!("\"{name}\":1")).collect();
    let ndjson = format!("{{\"email\":\"a@b.example\",{}}}\n", pairs.join(","));
    for (text, format) in [(csv, Format::Csv), (ndjson, Format::Ndjson)] {
        let read = RecipientReader::from_read(Box::new(io::Cursor::new(text)), "l", format, None);
        let error = read.err().expect("refused").to_string();
        assert!(error.contains("l, line 1") && error.contains("columns"), "{error}");
    }
}
