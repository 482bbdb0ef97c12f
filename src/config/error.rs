//! What can be wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::load::Origin;

/// One thing wrong, with its place, the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("can't read the configuration {}: {error}; give a readable file with --config", path.display())]
    Unreadable { path: PathBuf, error: io::Error },

    #[error("{}: not UTF-8 at octet {offset}; a TOML file is UTF-8", path.display())]
    NotUtf8 { path: PathBuf, offset: usize },

    #[error("{}:{line}: not TOML: {message}", path.display())]
    Syntax { path: PathBuf, line: usize, message: String },

    #[error("{origin}: no setting {name}{}", meant(nearest))]
    UnknownSetting { origin: Origin, name: String, nearest: Option<String> },

    #[error("{origin}: no group [{group}]{}", meant(nearest))]
    UnknownGroup { origin: Origin, group: String, nearest: Option<String> },

    #[error("{origin}: {group} is a group of settings: write [{group}] on a line of its own")]
    NotAGroup { origin: Origin, group: String },

    #[error("{origin}: {name}: {wrong}{}", wanted(want))]
    BadValue { origin: Origin, name: String, wrong: String, want: String },

    /// `low` and `high` hold name, value and origin: `retry.delay_s_min = 7200 (infeed.toml:2)`.
    #[error("{low} is more than {high}: {why}")]
    Relation { low: String, high: String, why: &'static str },

    #[error("--set {text}: write it as GROUP.NAME=VALUE, such as --set mta.connections=4")]
    BadOverride { text: String },

    #[error(
        "no folder for the spool: /var/spool/infeed is not ours to write, and neither \
             XDG_STATE_HOME nor HOME names an absolute path; give one with --spool DIR or spool.dir"
    )]
    NoSpoolDir,
}

fn meant(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name}?"),
        None => "; `infeed config sample` lists them all".to_owned(),
    }
}

fn wanted(want: &str) -> String {
    if want.is_empty() { String::new() } else { format!("; it takes {want}") }
}

/// All that is wrong with a configuration; never empty. One line an error.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        ConfigErrors(vec![error])
    }
}
