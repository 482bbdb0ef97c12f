//! What can be wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::load::Origin;
use super::value::Value;

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

    #[error("{low} is more than {high}: {why}")]
    Relation { low: Box<Side>, high: Box<Side>, why: &'static str },

    #[error("{origin}: this [[mta]] has no name; give it one: name = \"primary\"")]
    MtaWithoutName { origin: Origin },

    #[error(
        "{origin}: a second [[mta]] named {name}, after that of line {first_line}; give each a name of its own"
    )]
    SameMtaName { origin: Origin, name: String, first_line: usize },

    #[error("{second} is the address of {first}: give each MTA its own, or drop one of the two")]
    SameMtaAddress { first: Box<Side>, second: Box<Side> },

    #[error("{origin}: mta.{name} is for one of several MTAs: it belongs in a [[mta]] table")]
    OnlyInMtaTable { origin: Origin, name: String },

    #[error("{origin}: no MTA named {name}{}", named(nearest, *has_tables))]
    NoSuchMta { origin: Origin, name: String, nearest: Option<String>, has_tables: bool },

    #[error("--mta {choice}: neither the name of an MTA nor its address{}", chosen(nearest))]
    UnknownMtaChoice { choice: String, nearest: Option<String> },

    #[error("--mta {choice}: the same MTA as --mta {earlier}; choose each once")]
    SameMtaChoice { choice: String, earlier: String },

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

fn named(nearest: &Option<String>, has_tables: bool) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name}?"),
        None if has_tables => "; `infeed config show` lists them".to_owned(),
        None => ": the configuration has no [[mta]]; for the one MTA write mta.connections=4".to_owned(),
    }
}

fn chosen(nearest: &Option<String>) -> String {
    const ADDRESS: &str = "n address is host:port, [IPv6]:port or unix:/path";
    match nearest {
        Some(name) => format!("; did you mean {name}? A{ADDRESS}"),
        None => format!("; a{ADDRESS}"),
    }
}

fn wanted(want: &str) -> String {
    if want.is_empty() { String::new() } else { format!("; it takes {want}") }
}

/// One of two settings that don't go together; prints as `retry.delay_s_min = 7200 (infeed.toml:2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The full name.
    pub name: String,
    pub value: Value,
    pub origin: Origin,
}

impl Side {
    pub(super) fn group(&self) -> &str {
        group_of(&self.name)
    }
}

fn group_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(group, _)| group)
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.name, self.value, self.origin)
    }
}

impl ConfigError {
    /// Whether the values of `group` can be held against each other all the same: the error is in another
    /// group, and is no slip in a name or in the syntax that could have hidden one of them.
    pub(super) fn spares(&self, group: &str) -> bool {
        match self {
            ConfigError::BadValue { name, .. }
            | ConfigError::UnknownSetting { name, .. }
            | ConfigError::NotAGroup { group: name, .. } => {
                let is_of_known = super::settings::GROUPS.iter().any(|(known, _)| *known == group_of(name));
                is_of_known && group_of(name) != group
            }
            ConfigError::Relation { low, high, .. } => low.group() != group && high.group() != group,
            ConfigError::MtaWithoutName { .. }
            | ConfigError::SameMtaName { .. }
            | ConfigError::SameMtaAddress { .. }
            | ConfigError::OnlyInMtaTable { .. }
            | ConfigError::NoSuchMta { .. }
            | ConfigError::UnknownMtaChoice { .. }
            | ConfigError::SameMtaChoice { .. } => group != "mta",
            ConfigError::Unreadable { .. }
            | ConfigError::NotUtf8 { .. }
            | ConfigError::Syntax { .. }
            | ConfigError::UnknownGroup { .. }
            | ConfigError::BadOverride { .. }
            | ConfigError::NoSpoolDir => false,
        }
    }

    /// Whether the command line is what is wrong: wrong usage then, rather than a bad configuration.
    pub fn is_usage(&self) -> bool {
        let is_flag = |origin: &Origin| matches!(origin, Origin::CommandLine { .. });
        match self {
            ConfigError::BadOverride { .. }
            | ConfigError::UnknownMtaChoice { .. }
            | ConfigError::SameMtaChoice { .. } => true,
            ConfigError::UnknownSetting { origin, .. }
            | ConfigError::UnknownGroup { origin, .. }
            | ConfigError::NotAGroup { origin, .. }
            | ConfigError::BadValue { origin, .. }
            | ConfigError::MtaWithoutName { origin }
            | ConfigError::SameMtaName { origin, .. }
            | ConfigError::OnlyInMtaTable { origin, .. }
            | ConfigError::NoSuchMta { origin, .. } => is_flag(origin),
            ConfigError::Relation { low: one, high: other, .. }
            | ConfigError::SameMtaAddress { first: one, second: other } => {
                is_flag(&one.origin) || is_flag(&other.origin)
            }
            ConfigError::Unreadable { .. }
            | ConfigError::NotUtf8 { .. }
            | ConfigError::Syntax { .. }
            | ConfigError::NoSpoolDir => false,
        }
    }
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

impl ConfigErrors {
    /// Whether nothing but the command line is wrong.
    pub fn is_usage(&self) -> bool {
        self.0.iter().all(ConfigError::is_usage)
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        ConfigErrors(vec![error])
    }
}
