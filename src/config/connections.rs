//! The values of `mta.connections`.

use std::fmt;
use std::str::FromStr;

use super::value::{Field, Kind, Value};

/// The word for [`Connections::Auto`].
pub(super) const AUTO: &str = "auto";
/// Connections to one MTA, at most.
pub const CONNECTIONS_MAX: usize = 1000;

/// How many connections are held open side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Connections {
    /// As many as keep the MTA busy, found while it works.
    #[default]
    Auto,
    /// So many: 1 to [`CONNECTIONS_MAX`].
    Fixed(usize),
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Connections::Auto => f.write_str(AUTO),
            Connections::Fixed(count) => count.fmt(f),
        }
    }
}

impl FromStr for Connections {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = || text.parse().ok().filter(|count| (1..=CONNECTIONS_MAX).contains(count));
        match text {
            AUTO => Ok(Connections::Auto),
            _ => count().map(Connections::Fixed).ok_or_else(|| {
                format!("{text} is no number of connections; write 1 to {CONNECTIONS_MAX}, or auto")
            }),
        }
    }
}

impl serde::Serialize for Connections {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Connections::Auto => serializer.serialize_str(AUTO),
            Connections::Fixed(count) => serializer.serialize_u64(*count as u64),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Connections {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Form {
            Count(u64),
            Word(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Count(count) => count.to_string(),
            Form::Word(word) => word,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Field for Connections {
    type Const = Connections;
    const KIND: Kind = Kind::IntegerOrWord;
    fn from_const(default: Connections) -> Self {
        default
    }
    fn to_value(&self) -> Value {
        match self {
            Connections::Auto => Value::Text(AUTO.to_owned()),
            Connections::Fixed(count) => Value::Integer(*count as u64),
        }
    }
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Integer(count) => Connections::Fixed(*count as usize),
            Value::Text(word) if word == AUTO => Connections::Auto,
            other => panic!("unchecked value {other:?} for connections"),
        }
    }
}
