//! Scenarios: the examples load, and a timeline does what it says.

use std::path::Path;
use std::time::Duration;

use infeed::sink::Scenario;
use tokio::net::TcpStream;

use crate::client::{Client, Rig};
use crate::port::free_port;

fn scenario(text: &str) -> Rig {
    let scenario = Scenario::parse(text, Path::new("test.toml")).unwrap();
    Rig::configured(|config| {
        config.scenario = Some(scenario);
        // not one that the kernel gives to another test's sink while this one refuses connections
        config.listen.set_port(free_port());
    })
}

#[test]
fn every_example_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scenarios");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let scenario = Scenario::load(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_ne!(scenario, Scenario::default(), "{} sets nothing", path.display());
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "bounce.toml",
            "flaky.toml",
            "group-commit.toml",
            "half-speed.toml",
            "in-flow-delay.toml",
            "knee-24.toml",
            "knee-4.toml",
            "knee-8.toml",
            "knee-none.toml",
            "knee.toml",
            "limit.toml",
            "moving-knee.toml",
            "noise.toml",
            "overload.toml",
            "plateau.toml",
            "random-451.toml",
            "refused.toml",
            "restart.toml",
            "sizes.toml",
            "slow-banner.toml",
            "slow-delivery.toml",
            "slow-queue.toml",
            "storage-full.toml",
            "storage.toml"
        ]
    );
}

#[tokio::test]
async fn a_step_after_messages_changes_the_very_next_command() {
    let rig = scenario("[[step]]\nafter_messages = 2\nset = { storage_full = true }\n");
    let mut c = Client::ehlo(rig.addr()).await;
    for _ in 0..2 {
        assert!(c.deliver("a@example.org").await.starts_with("250 "));
    }
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 452);
}

#[tokio::test]
async fn a_flag_wins_over_the_base_and_a_step_over_a_flag() {
    let text =
        "[set]\nfail = [\"rcpt=450\"]\n[[step]]\nafter_messages = 1\nset = { fail = [\"rcpt=452\"] }\n";
    let scenario = Scenario::parse(text, Path::new("test.toml")).unwrap();
    let rig = Rig::configured(|config| {
        config.scenario = Some(scenario);
        config.settings.fail = Some(vec!["rcpt=451%0".parse().unwrap()]);
    });
    let mut c = Client::ehlo(rig.addr()).await;
    assert!(c.deliver("a@example.org").await.starts_with("250 "));
    assert_eq!(c.code("MAIL FROM:<a@example.org>").await, 250);
    assert_eq!(c.code("RCPT TO:<a@example.org>").await, 452);
}

#[tokio::test]
async fn a_refusing_sink_keeps_its_sessions_and_comes_back_on_the_same_port() {
    let rig = scenario("[[step]]\nafter_messages = 1\nfor_s = 0.4\nset = { refuse_connects = true }\n");
    let mut c = Client::ehlo(rig.addr()).await;
    assert!(c.deliver("a@example.org").await.starts_with("250 "));
    // The listener is closed by another task, and opened again 0.4 s later: both within bounded polls.
    let mut refused = false;
    for _ in 0..200 {
        if TcpStream::connect(rig.addr()).await.is_err() {
            refused = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(refused);
    assert_eq!(c.code("NOOP").await, 250);
    for _ in 0..1_000 {
        if TcpStream::connect(rig.addr()).await.is_ok() {
            Client::ehlo(rig.addr()).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the listener did not come back");
}

#[tokio::test]
async fn a_sink_that_refuses_from_the_start_opens_when_told() {
    let rig = scenario(
        "[[step]]\nat_s = 0\nfor_s = 0.2\nset = { refuse_connects = true }\n\
         [[step]]\nat_s = 0.1\nfor_s = 0.05\nset = { storage_full = true }\n",
    );
    for _ in 0..1_000 {
        if TcpStream::connect(rig.addr()).await.is_ok() {
            let mut c = Client::ehlo(rig.addr()).await;
            assert!(c.deliver("a@example.org").await.starts_with("250 "));
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the listener did not open");
}
