//! A headless Chromium of one's own, driven by its DevTools protocol over a pair of pipes: JSON, each
//! message ended by a NUL. It ends, by its process id, when dropped.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

use crate::common::mta::skip;

/// The longest that anything here may take, on a machine that is busy.
pub const DEADLINE: Duration = Duration::from_secs(120);

fn recipe(name: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page").join(name));
    if std::env::var_os("INFEED_AXE").is_none() {
        command.env("INFEED_AXE", target_folder().join("axe"));
    }
    command
}

/// The target folder of this build.
pub fn target_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder").to_owned()
}

/// Whether the tests in a browser can run here; `false`: skip, and it is said why.
///
/// # Panics
/// When they can't and `INFEED_TEST_REQUIRE_MTA` is set, as `tests/run` sets it with `CI=true`.
pub fn skip_or_require(tools: &[&str]) -> bool {
    for tool in tools {
        let check = recipe(tool).arg("check").output().expect("the recipe runs");
        if !check.status.success() {
            let missing = String::from_utf8_lossy(&check.stderr).trim().to_owned();
            assert!(std::env::var_os("INFEED_TEST_REQUIRE_MTA").is_none(), "{tool} is required: {missing}");
            skip(&missing);
            return false;
        }
    }
    true
}

/// What the recipe of this name calls its program.
pub fn program(name: &str) -> PathBuf {
    let said = recipe(name).arg("program").output().expect("the recipe runs");
    String::from_utf8(said.stdout).expect("a path").trim().into()
}

/// A browser with one page open.
#[derive(Debug)]
pub struct Chrome {
    child: Child,
    input: ChildStdin,
    output: Receiver<Value>,
    /// What the page told that nobody has looked at.
    events: VecDeque<Value>,
    next_id: u64,
    session: Option<String>,
    _profile: tempfile::TempDir,
}

impl Chrome {
    /// Starts it; `about:blank` is open, 1280 pixels wide, and everything that it tells is kept.
    ///
    /// # Panics
    /// When it doesn't start; ask [`skip_or_require`] before.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder for the browser");
        let log = std::fs::File::create(profile.path().join("log")).expect("its log");
        // it speaks over 3 and 4; what stands there is what we hold of 0 and 1
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh"])
            .arg(program("chromium"))
            .args(["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args([
                "--force-device-scale-factor=1",
                "--hide-scrollbars",
                "--lang=en",
                "--window-size=1280,900",
            ])
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the browser starts");
        let input = child.stdin.take().expect("a pipe");
        let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
        let (messages, output) = channel();
        std::thread::spawn(move || {
            let mut octets = Vec::new();
            while reader.read_until(0, &mut octets).is_ok_and(|n| n > 0) {
                octets.pop();
                let message = serde_json::from_slice(&octets).expect("JSON from the browser");
                if messages.send(message).is_err() {
                    return;
                }
                octets.clear();
            }
        });
        let events = VecDeque::new();
        let mut chrome = Self { child, input, output, events, next_id: 0, session: None, _profile: profile };
        let target = chrome.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = chrome.call("Target.attachToTarget", attach);
        chrome.session = Some(attached["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            chrome.call(&format!("{domain}.enable"), json!({}));
        }
        chrome
    }

    /// One command of the protocol, and its answer.
    ///
    /// # Panics
    /// When the browser minds, ends, or doesn't answer.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.ask(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The same; `Err`: what the browser minds.
    fn ask(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut octets = serde_json::to_vec(&message).expect("JSON");
        octets.push(0);
        self.input.write_all(&octets).expect("the browser listens");
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.output.recv_timeout(left).unwrap_or_else(|e| panic!("{method}: {e}"));
            if answer["id"] != id {
                self.events.push_back(answer);
                continue;
            }
            return match answer.get("error") {
                Some(error) => Err(error.clone()),
                None => Ok(answer["result"].clone()),
            };
        }
    }

    /// The value of an expression in the page; of a promise, what it comes to.
    ///
    /// # Panics
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", evaluation(expression));
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// At a deadline, with what the page shows then.
    pub fn wait(&mut self, what: &str, expression: &str) {
        let started = Instant::now();
        let expression = format!("Boolean({expression})");
        // while a page is loaded there may be nobody to ask
        let holds = |answer: Value| answer["result"]["value"] == true;
        while !self.ask("Runtime.evaluate", evaluation(&expression)).is_ok_and(holds) {
            if started.elapsed() >= DEADLINE {
                let text = self.evaluate("document.body.innerText");
                panic!(
                    "after {DEADLINE:?} still no {what}: {expression}\n{}",
                    text.as_str().unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Text of the one element that a selector finds.
    pub fn text(&mut self, selector: &str) -> String {
        let found = self.evaluate(&format!("document.querySelector({}).innerText", json!(selector)));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Opens a page; it is loaded when this returns.
    pub fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.wait("page", "document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    /// Clicks with the mouse in the middle of the one element that a selector finds.
    ///
    /// # Panics
    /// When something else lies there.
    pub fn click(&mut self, selector: &str) {
        let place = self.evaluate(&format!(
            "(() => {{ const node = document.querySelector({0}); node.scrollIntoView({{ block: 'center' }});
               const box = node.getBoundingClientRect();
               const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
               return {{ x, y, hit: node.contains(document.elementFromPoint(x, y)) }}; }})()",
            json!(selector)
        ));
        assert_eq!(place["hit"], true, "{selector} can't be clicked");
        for (kind, buttons) in [("mousePressed", 1), ("mouseReleased", 0)] {
            let event = json!({
                "type": kind, "x": place["x"], "y": place["y"], "button": "left", "buttons": buttons,
                "clickCount": 1
            });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses and releases a key: `Tab`, `Enter`, `Escape`, ` `.
    pub fn press(&mut self, key: &str) {
        let (code, number, text) = match key {
            "Tab" => ("Tab", 9, None),
            "Enter" => ("Enter", 13, Some("\r")),
            "Escape" => ("Escape", 27, None),
            " " => ("Space", 32, Some(" ")),
            key => panic!("no key {key}"),
        };
        let mut down = json!({
            "type": "keyDown", "key": key, "code": code, "windowsVirtualKeyCode": number
        });
        if let Some(text) = text {
            down["text"] = text.into();
        }
        self.call("Input.dispatchKeyEvent", down);
        let up = json!({ "type": "keyUp", "key": key, "code": code, "windowsVirtualKeyCode": number });
        self.call("Input.dispatchKeyEvent", up);
    }

    /// Types a text into what has the focus.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Which colours the reader likes: `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// How large the window is, in CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        self.wait("that width", &format!("innerWidth === {width}"));
    }

    /// The whole page as it looks now, as `page-screenshots/NAME.png` in the target folder.
    pub fn screenshot(&mut self, name: &str) -> PathBuf {
        let size = self.call("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let params = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let shot = self.call("Page.captureScreenshot", params);
        let png = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().expect("a picture"));
        let folder = target_folder().join("page-screenshots");
        std::fs::create_dir_all(&folder).expect("a folder for pictures");
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, png.expect("Base64")).expect("a picture");
        path
    }

    /// What the page has told since it was asked last: requests, and what it complained of.
    pub fn told(&mut self) -> Told {
        // whatever came before this is there after it
        self.call("Runtime.evaluate", json!({ "expression": "0" }));
        let mut told = Told::default();
        for event in self.events.drain(..) {
            let params = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Network.requestWillBeSent" => {
                    told.requests.push(params["request"]["url"].as_str().unwrap_or_default().to_owned());
                }
                "Runtime.exceptionThrown" => told.complaints.push(params["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" if params["type"] != "log" => {
                    told.complaints.push(params["args"].to_string());
                }
                "Log.entryAdded" if params["entry"]["level"] != "verbose" => {
                    told.complaints.push(params["entry"].to_string());
                }
                _ => {}
            }
        }
        told
    }
}

fn evaluation(expression: &str) -> Value {
    json!({ "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true })
}

/// See [`Chrome::told`].
#[derive(Debug, Default)]
pub struct Told {
    pub requests: Vec<String>,
    /// Errors, warnings, and what the content security policy kept out.
    pub complaints: Vec<String>,
}

impl Drop for Chrome {
    fn drop(&mut self) {
        // asked to, it takes its helpers with it
        let asked = self.input.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let until = Instant::now() + DEADLINE;
        while asked.is_ok() && Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        // both fail only when it has ended
        if self.child.kill().is_ok() && self.child.wait().is_err() {
            eprintln!("the browser ({}) was not ours to wait for", self.child.id());
        }
    }
}
