//! What Prometheus scrapes: every metric declared once, counted on the way, rendered when asked.
//!
//! | file | is |
//! | --- | --- |
//! | `catalogue` | every metric: name, kind, unit, labels, help; docs/metrics.md is made of it |
//! | `histogram` | a histogram of plain atomics |
//! | `lately` | what the phases took in the last seconds, for `status` |
//! | `recorder` | what a run counts on its hot path, by MTA and job |
//! | `text` | the exposition format; nothing undeclared gets into it |
//! | `run`, `sink`, `process` | the numbers of a run, of the sink, of the process, as that text |
//! | `spool` | what waits in the spool, read aside at most now and then |
//! | `exporter` | `/metrics`, `/healthz` and `/readyz`: who answers what |
//! | `http` | what is answered where; the listener is [`crate::http`] |
//!
//! Guarantees: what is counted here is what `status` and the report say, since it is counted at the same
//! place; the hot path does atomic additions alone; the number of series is bounded ([`JOB_SERIES_MAX`],
//! [`MTA_SERIES_MAX`]); a scrape never waits for a disk, but the first; nothing here decides or delays
//! anything. Errors: [`MetricsError`], at the start alone.
//!
//! There is no global registry and no `metrics` facade: all handles are fields, gauges are read when
//! they are asked for, and a histogram of atomics needs no upkeep and keeps no samples.

mod catalogue;
mod docs;
mod exporter;
mod histogram;
mod http;
mod lately;
mod process;
mod recorder;
mod run;
mod sink;
mod spool;
mod text;

pub use catalogue::{ALL, Kind, Metric, Part};
pub use docs::markdown;
pub use exporter::{Exporter, RunSource};
pub use histogram::Histogram;
pub use http::{MetricsError, Server};
pub use lately::{Lately, PhaseLately};
pub use recorder::{JOB_SERIES_MAX, JobSeries, MTA_SERIES_MAX, MtaSeries, Recorder};
