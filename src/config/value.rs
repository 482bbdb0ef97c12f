//! The values that settings take, and the bounds that hold them.

use std::fmt;
use std::path::PathBuf;

use crate::pressure::per_second::PerSecond;

use super::rates::{DomainRates, domain_rates, rate};
use super::text::{
    MTA_NAME_LEN_MAX, is_helo_name, is_host_names, is_listen_address, is_mta_address, is_mta_name, is_web_url,
};

/// A setting's value, of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Integer(u64),
    Boolean(bool),
    Text(String),
    /// Messages a second; `None`: no limit, written 0.
    Rate(Option<PerSecond>),
    /// Messages a second by domain, in lower case.
    DomainRates(DomainRates),
    /// Not set: infeed finds the value itself.
    Unset,
}

/// As TOML writes it; `Unset` has no TOML form and reads `(not set)`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Integer(n) => n.fmt(f),
            Value::Boolean(b) => b.fmt(f),
            Value::Text(text) => toml::Value::String(text.clone()).fmt(f),
            Value::Rate(rate) => rate.map_or(0.0, PerSecond::as_f64).fmt(f),
            Value::DomainRates(rates) if rates.is_empty() => f.write_str("{}"),
            Value::DomainRates(rates) => {
                for (i, (domain, rate)) in rates.iter().enumerate() {
                    let domain = toml::Value::String(domain.clone());
                    write!(f, "{}{domain} = {rate}", if i == 0 { "{ " } else { ", " })?;
                }
                f.write_str(" }")
            }
            Value::Unset => f.write_str("(not set)"),
        }
    }
}

impl Value {
    /// As JSON writes it; `Unset` is null.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Integer(n) => (*n).into(),
            Value::Boolean(b) => (*b).into(),
            Value::Text(text) => text.as_str().into(),
            Value::Rate(rate) => rate.map_or(0.0, PerSecond::as_f64).into(),
            Value::DomainRates(rates) => rates.iter().map(|(d, rate)| (d.clone(), rate.as_f64())).collect(),
            Value::Unset => serde_json::Value::Null,
        }
    }
}

/// What TOML type a setting is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Boolean,
    Text,
    /// A number, or a word that stands for finding it.
    IntegerOrWord,
    Rate,
    DomainRates,
}

impl Kind {
    /// Reads a value written outside TOML: in the environment, or on the command line.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        match self {
            Kind::Integer => integer(text, 10).map(Value::Integer),
            Kind::Boolean => match text {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                _ => Err(format!("{text:?} is neither true nor false")),
            },
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::IntegerOrWord if text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                Ok(Value::Text(text.to_owned()))
            }
            Kind::IntegerOrWord => integer(text, 10).map(Value::Integer),
            Kind::Rate => rate(text).map(Value::Rate),
            Kind::DomainRates => domain_rates(text).map(Value::DomainRates),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Integer => "integer",
            Kind::Boolean => "true or false",
            Kind::Text => "string",
            Kind::IntegerOrWord => "integer or string",
            Kind::Rate => "messages a second, from 0.001 to 1000000, or 0 for no limit",
            Kind::DomainRates => "a table of domains, each with its messages a second",
        }
    }
}

/// Reads an integer from 0 on; underscores may stand between its digits.
pub(super) fn integer(text: &str, radix: u32) -> Result<u64, String> {
    if text.starts_with('-') {
        return Err(format!("{text} is negative"));
    }
    u64::from_str_radix(&text.replace('_', ""), radix).map_err(|e| match e.kind() {
        std::num::IntErrorKind::PosOverflow => format!("{text} is too large"),
        _ => format!("{text:?} is no whole number"),
    })
}

/// What a value must be, beyond its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Any,
    /// Both ends included.
    Range {
        min: u64,
        max: u64,
    },
    /// Both ends included; or this word.
    RangeOr {
        min: u64,
        max: u64,
        word: &'static str,
    },
    /// 1, 2, 4 … `max`.
    PowerOfTwo {
        max: u64,
    },
    /// `host:port`, `[IPv6]:port`, or `unix:` and an absolute path.
    MtaAddress,
    /// `host:port` or `[IPv6]:port`; port 0 is a free one.
    ListenAddress {
        example: &'static str,
    },
    /// An http or https URL with a host, and with no name or password.
    WebUrl {
        example: &'static str,
    },
    /// What an MTA can be called: letters, digits, `-`, `_` and `.`, the first a letter or digit; not `sink`.
    MtaName,
    /// The name of a file, without a folder.
    FileName {
        example: &'static str,
    },
    /// A line of text, not empty, with no control characters.
    Line {
        example: &'static str,
    },
    /// A name fit for EHLO: letters, digits, hyphens and dots, or an address literal.
    DomainName {
        example: &'static str,
    },
    /// Names of hosts, without ports, with commas between them.
    HostNames {
        example: &'static str,
    },
    /// A path, absolute.
    Path {
        example: &'static str,
    },
    /// A path, absolute; or this word.
    PathOr {
        example: &'static str,
        word: &'static str,
    },
    OneOf {
        names: &'static [&'static str],
    },
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Any => Ok(()),
            Bound::Range { min, max } => write!(f, "{min} to {max}"),
            Bound::RangeOr { min, max, word } => write!(f, "{min} to {max}, or \"{word}\""),
            Bound::PowerOfTwo { max } => write!(f, "a power of two, at most {max}"),
            Bound::MtaAddress => f.write_str("host:port, [IPv6]:port or unix:/path"),
            Bound::ListenAddress { .. } => f.write_str("host:port, [IPv6]:port or \"none\""),
            Bound::WebUrl { .. } => {
                f.write_str("an http:// or https:// URL, with no user name or password in it")
            }
            Bound::MtaName => {
                write!(
                    f,
                    "1 to {MTA_NAME_LEN_MAX} letters, digits, \"-\", \"_\" or \".\", other than \"sink\""
                )
            }
            Bound::FileName { .. } => f.write_str("a file's name, without a folder"),
            Bound::Line { .. } => f.write_str("a line of text"),
            Bound::DomainName { .. } => f.write_str("a domain name, or an address literal in [ ]"),
            Bound::HostNames { .. } => f.write_str("names of hosts, with commas between them"),
            Bound::Path { .. } => f.write_str("an absolute path"),
            Bound::PathOr { word, .. } => write!(f, "an absolute path, or \"{word}\""),
            Bound::OneOf { names } => {
                for (i, name) in names.iter().enumerate() {
                    write!(f, "{}\"{name}\"", if i == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
        }
    }
}

impl Bound {
    /// Whether `value` lies within the bound; an unset value does.
    pub fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Unset) | (Bound::Any, _) => true,
            (Bound::Range { min, max }, Value::Integer(n)) => (min..=max).contains(&n),
            (Bound::RangeOr { min, max, .. }, Value::Integer(n)) => (min..=max).contains(&n),
            (Bound::RangeOr { word, .. }, Value::Text(text)) => word == text,
            (Bound::PowerOfTwo { max }, Value::Integer(n)) => n.is_power_of_two() && n <= max,
            (Bound::MtaAddress, Value::Text(text)) => is_mta_address(text),
            (Bound::ListenAddress { .. }, Value::Text(text)) => is_listen_address(text),
            (Bound::WebUrl { .. }, Value::Text(text)) => is_web_url(text),
            (Bound::MtaName, Value::Text(text)) => is_mta_name(text),
            (Bound::FileName { .. }, Value::Text(text)) => {
                !matches!(text.as_str(), "" | "." | "..") && !text.contains(['/', '\0'])
            }
            (Bound::Line { .. }, Value::Text(text)) => {
                !text.is_empty() && !text.contains(|c: char| c.is_control())
            }
            (Bound::DomainName { .. }, Value::Text(text)) => is_helo_name(text),
            (Bound::HostNames { .. }, Value::Text(text)) => is_host_names(text),
            (Bound::Path { .. }, Value::Text(text)) => is_absolute_path(text),
            (Bound::PathOr { word, .. }, Value::Text(text)) => word == text || is_absolute_path(text),
            (Bound::OneOf { names }, Value::Text(text)) => names.contains(&text.as_str()),
            _ => false,
        }
    }
}

fn is_absolute_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains('\0')
}

/// One setting, as the table holds it.
#[derive(Debug, Clone)]
pub struct Setting {
    pub group: &'static str,
    pub name: &'static str,
    pub kind: Kind,
    pub default: Value,
    pub bound: Bound,
    /// What it is, an empty line, and why.
    pub(super) doc: &'static str,
}

impl Setting {
    /// `group.name`.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.group, self.name)
    }

    /// What it is: one sentence or two.
    pub fn what(&self) -> String {
        self.paragraph(0)
    }

    /// Why its default is what it is, or what happens without one.
    pub fn why(&self) -> String {
        self.paragraph(1)
    }

    fn paragraph(&self, number: usize) -> String {
        let paragraph = self.doc.trim().split("\n\n").nth(number).unwrap_or_default();
        paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    }

    /// What values it takes.
    pub fn takes(&self) -> String {
        match self.bound {
            Bound::Any => self.kind.name().to_owned(),
            bound => bound.to_string(),
        }
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("INFEED_{}_{}", self.group, self.name).to_ascii_uppercase()
    }

    /// Whether the value is of the setting's kind and within its bound; the error is what is wrong.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        let kind_is_right = match value {
            Value::Integer(_) => matches!(self.kind, Kind::Integer | Kind::IntegerOrWord),
            Value::Boolean(_) => self.kind == Kind::Boolean,
            Value::Text(_) => matches!(self.kind, Kind::Text | Kind::IntegerOrWord),
            Value::Rate(_) => self.kind == Kind::Rate,
            Value::DomainRates(_) => self.kind == Kind::DomainRates,
            Value::Unset => self.default == Value::Unset,
        };
        if !kind_is_right {
            return Err(format!("{value} is no {}", self.kind.name()));
        }
        if !self.bound.holds(value) {
            if let Bound::WebUrl { .. } = self.bound {
                // a password or token may be in it, and this text may go to a log
                return Err(format!("this is not {}", self.bound));
            }
            return Err(format!("{value} is not {}", self.bound));
        }
        Ok(())
    }
}

/// A type that a setting can have.
pub trait Field: Sized {
    /// The form its default has as a constant.
    type Const;
    const KIND: Kind;
    fn from_const(default: Self::Const) -> Self;
    fn to_value(&self) -> Value;
    /// # Panics
    /// On a value that `Setting::check` would not let through.
    fn from_value(value: &Value) -> Self;
}

macro_rules! integer_field {
    ($($Type:ty),+) => {$(
        impl Field for $Type {
            type Const = $Type;
            const KIND: Kind = Kind::Integer;
            fn from_const(default: $Type) -> Self {
                default
            }
            fn to_value(&self) -> Value {
                Value::Integer(*self as u64)
            }
            fn from_value(value: &Value) -> Self {
                match value {
                    Value::Integer(n) => *n as $Type,
                    other => panic!("unchecked value {other:?} for an integer"),
                }
            }
        }
    )+};
}
integer_field!(u64, usize);

impl Field for bool {
    type Const = bool;
    const KIND: Kind = Kind::Boolean;
    fn from_const(default: bool) -> Self {
        default
    }
    fn to_value(&self) -> Value {
        Value::Boolean(*self)
    }
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Boolean(b) => *b,
            other => panic!("unchecked value {other:?} for true or false"),
        }
    }
}

impl Field for String {
    type Const = &'static str;
    const KIND: Kind = Kind::Text;
    fn from_const(default: &'static str) -> Self {
        default.to_owned()
    }
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Text(text) => text.clone(),
            other => panic!("unchecked value {other:?} for a string"),
        }
    }
}

impl Field for PathBuf {
    type Const = &'static str;
    const KIND: Kind = Kind::Text;
    fn from_const(default: &'static str) -> Self {
        default.into()
    }
    fn to_value(&self) -> Value {
        Value::Text(self.to_string_lossy().into_owned())
    }
    fn from_value(value: &Value) -> Self {
        String::from_value(value).into()
    }
}

impl<T: Field> Field for Option<T> {
    type Const = Option<T::Const>;
    const KIND: Kind = T::KIND;
    fn from_const(default: Option<T::Const>) -> Self {
        default.map(T::from_const)
    }
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Unset, T::to_value)
    }
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Unset => None,
            value => Some(T::from_value(value)),
        }
    }
}

/// What becomes of a recipient whose transaction was cut off between the final dot and its reply.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum OnDoubt {
    /// Send it again, marked `possible_repeat`.
    #[default]
    Resend,
    /// Leave it `in_doubt`, for the operator to decide.
    Hold,
}

impl OnDoubt {
    pub(super) const NAMES: &'static [&'static str] = &["resend", "hold"];
}

impl Field for OnDoubt {
    type Const = OnDoubt;
    const KIND: Kind = Kind::Text;
    fn from_const(default: OnDoubt) -> Self {
        default
    }
    fn to_value(&self) -> Value {
        Value::Text(Self::NAMES[*self as usize].to_owned())
    }
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Text(text) if text == "resend" => OnDoubt::Resend,
            Value::Text(text) if text == "hold" => OnDoubt::Hold,
            other => panic!("unchecked value {other:?} for on_doubt"),
        }
    }
}
