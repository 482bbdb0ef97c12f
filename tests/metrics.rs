//! `--metrics`: what a scrape says, what Prometheus and Grafana make of it, and that the listener is bounded.

mod common;
#[path = "metrics/http.rs"]
mod http;
#[path = "metrics/prometheus.rs"]
mod prometheus;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use common::daemon::{Daemon, MERGED, SHARED, list};
use common::desk::Desk;
use common::port::free_port;
use common::sink::SinkProcess;
use common::wait::{wait_for, wait_until};
use http::{DEADLINE, get, scrape};
use infeed::http::{CONNECTIONS_MAX, HEAD_BYTES_MAX};
use infeed::metrics::ALL;
use prometheus::{Prometheus, grafana_schema, is_there, prometheus_is_there, promtool};
use serde_json::Value;

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root(path)).expect(path)
}

/// Every expression of both dashboards, with where it stands.
fn dashboard_expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in ["overview", "tuning"] {
        let path = format!("grafana/dashboards/{name}.json");
        let dashboard: Value = serde_json::from_str(&read(&path)).expect("JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().expect("targets") {
                let expression = target["expr"].as_str().expect("an expression").to_owned();
                found.push((format!("{name}: {}", panel["title"]), expression));
            }
        }
    }
    found
}

/// The expression of each alert without its comparison, with its name.
fn alert_expressions() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut in_expression = false;
    for line in read("grafana/alerts.yml").lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            found.push((name.to_owned(), String::new()));
        } else if let Some(expression) = line.strip_prefix("expr:") {
            in_expression = true;
            found.last_mut().expect("an alert").1.push_str(expression.trim().trim_start_matches(">-"));
        } else if line.contains(": ") || line.ends_with(':') {
            in_expression = false;
        } else if in_expression {
            found.last_mut().expect("an alert").1.push_str(&format!(" {line}"));
        }
    }
    for (name, expression) in &mut found {
        let at = expression.rfind(['>', '<']).or_else(|| expression.rfind("==")).expect(name);
        expression.truncate(at);
    }
    found
}

#[test]
fn dashboards_and_alerts_name_declared_metrics_alone() {
    let declared: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    let expressions = [dashboard_expressions(), alert_expressions()].concat();
    assert!(expressions.len() > 50, "{}", expressions.len());
    for (place, expression) in &expressions {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("infeed_") || word.starts_with("process_")) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
            let known = declared.contains(word) || base.is_some_and(|base| declared.contains(base));
            assert!(known, "{place}: {word} is no metric");
        }
    }
}

#[test]
fn each_alert_has_its_runbook() {
    let (rules, runbook) = (read("grafana/alerts.yml"), read("docs/alerts.md"));
    for (name, _) in alert_expressions() {
        assert!(runbook.contains(&format!("`{name}`")), "{name} is not in docs/alerts.md");
    }
    let anchors: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: docs/alerts.md#")).collect();
    assert_eq!(anchors.len(), alert_expressions().len());
    for anchor in anchors {
        let heading = runbook.lines().filter_map(|line| line.strip_prefix("## "));
        assert!(heading.map(str::to_lowercase).any(|title| title == anchor), "no heading #{anchor}");
    }
}

#[test]
fn the_alerts_fire_on_their_trouble_and_on_nothing_else() {
    if !prometheus_is_there() {
        return;
    }
    promtool(&["check", "rules", "grafana/alerts.yml"], "");
    promtool(&["test", "rules", "tests/metrics/alerts.test.yml"], "");
    let tested = read("tests/metrics/alerts.test.yml");
    for (name, _) in alert_expressions() {
        assert_eq!(tested.matches(&format!("alertname: {name}")).count(), 2, "{name}: fires, and doesn't");
    }
}

#[test]
fn grafana_knows_every_field_of_the_dashboards() {
    if !is_there(grafana_schema()) {
        return;
    }
    let hold = |files: &[PathBuf]| grafana_schema().arg("hold").args(files).output().expect("it runs");
    let dashboards = ["overview", "tuning"].map(|name| root(&format!("grafana/dashboards/{name}.json")));
    let held = hold(&dashboards);
    assert!(held.status.success(), "{}", String::from_utf8_lossy(&held.stdout));
    // and it would say so if it didn't
    let folder = tempfile::tempdir().expect("a folder");
    let bad = folder.path().join("bad.json");
    let text = read("grafana/dashboards/tuning.json").replacen("\"showLegend\"", "\"showLegends\"", 1);
    std::fs::write(&bad, text).expect("written");
    let held = hold(&[bad]);
    assert!(String::from_utf8_lossy(&held.stdout).contains("showLegends"), "a field that nobody knows");
    assert!(!held.status.success());
}

#[test]
fn a_live_drain_gives_prometheus_data_for_every_panel_and_alert() {
    if !prometheus_is_there() {
        return;
    }
    let desk = Desk::new();
    let (metrics, sink_metrics) = (free_port(), free_port());
    // slow enough to last, with everything that a panel shows
    let flags =
        ["--latency-ms", "200", "--fail", "rcpt=550%5", "--drain-rate", "1000", "--queue-max", "100000"];
    let listen = ["--metrics", &address(sink_metrics)];
    let sink = SinkProcess::start(&desk.path("sink"), &[&flags[..], &listen].concat());
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--metrics", &address(metrics)]);
    let prometheus = Prometheus::start(&[metrics, sink_metrics]);
    // Prometheus sees counters at 0 before they rise
    wait_until("first scrape", DEADLINE, || !prometheus.values("infeed_ready == 1").is_empty());
    let job = desk.submit_list("live", 20_000, MERGED, &["--merge", "--accept-refusals"]);
    let expressions = [dashboard_expressions(), alert_expressions()].concat();
    for (place, expression) in &expressions {
        let expression = ["instance", "mta", "job"]
            .iter()
            .fold(expression.clone(), |text, name| text.replace(&format!("\"${name}\""), "\".*\""))
            .replace("$target", "1000000")
            .replace("$__rate_interval", "10s")
            .replace("$__range", "1m");
        assert!(!expression.contains('$'), "{place}: {expression}");
        wait_until(&format!("data for {place}: {expression}"), DEADLINE, || {
            prometheus.values(&expression).iter().any(|value| !value.is_nan())
        });
    }
    promtool(&["check", "metrics"], &scrape(metrics).text);
    promtool(&["check", "metrics"], &scrape(sink_metrics).text);
    assert_eq!(desk.show(&job)["state"], "active", "the drain went on all the while");
    drop((prometheus, daemon, sink));
}

#[test]
fn at_the_end_the_metrics_say_what_report_and_ledger_say() {
    let desk = Desk::new();
    let (metrics, sink_metrics) = (free_port(), free_port());
    let flags = ["--fail", "rcpt=550%10", "--metrics", &address(sink_metrics)];
    let sink = SinkProcess::start(&desk.path("sink"), &flags);
    let daemon = Daemon::start(
        &desk,
        &["--mta", &sink.address(), "--connections", "4", "--metrics", &address(metrics)],
    );
    let suppress = desk.file("suppress.txt", "end-3@d3.example\nend-20@d3.example\n");
    let suppress = suppress.display().to_string();
    let job = desk.submit_list("end", 1_500, SHARED, &["--accept-refusals", "--suppress", &suppress]);
    desk.wait_state(&job, "done");
    let (report, now, sunk) = (desk.report(&job), scrape(metrics), scrape(sink_metrics));
    let ledger = sink.taken();
    for outcome in ["accepted", "refused", "suppressed", "quarantined", "deferred", "expired", "in_doubt"] {
        let label = format!("outcome=\"{outcome}\"");
        let rows = report.iter().filter(|row| row.outcome == outcome).count();
        assert_eq!(now.sum("infeed_deliveries_total", &label), rows as f64, "{outcome}");
    }
    assert!(now.sum("infeed_deliveries_total", "outcome=\"refused\"") > 0.0);
    assert_eq!(now.sum("infeed_deliveries_total", "mta=\"none\""), 2.0, "the suppressed went nowhere");
    assert_eq!(now.sum("infeed_deliveries_total", &format!("job=\"{job}\"")), 1_500.0);
    let accepted = now.sum("infeed_deliveries_total", "outcome=\"accepted\"");
    assert_eq!(accepted, ledger.len() as f64, "the ledger");
    assert_eq!(accepted, sunk.sum("infeed_sink_recipients_total", "outcome=\"accepted\""));
    assert_eq!(accepted, now.sum("infeed_replies_total", "class=\"2xx\""));
    let refused = now.sum("infeed_deliveries_total", "outcome=\"refused\"");
    assert_eq!(refused, now.sum("infeed_replies_total", "code=\"550\""));
    assert_eq!(refused, sunk.sum("infeed_sink_recipients_total", "outcome=\"refused\""));
    let transactions = now.sum("infeed_transactions_total", "");
    assert_eq!(transactions, now.sum("infeed_transaction_recipients_count", ""));
    assert_eq!(accepted + refused, now.sum("infeed_transaction_recipients_sum", ""));
    assert_eq!(now.sum("infeed_submitted_recipients_total", ""), 1_500.0);
    // and what `status` says
    let status = desk.status();
    assert_eq!(status["outcomes"]["accepted"].as_f64(), Some(accepted));
    assert_eq!(status["outcomes"]["refused"].as_f64(), Some(refused));
    assert_eq!(now.sum("infeed_phase_seconds_count", "phase=\"connect\""), {
        sunk.sum("infeed_sink_connections_total", "")
    });
    daemon.stop();
    sink.stop();
}

#[test]
fn drain_and_send_answer_while_they_go_on() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "200"]);
    let message = desk.file("news.eml", SHARED);
    for (tag, command) in [("a", "drain"), ("b", "send")] {
        let port = free_port();
        let list = desk.file(&format!("{tag}.csv"), list(tag, 5_000));
        let flags = ["--mta", &sink.address(), "--connections", "1", "--metrics", &address(port)];
        let flags = [&flags[..], &["--set", "mta.recipients_per_transaction_max=2"]].concat();
        let run = if command == "drain" {
            desk.submit(&message, &list, &[]);
            desk.infeed(&["drain"]).args(&flags).spawn()
        } else {
            desk.infeed(&["send", "--yes"]).arg(&message).arg("--to").arg(&list).args(&flags).spawn()
        };
        let seen = wait_for("a scrape of a drain that goes on", DEADLINE, || {
            Some(scrape(port)).filter(|now| now.sum("infeed_deliveries_total", "accepted") > 0.0)
        });
        assert_eq!(seen.sum("infeed_build_info", &format!("command=\"{command}\"")), 1.0);
        assert_eq!(seen.sum("infeed_infeeds_open", ""), 1.0);
        assert_eq!(get(port, "/readyz").map(|(code, _)| code), Some(200));
        run.signal(rustix::process::Signal::TERM);
        run.wait(DEADLINE).expect_code(75);
    }
}

#[test]
fn whoever_waits_for_the_slices_lives_and_is_not_ready() {
    let desk = Desk::new();
    let (first, second) = (free_port(), free_port());
    let daemon = Daemon::start(&desk, &["--metrics", &address(first)]);
    assert_eq!(get(first, "/readyz").map(|(code, _)| code), Some(200));
    let waiting = desk.infeed(&["serve", "--metrics", &address(second)]).spawn();
    let (code, why) = wait_for("the reason", DEADLINE, || {
        get(second, "/readyz").filter(|(_, why)| why.contains("another process"))
    });
    assert_eq!((code, why.lines().count()), (503, 1), "{why}");
    assert!(why.contains(&format!("process {}", daemon.pid())), "{why}");
    assert_eq!(get(second, "/healthz"), Some((200, "ok\n".to_owned())));
    let now = scrape(second);
    assert_eq!(now.samples("infeed_ready").map(|(_, ready)| ready).collect::<Vec<_>>(), [0.0]);
    // it takes over, and is ready then
    daemon.stop();
    wait_until("the second one that is ready", DEADLINE, || {
        get(second, "/readyz").is_some_and(|(code, _)| code == 200)
    });
    waiting.signal(rustix::process::Signal::TERM);
    waiting.wait(DEADLINE).expect_code(0);
}

#[test]
fn an_address_that_is_taken_or_is_none_ends_the_start() {
    let desk = Desk::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    for command in [&["serve"][..], &["drain"], &["sink", "--listen", "127.0.0.1:0"]] {
        desk.submit_list(command[0], 1, SHARED, &[]);
        let run = desk.infeed(command).args(["--metrics", &taken]).run().expect_code(69);
        assert!(run.stderr.contains(&taken) && run.stderr.contains("--metrics"), "{}", run.stderr);
        let run = desk.infeed(command).args(["--metrics", "nonsense"]).run().expect_code(64);
        assert!(run.stderr.contains("nonsense") && run.stderr.contains("host:port"), "{}", run.stderr);
    }
}

#[test]
fn strangers_are_bounded_in_number_size_and_time() {
    let desk = Desk::new();
    let port = free_port();
    let sink = SinkProcess::start(&desk.path("sink"), &["--metrics", &address(port)]);
    for path in ["/", "/metrics/", "/../etc/passwd", "/metrics%2f.."] {
        assert_eq!(get(port, path).map(|(code, _)| code), Some(404), "{path}");
    }
    let said = |request: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        // it may be cut off in the middle
        let sent = stream.write_all(request);
        let mut text = Vec::new();
        let read = stream.read_to_end(&mut text);
        assert!(!text.is_empty() || sent.is_err() || read.is_err(), "neither an answer nor an end");
        String::from_utf8_lossy(&text).into_owned()
    };
    let post = said(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    let long = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
    let long = said(long.as_bytes());
    assert!(!long.contains(" 200 "), "{long}");
    // those who never end their request are let go of, and whoever comes after them is answered
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX + 8 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n").expect("written");
        silent.push(stream);
    }
    assert_eq!(get(port, "/healthz").map(|(code, _)| code), Some(200));
    let mut first = silent.swap_remove(0);
    first.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut text = Vec::new();
    let ended = first.read_to_end(&mut text).err().map(|e| e.kind());
    assert!(matches!(ended, None | Some(std::io::ErrorKind::ConnectionReset)), "let go of: {ended:?}");
    assert!(!text.starts_with(b"HTTP/1.1 200"));
    sink.stop();
}
