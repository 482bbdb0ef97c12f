//! `infeed tune`: what number of connections this MTA wants, measured with rehearsal messages.
//!
//! | file | is |
//! | --- | --- |
//! | `plan` | what is to be measured, how often, and how much mail that is at most |
//! | `target` | whether an MTA is on this host |
//! | `letters` | the rehearsal messages and whom they go to |
//! | `rehearsal` | one step's [`Work`](crate::infeed::Work): gives letters out, counts and times what comes back |
//! | `sweep` | all steps in their order, each with a pool of its own; stops at trouble |
//! | `trouble` | what stops a step, or all of it, and what the MTA said |
//! | `row` | what was measured at one point, over all rounds |
//! | `cpu` | what the processors did meanwhile |
//! | `judge` | the knee, and how sure it is (pure) |
//! | `bottleneck` | what limits the MTA next, reasoned from the rows (pure) |
//! | `remedy` | which MTA it is, and the name of its setting |
//! | `report`, `table`, `plot` | all of it for machines, for a terminal, and as SVG |
//!
//! Guarantees: never more letters than [`Plan::recipients_max`]; every transaction that is begun ends, or is
//! cut off after the grace; the same measurements give the same judgement and the same plot. Errors:
//! [`TuneError`], before anything is sent; what goes wrong later is in the report.

mod bottleneck;
mod cpu;
mod error;
mod judge;
mod letters;
mod plan;
mod plot;
mod rehearsal;
mod remedy;
mod report;
mod row;
mod sweep;
mod table;
mod target;
mod trouble;

pub use bottleneck::{Cause, Finding, findings};
pub use cpu::CpuShare;
pub use error::TuneError;
pub use judge::{Knee, Sureness, judge};
pub use letters::{Letters, LettersConfig};
pub use plan::{Plan, PlanConfig, Point};
pub use plot::svg;
pub use remedy::Mta;
pub use report::{Ended, Report};
pub use row::{Errors, Percentiles, Row, Spread};
pub use sweep::{SweepConfig, Swept, sweep};
pub use table::text;
pub use target::{Place, place};
pub use trouble::Trouble;
