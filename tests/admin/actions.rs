//! Jobs and the standstill: the same as on the control socket, in what is done, said and refused.

use serde_json::{Value, json};

use super::client::{Api, DEADLINE, LASTS, socket, socket_job, socket_ok};
use crate::common::daemon::{MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;

#[test]
fn what_is_done_to_jobs_is_what_the_control_socket_tells_of_them_then() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "1"]);
    let api = Api::start(&desk, &["--mta", &sink.address(), "--connections", "2"]);
    let job = desk.submit_list("job", 600, MERGED, LASTS);
    let other = desk.submit_list("other", 500, SHARED, &[]);
    assert_eq!(socket_ok(&desk, &json!({ "do": "pause", "job": other }))["state"], "paused");
    wait_until("a delivery", DEADLINE, || sink.tail().waiting() > 0);

    let path = |job: &str, action: &str| format!("/api/v1/jobs/{job}{action}");
    let paused = api.done("POST", &path(&job, "/pause"), Some(&json!({ "reason": "wrong link" })));
    assert_eq!(
        (&paused["state"], &paused["standing"]["paused_reason"]),
        (&"paused".into(), &"wrong link".into())
    );
    assert_eq!(paused, socket_job(&desk, &job), "what the call said is what is");
    assert_eq!(desk.show(&job)["state"], "paused");
    // now that all stands still, everything is told alike
    assert_eq!(api.done("GET", "/api/v1/jobs", None), socket_ok(&desk, &json!({ "do": "jobs" })));
    assert_eq!(api.done("GET", &path(&other, ""), None), socket_job(&desk, &other));
    let (here, there) =
        (api.done("GET", "/api/v1/status", None), socket_ok(&desk, &json!({ "do": "status" })));
    for key in
        ["version", "spool", "standstill", "jobs", "backlog", "paused", "left_alone", "damaged", "domains"]
    {
        assert_eq!(here[key], there[key], "{key}");
    }
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&here), keys(&there));
    assert_eq!(keys(&here["mtas"][0]), keys(&there["mtas"][0]));
    // and as it is described
    let document = api.done("GET", "/api/v1/openapi.json", None);
    let described = |name: &str| keys(&document["components"]["schemas"][name]["properties"]);
    assert_eq!(keys(&here), described("Status"));
    assert_eq!(keys(&here["mtas"][0]), described("Mta"));

    let rated = api.done("POST", &path(&job, "/rate"), Some(&json!({ "messages_per_second": 250.5 })));
    assert_eq!(rated["standing"]["messages_per_second"], 250.5);
    let lifted = api.done("POST", &path(&job, "/rate"), Some(&json!({ "messages_per_second": null })));
    assert_eq!(lifted, socket_job(&desk, &job));
    let window = json!({ "windows": ["00:00-24:00 UTC"] });
    let windowed = api.done("POST", &path(&job, "/window"), Some(&window));
    assert_eq!(windowed["standing"]["windows"], window["windows"]);
    api.done("POST", &path(&job, "/window"), Some(&json!({ "windows": [] })));
    let resumed = api.done("POST", &path(&job, "/resume"), Some(&json!({ "accept_refusals": true })));
    assert_eq!(
        (&resumed["state"], &resumed["standing"]["accept_refusals"]),
        (&"active".into(), &true.into())
    );
    let cancelled = api.done("POST", &path(&other, "/cancel"), None);
    assert_eq!(cancelled, socket_job(&desk, &other));
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(api.done("DELETE", &path(&other, ""), None), Value::Null);
    assert!(socket(&desk, &json!({ "do": "job", "job": other }))["error"]["text"].is_string(), "it is gone");

    desk.wait_state(&job, "done");
    let log = api.daemon.stop().stderr;
    assert!(log.contains("the admin API: {\"do\":\"pause\",") && log.contains("wrong link"), "{log}");
    let tally = Tally::of(&sink.stop().1);
    assert_eq!(tally.judge(&desk, &job, "job", Repeats::None).accepted, 600);
}

#[test]
fn everything_pauses_and_goes_on_as_by_the_socket() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    let job = desk.submit_list("job", 50, SHARED, &[]);
    let paused = api.done("POST", "/api/v1/pause", Some(&json!({ "reason": "a look" })));
    assert_eq!((&paused["changed"], &paused["standstill"]["reason"]), (&true.into(), &"a look".into()));
    let again = socket_ok(&desk, &json!({ "do": "pause_all" }));
    assert_eq!((&again["changed"], &again["standstill"]), (&false.into(), &paused["standstill"]));
    assert_eq!(paused["went"][0]["job"], job.as_str());
    let resumed = api.done("POST", "/api/v1/resume", None);
    assert_eq!((&resumed["changed"], &resumed["standstill"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!(resumed["ended"], paused["standstill"]);
    // an empty object is as good as no body
    assert_eq!(api.done("POST", "/api/v1/resume", Some(&json!({})))["changed"], false);
    api.daemon.stop();
}

#[test]
fn what_the_socket_refuses_is_refused_in_the_same_words_with_the_same_code() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    let job = desk.submit_list("job", 5, SHARED, &[]);
    let path = |action: &str| format!("/api/v1/jobs/{job}{action}");
    let cases = [
        (404, "GET", "/api/v1/jobs/no-such".to_owned(), None, json!({ "do": "job", "job": "no-such" })),
        (
            400,
            "GET",
            "/api/v1/jobs/..%2f..%2fetc".to_owned(),
            None,
            json!({ "do": "job", "job": "../../etc" }),
        ),
        (409, "DELETE", path(""), None, json!({ "do": "remove", "job": job })),
        (
            400,
            "POST",
            path("/window"),
            Some(json!({ "windows": ["when I like"] })),
            json!({ "do": "window", "job": job, "windows": ["when I like"] }),
        ),
        (
            404,
            "POST",
            "/api/v1/mtas/no-such/connections".to_owned(),
            Some(json!({ "connections": 3 })),
            json!({ "do": "mta_connections", "mta": "no-such", "connections": 3 }),
        ),
        (404, "POST", "/api/v1/mtas/x/resume".to_owned(), None, json!({ "do": "resume_mta", "mta": "x" })),
        (
            400,
            "PATCH",
            "/api/v1/mtas/127.0.0.1:1".to_owned(),
            Some(json!({})),
            json!({ "do": "mta_set", "mta": "127.0.0.1:1" }),
        ),
        (
            400,
            "PATCH",
            "/api/v1/mtas/127.0.0.1:1".to_owned(),
            Some(json!({ "weight": 0 })),
            json!({ "do": "mta_set", "mta": "127.0.0.1:1", "weight": 0 }),
        ),
        (
            400,
            "PATCH",
            "/api/v1/mtas/127.0.0.1:1".to_owned(),
            Some(json!({ "address": "nowhere" })),
            json!({ "do": "mta_set", "mta": "127.0.0.1:1", "address": "nowhere" }),
        ),
        (
            400,
            "PATCH",
            "/api/v1/mtas/sink".to_owned(),
            Some(json!({ "address": "127.0.0.1:25" })),
            json!({ "do": "mta_set", "mta": "sink", "address": "127.0.0.1:25" }),
        ),
        (
            400,
            "POST",
            "/api/v1/domains/a%20b/rate".to_owned(),
            Some(json!({ "messages_per_second": 1 })),
            json!({ "do": "domain_rate", "domain": "a b", "messages_per_second": 1 }),
        ),
    ];
    for (status, method, path, body, request) in cases {
        let (code, text, exit_code) = api.refused(method, &path, body.as_ref());
        let said = socket(&desk, &request)["error"].clone();
        assert_eq!(
            (code, json!(text), json!(exit_code)),
            (status, said["text"].clone(), said["exit_code"].clone())
        );
    }
    // what can't be a request at all is known by the place
    for (method, path, body, word) in [
        ("POST", path("/pause"), json!({ "raison": "x" }), "raison"),
        ("POST", path("/pause"), json!({ "job": "other" }), "job"),
        ("POST", path("/pause"), json!({ "do": "cancel" }), "do"),
        ("POST", path("/rate"), json!({}), "messages_per_second"),
        ("POST", path("/rate"), json!({ "messages_per_second": 0 }), "50 or 0.5"),
        ("POST", path("/rate"), json!({ "messages_per_second": "fast" }), "fast"),
        ("POST", "/api/v1/connections".to_owned(), json!({ "connections": 0 }), "1 to 1000"),
        ("POST", "/api/v1/shutdown".to_owned(), json!({ "now": true }), "now"),
    ] {
        let (status, text, exit_code) = api.refused(method, &path, Some(&body));
        assert_eq!((status, exit_code), (400, 64), "{method} {path}: {text}");
        assert!(text.contains(word), "{method} {path}: {text}");
    }
    assert_eq!(api.refused("GET", "/api/v1/nothing", None).0, 404);
    assert_eq!(api.refused("PUT", &path("/pause"), None).0, 405);
    assert_eq!(api.refused("POST", "/api/v1/status", None).0, 405);
    assert_eq!(desk.show(&job)["state"], "active", "nothing was done");
    api.daemon.stop();
}
