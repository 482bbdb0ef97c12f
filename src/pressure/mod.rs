//! Everything that decides how many connections infeed into an MTA, how fast, and when.
//!
//! | file | is |
//! | --- | --- |
//! | `law` | the smallest number of connections that keeps the MTA busy (`connections = "auto"`) |
//! | `rate` | a limit of messages a second, smooth, changed at any time |
//! | `per_second` | the number of it, as people write it |
//! | `window` | the hours in which a job may be sent |
//! | `queue` | how much waits in the MTA's own queue |
//!
//! All but `queue` is pure: counts and times in, decisions out; no clock, no I/O, no chance. The law never decides on
//! fewer than `connections_min` connections or more than `connections_max`; how it decides is in
//! docs/pressure.md. Errors: those of reading a number or a window that people wrote.

pub mod law;
pub mod per_second;
pub mod queue;
pub mod rate;
pub mod window;
