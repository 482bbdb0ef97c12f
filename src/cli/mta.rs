//! `--mta`: which MTAs a command means.

use clap::Args;

use super::exit;
use super::session::Session;
use crate::config::Config;

/// The word that stands for the built-in MTA.
pub const SINK: &str = "sink";

/// Where to.
#[derive(Debug, Clone, Default, Args)]
pub struct MtaOption {
    /// HOST:PORT, unix:/PATH, or the name of a [[mta]] table (may be repeated: each MTA has connections of
    /// its own); `sink` for rehearsals into the built-in one. Without it, all that are configured
    #[arg(long, value_name = "MTA")]
    pub mta: Vec<String>,
}

impl MtaOption {
    /// The sink was asked for.
    pub fn is_sink(&self) -> bool {
        self.mta.iter().any(|mta| mta == SINK)
    }

    /// The one MTA that a submission is to go to, by its name, or by its address where it has none here:
    /// nobody who has only other MTAs takes the job then.
    ///
    /// # Errors
    /// The sink beside another MTA (64).
    fn pinned(&self, config: &Config) -> anyhow::Result<Option<String>> {
        if self.is_sink() && self.mta.len() > 1 {
            let message = "--mta sink stands alone: a rehearsal goes to the sink and nowhere else";
            return Err(exit::coded(exit::USAGE, message.to_owned()));
        }
        Ok(match &self.mta[..] {
            [one] if one == SINK => None,
            [one] => {
                let of_name = config.mta_entries.iter().find(|entry| entry.name == *one);
                Some(of_name.map_or_else(|| one.clone(), |entry| entry.name.clone()))
            }
            _ => None,
        })
    }

    /// Leaves the MTAs that were asked for in the session's configuration, and the one that a submission
    /// is to go to.
    ///
    /// # Errors
    /// One that is neither configured nor an address (64); as [`MtaOption::pinned`].
    pub fn choose(&self, session: &mut Session) -> anyhow::Result<()> {
        session.pinned = self.pinned(&session.config)?;
        if !self.mta.is_empty() && !self.is_sink() {
            session.config.select_mtas(&self.mta)?;
        }
        Ok(())
    }
}
