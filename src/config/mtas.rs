//! Several MTAs: what the `[[mta]]` tables of the file come to, and which of them `--mta` chooses.
//!
//! An entry starts from the settings of `mta` (default, environment, `--set mta.x`), and its own table
//! sets what differs. The order of precedence is everybody's: a value of the environment or the command
//! line beats the entry's, and `--set mta.NAME.x`, which names the entry, beats them all.
//!
//! Guarantees of what [`resolve`] and [`Config::select_mtas`] leave: at least one entry, no two of one
//! name, no two of one address, each within every bound. Errors: [`ConfigError`].

use std::sync::LazyLock;

use super::error::{ConfigError, Side};
use super::file::MtaTable;
use super::load::{Loaded, Origin, Override, checked};
use super::nearest::{nearest_choice, nearest_mta_setting};
use super::settings::{Config, Mta, table};
use super::value::{Bound, Kind, Setting, Value};

/// The name of the MTA where the file has no `[[mta]]`.
pub const ONLY_MTA: &str = "mta";

/// The share of an MTA whose entry doesn't say it.
const WEIGHT: u64 = 1;

/// One of the MTAs that mail is handed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MtaEntry {
    /// Unique among the entries; the address where `--mta` gave one that no entry has.
    pub name: String,
    /// Its share of the recipients, in proportion to the weights of the others: 1 to 1000.
    pub weight: u64,
    /// Its connection, limits and timeouts.
    pub settings: Mta,
}

impl MtaEntry {
    /// The one MTA of a configuration without `[[mta]]`.
    pub(super) fn only(settings: Mta) -> Self {
        MtaEntry { name: ONLY_MTA.to_owned(), weight: WEIGHT, settings }
    }

    /// The value of what a `[[mta]]` table can set; `None` for another name.
    pub fn value(&self, name: &str) -> Option<Value> {
        match name {
            "name" => Some(Value::Text(self.name.clone())),
            "weight" => Some(Value::Integer(self.weight)),
            _ => self.settings.value(name),
        }
    }
}

/// What a `[[mta]]` table takes beside the settings of its group.
static OWN: LazyLock<[Setting; 2]> = LazyLock::new(|| {
    [
        Setting {
            group: "mta",
            name: "name",
            kind: Kind::Text,
            // there is none: each table must give its own, and the sample shows this one
            default: Value::Text("primary".to_owned()),
            bound: Bound::MtaName,
            doc: "What this MTA is called, in `--mta`, in a job and in every report.\n\n\
                  Required, and unlike the others': an address may change, a name stays.\n",
        },
        Setting {
            group: "mta",
            name: "weight",
            kind: Kind::Integer,
            default: Value::Integer(WEIGHT),
            bound: Bound::Range { min: 1, max: 1000 },
            doc: "Its share of the recipients, against the weights of the other MTAs.\n\n\
                  An MTA of weight 2 gets twice as much as one of weight 1 while both keep up.\n",
        },
    ]
});

/// What only a `[[mta]]` table can hold: its name and its weight.
pub fn mta_table_own() -> &'static [Setting] {
    &*OWN
}

/// All that a `[[mta]]` table can hold, in the order of the sample file.
pub fn mta_table() -> impl Iterator<Item = &'static Setting> {
    mta_table_own().iter().chain(table().iter().filter(|setting| setting.group == "mta"))
}

/// Makes the entries of `loaded`, whose base settings are final, from the tables of the file and from
/// what the command line says by an entry's name (`mta.NAME.x`).
pub(super) fn resolve(
    loaded: &mut Loaded,
    tables: Vec<MtaTable>,
    by_name: Vec<Override>,
    errors: &mut Vec<ConfigError>,
) {
    let base = loaded.config.mta.clone();
    let mut entries = Vec::new();
    for table in tables {
        let mut entry = MtaEntry { name: table.name, weight: WEIGHT, settings: base.clone() };
        loaded.put_origin(&entry.name, "name", table.name_origin);
        for given in table.settings {
            // the environment and the command line have set the base already
            if matches!(loaded.origin(&given.setting.full_name()), Origin::Default) {
                put(&mut entry, given.setting, &given.value);
                loaded.put_origin(&entry.name, given.setting.name, given.origin);
            }
        }
        entries.push(entry);
    }
    for Override { name, value, flag } in by_name {
        let origin = Origin::CommandLine { flag };
        match set_by_name(&mut entries, &name, &value, &origin) {
            Ok((entry, setting)) => loaded.put_origin(&entry, setting, origin),
            Err(error) => errors.push(error),
        }
    }
    if entries.is_empty() {
        entries.push(MtaEntry::only(base));
    }
    errors.extend(same_addresses(loaded, &entries));
    loaded.config.mta_entries = entries;
}

/// Sets `mta.NAME.SETTING`; returns both.
fn set_by_name(
    entries: &mut [MtaEntry],
    full: &str,
    text: &str,
    origin: &Origin,
) -> Result<(String, &'static str), ConfigError> {
    let (name, setting) = mta_and_setting(full).unwrap_or((full, ""));
    let known: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let Some(at) = known.iter().position(|known| *known == name) else {
        let nearest = nearest_choice(name, known.iter().copied());
        let has_tables = !known.is_empty();
        let name = name.to_owned();
        return Err(ConfigError::NoSuchMta { origin: origin.clone(), name, nearest, has_tables });
    };
    if setting == "name" {
        let (name, wrong) = (full.to_owned(), "an MTA is named in the file alone".to_owned());
        return Err(ConfigError::BadValue { origin: origin.clone(), name, wrong, want: String::new() });
    }
    let Some(setting) = mta_table().find(|known| known.name == setting) else {
        let nearest = nearest_mta_setting(setting).map(|near| format!("mta.{name}.{near}"));
        return Err(ConfigError::UnknownSetting { origin: origin.clone(), name: full.to_owned(), nearest });
    };
    let value = checked(setting, text, full, origin)?;
    put(&mut entries[at], setting, &value);
    Ok((entries[at].name.clone(), setting.name))
}

/// `mta.NAME.SETTING` in its two parts; a name may hold dots.
pub(super) fn mta_and_setting(full: &str) -> Option<(&str, &str)> {
    full.strip_prefix("mta.")?.rsplit_once('.')
}

fn put(entry: &mut MtaEntry, setting: &Setting, value: &Value) {
    match (setting.name, value) {
        ("weight", Value::Integer(weight)) => entry.weight = *weight,
        (name, value) => entry.settings.put(name, value),
    }
}

/// Two entries of one address are one MTA, which would get both entries' connections.
fn same_addresses(loaded: &Loaded, entries: &[MtaEntry]) -> Vec<ConfigError> {
    let side = |entry: &MtaEntry| {
        Box::new(Side {
            name: format!("mta.{}.address", entry.name),
            value: Value::Text(entry.settings.address.clone()),
            origin: loaded.entry_origin(&entry.name, "address"),
        })
    };
    let mut errors = Vec::new();
    for (i, second) in entries.iter().enumerate() {
        let first =
            entries[..i].iter().find(|first| is_same(&first.settings.address, &second.settings.address));
        if let Some(first) = first {
            errors.push(ConfigError::SameMtaAddress { first: side(first), second: side(second) });
        }
    }
    errors
}

/// Host names know no case; paths do.
fn is_same(one: &str, other: &str) -> bool {
    one == other || (!one.starts_with("unix:") && one.eq_ignore_ascii_case(other))
}

impl Config {
    /// Keeps, of the MTAs, those that were chosen on the command line, in that order. A choice is the
    /// name of an entry, or the address of one, or else an address (`HOST:PORT`, `unix:/path`): that
    /// becomes an entry named by it, with the settings of `mta` and weight 1. Without a choice all stay.
    ///
    /// # Errors
    /// A choice that is neither name nor address, and two that come to the same MTA; nothing is changed.
    pub fn select_mtas(&mut self, choices: &[String]) -> Result<(), ConfigError> {
        let mut chosen: Vec<(&str, MtaEntry)> = Vec::new();
        for choice in choices {
            let entry = self.chosen_mta(choice)?;
            let is_there = |(_, earlier): &&(&str, MtaEntry)| {
                earlier.name == entry.name || is_same(&earlier.settings.address, &entry.settings.address)
            };
            if let Some((earlier, _)) = chosen.iter().find(is_there) {
                let earlier = (*earlier).to_owned();
                return Err(ConfigError::SameMtaChoice { choice: choice.clone(), earlier });
            }
            chosen.push((choice, entry));
        }
        if !chosen.is_empty() {
            self.mta_entries = chosen.into_iter().map(|(_, entry)| entry).collect();
        }
        Ok(())
    }

    fn chosen_mta(&self, choice: &str) -> Result<MtaEntry, ConfigError> {
        let by_name = self.mta_entries.iter().find(|entry| entry.name == choice);
        let by_address = || self.mta_entries.iter().find(|entry| is_same(&entry.settings.address, choice));
        if let Some(entry) = by_name.or_else(by_address) {
            return Ok(entry.clone());
        }
        if !Bound::MtaAddress.holds(&Value::Text(choice.to_owned())) {
            let nearest = nearest_choice(choice, self.mta_entries.iter().map(|entry| entry.name.as_str()));
            return Err(ConfigError::UnknownMtaChoice { choice: choice.to_owned(), nearest });
        }
        let settings = Mta { address: choice.to_owned(), ..self.mta.clone() };
        Ok(MtaEntry { name: choice.to_owned(), weight: WEIGHT, settings })
    }
}
