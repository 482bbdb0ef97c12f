//! (skeleton)
pub mod make_list;
