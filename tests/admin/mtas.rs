//! MTAs, domains and the configuration: turned while mail flows, until a reload.

use serde_json::{Value, json};

use super::client::{Api, DEADLINE, LASTS};
use crate::common::daemon::MERGED;
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;

fn configure(desk: &Desk, mtas: &[(&str, &str)], more: &str) {
    let table = |(name, address): &(&str, &str)| {
        format!("[[mta]]\nname = '{name}'\naddress = '{address}'\nconnections = 2\n")
    };
    desk.configure(&(more.to_owned() + &mtas.iter().map(table).collect::<String>()));
}

fn start(desk: &Desk) -> Api {
    Api::start(desk, &["--config", &desk.path("infeed.toml").display().to_string()])
}

#[test]
fn an_mta_moves_while_mail_flows_and_nobody_is_lost_or_repeated() {
    let desk = Desk::new();
    // so slow that three connections together don't reach the job's rate: each is needed all the time
    let sink = |name: &str| SinkProcess::start(&desk.path(name), &["--latency-ms", "200"]);
    let (first, moved) = (sink("first"), sink("moved"));
    configure(&desk, &[("a", &first.address())], "");
    let api = start(&desk);
    let job = desk.submit_list("job", 400, MERGED, LASTS);
    wait_until("a delivery", DEADLINE, || first.tail().waiting() > 0);

    assert_eq!(api.done("POST", "/api/v1/mtas/a/connections", Some(&json!({ "connections": 3 }))), 1);
    wait_until("three connections", DEADLINE, || api.mta("a")["established"] == 3);
    let change = json!({ "address": moved.address(), "weight": 7, "queue_target": 500 });
    assert_eq!(api.done("PATCH", "/api/v1/mtas/a", Some(&change)), 1);
    let now = api.mta("a");
    assert_eq!((&now["address"], &now["weight"]), (&json!(moved.address()), &7.into()));
    assert_eq!(now["connections"], 3, "what was set by hand stays");
    wait_until("a delivery where it is now", DEADLINE, || moved.tail().waiting() > 0);
    assert_ne!(desk.show(&job)["state"], "done", "the job is too short");
    // and back, by the configuration
    api.done("POST", "/api/v1/reload", None);
    let now = api.mta("a");
    assert_eq!((&now["address"], &now["weight"]), (&json!(first.address()), &1.into()));
    api.lift(&job);
    desk.wait_state(&job, "done");
    api.daemon.stop();
    let mut tally = Tally::default();
    for sink in [first, moved] {
        tally.add(&sink.stop().1);
    }
    assert_eq!(tally.judge(&desk, &job, "job", Repeats::None).accepted, 400);
    desk.check();
}

#[test]
fn rates_of_mtas_and_domains_hold_until_a_reload() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    configure(
        &desk,
        &[("a", &sink.address()), ("b", "127.0.0.1:1")],
        "[rates.domains]\n\"kept.example\" = 9\n",
    );
    let api = start(&desk);
    let domains = || {
        let status = api.done("GET", "/api/v1/status", None);
        let all = status["domains"].as_array().expect("domains").clone();
        all.iter().map(|d| format!("{} {}", d["domain"], d["messages_per_second"])).collect::<Vec<_>>()
    };
    assert_eq!(domains(), [r#""kept.example" 9.0"#]);
    let rate = |n: Value| json!({ "messages_per_second": n });
    api.done("POST", "/api/v1/domains/Gmail.COM/rate", Some(&rate(json!(20))));
    assert_eq!(domains(), [r#""gmail.com" 20.0"#, r#""kept.example" 9.0"#]);
    api.done("POST", "/api/v1/domains/kept.example/rate", Some(&rate(Value::Null)));
    assert_eq!(domains(), [r#""gmail.com" 20.0"#]);
    api.done("PATCH", "/api/v1/mtas/a", Some(&rate(json!(0.5))));
    assert_eq!(api.mta("a")["messages_per_second"], 0.5);
    assert_eq!(api.mta("b")["messages_per_second"], Value::Null, "the other one keeps its own");
    api.done("PATCH", "/api/v1/mtas/a", Some(&rate(Value::Null)));
    assert_eq!(api.mta("a")["messages_per_second"], Value::Null);
    // the command line does the same
    desk.infeed(&["mta", "set", "a", "--messages-per-second", "3", "--weight", "2"]).run().expect_code(0);
    assert_eq!((&api.mta("a")["messages_per_second"], &api.mta("a")["weight"]), (&json!(3.0), &2.into()));
    desk.infeed(&["domain", "rate", "d.example", "4.5"]).run().expect_code(0);
    assert_eq!(domains(), [r#""d.example" 4.5"#, r#""gmail.com" 20.0"#]);
    let run = desk.infeed(&["mta", "set", "a", "--address", "127.0.0.1:1"]).run().expect_code(64);
    assert!(run.stderr.contains("MTA b"), "{}", run.stderr);

    assert_eq!(api.done("POST", "/api/v1/connections", Some(&json!({ "connections": "auto" }))), 2);
    assert_eq!(api.done("POST", "/api/v1/mtas/b/resume", None), 0);
    desk.configure("[[mta]]\nname = 'a'\nadress = 'x'\n");
    let (status, text, exit_code) = api.refused("POST", "/api/v1/reload", None);
    assert_eq!((status, exit_code), (422, 78));
    assert!(text.contains("infeed.toml:3") && text.contains("adress"), "{text}");
    configure(
        &desk,
        &[("a", &sink.address()), ("b", "127.0.0.1:1")],
        "[rates.domains]\n\"kept.example\" = 9\n",
    );
    assert_eq!(api.done("POST", "/api/v1/reload", None), Value::Null);
    assert_eq!(domains(), [r#""kept.example" 9.0"#]);
    assert_eq!(api.mta("a")["messages_per_second"], Value::Null);
    api.daemon.stop();
    sink.stop();
}

#[test]
fn a_weight_that_is_set_shares_the_mail_anew() {
    let desk = Desk::new();
    let sink = |name: &str| SinkProcess::start(&desk.path(name), &["--latency-ms", "5"]);
    let (a, b) = (sink("a"), sink("b"));
    configure(&desk, &[("a", &a.address()), ("b", &b.address())], "");
    let api = start(&desk);
    api.done("PATCH", "/api/v1/mtas/a", Some(&json!({ "weight": 9 })));
    let job = desk.submit_list("job", 1_500, MERGED, &["--merge"]);
    desk.wait_state(&job, "done");
    api.daemon.stop();
    let (a, b) = (a.stop().1.len(), b.stop().1.len());
    assert_eq!(a + b, 1_500);
    assert!(a > 2 * b, "{a} and {b}, of weights 9 and 1");
}
