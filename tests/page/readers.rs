//! Everybody can read the page: audited with axe-core in light and dark and on a phone, with pictures of it.

use serde_json::json;

use crate::chrome::{Chrome, program, skip_or_require};
use crate::common::daemon::MERGED;
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::visit::{click_in, job_row, serve};

/// What axe-core minds, with where; everything that it knows of is looked at.
fn audit(chrome: &mut Chrome, what: &str) {
    if chrome.evaluate("typeof axe") != "object" {
        let script = std::fs::read_to_string(program("axe")).expect("axe-core");
        chrome.evaluate(&format!("{script};0"));
    }
    let minded = chrome.evaluate(
        "axe.run(document, { resultTypes: ['violations'] }).then((found) => found.violations.map(
           (each) => `${each.id}: ${each.help}: ${each.nodes.map((node) => `${node.html} ${node.failureSummary}`).join('; ')}`))",
    );
    assert_eq!(minded, json!([]), "{what}");
}

/// Nothing sticks out at the side.
fn expect_no_sideways_scroll(chrome: &mut Chrome, what: &str) {
    let wide = chrome.evaluate(
        "[...document.querySelectorAll('body *')].filter((node) => node.getBoundingClientRect().right > innerWidth + 1
           && !node.closest('.scroll, .unseen, thead, .u-wrap')).map((node) => node.outerHTML.slice(0, 200))",
    );
    assert_eq!(wide, json!([]), "{what}");
    assert_eq!(chrome.evaluate("document.documentElement.scrollWidth <= innerWidth"), true, "{what}");
}

#[test]
fn everybody_can_read_the_page_in_light_and_dark_and_on_a_phone() {
    if !skip_or_require(&["chromium", "axe"]) {
        return;
    }
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--service-us", "20000", "--fail", "rcpt=451%5"]);
    desk.configure(&format!("[mta]\naddress = '{}'\nrecipients_per_transaction_max = 1\n", sink.address()));
    let config = desk.path("infeed.toml").display().to_string();
    let served = serve(&desk, &["--config", &config, "--set", "retry.delay_s_min=3600"]);
    let mut chrome = Chrome::start();
    chrome.open(&served.url());
    chrome.wait("question", "!document.querySelector('#login').hidden");
    for scheme in ["light", "dark"] {
        chrome.prefer(scheme);
        audit(&mut chrome, &format!("the question for the token, {scheme}"));
    }
    served.sign_in(&mut chrome);
    // something of everything: two that go on, one that is paused, one that has ended, refusals, a note
    let people: Vec<String> = (0..4_000)
        .map(|i| format!("{}.{i}@d{}.example", if i % 4 == 1 { "refuse-550" } else { "open" }, i % 17))
        .collect();
    let (message, list) = (desk.file("news.eml", MERGED), format!("email\n{}\n", people.join("\n")));
    let flags = ["--merge", "--accept-refusals", "--messages-per-second", "20", "--id", "weekly-47"];
    let job = desk.submit(&message, &desk.file("news.csv", list), &flags);
    let paused = desk.submit_list(
        "offers",
        300,
        MERGED,
        &["--merge", "--id", "offers-of-a-long-name-that-is-hard-to-break"],
    );
    desk.infeed(&["job", "pause", &paused, "--reason", "the footer has last year’s address"])
        .run()
        .expect_code(0);
    let left =
        desk.submit_list("left", 10, MERGED, &["--merge", "--mta", "127.0.0.1:9", "--id", "for-another-mta"]);
    let slowly = ["--merge", "--messages-per-second", "5", "--id", "gone"];
    let cancelled = desk.submit_list("gone", 500, MERGED, &slowly);
    chrome.wait("the job that goes", &format!("document.querySelector({})", json!(job_row(&cancelled))));
    desk.infeed(&["job", "cancel", &cancelled]).run().expect_code(0);
    for (job, state) in [(&job, "active"), (&paused, "paused"), (&cancelled, "cancelled")] {
        let shown = format!("document.querySelector({})?.dataset.state === '{state}'", json!(job_row(job)));
        chrome.wait(&format!("{job} that is {state}"), &shown);
    }
    chrome
        .wait("banner", &format!("document.querySelector('#banner').textContent.includes({})", json!(left)));
    chrome.wait("twenty refusals", "document.querySelectorAll('#refusals tbody tr').length === 20");
    chrome.wait("why N is what it is", "document.querySelector('#now-n-more').textContent.length > 20");
    chrome.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })");
    chrome.wait("numbers", "document.querySelectorAll('.numbers tbody tr').length >= 4");
    for (width, name) in [(1280, "wide"), (320, "phone")] {
        chrome.resize(width, 800);
        for scheme in ["light", "dark"] {
            chrome.prefer(scheme);
            let what = format!("{scheme}, {width} pixels wide");
            audit(&mut chrome, &what);
            expect_no_sideways_scroll(&mut chrome, &what);
            chrome.screenshot(&format!("{name}-{scheme}"));
            for (row, label, dialog) in
                [("#mtas tbody tr".to_owned(), "Change", "mta-knobs"), (job_row(&job), "Cancel", "confirm")]
            {
                click_in(&mut chrome, &row, label);
                chrome.wait("dialog", &format!("document.querySelector('#{dialog}').open"));
                // on a phone they are the same ones, narrower
                if name == "wide" {
                    audit(&mut chrome, &format!("{dialog}, {what}"));
                }
                expect_no_sideways_scroll(&mut chrome, &format!("{dialog}, {what}"));
                chrome.screenshot(&format!("{name}-{scheme}-{dialog}"));
                chrome.press("Escape");
                chrome.wait("end of the dialog", &format!("!document.querySelector('#{dialog}').open"));
            }
        }
    }
    served.expect_clean(&mut chrome);
}

#[test]
fn what_is_read_out_changes_when_something_happens_and_not_every_second() {
    if !skip_or_require(&["chromium"]) {
        return;
    }
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let served = serve(&desk, &["--mta", &sink.address(), "--connections", "2"]);
    let job = desk.submit_list("job", 2_000, MERGED, &["--merge", "--messages-per-second", "10"]);
    let mut chrome = served.visit();
    chrome.wait(
        "progress",
        &format!("document.querySelector({})?.querySelector('progress').value > 0", json!(job_row(&job))),
    );
    // every change in what a screen reader reads out by itself, while the figures change three times
    let heard = chrome.evaluate(
        "new Promise((resolve) => {
           const heard = [];
           const listen = new MutationObserver((changes) => heard.push(...changes.map((each) => each.target.textContent)));
           const live = document.querySelectorAll('[role=status], [role=alert], [aria-live]');
           live.forEach((node) => listen.observe(node, { childList: true, characterData: true, subtree: true }));
           let changed = 0;
           new MutationObserver(() => { changed += 1; if (changed >= 3) resolve({ heard, live: live.length }); })
             .observe(document.querySelector('#now'), { childList: true, characterData: true, subtree: true });
         })",
    );
    assert_eq!(heard["heard"], json!([]));
    assert!(heard["live"].as_u64() >= Some(3), "{heard}");
    let headings =
        chrome.evaluate("[...document.querySelectorAll('main section:not([hidden]) h2')].map((h) => h.id)");
    assert_eq!(headings, json!(["now-title", "charts-title", "jobs-title", "mtas-title", "refusals-title"]));
    served.expect_clean(&mut chrome);
}
