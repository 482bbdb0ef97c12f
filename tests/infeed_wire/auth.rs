//! AUTH: which mechanism, what a refusal means, and that the password is told to the MTA alone.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use infeed::infeed::{AuthConfig, InfeedConfig, MtaState, PasswordSource, Pool};

use super::server::Server;
use super::tls::{one, paused, until_paused};
use super::work::{List, config, drain, message};

const BOTH: &[&str] = &["S: 220 mx", "C: EHLO", "S: 250-mx|250-PIPELINING|250 AUTH LOGIN CRAM-MD5 PLAIN"];
const LOGIN: &[&str] = &["S: 220 mx", "C: EHLO", "S: 250-mx|250-PIPELINING|250 AUTH=login"];
const QUIT: &[&str] = &["C: QUIT", "S: 221 bye", "eof"];
/// `\0news\0s3cr3t-Pass`, `news` and `s3cr3t-Pass`.
const PLAIN_64: &str = "AG5ld3MAczNjcjN0LVBhc3M=";
const USER_64: &str = "bmV3cw==";
const PASSWORD: &str = "s3cr3t-Pass";
const PASSWORD_64: &str = "czNjcjN0LVBhc3M=";

struct Secret {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Secret {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secret = Self { path: dir.path().join("password"), _dir: dir };
        secret.set(&format!("{PASSWORD}\n"));
        secret
    }

    fn set(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn config(&self, address: &str) -> InfeedConfig {
        let auth = AuthConfig { user: "news".into(), password: PasswordSource::File(self.path.clone()) };
        InfeedConfig { auth: Some(auth), ..config(address) }
    }
}

#[tokio::test]
async fn plain_goes_first_and_is_one_command() {
    let command: &'static str = format!("C: AUTH PLAIN {PLAIN_64}").leak();
    let auth = [command, "alone", "S: 235 2.7.0 Authentication successful", "good"];
    let server = Server::start(&[&[BOTH, &auth]]).await;
    let list = drain(Secret::new().config(&server.address), List::new([message(&[1])])).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn login_is_spoken_where_plain_is_not_offered() {
    let user: &'static str = format!("C: {USER_64}").leak();
    let password: &'static str = format!("C: {PASSWORD_64}").leak();
    let auth = [
        "C: AUTH LOGIN",
        "alone",
        "S: 334 VXNlcm5hbWU6",
        user,
        "alone",
        "S: 334 UGFzc3dvcmQ6",
        password,
        "alone",
        "S: 235 ok",
        "good",
    ];
    let server = Server::start(&[&[LOGIN, &auth]]).await;
    let list = drain(Secret::new().config(&server.address), List::new([message(&[1])])).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn a_response_too_long_for_one_command_waits_for_its_334() {
    let secret = Secret::new();
    secret.set(&"p".repeat(500));
    let auth = ["C: AUTH PLAIN", "alone", "S: 334 ", "C: AG5ld3MAcHBw", "alone", "S: 235 ok", "good"];
    let server = Server::start(&[&[BOTH, &auth]]).await;
    let list = drain(secret.config(&server.address), List::new([message(&[1])])).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn no_mechanism_that_matches_is_no_success() {
    for (offer, told) in [
        ("S: 250-mx|250 AUTH CRAM-MD5 XOAUTH2", "AUTH CRAM-MD5 XOAUTH2"),
        ("S: 250-mx|250 PIPELINING", "no AUTH"),
    ] {
        let server = Server::start(&[&[&["S: 220 mx", "C: EHLO", offer], QUIT]]).await;
        let list = one();
        let (pool, said) = paused(Secret::new().config(&server.address), &list).await;
        assert!(said.contains(told) && said.contains("mta.auth_user"), "{said}");
        assert_eq!(list.attempts(), [""]);
        assert_eq!(pool.stop(Duration::from_secs(20)).await.aborted, 0);
        server.played().await;
    }
}

#[tokio::test]
async fn a_454_waits_a_535_pauses_and_the_password_is_read_anew() {
    let old: &'static str = format!("C: AUTH PLAIN {PLAIN_64}").leak();
    let scripts: &[&[&[&str]]] = &[
        &[BOTH, &[old, "S: 454 4.7.0 Temporary authentication failure"], QUIT],
        &[BOTH, &[old, "S: 535 5.7.8 Error: authentication failed"], QUIT],
        // `\0news\0new`
        &[BOTH, &["C: AUTH PLAIN AG5ld3MAbmV3", "S: 235 ok", "good"]],
    ];
    let server = Server::start(scripts).await;
    let (secret, list) = (Secret::new(), one());
    let (pool, said) = paused(secret.config(&server.address), &list).await;
    assert_eq!(said, "535 5.7.8 Error: authentication failed");
    assert_eq!(list.attempts(), [""]);
    secret.set("new\n");
    pool.resume();
    pool.finished().await;
    server.played().await;
    assert_eq!(list.attempts(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn a_password_that_cant_be_read_is_told_with_its_place_and_troubles_no_mta() {
    let secret = Secret::new();
    let server = Server::start(&[]).await;
    for text in [None, Some("one\ntwo\n"), Some("")] {
        match text {
            Some(text) => secret.set(text),
            None => std::fs::remove_file(&secret.path).unwrap(),
        }
        let pool = Pool::start(secret.config(&server.address), one());
        let mut changed = pool.changed();
        let down = changed.wait_for(|s| matches!(s.state, MtaState::Down { .. })).await.unwrap().clone();
        let error = down.last_error.unwrap();
        assert!(error.contains(&*secret.path.to_string_lossy()), "{error}");
        assert!(error.contains("mta.auth_password_file") && !error.contains("two"), "{error}");
    }
    server.played().await;
}

/// What is logged, down to the last trace.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_password_is_in_no_log_no_status_and_no_error_even_if_the_mta_repeats_it() {
    let log = Log::default();
    let writer = log.clone();
    let _collects = tracing::subscriber::set_default(
        tracing_subscriber::fmt()
            .with_max_level(tracing::level_filters::LevelFilter::TRACE)
            .with_writer(move || writer.clone())
            .finish(),
    );
    let echo = |text: String| -> &'static str { text.leak() };
    for reply in [
        echo(format!("S: 535 5.7.8 what is AUTH PLAIN {PLAIN_64}?")),
        echo(format!("S: 502 5.5.2 {PASSWORD_64} {PASSWORD}")),
        echo(format!("S: 500-cut: AUTH PLAIN {}|500 and {}", &PLAIN_64[..9], &PLAIN_64[9..])),
        echo(format!("S: {PLAIN_64}")),
        echo(format!("S: 334 {PLAIN_64}")),
        echo(format!("S: 421 4.7.0 {PLAIN_64}")),
        echo(format!("S: 454 4.7.0 never heard of {PASSWORD}|250 {PASSWORD}")),
    ] {
        let server = Server::start(&[&[BOTH, &["C: AUTH PLAIN", reply, "close"]], &[BOTH, &["hang"]]]).await;
        let secret = Secret::new();
        let config = secret.config(&server.address);
        let shown = format!("{config:?}");
        let pool = Pool::start(config, one());
        let mut changed = pool.changed();
        let told = changed.wait_for(|s| s.last_error.is_some()).await.unwrap().clone();
        let all = format!("{shown} {told:?} {:?}", pool.status());
        for part in [PASSWORD, PASSWORD_64, PLAIN_64, &PLAIN_64[..9], &PLAIN_64[9..]] {
            assert!(!all.contains(part), "{part:?} is in {all:?}");
        }
        drop(pool);
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("no session"), "the log is collected");
    for part in [PASSWORD, PASSWORD_64, PLAIN_64, &PLAIN_64[..9], &PLAIN_64[9..]] {
        assert!(!log.contains(part), "{part:?} is in {log}");
    }
}

#[tokio::test]
async fn after_a_535_and_resume_one_connects_and_the_others_wait_for_its_success() {
    let hello: &[&str] = &[BOTH, &["C: AUTH", "S: 235 ok"]].concat();
    let no: &[&str] = &["C: AUTH", "S: 535 5.7.8 no"];
    let envelope: &[&str] = &["C: MAIL", "C: RCPT", "C: DATA", "S: 250 ok|250 ok|354 go"];
    // It refuses again, then lets one in.
    let scripts: &[&[&[&str]]] = &[&[BOTH, no, QUIT], &[BOTH, no, QUIT], &[hello, envelope, &[".", "hang"]]];
    let server = Server::start(scripts).await;
    let list = Arc::new(List::new((1..9).map(|token| message(&[token]))).again());
    let secret = Secret::new();
    let config = InfeedConfig { connections: 4, ..secret.config(&server.address) };
    let (pool, _) = paused(config, &list).await;
    pool.resume();
    until_paused(&pool).await;
    pool.resume();
    while list.handed_out() == 0 {
        tokio::task::yield_now().await;
    }
    let status = pool.status();
    assert_eq!((status.established, status.connecting, status.connections_total), (1, 0, 1), "{status:?}");
    drop(pool);
}
