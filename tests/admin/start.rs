//! The token, and what ends a start: an open address, a token in other hands, TLS that isn't whole.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::client::{Answer, Api, DEADLINE, token};
use crate::common::binary::Run;
use crate::common::certificates::{Authority, Identity};
use crate::common::daemon::Daemon;
use crate::common::desk::Desk;
use crate::common::port::free_port;

/// A start that ends with this code, and says these words.
fn refused(desk: &Desk, flags: &[&str], code: i32, words: &[&str]) -> Run {
    let run = desk.infeed(&["serve", "--mta", "127.0.0.1:1"]).args(flags).run().expect_code(code);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in {}", run.stderr);
    }
    assert!(!desk.spool().join("control.sock").exists(), "nothing has begun");
    run
}

#[test]
fn whoever_has_not_the_token_gets_401_however_it_is_sent() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    let token = api.token.clone();
    assert!(token.len() >= infeed::admin::TOKEN_CHARS_MIN);
    let basic = BASE64.encode(format!("admin:{token}"));
    let mut near = token.clone().into_bytes();
    near[0] ^= 1;
    let near = String::from_utf8(near).expect("ASCII");
    let tries = [
        String::new(),
        format!("Authorization: Bearer {near}\r\n"),
        format!("Authorization: Bearer {}\r\n", &token[1..]),
        format!("Authorization: Bearer {token}x\r\n"),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Basic {basic}\r\n"),
        format!("Authorization: Token {token}\r\n"),
        format!("Authorization: Bearer {near}\r\nAuthorization: Bearer {token}\r\n"),
        format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {near}\r\n"),
        format!("Cookie: token={token}\r\n"),
        format!("X-Api-Key: {token}\r\n"),
    ];
    for headers in &tries {
        for (method, path) in
            [("GET", "/api/v1/status"), ("POST", "/api/v1/shutdown"), ("GET", "/api/v1/events")]
        {
            let answer = api.send(method, path, headers, None);
            assert_eq!(answer.status, 401, "{headers}: {answer:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"infeed\""));
            assert!(!answer.body.contains(&token));
        }
    }
    for path in
        ["/api/v1/status?token=", "/api/v1/status?access_token=", "/api/v1/status?authorization=Bearer%20"]
    {
        assert_eq!(api.send("GET", &format!("{path}{token}"), "", None).status, 401, "{path}");
    }
    let user_info = format!("http://{token}@localhost:{}/api/v1/status", api.port);
    assert!(matches!(api.send("GET", &user_info, "", None).status, 400 | 401));
    // the scheme's name knows no case (RFC 9110)
    let bearer = format!("authorization: bEARER {token}\r\n");
    assert_eq!(api.send("GET", "/api/v1/status", &bearer, None).status, 200);
    let log = api.daemon.stop().stderr;
    assert!(log.contains("without the right token") && log.contains("127.0.0.1:"), "{log}");
    let lines = log.lines().filter(|line| line.contains("without the right token")).count();
    assert!(lines < tries.len(), "{lines} lines for {} calls", tries.len() * 3);
    assert!(log.contains("admin.token") && log.contains("http://127.0.0.1:"), "{log}");
    assert!(!log.contains(&token) && !log.contains(&near), "a token is in no log");
}

#[test]
fn a_token_is_made_once_kept_over_a_restart_and_may_be_ones_own() {
    let desk = Desk::new();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    let path = desk.spool().join("admin.token");
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o600);
    let first = api.token.clone();
    api.daemon.stop();
    let api = Api::start(&desk, &["--mta", "127.0.0.1:1"]);
    assert_eq!(api.token, first);
    assert_eq!(api.get("/api/v1/status").status, 200);
    api.daemon.stop();
    // nothing of the spool is in its way
    desk.check();
    let own = desk.file("own.token", "0123456789abcdef".repeat(4) + "\n");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).expect("ours");
    let set = format!("admin.token_file={}", own.display());
    let mut api = Api::start(&desk, &["--mta", "127.0.0.1:1", "--set", &set]);
    assert_eq!(api.get("/api/v1/status").status, 401);
    api.token = "0123456789abcdef".repeat(4);
    assert_eq!(api.get("/api/v1/status").status, 200);
    api.daemon.stop();
}

#[test]
fn a_token_that_may_be_in_other_hands_ends_the_start() {
    let desk = Desk::new();
    let listen = format!("127.0.0.1:{}", free_port());
    desk.infeed(&["status"]).run().expect_code(0);
    let good = "0123456789abcdef".repeat(4);
    let file = desk.file("a.token", &good);
    let (place, set) = (file.display().to_string(), format!("admin.token_file={}", file.display()));
    let start = |code: i32, words: &[&str]| refused(&desk, &["--admin", &listen, "--set", &set], code, words);
    for (mode, said) in [(0o644, "mode 644"), (0o640, "mode 640"), (0o602, "mode 602")] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
        let run = start(77, &[&place, said, "remove it"]);
        assert!(!run.stderr.contains(&good), "a token is in no message");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
    for text in ["", "\n", "short", &good[1..]] {
        fs::write(&file, text).expect("written");
        start(77, &[&place, "too few", "remove it"]);
    }
    fs::remove_file(&file).expect("removed");
    let target = desk.path("target");
    for there in [false, true] {
        if there {
            fs::write(&target, &good).expect("written");
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("ours");
        }
        if !file.is_symlink() {
            symlink(&target, &file).expect("linked");
        }
        start(77, &[&place, "symbolic link"]);
        assert_eq!(target.exists(), there, "a link is not written through");
    }
    if rustix::process::geteuid().is_root() {
        fs::remove_file(&file).expect("removed");
        fs::write(&file, &good).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
        std::os::unix::fs::chown(&file, Some(65_534), None).expect("root may");
        start(77, &[&place, "user 65534"]);
    }
    let nowhere = format!("admin.token_file={}", desk.path("no/such/folder").display());
    refused(&desk, &["--admin", &listen, "--set", &nowhere], 73, &["no/such/folder", "admin.token_file"]);
}

#[test]
fn nothing_but_loopback_is_listened_on_without_tls_or_insistence() {
    let desk = Desk::new();
    desk.infeed(&["status"]).run().expect_code(0);
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0"] {
        refused(&desk, &["--admin", open], 78, &[open, "admin.tls_cert_file", "127.0.0.1", "admin.insecure"]);
    }
    // with insistence it is tried; the address is nobody's here (RFC 5737)
    let insists = ["--admin", "192.0.2.1:0", "--set", "admin.insecure=true"];
    refused(&desk, &insists, 69, &["192.0.2.1:0", "can't listen"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address").to_string();
    refused(&desk, &["--admin", &taken], 69, &[&taken, "--admin"]);
    refused(&desk, &["--admin", "nonsense"], 64, &["nonsense", "admin.listen"]);
}

#[test]
fn over_tls_the_token_goes_to_whom_the_certificate_names_and_plain_http_gets_nothing() {
    let desk = Desk::new();
    let authority = Authority::named("the desk's authority");
    let Identity { certificate, key } = authority.sign(&["localhost", "127.0.0.1"]);
    let (cert, key_file) = (desk.file("cert.pem", &certificate), desk.file("key.pem", &key));
    let (cert, key) = (cert.display().to_string(), key_file.display().to_string());
    let (set_cert, set_key) = (format!("admin.tls_cert_file={cert}"), format!("admin.tls_key_file={key}"));
    let listen = format!("127.0.0.1:{}", free_port());
    desk.infeed(&["status"]).run().expect_code(0);
    refused(&desk, &["--admin", &listen, "--set", &set_cert], 78, &["admin.tls_key_file"]);
    refused(&desk, &["--admin", &listen, "--set", &set_key], 78, &["admin.tls_cert_file"]);
    let swapped = [format!("admin.tls_cert_file={key}"), format!("admin.tls_key_file={cert}")];
    refused(
        &desk,
        &["--admin", &listen, "--set", &swapped[0], "--set", &swapped[1]],
        78,
        &[&key, "certificate"],
    );
    let other = Authority::named("another").sign(&["localhost"]);
    let other_key = format!("admin.tls_key_file={}", desk.file("other.pem", &other.key).display());
    refused(&desk, &["--admin", &listen, "--set", &set_cert, "--set", &other_key], 78, &["other.pem", &cert]);
    // TLS may listen anywhere: that it is tried is enough here
    let tls = ["--set", &set_cert, "--set", &set_key];
    refused(&desk, &[&["--admin", "192.0.2.1:0"][..], &tls].concat(), 69, &["can't listen"]);

    let api = Api::start(&desk, &[&["--mta", "127.0.0.1:1"][..], &tls].concat());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.root.as_bytes()).expect("PEM")).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let tcp = TcpStream::connect(("127.0.0.1", api.port)).expect("a connection");
    tcp.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let mut stream = StreamOwned::new(connection, tcp);
    let own = format!("Origin: https://localhost:{}\r\nConnection: close\r\n\r\n", api.port);
    stream.write_all((api.head("GET", "/api/v1/status") + &own).as_bytes()).expect("sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("an answer, and its end");
    let answer = Answer::of(&said).expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["owners"][0]["command"], "serve");
    // who speaks plainly isn't answered, and holds nobody up
    let plain = api.raw((api.head("GET", "/api/v1/status") + "\r\n").as_bytes());
    assert!(!plain.contains("HTTP/1.1 200") && !plain.contains("backlog"), "{plain}");
    let log = Daemon::stop(api.daemon).stderr;
    assert!(log.contains("https://127.0.0.1:"), "{log}");
    assert_eq!(token(&desk), api.token);
}
