//! A scrape in the exposition format of Prometheus, 0.0.4; `metrics-exporter-prometheus` writes its lines.
//!
//! Of that crate it is the format alone: its recorder keeps a series for as long as the process lives, or
//! drops it under those that hold it, and [`super::recorder`] does neither.
//!
//! Guarantees: each family stands together, once, under its declared name, help and kind, and its samples
//! have its labels, in their order. Label values are escaped. Nothing here fails.

use std::fmt::Display;

use indexmap::IndexMap;
use metrics::{Key, Label};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{write_help_line, write_metric_line, write_type_line};

use super::catalogue::{Kind, Metric};
use super::histogram::Histogram;

/// What it is called in `Content-Type`.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Of a line that is no bucket's.
const NO_BOUND: Option<(&str, &str)> = None;

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
        write_help_line(&mut self.out, metric.name, None, None, metric.help());
        write_type_line(&mut self.out, metric.name, None, None, metric.kind.as_str());
        Family { text: self, metric }
    }

    /// A metric without labels.
    pub fn one(&mut self, metric: &'static Metric, value: impl Display) {
        self.family(metric).sample(&[], value);
    }
}

/// The crate takes a backslash before another one or before a quote for an escape already.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\")
}

impl Family<'_> {
    /// A value for each label.
    fn labels(&self, values: &[&str]) -> LabelSet {
        let Metric { name, labels, .. } = self.metric;
        assert_eq!(labels.len(), values.len(), "a value for each label of {labels:?}");
        let pairs = labels.iter().zip(values);
        let pairs: Vec<Label> = pairs.map(|(label, value)| Label::new(*label, escaped(value))).collect();
        LabelSet::from_key_and_global(&Key::from_parts(*name, pairs), &IndexMap::new())
    }

    /// One number, with a value for each label.
    pub fn sample(&mut self, labels: &[&str], value: impl Display) {
        assert!(self.metric.kind != Kind::Histogram, "{} is a histogram", self.metric.name);
        let labels = self.labels(labels);
        write_metric_line(&mut self.text.out, self.metric.name, None, &labels, NO_BOUND, value, None);
    }

    /// One histogram.
    pub fn histogram(&mut self, labels: &[&str], histogram: &Histogram) {
        let Metric { name, buckets, .. } = self.metric;
        let (labels, read) = (self.labels(labels), histogram.read());
        let out = &mut self.text.out;
        let bounds = buckets.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&read.cumulative) {
            write_metric_line(out, name, Some("bucket"), &labels, Some(("le", bound)), count, None);
        }
        let all = read.cumulative.last().copied().unwrap_or_default();
        write_metric_line(out, name, Some("sum"), &labels, NO_BOUND, read.sum, None);
        write_metric_line(out, name, Some("count"), &labels, NO_BOUND, all, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalogue::{IN_FLIGHT, INFEEDS_OPEN, TRANSACTION_RECIPIENTS};

    #[test]
    fn a_label_can_hold_any_text() {
        for (label, written) in [
            ("a\"b\\c\nd", r#"a\"b\\c\nd"#),
            (r"a\\b", r"a\\\\b"),
            (r#"a\"b"#, r#"a\\\"b"#),
            ("a\\\nb", r"a\\\nb"),
            (r"a\", r"a\\"),
        ] {
            let mut text = Text::default();
            text.family(&INFEEDS_OPEN).sample(&[label], 3);
            let text = text.into_string();
            assert!(
                text.ends_with(&format!("infeed_infeeds_open{{mta=\"{written}\"}} 3\n")),
                "{label:?}: {text}"
            );
        }
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
