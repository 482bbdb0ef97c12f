//! STARTTLS and implicit TLS: what is believed, what is refused, and that nothing is said in clear text.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use infeed::config::TlsMode;
use infeed::infeed::{InfeedConfig, MtaState, MtaStatus, Pool, TlsConfig};

use super::certificates::{Authority, Identity};
use super::server::{HELLO, Server, TWO_GROUPED};
use super::work::{List, config, drain, message};

const CLEAR: &[&str] =
    &["S: 220 mx", "C: EHLO", "alone", "S: 250-mx|250-PIPELINING|250-STARTTLS|250 SIZE 10"];
const START_TLS: &[&str] = &["C: STARTTLS", "alone", "S: 220 2.0.0 go ahead"];
const EHLO: &[&str] = &["C: EHLO", "S: 250-mx|250-PIPELINING|250-8BITMIME|250 SIZE 100000"];
const GOOD: &[&str] = &["tls", "C: EHLO", "S: 250-mx|250-PIPELINING|250 8BITMIME", "good"];

struct Place {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), authority: Authority::named("root") };
        place.authority.write(&place.roots());
        place
    }

    fn roots(&self) -> std::path::PathBuf {
        self.dir.path().join("roots.pem")
    }

    fn identity(&self) -> Identity {
        self.authority.sign(&["127.0.0.1"])
    }

    fn config(&self, address: &str, mode: TlsMode) -> InfeedConfig {
        let tls = TlsConfig { mode, ca_file: Some(self.roots()), ..TlsConfig::default() };
        InfeedConfig { tls, ..config(address) }
    }
}

/// Runs until the MTA is paused; gives the pool and what was said.
pub async fn paused(config: InfeedConfig, list: &Arc<List>) -> (Pool, String) {
    let pool = Pool::start(config, list.clone());
    let said = until_paused(&pool).await;
    (pool, said)
}

pub async fn until_paused(pool: &Pool) -> String {
    let mut changed = pool.changed();
    let is_paused = |status: &MtaStatus| matches!(status.state, MtaState::Paused { .. });
    let waited = tokio::time::timeout(Duration::from_secs(8), changed.wait_for(is_paused)).await;
    let status = waited.unwrap_or_else(|_| panic!("never paused: {:?}", pool.status())).unwrap().clone();
    let MtaState::Paused { said } = status.state else { unreachable!("waited for it") };
    format!("{} {}", said.code, said.text)
}

/// One message, lent again until it is settled.
pub fn one() -> Arc<List> {
    Arc::new(List::new([message(&[1])]).again())
}

#[tokio::test]
async fn after_starttls_only_the_second_ehlo_is_believed() {
    let place = Place::new();
    // No PIPELINING, and no SIZE that the message would exceed.
    let lock_step = ["tls", "C: EHLO", "alone", "S: 250-mx|250 8BITMIME", "C: MAIL", "alone", "S: 250 ok"];
    let rest = ["C: RCPT", "alone", "S: 250 ok", "C: DATA", "alone", "S: 354 go", ".", "S: 250 ok"];
    let script: &[&[&str]] = &[CLEAR, START_TLS, &lock_step, &rest, &["C: QUIT", "S: 221 bye", "eof"]];
    let server = Server::tls(place.identity().acceptor(), &[script]).await;
    let list = drain(place.config(&server.address, TlsMode::StartTls), List::new([message(&[1])])).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted -"]);
}

#[tokio::test]
async fn without_starttls_nothing_goes_out_in_clear_text_and_the_mta_is_paused() {
    let place = Place::new();
    let quit = ["C: QUIT", "alone", "S: 221 bye", "eof"];
    let scripts: &[&[&[&str]]] = &[&[HELLO, &quit], &[CLEAR, START_TLS, GOOD]];
    let server = Server::tls(place.identity().acceptor(), scripts).await;
    let list = one();
    let (pool, said) = paused(place.config(&server.address, TlsMode::StartTls), &list).await;
    assert!(said.contains("no STARTTLS") && said.contains("mta.tls"), "{said}");
    assert!(said.contains(&server.address), "{said}");
    assert_eq!(list.attempts(), [""]);
    pool.resume();
    pool.finished().await;
    assert_eq!(list.attempts(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn what_is_injected_behind_the_220_is_never_taken_for_the_mtas_word() {
    let place = Place::new();
    let injected = ["C: STARTTLS", "S: 220 go ahead|250-mx|250 SIZE 1", "eof"];
    let scripts: &[&[&[&str]]] = &[&[CLEAR, &injected], &[CLEAR, START_TLS, GOOD]];
    let server = Server::tls(place.identity().acceptor(), scripts).await;
    let list =
        drain(place.config(&server.address, TlsMode::StartTls), List::new([message(&[1])]).again()).await;
    server.played().await;
    assert_eq!(list.attempts(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn a_5xx_to_starttls_pauses_and_a_454_waits() {
    let place = Place::new();
    let quit = ["C: QUIT", "S: 221 bye", "eof"];
    let no: &[&str] = &["C: STARTTLS", "S: 554 5.7.3 no TLS for you"];
    let later: &[&str] = &["C: STARTTLS", "S: 454 4.7.0 TLS not available due to local problem"];
    let scripts: &[&[&[&str]]] = &[&[CLEAR, later, &quit], &[CLEAR, no, &quit], &[CLEAR, START_TLS, GOOD]];
    let server = Server::tls(place.identity().acceptor(), scripts).await;
    let list = one();
    let (pool, said) = paused(place.config(&server.address, TlsMode::StartTls), &list).await;
    assert_eq!(said, "554 5.7.3 no TLS for you");
    assert_eq!((list.attempts(), pool.status().connections_total), (vec![String::new()], 0));
    pool.resume();
    pool.finished().await;
    assert_eq!(list.attempts(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn a_bad_certificate_pauses_with_what_is_wrong_and_the_remedy() {
    let place = Place::new();
    let bad: [(Identity, &[&str]); 6] = [
        (place.authority.sign_expired(&["127.0.0.1"]), &["has expired", "2021-02-03", "renew"]),
        (
            place.authority.sign(&["other.test"]),
            &["is not for 127.0.0.1 but for other.test: ", "mta.tls_server_name"],
        ),
        (Authority::named("another root").sign(&["127.0.0.1"]), &["no root", "roots.pem", "mta.tls_ca_file"]),
        (place.authority.sign_authority(&["127.0.0.1"]), &["authority", "CA:FALSE"]),
        (Identity::signed_by_itself(&["127.0.0.1"]), &["no root", "mta.tls_ca_file"]),
        (place.authority.sign_future(&["127.0.0.1"]), &["not yet valid", "4000-01-01"]),
    ];
    for (identity, words) in bad {
        for (mode, before) in [(TlsMode::Implicit, vec![]), (TlsMode::StartTls, [CLEAR, START_TLS].concat())]
        {
            let scripts: &[&[&[&str]]] = &[&[&before, &["tls refused"]]];
            let server = Server::tls(identity.acceptor(), scripts).await;
            let list = one();
            let (pool, said) = paused(place.config(&server.address, mode), &list).await;
            for word in words.iter().chain([&server.address.as_str()]) {
                assert!(said.contains(word), "{word:?} is not in {said:?}");
            }
            assert_eq!(list.attempts(), [""]);
            assert_eq!(pool.stop(Duration::from_secs(20)).await.aborted, 0);
            server.played().await;
        }
    }
}

#[tokio::test]
async fn implicit_tls_begins_with_the_first_octet_and_groups_as_in_clear_text() {
    let place = Place::new();
    let script: &[&[&str]] = &[&["tls", "S: 220 mx"], EHLO, TWO_GROUPED, &["C: QUIT", "S: 221 bye", "eof"]];
    let server = Server::tls(place.identity().acceptor(), &[script]).await;
    let list = List::new([message(&[1]), message(&[2])]);
    let list = drain(place.config(&server.address, TlsMode::Implicit), list).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted -", "accepted -"]);
}

#[tokio::test]
async fn content_larger_than_all_buffers_goes_through_tls() {
    let place = Place::new();
    let line = [b'x'; 98];
    let wire: Bytes = (0..40_000).flat_map(|_| line.iter().chain(b"\r\n")).copied().collect();
    let mut large = message(&[1]);
    large.content.size_octets = wire.len() as u64;
    large.content.wire = wire;
    let server =
        Server::tls(place.identity().acceptor(), &[&[&["tls", "S: 220 mx"], &EHLO[..1], &GOOD[2..]]]).await;
    let list = List::new([large, message(&[2])]);
    let list = drain(place.config(&server.address, TlsMode::Implicit), list).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted GOOD000001", "accepted GOOD000002"]);
}

#[tokio::test]
async fn a_name_in_the_settings_goes_before_the_host_of_the_address() {
    let place = Place::new();
    let identity = place.authority.sign(&["mx.example.test"]);
    let server = Server::tls(identity.acceptor(), &[&[CLEAR, START_TLS, GOOD]]).await;
    let mut config = place.config(&server.address, TlsMode::StartTls);
    config.tls.server_name = Some("mx.example.test".into());
    let list = drain(config, List::new([message(&[1])])).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn without_verification_any_certificate_is_taken() {
    let place = Place::new();
    let identity = Authority::named("root").sign_expired(&["other.test"]);
    let server = Server::tls(identity.acceptor(), &[&[CLEAR, START_TLS, GOOD]]).await;
    let mut config = place.config(&server.address, TlsMode::StartTls);
    config.tls.verify = false;
    let list = drain(config, List::new([message(&[1])])).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn roots_that_were_put_right_count_after_resume() {
    let place = Place::new();
    // Under the same name: told from the first one by its signatures alone.
    let right = Authority::named("root");
    let scripts: &[&[&[&str]]] = &[&[CLEAR, START_TLS, &["tls refused"]], &[CLEAR, START_TLS, GOOD]];
    let server = Server::tls(right.sign(&["127.0.0.1"]).acceptor(), scripts).await;
    let list = one();
    let (pool, said) = paused(place.config(&server.address, TlsMode::StartTls), &list).await;
    assert!(said.contains("no root"), "{said}");
    right.write(&place.roots());
    pool.resume();
    pool.finished().await;
    server.played().await;
    assert_eq!(list.attempts(), ["accepted GOOD000001"]);
}

/// The last error of a pool whose MTA is down.
async fn down(config: InfeedConfig) -> String {
    let pool = Pool::start(config, one());
    let mut changed = pool.changed();
    let down =
        changed.wait_for(|status| matches!(status.state, MtaState::Down { .. })).await.unwrap().clone();
    assert_eq!(down.connections_total, 0);
    down.last_error.unwrap()
}

#[tokio::test]
async fn roots_that_cant_be_read_are_told_with_their_file_and_trouble_no_mta() {
    let place = Place::new();
    let server = Server::tls(place.identity().acceptor(), &[]).await;
    for (name, octets) in [("absent.pem", None), ("empty.pem", Some("")), ("der.pem", Some("\u{30}\u{2}"))] {
        let path = place.dir.path().join(name);
        if let Some(octets) = octets {
            std::fs::write(&path, octets).unwrap();
        }
        let mut config = place.config(&server.address, TlsMode::Implicit);
        config.tls.ca_file = Some(path.clone());
        let error = down(config).await;
        assert!(error.contains(&*path.to_string_lossy()) && error.contains("mta.tls_ca_file"), "{error}");
    }
    server.played().await;
}

/// A ServerHello of TLS 1.0 or 1.1, as an MTA that knows nothing newer says it.
fn server_hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // no session, ECDHE-RSA-AES128-SHA, no compression
    body.extend([0, 0xc0, 0x13, 0]);
    let mut message = vec![2, 0, 0, u8::try_from(body.len()).unwrap()];
    message.extend(body);
    let mut record = vec![22, 3, minor, 0, u8::try_from(message.len()).unwrap()];
    record.extend(message);
    record
}

#[tokio::test]
async fn tls_1_0_and_1_1_are_refused_before_a_word_of_mail() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let place = Place::new();
    for minor in [1, 2] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = vec![0; 5];
            stream.read_exact(&mut hello).await.unwrap();
            let length = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
            hello.resize(length, 0);
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(&server_hello(minor)).await.unwrap();
            let mut rest = Vec::new();
            // it may be reset once the other end has said its alert
            drop(stream.read_to_end(&mut rest).await);
            rest
        });
        let error = down(place.config(&address, TlsMode::Implicit)).await;
        assert!(error.contains(&address), "{error}");
        // at most a record of an alert
        let rest = served.await.unwrap();
        assert!(rest.is_empty() || rest[0] == 21, "{rest:?}");
    }
}

#[tokio::test]
async fn implicit_tls_to_a_port_in_clear_text_says_which_setting_to_change() {
    let place = Place::new();
    let server = Server::tls(place.identity().acceptor(), &[&[&["S: 220 mx ESMTP", "hang"]]]).await;
    let error = down(place.config(&server.address, TlsMode::Implicit)).await;
    assert!(error.contains("starttls") && error.contains(&server.address), "{error}");
}

#[tokio::test]
async fn tls_goes_over_a_unix_domain_socket_too_when_a_name_is_given() {
    let place = Place::new();
    let path: &Path = &place.dir.path().join("mta");
    let identity = place.authority.sign(&["mx.example.test"]);
    let server = Server::unix(path, Some(identity.acceptor()), &[&[CLEAR, START_TLS, GOOD]]);
    let mut config = place.config(&server.address, TlsMode::StartTls);
    config.tls.server_name = Some("mx.example.test".into());
    let list = drain(config, List::new([message(&[1])])).await;
    server.played().await;
    assert_eq!(list.words(), ["accepted GOOD000001"]);
}

#[tokio::test]
async fn a_connection_lost_under_tls_leaves_doubt_after_the_dot_and_none_before() {
    for (end, word) in [
        (&["S: 250 ok|250 ok|354 go", ".", "close"] as &[&str], "in doubt"),
        (&["S: 250 ok|250 ok", "close"], "not tried"),
    ] {
        let place = Place::new();
        let script: &[&[&str]] = &[&["tls", "S: 220 mx"], EHLO, &["C: MAIL", "C: RCPT", "C: DATA"], end];
        let server = Server::tls(place.identity().acceptor(), &[script]).await;
        let list = drain(place.config(&server.address, TlsMode::Implicit), List::new([message(&[1])])).await;
        server.played().await;
        assert_eq!(list.words(), [word]);
    }
}

#[tokio::test]
async fn an_idle_session_under_tls_hears_its_farewell_and_nothing_is_lost() {
    let place = Place::new();
    let open: &[&str] = &["tls", "S: 220 mx"];
    let envelope: &[&str] = &["C: MAIL", "C: RCPT", "C: DATA", "S: 250 ok|250 ok|354 go"];
    let idle: &[&str] = &[".", "S: 250 ok", "S: 421 4.4.2 timeout", "close"];
    let scripts: &[&[&[&str]]] = &[&[open, EHLO, envelope, idle], &[open, EHLO, &["good"]]];
    let server = Server::tls(place.identity().acceptor(), scripts).await;
    let list = Arc::new(List::new([message(&[1])]).endless());
    let pool = Pool::start(place.config(&server.address, TlsMode::Implicit), list.clone());
    let mut changed = pool.changed();
    changed.wait_for(|status| status.connections_total == 1).await.unwrap();
    changed.wait_for(|status| status.established == 0).await.unwrap();
    list.add(message(&[2]));
    while list.words().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(list.words(), ["accepted -", "accepted GOOD000001"]);
    assert_eq!(pool.stop(Duration::from_secs(20)).await.aborted, 0);
    server.played().await;
}
