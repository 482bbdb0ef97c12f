//! `infeed serve` on a desk: started, told, ended by its process id.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::binary::{Run, Running};
use super::desk::Desk;
use super::wait::{wait_for, wait_until};

/// A daemon's start, or its end; also the longest wait for what it is asked.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The same content for everybody.
pub const SHARED: &str = "From: List <list@example.org>\r\nTo: you@example.org\r\nSubject: news\r\n\
    Message-ID: <news@example.org>\r\nDate: Sun, 22 Nov 2026 03:14:00 +0000\r\n\r\nHello, all of you\r\n";

/// Content of one's own for everybody.
pub const MERGED: &str = "From: List <list@example.org>\r\nTo: <{{ address }}>\r\nSubject: news\r\n\
    Date: Sun, 22 Nov 2026 03:14:00 +0000\r\n\r\nHello, {{ email }}\r\n";

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    running: Running,
}

impl Daemon {
    /// `infeed serve FLAGS…` on the desk's spool; it answers when this returns.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn start(desk: &Desk, flags: &[&str]) -> Self {
        let mut daemon = Self { running: desk.infeed(&["serve"]).args(flags).spawn() };
        daemon.wait_ready(desk);
        daemon
    }

    /// The same with the configuration file `infeed.toml` of the desk.
    pub fn configured(desk: &Desk) -> Self {
        Self::start(desk, &["--config", &config_path(desk).display().to_string()])
    }

    /// One that was started otherwise.
    pub fn of(running: Running) -> Self {
        Self { running }
    }

    /// Returns once it answers.
    ///
    /// # Panics
    /// When it ends instead, or at a deadline.
    pub fn wait_ready(&mut self, desk: &Desk) {
        let who = format!("process {}", self.pid());
        wait_until("daemon that answers", DEADLINE, || {
            assert!(self.running.try_wait().is_none(), "the daemon has ended");
            let status = desk.infeed(&["status", "--json"]).run();
            status.code == Some(0)
                && status.stdout.contains(&who)
                && status.json()["owners"][0]["command"] == "serve"
        });
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.running.try_wait().is_some()
    }

    /// Ends it in order; gives what it said.
    ///
    /// # Panics
    /// When it doesn't end with 0.
    pub fn stop(self) -> Run {
        self.signal(Signal::TERM);
        self.stop_by_itself()
    }

    /// Waits for its end, which something else has asked for; gives what it said.
    ///
    /// # Panics
    /// When it doesn't end with 0.
    pub fn stop_by_itself(self) -> Run {
        self.running.wait(DEADLINE).expect_code(0)
    }

    /// `kill -9`.
    pub fn kill(self) {
        self.signal(Signal::KILL);
        assert_eq!(self.running.wait(DEADLINE).code, None, "killed");
    }

    /// Its resident memory in KiB, and its open files.
    ///
    /// # Panics
    /// When `/proc` doesn't say.
    pub fn footprint(&self) -> (u64, usize) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kib = rss.trim().trim_end_matches("kB").trim().parse().expect("KiB");
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("its open files");
        (kib, files.count())
    }
}

fn config_path(desk: &Desk) -> PathBuf {
    desk.path("infeed.toml")
}

/// What to do with a desk whose spool a daemon drains.
impl Desk {
    /// Writes the configuration of [`Daemon::configured`].
    pub fn configure(&self, text: &str) {
        self.file("infeed.toml", text);
    }

    /// `infeed status --json`.
    pub fn status(&self) -> Value {
        self.infeed(&["status", "--json"]).run().expect_code(0).json()
    }

    /// What `infeed status` says of one MTA.
    ///
    /// # Panics
    /// When it isn't named.
    pub fn mta_status(&self, name: &str) -> Value {
        let status = self.status();
        let mtas = status["mtas"].as_array().expect("a list of MTAs");
        mtas.iter().find(|mta| mta["name"] == name).unwrap_or_else(|| panic!("no {name}: {status}")).clone()
    }

    /// Submits `text` to `n` recipients of [`list`]; gives the job's id.
    pub fn submit_list(&self, tag: &str, n: usize, text: &str, flags: &[&str]) -> String {
        let message = self.file(&format!("{tag}.eml"), text);
        let list = self.file(&format!("{tag}.csv"), list(tag, n));
        self.submit(&message, &list, flags)
    }

    /// Waits until the job is in this state; gives what `job show` says of it then.
    ///
    /// # Panics
    /// At a deadline.
    pub fn wait_state(&self, job: &str, state: &str) -> Value {
        wait_for(&format!("job {job} that is {state}"), DEADLINE, || {
            Some(self.show(job)).filter(|show| show["state"] == state)
        })
    }

    /// Waits until this many of the job were accepted.
    ///
    /// # Panics
    /// At a deadline.
    pub fn wait_accepted(&self, job: &str, n: u64) {
        wait_until(&format!("{n} of {job} accepted"), DEADLINE, || {
            self.show(job)["accepted"].as_u64() >= Some(n)
        });
    }
}

/// A list of `n` recipients over 17 domains; `tag` tells them from those of other jobs.
pub fn list(tag: &str, n: usize) -> String {
    let mut list = String::from("email\n");
    for i in 0..n {
        list.push_str(&format!("{tag}-{i}@d{}.example\n", i % 17));
    }
    list
}
