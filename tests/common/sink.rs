//! `infeed sink` as a process of its own, with a ledger.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::binary::{Running, infeed};
use super::ledger::{Entry, Tail, read_ledger};
use super::port::free_port;
use super::wait::{wait_for, wait_until};

const DEADLINE: Duration = Duration::from_secs(30);

/// A sink on a free port; stopped when dropped.
#[derive(Debug)]
pub struct SinkProcess {
    running: Running,
    port: u16,
    folder: PathBuf,
}

impl SinkProcess {
    /// Starts it, with its files in `folder` (made when it isn't there); it listens when this returns.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn start(folder: &Path, flags: &[&str]) -> Self {
        // not one that the kernel gives to somebody else while this sink is down
        Self::start_at(folder, free_port(), flags)
    }

    /// The same on a given port, such as that of one that was stopped; it goes on with that one's ledger.
    ///
    /// # Panics
    /// When it doesn't listen.
    pub fn start_at(folder: &Path, port: u16, flags: &[&str]) -> Self {
        std::fs::create_dir_all(folder).expect("a folder for the sink");
        let port_file = folder.join("port");
        // an earlier one's
        if let Err(error) = std::fs::remove_file(&port_file) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}: {error}", port_file.display());
        }
        let listen = format!("127.0.0.1:{port}");
        let mut running = infeed(["sink", "--listen", &listen, "--json"])
            .arg("--port-file")
            .arg(&port_file)
            .arg("--ledger")
            .arg(folder.join("ledger"))
            .args(flags)
            .spawn();
        let address = wait_for("port of the sink", DEADLINE, || {
            assert!(running.try_wait().is_none(), "the sink has ended");
            std::fs::read_to_string(&port_file).ok()
        });
        let (_, port) = address.trim().rsplit_once(':').expect("ADDRESS:PORT");
        SinkProcess { running, port: port.parse().expect("a port"), folder: folder.to_owned() }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`, as `--mta` takes it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it has taken so far.
    pub fn taken(&self) -> Vec<Entry> {
        self.tail().read()
    }

    /// The ledger from its beginning.
    pub fn tail(&self) -> Tail {
        Tail::new(&self.folder.join("ledger"))
    }

    /// Returns once no client is connected, and what the last ones wrote is in the ledger: the sink has
    /// read its end of every connection to the end.
    ///
    /// # Panics
    /// At a deadline.
    pub fn wait_alone(&self) {
        wait_until("end of the sink's connections", DEADLINE, || !has_connection(self.port));
    }

    /// Sends it a signal, such as STOP, CONT or KILL.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// `kill -9`: what it has taken is in its ledger, whatever it said.
    ///
    /// # Panics
    /// When it has ended otherwise.
    pub fn kill(self) {
        self.running.signal(Signal::KILL);
        assert_eq!(self.running.wait(DEADLINE).code, None, "killed");
    }

    /// Stops it, and gives its summary and its ledger.
    ///
    /// # Panics
    /// When it doesn't end well.
    pub fn stop(self) -> (serde_json::Value, Vec<Entry>) {
        self.running.signal(Signal::TERM);
        let summary = self.running.wait(DEADLINE).expect_code(0).json();
        (summary, read_ledger(&self.folder.join("ledger")))
    }
}

/// Whether a socket of 127.0.0.1:PORT is established, or has something left to read (asked of the kernel).
fn has_connection(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let local = format!("0100007F:{port:04X}");
    table.lines().any(|line| {
        // number, local address, remote address, state
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (at, state) = (fields.next(), fields.nth(1));
        at == Some(local.as_str()) && matches!(state, Some("01" | "08"))
    })
}
