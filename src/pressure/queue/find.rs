//! Which queue is the MTA's: what the configuration names, else Postfix's own where it can only be that one.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{QueueConfig, QueueError, QueueFolder, Source};

/// The longest wait for postconf.
const POSTCONF_TIMEOUT: Duration = Duration::from_secs(10);
/// Where it is where the path doesn't say.
const POSTCONF: [&str; 2] = ["postconf", "/usr/sbin/postconf"];

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Postfix(PathBuf),
    SendmailFolder(PathBuf),
    SendmailSocket(PathBuf),
}

impl Place {
    pub fn into_source(self) -> Source {
        match self {
            Place::Postfix(path) => Source::Postfix(path),
            Place::SendmailFolder(path) => Source::SendmailFolder(path),
            Place::SendmailSocket(path) => Source::SendmailSocket(path),
        }
    }
}

/// Why a queue is not to be looked at; `None`: it is.
pub(super) fn why_not(config: &QueueConfig) -> Option<String> {
    let QueueConfig { address, folder, control_socket, target } = config;
    match folder {
        _ if *target == 0 => Some("mta.queue_target = 0".to_owned()),
        _ if control_socket.is_some() => None,
        QueueFolder::Off => Some("mta.queue_dir = \"none\"".to_owned()),
        QueueFolder::At(_) => None,
        QueueFolder::Ask if is_port_25_here(address) => None,
        QueueFolder::Ask => Some(format!("{address} may be any MTA's: set mta.queue_dir")),
    }
}

/// What is on another port may be another instance, another MTA, or a sink: its queue has to be named.
fn is_port_25_here(address: &str) -> bool {
    let Some((host, "25")) = address.rsplit_once(':') else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Where to read; `asked` keeps what Postfix said, who is asked once.
pub(super) fn place(config: &QueueConfig, asked: &mut Option<PathBuf>) -> Result<Place, QueueError> {
    if let Some(path) = &config.control_socket {
        return Ok(Place::SendmailSocket(path.clone()));
    }
    match (&config.folder, &*asked) {
        (QueueFolder::At(dir), _) => kind_of(dir),
        (_, Some(dir)) => Ok(Place::Postfix(dir.clone())),
        (_, None) => {
            let dir = ask_postfix()?;
            *asked = Some(dir.clone());
            Ok(Place::Postfix(dir))
        }
    }
}

/// Postfix's is the one with a folder `active`.
fn kind_of(dir: &Path) -> Result<Place, QueueError> {
    if dir.as_os_str().as_bytes().ends_with(b"*") {
        return Ok(Place::SendmailFolder(dir.to_owned()));
    }
    let active = dir.join("active");
    match std::fs::metadata(&active) {
        Ok(_) => Ok(Place::Postfix(dir.to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Place::SendmailFolder(dir.to_owned())),
        Err(source) => Err(QueueError::Read { path: active, source }),
    }
}

fn ask_postfix() -> Result<PathBuf, QueueError> {
    let mut why = String::new();
    for program in POSTCONF {
        match postconf(program) {
            Ok(said) if said.starts_with('/') => return Ok(PathBuf::from(said)),
            Ok(said) => why = format!("{program} said {said:?}"),
            Err(e) => why = format!("{program}: {e}"),
        }
    }
    Err(QueueError::NoPostfix(why))
}

/// `postconf -h queue_directory`, which is ended when it takes too long.
fn postconf(program: &str) -> std::io::Result<String> {
    let mut child = Command::new(program)
        .args(["-h", "queue_directory"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + POSTCONF_TIMEOUT;
    // one line fits a pipe: it never waits for us
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(4_096).read_to_string(&mut said)?;
    }
    Ok(said.trim().to_owned())
}
