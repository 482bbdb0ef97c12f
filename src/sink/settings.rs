//! What the sink offers and how it misbehaves: each setting defined once, for the command line
//! (`--latency-ms`) and for scenarios (`latency_ms`), and resolved into a `Behaviour`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::service::{KneeStyle, Service};

/// Settings as written; what is absent keeps the value below it (scenario step over flag over default).
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Extensions not to offer, e.g. pipelining,dsn
    #[arg(long, value_name = "EXTENSIONS", value_delimiter = ',', value_enum)]
    pub without: Option<Vec<Extension>>,
    /// Largest content in octets; 0: no limit is declared [default: 52428800]
    #[arg(long, value_name = "OCTETS")]
    pub size_max: Option<u64>,
    /// Wait before each write of replies, in ms: a round trip, once a pipelined group
    #[arg(long, value_name = "MS")]
    pub latency_ms: Option<u64>,
    /// Wait before the banner, in ms
    #[arg(long, value_name = "MS")]
    pub banner_delay_ms: Option<u64>,
    /// Say 421 4.7.0 to every connection past K; 0: no limit
    #[arg(long, value_name = "K")]
    pub connections_max: Option<u64>,
    /// Fail at a stage: STAGE=CODE%PERCENT, e.g. rcpt=451%5; stages: connect, banner, ehlo, mail, rcpt,
    /// data, content; CODE may be `drop` (close without a word); may be given several times
    #[arg(long, value_name = "RULE")]
    pub fail: Option<Vec<FailRule>>,
    /// Close the connection when content begins; the message is not taken
    #[arg(long, value_name = "PERCENT")]
    pub drop_before_dot_percent: Option<Percent>,
    /// Take the message, then close the connection without a reply
    #[arg(long, value_name = "PERCENT")]
    pub drop_after_dot_percent: Option<Percent>,
    /// Say 452 4.3.1 to every MAIL
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub storage_full: Option<bool>,
    /// Close the listener: connects are refused, sessions go on
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub refuse_connects: Option<bool>,
    /// Past K open connections a message takes longer, by (open / K)²; 0: no knee
    #[arg(long, value_name = "K")]
    pub knee: Option<u64>,
    /// Past the knee: thrash (goodput falls) or flat (by open / K: goodput stays) [default: thrash]
    #[arg(long, value_enum, value_name = "STYLE")]
    pub knee_style: Option<KneeStyle>,
    /// Time that each message takes at its final dot, in µs [default: 0, or 1000 with --knee]
    #[arg(long, value_name = "US")]
    pub service_us: Option<u64>,
    /// That, and so many µs more for each open connection, as with group commit
    #[arg(long, value_name = "US")]
    pub service_us_per_connection: Option<u64>,
    /// And so many µs more for each KiB of content
    #[arg(long, value_name = "US")]
    pub service_us_per_kib: Option<u64>,
    /// Each message's service takes up to so many percent less or more
    #[arg(long, value_name = "PERCENT")]
    pub service_noise_percent: Option<Percent>,
    /// A queue behind the sink drains at R messages per second; 0: no queue
    #[arg(long, value_name = "R")]
    pub drain_rate: Option<u64>,
    /// While that queue holds more than Q messages, a transaction's first RCPT reply comes 1 s late
    /// [default: 1000]
    #[arg(long, value_name = "Q")]
    pub queue_max: Option<u64>,
    /// Refuse MAIL after this many in one connection; 0: no limit
    #[arg(long, value_name = "COUNT")]
    pub messages_per_connection_max: Option<u64>,
    /// How that limit is said: exim (421, the connection stays open) or opensmtpd (452 4.5.3)
    #[arg(long, value_enum, value_name = "STYLE")]
    pub session_limit_style: Option<SessionLimitStyle>,
    /// Say 452 4.5.3 to recipients past this many in one transaction; 0: no limit
    #[arg(long, value_name = "COUNT")]
    pub recipients_per_transaction_max: Option<u64>,
    /// Say 503 to whatever follows the final dot in its group, as Haraka does
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_group_across_dot: Option<bool>,
    /// Say 554 and close where input comes before the reply that it must wait for, as Exim does
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub strict_sync: Option<bool>,
}

impl Settings {
    /// These settings where given, else those of `base`.
    pub fn over(&self, base: &Self) -> Self {
        macro_rules! first_given {
            ($($field:ident),* $(,)?) => {
                Self { $($field: self.$field.clone().or_else(|| base.$field.clone())),* }
            };
        }
        first_given!(
            without,
            size_max,
            latency_ms,
            banner_delay_ms,
            connections_max,
            fail,
            drop_before_dot_percent,
            drop_after_dot_percent,
            storage_full,
            refuse_connects,
            knee,
            knee_style,
            service_us,
            service_us_per_connection,
            service_us_per_kib,
            service_noise_percent,
            drain_rate,
            queue_max,
            messages_per_connection_max,
            session_limit_style,
            recipients_per_transaction_max,
            no_group_across_dot,
            strict_sync,
        )
    }
}

/// `Settings` with every default filled in: what sessions look at. 0 in a bound means none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Behaviour {
    pub offers: Offers,
    pub size_max_octets: u64,
    pub latency_ms: u64,
    pub banner_delay_ms: u64,
    pub connections_max: u64,
    pub fail: Vec<FailRule>,
    pub drop_before_dot: Percent,
    pub drop_after_dot: Percent,
    pub storage_full: bool,
    pub refuse_connects: bool,
    pub service: Service,
    pub drain_rate_per_s: u64,
    pub queue_max: u64,
    pub messages_per_connection_max: u64,
    pub session_limit_style: SessionLimitStyle,
    pub recipients_per_transaction_max: u64,
    pub no_group_across_dot: bool,
    pub strict_sync: bool,
}

/// 50 MiB: above any mailing that makes sense, and small enough to be held in memory by each session.
const SIZE_MAX_OCTETS_DEFAULT: u64 = 50 * 1024 * 1024;
/// A twentieth of Postfix's `qmgr_message_active_limit`: reached within seconds at load-test rates.
const QUEUE_MAX_DEFAULT: u64 = 1_000;

impl From<&Settings> for Behaviour {
    fn from(s: &Settings) -> Self {
        Self {
            offers: Offers::all_but(s.without.as_deref().unwrap_or_default()),
            size_max_octets: s.size_max.unwrap_or(SIZE_MAX_OCTETS_DEFAULT),
            latency_ms: s.latency_ms.unwrap_or(0),
            banner_delay_ms: s.banner_delay_ms.unwrap_or(0),
            connections_max: s.connections_max.unwrap_or(0),
            fail: s.fail.clone().unwrap_or_default(),
            drop_before_dot: s.drop_before_dot_percent.unwrap_or_default(),
            drop_after_dot: s.drop_after_dot_percent.unwrap_or_default(),
            storage_full: s.storage_full.unwrap_or(false),
            refuse_connects: s.refuse_connects.unwrap_or(false),
            service: Service::from(s),
            drain_rate_per_s: s.drain_rate.unwrap_or(0),
            queue_max: s.queue_max.unwrap_or(QUEUE_MAX_DEFAULT),
            messages_per_connection_max: s.messages_per_connection_max.unwrap_or(0),
            session_limit_style: s.session_limit_style.unwrap_or_default(),
            recipients_per_transaction_max: s.recipients_per_transaction_max.unwrap_or(0),
            no_group_across_dot: s.no_group_across_dot.unwrap_or(false),
            strict_sync: s.strict_sync.unwrap_or(false),
        }
    }
}

impl Behaviour {
    /// The fault of the first rule for `stage` whose throw hits.
    pub fn throw(&self, stage: Stage, rng: &mut fastrand::Rng) -> Option<Fault> {
        self.fail.iter().filter(|r| r.stage == stage).find(|r| r.percent.hits(rng)).map(|r| r.fault)
    }
}

/// An SMTP service extension that the sink knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extension {
    Pipelining,
    #[value(name = "8bitmime")]
    #[serde(rename = "8bitmime")]
    EightBitMime,
    Smtputf8,
    #[value(name = "enhancedstatuscodes")]
    EnhancedStatusCodes,
    Size,
    Dsn,
    Chunking,
    Xverp,
}

/// What EHLO shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offers {
    pub pipelining: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub enhanced_status_codes: bool,
    pub size: bool,
    pub dsn: bool,
    pub chunking: bool,
    pub xverp: bool,
}

impl Offers {
    fn all_but(without: &[Extension]) -> Self {
        let has = |e| !without.contains(&e);
        Self {
            pipelining: has(Extension::Pipelining),
            eight_bit_mime: has(Extension::EightBitMime),
            smtputf8: has(Extension::Smtputf8),
            enhanced_status_codes: has(Extension::EnhancedStatusCodes),
            size: has(Extension::Size),
            dsn: has(Extension::Dsn),
            chunking: has(Extension::Chunking),
            xverp: has(Extension::Xverp),
        }
    }
}

/// How a limit of messages a connection is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionLimitStyle {
    /// `421 too many messages in this connection`; the connection stays open.
    #[default]
    Exim,
    /// `452 4.5.3 … Too many messages sent`; RSET does not help.
    Opensmtpd,
}

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In place of the banner, then closed.
    Connect,
    /// As the banner; the session stays open and answers 503 until QUIT (RFC 5321 §3.1).
    Banner,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    /// In reply to the final dot; the message is not taken.
    Content,
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A reply of 400 to 599; 421 also closes the connection.
    Reply(u16),
    /// The connection is closed without a word.
    Drop,
}

/// `STAGE=CODE%PERCENT`; without a percentage, always.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct FailRule {
    pub stage: Stage,
    pub fault: Fault,
    pub percent: Percent,
}

impl FromStr for FailRule {
    type Err = String;

    fn from_str(rule: &str) -> Result<Self, String> {
        let bad = |what: &str| {
            format!("`{rule}` is no rule: {what}; write STAGE=CODE%PERCENT, for instance rcpt=451%5")
        };
        let (stage, rest) = rule.split_once('=').ok_or_else(|| bad("there is no `=`"))?;
        let stage = match stage {
            "connect" => Stage::Connect,
            "banner" => Stage::Banner,
            "ehlo" => Stage::Ehlo,
            "mail" => Stage::Mail,
            "rcpt" => Stage::Rcpt,
            "data" => Stage::Data,
            "content" => Stage::Content,
            _ => {
                return Err(bad("the stage must be connect, banner, ehlo, mail, rcpt, data or content"));
            }
        };
        let (code, percent) = rest.split_once('%').unwrap_or((rest, "100"));
        let fault = if code == "drop" { Some(Fault::Drop) } else { failure_code(code).map(Fault::Reply) };
        let fault = fault.ok_or_else(|| bad("the code must be 400 to 599, or `drop`"))?;
        Ok(Self { stage, fault, percent: percent.parse().map_err(|e: String| bad(&e))? })
    }
}

impl TryFrom<String> for FailRule {
    type Error = String;

    fn try_from(rule: String) -> Result<Self, String> {
        rule.parse()
    }
}

/// Three digits, 400 to 599.
pub(super) fn failure_code(digits: &str) -> Option<u16> {
    if digits.len() != 3 {
        return None;
    }
    digits.parse().ok().filter(|code| (400..600).contains(code))
}

/// A share, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(try_from = "f64")]
pub struct Percent(f64);

impl Percent {
    /// A throw; never at 0, always at 100.
    pub(super) fn hits(self, rng: &mut fastrand::Rng) -> bool {
        self.0 > 0.0 && rng.f64() * 100.0 < self.0
    }

    /// 0 to 1.
    pub fn share(self) -> f64 {
        self.0 / 100.0
    }
}

impl TryFrom<f64> for Percent {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        if (0.0..=100.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(format!("{share} is no percentage; write 0 to 100"))
        }
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(share: &str) -> Result<Self, String> {
        let number: f64 = share.parse().map_err(|_| format!("`{share}` is no percentage; write 0 to 100"))?;
        number.try_into()
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_stage_code_and_share() {
        let rule: FailRule = "rcpt=451%5".parse().unwrap();
        assert_eq!(rule, FailRule { stage: Stage::Rcpt, fault: Fault::Reply(451), percent: Percent(5.0) });
        let rule: FailRule = "content=drop".parse().unwrap();
        assert_eq!(rule.fault, Fault::Drop);
        assert_eq!(rule.percent, Percent(100.0));
    }

    #[test]
    fn a_bad_rule_is_refused_with_the_remedy() {
        for bad in ["rcpt", "rcpt=250", "rcpt=4511", "vrfy=451", "rcpt=451%101", "rcpt=451%x", "rcpt=451%nan"]
        {
            let error = bad.parse::<FailRule>().unwrap_err();
            assert!(error.contains("rcpt=451%5"), "{bad}: {error}");
        }
    }

    #[test]
    fn zero_percent_never_hits_and_a_hundred_always() {
        let mut rng = fastrand::Rng::with_seed(1);
        assert!((0..10_000).all(|_| !Percent(0.0).hits(&mut rng)));
        assert!((0..10_000).all(|_| Percent(100.0).hits(&mut rng)));
    }

    #[test]
    fn settings_given_win_over_those_below() {
        let base = Settings { latency_ms: Some(5), storage_full: Some(true), ..Default::default() };
        let step = Settings { storage_full: Some(false), ..Default::default() };
        let both = Behaviour::from(&step.over(&base));
        assert_eq!((both.latency_ms, both.storage_full), (5, false));
    }
}
