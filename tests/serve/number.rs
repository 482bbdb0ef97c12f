//! The number of connections of a daemon: `auto`, and set by hand while mail flows.

use crate::common::daemon::{DEADLINE, Daemon, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;

/// What `status` says of the MTA, while its sink takes what it takes.
fn mta(desk: &Desk) -> serde_json::Value {
    desk.status()["mtas"].as_array().expect("a list of MTAs")[0].clone()
}

fn why(desk: &Desk) -> Option<String> {
    mta(desk)["connections_why"].as_str().map(str::to_owned)
}

#[test]
fn a_number_set_by_hand_is_in_force_at_once_until_a_reload_and_auto_says_why() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--service-us", "20000"]);
    desk.configure(&format!("[mta]\naddress = '{}'\nrecipients_per_transaction_max = 1\n", sink.address()));
    let daemon = Daemon::configured(&desk);
    let job = desk.submit_list("job", 6_000, SHARED, &[]);
    wait_until("an MTA at work", DEADLINE, || mta(&desk)["established"] != 0);
    assert!(why(&desk).is_some_and(|why| !why.contains("fixed")), "{:?}", why(&desk));
    for number in [7_u64, 3] {
        let said = desk.infeed(&["mta", "connections", &number.to_string(), "--json"]).run().expect_code(0);
        assert_eq!(said.json(), serde_json::json!({ "connections": number, "mtas": 1 }));
        wait_until("that number", DEADLINE, || mta(&desk)["established"] == number);
        let now = mta(&desk);
        let by_hand = format!("{number}: fixed by an operator, until a reload");
        assert_eq!(
            (&now["connections"], &now["target"], &now["connections_why"]),
            (&number.into(), &"fixed".into(), &by_hand.as_str().into())
        );
        let screen = desk.infeed(&["status"]).run().expect_code(0).stdout;
        assert!(screen.contains(&format!("\n          N is {by_hand}\n")), "{screen}");
    }
    desk.infeed(&["mta", "connections", "9", "no-such"]).run().expect_code(64);
    desk.infeed(&["mta", "connections", "0"]).run().expect_code(64);
    desk.infeed(&["reload"]).run().expect_code(0);
    assert_eq!(mta(&desk)["target"], "auto");
    assert!(why(&desk).is_some_and(|why| !why.contains("fixed")), "{:?}", why(&desk));
    let screen = desk.infeed(&["status"]).run().expect_code(0).stdout;
    assert!(screen.contains("\n          N is "), "{screen}");
    desk.infeed(&["mta", "connections", "30"]).run().expect_code(0);
    wait_until("growth", DEADLINE, || mta(&desk)["established"] == 30 || desk.show(&job)["state"] == "done");
    desk.wait_state(&job, "done");
    let log = daemon.stop().stderr;
    assert!(log.contains("MTA mta: connections = 7\n"), "{log}");
    assert!(log.contains("MTA mta: connections = 3 -> auto\n"), "the reload tells what it changed: {log}");
    let tally = Tally::of(&sink.stop().1);
    assert_eq!(tally.judge(&desk, &job, "job", Repeats::None).accepted, 6_000);
}
