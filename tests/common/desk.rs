//! One spool and the commands on it, as an operator types them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::binary::{Infeed, infeed};
use super::report::{Row, parse_report};

/// Reports of large jobs on a busy machine take their time.
const DEADLINE: Duration = Duration::from_secs(180);

/// A folder with a spool in it; it goes when dropped.
#[derive(Debug)]
pub struct Desk {
    dir: tempfile::TempDir,
}

impl Default for Desk {
    fn default() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }
}

impl Desk {
    pub fn new() -> Self {
        Self::default()
    }

    /// A file or folder of that name, on the same desk as the spool.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    /// Writes a file, and tells where.
    pub fn file(&self, name: &str, octets: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, octets).expect("a file on the desk");
        path
    }

    /// `infeed COMMAND… --spool …`; deferred recipients are due again within a second.
    pub fn infeed(&self, command: &[&str]) -> Infeed {
        infeed(command)
            .arg("--spool")
            .arg(self.spool())
            .env("INFEED_RETRY_DELAY_S_MIN", "1")
            .deadline(DEADLINE)
    }

    /// `infeed submit`, with its confirmation.
    pub fn submitting(&self, message: &Path, list: &Path, flags: &[&str]) -> Infeed {
        self.infeed(&["submit", "--yes", "--json"]).arg(message).arg("--to").arg(list).args(flags)
    }

    /// Submits, and gives the job's id.
    ///
    /// # Panics
    /// When it isn't taken.
    pub fn submit(&self, message: &Path, list: &Path, flags: &[&str]) -> String {
        let said = self.submitting(message, list, flags).run().expect_code(0).json();
        said["job"].as_str().expect("the job's id").to_owned()
    }

    /// `infeed drain` into the MTA at `address`.
    pub fn draining(&self, address: &str, connections: usize) -> Infeed {
        self.infeed(&["drain", "--json", "--mta", address, "--connections", &connections.to_string()])
    }

    /// `infeed job report`.
    ///
    /// # Panics
    /// When a recipient is in it twice.
    pub fn report(&self, job: &str) -> Vec<Row> {
        let run = self.infeed(&["job", "report", job, "--format", "csv"]).run().expect_code(0);
        let rows = parse_report(&run.stdout);
        let mut addresses: Vec<&str> = rows.iter().map(|row| row.address.as_str()).collect();
        addresses.sort_unstable();
        assert!(addresses.windows(2).all(|pair| pair[0] != pair[1]), "a recipient is in the report twice");
        rows
    }

    /// `infeed job show --json`.
    pub fn show(&self, job: &str) -> Value {
        self.infeed(&["job", "show", job, "--json"]).run().expect_code(0).json()
    }

    /// `infeed jobs --json`.
    pub fn jobs(&self) -> Vec<Value> {
        let jobs = self.infeed(&["jobs", "--json"]).run().expect_code(0).json();
        jobs.as_array().expect("a list of jobs").clone()
    }

    /// `infeed spool check`: nothing is damaged.
    ///
    /// # Panics
    /// When something is, with what was said of it.
    pub fn check(&self) {
        self.infeed(&["spool", "check"]).run().expect_code(0);
    }
}
