//! What systemd is told (`sd_notify(3)`), heard on a socket in its place.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::common::daemon::{DEADLINE, Daemon};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_for;

/// The end of NOTIFY_SOCKET that systemd has.
struct Systemd(UnixDatagram);

impl Systemd {
    /// The next datagram.
    fn hear(&self) -> String {
        let mut octets = [0; 4096];
        self.0.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let n = self.0.recv(&mut octets).expect("a word of the daemon");
        String::from_utf8(octets[..n].to_vec()).expect("UTF-8")
    }

    /// The next datagram that has this variable, whatever comes before; gives its value.
    fn hear_of(&self, variable: &str) -> String {
        wait_for(variable, DEADLINE, || value(&self.hear(), variable))
    }

    /// The next one that begins or ends a phase of the daemon's life.
    fn hear_of_phase(&self) -> String {
        wait_for("a phase", DEADLINE, || {
            let said = self.hear();
            ["READY", "RELOADING", "STOPPING"].iter().any(|name| value(&said, name).is_some()).then_some(said)
        })
    }
}

fn value(said: &str, variable: &str) -> Option<String> {
    said.lines().find_map(|line| line.strip_prefix(variable)?.strip_prefix('=').map(str::to_owned))
}

#[test]
fn systemd_hears_of_start_reload_watchdog_and_end() {
    let desk = Desk::new();
    let path = desk.path("notify");
    let systemd = Systemd(UnixDatagram::bind(&path).expect("a socket"));
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    desk.configure(&format!("[mta]\naddress = '{}'\n", sink.address()));
    let config = desk.path("infeed.toml");
    let daemon = Daemon::of(
        desk.infeed(&["serve"])
            .arg("--config")
            .arg(&config)
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "400000")
            .spawn(),
    );

    assert_eq!(value(&systemd.hear_of_phase(), "READY").as_deref(), Some("1"));
    // it answers from then on, at the first word
    let status = desk.status();
    assert_eq!(status["owners"][0]["command"], "serve", "{status}");

    let mut last = 0;
    for good in [true, false] {
        if !good {
            desk.file("infeed.toml", "[mta]\nadress = 1\n");
        }
        daemon.signal(Signal::HUP);
        let said = systemd.hear_of_phase();
        assert_eq!(value(&said, "RELOADING").as_deref(), Some("1"), "{said}");
        let us: u64 = value(&said, "MONOTONIC_USEC").expect("a time").parse().expect("a number");
        assert!(us > last, "{us} after {last}");
        last = us;
        let said = systemd.hear_of_phase();
        assert_eq!(value(&said, "READY").as_deref(), Some("1"), "{said}");
        let status = value(&said, "STATUS").expect("a status");
        assert_eq!(status.contains("the new one is bad"), !good, "{status}");
    }

    for _ in 0..3 {
        assert_eq!(systemd.hear_of("WATCHDOG"), "1");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(value(&systemd.hear_of_phase(), "STOPPING").as_deref(), Some("1"));
    daemon.stop_by_itself();
}
