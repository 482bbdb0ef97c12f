//! The durable queue. (Being written: see the submodules.)
pub mod check;
pub mod chunk;
pub mod codec;
pub mod dir;
pub mod error;
#[cfg(test)]
mod faulty;
pub mod fs;
mod hold;
pub mod id;
pub mod index;
pub mod job;
pub mod journal;
pub mod layout;
pub mod own;
pub mod owner;
mod pass;
mod recent;
mod recover;
mod replay;
pub mod report;
pub mod results;
mod state;
pub mod submission;
pub mod view;

pub use error::SpoolError;

#[cfg(test)]
mod tests;
