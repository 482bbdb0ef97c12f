//! The rates of domains: who waits for one keeps nobody else waiting.

use crate::common::daemon::{DEADLINE, Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;
use crate::pace::{arrivals, assert_never_above};

/// `slow.example` and six others, mixed.
fn list(n: usize, one_of: usize) -> String {
    let line = |i: usize| match i % one_of {
        0 => format!("r{i}@slow.example\n"),
        _ => format!("r{i}@d{}.example\n", i % 6),
    };
    std::iter::once("email\n".to_owned()).chain((0..n).map(line)).collect()
}

fn is_slow(recipient: &str) -> bool {
    recipient.ends_with("@slow.example")
}

#[test]
fn a_limited_domain_has_its_rate_and_the_others_do_not_wait_for_it() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let configure = |rates: &str| {
        desk.configure(&format!("[mta]\naddress = \"{}\"\nconnections = 4\n{rates}", sink.address()));
    };
    configure("[rates.domains]\n\"slow.example\" = 3\n");
    let daemon = Daemon::configured(&desk);
    let (message, list) = (desk.file("m.eml", MERGED), desk.file("l.csv", list(3_000, 3)));
    let job = desk.submit(&message, &list, &["--merge"]);
    let of = |slow: bool| arrivals(&sink.taken(), |recipient| is_slow(recipient) == slow);
    wait_until("all the others", DEADLINE, || of(false).len() == 2_000);
    wait_until("15 of the slow ones", DEADLINE, || of(true).len() >= 15);
    assert_never_above(&of(true), 3.0, 0.05);
    configure("");
    desk.infeed(&["reload"]).run().expect_code(0);
    desk.wait_state(&job, "done");
    daemon.stop();
    assert_eq!(sink.stop().1.len(), 3_000);
}

#[test]
fn a_drain_goes_on_until_a_limited_domain_is_through() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let (message, list) = (desk.file("m.eml", SHARED), desk.file("l.csv", list(600, 12)));
    desk.submit(&message, &list, &[]);
    let limit = ["--set", "rates.domains=slow.example=10", "--set", "mta.recipients_per_transaction_max=2"];
    let drained = desk.draining(&sink.address(), 4).args(limit).run().expect_code(0).json();
    assert_eq!((&drained["ended"], &drained["accepted"]), (&"drained".into(), &600.into()));
    let ledger = sink.stop().1;
    assert_never_above(&arrivals(&ledger, is_slow), 10.0, 0.05);
    // nobody else is in a transaction of theirs
    let theirs: Vec<_> = ledger.iter().filter(|e| is_slow(&e.recipient)).map(|e| &e.queue_id).collect();
    assert!(ledger.iter().all(|e| is_slow(&e.recipient) || !theirs.contains(&&e.queue_id)));
}

#[test]
fn a_domain_that_is_half_of_a_long_list_does_not_keep_the_others_in_the_spool() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    // small chunks: 75 of them, of which only a few are in hand
    let (message, list) = (desk.file("m.eml", SHARED), desk.file("l.csv", list(3_000, 2)));
    let small = "INFEED_SPOOL_CHUNK_RECIPIENTS_MAX";
    let said = desk.submitting(&message, &list, &[]).env(small, "40").run().expect_code(0).json();
    let job = said["job"].as_str().expect("an id").to_owned();
    desk.configure(&format!(
        "[mta]\naddress = \"{}\"\nconnections = 4\nrecipients_per_transaction_max = 10\n\n\
         [retry]\ndelay_s_min = 1\ndelay_s_max = 2\n\n[rates.domains]\n\"slow.example\" = 2\n",
        sink.address()
    ));
    let daemon = Daemon::configured(&desk);
    let others = || sink.taken().iter().filter(|entry| !is_slow(&entry.recipient)).count();
    wait_until("all the others", DEADLINE, || others() == 1_500);
    let slow = arrivals(&sink.taken(), is_slow);
    assert!(slow.len() < 150, "{} of the slow ones", slow.len());
    let status = desk.status();
    assert_eq!(
        (&status["domains"][0]["domain"], &status["domains"][0]["messages_per_second"]),
        (&"slow.example".into(), &2.0.into())
    );
    let screen = desk.infeed(&["status"]).run().expect_code(0).stdout;
    assert!(screen.contains("slow.example: rate 2/s"), "{screen}");
    let show = desk.show(&job);
    assert_eq!(
        (&show["deferred"], &show["state"]),
        (&0.into(), &"active".into()),
        "put off is not deferred: {show}"
    );
    daemon.kill();
    // what was put off is there, each once, and sent once nothing limits it any more
    desk.check();
    desk.draining(&sink.address(), 4).run();
    wait_until("the rest", DEADLINE, || {
        desk.draining(&sink.address(), 4).run();
        desk.show(&job)["state"] == "done"
    });
    assert_eq!(desk.show(&job)["accepted"], 3_000);
}

#[test]
fn a_reload_limits_a_domain_of_what_is_in_hand_and_lifts_it() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "5"]);
    let configure = |rates: &str| {
        desk.configure(&format!("[mta]\naddress = \"{}\"\nconnections = 2\n{rates}", sink.address()));
    };
    configure("");
    let daemon = Daemon::configured(&desk);
    let (message, list) = (desk.file("m.eml", MERGED), desk.file("l.csv", list(4_000, 4)));
    let job = desk.submit(&message, &list, &["--merge"]);
    wait_until("200 arrivals", DEADLINE, || sink.tail().waiting() >= 200);
    configure("[rates.domains]\n\"slow.example\" = 5\n");
    desk.infeed(&["reload"]).run().expect_code(0);
    let before = arrivals(&sink.taken(), is_slow).len();
    let all = sink.tail().waiting();
    wait_until("1,000 more arrivals", DEADLINE, || sink.tail().waiting() >= all + 1_000);
    let since = arrivals(&sink.taken(), is_slow);
    // those in flight at the reload, and the rate for as long as it took
    let span_s = (since[since.len() - 1] - since[before - 1]) as f64 / 1e6;
    let allowed = 6.0 + 5.0 * (span_s + 0.3) * 1.02;
    assert!((since.len() - before) as f64 <= allowed, "{} in {span_s} s", since.len() - before);
    configure("");
    desk.infeed(&["reload"]).run().expect_code(0);
    desk.wait_state(&job, "done");
    daemon.stop();
    assert_eq!(sink.stop().1.len(), 4_000);
}

#[test]
fn a_table_of_rates_that_is_wrong_names_the_line_and_the_remedy() {
    let desk = Desk::new();
    for (text, said) in [
        ("[rates.domains]\n\"gmail.com\" = \"fast\"\n", "gmail.com"),
        ("[rates.domains]\ngmail.com = 20\n", "in quotes"),
        ("[rates.domains]\n\"gmail.com\" = 0\n", "leave the line out"),
        ("[rates.domains]\n\"not a domain\" = 1\n", "not a domain"),
        ("[mta]\nmessages_per_second = -1\n", "messages_per_second"),
    ] {
        let file = desk.file("bad.toml", text).display().to_string();
        let run = desk.infeed(&["config", "check", &file]).run().expect_code(78);
        let all = format!("{}{}", run.stdout, run.stderr);
        assert!(all.contains(said) && all.contains("bad.toml:"), "{text}: {all}");
    }
}
