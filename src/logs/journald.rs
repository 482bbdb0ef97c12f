//! systemd's journal, by its own protocol: a datagram of `NAME=value` lines.
//!
//! Guarantees: a value is one line (see `line`), so that none is taken for another field; names are those that
//! the journal takes; whoever writes waits for the journal a second at most. Errors: `io::Error` where it takes
//! nothing.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;

use super::line::Line;

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// How long a journal that is busy is waited for.
const WRITE_WAIT: Duration = Duration::from_secs(1);

/// A way to a journal. Its socket stays when the journal is started again.
#[derive(Debug)]
pub(super) struct Journald {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journald {
    /// The journal that listens there.
    pub fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(WRITE_WAIT))?;
        // whether it is there shows now, not with the first line
        UnixDatagram::unbound()?.connect(path)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    pub fn write(&self, line: &Line) -> io::Result<()> {
        self.socket.send_to(datagram(line).as_bytes(), &self.path).map(|_| ())
    }
}

fn datagram(line: &Line) -> String {
    let priority = match line.level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    };
    // as a person reads it: what the fields add to the message stands behind it
    let mut message = line.message.clone();
    for (name, value) in line.fields.iter().filter(|_| !line.is_state) {
        message.push_str(&format!(" {name}={value}"));
    }
    let mut out = format!("MESSAGE={message}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=infeed\n");
    if let (Some(file), Some(number)) = (line.file, line.line) {
        out.push_str(&format!("CODE_FILE={file}\nCODE_LINE={number}\n"));
    }
    for (name, value) in &line.fields {
        out.push_str(&format!("{}={value}\n", field_name(name)));
    }
    out
}

/// `INFEED_JOB` for `job`: upper case, digits and underscores, and none that the journal knows itself.
fn field_name(name: &str) -> String {
    let name = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("INFEED_{}", name.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::line::Value;

    fn said() -> Line {
        Line {
            at_us: 0,
            level: Level::WARN,
            is_state: true,
            message: "MTA a is down: gone\\nMESSAGE=forged".into(),
            fields: vec![
                ("mta", Value::Text("a".into())),
                ("state", Value::Text("down".into())),
                ("left.out", Value::Natural(3)),
            ],
            file: Some("slot.rs"),
            line: Some(7),
        }
    }

    #[test]
    fn a_journal_gets_one_datagram_with_a_field_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let log = Journald::at(&path).unwrap();
        log.write(&said()).unwrap();
        let mut octets = [0; 4096];
        let n = journal.recv(&mut octets).unwrap();
        let text = std::str::from_utf8(&octets[..n]).unwrap();
        assert!(text.ends_with('\n'), "{text:?}");
        let fields: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('=')).collect();
        assert_eq!(
            fields,
            [
                ("MESSAGE", "MTA a is down: gone\\nMESSAGE=forged"),
                ("PRIORITY", "4"),
                ("SYSLOG_IDENTIFIER", "infeed"),
                ("CODE_FILE", "slot.rs"),
                ("CODE_LINE", "7"),
                ("INFEED_MTA", "a"),
                ("INFEED_STATE", "down"),
                ("INFEED_LEFT_OUT", "3"),
            ]
        );
    }

    #[test]
    fn a_journal_that_was_started_again_is_written_to_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = UnixDatagram::bind(&path).unwrap();
        let log = Journald::at(&path).unwrap();
        drop(first);
        assert!(log.write(&said()).is_err());
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        log.write(&said()).unwrap();
        assert!(second.recv(&mut [0; 4096]).unwrap() > 0);
    }

    #[test]
    fn a_journal_that_is_not_there_is_told_at_once() {
        assert!(Journald::at(Path::new("/nowhere/socket")).is_err());
    }
}
