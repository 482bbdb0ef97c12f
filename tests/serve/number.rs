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

#[test]
fn a_number_set_by_hand_is_in_force_at_once_until_a_reload_and_auto_says_why() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--service-us", "20000"]);
    desk.configure(&format!("[mta]\naddress = '{}'\nrecipients_per_transaction_max = 1\n", sink.address()));
    let daemon = Daemon::configured(&desk);
    let job = desk.submit_list("job", 6_000, SHARED, &[]);
    wait_until("a reason for the number", DEADLINE, || mta(&desk)["connections_why"].is_string());
    for number in [7_u64, 3] {
        let said = desk.infeed(&["mta", "connections", &number.to_string(), "--json"]).run().expect_code(0);
        assert_eq!(said.json(), serde_json::json!({ "connections": number, "mtas": 1 }));
        wait_until("that number", DEADLINE, || mta(&desk)["established"] == number);
        let now = mta(&desk);
        assert_eq!(
            (&now["connections"], &now["target"], &now["connections_why"]),
            (&number.into(), &"fixed".into(), &serde_json::Value::Null)
        );
    }
    desk.infeed(&["mta", "connections", "9", "no-such"]).run().expect_code(64);
    desk.infeed(&["mta", "connections", "0"]).run().expect_code(64);
    desk.infeed(&["reload"]).run().expect_code(0);
    wait_until("auto again", DEADLINE, || mta(&desk)["connections_why"].is_string());
    assert_eq!(mta(&desk)["target"], "auto");
    let screen = desk.infeed(&["status"]).run().expect_code(0).stdout;
    assert!(screen.contains("\n          N is "), "{screen}");
    desk.infeed(&["mta", "connections", "30"]).run().expect_code(0);
    wait_until("growth", DEADLINE, || mta(&desk)["established"] == 30 || desk.show(&job)["state"] == "done");
    desk.wait_state(&job, "done");
    daemon.stop();
    let tally = Tally::of(&sink.stop().1);
    assert_eq!(tally.judge(&desk, &job, "job", Repeats::None).accepted, 6_000);
}
