//! A desk with MTAs by name.

use std::net::TcpListener;

use crate::common::daemon::{Daemon, list};
use crate::common::desk::Desk;
use crate::common::ledger::Entry;
use crate::common::port::free_port;
use crate::common::sink::SinkProcess;

/// Reconnects soon, and is not held for long: what comes back is used again at once.
const PATIENCE: &str = "reconnect_delay_ms_min = 50\nreconnect_delay_ms_max = 300\nrefused_hold_ms = 200\n";

/// What of it isn't a sink of the good sort is an address alone.
pub struct Farm {
    pub desk: Desk,
    mtas: Vec<(String, u16, String)>,
    sinks: Vec<(String, SinkProcess)>,
    /// Accepts connections, and says nothing.
    holes: Vec<TcpListener>,
}

impl Farm {
    pub fn new() -> Self {
        Self { desk: Desk::new(), mtas: Vec::new(), sinks: Vec::new(), holes: Vec::new() }
    }

    fn add(&mut self, name: &str, port: u16, more: &str) {
        self.mtas.push((name.to_owned(), port, more.to_owned()));
        let table = |(name, port, more): &(String, u16, String)| {
            format!("[[mta]]\nname = '{name}'\naddress = '127.0.0.1:{port}'\n{PATIENCE}{more}\n")
        };
        let tables: String = self.mtas.iter().map(table).collect();
        self.desk.configure(&tables);
    }

    /// A sink, with `more` lines of configuration.
    pub fn sink(&mut self, name: &str, flags: &[&str], more: &str) {
        let sink = SinkProcess::start(&self.desk.path(name), flags);
        self.add(name, sink.port(), more);
        self.sinks.push((name.to_owned(), sink));
    }

    /// Nobody listens.
    pub fn down(&mut self, name: &str) {
        self.add(name, free_port(), "");
    }

    /// Takes connections, and says nothing.
    pub fn hole(&mut self, name: &str) {
        let hole = TcpListener::bind("127.0.0.1:0").expect("a port");
        self.add(name, hole.local_addr().expect("an address").port(), "");
        self.holes.push(hole);
    }

    /// Puts a sink where something else was, or nobody.
    pub fn mend(&mut self, name: &str, flags: &[&str]) {
        if let Some(at) = self.sinks.iter().position(|(other, _)| other == name) {
            self.sinks.remove(at).1.stop();
        }
        let port = self.mtas.iter().find(|(other, ..)| other == name).expect("an MTA").1;
        let sink = SinkProcess::start_at(&self.desk.path(name), port, flags);
        self.sinks.push((name.to_owned(), sink));
    }

    pub fn serve(&self) -> Daemon {
        Daemon::configured(&self.desk)
    }

    pub fn config(&self) -> String {
        self.desk.path("infeed.toml").display().to_string()
    }

    /// Submits to the MTA of that name, or to any.
    pub fn submit(&self, tag: &str, n: usize, text: &str, flags: &[&str], mta: Option<&str>) -> String {
        let config = self.config();
        let mut all = vec!["--config", &config];
        all.extend(flags);
        all.extend(mta.iter().flat_map(|name| ["--mta", name]));
        let message = self.desk.file(&format!("{tag}.eml"), text);
        let list = self.desk.file(&format!("{tag}.csv"), list(tag, n));
        self.desk.submit(&message, &list, &all)
    }

    /// What the sink of that name has taken.
    pub fn taken(&self, name: &str) -> Vec<Entry> {
        self.sinks.iter().find(|(other, _)| other == name).map_or_else(Vec::new, |(_, sink)| sink.taken())
    }

    /// What all of them have.
    pub fn taken_by_all(&self) -> Vec<Entry> {
        self.sinks.iter().flat_map(|(_, sink)| sink.taken()).collect()
    }
}
