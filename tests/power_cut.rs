//! Power cuts on real file systems, in the long run: a drain on ext4 and on XFS, whose disk is copied at a
//! random moment as it is then. What was not synced is in the kernel's memory alone, and is not in the copy;
//! the copy is mounted under another boot id, recovered, and drained on. Root only; skipped without.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::binary::{Infeed, infeed};
use common::ledger::Tail;
use common::mount::{Mounted, can_mount};
use common::mta::{long_tests, skip};
use common::report::parse_report;
use common::seed::Seed;
use common::sink::SinkProcess;
use common::wait::wait_until;
use rustix::process::Signal;

const DEADLINE: Duration = Duration::from_secs(180);
const RECIPIENTS: usize = 20_000;
/// Cuts on each file system.
const CUTS: usize = 25;
/// N, at one recipient a transaction and one transaction at a time.
const CONNECTIONS: usize = 6;
/// `spool.progress_unsynced_max`.
const UNSYNCED_MAX: usize = 300;
const IMAGE_BYTES: u64 = 400 << 20;

const MESSAGE: &str = "From: List <list@example.org>\r\nTo: <{{ email }}>\r\nSubject: news\r\n\
    Date: Sun, 22 Nov 2026 03:14:00 +0000\r\n\r\nHello, {{ email }}\r\n";

/// A machine whose disk is a file, and whose boot id is ours.
struct Machine {
    mounted: Mounted,
    point: PathBuf,
}

impl Machine {
    fn boot(folder: &Path, image: &Path, boots: usize) -> Self {
        let point = folder.join("disk");
        fs::create_dir_all(&point).expect("a folder");
        // nothing is written but what somebody syncs, or the kernel needs room for
        let options = if image.extension().is_some_and(|e| e == "ext4") { "loop,commit=600" } else { "loop" };
        let mounted = Mounted::new(&point, &["-o", options, image.to_str().expect("UTF-8")]);
        let boot_id = folder.join("boot_id");
        fs::write(&boot_id, format!("boot-{boots}\n")).expect("a boot id");
        let boot_id = boot_id.to_str().expect("UTF-8");
        mounted.run(&["mount", "--bind", boot_id, "/proc/sys/kernel/random/boot_id"]);
        Machine { mounted, point }
    }

    fn infeed(&self, command: &[&str]) -> Infeed {
        let launcher = self.mounted.launcher();
        let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
        infeed(command)
            .arg("--spool")
            .arg(self.point.join("spool"))
            .env("INFEED_SPOOL_PROGRESS_UNSYNCED_MAX", UNSYNCED_MAX.to_string())
            .env("INFEED_SPOOL_CHUNK_RECIPIENTS_MAX", "200")
            .env("INFEED_MTA_RECIPIENTS_PER_TRANSACTION_MAX", "1")
            .env("INFEED_MTA_CHUNKING", "false")
            .by(&launcher)
            .deadline(DEADLINE)
    }

    fn draining(&self, sink: &SinkProcess) -> Infeed {
        let connections = CONNECTIONS.to_string();
        self.infeed(&["drain", "--json", "--mta", &sink.address(), "--connections", &connections])
    }
}

/// Deliveries by recipient, each with the cut that came next.
#[derive(Default)]
struct Deliveries {
    of: HashMap<String, Vec<usize>>,
}

impl Deliveries {
    fn read(&mut self, tail: &mut Tail, cut: usize) {
        for entry in tail.read() {
            self.of.entry(entry.recipient).or_default().push(cut);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--sparse=always").args([from, to]).status().expect("cp");
    assert!(copied.success(), "the disk is not copied");
}

fn kernel_has(file_system: &str) -> bool {
    let listed = || {
        let all = fs::read_to_string("/proc/filesystems").expect("/proc");
        all.lines().any(|line| line.split_whitespace().last() == Some(file_system))
    };
    // as a module, perhaps
    listed()
        || Command::new("modprobe").arg(file_system).output().is_ok_and(|done| done.status.success())
            && listed()
}

fn cuts_lose_nobody(file_system: &str) {
    if !long_tests() || !can_mount() {
        return;
    }
    if Command::new(format!("mkfs.{file_system}")).arg("-V").output().is_err() {
        return skip(&format!("there is no mkfs.{file_system}"));
    }
    if !kernel_has(file_system) {
        return skip(&format!("this kernel has no {file_system}"));
    }
    let seed = Seed::new();
    let mut random = seed.random();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let image = |n: usize| dir.path().join(format!("disk{n}.{file_system}"));
    fs::File::create(image(0)).and_then(|f| f.set_len(IMAGE_BYTES)).expect("a disk");
    let made = Command::new(format!("mkfs.{file_system}")).arg("-q").arg(image(0)).status().expect("mkfs");
    assert!(made.success(), "mkfs.{file_system} failed");

    let sink = SinkProcess::start(&dir.path().join("sink"), &["--latency-ms", "2"]);
    let mut list = String::from("email\n");
    (0..RECIPIENTS).for_each(|i| list.push_str(&format!("r{i}@d{}.example\n", i % 17)));
    let (list_file, message) = (dir.path().join("list.csv"), dir.path().join("message.eml"));
    fs::write(&list_file, list).expect("a list");
    fs::write(&message, MESSAGE).expect("a message");

    let mut machine = Machine::boot(dir.path(), &image(0), 0);
    let submit = machine.infeed(&["submit", "--yes", "--json", "--merge", "--id", "job"]);
    submit.arg(&message).arg("--to").arg(&list_file).run().expect_code(0);
    let (mut tail, mut deliveries) = (sink.tail(), Deliveries::default());
    for cut in 0..CUTS {
        let mut drain = machine.draining(&sink).spawn();
        let growth = random.usize(1..RECIPIENTS / CUTS);
        wait_until("growth of the ledger", DEADLINE, || {
            drain.try_wait().is_some() || tail.waiting() >= growth
        });
        assert!(drain.try_wait().is_none(), "the job has ended before all cuts were made");
        // it stands still while the disk is copied, as everything does in a power cut
        drain.signal(Signal::STOP);
        copy(&image(cut), &image(cut + 1));
        drain.signal(Signal::KILL);
        assert_eq!(drain.wait(DEADLINE).code, None, "killed");
        sink.wait_alone();
        deliveries.read(&mut tail, cut);
        drop(machine);
        fs::remove_file(image(cut)).expect("the old disk");
        machine = Machine::boot(dir.path(), &image(cut + 1), cut + 1);
    }
    machine.draining(&sink).run().expect_code(0);
    sink.wait_alone();
    deliveries.read(&mut tail, CUTS);
    machine.infeed(&["spool", "check"]).run().expect_code(0);

    let report = machine.infeed(&["job", "report", "job", "--format", "csv"]).run().expect_code(0);
    let rows = parse_report(&report.stdout);
    assert_eq!((rows.len(), deliveries.of.len()), (RECIPIENTS, RECIPIENTS));
    let mut repeats = vec![0; CUTS + 1];
    for row in &rows {
        assert_eq!(row.outcome, "accepted", "{row:?}");
        let cuts = deliveries.of.get(&row.address).map_or(&[][..], Vec::as_slice);
        assert!(!cuts.is_empty(), "{} is lost", row.address);
        assert!(cuts.len() == 1 || row.possible_repeat, "{cuts:?}, and no mark: {row:?}");
        for pair in cuts.windows(2) {
            assert!(pair[0] < pair[1], "{} twice without a cut between: {cuts:?}", row.address);
            repeats[pair[0]] += 1;
        }
    }
    let marked = rows.iter().filter(|row| row.possible_repeat).count();
    eprintln!("{file_system}: {CUTS} power cuts, repeats {repeats:?}, {marked} marked");
    let most = repeats.iter().max().copied().unwrap_or(0);
    assert!(most <= CONNECTIONS + UNSYNCED_MAX, "{most} repeats by one cut");
    assert!(repeats.iter().any(|&n| n > 0), "no cut ever lost anything: this test proves nothing");
}

#[test]
fn power_cuts_on_ext4_lose_nobody_and_mark_every_repeat() {
    cuts_lose_nobody("ext4");
}

#[test]
fn power_cuts_on_xfs_lose_nobody_and_mark_every_repeat() {
    cuts_lose_nobody("xfs");
}
