//! A daemon with its page, and a browser that looks at it.

use serde_json::json;

use crate::chrome::{Chrome, DEADLINE};
use crate::common::daemon::Daemon;
use crate::common::desk::Desk;
use crate::common::port::free_port;
use crate::common::wait::wait_for;

/// A daemon that has a page.
#[derive(Debug)]
pub struct Served {
    pub daemon: Daemon,
    pub port: u16,
    pub token: String,
}

/// `infeed serve --admin … FLAGS…`
pub fn serve(desk: &Desk, flags: &[&str]) -> Served {
    serve_at(desk, free_port(), flags)
}

/// The same on this port.
pub fn serve_at(desk: &Desk, port: u16, flags: &[&str]) -> Served {
    let admin = format!("127.0.0.1:{port}");
    let daemon = Daemon::start(desk, &[&["--admin", &admin][..], flags].concat());
    let token =
        wait_for("token", DEADLINE, || std::fs::read_to_string(desk.spool().join("admin.token")).ok());
    Served { daemon, port, token: token.trim().to_owned() }
}

impl Served {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// A browser in which the token was given, and figures are shown.
    pub fn visit(&self) -> Chrome {
        let mut chrome = Chrome::start();
        chrome.open(&self.url());
        self.sign_in(&mut chrome);
        chrome
    }

    /// Gives the token to the page that asks for it.
    pub fn sign_in(&self, chrome: &mut Chrome) {
        chrome.wait("question for the token", "!document.querySelector('#login').hidden");
        chrome.click("#token");
        chrome.type_text(&self.token);
        chrome.press("Enter");
        chrome.wait("figures", "document.querySelector('#link').dataset.state === 'live'");
    }

    /// What a page of this daemon may have told by its end: requests to the daemon alone, and no complaint.
    ///
    /// # Panics
    /// On anything else.
    pub fn expect_clean(&self, chrome: &mut Chrome) {
        let told = chrome.told();
        assert_eq!(told.complaints, Vec::<String>::new());
        assert!(!told.requests.is_empty());
        for request in &told.requests {
            let is_ours = request.starts_with(&self.url()) || request.starts_with("data:,");
            assert!(is_ours, "{request} of {:?}", told.requests);
            assert!(!request.contains(&self.token), "{request}");
        }
    }
}

/// The row of a job.
pub fn job_row(job: &str) -> String {
    format!("tr[data-job={}]", json!(job))
}

/// The button in a row that says this.
pub fn mark_button(chrome: &mut Chrome, row: &str, label: &str) -> String {
    let found = chrome.evaluate(&format!(
        "(() => {{ const buttons = [...document.querySelector({}).querySelectorAll('button')];
           const found = buttons.filter((b) => !b.hidden && b.textContent.startsWith({}));
           document.querySelectorAll('[data-test]').forEach((b) => b.removeAttribute('data-test'));
           found[0]?.setAttribute('data-test', 'this');
           return found.length; }})()",
        json!(row),
        json!(label)
    ));
    assert_eq!(found, 1, "buttons {label} in {row}");
    "[data-test=this]".to_owned()
}

/// Clicks the button of a row.
pub fn click_in(chrome: &mut Chrome, row: &str, label: &str) {
    let button = mark_button(chrome, row, label);
    chrome.click(&button);
}

/// `8,423,311` as a number: the first one of a text.
pub fn number(text: &str) -> u64 {
    let from = text.find(|c: char| c.is_ascii_digit()).unwrap_or_else(|| panic!("no number in {text:?}"));
    let digits = text[from..].chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',');
    digits.collect::<String>().parse().expect("a number")
}

/// The number that stands before a word, such as `refused`.
pub fn number_of(text: &str, word: &str) -> u64 {
    let (before, _) = text.split_once(&format!(" {word}")).unwrap_or_else(|| panic!("no {word} in {text:?}"));
    number(before.rsplit([' ', '\n', '\u{a0}']).next().unwrap_or_default())
}
