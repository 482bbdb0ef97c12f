//! TLS, AUTH and Unix-domain sockets into a real Postfix, by the commands and settings of an operator:
//! what leaves infeed encrypted arrives octet by octet, and what must not be sent isn't.

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use common::binary::Run;
use common::certificates::{Authority, Identity};
use common::desk::Desk;
use common::mta::{Postfix, Relay, skip_or_require};
use common::sasl::Sasl;
use common::sink::SinkProcess;

const RECIPIENTS: usize = 60;
const DEADLINE: Duration = Duration::from_secs(120);
const PASSWORD: &str = "s3cr3t-Pass of the test";

/// A desk with a job on it, and an authority beside.
struct Place {
    desk: Desk,
    authority: Authority,
    roots: PathBuf,
    job: String,
}

impl Place {
    fn new() -> Self {
        let desk = Desk::new();
        let authority = Authority::named("the test's own root");
        let roots = desk.path("roots.pem");
        authority.write(&roots);
        let job = submit(&desk);
        Self { desk, authority, roots, job }
    }

    /// Lines of main.cf for a Postfix with TLS.
    fn tls(&self, identity: &Identity) -> Vec<String> {
        let certificate = self.desk.file("mta.pem", &identity.certificate);
        let key = self.desk.file("mta.key", &identity.key);
        vec![
            format!("smtpd_tls_cert_file = {}", certificate.display()),
            format!("smtpd_tls_key_file = {}", key.display()),
            "smtpd_tls_security_level = may".into(),
            "smtpd_tls_loglevel = 1".into(),
        ]
    }

    fn drain(&self, address: &str, settings: &[(&str, &str)]) -> Run {
        let drain = self.desk.draining(address, 2).deadline(DEADLINE);
        settings.iter().fold(drain, |drain, (name, value)| drain.env(name, value)).run()
    }

    fn starttls(&self) -> [(&'static str, &str); 2] {
        [("INFEED_MTA_TLS", "starttls"), ("INFEED_MTA_TLS_CA_FILE", self.roots.to_str().expect("UTF-8"))]
    }

    fn password(&self, text: &str) -> String {
        let path = self.desk.file("password", text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its permissions");
        path.display().to_string()
    }

    /// Nobody was tried.
    fn untouched(&self) {
        let show = self.desk.show(&self.job);
        assert_eq!((&show["pending"], &show["state"]), (&RECIPIENTS.into(), &"active".into()), "{show}");
    }
}

/// A personalised message of many TLS records.
fn submit(desk: &Desk) -> String {
    let body: String = (0..2_000).map(|i| format!(".{i} and some text for {{{{ name }}}}\n")).collect();
    let message =
        desk.file("letter.eml", format!("From: a@lists.example\nSubject: {{{{ name }}}}\n\n{body}"));
    let rows: String = (0..RECIPIENTS).map(|i| format!("u{i}@d{}.example,Name{i}\n", i % 7)).collect();
    let list = desk.file("list.csv", format!("email,name\n{rows}"));
    desk.submit(&message, &list, &["--merge"])
}

/// What the bodies of all recipients hash to: after a way in clear text that is known to be good.
fn expected() -> BTreeMap<String, String> {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    submit(&desk);
    desk.draining(&sink.address(), 2).run().expect_code(0);
    arrived(sink)
}

fn arrived(sink: SinkProcess) -> BTreeMap<String, String> {
    let (_, ledger) = sink.stop();
    assert_eq!(ledger.len(), RECIPIENTS);
    ledger.into_iter().map(|entry| (entry.recipient, entry.body_sha1)).collect()
}

fn postfix(relay: Relay, lines: &[String]) -> Postfix {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    Postfix::start(relay, &lines)
}

/// Sends all of it through a Postfix with these lines of main.cf; gives what that logged.
fn deliver(
    place: &Place,
    lines: &[String],
    address: impl FnOnce(&Postfix) -> String,
    settings: &[(&str, &str)],
) -> String {
    let sink = SinkProcess::start(&place.desk.path("sink"), &[]);
    let mta = postfix(Relay::To(sink.port()), lines);
    place.drain(&address(&mta), settings).expect_code(0);
    mta.wait_queue_empty(DEADLINE);
    assert_eq!(arrived(sink), expected());
    mta.log()
}

#[test]
fn starttls_with_a_private_root_delivers_every_octet() {
    if skip_or_require("postfix") {
        let place = Place::new();
        let lines = place.tls(&place.authority.sign(&["127.0.0.1"]));
        let log = deliver(&place, &lines, Postfix::address, &place.starttls());
        assert!(log.contains("TLS connection established"), "{log}");
    }
}

#[test]
fn implicit_tls_with_a_private_root_delivers_every_octet() {
    if skip_or_require("postfix") {
        let place = Place::new();
        let mut lines = place.tls(&place.authority.sign(&["mta.example.test"]));
        lines.push("smtpd_tls_wrappermode = yes".into());
        let settings = [
            ("INFEED_MTA_TLS", "implicit"),
            ("INFEED_MTA_TLS_SERVER_NAME", "mta.example.test"),
            place.starttls()[1],
        ];
        let log = deliver(&place, &lines, Postfix::address, &settings);
        assert!(log.contains("TLS connection established"), "{log}");
    }
}

#[test]
fn a_unix_domain_socket_delivers_every_octet() {
    if skip_or_require("postfix") {
        let place = Place::new();
        deliver(&place, &[], |mta| format!("unix:{}", mta.socket().display()), &[]);
    }
}

#[test]
fn bad_certificates_and_missing_starttls_end_the_drain_with_the_remedy_and_nobody_tried() {
    if !skip_or_require("postfix") {
        return;
    }
    let place = Place::new();
    for (identity, word) in [
        (place.authority.sign_expired(&["127.0.0.1"]), "expired"),
        (place.authority.sign(&["other.test"]), "mta.tls_server_name"),
        (Authority::named("another root").sign(&["127.0.0.1"]), "mta.tls_ca_file"),
    ] {
        let mta = postfix(Relay::Discard, &place.tls(&identity));
        let run = place.drain(&mta.address(), &place.starttls()).expect_code(69);
        assert!(run.stderr.contains(word) && run.stderr.contains(&mta.address()), "{}", run.stderr);
        place.untouched();
    }
    let mta = postfix(Relay::Discard, &[]);
    let run = place.drain(&mta.address(), &place.starttls()).expect_code(69);
    assert!(run.stderr.contains("STARTTLS") && run.stderr.contains("mta.tls"), "{}", run.stderr);
    place.untouched();
}

#[test]
fn auth_over_tls_lets_the_right_password_in_and_pauses_on_a_wrong_one() {
    if !skip_or_require("postfix") || !skip_or_require("sasl") {
        return;
    }
    for mechanisms in ["PLAIN LOGIN", "LOGIN"] {
        let place = Place::new();
        let sasl = Sasl::new("news", PASSWORD);
        let mut lines = place.tls(&place.authority.sign(&["127.0.0.1"]));
        lines.extend(sasl.postfix());
        lines.push("smtpd_tls_auth_only = yes".into());
        if mechanisms == "LOGIN" {
            lines.push("smtpd_sasl_mechanism_filter = login".into());
        }
        let [tls, roots] = place.starttls();
        let file = place.password("not this one\n");
        let user = ("INFEED_MTA_AUTH_USER", "news@mta.example.test");
        let folder = place.desk.path("").display().to_string();
        let settings = match mechanisms {
            "LOGIN" => vec![
                tls,
                roots,
                user,
                // as systemd gives it
                ("INFEED_MTA_AUTH_PASSWORD_CREDENTIAL", "password"),
                ("CREDENTIALS_DIRECTORY", folder.as_str()),
            ],
            _ => vec![tls, roots, user, ("INFEED_MTA_AUTH_PASSWORD_FILE", file.as_str())],
        };

        let mta = postfix(Relay::Discard, &lines);
        let run = place.drain(&mta.address(), &settings).expect_code(69);
        assert!(run.stderr.contains("535") && !run.stderr.contains("not this one"), "{}", run.stderr);
        place.untouched();
        drop(mta);

        place.password(&format!("{PASSWORD}\n"));
        let log = deliver(&place, &lines, Postfix::address, &settings);
        assert!(log.contains(&format!("sasl_method={}", &mechanisms[..5])), "{log}");
    }
}
