//! Messages a second, as people write them: `50`, `0.5`. Errors: [`PerSecondError`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A rate of messages: 0.001 to 1,000,000 a second, in steps of a thousandth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerSecond {
    thousandths: u64,
}

/// The highest rate.
const MESSAGES_PER_SECOND_MAX: u64 = 1_000_000;

/// Why a text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no rate: write messages a second, from 0.001 to {MESSAGES_PER_SECOND_MAX}, as in 50 or 0.5"
)]
pub struct PerSecondError(String);

impl PerSecond {
    /// What a number says, rounded to a thousandth; `None` for what is no rate (0, negative, too high).
    pub fn new(per_second: f64) -> Option<Self> {
        let thousandths = (per_second * 1_000.0).round();
        let is_rate = (1.0..=(MESSAGES_PER_SECOND_MAX * 1_000) as f64).contains(&thousandths);
        is_rate.then_some(Self { thousandths: thousandths as u64 })
    }

    /// The rate that is nearest to a number; of what is none (NaN), the lowest: whoever computes a pace and errs
    /// lifts no limit by it.
    pub fn nearest(per_second: f64) -> Self {
        let thousandths = (per_second * 1_000.0).round().clamp(1.0, (MESSAGES_PER_SECOND_MAX * 1_000) as f64);
        Self { thousandths: (thousandths as u64).max(1) }
    }

    pub fn as_f64(self) -> f64 {
        self.thousandths as f64 / 1_000.0
    }
}

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_f64())
    }
}

impl FromStr for PerSecond {
    type Err = PerSecondError;

    fn from_str(text: &str) -> Result<Self, PerSecondError> {
        let digits = text.replace('_', "");
        let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number = digits.parse::<f64>().ok().filter(|_| is_plain);
        number.and_then(Self::new).ok_or_else(|| PerSecondError(text.to_owned()))
    }
}

impl Serialize for PerSecond {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for PerSecond {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| de::Error::custom(PerSecondError(number.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rate_is_read_as_it_is_written(thousandths in 1u64..=1_000_000_000) {
            let rate = PerSecond { thousandths };
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            let json = serde_json::to_string(&rate).unwrap();
            prop_assert_eq!(serde_json::from_str::<PerSecond>(&json).unwrap(), rate);
        }
    }

    #[test]
    fn a_pace_that_is_computed_never_comes_to_no_limit() {
        for (pace, nearest) in
            [(0.0, 0.001), (-3.0, 0.001), (f64::NAN, 0.001), (f64::INFINITY, 1e6), (2.5, 2.5)]
        {
            assert_eq!(PerSecond::nearest(pace).as_f64(), nearest, "{pace}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_the_remedy() {
        for bad in ["", "0", "-1", "1e3", "fast", "0.0001", "1000001", "inf", "NaN", "50/s"] {
            let error = bad.parse::<PerSecond>().unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("50 or 0.5"), "{error}");
        }
        assert_eq!("10_000".parse::<PerSecond>().unwrap().to_string(), "10000");
    }
}
