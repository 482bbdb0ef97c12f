//! The commands, one file each.

pub mod config;
pub mod exit;
pub mod make_list;
pub mod sink;
