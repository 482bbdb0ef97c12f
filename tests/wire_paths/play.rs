//! Plays one row on one path.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use infeed::config::TlsMode;
use infeed::infeed::{InfeedConfig, MtaState, MtaStatus, Pool, Stage, TlsConfig, Transaction};
use infeed::message::{Content, wire_encode};
use tokio::net::TcpListener;

use super::certificates::Authority;
use super::mta::{Act, Mta, Pieces};
use super::rows::MESSAGES;
use super::work::{List, config, message};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Data,
    Bdat1,
    Bdat4,
    LockStep,
    XverpData,
    XverpBdat,
    TlsData,
    TlsBdat,
}

impl Path {
    pub const ALL: [Path; 8] = [
        Path::Data,
        Path::Bdat1,
        Path::Bdat4,
        Path::LockStep,
        Path::XverpData,
        Path::XverpBdat,
        Path::TlsData,
        Path::TlsBdat,
    ];

    pub fn is_bdat(self) -> bool {
        matches!(self, Path::Bdat1 | Path::Bdat4 | Path::XverpBdat | Path::TlsBdat)
    }

    pub fn is_xverp(self) -> bool {
        matches!(self, Path::XverpData | Path::XverpBdat)
    }

    fn is_tls(self) -> bool {
        matches!(self, Path::TlsData | Path::TlsBdat)
    }

    pub fn depth(self) -> usize {
        if matches!(self, Path::Bdat4 | Path::XverpBdat | Path::TlsBdat) { 4 } else { 1 }
    }
}

/// On which paths an exception of a row holds.
#[derive(Debug, Clone, Copy)]
pub enum On {
    All,
    /// DATA, grouped or in lock step.
    Data,
    Bdat,
    /// BDAT in groups.
    Groups,
}

impl On {
    fn holds(self, path: Path) -> bool {
        match self {
            On::All => true,
            On::Data => !path.is_bdat(),
            On::Bdat => path.is_bdat(),
            On::Groups => path.depth() > 1,
        }
    }
}

/// A scenario. Everybody is accepted, but for what `but` says.
pub struct Row {
    pub name: &'static str,
    pub acts: &'static [Act],
    /// Recipients (by token) and what becomes of them; the last one that holds for the path counts.
    pub but: &'static [(On, &'static [u64], &'static str)],
    /// The stages at which the job was blamed.
    pub faults: &'static [(On, Stage)],
    pub changes: Changes,
}

/// What is out of the ordinary about a row, beside what the MTA does.
#[derive(Clone, Copy)]
pub struct Changes {
    /// Message 3 is larger than all buffers.
    pub large: bool,
    pub shared: bool,
    /// An EHLO keyword that is not offered.
    pub missing: &'static str,
    /// Done to message 3.
    pub prepare: fn(&mut Transaction),
    pub pieces: Pieces,
    pub keeps_mail: bool,
    /// Short timeouts: the MTA hangs.
    pub hangs: bool,
}

pub const PLAIN: Changes = Changes {
    large: false,
    shared: false,
    missing: "",
    prepare: |_| (),
    pieces: Pieces::Whole,
    keeps_mail: false,
    hangs: false,
};

pub struct Play {
    path: Path,
    row: &'static Row,
    pub list: Arc<List>,
    mta: Mta,
    authority: Authority,
}

pub struct Played {
    /// What became of each recipient, without what was not tried.
    pub attempts: Vec<String>,
    pub faults: Vec<Stage>,
    pub by_data: usize,
    pub by_bdat: usize,
    pub xverp: usize,
}

impl Play {
    pub fn new(path: Path, row: &'static Row) -> Self {
        let changes = row.changes;
        let mut contents = BTreeMap::new();
        let transactions = MESSAGES.iter().map(|tokens| {
            let number = tokens[0];
            let Octets { raw, wire } = octets(number, changes.large && number == 3);
            let size_octets = raw.len() as u64;
            contents.insert(number, raw);
            let mut transaction = Transaction {
                sender: format!("s{number}@x.example"),
                xverp: path.is_xverp().then_some(*b"+="),
                content: Content { wire, size_octets, eight_bit: false, utf8_headers: false },
                shared_content: changes.shared,
                ..message(tokens)
            };
            if number == 3 {
                (changes.prepare)(&mut transaction);
            }
            transaction
        });
        let list = List::new(transactions);
        let list = Arc::new(list.again_in_order());
        let offered = ["PIPELINING", "CHUNKING", "XVERP", "8BITMIME", "SMTPUTF8", "SIZE 100000000"];
        let offers = |keyword: &&str| match *keyword {
            "PIPELINING" => path != Path::LockStep,
            "CHUNKING" => path.is_bdat() || path == Path::LockStep,
            "XVERP" => path.is_xverp(),
            keyword => keyword != changes.missing,
        };
        let mut ehlo: Vec<String> = vec!["mx".into()];
        ehlo.extend(offered.into_iter().filter(offers).map(str::to_owned));
        let ehlo: Vec<String> = ehlo.iter().map(|line| format!("250-{line}")).collect();
        let authority = Authority::named("root");
        let mta = Mta {
            ehlo: format!("{}|250 ENHANCEDSTATUSCODES", ehlo.join("|")),
            tls: path.is_tls().then(|| authority.sign(&["127.0.0.1"]).acceptor()),
            acts: row.acts.to_vec().into(),
            pieces: changes.pieces,
            keeps_mail: changes.keeps_mail,
            lock_step: path == Path::LockStep,
            contents,
            ..Mta::default()
        };
        Self { path, row, list, mta, authority }
    }

    fn config(&self, address: &str, dir: &std::path::Path) -> InfeedConfig {
        let mut config = config(address);
        (config.chunking, config.pipelining_depth_max) = (true, self.path.depth());
        config.timeouts.quit_ms = 5_000;
        if self.row.changes.hangs {
            config.timeouts.mail_ms = 2_000;
            config.timeouts.final_dot_ms = 2_000;
        }
        if self.path.is_tls() {
            let roots = dir.join("roots.pem");
            self.authority.write(&roots);
            config.tls = TlsConfig { mode: TlsMode::Implicit, ca_file: Some(roots), ..TlsConfig::default() };
        }
        config
    }

    /// Until everybody is settled. Bounded: a hang is a failure, not a stuck test.
    pub async fn run(self) -> Played {
        let what = format!("{:?}: {}", self.path, self.row.name);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dir = tempfile::tempdir().unwrap();
        let config = self.config(&address, dir.path());
        let mta = Arc::new(self.mta);
        let server = tokio::spawn(mta.clone().serve(listener));
        let pool = Pool::start(config, self.list.clone());
        let resumes = async {
            let mut changed = pool.changed();
            loop {
                let is_paused = |s: &MtaStatus| matches!(s.state, MtaState::Paused { .. });
                // What is waited for is borrowed: not while it is changed.
                let paused = changed.wait_for(is_paused).await.is_ok();
                assert!(paused, "{what}");
                pool.resume();
            }
        };
        tokio::select! {
            () = pool.finished() => (),
            () = resumes => unreachable!("it never ends"),
            () = tokio::time::sleep(Duration::from_secs(60)) => {
                panic!("{what} hangs: {:?}, {:?}", pool.status(), self.list.words());
            }
        }
        assert_eq!(pool.stop(Duration::ZERO).await.aborted, 0, "{what}");
        // The client has closed them all. A session that panicked is not counted out.
        let ended = async {
            while mta.taken.lock().unwrap().open > 0 {
                tokio::task::yield_now().await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
        assert!(ended.is_ok(), "{what}: a session of the MTA does not end");
        server.abort();
        let taken = std::mem::take(&mut *mta.taken.lock().unwrap());
        let attempts = self.list.attempts();
        assert_eq!(taken.wrong, Vec::<String>::new(), "{what}");
        let doubts = |word: &String| word.matches("in doubt").count();
        let tokens = MESSAGES.concat();
        for (token, words) in tokens.iter().zip(&attempts) {
            let accepted = words.matches("accepted").count();
            let took = taken.recipients.get(token).copied().unwrap_or(0);
            assert!(
                accepted <= took && took <= accepted + doubts(words),
                "{what}: {token} {words:?}, took {took}"
            );
        }
        // D messages of each session that was lost, and none is larger than these.
        let mut sizes: Vec<usize> = MESSAGES.iter().map(|m| m.len()).collect();
        sizes.sort_unstable_by_key(|size| std::cmp::Reverse(*size));
        let bound: usize = sizes.iter().cycle().take(taken.lost * self.path.depth()).sum();
        let in_doubt: usize = attempts.iter().map(doubts).sum();
        assert!(in_doubt <= bound, "{what}: {in_doubt} in doubt, at most {bound} may be: {attempts:?}");
        Played {
            attempts,
            faults: self.list.faults().iter().map(|fault| fault.stage).collect(),
            by_data: taken.by_data,
            by_bdat: taken.by_bdat,
            xverp: taken.xverp,
        }
    }
}

/// Plays the rows side by side.
pub async fn play_all(path: Path, rows: &'static [Row]) {
    let mut wrong = Vec::new();
    // Silence has its time alone: what is slow meanwhile is no silence.
    for hangs in [false, true] {
        let mut plays = tokio::task::JoinSet::new();
        for row in rows.iter().filter(|row| row.changes.hangs == hangs) {
            plays.spawn(async move { (row, Play::new(path, row).run().await) });
        }
        while let Some(played) = plays.join_next().await {
            let (row, played) = played.unwrap();
            wrong.extend(judged(path, row, &played));
        }
    }
    assert!(wrong.is_empty(), "{path:?}\n{}", wrong.join("\n"));
}

/// What is not as the row says.
fn judged(path: Path, row: &Row, played: &Played) -> Option<String> {
    let expected: Vec<String> = MESSAGES
        .iter()
        .flat_map(|tokens| tokens.iter().map(|token| expected(row, path, tokens[0], *token)))
        .collect();
    let faults: Vec<Stage> =
        row.faults.iter().filter(|(on, _)| on.holds(path)).map(|(_, stage)| *stage).collect();
    // An MTA that closes with octets unread resets the connection, and what it had said to the messages
    // before, in the same group, may be lost with it.
    let may_be_lost = |i: usize| row.changes.large && path.depth() > 1 && i == 1;
    let same =
        |i: usize| played.attempts[i] == expected[i] || may_be_lost(i) && played.attempts[i] == "in doubt";
    let is_right =
        played.attempts.len() == expected.len() && (0..expected.len()).all(same) && played.faults == faults;
    (!is_right).then(|| {
        format!("{}:\n   {:?} {:?}\nnot {expected:?} {faults:?}", row.name, played.attempts, played.faults)
    })
}

fn expected(row: &Row, path: Path, number: u64, token: u64) -> String {
    let told = row.but.iter().rev().find(|(on, tokens, _)| on.holds(path) && tokens.contains(&token));
    told.map_or_else(|| format!("accepted Q{number}"), |(_, _, word)| (*word).to_owned())
}

/// A message's octets, in wire form, and without stuffed dots.
struct Octets {
    raw: Bytes,
    wire: Bytes,
}

/// With every kind of dot that is stuffed, and some that are not.
fn octets(number: u64, large: bool) -> Octets {
    static LARGE: OnceLock<(Bytes, Bytes)> = OnceLock::new();
    let made = |lines: usize| {
        let dots = if number.is_multiple_of(2) { " dots\r\n" } else { ".\r\n..\r\n.dot\r\n" };
        let rest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789.abcd\r\n".repeat(lines);
        let raw = format!("Subject: {number}\r\n\r\n{dots}{rest}");
        (Bytes::from(raw.clone()), wire_encode(raw.as_bytes()).0)
    };
    // Its 16 MB are made once.
    let (raw, wire) = if large { LARGE.get_or_init(|| made(250_000)).clone() } else { made(2) };
    Octets { raw, wire }
}
