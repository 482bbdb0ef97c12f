//! Three sinks that play MTAs, by name; each keeps its port and its ledger over restarts.

use fastrand::Rng;
use rustix::process::Signal;

use crate::common::desk::Desk;
use crate::common::ledger::Tail;
use crate::common::sink::SinkProcess;

pub const NAMES: [&str; 3] = ["a", "b", "c"];

/// How an MTA may behave for a while.
const MOODS: [&[&str]; 6] = [
    &["--latency-ms", "2"],
    &["--latency-ms", "10"],
    &["--latency-ms", "60"],
    &["--latency-ms", "5", "--fail", "rcpt=451%10"],
    &["--latency-ms", "5", "--fail", "mail=451%5"],
    &["--latency-ms", "5", "--connections-max", "2"],
];

/// One of them.
pub struct Mta {
    pub name: &'static str,
    port: u16,
    sink: Option<SinkProcess>,
    pub tail: Tail,
}

impl Mta {
    pub fn start(desk: &Desk, name: &'static str) -> Self {
        let sink = SinkProcess::start(&desk.path(name), MOODS[0]);
        Self { name, port: sink.port(), tail: sink.tail(), sink: Some(sink) }
    }

    /// Ends it, in order or by `kill -9`; all that it took is in its ledger then.
    pub fn end(&mut self, kill: bool) {
        match self.sink.take() {
            Some(sink) if kill => sink.kill(),
            Some(sink) => drop(sink.stop()),
            None => {}
        }
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(sink) = &self.sink {
            sink.signal(signal);
        }
    }

    /// Begins anew, in some mood, or in a good one without.
    pub fn begin(&mut self, desk: &Desk, random: Option<&mut Rng>) {
        let mood = random.map_or(MOODS[0], |random| MOODS[random.usize(0..MOODS.len())]);
        self.sink = Some(SinkProcess::start_at(&desk.path(self.name), self.port, mood));
    }

    /// Returns once no client is connected.
    pub fn wait_alone(&self) {
        if let Some(sink) = &self.sink {
            sink.wait_alone();
        }
    }

    /// Its `[[mta]]` table.
    pub fn table(&self, connections: usize, weight: usize) -> String {
        let Self { name, port, .. } = self;
        format!(
            "[[mta]]\nname = '{name}'\naddress = '127.0.0.1:{port}'\nconnections = {connections}\n\
             weight = {weight}\nreconnect_delay_ms_min = 20\nreconnect_delay_ms_max = 200\n\
             refused_hold_ms = 100\n"
        )
    }
}
