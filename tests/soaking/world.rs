//! The spool, the daemon, the MTAs and the jobs of a soak, and its end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::account::Account;
use crate::common::clock::Clock;
use crate::common::daemon::Daemon;
use crate::common::desk::Desk;
use crate::common::ledger::Tail;
use crate::common::report::Row;
use crate::common::wait::wait_until;
use crate::gauge::Gauge;
use crate::mtas::{Mta, NAMES};

/// The end of what waits, once nothing disturbs any more.
const QUIET: Duration = Duration::from_secs(600);

/// What was submitted at once, and isn't judged yet.
#[derive(Debug, Clone)]
pub struct Job {
    /// One job's, or those of the packs that small jobs came into.
    pub ids: Vec<String>,
    pub number: usize,
}

/// What was done, for the line at the end.
#[derive(Debug, Default)]
pub struct Done {
    pub jobs: usize,
    /// Jobs of one to three recipients, in packs.
    pub small_jobs: usize,
    /// Times that some were submitted.
    pub packs: usize,
    pub recipients: usize,
    pub largest: usize,
    pub changes: usize,
    pub standstills: usize,
    pub reloads: usize,
    pub restarts: usize,
    pub kills: usize,
    pub mta_restarts: usize,
    /// Of them, those by `kill -9`.
    pub mta_kills: usize,
    pub freezes: usize,
    pub clock_sets: usize,
    pub rivals: usize,
    pub killed_submissions: usize,
    pub judged: usize,
    pub accepted: u64,
    pub marked: u64,
}

pub struct World {
    pub desk: Desk,
    pub random: Rng,
    pub seconds: u64,
    pub daemon: Option<Daemon>,
    pub mtas: Vec<Mta>,
    /// The daemon's wall clock, where it can be set.
    pub clock: Option<Clock>,
    pub rehearsed: Tail,
    pub account: Account,
    pub jobs: Vec<Job>,
    pub done: Done,
    pub gauge: Gauge,
}

impl World {
    pub fn new(random: Rng, seconds: u64) -> Self {
        let desk = Desk::new();
        let mtas = NAMES.iter().map(|name| Mta::start(&desk, name)).collect();
        let clock = Clock::new(&desk.path(""));
        let rehearsed = Tail::new(&desk.path("rehearsed"));
        let mut world = Self {
            desk,
            random,
            seconds,
            daemon: None,
            mtas,
            clock,
            rehearsed,
            account: Account::default(),
            jobs: Vec::new(),
            done: Done::default(),
            gauge: Gauge::new(),
        };
        world.configure_well();
        world.start_daemon();
        world
    }

    pub fn config(&self) -> PathBuf {
        self.desk.path("infeed.toml")
    }

    pub fn configure_well(&self) {
        let tables: String = self.mtas.iter().map(|mta| mta.table(4, 1)).collect();
        self.desk.configure(&tables);
    }

    pub fn start_daemon(&mut self) {
        let (config, rehearsed) = (self.config(), self.desk.path("rehearsed"));
        let flags: [&str; 6] = [
            "--config",
            &config.display().to_string(),
            "--sink-ledger",
            &rehearsed.display().to_string(),
            "--set",
            "retry.delay_s_max=3",
        ];
        let serve = self.desk.infeed(&["serve"]).args(flags);
        let serve = if let Some(clock) = &self.clock { clock.on(serve) } else { serve };
        let mut daemon = Daemon::of(serve.spawn());
        daemon.wait_ready(&self.desk);
        self.daemon = Some(daemon);
    }

    /// Reads what has arrived.
    pub fn collect(&mut self) {
        for mta in &mut self.mtas {
            self.account.add(&mta.tail.read());
        }
        self.account.add(&self.rehearsed.read());
    }

    /// Judges the jobs that have ended, all of them or some, and removes them.
    pub fn judge_ended(&mut self, most: usize) {
        let said = self.desk.jobs();
        let view_of = |id: &String| said.iter().find(|view| view["job"] == id.as_str());
        let has_ended = |id: &String| {
            view_of(id).is_some_and(|view| matches!(view["state"].as_str(), Some("done" | "cancelled")))
        };
        let ended = self.jobs.iter().filter(|job| job.ids.iter().all(has_ended));
        let ended: Vec<Job> = ended.take(most).cloned().collect();
        // everything of theirs is in the ledgers by now
        self.collect();
        for job in ended {
            let report: Vec<Row> = job.ids.iter().flat_map(|id| self.desk.report(id)).collect();
            let verdict = self.account.judge(job.number, &report);
            let sum = |name: &str| {
                job.ids.iter().filter_map(view_of).filter_map(|view| view[name].as_u64()).sum::<u64>()
            };
            assert_eq!(
                (sum("accepted"), sum("possible_repeats")),
                (verdict.accepted, verdict.marked),
                "{job:?}"
            );
            self.done.judged += 1;
            self.done.accepted += verdict.accepted;
            self.done.marked += verdict.marked;
            for id in &job.ids {
                self.desk.infeed(&["job", "remove", id]).run().expect_code(0);
            }
            self.jobs.retain(|other| other.number != job.number);
        }
    }

    /// Lets everything come to its end, judges all of it, and gives the line of figures.
    pub fn finish(mut self) -> String {
        let quiet = Instant::now();
        self.desk.infeed(&["resume", "--all"]).run().expect_code(0);
        self.configure_well();
        for at in 0..self.mtas.len() {
            self.restart_mta(at, false);
        }
        self.desk.infeed(&["reload"]).run().expect_code(0);
        for id in self.jobs.clone().iter().flat_map(|job| &job.ids) {
            if self.desk.show(id)["state"] == "paused" {
                self.desk.infeed(&["job", "resume", "--accept-refusals", id]).run().expect_code(0);
            }
        }
        wait_until("end of all jobs", QUIET, || {
            let status = self.desk.status();
            self.gauge.read(self.daemon.as_ref().expect("it runs").footprint());
            // a change of state takes a moment
            status["jobs"]["active"] == 0 && status["jobs"]["paused"] == 0
        });
        self.judge_ended(usize::MAX);
        assert!(self.jobs.is_empty(), "never ended: {:?}", self.jobs);
        let status = self.desk.status();
        assert_eq!(
            (&status["backlog"]["recipients"], &status["in_flight"]),
            (&0.into(), &0.into()),
            "{status}"
        );
        assert_eq!(
            (&status["damaged"], &status["left_alone"]),
            (&serde_json::json!([]), &serde_json::json!([]))
        );
        self.daemon.take().expect("it runs").stop();
        self.collect();
        self.desk.check();

        let (first, last) = self.gauge.first_and_last();
        let (d, a) = (&self.done, &self.account);
        let figures = format!(
            "soak: {} s (and {} s to its end), {} jobs and {} small ones in packs, of {} recipients (up to {}), {} deliveries; {} job changes, \
             {} standstills, {} reloads, {} restarts, {} kills, {} MTA restarts ({} by kill), {} freezes, \
             {} settings of the clock, {} rivals, {} killed submissions; {} accepted, lost 0, {} \
             repeats, {} marked; RSS at most {} KiB in the first half, {} in the last quarter; open files {} and {}",
            self.seconds,
            quiet.elapsed().as_secs(),
            d.jobs,
            d.small_jobs,
            d.recipients,
            d.largest,
            a.deliveries,
            d.changes,
            d.standstills,
            d.reloads,
            d.restarts,
            d.kills,
            d.mta_restarts,
            d.mta_kills,
            d.freezes,
            d.clock_sets,
            d.rivals,
            d.killed_submissions,
            d.accepted,
            a.repeats,
            d.marked,
            first.rss_kib,
            last.rss_kib,
            first.files,
            last.files,
        );
        assert_eq!(d.judged, d.jobs + d.packs, "{figures}");
        if self.seconds >= 120 {
            // a short one is all warm-up
            assert!(last.rss_kib <= first.rss_kib * 5 / 4 + 16 * 1024, "it grows: {figures}");
            assert!(last.files <= first.files + 16, "open files grow: {figures}");
        }
        figures
    }
}
