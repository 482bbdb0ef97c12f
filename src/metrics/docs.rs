//! docs/metrics.md, made of the catalogue.

use std::fmt::Write as _;

use super::catalogue::{ALL, Kind, Metric, Part};

const HEAD: &str = "# Metrics

Made from the catalogue in `src/metrics/catalogue.rs`: change it there, then
`INFEED_UPDATE_DOCS=1 cargo test --lib metrics`.

`serve`, `drain`, `send` and `sink` answer Prometheus on the address of `--metrics` (or `metrics.listen`;
`sink` takes the flag alone):

```sh
infeed serve --metrics 127.0.0.1:9925
curl -s http://127.0.0.1:9925/metrics
```

| path | answers |
| --- | --- |
| `/metrics` | everything below, as text (format 0.0.4) |
| `/healthz` | 200 as long as the process answers |
| `/readyz` | 200 when the slices are owned and the journal can be written; else 503, with the reason in one line |

There is no password and nothing secret in it: job ids, MTA names and counts. An address that isn't of this
host's loopback is taken, with a warning: whoever can reach it can read it. On loopback that is whoever works on
this host, and, since any name in `Host` is answered, a page in a browser there whose name leads here (DNS
rebinding). The listener serves 64 connections at a time (one more takes the place of the oldest), takes requests
of up to 16 KiB, and closes a connection that sends no request within 10 s.

What these numbers say is what `infeed status` and the report say: each recipient is counted once, in the same
place. Counters begin at 0 when the process starts. The figures of the spool (backlog, jobs, disk) are read
aside, every 5 s at most and more seldom in a large spool, so that they take at most a hundredth of one core;
`infeed_spool_read_timestamp_seconds` says when. They are read only while somebody scrapes.

`infeed_deliveries_total` names a job by its id for up to 20 jobs at a time; what comes of others is in
`job=\"other\"`. A job keeps its series as long as it is drained; ten minutes after its last chunk another job
may have the place, and its series ends. So no series ever goes backwards; sums do when a series ends: take
`sum(rate(…))`, never `rate(sum(…))`. `mta=\"none\"` is what no MTA had a part in: suppressed recipients, messages
that can't be made. Beyond 62 MTAs the rest is `mta=\"other\"`.

Dashboards and alert rules are in [grafana/](../grafana/README.md), what to do about an alert in
[alerts.md](alerts.md).
";

/// The whole page.
pub fn markdown() -> String {
    let mut out = HEAD.to_owned();
    for (part, title) in [
        (Part::Run, "Of `serve`, `drain` and `send`"),
        (Part::Sink, "Of `sink`"),
        (Part::Process, "Of each of them"),
    ] {
        put(&mut out, format_args!("\n## {title}\n\n| metric | kind | unit | labels | is |\n"));
        out.push_str("| --- | --- | --- | --- | --- |\n");
        for metric in ALL.iter().filter(|metric| metric.part == part) {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, unit) = (metric.name, metric.kind.as_str(), metric.unit);
            put(
                &mut out,
                format_args!("| `{name}` | {kind} | {unit} | {} | {} |\n", labels.join(", "), metric.help()),
            );
        }
    }
    out.push_str("\n## Buckets\n\n");
    for metric in ALL.iter().filter(|metric| metric.kind == Kind::Histogram) {
        put(&mut out, format_args!("- `{}`, in {}: {}\n", metric.name, metric.unit, bounds(metric)));
    }
    out
}

fn bounds(metric: &Metric) -> String {
    metric.buckets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Writing to a `String` can't fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    if out.write_fmt(text).is_err() {
        unreachable!("a String takes what it is given");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_what_the_catalogue_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("INFEED_UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).expect("docs/metrics.md is written");
        }
        let committed = std::fs::read_to_string(path).expect("docs/metrics.md");
        assert!(committed == markdown(), "run INFEED_UPDATE_DOCS=1 cargo test --lib metrics");
    }
}
