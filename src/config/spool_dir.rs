//! Which folder holds the spool.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::error::ConfigError;
use super::load::Environment;
use super::settings::Config;

/// The machine's own spool.
const SYSTEM_DIR: &str = "/var/spool/infeed";

/// The spool's folder: `--spool`, else `spool.dir`, else `/var/spool/infeed` where that is ours to write
/// (it exists and we may write it, or we are root and can make it), else `infeed/spool` in the user's
/// XDG state folder. Nothing is created.
///
/// # Errors
/// [`ConfigError::NoSpoolDir`] where none of them can be had.
pub fn resolve_spool_dir(cli: Option<PathBuf>, config: &Config) -> Result<PathBuf, ConfigError> {
    resolve_spool_dir_in(cli, config, Path::new(SYSTEM_DIR), &Environment::of_process())
}

/// The same, with the machine's own folder and the environment given.
///
/// # Errors
/// As [`resolve_spool_dir`].
pub fn resolve_spool_dir_in(
    cli: Option<PathBuf>,
    config: &Config,
    system_dir: &Path,
    environment: &Environment,
) -> Result<PathBuf, ConfigError> {
    if let Some(dir) = cli.or_else(|| config.spool.dir.clone()) {
        return Ok(dir);
    }
    if is_ours_to_write(system_dir) {
        return Ok(system_dir.to_owned());
    }
    environment
        .folder("XDG_STATE_HOME")
        .or_else(|| environment.folder("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("infeed/spool"))
        .ok_or(ConfigError::NoSpoolDir)
}

fn is_ours_to_write(dir: &Path) -> bool {
    if dir.is_dir() {
        return may_write(dir);
    }
    let is_absent = !dir.exists();
    is_absent && rustix::process::geteuid().is_root() && dir.parent().is_some_and(may_write)
}

fn may_write(dir: &Path) -> bool {
    access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_ok()
}
