//! The hours in which a job may be sent: `08:00-20:00 Europe/Berlin`, `Mon-Fri 22:00-06:00`.
//!
//! A window is one or more spans of the day, each on all weekdays or on some, in one time zone. It is what
//! the clock on the wall there says that counts: where that is put forward, a span that is skipped does not
//! happen on that day; where it is put back, a span that comes twice is open twice. A span that ends before
//! it begins goes over midnight, and belongs to the weekday on which it begins.
//!
//! The rules of time zones are the system's where it has them (`/usr/share/zoneinfo`), else those that
//! infeed was built with. Errors: [`WindowError`].

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span as Distance, Timestamp};

use crate::clock::{self, Micros};

/// One window.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    spans: Vec<Span>,
    zone: TimeZone,
    zone_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    /// Of the days on which it begins, Monday first.
    days: [bool; 7],
    from: Time,
    /// Not included; not after `from`: of the next day.
    until: Time,
}

/// Why a text is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error(
        "`{0}` is no window: write HH:MM-HH:MM and a time zone, as in \"08:00-20:00 Europe/Berlin\" or \"Mon-Fri 22:00-06:00 UTC\""
    )]
    Form(String),
    #[error("`{0}` is no time of day: write HH:MM from 00:00 to 24:00")]
    Time(String),
    #[error("`{0}` begins when it ends: write 00:00-24:00 for the whole day")]
    Empty(String),
    #[error("`{0}` is no weekday: write Mon, Tue, Wed, Thu, Fri, Sat or Sun, or two of them with a hyphen")]
    Day(String),
    #[error("there is no time zone `{0}`: write its name in the IANA database, as in Europe/Berlin, or UTC")]
    Zone(String),
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

impl FromStr for Window {
    type Err = WindowError;

    /// Spans with commas between them, and the zone; without one it is the system's.
    fn from_str(text: &str) -> Result<Self, WindowError> {
        let (mut spans, mut zone_name) = (Vec::new(), None);
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        for (i, part) in parts.iter().enumerate() {
            let words: Vec<&str> = part.split_whitespace().collect();
            let Some(times) = words.iter().position(|word| word.starts_with(|c: char| c.is_ascii_digit()))
            else {
                return Err(WindowError::Form(text.to_owned()));
            };
            let days = match &words[..times] {
                [] => [true; 7],
                [days] => days_of(days)?,
                _ => return Err(WindowError::Form(text.to_owned())),
            };
            match &words[times + 1..] {
                [] => {}
                [zone] if i + 1 == parts.len() => zone_name = Some((*zone).to_owned()),
                _ => return Err(WindowError::Form(text.to_owned())),
            }
            let Some((from, until)) = words[times].split_once('-') else {
                return Err(WindowError::Form(text.to_owned()));
            };
            let from_text = from;
            let (from, until) = (time_of(from)?, time_of(until)?);
            if from_text.starts_with("24") {
                return Err(WindowError::Time(from_text.to_owned()));
            }
            if from == until && words[times] != "00:00-24:00" {
                return Err(WindowError::Empty(words[times].to_owned()));
            }
            spans.push(Span { days, from, until });
        }
        let zone_name = zone_name.unwrap_or_else(system_zone);
        let zone = TimeZone::get(&zone_name).map_err(|_| WindowError::Zone(zone_name.clone()))?;
        let zone_name = zone.iana_name().map_or(zone_name, str::to_owned);
        Ok(Self { spans, zone, zone_name })
    }
}

/// The name of the system's time zone; UTC where it has none.
fn system_zone() -> String {
    TimeZone::try_system()
        .ok()
        .and_then(|zone| zone.iana_name().map(str::to_owned))
        .unwrap_or("UTC".to_owned())
}

fn time_of(text: &str) -> Result<Time, WindowError> {
    let wrong = || WindowError::Time(text.to_owned());
    let parts: Vec<i8> = text
        .split(':')
        .map(|part| part.parse().ok().filter(|_| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    match parts[..] {
        [24, 0] | [24, 0, 0] => Ok(Time::midnight()),
        [h, m] => Time::new(h, m, 0, 0).map_err(|_| wrong()),
        [h, m, s] => Time::new(h, m, s, 0).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

fn days_of(text: &str) -> Result<[bool; 7], WindowError> {
    let day = |text: &str| {
        let found = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text));
        found.ok_or_else(|| WindowError::Day(text.to_owned()))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day(first)?, day(last)?);
    let mut days = [false; 7];
    let mut at = first;
    loop {
        days[at] = true;
        if at == last {
            return Ok(days);
        }
        at = (at + 1) % 7;
    }
}

/// As it is read; a job keeps it like that.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, span) in self.spans.iter().enumerate() {
            write!(f, "{}{span}", if i == 0 { "" } else { ", " })?;
        }
        write!(f, " {}", self.zone_name)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let first = (0..7).find(|&day| self.days[day] && !self.days[(day + 6) % 7]).unwrap_or(0);
            let count = self.days.iter().filter(|day| **day).count();
            match count {
                1 => write!(f, "{} ", DAYS[first])?,
                _ => write!(f, "{}-{} ", DAYS[first], DAYS[(first + count - 1) % 7])?,
            }
        }
        let until = if self.until == Time::midnight() { "24:00".to_owned() } else { time_text(self.until) };
        write!(f, "{}-{until}", time_text(self.from))
    }
}

fn time_text(time: Time) -> String {
    let form = if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
    time.strftime(form).to_string()
}

impl Window {
    /// Whether it is open at a moment of the wall clock.
    pub fn contains(&self, at: Micros) -> bool {
        let local = self.zone.to_datetime(timestamp(at));
        let (time, today) = (local.time(), day_index(local.date().weekday()));
        self.spans.iter().any(|span| {
            if span.from < span.until {
                return span.days[today] && span.from <= time && time < span.until;
            }
            (span.days[today] && span.from <= time) || (span.days[(today + 6) % 7] && time < span.until)
        })
    }

    /// The first moment from `at` on in which it is open; `None`: not within nine days.
    pub fn opens(&self, at: Micros) -> Option<Micros> {
        self.first(at, true)
    }

    /// The first moment from `at` on in which it is shut; `None`: not within nine days.
    pub fn closes(&self, at: Micros) -> Option<Micros> {
        self.first(at, false)
    }

    fn first(&self, at: Micros, open: bool) -> Option<Micros> {
        if self.contains(at) == open {
            return Some(at);
        }
        let now = timestamp(at);
        let date = self.zone.to_datetime(now).date();
        // it changes where a span begins or ends, and where the clock is put forward or back
        let mut moments: Vec<Timestamp> = Vec::new();
        for days in -1..=8i64 {
            let Ok(date) = date.checked_add(Distance::new().days(days)) else { continue };
            for time in self.spans.iter().flat_map(|span| [span.from, span.until]) {
                let local = self.zone.to_ambiguous_zoned(date.to_datetime(time));
                moments.extend(local.clone().earlier().ok().map(|zoned| zoned.timestamp()));
                moments.extend(local.later().ok().map(|zoned| zoned.timestamp()));
            }
        }
        let horizon = now.checked_add(Distance::new().hours(9 * 24)).ok()?;
        moments.extend(self.zone.following(now).map(|t| t.timestamp()).take_while(|t| *t <= horizon));
        let us = |moment: Timestamp| u64::try_from(moment.as_microsecond()).ok();
        let later = moments.into_iter().filter(|moment| *moment > now).filter_map(us);
        later.filter(|&moment| self.contains(moment) == open).min()
    }

    /// A moment as people there say it: `Mon 2026-11-23 08:00 Europe/Berlin`.
    pub fn local(&self, at: Micros) -> String {
        let local = self.zone.to_datetime(timestamp(at));
        let form = if local.second() == 0 { "%a %Y-%m-%d %H:%M" } else { "%a %Y-%m-%d %H:%M:%S" };
        format!("{} {}", local.strftime(form), self.zone_name)
    }
}

/// Several windows: open where one of them is. Without any it is always open.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Windows(Vec<Window>);

impl Windows {
    /// Reads what a job keeps.
    ///
    /// # Errors
    /// [`WindowError`], of the first that is none.
    pub fn parse(texts: &[String]) -> Result<Self, WindowError> {
        texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Self)
    }

    pub fn is_open(&self, at: Micros) -> bool {
        self.0.is_empty() || self.0.iter().any(|window| window.contains(at))
    }

    /// Why nothing goes now, with when it does; `None` while it is open.
    pub fn why_shut(&self, at: Micros) -> Option<String> {
        if self.is_open(at) {
            return None;
        }
        let opens = self.0.iter().filter_map(|window| Some((window.opens(at)?, window)));
        Some(match opens.min_by_key(|(opens, _)| *opens) {
            Some((opens, window)) => {
                format!(
                    "it waits for its window ({self}), until {} ({})",
                    window.local(opens),
                    clock::rfc3339(opens)
                )
            }
            None => format!("it waits for its window ({self})"),
        })
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(Window::to_string).collect();
        f.write_str(&texts.join("; "))
    }
}

fn timestamp(us: Micros) -> Timestamp {
    i64::try_from(us).ok().and_then(|us| Timestamp::from_microsecond(us).ok()).unwrap_or(Timestamp::MAX)
}

fn day_index(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
