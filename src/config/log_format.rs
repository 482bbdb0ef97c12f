//! The values of `log.format`.

use std::fmt;
use std::str::FromStr;

use super::value::{Field, Kind, Value};

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LogFormat {
    /// Into the journal where standard error leads there, else for people.
    #[default]
    Auto,
    /// Lines for people, on standard error.
    Human,
    /// A JSON object a line, on standard error.
    Json,
    /// Into systemd's journal, with fields.
    Journald,
}

impl LogFormat {
    pub(super) const NAMES: &'static [&'static str] = &["auto", "human", "json", "journald"];
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

impl FromStr for LogFormat {
    type Err = String;

    /// # Errors
    /// It is none of the names.
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [LogFormat::Auto, LogFormat::Human, LogFormat::Json, LogFormat::Journald];
        let known = all.into_iter().find(|format| format.to_string() == text);
        known.ok_or_else(|| format!("one of {}", Self::NAMES.join(", ")))
    }
}

impl Field for LogFormat {
    type Const = LogFormat;
    const KIND: Kind = Kind::Text;
    fn from_const(default: LogFormat) -> Self {
        default
    }
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Text(text) => {
                text.parse().unwrap_or_else(|_| panic!("unchecked value {text:?} for a log's format"))
            }
            other => panic!("unchecked value {other:?} for a log's format"),
        }
    }
}
