//! (skeleton)
pub mod sink;
