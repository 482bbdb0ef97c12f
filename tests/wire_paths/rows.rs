//! The table: what the MTA does, and what becomes of whom.

use infeed::infeed::Stage;

use super::mta::{ALWAYS, At::*, Does::*, Pieces};
use super::play::{Changes, On, PLAIN, Row};

/// The messages by their recipients; the first is a message's number. Where groups go across messages the
/// first goes alone, and message 3 has one before it in its group and two behind.
pub const MESSAGES: &[&[u64]] = &[&[1], &[2], &[3, 4, 5], &[6], &[7]];

const THREE: &[u64] = &[3, 4, 5];
/// Message 3 and what is behind it in its group.
const REST: &[u64] = &[3, 4, 5, 6, 7];

pub const fn row(name: &'static str) -> Row {
    Row { name, acts: &[], but: &[], faults: &[], changes: PLAIN }
}

pub const ALL_WELL: Row = row("all is well");
/// The one row in which the MTA offers what it does not have.
pub const NO_BDAT: Row = Row { acts: &[(AnyBdat, Close, ALWAYS)], ..row("BDAT is offered and refused") };

pub const ROWS: &[Row] = &[
    ALL_WELL,
    Row { changes: Changes { pieces: Pieces::Octets, ..PLAIN }, ..row("replies an octet at a time") },
    Row { changes: Changes { shared: true, ..PLAIN }, ..row("shared content") },
    Row { changes: Changes { large: true, ..PLAIN }, ..row("content larger than all buffers") },
    // MAIL
    Row {
        acts: &[(Mail(3), Say("450 4.1.8 later"), 1)],
        but: &[(On::All, THREE, "deferred 450 at MAIL")],
        ..row("MAIL: 4xx")
    },
    Row {
        acts: &[(Mail(3), Say("451 4.3.0 queue file write error"), 1)],
        but: &[(On::All, THREE, "deferred 451 at MAIL")],
        ..row("MAIL: the MTA's own trouble")
    },
    Row {
        acts: &[(Mail(3), Say("550 5.1.8 no such sender"), 1)],
        but: &[(On::All, THREE, "")],
        faults: &[(On::All, Stage::Mail)],
        ..row("MAIL: 5xx")
    },
    Row {
        acts: &[(Mail(3), Say("452 4.3.1 Insufficient system storage"), 1)],
        ..row("MAIL: Postfix's disk")
    },
    Row { acts: &[(Mail(3), Say("452 4.4.5 Insufficient disk space"), 2)], ..row("MAIL: sendmail's disk") },
    Row {
        acts: &[(Mail(3), Say("450 4.7.1 Error: too much mail from 127.0.0.1"), 1)],
        ..row("MAIL: too much mail")
    },
    Row { acts: &[(Mail(3), Leave("421 4.7.0 mx Error: too many errors"), 1)], ..row("MAIL: 421") },
    Row { acts: &[(Mail(3), Leave("421 4.4.2 mx Error: timeout exceeded"), 2)], ..row("MAIL: 421 twice") },
    Row {
        acts: &[
            (Mail(3), Say("421 too many messages in this connection"), 1),
            (Mail(6), Say("421 too many messages in this connection"), 1),
            (Mail(7), Say("503 no"), 1),
        ],
        // In lock step and alone it is the next session that meets what is left of it.
        ..row("MAIL: Exim's session limit, with the connection open")
    },
    Row {
        acts: &[(Mail(3), Leave("421 too many messages in this connection"), 1)],
        ..row("MAIL: a session limit, and it closes")
    },
    Row {
        acts: &[(Mail(3), Say("452 4.5.3 Too many messages sent: Too many messages sent"), 1)],
        ..row("MAIL: OpenSMTPD's session limit")
    },
    Row {
        acts: &[(Mail(3), Say("503 5.5.1 Error: pipelined after end of DATA"), 1)],
        ..row("MAIL: Haraka wants a wait")
    },
    Row {
        acts: &[(Mail(3), Leave("554 SMTP synchronization error"), 1)],
        ..row("MAIL: Exim's synchronisation error")
    },
    Row {
        acts: &[
            (Mail(3), Say("530 5.7.0 Authentication required"), 1),
            (Mail(6), Say("530 5.7.0 Authentication required"), 1),
            (Mail(7), Say("530 5.7.0 Authentication required"), 1),
        ],
        ..row("MAIL: 530 pauses the MTA")
    },
    Row {
        acts: &[(Mail(3), Close, 1)],
        but: &[(On::Bdat, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        ..row("MAIL: the connection is lost")
    },
    Row {
        acts: &[(Mail(3), Close, 3)],
        but: &[
            (On::Data, THREE, "deferred 451 at MAIL"),
            (On::Bdat, THREE, "in doubt"),
            (On::Groups, REST, "in doubt"),
        ],
        ..row("MAIL: a message that kills every connection")
    },
    Row {
        acts: &[(Mail(3), Leave("what?"), 1)],
        but: &[(On::Bdat, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        ..row("MAIL: rubbish")
    },
    Row {
        acts: &[(Mail(3), Leave(OVER_LONG), 1)],
        but: &[(On::Bdat, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        ..row("MAIL: an over-long reply")
    },
    Row {
        acts: &[(Mail(3), Hang, 1)],
        but: &[(On::Bdat, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        changes: Changes { hangs: true, ..PLAIN },
        ..row("MAIL: silence")
    },
    // RSET: only BDAT groups have one where all is well otherwise
    Row {
        acts: &[(Rset, Leave("554 SMTP synchronization error"), 1)],
        ..row("RSET: it had to be waited for")
    },
    Row { acts: &[(Rset, Leave("421 4.3.0 mx Server error"), 1)], ..row("RSET: 421") },
    // RCPT
    Row {
        acts: &[(Rcpt(4), Say("550 5.1.1 no such user"), 1)],
        but: &[(On::All, &[4], "refused 550 at RCPT")],
        ..row("RCPT: 5xx")
    },
    Row {
        acts: &[(Rcpt(3), Say("451 4.7.1 Greylisted"), 1), (Rcpt(5), Say("251 will forward"), 1)],
        but: &[(On::All, &[3], "deferred 451 at RCPT")],
        ..row("RCPT: 4xx")
    },
    Row { acts: ALL_REFUSED, but: &[(On::All, THREE, "refused 550 at RCPT")], ..row("RCPT: all refused") },
    Row {
        acts: ALL_REFUSED,
        but: &[(On::All, THREE, "refused 550 at RCPT")],
        changes: Changes { keeps_mail: true, ..PLAIN },
        ..row("RCPT: all refused, and Exim keeps its MAIL open")
    },
    Row {
        acts: &[
            (Rcpt(3), Say("550 no"), 1),
            (Rcpt(4), Say("550 no"), 1),
            (Rcpt(5), Say("550 no"), 1),
            (Data(3), Say("354 go"), 1),
            (End(3), Say("250 2.0.0 Ok: queued as NOTHING"), 1),
        ],
        but: &[(On::All, THREE, "refused 550 at RCPT")],
        ..row("RCPT: all refused, and content to nobody is taken")
    },
    Row { acts: &[(Rcpt(5), Say("452 4.5.3 Error: too many recipients"), 1)], ..row("RCPT: too many, 452") },
    Row { acts: &[(Rcpt(5), Say("552 too many recipients"), 1)], ..row("RCPT: too many, 552") },
    Row { acts: &[(Rcpt(4), Say("451 4.5.3 Too many recipients"), 1)], ..row("RCPT: too many, 451") },
    Row {
        acts: &[(Rcpt(4), Say("450 4.7.1 Error: too many recipients from 127.0.0.1"), 1)],
        ..row("RCPT: too many from this client")
    },
    Row { acts: &[(Rcpt(4), Say("452 4.3.1 Insufficient system storage"), 1)], ..row("RCPT: the disk") },
    Row { acts: &[(Rcpt(4), Leave("421 4.3.0 mx Server error"), 1)], ..row("RCPT: 421") },
    Row {
        acts: &[(Rcpt(3), Say("550 5.1.1 no"), 1), (Rcpt(5), Leave("421 4.3.0 mx Server error"), 1)],
        but: &[(On::All, &[3], "refused 550 at RCPT")],
        ..row("RCPT: what was refused before a 421 stays refused")
    },
    Row {
        acts: &[(Rcpt(4), Close, 1)],
        but: &[(On::Bdat, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        ..row("RCPT: the connection is lost")
    },
    Row {
        acts: &[(Rcpt(4), Leave("354 go"), 1)],
        but: &[(On::Bdat, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        ..row("RCPT: a code out of place")
    },
    // DATA: BDAT has no such stage
    Row {
        acts: &[(Data(3), Say("451 4.3.0 later"), 1)],
        but: &[(On::Data, THREE, "deferred 451 at DATA")],
        ..row("DATA: 4xx")
    },
    Row {
        acts: &[(Data(3), Say("554 5.7.1 no"), 1)],
        but: &[(On::Data, THREE, "")],
        faults: &[(On::Data, Stage::Data)],
        ..row("DATA: 5xx")
    },
    Row { acts: &[(Data(3), Say("452 4.3.1 Insufficient system storage"), 1)], ..row("DATA: the disk") },
    Row { acts: &[(Data(3), Leave("421 4.3.0 mx Server error"), 1)], ..row("DATA: 421") },
    Row { acts: &[(Data(3), Close, 1)], ..row("DATA: the connection is lost") },
    Row { acts: &[(Data(3), Turn("250 what for?"), 1)], ..row("DATA: a code out of place") },
    Row {
        acts: &[(Data(3), Turn("354 go|250 2.0.0 Ok: queued as SMUGGLED"), 1)],
        ..row("DATA: a reply that nobody asked for")
    },
    // in the midst of the content
    Row {
        acts: &[(Midst(3), Close, 1)],
        changes: Changes { large: true, ..PLAIN },
        ..row("content: the connection is lost before its end was written")
    },
    Row {
        acts: &[(Midst(3), Turn("552 5.3.4 too large"), 1)],
        but: &[(On::All, THREE, "refused 552 at the end of the content")],
        changes: Changes { large: true, ..PLAIN },
        ..row("content: refused before its end was written")
    },
    Row {
        acts: &[(Midst(3), Turn("250 2.0.0 Ok: queued as NOTHING"), 1)],
        changes: Changes { large: true, ..PLAIN },
        ..row("content: taken before its end was written")
    },
    Row {
        acts: &[(Midst(3), Leave("421 4.3.0 mx Server error"), 1)],
        changes: Changes { large: true, ..PLAIN },
        ..row("content: 421 before its end was written")
    },
    // after the content
    Row {
        acts: &[(End(3), Say("451 4.3.0 queue file write error"), 1)],
        but: &[(On::All, THREE, "deferred 451 at the end of the content")],
        ..row("end: 4xx")
    },
    Row {
        acts: &[(End(3), Say("452 4.3.1 Insufficient system storage"), 1)],
        but: &[(On::All, THREE, "deferred 452 at the end of the content")],
        ..row("end: the disk")
    },
    Row {
        acts: &[(End(3), Say("554 5.7.1 spam"), 1)],
        but: &[(On::All, THREE, "refused 554 at the end of the content")],
        ..row("end: 5xx to merged content")
    },
    Row {
        acts: &[(End(3), Say("554 5.7.1 spam"), 1)],
        but: &[(On::All, THREE, "")],
        faults: &[(On::All, Stage::Content)],
        changes: Changes { shared: true, ..PLAIN },
        ..row("end: 5xx to shared content")
    },
    Row { acts: &[(End(3), Leave("421 4.3.0 mx Server error"), 1)], ..row("end: 421") },
    Row {
        acts: &[(End(3), Close, 1)],
        but: &[(On::All, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        ..row("end: the connection is lost")
    },
    Row {
        acts: &[(End(3), TakeAndClose, 1)],
        but: &[(On::All, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        ..row("end: the connection is lost, and the message was taken")
    },
    Row {
        acts: &[(End(3), Leave("250-a|550 b"), 1)],
        but: &[(On::All, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        ..row("end: a reply of two minds")
    },
    Row {
        acts: &[(End(3), Leave("354 more"), 1)],
        but: &[(On::All, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        ..row("end: a code out of place")
    },
    Row {
        acts: &[(End(3), Hang, 1)],
        but: &[(On::All, THREE, "in doubt"), (On::Groups, REST, "in doubt")],
        changes: Changes { hangs: true, ..PLAIN },
        ..row("end: silence")
    },
    Row {
        acts: &[(Rcpt(4), Say("550 5.1.1 no"), 1), (End(3), Close, 1)],
        but: &[
            (On::All, &[3, 5], "in doubt"),
            (On::Groups, REST, "in doubt"),
            (On::All, &[4], "refused 550 at RCPT"),
        ],
        ..row("end: what was refused is not in doubt")
    },
    // what the MTA does not offer
    Row {
        changes: Changes { missing: "8BITMIME", prepare: |t| t.content.eight_bit = true, ..PLAIN },
        but: &[(On::All, THREE, "")],
        faults: &[(On::All, Stage::Mail)],
        ..row("no 8BITMIME for content that needs it")
    },
    Row {
        changes: Changes {
            missing: "SMTPUTF8",
            prepare: |t| t.recipients[1].address = "zo\u{eb}@d4.example".into(),
            ..PLAIN
        },
        but: &[(On::All, &[4], "refused 553 at RCPT")],
        ..row("no SMTPUTF8 for an address that needs it")
    },
    Row {
        changes: Changes { prepare: |t| t.content.size_octets = 200_000_000, ..PLAIN },
        but: &[(On::All, THREE, "refused 552 at MAIL")],
        ..row("content over SIZE")
    },
    Row { changes: Changes { missing: "SIZE 100000000", ..PLAIN }, ..row("no SIZE") },
];

const ALL_REFUSED: &[super::mta::Act] = &[
    (Rcpt(3), Say("550 5.1.1 no"), 1),
    (Rcpt(4), Say("550 5.1.1 no"), 1),
    (Rcpt(5), Say("550 5.1.1 no"), 1),
];

const LINE: [u8; 5_000] = {
    let mut line = [b'x'; 5_000];
    (line[0], line[1], line[2], line[3]) = (b'2', b'5', b'0', b' ');
    line
};
const OVER_LONG: &str = match std::str::from_utf8(&LINE) {
    Ok(text) => text,
    Err(_) => panic!("it is ASCII"),
};
