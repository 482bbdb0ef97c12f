//! AUTH PLAIN and LOGIN (RFC 4954, RFC 4616): our own exchange, because async-smtp calls it a success
//! when no mechanism matches, and writes the password to its log.
//!
//! Guarantees: the password is in no error, no log and no metric, also when the MTA repeats it in its
//! reply; it goes only over TLS, to this host, or not at all; a process that has read one leaves no core.
//! Errors: `NoPassword`, `Password`,
//! `AuthInClear`, `NoMechanism`, and those of the wire at `Auth`.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::config::{AuthConfig, InfeedConfig, PasswordSource};
use super::error::InfeedError;
use super::reply::BadReply;
use super::tls::read_bounded;
use super::transaction::{Said, Stage};
use super::wire::Wire;
use crate::config::TlsMode;

/// Octets of a password, at most.
const PASSWORD_OCTETS_MAX: u64 = 1_024;
/// A command with its CRLF, at most (RFC 5321 §4.5.3.1.4); a longer response waits for its 334.
const COMMAND_OCTETS_MAX: usize = 512;
/// The least of a secret that is worth hiding: shorter, it is in any text by chance.
const HIDDEN_OCTETS_MIN: usize = 4;
const HIDDEN: &str = "[hidden]";

/// A password; shown nowhere.
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// The mechanisms that EHLO offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mechanisms(pub Vec<String>);

impl Mechanisms {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|offered| offered.eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Mechanisms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no AUTH");
        }
        write!(f, "AUTH {}", self.0.join(" "))
    }
}

/// Reads the password anew. `warned` keeps a file that others can read from being warned of twice.
pub async fn password(
    auth: &AuthConfig,
    config: &InfeedConfig,
    warned: &AtomicBool,
) -> Result<Password, InfeedError> {
    let (setting, path) = place(&auth.password, config)?;
    let shown = format!("{setting}: {}", path.display());
    leave_no_core();
    let read = tokio::task::spawn_blocking(move || read(&path)).await;
    let bad = |reason: String| InfeedError::Password { setting: shown.clone(), reason };
    let (octets, mode) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return Err(bad(format!("{error}; it must be a file of one line"))),
        Err(error) => return Err(bad(error.to_string())),
    };
    if mode & 0o044 != 0 && !warned.swap(true, Relaxed) {
        tracing::warn!("{shown}: others on this host can read the password; chmod 600 is enough for infeed");
    }
    one_line(octets).map_err(|reason| bad(reason.to_owned()))
}

/// Before a password is in memory: no core dump of this process, and no look into it for others of its user
/// (`PR_SET_DUMPABLE`). systemd and `RLIMIT_CORE` can't tell when there is one to keep.
fn leave_no_core() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("a core dump of this process could hold the MTA's password: {error}");
    }
}

/// The setting that names the place, and the file.
fn place(source: &PasswordSource, config: &InfeedConfig) -> Result<(&'static str, PathBuf), InfeedError> {
    match source {
        PasswordSource::File(path) => Ok(("mta.auth_password_file", path.clone())),
        PasswordSource::Credential(name) => {
            let setting = "mta.auth_password_credential";
            let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
                let reason = format!(
                    "$CREDENTIALS_DIRECTORY is not set: {name:?} is one of systemd's (LoadCredential= in the \
                     unit); without systemd, use mta.auth_password_file"
                );
                return Err(InfeedError::Password { setting: setting.to_owned(), reason });
            };
            Ok((setting, Path::new(&folder).join(name)))
        }
        PasswordSource::Missing => Err(InfeedError::NoPassword { address: config.address.clone() }),
    }
}

fn read(path: &Path) -> std::io::Result<(Vec<u8>, u32)> {
    let octets = read_bounded(path, PASSWORD_OCTETS_MAX)?;
    Ok((octets, std::fs::metadata(path)?.permissions().mode()))
}

/// The one line, without its end. What is wrong is told without a word of what is there.
fn one_line(octets: Vec<u8>) -> Result<Password, &'static str> {
    let Ok(mut text) = String::from_utf8(octets) else { return Err("it is not UTF-8") };
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err("its first line is empty");
    }
    if text.contains(['\n', '\r', '\0']) {
        return Err("it must be one line, with no NUL in it");
    }
    Ok(Password(text))
}

/// A password goes over TLS, or stays on this host.
pub fn may_be_said(config: &InfeedConfig, local: bool) -> Result<(), InfeedError> {
    if config.auth.is_some() && config.tls.mode == TlsMode::Off && !local {
        return Err(InfeedError::AuthInClear { address: config.address.clone() });
    }
    Ok(())
}

/// Says who we are. On an error the session is of no use.
pub async fn authenticate(
    wire: &mut Wire,
    config: &InfeedConfig,
    user: &str,
    password: &Password,
    offered: &Mechanisms,
) -> Result<(), InfeedError> {
    let plain = BASE64.encode(format!("\0{user}\0{}", password.0));
    let (name, answers) = if offered.has("PLAIN") {
        ("PLAIN", vec![plain.clone()])
    } else if offered.has("LOGIN") {
        ("LOGIN", vec![BASE64.encode(user), BASE64.encode(&password.0)])
    } else {
        return Err(InfeedError::NoMechanism {
            address: config.address.clone(),
            offered: offered.to_string(),
        });
    };
    let spoken = exchange(wire, name, &answers).await;
    wire.forget_output();
    let secrets = [plain.as_str(), &BASE64.encode(&password.0), &password.0];
    match spoken {
        Ok(said) if said.code == 235 => Ok(()),
        Ok(said) => {
            let Said { code, text } = said;
            let text = hide(&text, &secrets);
            Err(match code {
                400.. => InfeedError::Said { stage: Stage::Auth, said: Said { code, text } },
                _ => InfeedError::Unexpected { stage: Stage::Auth, code, text },
            })
        }
        Err(error) => Err(hide_error(error, &secrets)),
    }
}

/// Gives the last reply: 235, or why not.
async fn exchange(wire: &mut Wire, name: &str, answers: &[String]) -> Result<Said, InfeedError> {
    let mut answers = answers.iter();
    // PLAIN's only response goes with the command where both fit one line (RFC 4954 §4).
    let initial = answers.as_slice().first().filter(|only| {
        answers.len() == 1 && "AUTH PLAIN ".len() + only.len() + "\r\n".len() <= COMMAND_OCTETS_MAX
    });
    let command = match initial {
        Some(initial) => {
            answers.next();
            format!("AUTH {name} {initial}\r\n")
        }
        None => format!("AUTH {name}\r\n"),
    };
    let mut said = wire.ask(Stage::Auth, command.as_bytes()).await?;
    while said.code == 334 {
        let Some(answer) = answers.next() else { return Ok(said) };
        said = wire.ask(Stage::Auth, format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(said)
}

/// The text without the secrets, whole or, where something cut them, in part.
fn hide(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        text = text.replace(secret, HIDDEN);
    }
    let is_part = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        word.len() >= HIDDEN_OCTETS_MIN && secrets.iter().any(|secret| secret.contains(word))
    };
    let words: Vec<&str> = text.split(' ').map(|word| if is_part(word) { HIDDEN } else { word }).collect();
    words.join(" ")
}

fn hide_error(error: InfeedError, secrets: &[&str]) -> InfeedError {
    match error {
        InfeedError::Said { stage, said } => {
            InfeedError::Said { stage, said: Said { code: said.code, text: hide(&said.text, secrets) } }
        }
        InfeedError::Unsolicited { stage, text } => {
            InfeedError::Unsolicited { stage, text: hide(&text, secrets) }
        }
        InfeedError::BadReply { stage, source: BadReply::NoCode(text) } => {
            InfeedError::BadReply { stage, source: BadReply::NoCode(hide(&text, secrets)) }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_reply_shows_a_secret_wherever_it_stands_and_wherever_it_is_cut(
            password in "[A-Za-z0-9]{6,20}",
            before in "[ -~]{0,20}",
            after in "[ -~]{0,20}",
            cut in 4..20usize,
        ) {
            let encoded = BASE64.encode(&password);
            for secret in [&password, &encoded] {
                let hidden = hide(&format!("{before}{secret}{after}"), &[&encoded, &password]);
                prop_assert!(!hidden.contains(secret.as_str()), "{hidden}");
                let part = &secret[..cut.min(secret.len())];
                let hidden = hide(&format!("{before} {part}"), &[&encoded, &password]);
                prop_assert!(!hidden.ends_with(part), "{hidden}");
            }
        }
    }

    #[test]
    fn a_password_is_one_line_and_its_file_s_faults_are_told_without_it() {
        for (octets, password) in [
            ("secret\n", "secret"),
            ("secret", "secret"),
            ("secret\r\n", "secret"),
            (" with blanks ", " with blanks "),
        ] {
            assert_eq!(one_line(octets.into()).map(|p| p.0).as_deref(), Ok(password));
        }
        for octets in [&b""[..], b"\n", b"one\ntwo", b"one\n\n", b"a\0b", b"\xff"] {
            assert!(one_line(octets.to_vec()).is_err(), "{octets:?}");
        }
        assert_eq!(format!("{:?}", Password("secret".into())), HIDDEN);
    }

    #[test]
    fn a_password_is_not_sent_in_clear_text_to_another_host() {
        let auth = AuthConfig { user: "news".into(), password: PasswordSource::Missing };
        let mut config = InfeedConfig { auth: Some(auth), ..InfeedConfig::default() };
        assert!(matches!(may_be_said(&config, false), Err(InfeedError::AuthInClear { .. })));
        assert!(may_be_said(&config, true).is_ok());
        for mode in [TlsMode::StartTls, TlsMode::Implicit] {
            config.tls.mode = mode;
            assert!(may_be_said(&config, false).is_ok());
        }
        assert!(may_be_said(&InfeedConfig::default(), false).is_ok());
    }

    #[test]
    fn what_the_mta_repeats_of_a_secret_is_hidden_whole_or_cut() {
        let secrets = ["AHVzZXIAczNjcjN0IHBhc3M=", "czNjcjN0IHBhc3M=", "s3cr3t pass"];
        assert_eq!(
            hide("5.5.2 what is AUTH PLAIN AHVzZXIAczNjcjN0IHBhc3M=?", &secrets),
            "5.5.2 what is AUTH PLAIN [hidden]?"
        );
        assert_eq!(hide("no: <s3cr3t pass>", &secrets), "no: <[hidden]>");
        assert_eq!(hide("AUTH PLAIN AHVzZ", &secrets), "AUTH PLAIN [hidden]");
        assert_eq!(hide("5.7.8 authentication failed", &secrets), "5.7.8 authentication failed");
    }
}
