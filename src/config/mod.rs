//! What an operator can set, where each value came from, and where the spool is.
//!
//! Every setting is defined once, in [`settings`] (name, type, default, bound, what it is and why). From
//! that one table come the resolved [`Config`], the file's reader, `config sample`, `config show`, the
//! help of the flags that stand for a setting, `infeed.toml(5)` and `docs/configuration.md` (a test holds
//! the committed file equal to the generated text). Several MTAs ([`MtaEntry`]) are `[[mta]]` tables, each
//! with the settings of the group and with values of its own.
//!
//! A value is taken from the first of: the command line, the environment (`INFEED_MTA_ADDRESS` sets
//! `mta.address`), the file, the default. The file is `--config FILE`, else `$INFEED_CONFIG`, else
//! `/etc/infeed/infeed.toml`, else `$XDG_CONFIG_HOME/infeed/infeed.toml`; the last two only if present.
//!
//! Guarantees: a [`Config`] that [`load`] returns lies within every bound and every relation between
//! settings; unknown names are refused, in the file and in the environment. Errors: [`ConfigErrors`],
//! all that is wrong at once, each naming the file and line (or variable, or flag), the value and the
//! remedy; exit code 64 where nothing but the command line is wrong, else 78.

mod connections;
#[macro_use]
mod define;
mod docs;
mod error;
mod file;
mod flags;
mod load;
mod log_format;
mod mtas;
mod nearest;
mod rates;
pub mod settings;
mod spool_dir;
mod text;
mod tls_mode;
mod value;

pub use connections::{CONNECTIONS_MAX, Connections};
pub(crate) use docs::spoken;
pub use docs::{markdown, mta_example, sample};
pub use error::{ConfigError, ConfigErrors, Side};
pub use flags::{SETTING_FLAGS, flag_help, setting_of_flag};
pub use load::{Environment, Loaded, Origin, Request, load};
pub use log_format::LogFormat;
pub use mtas::{MtaEntry, ONLY_MTA, mta_table, mta_table_own};
pub use rates::{DomainRates, Rate};
pub use settings::{
    Admin, Catches, Config, Control, DeliveryLog, Drain, Job, Log, Mta, Rates, Retention, Retry, Spool,
    Webhook, table,
};
pub use spool_dir::{resolve_spool_dir, resolve_spool_dir_in};
pub use text::NO_LISTENER;
pub use tls_mode::TlsMode;
pub use value::{Bound, Field, OnDoubt, Setting, Value};

/// The groups of settings with what each is about, in the order of the sample file.
pub fn groups() -> impl Iterator<Item = (&'static str, &'static str)> {
    settings::GROUPS.iter().map(|(group, about)| (*group, about.trim()))
}

#[cfg(test)]
mod tests;
