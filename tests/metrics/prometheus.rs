//! A private Prometheus: own configuration, data and port; ended by its process id.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::http::{DEADLINE, get};
use crate::common::mta::skip;
use crate::common::port::free_port;
use crate::common::wait::wait_until;

fn recipe(name: &str, default_root: (&str, &str)) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder");
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics").join(name));
    let (variable, folder) = default_root;
    if std::env::var_os(variable).is_none() {
        command.env(variable, target.join(folder));
    }
    command
}

fn prometheus() -> Command {
    recipe("prometheus", ("INFEED_PROMETHEUS_ROOT", "prometheus"))
}

/// Grafana's types, and the compiler that holds dashboards against them.
pub fn grafana_schema() -> Command {
    recipe("grafana-schema", ("INFEED_GRAFANA_SCHEMA", "grafana-schema"))
}

/// Whether the recipe has what it needs; `false`: skip, and it is said why.
pub fn is_there(mut recipe: Command) -> bool {
    let check = recipe.arg("check").output().expect("the recipe runs");
    if !check.status.success() {
        skip(String::from_utf8_lossy(&check.stderr).trim());
    }
    check.status.success()
}

/// Whether the tests against Prometheus can run here.
pub fn prometheus_is_there() -> bool {
    is_there(prometheus())
}

fn program(name: &str) -> PathBuf {
    let said = prometheus().args(["program", name]).output().expect("the recipe runs");
    String::from_utf8(said.stdout).expect("a path").trim().into()
}

/// `promtool ARGUMENTS…` with this on its standard input.
///
/// # Panics
/// When it isn't content.
pub fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new(program("promtool"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("promtool reads");
    drop(stdin);
    let said = child.wait_with_output().expect("promtool ends");
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "promtool {arguments:?}: {out}{err}");
    // `check metrics` ends well in spite of what it minds
    assert!(!arguments.ends_with(&["metrics"]) || (out.is_empty() && err.is_empty()), "{out}{err}");
}

/// It runs until dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes these ports of 127.0.0.1 every second; it answers when this returns.
    pub fn start(ports: &[u16]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for Prometheus");
        let targets: Vec<String> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
        let config = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: infeed\n    static_configs: \
             [{{ targets: [{}] }}]\n",
            targets.join(", ")
        );
        let (file, port) = (folder.path().join("prometheus.yml"), free_port());
        std::fs::write(&file, config).expect("its configuration");
        let log = std::fs::File::create(folder.path().join("log")).expect("its log");
        let child = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus starts");
        let mut started = Self { child, port, _folder: folder };
        wait_until("Prometheus that answers", DEADLINE, || {
            assert!(started.child.try_wait().expect("our child").is_none(), "Prometheus has ended");
            get(port, "/-/ready").is_some_and(|(code, _)| code == 200)
        });
        started
    }

    /// The values that an expression has now.
    ///
    /// # Panics
    /// When it is no expression.
    pub fn values(&self, expression: &str) -> Vec<f64> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let Some((code, body)) = get(self.port, &path) else { return Vec::new() };
        assert_eq!(code, 200, "{expression}: {body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let data = &answer["data"];
        let samples = match data["resultType"].as_str() {
            Some("vector") => data["result"].as_array().cloned().unwrap_or_default(),
            _ => panic!("{expression}: {body}"),
        };
        samples.iter().filter_map(|sample| sample["value"][1].as_str()?.parse().ok()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("Prometheus: {error}");
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
