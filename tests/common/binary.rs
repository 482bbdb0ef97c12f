//! Running infeed as a person would, with nothing of the machine's configuration in the way.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::wait::wait_for;

/// How long a run may take before the test fails, unless it says otherwise.
const DEADLINE: Duration = Duration::from_secs(120);

/// A run that has ended.
#[derive(Debug)]
pub struct Run {
    /// The exit code; `None`: ended by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The run itself, if it ended with this exit code.
    ///
    /// # Panics
    /// On another one, with all that infeed said.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// What it printed, as one JSON value.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}; stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }
}

/// A command line of infeed: no terminal, no configuration file, no `INFEED_` variables, and a home of
/// its own that goes with it.
#[derive(Debug)]
pub struct Infeed {
    command: Command,
    home: tempfile::TempDir,
    stdin: Vec<u8>,
    deadline: Duration,
}

/// The binary under test: `INFEED_TEST_BINARY`, such as a release build's for a soak, else this build's.
fn binary() -> std::ffi::OsString {
    std::env::var_os("INFEED_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_infeed").into())
}

/// `infeed ARGUMENTS…`.
pub fn infeed<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(arguments: I) -> Infeed {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("INFEED_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .env("HOME", home.path())
        .env("INFEED_CONFIG", "/dev/null")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_STATE_HOME");
    Infeed { command, home, stdin: Vec::new(), deadline: DEADLINE }
}

impl Infeed {
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads from its standard input; nothing without.
    pub fn stdin(mut self, octets: impl Into<Vec<u8>>) -> Self {
        self.stdin = octets.into();
        self
    }

    /// Runs it by another command, such as `nsenter … --`, which ends up as infeed.
    pub fn by(mut self, launcher: &[&str]) -> Self {
        let mut command = Command::new(launcher[0]);
        command.args(&launcher[1..]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.command = command;
        self
    }

    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it doesn't end before the deadline; it is killed then.
    pub fn run(self) -> Run {
        let deadline = self.deadline;
        self.spawn().wait(deadline)
    }

    /// Starts it with this terminal as its standard input, output and error.
    pub fn spawn_on(mut self, terminal: &std::os::fd::OwnedFd) -> Running {
        let end = || Stdio::from(terminal.try_clone().expect("another end of the terminal"));
        let child = self.command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("infeed starts");
        Running { child, stdout: None, stderr: None, home: self.home }
    }

    /// Starts it.
    pub fn spawn(mut self) -> Running {
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("infeed starts");
        let mut input = child.stdin.take().expect("a pipe");
        let octets = self.stdin;
        // threads, so that no pipe fills up while nobody reads
        std::thread::spawn(move || {
            // infeed may end without reading all of it; what it made of it shows in its exit code
            if let Err(error) = input.write_all(&octets) {
                eprintln!("infeed's stdin: {error}");
            }
        });
        let stdout = reader(child.stdout.take().expect("a pipe"));
        let stderr = reader(child.stderr.take().expect("a pipe"));
        Running { child, stdout: Some(stdout), stderr: Some(stderr), home: self.home }
    }
}

type Reader = std::thread::JoinHandle<Vec<u8>>;

fn reader(mut pipe: impl Read + Send + 'static) -> Reader {
    std::thread::spawn(move || {
        let mut octets = Vec::new();
        pipe.read_to_end(&mut octets).expect("infeed's output");
        octets
    })
}

/// A run that goes on; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    home: tempfile::TempDir,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, such as `rustix::process::Signal::TERM`.
    ///
    /// # Panics
    /// When it has ended already and was waited for.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process id"), signal).expect("a signal is taken");
    }

    /// Its end, if it has come.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("infeed is our child")
    }

    /// Waits for its end. What was said on a terminal isn't in it.
    ///
    /// # Panics
    /// When it hasn't come by the deadline; infeed is killed then.
    pub fn wait(mut self, deadline: Duration) -> Run {
        let status = wait_for("end of infeed", deadline, || self.try_wait());
        let text = |reader: Option<Reader>| {
            let octets = reader.map(|reader| reader.join().expect("the reader ends")).unwrap_or_default();
            String::from_utf8_lossy(&octets).into_owned()
        };
        Run { code: status.code(), stdout: text(self.stdout.take()), stderr: text(self.stderr.take()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // both fail only when it has ended already
        if self.child.kill().is_ok() && self.child.wait().is_err() {
            eprintln!("infeed ({}) was not ours to wait for", self.child.id());
        }
    }
}
