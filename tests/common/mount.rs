//! Small file systems of the test's own, in a mount namespace that nobody else sees; root only.
//!
//! A process holds the namespace, and the test reaches it through `/proc/<pid>/root`. When the value is
//! dropped the process ends, and with it the namespace and its mounts.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::mta::skip;

/// Whether file systems can be mounted here. `false`: skip, and it is said.
pub fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let can = tried.is_ok_and(|done| done.status.success());
    if !can {
        skip("to mount file systems takes root, and `unshare`");
    }
    can
}

/// A file system on a folder of the test's, seen by nobody else.
#[derive(Debug)]
pub struct Mounted {
    holder: Child,
    point: PathBuf,
}

impl Mounted {
    /// Mounts on `point`, which is there, by `mount`'s arguments but for the last.
    ///
    /// # Panics
    /// When that fails.
    pub fn new(point: &Path, arguments: &[&str]) -> Self {
        let script = r#"point=$1; shift; mount "$@" "$point" && echo ready && exec cat"#;
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(point)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("what it says");
        assert_eq!(said.trim(), "ready", "mount {arguments:?} failed");
        Mounted { holder, point: point.to_owned() }
    }

    /// Where it is, seen from outside.
    pub fn path(&self) -> PathBuf {
        let inside = self.point.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside)
    }

    /// The words before a command that is to run in the namespace, in which the file system is on its own
    /// folder.
    pub fn launcher(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        ["nsenter", "--target", &target, "--mount", "--"].map(str::to_owned).to_vec()
    }

    /// Runs a command in the namespace.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, command: &[&str]) {
        let launcher = self.launcher();
        let done = Command::new(&launcher[0]).args(&launcher[1..]).args(command).status().expect("nsenter");
        assert!(done.success(), "{command:?} failed");
    }

    /// Nothing can be created on it or changed, but for files that are open for writing: what they hold
    /// makes the kernel refuse more.
    pub fn make_read_only(&self) {
        let point = self.point.to_str().expect("UTF-8");
        self.run(&["mount", "--bind", point, point]);
        self.run(&["mount", "-o", "remount,bind,ro", point]);
    }

    /// Takes that back.
    pub fn make_writable(&self) {
        self.run(&["umount", self.point.to_str().expect("UTF-8")]);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // it ends with its input; what else ran in the namespace has been waited for
        drop(self.holder.stdin.take());
        if let Err(e) = self.holder.wait() {
            eprintln!("the holder of {}: {e}", self.point.display());
        }
    }
}
