//! What is turned on the page is turned at the MTA; what can't be undone is asked for twice.

use serde_json::json;

use crate::chrome::{Chrome, DEADLINE, skip_or_require};
use crate::common::daemon::{MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::port::free_port;
use crate::common::sink::SinkProcess;
use crate::common::tally::{Repeats, Tally};
use crate::common::wait::wait_until;
use crate::http::scrape;
use crate::visit::{click_in, job_row, mark_button, number_of, serve};

/// Slow enough that a job lasts as long as somebody looks.
const SLOW: [&str; 2] = ["--service-us", "100000"];

#[test]
fn a_number_set_on_the_page_is_the_number_of_connections_at_the_mta() {
    if !skip_or_require(&["chromium"]) {
        return;
    }
    let (desk, metrics) = (Desk::new(), free_port());
    let listen = format!("127.0.0.1:{metrics}");
    let sink = SinkProcess::start(&desk.path("sink"), &[&SLOW[..], &["--metrics", &listen]].concat());
    desk.configure(&format!(
        "[mta]\naddress = '{}'\nconnections = 2\nrecipients_per_transaction_max = 1\n",
        sink.address()
    ));
    let config = desk.path("infeed.toml").display().to_string();
    let served = serve(&desk, &["--config", &config]);
    let job = desk.submit_list("job", 6_000, SHARED, &[]);
    let mut chrome = served.visit();
    let row = "#mtas tbody tr:first-child";
    let set = |chrome: &mut Chrome, number: Option<&str>| {
        click_in(chrome, row, "Change");
        chrome.wait("dialog", "document.querySelector('#mta-knobs').open");
        match number {
            Some(number) => {
                chrome.evaluate(
                    "document.querySelector('#n-count').focus(); document.querySelector('#n-count').select()",
                );
                chrome.type_text(number);
            }
            None => chrome.click("#n-auto"),
        }
        chrome.click("#mta-knobs button[type=submit]");
        chrome.wait("end of the dialog", "!document.querySelector('#mta-knobs').open");
    };
    for number in [7_u64, 3] {
        set(&mut chrome, Some(&number.to_string()));
        wait_until("that number", DEADLINE, || {
            let mta = desk.status()["mtas"][0].clone();
            mta["established"] == number && mta["connections"] == number && mta["target"] == "fixed"
        });
        wait_until("that number at the sink", DEADLINE, || {
            scrape(metrics).sum("infeed_sink_connections_open", "") == number as f64
        });
        chrome.wait(
            "that number on the page",
            &format!("document.querySelector('#now-n').textContent === '{number} of {number}'"),
        );
    }
    // what is no number is kept in the form
    click_in(&mut chrome, row, "Change");
    chrome
        .evaluate("document.querySelector('#n-count').focus(); document.querySelector('#n-count').select()");
    chrome.type_text("0");
    chrome.click("#mta-knobs button[type=submit]");
    assert_eq!(chrome.evaluate("document.querySelector('#mta-knobs').open"), true);
    chrome.press("Escape");
    // the rates of MTA and job
    click_in(&mut chrome, row, "Change");
    chrome.click("#mta-rate");
    chrome.type_text("400");
    chrome.click("#mta-knobs button[type=submit]");
    chrome.wait(
        "rate of the MTA",
        &format!("document.querySelector({}).textContent.includes('at most 400/s')", json!(row)),
    );
    click_in(&mut chrome, &job_row(&job), "Rate");
    chrome.click("#job-rate-value");
    chrome.type_text("25.5");
    chrome.press("Enter");
    chrome.wait(
        "rate of the job",
        &format!("document.querySelector({}).textContent.includes('at most 25.5/s')", json!(job_row(&job))),
    );
    assert_eq!(desk.status()["active"][0]["messages_per_second"], 25.5);
    set(&mut chrome, None);
    wait_until("auto", DEADLINE, || desk.status()["mtas"][0]["target"] == "auto");
    chrome.wait(
        "auto on the page",
        &format!("document.querySelector({}).textContent.includes('(auto)')", json!(row)),
    );
    served.expect_clean(&mut chrome);
}

/// Tabs until a selector has the focus.
fn tab_to(chrome: &mut Chrome, selector: &str) {
    for _ in 0..200 {
        if chrome.evaluate(&format!("document.activeElement?.matches({})", json!(selector))) == true {
            return;
        }
        chrome.press("Tab");
    }
    panic!("no way to {selector} by the keyboard: {}", chrome.evaluate("document.activeElement.outerHTML"));
}

#[test]
fn a_job_is_paused_resumed_and_cancelled_on_the_page_and_only_the_keyboard_is_needed() {
    if !skip_or_require(&["chromium"]) {
        return;
    }
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &SLOW);
    let served = serve(&desk, &["--mta", &sink.address(), "--connections", "2"]);
    let job = desk.submit_list("job", 4_000, MERGED, &["--merge"]);
    let mut chrome = Chrome::start();
    chrome.open(&served.url());
    chrome.wait("focus in the token", "document.activeElement?.id === 'token'");
    chrome.type_text(&served.token);
    chrome.press("Enter");
    let row = job_row(&job);
    let state = |chrome: &mut Chrome, state: &str| {
        let shown = format!("document.querySelector({})?.dataset.state === '{state}'", json!(job_row(&job)));
        chrome.wait(state, &shown);
    };
    state(&mut chrome, "active");
    desk.wait_accepted(&job, 1);
    let button = mark_button(&mut chrome, &row, "Pause");
    tab_to(&mut chrome, &button);
    let outline = chrome.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focus is seen");
    chrome.press("Enter");
    desk.wait_state(&job, "paused");
    state(&mut chrome, "paused");
    chrome.wait("word of it", "document.querySelector('#said').textContent.includes('is paused')");
    // the focus stayed on the button, which says the contrary now
    chrome.wait("the button", "document.activeElement.textContent.startsWith('Resume')");
    chrome.press(" ");
    desk.wait_state(&job, "active");
    state(&mut chrome, "active");
    chrome.wait("the button", "document.activeElement.textContent.startsWith('Pause')");

    // everything: pause at once, resume asks
    tab_to(&mut chrome, "#pause-all");
    chrome.press("Enter");
    chrome
        .wait("standstill", "document.querySelector('#banner').textContent.includes('Everything is paused')");
    assert!(desk.status()["standstill"].is_object());
    tab_to(&mut chrome, "#resume-all");
    chrome.press("Enter");
    chrome.wait("question", "document.querySelector('#confirm').open");
    assert!(chrome.text("#confirm-text").contains("paused on the page"));
    tab_to(&mut chrome, "#confirm-yes");
    chrome.press("Enter");
    wait_until("end of the standstill", DEADLINE, || desk.status()["standstill"].is_null());
    chrome.wait("no banner", "document.querySelector('#banner').textContent === ''");

    // cancel asks, and names the job and its counts; Escape is no
    let button = mark_button(&mut chrome, &row, "Cancel");
    tab_to(&mut chrome, &button);
    chrome.press("Enter");
    chrome.wait("question", "document.querySelector('#confirm').open");
    let (title, text) = (chrome.text("#confirm-title"), chrome.text("#confirm-text"));
    assert!(title.contains(&job) && text.contains("of its 4,000 recipients"), "{title}\n{text}");
    assert!(number_of(&text, "accepted") > 0 && text.contains("pending"), "{text}");
    assert_eq!(chrome.evaluate("document.activeElement.id"), "confirm-no", "the harmless one has the focus");
    chrome.press("Escape");
    chrome.wait("end of the question", "!document.querySelector('#confirm').open");
    assert_eq!(desk.show(&job)["state"], "active");
    assert_eq!(
        chrome.evaluate("document.activeElement.matches('[data-test=this]')"),
        true,
        "back where it was"
    );
    chrome.press("Enter");
    chrome.wait("question", "document.querySelector('#confirm').open");
    tab_to(&mut chrome, "#confirm-yes");
    chrome.press("Enter");
    let show = desk.wait_state(&job, "cancelled");
    state(&mut chrome, "cancelled");
    let counts = chrome.text(&format!("{row} td[data-label=Recipients]"));
    assert_eq!(Some(number_of(&counts, "accepted")), show["accepted"].as_u64(), "{counts}");
    served.expect_clean(&mut chrome);
    served.daemon.stop();
    let tally = Tally::of(&sink.stop().1);
    assert_eq!(
        tally.judge(&desk, &job, "job", Repeats::None).accepted,
        number_of(&counts, "accepted") as usize
    );
}
