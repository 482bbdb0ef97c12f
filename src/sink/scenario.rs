//! Scenarios: a timeline of settings, in TOML. The format is in docs/sink.md, examples are in
//! examples/scenarios.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::error::SinkError;
use super::settings::Settings;

/// Settings from the start, and the steps that change them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scenario {
    /// In force from the start; flags win over them.
    pub set: Settings,
    /// In order; later steps win over earlier ones, and all over flags.
    pub steps: Vec<Step>,
}

/// One change of settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub start: Start,
    /// `None`: to the end.
    pub lasts: Option<Duration>,
    pub set: Settings,
}

/// When a step begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// So long after the sink's start.
    At(Duration),
    /// Once so many messages were taken.
    AfterMessages(u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    #[serde(default, rename = "description")]
    _description: Option<String>,
    #[serde(default)]
    set: Settings,
    #[serde(default)]
    step: Vec<Spanned<StepFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    at_s: Option<f64>,
    after_messages: Option<u64>,
    for_s: Option<f64>,
    set: Settings,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// [`SinkError::ScenarioRead`]; [`SinkError::Scenario`] with the line and the remedy.
    pub fn load(path: &Path) -> Result<Self, SinkError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| SinkError::ScenarioRead { path: path.into(), cause })?;
        Self::parse(&text, path)
    }

    /// Reads a text; `path` is what errors name.
    ///
    /// # Errors
    /// [`SinkError::Scenario`] with the line and the remedy.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SinkError> {
        let wrong =
            |at: usize, what: String| SinkError::Scenario { path: path.into(), line: line(text, at), what };
        let file: ScenarioFile = toml::from_str(text).map_err(|e| {
            let what = format!("{}; every setting is listed in docs/sink.md", e.message().trim_end());
            wrong(e.span().map_or(0, |span| span.start), what)
        })?;
        let steps = file.step.into_iter().map(|step| {
            let at = step.span().start;
            step.into_inner().resolve().map_err(|what| wrong(at, what.to_owned()))
        });
        Ok(Self { set: file.set, steps: steps.collect::<Result<_, _>>()? })
    }
}

impl StepFile {
    fn resolve(self) -> Result<Step, &'static str> {
        let start = match (self.at_s, self.after_messages) {
            (Some(at_s), None) => {
                Start::At(seconds(at_s).ok_or("at_s must be a number of seconds, 0 to 1000000000")?)
            }
            (None, Some(count)) => Start::AfterMessages(count),
            (Some(_), Some(_)) => return Err("a step has at_s or after_messages, not both; remove one"),
            (None, None) => return Err("a step needs at_s or after_messages; add one"),
        };
        let lasts =
            match self.for_s {
                None => None,
                Some(for_s) => Some(seconds(for_s).filter(|lasts| !lasts.is_zero()).ok_or(
                    "for_s must be a number of seconds above 0; leave it out for a step without end",
                )?),
            };
        if self.set == Settings::default() {
            return Err("a step must set something, for instance set = { latency_ms = 100 }");
        }
        Ok(Step { start, lasts, set: self.set })
    }
}

fn seconds(s: f64) -> Option<Duration> {
    (0.0..=1e9).contains(&s).then(|| Duration::from_secs_f64(s))
}

/// The line of an offset, from 1.
fn line(text: &str, offset: usize) -> usize {
    let offset = offset.min(text.len());
    text.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Scenario::parse(text, Path::new("s.toml")).unwrap_err().to_string()
    }

    #[test]
    fn steps_come_out_as_written() {
        let text = "description = \"x\"\nset.latency_ms = 3\n[[step]]\nat_s = 1.5\nfor_s = 2\n\
                    set = { refuse_connects = true }\n[[step]]\nafter_messages = 10\n\
                    set = { fail = [\"rcpt=451%5\"], without = [\"dsn\", \"8bitmime\"], drop_after_dot_percent = 1 }\n";
        let scenario = Scenario::parse(text, Path::new("s.toml")).unwrap();
        assert_eq!(scenario.set.latency_ms, Some(3));
        assert_eq!(scenario.steps[0].start, Start::At(Duration::from_millis(1500)));
        assert_eq!(scenario.steps[0].lasts, Some(Duration::from_secs(2)));
        assert_eq!(scenario.steps[1].start, Start::AfterMessages(10));
        assert_eq!(scenario.steps[1].lasts, None);
    }

    #[test]
    fn an_error_names_file_line_and_remedy() {
        for (text, line, words) in [
            ("\n\nlatency = 3\n", 3, "unknown field `latency`"),
            ("[[step]]\nat_s = 1\nset = { latency = 3 }\n", 3, "latency_ms"),
            ("\n[[step]]\nset = { latency_ms = 3 }\n", 2, "add one"),
            ("[[step]]\nat_s = 1\nafter_messages = 2\nset = { latency_ms = 3 }\n", 1, "remove one"),
            ("[[step]]\nat_s = -1\nset = { latency_ms = 3 }\n", 1, "at_s must be"),
            ("[[step]]\nat_s = 1\nfor_s = 0\nset = { latency_ms = 3 }\n", 1, "leave it out"),
            ("[[step]]\nat_s = 1\nset = {}\n", 1, "must set something"),
            ("[[step]]\nat_s = 1\n\nset = { fail = [\"rcpt=999\"] }\n", 4, "rcpt=451%5"),
            ("set.drop_after_dot_percent = 101\n", 1, "0 to 100"),
            ("x = \n", 1, "docs/sink.md"),
        ] {
            let error = error(text);
            assert!(error.starts_with(&format!("s.toml, line {line}: ")), "{text}: {error}");
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
