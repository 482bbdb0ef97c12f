//! What an operator can set, where each value came from, and where the spool is.
//!
//! Every setting is defined once, in [`settings`] (name, type, default, bound, what it is and why). From
//! that one table come the resolved [`Config`], the file's reader, `config sample`, `config show` and
//! `docs/configuration.md` (a test holds the committed file equal to the generated text).
//!
//! A value is taken from the first of: the command line, the environment (`INFEED_MTA_ADDRESS` sets
//! `mta.address`), the file, the default. The file is `--config FILE`, else `$INFEED_CONFIG`, else
//! `/etc/infeed/infeed.toml`, else `$XDG_CONFIG_HOME/infeed/infeed.toml`; the last two only if present.
//!
//! Guarantees: a [`Config`] that [`load`] returns lies within every bound and every relation between
//! settings; unknown names are refused, in the file and in the environment. Errors: [`ConfigErrors`],
//! all that is wrong at once, each naming the file and line (or variable, or flag), the value and the
//! remedy; exit code 78.

#[macro_use]
mod define;
mod docs;
mod error;
mod file;
mod load;
mod mtas;
mod nearest;
pub mod settings;
mod spool_dir;
mod value;

pub use docs::{markdown, sample};
pub use error::{ConfigError, ConfigErrors, Side};
pub use load::{Environment, Loaded, Origin, Request, load};
pub use mtas::{MtaEntry, ONLY_MTA, mta_table, mta_table_own};
pub use settings::{Catches, Config, Drain, Job, Mta, Retry, Spool, table};
pub use spool_dir::{resolve_spool_dir, resolve_spool_dir_in};
pub use value::{Bound, Field, OnDoubt, Setting, Value};

#[cfg(test)]
mod tests;
