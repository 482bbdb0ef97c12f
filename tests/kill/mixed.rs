//! `kill -9` of a daemon, and of the commands beside it, amid submit, drain, pause, resume and cancel.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::binary::Running;
use crate::common::daemon::{Daemon, MERGED, SHARED, list};
use crate::common::desk::Desk;
use crate::common::ledger::Tail;
use crate::common::mta::is_long;
use crate::common::seed::Seed;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;
use crate::rounds::DEADLINE;

/// N, and R of shared content.
const CONNECTIONS: usize = 4;
const PER_TRANSACTION: usize = 5;
/// Recipients of one submission, at most.
const RECIPIENTS_MAX: usize = 400;
/// Jobs that are not at their end, beyond which nothing is submitted.
const JOBS_MAX: usize = 6;

struct World {
    desk: Desk,
    random: fastrand::Rng,
    sink: SinkProcess,
    tail: Tail,
    /// By recipient: the round of each delivery, in the order of the ledger.
    deliveries: HashMap<String, Vec<usize>>,
    /// By submission's number: its recipients, and whether infeed said that it took it.
    submitted: Vec<(usize, bool)>,
    /// Pauses, resumes and cancels.
    changes: usize,
    killed_commands: usize,
}

impl World {
    fn new(random: fastrand::Rng) -> Self {
        let desk = Desk::new();
        let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "3"]);
        let tail = sink.tail();
        let (deliveries, submitted) = (HashMap::new(), Vec::new());
        Self { desk, random, sink, tail, deliveries, submitted, changes: 0, killed_commands: 0 }
    }

    fn daemon(&self) -> Running {
        self.desk
            .infeed(&["serve", "--mta", &self.sink.address(), "--connections", &CONNECTIONS.to_string()])
            .env("INFEED_MTA_RECIPIENTS_PER_TRANSACTION_MAX", PER_TRANSACTION.to_string())
            .spawn()
    }

    /// Lets a command run, or kills it after a moment; true when it ran to its end.
    fn let_run_or_kill(&mut self, command: Running) -> Option<crate::common::binary::Run> {
        if self.random.usize(0..4) > 0 {
            return Some(command.wait(DEADLINE));
        }
        std::thread::sleep(Duration::from_micros(self.random.u64(0..60_000)));
        command.signal(Signal::KILL);
        self.killed_commands += 1;
        // it may have been quicker
        Some(command.wait(DEADLINE)).filter(|run| run.code.is_some())
    }

    /// Waits for the ledger to grow by `n`, or for the daemon to have nothing to send.
    fn wait_for_some(&self, n: usize, daemon: &mut Running) {
        wait_until("deliveries, or nothing to do", DEADLINE, || {
            daemon.try_wait().is_some() || self.tail.waiting() >= n || self.active() == 0
        });
    }

    fn active(&self) -> usize {
        let at = self.desk.spool().join("active");
        std::fs::read_dir(at).map_or(0, |jobs| jobs.count())
    }

    fn act(&mut self) {
        let jobs = self.desk.jobs();
        let alive: Vec<String> = jobs
            .iter()
            .filter(|job| matches!(job["state"].as_str(), Some("active" | "paused")))
            .filter_map(|job| job["job"].as_str().map(str::to_owned))
            .collect();
        if alive.len() < JOBS_MAX && self.random.bool() || alive.is_empty() {
            self.submit();
        } else {
            let job = &alive[self.random.usize(0..alive.len())];
            let change = ["pause", "resume", "resume", "cancel"][self.random.usize(0..4)];
            let command = self.desk.infeed(&["job", change, job]).spawn();
            self.changes += 1;
            if let Some(run) = self.let_run_or_kill(command) {
                // it may come too late for its job
                assert!(matches!(run.code, Some(0 | 64..=69 | 75)), "{run:?}");
            }
        }
    }

    fn submit(&mut self) {
        let number = self.submitted.len();
        let n = self.random.usize(1..=RECIPIENTS_MAX);
        let (merged, tag) = (self.random.bool(), format!("t{number}"));
        let message = self.desk.file("message.eml", if merged { MERGED } else { SHARED });
        let list = self.desk.file("list.csv", list(&tag, n));
        let flags: &[&str] = if merged { &["--merge", "--again"] } else { &["--again"] };
        let command = self.desk.submitting(&message, &list, flags).spawn();
        let said = self.let_run_or_kill(command);
        let taken = said.is_some_and(|run| run.expect_code(0).json()["job"].is_string());
        self.submitted.push((n, taken));
    }

    fn collect(&mut self, round: usize) {
        self.sink.wait_alone();
        for entry in self.tail.read() {
            self.deliveries.entry(entry.recipient).or_default().push(round);
        }
    }

    /// Lets all of it come to its end, and judges; gives the number of repeats.
    fn finish(mut self, rounds: usize) -> usize {
        for job in self.desk.jobs() {
            if job["state"] == "paused" {
                let id = job["job"].as_str().expect("its id");
                self.desk.infeed(&["job", "resume", id]).run().expect_code(0);
            }
        }
        let mut daemon = Daemon::of(self.daemon());
        daemon.wait_ready(&self.desk);
        wait_until("end of all jobs", DEADLINE, || self.active() == 0);
        daemon.stop();
        self.collect(rounds);
        self.desk.check();

        let mut seen = HashSet::new();
        let mut marked = HashSet::new();
        for job in self.desk.jobs() {
            let id = job["job"].as_str().expect("its id");
            for row in self.desk.report(id) {
                let times = self.deliveries.get(&row.address).map_or(0, Vec::len);
                match row.outcome.as_str() {
                    "accepted" => assert!(times > 0, "lost: {row:?}"),
                    // in flight at a kill, and cancelled since
                    "in_doubt" => assert!(row.possible_repeat && job["state"] == "cancelled", "{row:?}"),
                    "cancelled" => assert!(times == 0 || row.possible_repeat, "{times} times: {row:?}"),
                    other => panic!("at the end somebody is {other}: {row:?}"),
                }
                assert!(times <= 1 || row.possible_repeat, "{times} times, and no mark: {row:?}");
                if row.possible_repeat {
                    marked.insert(row.address.clone());
                }
                assert!(seen.insert(row.address.clone()), "in two jobs: {row:?}");
            }
        }
        for (number, &(n, taken)) in self.submitted.iter().enumerate() {
            let prefix = format!("t{number}-");
            let there = seen.iter().filter(|address| address.starts_with(&prefix)).count();
            assert!(there == n || there == 0 && !taken, "of submission {number}: {there} of {n}");
        }
        if let Some(stranger) = self.deliveries.keys().find(|address| !seen.contains(*address)) {
            panic!("{stranger} was sent to, and is in no job");
        }

        let mut repeats = vec![0; rounds + 1];
        for (address, of) in &self.deliveries {
            for pair in of.windows(2) {
                assert!(pair[0] < pair[1], "{address} twice without a kill between: {of:?}");
                repeats[pair[0]] += 1;
            }
        }
        let bound = CONNECTIONS * PER_TRANSACTION;
        for (round, repeats) in repeats.iter().enumerate() {
            assert!(*repeats <= bound, "the kill of round {round} repeats {repeats}; allowed: {bound}");
        }
        assert!(marked.len() <= bound * rounds, "{} are marked", marked.len());
        repeats.iter().sum()
    }
}

#[test]
fn kills_amid_submit_drain_cancel_pause_and_resume_lose_nobody_and_repeat_at_most_n_times_r() {
    let seed = Seed::new();
    let rounds = if is_long() { 1_000 } else { 100 };
    let mut world = World::new(seed.random());
    for round in 0..rounds {
        if world.active() < 2 {
            world.submit();
        }
        let mut daemon = world.daemon();
        for _ in 0..world.random.usize(1..=2) {
            world.act();
        }
        let growth = world.random.usize(1..200);
        // now and then it dies while it starts
        if world.random.usize(0..8) > 0 {
            world.wait_for_some(growth, &mut daemon);
        }
        std::thread::sleep(Duration::from_micros(world.random.u64(0..5_000)));
        if daemon.try_wait().is_none() {
            daemon.signal(Signal::KILL);
        }
        let run = daemon.wait(DEADLINE);
        assert_eq!(run.code, None, "it ended by itself: {}", run.stderr);
        world.collect(round);
    }
    let (jobs, changes, killed) = (world.submitted.len(), world.changes, world.killed_commands);
    let repeats = world.finish(rounds);
    eprintln!(
        "{rounds} kills amid {jobs} submissions and {changes} changes, {killed} commands killed: {repeats} repeats"
    );
}
