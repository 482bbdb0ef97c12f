//! The wall clock is set while infeed runs, and between two runs: nobody is tried too early, nor over and
//! over, and what was never tried doesn't wait for the clock to come round again.
//!
//! libfaketime stands between infeed and the wall clock; the test's own clock, and the sink's, are the
//! machine's.

mod common;

use std::time::{Duration, Instant};

use rustix::process::Signal;

use common::binary::Running;
use common::clock::Clock;
use common::daemon::{DEADLINE, SHARED};
use common::desk::Desk;
use common::sink::SinkProcess;
use common::wait::wait_until;

/// The wait before a second try, and, doubled, before a third.
const DELAY_S: u64 = 4;
/// The smallest time between the first try and the third: each wait may begin up to a second's rounding later,
/// never earlier.
const TWICE: Duration = Duration::from_secs(DELAY_S + 2 * DELAY_S);

/// A desk whose infeed sees a clock that can be set.
struct Clocked {
    desk: Desk,
    sink: SinkProcess,
    clock: Clock,
}

impl Clocked {
    fn new() -> Option<Self> {
        let desk = Desk::new();
        let clock = Clock::or_skip(&desk.path(""))?;
        let sink = SinkProcess::start(&desk.path("sink"), &[]);
        Some(Self { desk, sink, clock })
    }

    fn daemon(&self) -> Running {
        let serve = self.desk.infeed(&["serve", "--mta", &self.sink.address()]);
        self.clock
            .on(serve)
            .env("INFEED_RETRY_DELAY_S_MIN", DELAY_S.to_string())
            .env("INFEED_RETRY_DELAY_S_MAX", (2 * DELAY_S).to_string())
            .spawn()
    }

    /// Ten that are taken at once, and one that is taken at the third try.
    fn submit(&self) -> String {
        let mut list = String::from("defer-451-2x.late@d.example\n");
        (0..10).for_each(|i| list.push_str(&format!("r{i}@d{i}.example\n")));
        let (message, list) = (self.desk.file("m.eml", SHARED), self.desk.file("list.txt", list));
        let said = self.clock.on(self.desk.submitting(&message, &list, &[])).run().expect_code(0).json();
        said["job"].as_str().expect("its id").to_owned()
    }

    /// Waits for the first tries of all.
    fn wait_first_tries(&self, job: &str) {
        wait_until("the first tries", DEADLINE, || {
            let show = self.desk.show(job);
            (&show["accepted"], &show["deferred"]) == (&10.into(), &1.into())
        });
    }

    /// Everybody was taken, the late one at its third try and no earlier than its two waits after `began`.
    fn judge(self, job: &str, began: Instant) {
        let report = self.desk.report(job);
        assert!(report.iter().all(|row| row.outcome == "accepted" && !row.possible_repeat), "{report:?}");
        let late = report.iter().find(|row| row.address.starts_with("defer")).expect("the late one");
        assert_eq!(late.attempts, 3, "tried over and over: {late:?}");
        assert!(began.elapsed() >= TWICE, "too early: all was done {:?} after the start", began.elapsed());
        self.desk.check();
        let (_, ledger) = self.sink.stop();
        assert_eq!(ledger.len(), report.len());
    }
}

/// The clock is set as soon as somebody is deferred, and set right between the second and the third try.
fn set_while_it_runs(seconds_ahead: i64) {
    let Some(clocked) = Clocked::new() else { return };
    let job = clocked.submit();
    let began = Instant::now();
    let daemon = clocked.daemon();
    clocked.wait_first_tries(&job);
    clocked.clock.set(seconds_ahead);
    let late = || clocked.desk.report(&job).into_iter().find(|row| row.address.starts_with("defer"));
    wait_until("the second try", DEADLINE, || late().is_some_and(|row| row.attempts == 2));
    clocked.clock.set(0);
    wait_until("the end", DEADLINE, || clocked.desk.show(&job)["state"] == "done");
    daemon.signal(Signal::TERM);
    daemon.wait(DEADLINE).expect_code(0);
    clocked.judge(&job, began);
}

#[test]
fn a_clock_that_is_set_an_hour_ahead_brings_no_try_forward() {
    set_while_it_runs(3_600);
}

#[test]
fn a_clock_that_is_set_an_hour_back_puts_no_try_off() {
    set_while_it_runs(-3_600);
}

#[test]
fn a_clock_that_leaps_back_over_a_restart_neither_stops_the_job_nor_hurries_it() {
    let Some(clocked) = Clocked::new() else { return };
    let job = clocked.submit();
    let began = Instant::now();
    let first = clocked.daemon();
    clocked.wait_first_tries(&job);
    first.signal(Signal::TERM);
    first.wait(DEADLINE).expect_code(0);
    // a second job, of which nothing was tried
    let fresh = clocked.desk.submit_list("fresh", 5, SHARED, &["--again"]);
    clocked.clock.set(-3_600);
    let second = clocked.daemon();
    wait_until("the end of both", DEADLINE, || {
        [&job, &fresh].iter().all(|job| clocked.desk.show(job)["state"] == "done")
    });
    second.signal(Signal::TERM);
    second.wait(DEADLINE).expect_code(0);
    assert_eq!(clocked.desk.show(&fresh)["accepted"], 5);
    clocked.desk.infeed(&["job", "remove", &fresh]).run().expect_code(0);
    let Clocked { desk, sink, .. } = clocked;
    let late = desk.report(&job).into_iter().find(|row| row.address.starts_with("defer")).expect("it");
    assert_eq!((late.outcome.as_str(), late.attempts), ("accepted", 3), "{late:?}");
    assert!(began.elapsed() >= TWICE, "too early: {:?}", began.elapsed());
    let (_, ledger) = sink.stop();
    assert_eq!(ledger.len(), 16);
}

#[test]
fn what_a_clock_that_was_ahead_has_put_off_is_tried_after_the_longest_wait() {
    let Some(clocked) = Clocked::new() else { return };
    let job = clocked.submit();
    clocked.clock.set(30 * 86_400);
    let began = Instant::now();
    let first = clocked.daemon();
    clocked.wait_first_tries(&job);
    first.signal(Signal::TERM);
    first.wait(DEADLINE).expect_code(0);
    clocked.clock.set(0);
    let second = clocked.daemon();
    wait_until("the end", DEADLINE, || clocked.desk.show(&job)["state"] == "done");
    second.signal(Signal::TERM);
    second.wait(DEADLINE).expect_code(0);
    clocked.judge(&job, began);
}

#[test]
fn a_job_that_comes_while_the_daemon_runs_has_its_retries_put_off_from_now_and_not_further() {
    let Some(clocked) = Clocked::new() else { return };
    let daemon = clocked.daemon();
    // the longer it runs before, the further they would be put off
    std::thread::sleep(std::time::Duration::from_secs(3));
    let job = clocked.submit();
    clocked.wait_first_tries(&job);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let due = std::time::Duration::from_micros(last_due_us(&clocked.desk, &job));
    assert!(due <= now + Duration::from_secs(DELAY_S), "{:?} too late", due - now);
    daemon.signal(Signal::TERM);
    daemon.wait(DEADLINE).expect_code(0);
}

/// When the last chunk of an active job is due, by its name.
fn last_due_us(desk: &Desk, job: &str) -> u64 {
    let chunks = desk.spool().join("active").join(job).join("chunks");
    let folders = std::fs::read_dir(chunks).expect("its chunks").flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).expect("a folder").flatten());
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let dues = names.filter_map(|name| name.split_once('+').and_then(|(due, _)| due.parse().ok()));
    dues.max().expect("a chunk")
}
