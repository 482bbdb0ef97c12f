//! The durable queue: jobs, chunks, progress.
//!
//! Directory equals state; every change of state is one rename; a submission is all or nothing.
//!
//! | folder | state of a job | leaves it by |
//! | --- | --- | --- |
//! | `incoming/<job>` | being written; swept when nobody locks it | commit → `active` |
//! | `active/<job>` | drained | all final → `done`; breaker, `job pause` → `paused`; `job cancel` → `cancelled` |
//! | `paused/<job>` | left alone | `job resume` → `active`; `job cancel` → `cancelled` |
//! | `cancelled/<job>`, `done/<job>` | ended; report kept | `job remove`, retention → `removed` |
//! | `removed/` | nobody's any more | unlinked, bit by bit |
//!
//! Guarantees. Nothing committed is ever lost. After a process death at most N × D × R recipients may
//! be sent twice, after a power cut also at most `progress_unsynced_max` more, and each that may have
//! been is marked `possible_repeat`. An orderly end (signal, pause, cancel, rotation) costs nothing.
//! What can't be read costs itself alone: it goes to `quarantine/` with the reason, the rest goes on.
//!
//! No other stage knows a path: they use [`Spool`] and [`Owner`]. Errors: [`SpoolError`].

mod api;
mod aside;
pub mod check;
pub mod chunk;
pub mod codec;
mod committer;
mod create;
pub mod dir;
#[cfg(test)]
mod disk;
mod doors;
pub mod domains;
pub mod error;
#[cfg(test)]
mod faulty;
pub mod fs;
#[cfg(test)]
mod fuzz;
mod hold;
pub mod id;
pub mod index;
pub mod job;
pub mod journal;
pub mod layout;
mod offer;
pub mod own;
pub mod owner;
pub mod pack;
mod pack_view;
mod pass;
mod recent;
#[cfg(test)]
mod recorder;
mod recover;
mod replay;
pub mod report;
pub mod results;
pub mod retention;
mod standstill;
mod state;
pub mod submission;
pub mod view;
mod watch;
mod whole;

pub use api::{Owner, Spool};
pub use check::Checked;
pub use chunk::{Chunk, RecipientRecord};
pub use dir::{DirSpool, Settings};
pub use domains::DomainKey;
pub use error::SpoolError;
pub use fs::Space as SpoolSpace;
pub use id::{ChunkName, Counts, JobId, Outcome};
pub use index::JobDue;
pub use job::{JobMeta, OnDoubt, PRIORITY_DEFAULT, PRIORITY_MAX};
pub use layout::JobState;
pub use offer::{Waiting, WaitingDomain};
pub use owner::{Claim, Claimed};
pub use pack::{Pack, PackContent, PackedJob};
pub use pass::PassEnd;
pub use recover::Recovered;
pub use report::ReportLine;
pub use results::Settled;
pub use retention::{ExpiredJob, Pace, RetentionSettings};
pub use standstill::Standstill;
pub use state::{Change, Pacing, Requested};
pub use submission::{Begin, Submission};
pub use view::JobView;
pub use watch::{JobChange, JobWatch, Watched, is_the_breakers};

#[cfg(test)]
mod pack_tests;
#[cfg(test)]
mod tests;
