//! Private instances of the real MTAs, by the recipes in `tests/mta`.
//!
//! An instance has its own folder, configuration, queue and port, and touches nothing of the machine's
//! own. Dropping it stops it, by process id, and removes the folder; what a killed test process left
//! behind, `tests/run` sweeps up.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::port::free_port;
use super::wait::wait_until;

/// Where an MTA sends what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// To whatever listens on this port of 127.0.0.1.
    To(u16),
    /// Nowhere: it is taken, and forgotten.
    Discard,
    /// Nowhere: it stays in the queue.
    Queue,
}

impl Relay {
    fn argument(self) -> String {
        match self {
            Relay::To(port) => port.to_string(),
            Relay::Discard => "discard".to_owned(),
            Relay::Queue => "queue".to_owned(),
        }
    }
}

/// Whether tests against this MTA (`postfix`, `sendmail`), or with `sasl`, can run here. `false`: skip; it is said on
/// stderr, and counted by `tests/run`.
///
/// # Panics
/// When it can't and `INFEED_TEST_REQUIRE_MTA` is set, as `tests/run` sets it with `CI=true`.
pub fn skip_or_require(mta: &str) -> bool {
    let check = recipe(mta).arg("check").output().expect("the recipe runs");
    if check.status.success() {
        return true;
    }
    let missing = String::from_utf8_lossy(&check.stderr).trim().to_owned();
    assert!(std::env::var_os("INFEED_TEST_REQUIRE_MTA").is_none(), "{mta} is required: {missing}");
    skip(&missing);
    false
}

/// Whether `tests/run --long` asked for the long tests. `false`: skip.
pub fn long_tests() -> bool {
    let wanted = is_long();
    if !wanted {
        skip("a long test; to have it: tests/run --long");
    }
    wanted
}

/// The same, for a test that has a short form.
pub fn is_long() -> bool {
    std::env::var_os("INFEED_TEST_LONG").is_some()
}

/// Says that the running test is skipped, and why, to people and to `tests/run`.
pub fn skip(why: &str) {
    use io::Write;
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    if let Some(list) = std::env::var_os("INFEED_TEST_SKIPS") {
        let mut list =
            fs::OpenOptions::new().append(true).create(true).open(list).expect("the list of skips");
        list.write_all(line.as_bytes()).expect("the list of skips takes a line");
    }
}

/// A private Postfix; see `tests/mta/postfix` for what it refuses and defers.
#[derive(Debug)]
pub struct Postfix(Instance);

impl Postfix {
    /// Starts it; it listens when this returns. `extra`: further lines of main.cf.
    ///
    /// # Panics
    /// When it doesn't start; ask [`skip_or_require`] before.
    pub fn start(relay: Relay, extra: &[&str]) -> Self {
        Postfix(Instance::start("postfix", relay, extra))
    }

    /// The Unix-domain socket that it listens on as well.
    pub fn socket(&self) -> PathBuf {
        self.0.dir.join("spool/public/infeed")
    }

    /// Changes lines of main.cf, and has them read (`postfix reload`): sessions that stand go on as before.
    ///
    /// # Panics
    /// When Postfix does not take them.
    pub fn reload(&self, lines: &[&str]) {
        let reload = recipe("postfix").arg("reload").arg(&self.0.dir).args(lines).output();
        let said = reload.expect("the recipe runs");
        assert!(said.status.success(), "no reload: {}", String::from_utf8_lossy(&said.stderr));
    }

    /// Messages in its queue, whatever their state; not what it had begun to take when it was reloaded, which
    /// nobody was told that it has (it marks a whole message as executable).
    pub fn queued(&self) -> usize {
        ["maildrop", "incoming", "active", "deferred", "hold", "corrupt"]
            .iter()
            .map(|queue| count_whole(&self.0.dir.join("spool").join(queue)))
            .sum()
    }

    /// Returns once its queue is empty.
    ///
    /// # Panics
    /// At the deadline.
    pub fn wait_queue_empty(&self, deadline: Duration) {
        wait_until("empty queue of Postfix", deadline, || self.queued() == 0);
    }
}

/// A private sendmail; see `tests/mta/sendmail` for what it refuses and defers.
#[derive(Debug)]
pub struct Sendmail(Instance);

impl Sendmail {
    /// Starts it; it listens when this returns. `extra`: further lines of its m4 configuration.
    ///
    /// # Panics
    /// When it doesn't start; ask [`skip_or_require`] before.
    pub fn start(relay: Relay, extra: &[&str]) -> Self {
        Sendmail(Instance::start("sendmail", relay, extra))
    }

    /// Messages in its queue, and parts of messages.
    pub fn queued(&self) -> usize {
        count_files(&self.0.dir.join("queue"), &|name| name.starts_with("qf") || name.starts_with("df"))
    }

    /// Returns once its queue is empty.
    ///
    /// # Panics
    /// At the deadline.
    pub fn wait_queue_empty(&self, deadline: Duration) {
        wait_until("empty queue of sendmail", deadline, || self.queued() == 0);
    }
}

macro_rules! instance_methods {
    ($($Mta:ident),+) => {$(
        impl $Mta {
            /// The port on 127.0.0.1 that it listens on.
            pub fn port(&self) -> u16 {
                self.0.port
            }

            /// `127.0.0.1:PORT`, as `--mta` takes it.
            pub fn address(&self) -> String {
                format!("127.0.0.1:{}", self.0.port)
            }

            /// Its folder: `log` in it is what it says.
            pub fn dir(&self) -> &Path {
                &self.0.dir
            }

            /// What it has logged.
            pub fn log(&self) -> String {
                fs::read_to_string(self.0.dir.join("log")).unwrap_or_default()
            }

            /// The id of the session that all of its processes are in.
            pub fn session(&self) -> u32 {
                self.0.session
            }

            /// Stops it as dropping does, keeping its queue; `start_again` goes on with that.
            pub fn stop(&self) {
                self.0.stop();
            }

            /// Starts it again on the same port and queue.
            pub fn start_again(&mut self) {
                self.0.launch();
            }

            /// Stops it, and starts it on the same port and queue with another configuration.
            pub fn start_anew(&mut self, relay: Relay, extra: &[&str]) {
                self.0.stop();
                self.0.arguments = arguments(relay, extra);
                self.0.launch();
            }
        }
    )+};
}
instance_methods!(Postfix, Sendmail);

#[derive(Debug)]
struct Instance {
    mta: &'static str,
    dir: PathBuf,
    port: u16,
    session: u32,
    arguments: Vec<String>,
}

impl Instance {
    fn start(mta: &'static str, relay: Relay, extra: &[&str]) -> Self {
        let arguments = arguments(relay, extra);
        let mut instance = Instance { mta, dir: fresh_dir(), port: free_port(), session: 0, arguments };
        instance.launch();
        instance
    }

    fn launch(&mut self) {
        // what it says goes to a file: a daemon keeps a pipe open for as long as it lives
        let said = self.dir.join("said");
        let file = || fs::File::create(&said).expect("a file for what the recipe says");
        let status = recipe(self.mta)
            .arg("start")
            .arg(&self.dir)
            .arg(self.port.to_string())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file())
            .status()
            .expect("the recipe runs");
        let words = fs::read_to_string(&said).unwrap_or_default();
        assert!(status.success(), "{} did not start: {words}", self.mta);
        let pid_file = match self.mta {
            "postfix" => "spool/pid/master.pid",
            _ => "session.pid",
        };
        let pid = fs::read_to_string(self.dir.join(pid_file)).expect("its process id");
        self.session = pid.trim().parse().expect("a process id");
    }

    fn stop(&self) {
        let stopped = recipe(self.mta).arg("stop").arg(&self.dir).output().expect("the recipe runs");
        if !stopped.status.success() {
            eprintln!("{} in {}: {}", self.mta, self.dir.display(), String::from_utf8_lossy(&stopped.stderr));
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            // the log is what explains a failed test
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the last that {} logged, newest first:\n{}", self.mta, tail.join("\n"));
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays: {error}", self.dir.display());
        }
    }
}

/// What the recipe is given beside folder and port.
fn arguments(relay: Relay, extra: &[&str]) -> Vec<String> {
    std::iter::once(relay.argument()).chain(extra.iter().map(|line| (*line).to_owned())).collect()
}

fn recipe(mta: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder");
    let mut command = Command::new(root.join("tests/mta").join(mta));
    command.env_remove("MAIL_CONFIG");
    if std::env::var_os("INFEED_SENDMAIL_ROOT").is_none() {
        command.env("INFEED_SENDMAIL_ROOT", target.join("mta/sendmail"));
    }
    command
}

/// A new folder that every user may pass through, since Postfix's own user must. Its name holds the
/// process id, so that `tests/run` knows when nobody needs it any more.
pub(super) fn fresh_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let places = [std::env::temp_dir(), "/tmp".into(), env!("CARGO_TARGET_TMPDIR").into()];
    let place = places.iter().find(|place| is_open_to_all(place)).expect("a folder open to every user");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = place.join(format!("infeed-mta-{}-{number}", std::process::id()));
    fs::create_dir(&dir).expect("a folder for the MTA");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("its permissions");
    dir
}

/// A new folder that every user may pass through, for what an MTA is to find; it goes when dropped.
///
/// # Panics
/// When there is no place for one.
pub fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir();
    folder.expect("a folder")
}

fn is_open_to_all(folder: &Path) -> bool {
    folder.is_absolute()
        && folder
            .ancestors()
            .all(|part| fs::metadata(part).is_ok_and(|m| m.is_dir() && m.permissions().mode() & 0o001 != 0))
}

/// Files at any depth that their owner may execute; those that go meanwhile count or don't.
fn count_whole(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_whole =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o100 != 0);
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => count_whole(&path),
            path => usize::from(is_whole(&path)),
        })
        .sum()
}

/// Files below a folder whose name counts. Folders and files may vanish meanwhile: they count as gone.
fn count_files(folder: &Path, counts: &dyn Fn(&str) -> bool) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count_files(&entry.path(), counts),
            Ok(kind) if kind.is_file() => usize::from(counts(&entry.file_name().to_string_lossy())),
            _ => 0,
        })
        .sum()
}

/// The living processes of a session, as `pid command`.
pub fn processes_in_session(session: u32) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| {
            // pid (command) state ppid pgrp session …; the command may hold spaces and parentheses
            let (before, after) = stat.rsplit_once(") ")?;
            let mut fields = after.split(' ');
            let is_zombie = fields.next()? == "Z";
            let in_session = fields.nth(2)?.parse() == Ok(session);
            (in_session && !is_zombie).then(|| before.replace('(', ""))
        })
        .collect()
}
