//! The TOML file as written: which setting got which value, and on which line.

use std::borrow::Cow;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::load::Origin;
use super::mtas::{mta_table, mta_table_own};
use super::nearest::{nearest_group, nearest_mta_setting, nearest_setting};
use super::rates::{DomainRates, put_domain_rate, rate};
use super::value::{Kind, Setting, Value, integer};
use crate::pressure::per_second::PerSecond;

/// A name as the parser gives it.
type Key<'a> = Spanned<Cow<'a, str>>;

/// One setting that the file gives.
pub(super) struct Entry {
    pub setting: &'static Setting,
    pub value: Value,
    pub origin: Origin,
}

/// One `[[mta]]` table.
pub(super) struct MtaTable {
    pub name: String,
    pub name_origin: Origin,
    pub name_line: usize,
    /// What it sets beside its name.
    pub settings: Vec<Entry>,
}

/// What a file gives.
#[derive(Default)]
pub(super) struct Content {
    pub entries: Vec<Entry>,
    /// In the order of the file; their names differ.
    pub mtas: Vec<MtaTable>,
}

/// Reads the text of the file at `path`. What can't be taken is added to `errors`, all of it; the rest
/// is returned.
pub(super) fn parse(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Content {
    let (document, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        errors.extend(syntax.iter().map(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        }));
        return Content::default();
    }
    let mut reader = Reader { path, text, errors: Vec::new(), content: Content::default() };
    for (group, content) in document.get_ref() {
        reader.group(group, content);
    }
    // the parser orders by name; people read from the top
    reader.errors.sort_by_key(|(line, _)| *line);
    errors.extend(reader.errors.into_iter().map(|(_, error)| error));
    reader.content
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    /// Each with its line.
    errors: Vec<(usize, ConfigError)>,
    content: Content,
}

impl Reader<'_> {
    fn line<T>(&self, at: &Spanned<T>) -> usize {
        line_of(self.text, at.span().start)
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File { path: self.path.to_owned(), line }
    }

    fn group(&mut self, key: &Key<'_>, content: &Spanned<DeValue<'_>>) {
        let group = key.get_ref().as_ref();
        let line = self.line(key);
        let origin = self.origin(line);
        let known = super::settings::GROUPS.iter().any(|(name, _)| *name == group);
        let error = match content.get_ref() {
            DeValue::Table(settings) if known => {
                return settings.iter().for_each(|(name, value)| self.setting(group, name, value));
            }
            DeValue::Array(tables) if group == "mta" && !tables.is_empty() => {
                return tables.iter().for_each(|table| self.mta_table(table));
            }
            DeValue::Table(_) => {
                let nearest = nearest_group(group).map(|near| format!("[{near}]"));
                ConfigError::UnknownGroup { origin, group: group.to_owned(), nearest }
            }
            _ if known => ConfigError::NotAGroup { origin, group: group.to_owned() },
            _ => {
                let nearest = nearest_setting(group);
                ConfigError::UnknownSetting { origin, name: group.to_owned(), nearest }
            }
        };
        self.errors.push((line, error));
    }

    fn setting(&mut self, group: &str, key: &Key<'_>, content: &Spanned<DeValue<'_>>) {
        let name = key.get_ref().as_ref();
        let full = format!("{group}.{name}");
        match super::table().iter().find(|s| s.group == group && s.name == name) {
            Some(setting) => {
                let entry = self.entry(setting, &full, key, content);
                self.content.entries.extend(entry);
            }
            None if group == "mta" && mta_table_own().iter().any(|own| own.name == name) => {
                self.refuse(key, |origin| ConfigError::OnlyInMtaTable { origin, name: name.to_owned() });
            }
            None => {
                let nearest = nearest_setting(&full);
                self.refuse(key, |origin| ConfigError::UnknownSetting { origin, name: full, nearest });
            }
        }
    }

    fn mta_table(&mut self, content: &Spanned<DeValue<'_>>) {
        let DeValue::Table(settings) = content.get_ref() else {
            return self.refuse(content, |origin| ConfigError::NotAGroup { origin, group: "mta".to_owned() });
        };
        let mut name = None;
        let name_given = settings.iter().find(|(key, _)| key.get_ref() == "name");
        let shown = match name_given.map(|(_, value)| value.get_ref()) {
            Some(DeValue::String(name)) => format!("mta.{name}"),
            _ => "mta".to_owned(),
        };
        let mut entries = Vec::new();
        for (key, value) in settings {
            let full = format!("{shown}.{}", key.get_ref());
            match mta_table().find(|setting| setting.name == key.get_ref()) {
                Some(setting) if setting.name == "name" => {
                    if let Some(Entry { value: Value::Text(text), origin, .. }) =
                        self.entry(setting, "mta.name", key, value)
                    {
                        name = Some((text, origin, self.line(key)));
                    }
                }
                Some(setting) => entries.extend(self.entry(setting, &full, key, value)),
                None => {
                    let nearest = nearest_mta_setting(key.get_ref()).map(|near| format!("{shown}.{near}"));
                    self.refuse(key, |origin| ConfigError::UnknownSetting { origin, name: full, nearest });
                }
            }
        }
        if name_given.is_none() {
            self.refuse(content, |origin| ConfigError::MtaWithoutName { origin });
        }
        let Some((name, name_origin, name_line)) = name else { return };
        match self.content.mtas.iter().find(|earlier| earlier.name == name) {
            Some(earlier) => {
                let first_line = earlier.name_line;
                self.errors
                    .push((name_line, ConfigError::SameMtaName { origin: name_origin, name, first_line }));
            }
            None => self.content.mtas.push(MtaTable { name, name_origin, name_line, settings: entries }),
        }
    }

    /// One setting with its value, if it takes that; `full` is how an error calls it.
    fn entry(
        &mut self,
        setting: &'static Setting,
        full: &str,
        key: &Key<'_>,
        content: &Spanned<DeValue<'_>>,
    ) -> Option<Entry> {
        match value_of(setting.kind, content.get_ref())
            .and_then(|value| setting.check(&value).map(|()| value))
        {
            Ok(value) => Some(Entry { setting, value, origin: self.origin(self.line(key)) }),
            Err(wrong) => {
                self.refuse(key, |origin| bad_value(setting, full, origin, wrong));
                None
            }
        }
    }

    fn refuse<T>(&mut self, at: &Spanned<T>, error: impl FnOnce(Origin) -> ConfigError) {
        let line = self.line(at);
        let error = error(self.origin(line));
        self.errors.push((line, error));
    }
}

/// The error for a value that `setting`, called `full`, doesn't take.
pub(super) fn bad_value(setting: &Setting, full: &str, origin: Origin, wrong: String) -> ConfigError {
    let bound = setting.bound.to_string();
    // "is not <bound>" has said it already
    let want = if wrong.ends_with(&bound) && !bound.is_empty() {
        String::new()
    } else if bound.is_empty() {
        setting.kind.name().to_owned()
    } else {
        format!("{}: {bound}", setting.kind.name())
    };
    ConfigError::BadValue { origin, name: full.to_owned(), wrong, want }
}

fn value_of(kind: Kind, value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        _ if kind == Kind::Rate => rate_of(value).map(Value::Rate),
        DeValue::Table(table) if kind == Kind::DomainRates => {
            let mut rates = DomainRates::new();
            for (domain, per_second) in table {
                let rate = rate_of(per_second.get_ref());
                let rate = rate.map_err(|wrong| format!("{}: {wrong}", domain.get_ref()))?;
                put_domain_rate(&mut rates, domain.get_ref(), rate)?;
            }
            Ok(Value::DomainRates(rates))
        }
        DeValue::String(text) => Ok(Value::Text(text.to_string())),
        DeValue::Integer(n) => integer(n.as_str(), n.radix()).map(Value::Integer),
        DeValue::Boolean(b) => Ok(Value::Boolean(*b)),
        DeValue::Float(n) => Err(format!("{} is no whole number", n.as_str())),
        DeValue::Datetime(_) => Err("a date is no value for it".to_owned()),
        DeValue::Array(_) => Err("a list is no value for it".to_owned()),
        DeValue::Table(_) => Err("a table is no value for it".to_owned()),
    }
}

fn rate_of(value: &DeValue<'_>) -> Result<Option<PerSecond>, String> {
    match value {
        DeValue::Integer(n) => rate(n.as_str()),
        DeValue::Float(n) => rate(n.as_str()),
        DeValue::Table(_) => Err("write the domain in quotes, as in \"gmail.com\" = 20".to_owned()),
        _ => Err("it is no number of messages a second".to_owned()),
    }
}

/// The line, from 1 on, that holds the octet at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + memchr::memchr_iter(b'\n', before).count()
}
