//! What the page shows is what the sink's ledger says, during a drain and at its end.

use serde_json::json;

use crate::chrome::skip_or_require;
use crate::common::daemon::MERGED;
use crate::common::desk::Desk;
use crate::common::port::free_port;
use crate::common::sink::SinkProcess;
use crate::visit::{job_row, number, number_of, serve, serve_at};

#[test]
fn at_the_end_of_a_live_drain_the_page_says_what_the_ledger_says() {
    if !skip_or_require(&["chromium"]) {
        return;
    }
    let desk = Desk::new();
    // so slow that three connections together don't reach the job's rate: each is needed all the time
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "200"]);
    let served = serve(&desk, &["--mta", &sink.address(), "--connections", "3"]);
    let mut chrome = served.visit();
    let people: Vec<String> = (0..300)
        .map(|i| format!("{}.{i}@d{}.example", if i % 10 == 3 { "refuse-550" } else { "open" }, i % 17))
        .collect();
    let message = desk.file("live.eml", MERGED);
    let list = desk.file("live.csv", format!("email\n{}\n", people.join("\n")));
    // slowly, for as long as somebody looks
    let job = desk.submit(&message, &list, &["--merge", "--accept-refusals", "--messages-per-second", "20"]);
    let row = json!(job_row(&job));
    chrome.wait(
        "progress",
        &format!(
            "(() => {{ const bar = document.querySelector({row})?.querySelector('progress');
               return bar && bar.value > 0 && bar.value < bar.max; }})()"
        ),
    );
    chrome.wait("rate", "/^[1-9]/.test(document.querySelector('#now-rate').textContent)");
    chrome.wait("latency", "/ms|s/.test(document.querySelector('#now-latency').textContent)");
    chrome.wait("number of connections", "document.querySelector('#now-n').textContent === '3 of 3'");
    chrome.wait("refusal", "document.querySelector('#refusals tbody').textContent.includes('550')");
    chrome.wait("chart", "document.querySelectorAll('.plot canvas').length === 4");
    desk.infeed(&["job", "rate", &job, "none"]).run().expect_code(0);
    chrome.wait("its end", &format!("document.querySelector({row})?.dataset.state === 'done'"));
    desk.wait_state(&job, "done");
    chrome.wait("last figures", "document.querySelector('#now-backlog').textContent === '0'");
    let ledger = sink.taken();
    let counts = chrome.text(&format!("{} td[data-label=Recipients]", job_row(&job)));
    assert_eq!(number_of(&counts, "accepted"), ledger.len() as u64, "{counts}");
    let progress = chrome.text(&format!("{} td[data-label=Progress]", job_row(&job)));
    assert!(progress.contains("300 of 300, 100\u{a0}%"), "{progress}");
    let (all, more) = (chrome.text("#now-outcomes"), chrome.text("#now-outcomes-more"));
    assert_eq!(number(&all), ledger.len() as u64, "{all}");
    let mta = chrome.text(&format!("tr[data-mta={}] td[data-label=Recipients]", json!(sink.address())));
    assert_eq!(number_of(&mta, "accepted"), ledger.len() as u64, "{mta}");
    let (summary, ledger) = {
        served.expect_clean(&mut chrome);
        served.daemon.stop();
        sink.stop()
    };
    let refused = summary["recipients_refused"].as_u64().expect("a count");
    assert_eq!((ledger.len() as u64, refused), (270, 30));
    for text in [&counts, &more, &mta] {
        assert_eq!(number_of(text, "refused"), refused, "{text}");
    }
}

#[test]
fn a_lost_connection_is_said_and_figures_are_stale_until_it_is_back() {
    if !skip_or_require(&["chromium"]) {
        return;
    }
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let port = free_port();
    let served = serve_at(&desk, port, &["--mta", &sink.address()]);
    let mut chrome = served.visit();
    assert_eq!(chrome.evaluate("document.querySelector('#stale').hidden"), true);
    served.daemon.stop();
    chrome.wait("word of the loss", "document.querySelector('#link').dataset.state === 'lost'");
    assert!(chrome.text("#link").contains("Connection lost"), "{}", chrome.text("#link"));
    chrome.wait("mark", "!document.querySelector('#stale').hidden");
    // what is done meanwhile fails, and says so
    chrome.click("#pause-all");
    chrome.wait("failure", "document.querySelector('#said').textContent.startsWith('Not done')");
    let again = serve_at(&desk, port, &["--mta", &sink.address()]);
    chrome.wait("connection", "document.querySelector('#link').dataset.state === 'live'");
    chrome.wait("no mark", "document.querySelector('#stale').hidden");
    let job = desk.submit_list("after", 20, MERGED, &["--merge"]);
    desk.wait_state(&job, "done");
    chrome.wait("the next job's figures", "document.querySelector('#now-outcomes').textContent === '20'");
    again.daemon.stop();
    assert_eq!(sink.stop().1.len(), 20);
}
