//! The spool's errors: each names the path or the job, what is wrong, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong in the spool. Nothing in it means that committed mail was lost.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("{what} {path}: {source}{}", remedy(.source))]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{path}: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{path} is a spool of format {found}, this infeed knows up to {known}: use the infeed that wrote it, or a newer one"
    )]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error(
        "the spool {path} was written on another machine (or copied while in use): make sure that no other host drains it, then run `infeed spool adopt --spool {path}`"
    )]
    OtherMachine { path: PathBuf },
    #[error(
        "{path} lies on a file system that is not known to be local and durable ({found}): put the spool on ext4, XFS, btrfs or ZFS (`--spool DIR` or `spool.dir`)"
    )]
    FileSystem { path: PathBuf, found: String },
    #[error("slices are owned by {owner}")]
    Owned { owner: String },
    #[error("no job {0}: `infeed jobs` lists them")]
    NoSuchJob(String),
    #[error(
        "job {job} is one of {members} in the pack {pack}, which changes state as a whole: name {pack} to change all of them; `infeed job show {job}` and `infeed job report {job}` tell of this one"
    )]
    PackMember { job: String, pack: String, members: u32 },
    #[error(
        "`{0}` is not a job's id: letters, digits, `.`, `_`, `-`, at most 64, the first a letter or digit"
    )]
    BadJobId(String),
    #[error("job {job} is {state}: {remedy}")]
    WrongState { job: String, state: &'static str, remedy: String },
    #[error(
        "job {job} is in hand of a running infeed and was not released within {seconds} s: the request stands and is carried out by it"
    )]
    Busy { job: String, seconds: u64 },
    #[error(
        "{path} has been locked by another command for {seconds} s: is one stopped? (`fuser {path}` names it); then run this again"
    )]
    TurnHeld { path: PathBuf, seconds: u64 },
    #[error("the report of job {job} is being read: let that end, then run this again")]
    BeingRead { job: String },
    #[error(
        "{path} belongs to {owner}, and you may not write there: run this as that user, `sudo -u {user} infeed ...`"
    )]
    NotOurs { path: PathBuf, owner: String, user: String },
    #[error("{path}: {fault}; nothing was read or written there: {remedy}")]
    OpenDoor { path: PathBuf, fault: String, remedy: String },
    #[error("another submit with the id {0} is under way: wait for it, then run this again")]
    SubmitUnderWay(String),
    #[error(
        "too little space for this submission on {path}: {found} {unit} free, {needed} needed; free some or use another `--spool`"
    )]
    NoSpace { path: PathBuf, found: u64, needed: u64, unit: &'static str },
    #[error(
        "job {job} may or may not be committed ({source}): look with `infeed job show {job}`, or submit again with the same `--id`"
    )]
    Unknown { job: String, source: Box<SpoolError> },
    #[error("recipient {ordinal} takes {bytes} bytes, more than a chunk holds ({max})")]
    RecipientTooLarge { ordinal: u64, bytes: usize, max: usize },
}

pub type Result<T> = std::result::Result<T, SpoolError>;

/// What to do about an error of the disk's, which no command causes and none can mend.
fn remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(nix::libc::ENOSPC) => "; free some space or inodes there (`df`, `df -i`), nothing is lost",
        Some(nix::libc::EDQUOT) => "; raise the quota there (`quota`) or free some space, nothing is lost",
        Some(nix::libc::EROFS) => {
            "; it was remounted read-only, by the kernel after an error of the disk's (`dmesg`) or by a person: mount it read-write again"
        }
        Some(nix::libc::EIO) => "; the disk may be failing: look at the kernel's log (`dmesg`)",
        Some(nix::libc::EMFILE | nix::libc::ENFILE) => {
            "; raise the limit of open files (`ulimit -n`, `LimitNOFILE=` in the unit)"
        }
        _ => "",
    }
}

/// Adds the path and the act to an `io::Error`.
pub(crate) trait At<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| SpoolError::Io { what, path: path.to_path_buf(), source })
    }
}

impl SpoolError {
    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), reason: reason.into() }
    }

    /// It is the trouble of one job's files: others can go on.
    pub fn is_of_one_job(&self) -> bool {
        let in_job = |path: &Path| {
            let states = ["active", "paused", "cancelled", "done"];
            let mut above = path.ancestors().skip(1).filter_map(Path::file_name);
            above.any(|name| states.iter().any(|state| name == *state))
        };
        match self {
            Self::Damaged { path, .. } | Self::NewerFormat { path, .. } => in_job(path),
            Self::Io { path, source, .. } => {
                // a full disk, or no file handles left, is everybody's
                let kinds = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
                let is_of_file =
                    kinds.contains(&source.kind()) || source.raw_os_error() == Some(nix::libc::EIO);
                is_of_file && in_job(path)
            }
            _ => false,
        }
    }

    /// The file or folder is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_own_files_are_its_own_trouble_and_the_journal_and_a_full_disk_are_everybodys() {
        let io = |path: &str, source: io::Error| SpoolError::Io { what: "read", path: path.into(), source };
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        assert!(io("/s/active/j/message", absent()).is_of_one_job());
        assert!(SpoolError::damaged(Path::new("/s/paused/j/standing.toml"), "bad").is_of_one_job());
        assert!(!io("/s/journal/00-ff.1.0", absent()).is_of_one_job());
        assert!(!io("/s/active", absent()).is_of_one_job());
        assert!(!io("/s/active/j/results/00/x", io::Error::from(io::ErrorKind::StorageFull)).is_of_one_job());
        assert!(!SpoolError::damaged(Path::new("/s/journal"), "no space").is_of_one_job());
    }
}
