//! Every crash point: what a process does is recorded, and each beginning of it is cut off by the death of
//! the process and by a power cut, with any part of what was not synced. What is left is recovered,
//! drained to the end, and judged; and the recovery itself is cut too.
//!
//! Promised at every point: a submission is there as a whole, or (never once it was answered) not at all;
//! a change of state that was answered holds; no outcome is forgotten that was synced; everybody gets a
//! final outcome, and the counts sum; whoever was sent to twice is marked, and they are no more than
//! N x D x R, and after a power cut `progress_unsynced_max` more; nothing is unreadable.

mod actor;
mod failed_sync;
mod judge;
mod known;
mod lockstep;
mod power;
mod scripts;

pub use judge::folder;
