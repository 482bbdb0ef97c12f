//! Replies that don't belong where they come, at every stage and on every path: whatever is said, nobody is
//! called accepted whose message was not taken, nobody is refused or blamed by it, and all goes on over a
//! new connection. That nobody is in doubt beyond the bound, and who was taken, [`Play::run`] holds.

use super::mta::{Act, At, Does, Pieces};
use super::play::{Changes, On, PLAIN, Path, Play, Row, play_all};
use super::rows::row;

/// Each is no answer to anything, or not to all of this.
const REPLIES: [&str; 15] = [
    "250 2.0.0 what for?",
    "220 mx ESMTP here I am again",
    "221 2.0.0 Bye",
    "354 go",
    "999 x",
    "600 x",
    "199 x",
    "abc",
    "",
    "25",
    "2500 x",
    "250_x",
    "\0\0\0\0 250 x",
    "250-one|251 two",
    "HTTP/1.1 400 Bad Request|Content-Length: 0|",
];

const STAGES: [At; 6] = [At::Banner, At::Ehlo, At::Mail(3), At::Rcpt(4), At::Data(3), At::End(3)];

/// Wrong replies at each stage, with the connection left open and with its end. Made once, for good.
fn rows() -> &'static [Row] {
    let mut rows = Vec::new();
    for at in STAGES {
        for reply in REPLIES {
            for does in [Does::Say(reply), Does::Leave(reply)] {
                rows.push(of(vec![(at, does, 1)], format!("{at:?}: {does:?}")));
            }
        }
    }
    rows.leak()
}

fn of(acts: Vec<Act>, name: String) -> Row {
    Row { acts: acts.leak(), ..row(name.leak()) }
}

/// Accepted or in doubt: no reply above is one that refuses or defers.
pub async fn wrong_replies(path: Path) {
    let mut wrong = Vec::new();
    // some at a time: each has its sockets
    for rows in rows().chunks(30) {
        let mut plays = tokio::task::JoinSet::new();
        // a transaction with XVERP is only lent where EHLO told of it
        let is_played = |row: &&Row| !(path.is_xverp() && row.acts[0].0 == At::Ehlo);
        for row in rows.iter().filter(is_played) {
            plays.spawn(async move { (row.name, Play::new(path, row).run().await) });
        }
        while let Some(played) = plays.join_next().await {
            let (name, played) = played.unwrap();
            let right = |word: &String| word.starts_with("accepted ") || word == "in doubt";
            if !played.attempts.iter().all(right) || !played.faults.is_empty() {
                wrong.push(format!("{name}: {:?} {:?}", played.attempts, played.faults));
            }
        }
    }
    assert!(wrong.is_empty(), "{path:?}\n{}", wrong.join("\n"));
}

/// An answer too many, and what it would hide: the message behind it is not taken.
fn unsolicited() -> &'static [Row] {
    const EXTRA: &str = "250 2.0.0 Ok: queued as SMUGGLED";
    const NO: &str = "451 4.3.0 not taken";
    let right = |at: At| match at {
        At::Mail(_) => "250 2.1.0 Ok",
        At::Rcpt(_) => "250 2.1.5 Ok",
        At::Data(_) => "354 go",
        _ => NO,
    };
    let mut rows = Vec::new();
    for at in [At::Mail(3), At::Rcpt(3), At::Rcpt(5), At::Data(3)] {
        let said: &'static str = format!("{}|{EXTRA}", right(at)).leak();
        rows.push(of(
            vec![(at, Does::Say(said), 1), (At::End(3), Does::Say(NO), 1)],
            format!("{at:?}: {said}"),
        ));
    }
    rows.leak()
}

/// [`Play::run`] holds that nobody is accepted whose message was not taken.
pub async fn unsolicited_replies(path: Path) {
    for row in unsolicited() {
        let played = Play::new(path, row).run().await;
        let right = |word: &String| !word.starts_with("refused") && !word.contains("SMUGGLED");
        assert!(played.attempts.iter().all(right), "{path:?} {}: {:?}", row.name, played.attempts);
        assert_eq!(played.faults, [], "{path:?} {}", row.name);
    }
}

/// Said while nothing is asked, behind each message's own reply.
pub async fn a_farewell_behind_a_reply(path: Path) {
    let said = "250 2.0.0 Ok: queued as Q3|421 4.3.2 mx shutting down";
    let row: &'static Row =
        Box::leak(Box::new(of(vec![(At::End(3), Does::Leave(said), 1)], said.to_owned())));
    play_all(path, std::slice::from_ref(row)).await;
}

/// Octets of the longest reply but EHLO's.
const REPLY_OCTETS_MAX: usize = 40;
/// Octets of EHLO's reply, at most.
const EHLO_OCTETS_MAX: usize = 200;

/// Each reply in two pieces, cut at each place; EHLO's, which is longer, at fewer.
pub async fn replies_cut(path: Path) {
    let places = (1..REPLY_OCTETS_MAX).chain((REPLY_OCTETS_MAX..EHLO_OCTETS_MAX).step_by(7));
    let rows: Vec<Row> = places
        .map(|at| Row {
            // with a refusal and a deferral among them, and a refusal in several lines
            acts: &[
                (At::Rcpt(4), Does::Say("550-5.1.1 no such|550 5.1.1 user"), 1),
                (At::End(6), Does::Say("451 4.3.0 later"), 1),
            ],
            but: &[
                (On::All, &[4], "refused 550 at RCPT"),
                (On::All, &[6], "deferred 451 at the end of the content"),
            ],
            changes: Changes { pieces: Pieces::Cut(at), ..PLAIN },
            ..row(format!("replies cut behind octet {at}").leak())
        })
        .collect();
    for rows in rows.leak().chunks(20) {
        play_all(path, rows).await;
    }
}
