//! The values of `mta.tls`.

use super::value::{Field, Kind, Value};

/// Whether the way to the MTA is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TlsMode {
    /// In clear text.
    #[default]
    Off,
    /// In clear text up to STARTTLS (RFC 3207), and no further without it.
    StartTls,
    /// From the first octet (RFC 8314).
    Implicit,
}

impl TlsMode {
    pub(super) const NAMES: &'static [&'static str] = &["off", "starttls", "implicit"];
}

impl Field for TlsMode {
    type Const = TlsMode;
    const KIND: Kind = Kind::Text;
    fn from_const(default: TlsMode) -> Self {
        default
    }
    fn to_value(&self) -> Value {
        Value::Text(Self::NAMES[*self as usize].to_owned())
    }
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Text(text) if text == "off" => TlsMode::Off,
            Value::Text(text) if text == "starttls" => TlsMode::StartTls,
            Value::Text(text) if text == "implicit" => TlsMode::Implicit,
            other => panic!("unchecked value {other:?} for tls"),
        }
    }
}
