//! The MTA as a process: killed in the midst of a drain and started again, stopped for a while, deaf. The
//! drain goes on by itself, and the sink's ledger says that nobody was lost, or got it twice unmarked.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use common::binary::{Infeed, Running};
use common::daemon::{MERGED, SHARED, list};
use common::desk::Desk;
use common::mta::is_long;
use common::sink::SinkProcess;
use common::tally::{Judged, Repeats, Tally};
use common::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(300);
const RECIPIENTS: usize = 3_000;
const CONNECTIONS: usize = 4;
/// Recipients a transaction, where the content is the same.
const SHARED_MAX: usize = 5;

/// How often the MTA is killed, in each way of sending.
fn kills() -> usize {
    if is_long() { 40 } else { 4 }
}

/// A job, and a sink that takes its time.
struct Place {
    desk: Desk,
    job: String,
    sink: SinkProcess,
}

/// The sink answers so late that a drain lasts, and is under way whenever something happens.
const SLOWLY: [&str; 2] = ["--latency-ms", "4"];

impl Place {
    fn new(recipients: usize, merged: bool) -> Self {
        let desk = Desk::new();
        let message = desk.file("letter.eml", if merged { MERGED } else { SHARED });
        let list = desk.file("list.csv", list("one", recipients));
        let job = desk.submit(&message, &list, if merged { &["--merge"] } else { &[] });
        let sink = SinkProcess::start(&desk.path("sink"), &SLOWLY);
        Self { desk, job, sink }
    }

    /// Reconnects soon, and is not held for long: what comes back is used again at once.
    fn draining(&self, address: &str) -> Infeed {
        self.desk
            .draining(address, CONNECTIONS)
            .deadline(DEADLINE)
            .env("INFEED_MTA_RECIPIENTS_PER_TRANSACTION_MAX", SHARED_MAX.to_string())
            .env("INFEED_MTA_RECONNECT_DELAY_MS_MIN", "20")
            .env("INFEED_MTA_RECONNECT_DELAY_MS_MAX", "200")
            .env("INFEED_MTA_REFUSED_HOLD_MS", "100")
    }

    /// So many more are taken, or the drain has ended.
    fn wait_taken(&self, more: usize, running: &mut Running) {
        let until = self.sink.taken().len() + more;
        wait_until("growth of the ledger", DEADLINE, || {
            self.sink.taken().len() >= until || running.try_wait().is_some()
        });
    }

    /// To the end of a drain, and of those that whoever was deferred is left to: who was in doubt twice waits.
    fn finish(&self, running: Running) {
        let mut run = running.wait(DEADLINE);
        wait_until("outcome of everybody", DEADLINE, || {
            assert!(matches!(run.code, Some(0 | 75)), "{run:?}");
            let left = run.code == Some(75);
            if left {
                run = self.draining(&self.sink.address()).run();
            }
            !left
        });
    }

    fn judge(self, repeats: Repeats) -> Judged {
        self.sink.wait_alone();
        let (_, ledger) = self.sink.stop();
        let judged = Tally::of(&ledger).judge(&self.desk, &self.job, "one", repeats);
        assert_eq!(judged.accepted, judged.recipients, "{judged:?}");
        self.desk.check();
        judged
    }
}

/// `kill -9` of the MTA, again and again, while a drain goes on.
fn killed(merged: bool, settings: &[(&str, &str)], depth: usize) {
    let per_round = RECIPIENTS / 8;
    let recipients = per_round * (kills() + 4);
    let mut place = Place::new(recipients, merged);
    let port = place.sink.port();
    let drain = place.draining(&place.sink.address());
    let mut running = settings.iter().fold(drain, |drain, (name, value)| drain.env(name, value)).spawn();
    let mut killed = 0;
    while killed < kills() {
        place.wait_taken(per_round / 2, &mut running);
        assert!(running.try_wait().is_none(), "the drain ended before the MTA was killed {killed} times");
        place.sink.kill();
        killed += 1;
        place.sink = SinkProcess::start_at(&place.desk.path("sink"), port, &SLOWLY);
    }
    place.finish(running);
    let judged = place.judge(Repeats::Marked);
    assert_eq!(judged.recipients, recipients);
    let bound = killed * CONNECTIONS * depth * if merged { 1 } else { SHARED_MAX };
    assert!(judged.marked <= bound, "{judged:?}: at most {bound} may be in doubt after {killed} kills");
}

#[test]
fn an_mta_killed_again_and_again_costs_at_most_n_d_r_doubts_a_kill_by_data() {
    killed(true, &[], 1);
    killed(false, &[], 1);
}

#[test]
fn an_mta_killed_again_and_again_costs_at_most_n_d_r_doubts_a_kill_by_bdat() {
    let bdat = [("INFEED_MTA_CHUNKING", "true"), ("INFEED_MTA_PIPELINING_DEPTH_MAX", "4")];
    killed(true, &bdat, 4);
    killed(false, &bdat, 4);
}

#[test]
fn an_mta_that_is_stopped_and_goes_on_within_the_timeouts_costs_nobody_anything() {
    let place = Place::new(RECIPIENTS, true);
    let mut running = place.draining(&place.sink.address()).spawn();
    for _ in 0..3 {
        place.wait_taken(RECIPIENTS / 10, &mut running);
        place.sink.signal(Signal::STOP);
        // it is asked for something meanwhile, and waits
        let show = place.desk.show(&place.job);
        assert_ne!(show["pending"], 0, "{show}");
        assert!(running.try_wait().is_none(), "the drain waits for an MTA that is stopped");
        place.sink.signal(Signal::CONT);
    }
    place.finish(running);
    let judged = place.judge(Repeats::None);
    assert_eq!((judged.accepted, judged.marked), (RECIPIENTS, 0));
}

#[test]
fn an_mta_that_is_stopped_beyond_the_timeouts_loses_nobody_and_no_repeat_is_unmarked() {
    let place = Place::new(RECIPIENTS, true);
    let phases = ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT", "FINAL_DOT"];
    let names = phases.map(|phase| format!("INFEED_MTA_{phase}_TIMEOUT_MS"));
    let drain = place.draining(&place.sink.address());
    let mut running = names.iter().fold(drain, |drain, name| drain.env(name, "1500")).spawn();
    place.wait_taken(RECIPIENTS / 10, &mut running);
    place.sink.signal(Signal::STOP);
    // each of the sessions has been given up by then: those that infeed has closed, and the sink has not
    wait_until("end of infeed's side of its sessions", DEADLINE, || {
        half_closed(place.sink.port()) >= CONNECTIONS || running.try_wait().is_some()
    });
    place.sink.signal(Signal::CONT);
    place.finish(running);
    let judged = place.judge(Repeats::Marked);
    assert_eq!(judged.accepted, RECIPIENTS);
}

/// Connections of 127.0.0.1:PORT that the client has closed, and the server has not.
fn half_closed(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let local = format!("0100007F:{port:04X}");
    let is_one = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        (fields.next(), fields.nth(1)) == (Some(local.as_str()), Some("08"))
    };
    table.lines().filter(is_one).count()
}

/// Passes connections on to the MTA, until it is told to pass nothing more: neither an octet nor an end, as
/// when a cable is pulled, or a firewall has forgotten the connection.
struct Cable {
    address: SocketAddr,
    pulled: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let pulled = Arc::<Mutex<Vec<TcpStream>>>::default();
        let shared = Arc::clone(&pulled);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                shared.lock().expect("no thread panics with it").push(server.try_clone().expect("a socket"));
                let (c, s) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                std::thread::spawn(move || to_client(&s, &c));
                std::thread::spawn(move || to_server(&client, &server));
            }
        });
        Self { address, pulled }
    }

    /// The MTA's side of all connections ends; infeed's side stays as it is, and hears nothing of it.
    fn pull(&self) {
        for server in self.pulled.lock().expect("no thread panics with it").drain(..) {
            // one that has ended already needs no end
            if let Err(error) = server.shutdown(std::net::Shutdown::Both) {
                eprintln!("a connection had ended: {error}");
            }
        }
    }
}

/// The MTA's end is not passed on: infeed says QUIT, and closes by itself.
fn to_client(mut server: &TcpStream, mut client: &TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = server.read(&mut buffer) {
        if client.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

/// What the MTA takes no more is lost, until infeed closes.
fn to_server(mut client: &TcpStream, mut server: &TcpStream) {
    let mut buffer = [0; 16 * 1024];
    let mut lives = true;
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        lives = lives && server.write_all(&buffer[..n]).is_ok();
    }
    if lives && let Err(error) = server.shutdown(std::net::Shutdown::Both) {
        eprintln!("the MTA had closed: {error}");
    }
}

#[test]
fn connections_that_die_without_a_word_are_given_up_by_the_timeouts_and_lose_nobody() {
    let place = Place::new(RECIPIENTS / 2, true);
    let cable = Cable::to(place.sink.port());
    let phases = ["BANNER", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT", "FINAL_DOT"];
    let names = phases.map(|phase| format!("INFEED_MTA_{phase}_TIMEOUT_MS"));
    let drain = place.draining(&cable.address.to_string());
    let mut running = names.iter().fold(drain, |drain, name| drain.env(name, "1500")).spawn();
    for _ in 0..2 {
        place.wait_taken(RECIPIENTS / 10, &mut running);
        cable.pull();
    }
    place.finish(running);
    let judged = place.judge(Repeats::Marked);
    assert_eq!(judged.accepted, RECIPIENTS / 2);
}
