//! Settings that are rates: of messages a second, and of these by domain.

use std::collections::BTreeMap;

use super::value::{Field, Kind, Value};
use crate::intake::address::check_domain_only;
use crate::pressure::per_second::{PerSecond, PerSecondError};

/// Messages a second by domain, in lower case.
pub type DomainRates = BTreeMap<String, PerSecond>;

/// 0 is written for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate(pub Option<PerSecond>);

impl Field for Rate {
    type Const = Rate;
    const KIND: Kind = Kind::Rate;
    fn from_const(default: Rate) -> Self {
        default
    }
    fn to_value(&self) -> Value {
        Value::Rate(self.0)
    }
    fn from_value(value: &Value) -> Self {
        match value {
            Value::Rate(rate) => Rate(*rate),
            other => panic!("unchecked value {other:?} for a rate"),
        }
    }
}

impl Field for DomainRates {
    type Const = ();
    const KIND: Kind = Kind::DomainRates;
    fn from_const((): ()) -> Self {
        DomainRates::new()
    }
    fn to_value(&self) -> Value {
        Value::DomainRates(self.clone())
    }
    fn from_value(value: &Value) -> Self {
        match value {
            Value::DomainRates(rates) => rates.clone(),
            other => panic!("unchecked value {other:?} for rates by domain"),
        }
    }
}

/// Reads messages a second, 0 for no limit.
pub(super) fn rate(text: &str) -> Result<Option<PerSecond>, String> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(None),
        _ => text.parse().map(Some).map_err(|e: PerSecondError| e.to_string()),
    }
}

/// Reads `gmail.com=20,example.org=0.5`.
pub(super) fn domain_rates(text: &str) -> Result<DomainRates, String> {
    let mut rates = DomainRates::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (domain, per_second) =
            part.split_once('=').ok_or_else(|| format!("{part:?} is no DOMAIN=RATE, as in gmail.com=20"))?;
        put_domain_rate(&mut rates, domain.trim(), rate(per_second.trim())?)?;
    }
    Ok(rates)
}

/// Takes one line of a table of rates; the error is what is wrong with it.
pub(super) fn put_domain_rate(
    rates: &mut DomainRates,
    domain: &str,
    rate: Option<PerSecond>,
) -> Result<(), String> {
    check_domain_only(domain).map_err(|reason| format!("{domain:?} is no domain: {reason}"))?;
    let Some(rate) = rate else {
        return Err(format!("{domain} has the rate 0: leave the line out where there is no limit"));
    };
    match rates.insert(domain.to_ascii_lowercase(), rate) {
        None => Ok(()),
        Some(_) => Err(format!("{domain} is there twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_by_domain_are_read_in_one_line() {
        let rates = domain_rates(" Gmail.com=20, small.example = 0.5,").unwrap();
        let text: Vec<String> = rates.iter().map(|(domain, rate)| format!("{domain} {rate}")).collect();
        assert_eq!(text, ["gmail.com 20", "small.example 0.5"]);
        for (bad, said) in [
            ("gmail.com", "DOMAIN=RATE"),
            ("gmail.com=fast", "50 or 0.5"),
            ("gmail.com=0", "leave the line out"),
            ("a b=1", "is no domain"),
            ("gmail.com=1,GMAIL.COM=2", "twice"),
        ] {
            let wrong = domain_rates(bad).unwrap_err();
            assert!(wrong.contains(said), "{bad}: {wrong}");
        }
        assert_eq!(rate("0"), Ok(None));
        assert!(rate("-0.5").is_err());
    }
}
