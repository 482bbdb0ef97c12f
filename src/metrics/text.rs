//! The exposition format of Prometheus, 0.0.4.
//!
//! Guarantees: each family stands together, once, under its declared name, help and kind, and its samples
//! have its labels, in their order. Label values are escaped. Nothing here fails.

use std::fmt::{Display, Write as _};

use super::catalogue::{Kind, Metric};
use super::histogram::Histogram;

/// What it is called in `Content-Type`.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A scrape in the making.
#[derive(Debug, Default)]
pub(super) struct Text {
    out: String,
    begun: Vec<&'static str>,
}

/// Where the samples of one metric go.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut Text,
    metric: &'static Metric,
}

impl Text {
    pub fn into_string(self) -> String {
        self.out
    }

    /// Begins a metric; its samples follow.
    ///
    /// # Panics
    /// When it was begun before: samples of one metric stand together.
    pub fn family(&mut self, metric: &'static Metric) -> Family<'_> {
        assert!(!self.begun.contains(&metric.name), "{} twice in a scrape", metric.name);
        self.begun.push(metric.name);
        let (name, kind) = (metric.name, metric.kind.as_str());
        self.put(format_args!("# HELP {name} {}\n# TYPE {name} {kind}\n", metric.help()));
        Family { text: self, metric }
    }

    /// A metric without labels.
    pub fn one(&mut self, metric: &'static Metric, value: impl Display) {
        self.family(metric).sample(&[], value);
    }

    /// Writing to a `String` can't fail.
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        if self.out.write_fmt(text).is_err() {
            unreachable!("a String takes what it is given");
        }
    }

    fn labels(&mut self, names: &[&str], values: &[&str], bound: Option<&str>) {
        assert_eq!(names.len(), values.len(), "a value for each label of {names:?}");
        let pairs = names.iter().zip(values).map(|(name, value)| (*name, *value));
        let mut open = false;
        for (name, value) in pairs.chain(bound.map(|bound| ("le", bound))) {
            self.out.push_str(if open { "," } else { "{" });
            open = true;
            self.out.push_str(name);
            self.out.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
        }
        if open {
            self.out.push('}');
        }
    }
}

impl Family<'_> {
    /// One number, with a value for each label.
    pub fn sample(&mut self, labels: &[&str], value: impl Display) {
        assert!(self.metric.kind != Kind::Histogram, "{} is a histogram", self.metric.name);
        self.text.out.push_str(self.metric.name);
        self.text.labels(self.metric.labels, labels, None);
        self.text.put(format_args!(" {value}\n"));
    }

    /// One histogram.
    pub fn histogram(&mut self, labels: &[&str], histogram: &Histogram) {
        let Metric { name, labels: names, buckets, .. } = self.metric;
        let read = histogram.read();
        let bounds = buckets.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&read.cumulative) {
            self.text.put(format_args!("{name}_bucket"));
            self.text.labels(names, labels, Some(&bound));
            self.text.put(format_args!(" {count}\n"));
        }
        let all = read.cumulative.last().copied().unwrap_or_default();
        for (suffix, value) in [("sum", read.sum), ("count", all as f64)] {
            self.text.put(format_args!("{name}_{suffix}"));
            self.text.labels(names, labels, None);
            self.text.put(format_args!(" {value}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalogue::{IN_FLIGHT, INFEEDS_OPEN, TRANSACTION_RECIPIENTS};

    #[test]
    fn a_label_can_hold_any_text() {
        let mut text = Text::default();
        text.family(&INFEEDS_OPEN).sample(&["a\"b\\c\nd"], 3);
        let text = text.into_string();
        assert!(text.ends_with("infeed_infeeds_open{mta=\"a\\\"b\\\\c\\nd\"} 3\n"), "{text}");
    }

    #[test]
    fn a_histogram_ends_in_its_sum_and_count() {
        let histogram = Histogram::of(&TRANSACTION_RECIPIENTS);
        histogram.observe_count(7);
        let mut text = Text::default();
        text.family(&TRANSACTION_RECIPIENTS).histogram(&["m"], &histogram);
        let text = text.into_string();
        for line in [
            "infeed_transaction_recipients_bucket{mta=\"m\",le=\"5\"} 0\n",
            "infeed_transaction_recipients_bucket{mta=\"m\",le=\"10\"} 1\n",
            "infeed_transaction_recipients_bucket{mta=\"m\",le=\"+Inf\"} 1\n",
            "infeed_transaction_recipients_sum{mta=\"m\"} 7\n",
            "infeed_transaction_recipients_count{mta=\"m\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    #[should_panic(expected = "twice in a scrape")]
    fn a_metric_stands_once_in_a_scrape() {
        let mut text = Text::default();
        text.one(&IN_FLIGHT, 1);
        text.one(&IN_FLIGHT, 2);
    }
}
