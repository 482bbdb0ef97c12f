//! A spool on a file system that runs full, out of inodes, or read-only: what infeed says, that nothing is
//! lost and nobody gets it twice, and that it goes on by itself. Root only; skipped without.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::binary::{Infeed, Running, infeed};
use common::mount::{Mounted, can_mount};
use common::report::parse_report;
use common::sink::SinkProcess;
use common::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(120);
const RECIPIENTS: usize = 3_000;

const MESSAGE: &str = "From: List <list@example.org>\r\nTo: <{{ email }}>\r\nSubject: news\r\n\
    Date: Sun, 22 Nov 2026 03:14:00 +0000\r\n\r\nHello, {{ email }}\r\n";

/// A spool on a small tmpfs, and a sink beside it.
struct Small {
    disk: Mounted,
    sink: SinkProcess,
    dir: tempfile::TempDir,
}

impl Small {
    fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let point = dir.path().join("disk");
        fs::create_dir(&point).expect("a folder");
        let disk = Mounted::new(&point, &["-t", "tmpfs", "-o", options, "none"]);
        let sink = SinkProcess::start(&dir.path().join("sink"), &["--latency-ms", "4"]);
        let mut list = String::from("email\n");
        (0..RECIPIENTS).for_each(|i| list.push_str(&format!("r{i}@d{}.example\n", i % 17)));
        fs::write(dir.path().join("list.csv"), list).expect("a list");
        fs::write(dir.path().join("message.eml"), MESSAGE).expect("a message");
        Small { disk, sink, dir }
    }

    fn infeed(&self, command: &[&str]) -> Infeed {
        infeed(command)
            .arg("--spool")
            .arg(self.disk.path().join("spool"))
            // so that it is the disk that runs full, not the reserve; chunks and segments are small
            .env("INFEED_SPOOL_FREE_BYTES_MIN", "0")
            .env("INFEED_SPOOL_FREE_INODES_MIN", "0")
            .env("INFEED_SPOOL_CHUNK_RECIPIENTS_MAX", "100")
            .env("INFEED_SPOOL_CHUNK_BYTES_MAX", "65536")
            .env("INFEED_SPOOL_JOURNAL_SEGMENT_BYTES", "131072")
            .deadline(DEADLINE)
    }

    fn submitting(&self) -> Infeed {
        self.infeed(&["submit", "--yes", "--json", "--merge", "--id", "job"])
            .arg(self.dir.path().join("message.eml"))
            .arg("--to")
            .arg(self.dir.path().join("list.csv"))
    }

    fn start_drain(&self) -> Running {
        self.infeed(&["drain", "--json", "--mta", &self.sink.address(), "--connections", "4"]).spawn()
    }

    /// Takes all the space that there is.
    fn fill(&self) -> Vec<PathBuf> {
        let path = self.disk.path().join("filler");
        let mut filler = fs::File::create(&path).expect("a file");
        // whole pages first, then what is left of one
        for part in [&[1_u8; 4096][..], &[1]] {
            while filler.write_all(part).is_ok() {}
        }
        vec![path]
    }

    /// Takes all the inodes that there are.
    fn fill_inodes(&self) -> Vec<PathBuf> {
        let name = |n: usize| self.disk.path().join(format!("filler{n}"));
        (0..100_000).map(name).take_while(|path| fs::File::create(path).is_ok()).collect()
    }

    /// Waits until the drain has sent to somebody and then for long to nobody.
    fn wait_stuck(&self, drain: &mut Running) {
        let mut before = (0, 0);
        wait_until("standstill of the drain", DEADLINE, || {
            assert!(drain.try_wait().is_none(), "the drain has ended");
            std::thread::sleep(Duration::from_millis(100));
            let taken = self.sink.taken().len();
            before = if taken == before.0 { (taken, before.1 + 1) } else { (taken, 0) };
            before.1 >= 15
        });
        assert!(before.0 < RECIPIENTS, "it was drained before anything was amiss");
    }

    /// Drains; when some are sent `trouble` begins, and `mended` ends it once nothing goes on.
    fn drain_through(self, trouble: impl FnOnce(&Self), mended: impl FnOnce(&Self), says: &str) {
        self.submitting().run().expect_code(0);
        let mut drain = self.start_drain();
        wait_until("the first messages", DEADLINE, || self.sink.taken().len() > 50);
        trouble(&self);
        self.wait_stuck(&mut drain);
        mended(&self);
        // the same process ends what it began
        let run = drain.wait(DEADLINE).expect_code(0);
        assert!(run.stderr.contains(says), "{}", run.stderr);
        self.judge();
    }

    /// Everybody is accepted, and got it once.
    fn judge(self) {
        let report = self.infeed(&["job", "report", "job", "--format", "csv"]).run().expect_code(0);
        let rows = parse_report(&report.stdout);
        assert_eq!(rows.len(), RECIPIENTS);
        for row in rows {
            assert_eq!((row.outcome.as_str(), row.possible_repeat), ("accepted", false), "{row:?}");
        }
        self.infeed(&["spool", "check"]).run().expect_code(0);
        let (_, ledger) = self.sink.stop();
        let mut reached: Vec<&str> = ledger.iter().map(|entry| entry.recipient.as_str()).collect();
        reached.sort_unstable();
        reached.dedup();
        assert_eq!((reached.len(), ledger.len()), (RECIPIENTS, RECIPIENTS), "lost, or sent twice");
    }
}

fn remove(files: &[PathBuf]) {
    for file in files {
        fs::remove_file(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

/// Gives some of it back: enough to begin a submission, not to end it.
fn give_back(filler: &mut Vec<PathBuf>) {
    match filler.as_slice() {
        [one] => {
            let file = fs::OpenOptions::new().write(true).open(one).expect("the filler");
            let len = file.metadata().expect("its length").len();
            file.set_len(len - (128 << 10)).expect("a shorter filler");
        }
        many => remove(&filler.split_off(many.len() - 40)),
    }
}

/// How much is in a folder, if it is there.
fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| entries.count())
}

#[test]
fn a_submission_that_finds_no_space_or_inode_says_what_to_do_and_leaves_nothing() {
    if !can_mount() {
        return;
    }
    type Fill = fn(&Small) -> Vec<PathBuf>;
    let fills: [(Fill, bool); 4] =
        [(Small::fill, false), (Small::fill, true), (Small::fill_inodes, false), (Small::fill_inodes, true)];
    for (fill, begins) in fills {
        let small = Small::new("size=4m,nr_inodes=400");
        let mut filler = fill(&small);
        if begins {
            give_back(&mut filler);
        }
        let run = small.submitting().run();
        assert!(matches!(run.code, Some(73 | 74)), "{run:?}");
        assert!(run.stderr.contains("/disk/spool") && run.stderr.contains("free some"), "{}", run.stderr);
        remove(&filler);
        assert_eq!(entries(&small.disk.path().join("spool/active")), 0);
        small.submitting().run().expect_code(0);
        assert_eq!(entries(&small.disk.path().join("spool/incoming")), 0);
        small.start_drain().wait(DEADLINE).expect_code(0);
        small.judge();
    }
}

#[test]
fn the_reserve_is_kept_free_and_a_submission_below_it_is_refused_before_it_begins() {
    if !can_mount() {
        return;
    }
    let small = Small::new("size=4m");
    let run = small.submitting().env("INFEED_SPOOL_FREE_BYTES_MIN", "67108864").run();
    assert!(matches!(run.code, Some(73 | 74)), "{run:?}");
    assert!(run.stderr.contains("too little space"), "{}", run.stderr);
}

#[test]
fn a_drain_that_runs_out_of_space_goes_on_by_itself_when_there_is_some() {
    if !can_mount() {
        return;
    }
    let filler = std::cell::RefCell::new(Vec::new());
    let fill = |small: &Small| *filler.borrow_mut() = small.fill();
    let free = |_: &Small| remove(&filler.borrow());
    Small::new("size=4m").drain_through(fill, free, "No space left");
}

#[test]
fn a_drain_that_runs_out_of_inodes_goes_on_by_itself_when_there_are_some() {
    if !can_mount() {
        return;
    }
    let filler = std::cell::RefCell::new(Vec::new());
    let fill = |small: &Small| *filler.borrow_mut() = small.fill_inodes();
    let free = |_: &Small| remove(&filler.borrow());
    Small::new("size=8m,nr_inodes=400").drain_through(fill, free, "No space left");
}

#[test]
fn a_drain_whose_disk_becomes_read_only_goes_on_by_itself_when_it_is_mended() {
    if !can_mount() {
        return;
    }
    let break_it = |small: &Small| small.disk.make_read_only();
    let mend = |small: &Small| small.disk.make_writable();
    Small::new("size=8m").drain_through(break_it, mend, "Read-only file system");
}
