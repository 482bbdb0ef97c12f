//! The configuration read again while mail flows, by SIGHUP and by `infeed reload`.

use std::time::Duration;

use rustix::process::Signal;

use crate::common::binary::infeed;
use crate::common::daemon::{DEADLINE, Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;

/// `[[mta]]` tables: name, address, connections.
fn tables(mtas: &[(&str, &SinkProcess, usize)]) -> String {
    let table = |(name, sink, connections): &(&str, &SinkProcess, usize)| {
        format!("[[mta]]\nname = '{name}'\naddress = '{}'\nconnections = {connections}\n", sink.address())
    };
    mtas.iter().map(table).collect()
}

/// What `status` says of the real MTAs, in the form of [`tables`].
fn of_status(desk: &Desk) -> String {
    let status = desk.status();
    let mtas = status["mtas"].as_array().expect("a list of MTAs").iter().filter(|mta| mta["name"] != "sink");
    let word = |value: &serde_json::Value| value.to_string().replace('"', "");
    mtas.map(|mta| {
        let (name, address) = (word(&mta["name"]), word(&mta["address"]));
        format!("[[mta]]\nname = '{name}'\naddress = '{address}'\nconnections = {}\n", mta["connections"])
    })
    .collect()
}

#[test]
fn changed_mtas_are_in_force_at_once_and_nobody_is_lost_or_repeated() {
    let desk = Desk::new();
    let sink = |name: &str| SinkProcess::start(&desk.path(name), &["--latency-ms", "10"]);
    let (a, b, b_moved, c) = (sink("a"), sink("b"), sink("b2"), sink("c"));
    let all = || [&a, &b, &b_moved, &c].iter().map(|sink| sink.tail().waiting()).sum::<usize>();

    desk.configure(&tables(&[("a", &a, 2), ("b", &b, 2)]));
    let daemon = Daemon::configured(&desk);
    let job = desk.submit_list("job", 8_000, MERGED, &["--merge"]);
    let changes: [&[(&str, &SinkProcess, usize)]; 5] = [
        // more connections
        &[("a", &a, 4), ("b", &b, 2)],
        // another address
        &[("a", &a, 4), ("b", &b_moved, 2)],
        // one more
        &[("a", &a, 4), ("b", &b_moved, 2), ("c", &c, 3)],
        // one less
        &[("b", &b_moved, 2), ("c", &c, 3)],
        // as it was
        &[("a", &a, 2), ("b", &b, 2)],
    ];
    for (step, change) in changes.iter().enumerate() {
        let goal = all() + 200;
        wait_until("growth of the ledgers", DEADLINE, || all() >= goal);
        desk.configure(&tables(change));
        if step % 2 == 0 {
            daemon.signal(Signal::HUP);
            wait_until("the new MTAs", DEADLINE, || of_status(&desk) == tables(change));
        } else {
            desk.infeed(&["reload"]).run().expect_code(0);
            assert_eq!(of_status(&desk), tables(change), "step {step}");
        }
        // each of them is put to use
        let before: Vec<usize> = change.iter().map(|(_, sink, _)| sink.tail().waiting()).collect();
        wait_until("deliveries to each MTA", DEADLINE, || {
            change.iter().zip(&before).all(|((_, sink, _), n)| sink.tail().waiting() > *n)
        });
        assert_ne!(desk.show(&job)["state"], "done", "step {step}: the job is too short");
    }
    desk.wait_state(&job, "done");
    daemon.stop();
    let mut tally = Tally::default();
    for sink in [a, b, b_moved, c] {
        tally.add(&sink.stop().1);
    }
    assert_eq!(tally.judge(&desk, &job, "job", Repeats::None).accepted, 8_000);
    desk.check();
}

#[test]
fn a_bad_configuration_changes_nothing_and_is_told() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "10"]);
    let good = tables(&[("a", &sink, 3)]);
    desk.configure(&good);
    let daemon = Daemon::configured(&desk);
    let job = desk.submit_list("job", 1_500, MERGED, &["--merge"]);
    wait_until("a delivery", DEADLINE, || sink.tail().waiting() > 0);
    desk.configure("[[mta]]\nname = 'a'\nadress = '127.0.0.1:25'\n");
    let reload = desk.infeed(&["reload"]).run().expect_code(78);
    assert!(reload.stderr.contains("infeed.toml:3") && reload.stderr.contains("adress"), "{}", reload.stderr);
    daemon.signal(Signal::HUP);
    assert_eq!(of_status(&desk), good);
    desk.wait_state(&job, "done");
    // one that is good again is taken
    desk.configure(&tables(&[("a", &sink, 5)]));
    desk.infeed(&["reload"]).run().expect_code(0);
    assert_eq!(desk.mta_status("a")["connections"], 5);
    let log = daemon.stop().stderr;
    assert!(log.contains("the configuration stays as it was") && log.contains("infeed.toml:3"), "{log}");
    let tally = Tally::of(&sink.stop().1);
    assert_eq!(tally.judge(&desk, &job, "job", Repeats::None).accepted, 1_500);
}

#[test]
fn retries_wait_as_long_as_a_reload_says_also_those_of_a_job_paused_and_resumed() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let configure = |delay_s: u64| {
        let retry = format!("[retry]\ndelay_s_min = {delay_s}\ndelay_s_max = {delay_s}\n");
        desk.configure(&(retry + &tables(&[("a", &sink, 2)])));
    };
    configure(0);
    // not the desk's own: nothing but the file is to say when retries are due
    let serve = infeed(["serve", "--spool"]).arg(desk.spool()).arg("--config").arg(desk.path("infeed.toml"));
    let mut daemon = Daemon::of(serve.spawn());
    daemon.wait_ready(&desk);
    configure(3_600);
    desk.infeed(&["reload"]).run().expect_code(0);
    let (message, list) = (desk.file("m.eml", SHARED), desk.file("list.txt", "defer-451-9x.a@d.example\n"));
    let job = desk.submit(&message, &list, &[]);
    let deferred = || desk.show(&job)["deferred"] == 1;
    wait_until("the first try", DEADLINE, deferred);
    desk.infeed(&["job", "pause", &job, "--reason", "a look"]).run().expect_code(0);
    desk.infeed(&["job", "resume", &job]).run().expect_code(0);
    // by the limit of the start it would be tried a second after the daemon has found it again
    std::thread::sleep(Duration::from_secs(3));
    daemon.stop();
    assert_eq!(desk.report(&job)[0].attempts, 1, "tried before it was due");
    assert_eq!(sink.stop().1.len(), 0);
    desk.check();
}
