//! A user with a password for a private Postfix, by the recipe `tests/mta/sasl`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::mta::fresh_dir;

const REALM: &str = "mta.example.test";

/// A database of one user; it goes when dropped.
#[derive(Debug)]
pub struct Sasl {
    dir: PathBuf,
}

impl Sasl {
    /// # Panics
    /// When it can't be made; ask `skip_or_require("sasl")` before.
    pub fn new(user: &str, password: &str) -> Self {
        let dir = fresh_dir();
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mta/sasl");
        let mut child = Command::new(recipe)
            .args([Path::new("make"), &dir, Path::new(REALM), Path::new(user)])
            .stdin(Stdio::piped())
            .spawn()
            .expect("the recipe runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        writeln!(stdin, "{password}").expect("the recipe reads");
        drop(stdin);
        assert!(child.wait().expect("the recipe ends").success(), "no database of users");
        Self { dir }
    }

    /// Lines of main.cf with which Postfix asks who its client is, and takes mail from nobody else.
    pub fn postfix(&self) -> [String; 6] {
        [
            "smtpd_sasl_auth_enable = yes".into(),
            "smtpd_sasl_type = cyrus".into(),
            format!("cyrus_sasl_config_path = {}", self.dir.display()),
            format!("smtpd_sasl_local_domain = {REALM}"),
            "smtpd_sasl_security_options = noanonymous".into(),
            "smtpd_recipient_restrictions = permit_sasl_authenticated, reject".into(),
        ]
    }
}

impl Drop for Sasl {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays: {error}", self.dir.display());
        }
    }
}
