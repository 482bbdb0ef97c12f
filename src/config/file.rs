//! The TOML file as written: which setting got which value, and on which line.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::load::Origin;
use super::nearest::{nearest_group, nearest_setting};
use super::value::{Setting, Value, integer};

/// One setting that the file gives.
pub(super) struct Entry {
    pub setting: &'static Setting,
    pub value: Value,
    pub origin: Origin,
}

/// Reads the text of the file at `path`. What can't be taken is added to `errors`, all of it; the rest
/// is returned.
pub(super) fn parse(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Vec<Entry> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        errors.extend(syntax.iter().map(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        }));
        return Vec::new();
    }
    let mut reader = Reader { path, text, errors: Vec::new(), entries: Vec::new() };
    for (group, content) in document.get_ref() {
        reader.group(group, content);
    }
    // the parser orders by name; people read from the top
    reader.errors.sort_by_key(|(line, _)| *line);
    errors.extend(reader.errors.into_iter().map(|(_, error)| error));
    reader.entries
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    /// Each with its line.
    errors: Vec<(usize, ConfigError)>,
    entries: Vec<Entry>,
}

impl Reader<'_> {
    fn line<T>(&self, at: &Spanned<T>) -> usize {
        line_of(self.text, at.span().start)
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File { path: self.path.to_owned(), line }
    }

    fn group(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, content: &Spanned<DeValue<'_>>) {
        let group = key.get_ref().as_ref();
        let line = self.line(key);
        let origin = self.origin(line);
        let known = super::settings::GROUPS.iter().any(|(name, _)| *name == group);
        let error = match content.get_ref() {
            DeValue::Table(settings) if known => {
                return settings.iter().for_each(|(name, value)| self.setting(group, name, value));
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

    fn setting(
        &mut self,
        group: &str,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        content: &Spanned<DeValue<'_>>,
    ) {
        let name = key.get_ref().as_ref();
        let full = format!("{group}.{name}");
        let line = self.line(key);
        let origin = self.origin(line);
        let Some(setting) = super::table().iter().find(|s| s.group == group && s.name == name) else {
            let nearest = nearest_setting(&full);
            let error = ConfigError::UnknownSetting { origin, name: full, nearest };
            return self.errors.push((line, error));
        };
        match value_of(content.get_ref()).and_then(|value| setting.check(&value).map(|()| value)) {
            Ok(value) => self.entries.push(Entry { setting, value, origin }),
            Err(wrong) => self.errors.push((line, bad_value(setting, origin, wrong))),
        }
    }
}

/// The error for a value that `setting` doesn't take.
pub(super) fn bad_value(setting: &Setting, origin: Origin, wrong: String) -> ConfigError {
    let bound = setting.bound.to_string();
    // "is not <bound>" has said it already
    let want = if wrong.ends_with(&bound) && !bound.is_empty() {
        String::new()
    } else if bound.is_empty() {
        setting.kind.name().to_owned()
    } else {
        format!("{}: {bound}", setting.kind.name())
    };
    ConfigError::BadValue { origin, name: setting.full_name(), wrong, want }
}

fn value_of(value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::String(text) => Ok(Value::Text(text.to_string())),
        DeValue::Integer(n) => integer(n.as_str(), n.radix()).map(Value::Integer),
        DeValue::Boolean(b) => Ok(Value::Boolean(*b)),
        DeValue::Float(n) => Err(format!("{} is no whole number", n.as_str())),
        DeValue::Datetime(_) => Err("a date is no value for it".to_owned()),
        DeValue::Array(_) => Err("a list is no value for it".to_owned()),
        DeValue::Table(_) => Err("a table is no value for it".to_owned()),
    }
}

/// The line, from 1 on, that holds the octet at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + memchr::memchr_iter(b'\n', before).count()
}
