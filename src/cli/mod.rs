//! (skeleton)

pub mod config;
pub mod exit;
