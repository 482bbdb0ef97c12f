//! From defaults, file, environment and command line to one [`Config`], remembering who said what.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, ConfigErrors, Side};
use super::file::MtaTable;
use super::mtas::{self, MtaEntry, mta_and_setting, mta_table, mta_table_own};
use super::nearest::nearest_setting;
use super::settings::{Config, GROUPS, broken_relations};
use super::value::{Setting, Value};
use super::{file, table};

/// The machine's own file, read when present.
const SYSTEM_FILE: &str = "/etc/infeed/infeed.toml";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// The line counts from 1.
    File {
        path: PathBuf,
        line: usize,
    },
    Environment {
        variable: String,
    },
    CommandLine {
        flag: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment { variable } => write!(f, "environment {variable}"),
            Origin::CommandLine { flag } => write!(f, "command line {flag}"),
        }
    }
}

/// The environment variables that count here; a test gives its own.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Self {
        Environment(std::env::vars_os().collect())
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A variable that names a folder: absolute, or ignored, as the XDG specification wants.
    pub(super) fn folder(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }
}

impl<K: Into<OsString>, V: Into<OsString>, const N: usize> From<[(K, V); N]> for Environment {
    fn from(pairs: [(K, V); N]) -> Self {
        Environment(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// What the command line asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--config`.
    pub file: Option<PathBuf>,
    overrides: Vec<Override>,
}

/// A setting that the command line sets.
#[derive(Debug, Clone)]
pub(super) struct Override {
    /// `group.name`, or `mta.NAME.name`.
    pub name: String,
    pub value: String,
    pub flag: String,
}

impl Request {
    /// Reads this file, and overrides nothing.
    pub fn of_file(file: impl Into<PathBuf>) -> Self {
        Request { file: Some(file.into()), overrides: Vec::new() }
    }

    /// Sets a setting, by its full name, from a flag such as `--connections`.
    pub fn set(&mut self, name: &str, value: impl ToString, flag: &str) -> &mut Self {
        let (name, value, flag) = (name.to_owned(), value.to_string(), flag.to_owned());
        self.overrides.push(Override { name, value, flag });
        self
    }

    /// The same from `GROUP.NAME=VALUE`, as `--set` takes it.
    ///
    /// # Errors
    /// [`ConfigError::BadOverride`] where there is no `=`.
    pub fn set_text(&mut self, text: &str) -> Result<&mut Self, ConfigError> {
        let (name, value) =
            text.split_once('=').ok_or_else(|| ConfigError::BadOverride { text: text.to_owned() })?;
        Ok(self.set(name.trim(), value.trim(), "--set"))
    }
}

/// A configuration, with the origin of every value.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Where the value of a setting (`group.name`) came from.
    pub fn origin(&self, full_name: &str) -> Origin {
        self.origins.get(full_name).cloned().unwrap_or(Origin::Default)
    }

    /// Every setting with its value and origin, in the order of the table.
    pub fn values(&self) -> impl Iterator<Item = (&'static Setting, Value, Origin)> + '_ {
        table().iter().map(|setting| {
            let value = self.config.value(setting.group, setting.name).unwrap_or(Value::Unset);
            (setting, value, self.origin(&setting.full_name()))
        })
    }

    fn put(&mut self, setting: &Setting, value: &Value, origin: Origin) {
        self.config.put(setting.group, setting.name, value);
        self.origins.insert(setting.full_name(), origin);
    }

    /// What a `[[mta]]` table of the file, known by its name, can hold, with value and origin; what it
    /// leaves out has the origin of the base value.
    pub fn mta_values<'a>(
        &'a self,
        entry: &'a MtaEntry,
    ) -> impl Iterator<Item = (&'static Setting, Value, Origin)> + 'a {
        mta_table().map(|setting| {
            let value = entry.value(setting.name).unwrap_or(Value::Unset);
            (setting, value, self.entry_origin(&entry.name, setting.name))
        })
    }

    /// Whether the file has `[[mta]]` tables.
    pub fn has_mta_tables(&self) -> bool {
        self.config.mta_entries.iter().any(|entry| self.origins.contains_key(&entry_key(&entry.name, "name")))
    }

    /// Where the value of an entry's setting came from.
    pub(super) fn entry_origin(&self, entry: &str, setting: &str) -> Origin {
        let own = self.origins.get(&entry_key(entry, setting)).cloned();
        own.unwrap_or_else(|| self.origin(&format!("mta.{setting}")))
    }

    pub(super) fn put_origin(&mut self, entry: &str, setting: &str, origin: Origin) {
        self.origins.insert(entry_key(entry, setting), origin);
    }

    fn put_text(&mut self, setting: &Setting, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let value = checked(setting, text, &setting.full_name(), &origin)?;
        self.put(setting, &value, origin);
        Ok(())
    }
}

fn entry_key(entry: &str, setting: &str) -> String {
    format!("mta.{entry}.{setting}")
}

/// The value that `text` gives to a setting, which an error calls `full`.
pub(super) fn checked(
    setting: &Setting,
    text: &str,
    full: &str,
    origin: &Origin,
) -> Result<Value, ConfigError> {
    let checked = setting.kind.parse(text).and_then(|value| setting.check(&value).map(|()| value));
    checked.map_err(|wrong| file::bad_value(setting, full, origin.clone(), wrong))
}

/// Resolves the configuration.
///
/// # Errors
/// Everything that is wrong in any of the sources, at once.
pub fn load(request: &Request, environment: &Environment) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let mut loaded = Loaded { config: Config::default(), file: None, origins: BTreeMap::new() };
    let mut mtas = Vec::new();
    match find_file(request, environment) {
        Ok(Some((path, octets))) => {
            mtas = read_file(&mut loaded, &path, octets, &mut errors);
            loaded.file = Some(path);
        }
        Ok(None) => {}
        Err(error) => errors.push(error),
    }
    read_environment(&mut loaded, environment, &mut errors);
    let (by_name, plain): (Vec<Override>, Vec<Override>) =
        request.overrides.iter().cloned().partition(|given| mta_and_setting(&given.name).is_some());
    for Override { name, value, flag } in plain {
        let origin = Origin::CommandLine { flag };
        let done = match find_setting(&name) {
            Some(setting) => loaded.put_text(setting, &value, origin),
            None => Err(unknown(origin, name)),
        };
        errors.extend(done.err());
    }
    // what holds between values would only mislead where one of them is wrong already
    let is_sound = |group: &str, errors: &[ConfigError]| errors.iter().all(|error| error.spares(group));
    if is_sound("mta", &errors) {
        mtas::resolve(&mut loaded, mtas, by_name, &mut errors);
    }
    let mut relations = broken(&loaded);
    relations
        .retain(|relation| [&relation.0, &relation.1].iter().all(|side| is_sound(side.group(), &errors)));
    let relation = |(low, high, why)| ConfigError::Relation { low, high, why };
    errors.extend(relations.into_iter().map(relation));
    if errors.is_empty() { Ok(loaded) } else { Err(ConfigErrors(errors)) }
}

/// The relations over the settings at large, and over those of each `[[mta]]` where it has its own.
fn broken(loaded: &Loaded) -> Vec<(Box<Side>, Box<Side>, &'static str)> {
    let mut found = Vec::new();
    for (low, high, why) in broken_relations(&loaded.config) {
        let side = |full: &str| side(&loaded.config, full.to_owned(), full, loaded.origin(full));
        found.push((side(low), side(high), why));
    }
    for entry in &loaded.config.mta_entries {
        let own = |full: &str| {
            let setting = full.strip_prefix("mta.")?;
            let origin = loaded.origins.get(&entry_key(&entry.name, setting))?;
            Some((entry_key(&entry.name, setting), origin.clone()))
        };
        let of_entry = Config { mta: entry.settings.clone(), ..loaded.config.clone() };
        for (low, high, why) in broken_relations(&of_entry) {
            if own(low).is_none() && own(high).is_none() {
                continue;
            }
            let side = |full: &str| {
                let (name, origin) = own(full).unwrap_or_else(|| (full.to_owned(), loaded.origin(full)));
                side(&of_entry, name, full, origin)
            };
            found.push((side(low), side(high), why));
        }
    }
    found
}

/// The file to read, with its octets. One that was asked for must be there; the others need not.
fn find_file(
    request: &Request,
    environment: &Environment,
) -> Result<Option<(PathBuf, Vec<u8>)>, ConfigError> {
    let asked_for = request.file.clone().or_else(|| environment.get("INFEED_CONFIG").map(PathBuf::from));
    if let Some(path) = asked_for {
        return match std::fs::read(&path) {
            Ok(octets) => Ok(Some((path, octets))),
            Err(error) => Err(ConfigError::Unreadable { path, error }),
        };
    }
    let user_folder = environment
        .folder("XDG_CONFIG_HOME")
        .or_else(|| environment.folder("HOME").map(|home| home.join(".config")));
    let places =
        [Some(PathBuf::from(SYSTEM_FILE)), user_folder.map(|folder| folder.join("infeed/infeed.toml"))];
    for path in places.into_iter().flatten() {
        match std::fs::read(&path) {
            Ok(octets) => return Ok(Some((path, octets))),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(ConfigError::Unreadable { path, error }),
        }
    }
    Ok(None)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read_file(
    loaded: &mut Loaded,
    path: &Path,
    octets: Vec<u8>,
    errors: &mut Vec<ConfigError>,
) -> Vec<MtaTable> {
    match String::from_utf8(octets) {
        Ok(text) => {
            let content = file::parse(path, &text, errors);
            for entry in content.entries {
                loaded.put(entry.setting, &entry.value, entry.origin);
            }
            content.mtas
        }
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            errors.push(ConfigError::NotUtf8 { path: path.to_owned(), offset });
            Vec::new()
        }
    }
}

/// Takes the variables that start like a group (`INFEED_MTA_`); other `INFEED_` ones are not settings.
fn read_environment(loaded: &mut Loaded, environment: &Environment, errors: &mut Vec<ConfigError>) {
    for variable in environment.0.keys().filter_map(|name| name.to_str()) {
        let Some((group, name)) = group_and_name(variable) else { continue };
        let Some(value) = environment.get(variable) else { continue };
        let origin = Origin::Environment { variable: variable.to_owned() };
        let full = format!("{group}.{name}");
        let done = match find_setting(&full) {
            Some(setting) => loaded.put_text(setting, &value.to_string_lossy(), origin),
            None => Err(unknown(origin, full)),
        };
        errors.extend(done.err());
    }
}

fn group_and_name(variable: &str) -> Option<(&'static str, String)> {
    let lower = variable.strip_prefix("INFEED_")?.to_ascii_lowercase();
    GROUPS.iter().find_map(|(group, _)| {
        let name = lower.strip_prefix(group)?.strip_prefix('_')?;
        Some((*group, name.to_owned()))
    })
}

fn find_setting(full_name: &str) -> Option<&'static Setting> {
    let (group, name) = full_name.split_once('.')?;
    table().iter().find(|setting| setting.group == group && setting.name == name)
}

fn unknown(origin: Origin, name: String) -> ConfigError {
    if let Some(own) = name.strip_prefix("mta.").filter(|own| mta_table_own().iter().any(|s| s.name == *own))
    {
        return ConfigError::OnlyInMtaTable { origin, name: own.to_owned() };
    }
    let nearest = nearest_setting(&name);
    ConfigError::UnknownSetting { origin, name, nearest }
}

/// One side of a relation: the setting `full` of `config`, called `name`.
fn side(config: &Config, name: String, full: &str, origin: Origin) -> Box<Side> {
    let value = full.split_once('.').and_then(|(group, name)| config.value(group, name));
    Box::new(Side { name, value: value.unwrap_or(Value::Unset), origin })
}
