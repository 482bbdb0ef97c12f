//! Pressure: what decides how much goes to an MTA, and when.
//!
//! | file | is |
//! | --- | --- |
//! | `rate` | a limit of messages a second, smooth, changed at any time |
//! | `per_second` | the number of it, as people write it |
//! | `window` | the hours in which a job may be sent |
//!
//! All pure: time is given, never asked for.

pub mod per_second;
pub mod rate;
pub mod window;
