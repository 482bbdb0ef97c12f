//! What is done to the daemon, at random.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use infeed::intake::{PackSettings, Packer, SmallJob};
use infeed::spool::{DirSpool, Settings};
use rustix::process::Signal;

use crate::account::address;
use crate::common::binary::Run;
use crate::common::daemon::{DEADLINE, MERGED, SHARED};
use crate::mtas::NAMES;
use crate::world::{Job, World};

/// Recipients that wait, at most: beyond it nothing is submitted.
const BACKLOG_MAX: u64 = 60_000;
/// Ended jobs that wait to be judged, at most.
const ENDED_MAX: u64 = 40;

impl World {
    /// One act.
    pub fn act(&mut self) {
        match self.random.usize(0..1000) {
            0..400 => self.submit(),
            400..415 => self.kill_submission(),
            415..460 => self.submit_small(),
            460..475 => self.be_rivals(),
            475..500 => self.set_clock(),
            500..740 => self.change_job(),
            740..770 => self.race(),
            770..800 => self.stand_still(),
            800..850 => self.reload(),
            850..870 => self.restart_at_random(),
            870..890 => self.kill_at_random(),
            890..905 => {
                let at = self.random.usize(0..self.mtas.len());
                self.restart_mta(at, true);
            }
            905..915 => self.freeze(),
            915..940 => self.collect(),
            _ => self.look(),
        }
    }

    /// In a long run lives are long enough to grow in.
    fn is_time_for_an_end(&mut self) -> bool {
        self.seconds < 120 || self.random.bool()
    }

    fn recipients(&mut self) -> usize {
        let most = if self.seconds < 120 { 6_000 } else { 50_000 };
        match self.random.usize(0..100) {
            0..50 => self.random.usize(1..=10),
            50..80 => self.random.usize(10..=500),
            80..95 => self.random.usize(500..=3_000),
            _ => self.random.usize(3_000..=most),
        }
    }

    fn submit(&mut self) {
        let status = self.desk.status();
        if status["backlog"]["recipients"].as_u64() > Some(BACKLOG_MAX) {
            std::thread::sleep(Duration::from_millis(200));
            return;
        }
        let n = self.recipients();
        let number = self.account.open(n);
        let mut list = String::from("email\n");
        for i in 0..n {
            let asks = match self.random.usize(0..200) {
                0 => "refuse-550.",
                1 | 2 => "defer-451-1x.",
                3 => "defer-450-2x.",
                _ => "",
            };
            list.push_str(&address(asks, number, i));
            list.push('\n');
        }
        let merged = self.random.bool();
        let mut flags = vec!["--config".to_owned(), self.desk.path("all.toml").display().to_string()];
        if merged {
            flags.push("--merge".to_owned());
        }
        match self.random.usize(0..10) {
            0 => flags.extend(["--mta".to_owned(), "sink".to_owned()]),
            1 | 2 => flags.extend(["--mta".to_owned(), NAMES[self.random.usize(0..NAMES.len())].to_owned()]),
            _ => {}
        }
        if self.random.usize(0..4) == 0 {
            flags.extend(["--priority".to_owned(), self.random.usize(0..=9).to_string()]);
        }
        // what a submission may name, whatever the daemon has at the moment
        let tables: String = self.mtas.iter().map(|mta| mta.table(1, 1)).collect();
        self.desk.file("all.toml", tables);
        let message = self.desk.file("message.eml", if merged { MERGED } else { SHARED });
        let list = self.desk.file("list.csv", list);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let id = self.desk.submit(&message, &list, &flags);
        self.jobs.push(Job { ids: vec![id], number });
        self.done.jobs += 1;
        self.done.recipients += n;
        self.done.largest = self.done.largest.max(n);
    }

    /// Small jobs at once, by the library, each with a message of its own.
    fn submit_small(&mut self) {
        let sizes: Vec<usize> = (0..self.random.usize(1..=60)).map(|_| self.random.usize(1..=3)).collect();
        let recipients: usize = sizes.iter().sum();
        let number = self.account.open(recipients);
        let (mut jobs, mut next) = (Vec::new(), 0);
        for size in &sizes {
            let to: Vec<String> = (next..next + size).map(|i| address("", number, i)).collect();
            let message =
                format!("From: <app@example.org>\r\nSubject: {next}\r\n\r\nHello {}\r\n", to.join(" "));
            jobs.push(SmallJob::new(message.into_bytes(), to));
            next += size;
        }
        let spool = DirSpool::open(&self.desk.spool(), Settings::default()).expect("the spool");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let members = runtime.block_on(async {
            let packer = Arc::new(Packer::start(spool, PackSettings::default()).expect("a packer"));
            let submit = |job| {
                let packer = Arc::clone(&packer);
                tokio::spawn(async move { packer.submit(job).await })
            };
            let submits: Vec<_> = jobs.into_iter().map(submit).collect();
            let mut members = Vec::new();
            for submit in submits {
                members.push(submit.await.expect("no panic").expect("submitted").to_string());
            }
            packer.shutdown().await;
            members
        });
        let packs =
            members.iter().filter_map(|member| member.rsplit_once('.')).map(|(pack, _)| pack.to_owned());
        let packs: BTreeSet<String> = packs.collect();
        self.jobs.push(Job { ids: packs.into_iter().collect(), number });
        self.done.packs += 1;
        self.done.small_jobs += sizes.len();
        self.done.recipients += recipients;
    }

    /// A submission that is killed, and made again under the same key.
    fn kill_submission(&mut self) {
        let key = format!("killed-{}", self.random.u64(..));
        let n = self.random.usize(1..3_000);
        let number = self.account.open(n);
        let mut list = String::from("email\n");
        (0..n).for_each(|i| list.push_str(&format!("{}\n", address("", number, i))));
        let (message, list) = (self.desk.file("killed.eml", MERGED), self.desk.file("killed.csv", list));
        let flags = ["--merge", "--again", "--id", &key];
        let command = self.desk.submitting(&message, &list, &flags).spawn();
        std::thread::sleep(Duration::from_micros(self.random.u64(0..120_000)));
        command.signal(Signal::KILL);
        command.wait(DEADLINE);
        self.done.killed_submissions += 1;
        // the same key makes exactly one job of it, whatever was left behind
        let id = self.desk.submit(&message, &list, &flags);
        self.jobs.push(Job { ids: vec![id], number });
        self.done.jobs += 1;
        self.done.recipients += n;
    }

    /// Others want slices that the daemon has.
    fn be_rivals(&mut self) {
        let address = "127.0.0.1:9";
        let rivals: Vec<_> = ["0-15", "3", "8-15"]
            .iter()
            .map(|slices| self.desk.draining(address, 1).args(["--slices", slices]).spawn())
            .collect();
        for rival in rivals {
            let said = rival.wait(DEADLINE).expect_code(0).json();
            assert_eq!(said["ended"], "owned", "{said}");
        }
        self.done.rivals += 3;
    }

    /// The daemon's wall clock goes an hour ahead, back, or right.
    fn set_clock(&mut self) {
        if let Some(clock) = &self.clock {
            clock.set([-3_600, 0, 3_600][self.random.usize(0..3)]);
            self.done.clock_sets += 1;
        }
    }

    /// The daemon, or an MTA, stands still for a while.
    fn freeze(&mut self) {
        let pause = Duration::from_millis(self.random.u64(10..1_500));
        let daemon = self.daemon.as_ref().expect("it runs");
        match self.random.usize(0..=self.mtas.len()) {
            0 => {
                daemon.signal(Signal::STOP);
                std::thread::sleep(pause);
                daemon.signal(Signal::CONT);
            }
            at => {
                self.mtas[at - 1].signal(Signal::STOP);
                std::thread::sleep(pause);
                self.mtas[at - 1].signal(Signal::CONT);
            }
        }
        self.done.freezes += 1;
    }

    fn any_job(&mut self) -> Option<String> {
        // a late one is likelier to be under way
        let n = self.jobs.len().min(12);
        let job = (n > 0).then(|| self.jobs.len() - 1 - self.random.usize(0..n))?;
        let ids = &self.jobs[job].ids;
        Some(ids[self.random.usize(0..ids.len())].clone())
    }

    fn any_change(&mut self) -> &'static str {
        ["pause", "pause", "pause", "resume", "resume", "resume", "cancel"][self.random.usize(0..7)]
    }

    fn change_job(&mut self) {
        let (Some(job), change) = (self.any_job(), self.any_change()) else { return };
        may_lose(&self.desk.infeed(&["job", change, &job]).run());
        self.done.changes += 1;
    }

    /// Several changes of one job at once.
    fn race(&mut self) {
        let Some(job) = self.any_job() else { return };
        let changes: Vec<&str> = (0..4).map(|_| self.any_change()).collect();
        let running: Vec<_> =
            changes.iter().map(|change| self.desk.infeed(&["job", change, &job]).spawn()).collect();
        for one in running {
            may_lose(&one.wait(DEADLINE));
        }
        self.done.changes += changes.len();
    }

    fn stand_still(&mut self) {
        let command =
            |command: &str| self.desk.infeed(&[command, "--all", "--json"]).run().expect_code(0).json();
        command("pause");
        self.done.standstills += 1;
        if self.random.bool() {
            self.submit();
        }
        let command =
            |command: &str| self.desk.infeed(&[command, "--all", "--json"]).run().expect_code(0).json();
        command("resume");
    }

    fn reload(&mut self) {
        let is_bad = self.random.usize(0..5) == 0;
        if is_bad {
            self.desk.configure("[[mta]]\nname = 'a'\nadress = 'nowhere'\n");
        } else {
            let mut tables = String::new();
            // now and then one is taken out
            let out = if self.random.usize(0..3) == 0 { self.random.usize(0..3) } else { NAMES.len() };
            let weighted = self.random.bool();
            for (at, mta) in self.mtas.iter().enumerate() {
                let weight = if weighted { self.random.usize(1..=4) } else { 1 };
                let table = mta.table(self.random.usize(1..=6), weight);
                if at != out {
                    tables.push_str(&table);
                }
            }
            self.desk.configure(&tables);
        }
        if self.random.bool() {
            self.desk.infeed(&["reload"]).run().expect_code(if is_bad { 78 } else { 0 });
        } else {
            self.daemon.as_ref().expect("it runs").signal(Signal::HUP);
        }
        if is_bad {
            // a daemon that is started next must find a good one; the reload may find it too
            self.desk.status();
            self.configure_well();
        }
        self.done.reloads += 1;
    }

    fn restart_at_random(&mut self) {
        if self.is_time_for_an_end() {
            self.daemon.take().expect("it runs").stop();
            self.start_daemon();
            self.done.restarts += 1;
        }
    }

    fn kill_at_random(&mut self) {
        if !self.is_time_for_an_end() {
            return;
        }
        self.daemon.take().expect("it runs").kill();
        // what was on its way to the MTAs is still taken
        for mta in &self.mtas {
            mta.wait_alone();
        }
        self.collect();
        self.account.disrupted();
        self.start_daemon();
        self.done.kills += 1;
    }

    /// Ends an MTA, and begins it anew.
    pub fn restart_mta(&mut self, at: usize, any_mood: bool) {
        let kill = any_mood && self.random.bool();
        self.mtas[at].end(kill);
        // what it took and didn't answer for may be in another's ledger already: its own is read first
        let taken = self.mtas[at].tail.read();
        self.account.add(&taken);
        self.account.disrupted();
        self.collect();
        let random = any_mood.then_some(&mut self.random);
        self.mtas[at].begin(&self.desk, random);
        self.done.mta_restarts += 1;
        self.done.mta_kills += usize::from(kill);
    }

    /// What it says of itself, and its size; judges what has ended.
    fn look(&mut self) {
        let status = self.desk.status();
        assert_eq!(status["damaged"], serde_json::json!([]), "{status}");
        assert_eq!(status["owners"].as_array().map(Vec::len), Some(1), "{status}");
        self.gauge.read(self.daemon.as_ref().expect("it runs").footprint());
        let ended =
            status["jobs"]["done"].as_u64().unwrap_or(0) + status["jobs"]["cancelled"].as_u64().unwrap_or(0);
        if ended > ENDED_MAX {
            self.judge_ended(20);
        }
    }
}

/// A change may come too late for its job; then it says so.
fn may_lose(run: &Run) {
    assert!(matches!(run.code, Some(0 | 64..=69 | 75)), "{run:?}");
}
