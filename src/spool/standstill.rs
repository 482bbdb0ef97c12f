//! `pause --all`: a standstill of the whole spool, over every restart.
//!
//! One file in the spool's root says that nothing may be sent, since when, and why. It is there or it is
//! not: to look costs one `stat(2)`, and a file that can't be read is a standstill too. Submissions go
//! on meanwhile. Errors: those of the file system.

use serde::{Deserialize, Serialize};

use super::dir::DirSpool;
use super::error::{At, Result, SpoolError};
use super::hold::Turn;
use crate::clock::{self, Micros};
use crate::logs;

/// Nothing is sent until `resume --all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standstill {
    /// When it began; 0 when its file can't be read.
    pub since_us: Micros,
    pub reason: String,
}

impl DirSpool {
    /// Begins a standstill, durably, and gives the one that holds now: an earlier one keeps its reason.
    pub fn pause_all(&self, reason: &str) -> Result<Standstill> {
        let _turn = Turn::take(&self.layout.commands())?;
        if let Some(standstill) = self.standstill()? {
            // anew: whoever began it may have failed, or died, before it was durable
            self.replace_toml(&self.layout.standstill(), &standstill)?;
            return Ok(standstill);
        }
        let standstill = Standstill { since_us: clock::now_us(), reason: reason.to_owned() };
        self.replace_toml(&self.layout.standstill(), &standstill)?;
        tracing::info!(target: logs::STATE, state = "standstill", reason, "everything is paused: {reason}");
        Ok(standstill)
    }

    /// Ends the standstill, durably; `None` when there was none.
    pub fn resume_all(&self) -> Result<Option<Standstill>> {
        let _turn = Turn::take(&self.layout.commands())?;
        let (path, root) = (self.layout.standstill(), &self.layout.root);
        let Some(standstill) = self.standstill()? else {
            // whoever ended it may have died before that was durable
            self.fs.sync_dir(root).at("sync", root)?;
            return Ok(None);
        };
        self.fs.remove_file(&path).at("remove", &path)?;
        let synced = self.fs.sync_dir(root).at("sync", root);
        if synced.is_err()
            && let Err(e) = self.replace_toml(&path, &standstill)
        {
            // it would go on to hold, and the next try is to end it anew
            tracing::error!("{e}");
        }
        synced?;
        tracing::info!(target: logs::STATE, state = "resumed", "everything is resumed");
        Ok(Some(standstill))
    }

    /// The standstill that holds now.
    pub fn standstill(&self) -> Result<Option<Standstill>> {
        let path = self.layout.standstill();
        if !self.fs.exists(&path).at("look at", &path)? {
            return Ok(None);
        }
        match self.read_optional(&path) {
            Err(SpoolError::Damaged { path, reason }) => {
                let reason = format!("{} can't be read: {reason}", path.display());
                Ok(Some(Standstill { since_us: 0, reason }))
            }
            other => other,
        }
    }
}
