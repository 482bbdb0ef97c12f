//! What an MTA, a sender or a thief of pages says is text on the page, and never runs.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::json;

use crate::chrome::{Chrome, skip_or_require};
use crate::common::daemon::SHARED;
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::visit::serve;

/// What would run, were it markup.
const HOSTILE: &str =
    "<script>window.ran=1</script><img src=x onerror=\"window.ran=1\"> ${window.ran=1} &lt;b&gt;";

/// An MTA that refuses every recipient in these words; it ends with the test's process.
fn refuse_in_these_words(words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // whoever breaks off needs no answer
            std::thread::spawn(move || converse(stream, words).is_ok());
        }
    });
    address
}

fn converse(stream: TcpStream, words: &str) -> io::Result<()> {
    let (mut output, input) = (stream.try_clone()?, BufReader::new(stream));
    output.write_all(b"220 hostile.example.test ESMTP\r\n")?;
    for line in input.lines() {
        let reply = match line?.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" | "MAIL" | "RSET" | "NOOP" => "250 ok".to_owned(),
            "RCPT" => format!("550 5.1.1 {words}"),
            "QUIT" => return output.write_all(b"221 bye\r\n"),
            _ => "503 5.5.1 no".to_owned(),
        };
        output.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}

#[test]
fn a_refusal_or_a_reason_that_looks_like_markup_is_text() {
    if !skip_or_require(&["chromium"]) {
        return;
    }
    let desk = Desk::new();
    let served = serve(&desk, &["--mta", &refuse_in_these_words(HOSTILE).to_string()]);
    let mut chrome = served.visit();
    let job = desk.submit_list("hostile", 5, SHARED, &["--accept-refusals"]);
    let shown =
        |place: &str| format!("document.querySelector('{place}').textContent.includes({})", json!(HOSTILE));
    chrome.wait("refusal as text", &shown("#refusals"));
    desk.wait_state(&job, "done");
    let paused = desk.submit_list("reason", 5, SHARED, &["--accept-refusals", "--mta", "127.0.0.1:9"]);
    desk.infeed(&["job", "pause", &paused, "--reason", HOSTILE]).run().expect_code(0);
    chrome.wait("reason as text", &shown("#jobs"));
    desk.infeed(&["pause", "--all", "--reason", HOSTILE]).run().expect_code(0);
    chrome.wait("banner as text", &shown("#banner"));
    chrome.click("#resume-all");
    chrome.wait("question with it as text", &shown("#confirm-text"));
    chrome.press("Escape");
    assert_eq!(chrome.evaluate("typeof window.ran"), "undefined");
    assert_eq!(chrome.evaluate("document.querySelectorAll('main img, main script, main b').length"), 0);
    served.expect_clean(&mut chrome);
    served.daemon.stop();
}

#[test]
fn the_page_runs_nothing_that_is_not_its_own_and_keeps_the_token_to_its_tab() {
    if !skip_or_require(&["chromium"]) {
        return;
    }
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let served = serve(&desk, &["--mta", &sink.address()]);
    let mut chrome = Chrome::start();
    chrome.open(&served.url());
    chrome.wait("question", "!document.querySelector('#login').hidden");
    chrome.click("#token");
    chrome.type_text("not-the-token-at-all-not-the-token-at-all");
    chrome.press("Enter");
    chrome.wait("refusal", "document.querySelector('#login-error').textContent.includes('refuses')");
    assert_eq!(chrome.evaluate("sessionStorage.length"), 0, "a token that is none is forgotten");
    // that the browser noted the 401 is all that it has to say
    let complaints = chrome.told().complaints;
    assert!(complaints.iter().all(|line| line.contains("401")), "{complaints:?}");
    served.sign_in(&mut chrome);
    served.expect_clean(&mut chrome);
    let stores = "[localStorage.length, sessionStorage.length, document.cookie, location.href]";
    assert_eq!(chrome.evaluate(stores), json!([0, 1, "", served.url()]));
    // the policy holds: a script in the page's own markup doesn't run, nor does anything come from elsewhere
    let tried = chrome.evaluate(
        "(async () => {
           const seen = [];
           document.addEventListener('securitypolicyviolation', (e) => seen.push(e.effectiveDirective));
           const script = document.createElement('script');
           script.textContent = 'window.ran = 1';
           document.body.append(script);
           await fetch('http://127.0.0.1:1/').catch(() => 0);
           await new Promise((resolve) => {
             const look = () => (seen.length < 2 ? setTimeout(look, 10) : resolve());
             look();
           });
           return { ran: typeof window.ran, seen: seen.sort() };
         })()",
    );
    assert_eq!(tried["ran"], "undefined");
    assert_eq!(tried["seen"], json!(["connect-src", "script-src-elem"]));
    chrome.told();
    // closed by hand: nothing of it is left
    chrome.click("#sign-out");
    chrome.wait(
        "question",
        "document.readyState === 'complete' && document.querySelector('#login')?.hidden === false",
    );
    assert_eq!(chrome.evaluate("sessionStorage.length"), 0);
    served.daemon.stop();
}
