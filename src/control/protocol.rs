//! What is asked over the control socket, and answered: one line of JSON each way, one request a
//! connection.

use serde::{Deserialize, Deserializer, Serialize};

use crate::config::Connections;
use crate::pressure::per_second::PerSecond;
use crate::runner::JobProgress;
use crate::spool::{DirSpool, JobState, Outcome, SpoolError, Standstill};

/// Octets of a request, at most.
pub const REQUEST_BYTES_MAX: u64 = 64 * 1024;

/// `{"do":"pause","job":"weekly-47","reason":"wrong list"}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// [`super::Status`].
    Status,
    /// Every job: a list of [`crate::spool::JobView`], each `Ok` or the error's text.
    Jobs,
    /// One job's [`crate::spool::JobView`].
    Job {
        job: String,
    },
    /// [`JobCounts`]: how far a job has come.
    Progress {
        job: String,
    },
    Pause {
        job: String,
        #[serde(default)]
        reason: Option<String>,
    },
    Resume {
        job: String,
        #[serde(default)]
        accept_refusals: bool,
    },
    Cancel {
        job: String,
    },
    /// Messages a second from now on, at most; null: no limit.
    Rate {
        job: String,
        messages_per_second: Option<PerSecond>,
    },
    /// The hours in which it is sent from now on; none: always.
    Window {
        job: String,
        windows: Vec<String>,
    },
    Remove {
        job: String,
    },
    /// Nothing begins any more, until `resume_all`: [`AllPaused`].
    PauseAll {
        #[serde(default)]
        reason: Option<String>,
    },
    /// [`AllPaused`], of what ended: none where nothing was paused.
    ResumeAll,
    /// Call again on an MTA that refused us as a whole; on all without a name. Answers how many were paused.
    ResumeMta {
        #[serde(default)]
        mta: Option<String>,
    },
    /// So many connections to an MTA, or to each, until a reload or the end. Answers how many MTAs it is.
    MtaConnections {
        #[serde(default)]
        mta: Option<String>,
        connections: Connections,
    },
    /// Other settings for one MTA, until a reload or the end; what is left out stays as it is. Answers how many
    /// MTAs it is.
    MtaSet {
        mta: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u64>,
        /// Null: no limit.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
        messages_per_second: Option<Option<PerSecond>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue_target: Option<u64>,
    },
    /// Messages a second to recipients of a domain, until a reload or the end; null: no limit.
    DomainRate {
        domain: String,
        messages_per_second: Option<PerSecond>,
    },
    /// Read the configuration again.
    Reload,
    /// Take up no job that is submitted from now on, and end once nothing is due: what was deferred waits for
    /// the next run.
    Drain,
    /// End in order, as at SIGTERM.
    Shutdown,
}

/// What is there was given, null too.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Ok(serde_json::Value),
    /// The run ends, and only a run can do this: ask again.
    Ending {
        text: String,
    },
    Error {
        text: String,
        exit_code: u8,
    },
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    /// `active`, `paused`, `cancelled` or `done`.
    pub state: String,
    /// In this run of the owner.
    pub progress: JobProgress,
    /// Something of it is in hand or due.
    pub under_way: bool,
    /// Something waits for a rate: it moves slowly, or not for a while.
    #[serde(default)]
    pub waits_for_rate: bool,
    /// Why the run leaves it alone, where it does.
    #[serde(default)]
    pub left_alone: Option<String>,
    pub standstill: bool,
    /// What holds the run up.
    pub note: Option<String>,
}

/// `pause --all` and `resume --all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllPaused {
    /// The standstill that holds now.
    pub standstill: Option<Standstill>,
    /// The one that this request ended.
    #[serde(default)]
    pub ended: Option<Standstill>,
    /// Whether this request made it so.
    pub changed: bool,
    pub went: Vec<Went>,
    /// Jobs that can't be read.
    pub unreadable: Vec<String>,
}

impl AllPaused {
    /// With the counts as the spool has them; `in_flight` says how many of a job are in transactions now.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// The spool's.
    pub fn of(
        spool: &DirSpool,
        standstill: Option<Standstill>,
        changed: bool,
        in_flight: impl Fn(&crate::spool::JobId) -> u64,
    ) -> Result<Self, SpoolError> {
        let mut all = Self { standstill, ended: None, changed, went: Vec::new(), unreadable: Vec::new() };
        for view in spool.views_of(&[JobState::Active])? {
            match view {
                Ok(view) => {
                    let unfinished = view.counts.unfinished();
                    let in_flight = in_flight(&view.job).min(unfinished);
                    all.went.push(Went {
                        job: view.job.to_string(),
                        recipients: view.meta.recipients,
                        accepted: view.counts.of(Outcome::Accepted),
                        in_flight,
                        waiting: unfinished - in_flight,
                    });
                }
                Err(e) => all.unreadable.push(e.to_string()),
            }
        }
        Ok(all)
    }

    /// The same once everything goes on, after this standstill if there was one.
    ///
    /// # Errors
    /// The spool's.
    pub fn resumed(
        spool: &DirSpool,
        ended: Option<Standstill>,
        in_flight: impl Fn(&crate::spool::JobId) -> u64,
    ) -> Result<Self, SpoolError> {
        let changed = ended.is_some();
        Ok(Self { ended, ..Self::of(spool, None, changed, in_flight)? })
    }
}

/// What of an active job went before everything was paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Went {
    pub job: String,
    pub recipients: u64,
    /// Taken by an MTA.
    pub accepted: u64,
    /// In a transaction now: each ends within its timeouts.
    pub in_flight: u64,
    /// Pending or deferred, those in flight not counted.
    pub waiting: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_null_is_another_wish_than_none_at_all() {
        let read = |line: &str| serde_json::from_str::<Request>(line).unwrap();
        let rate = |line: &str| match read(line) {
            Request::MtaSet { messages_per_second, .. } => messages_per_second,
            other => panic!("{other:?}"),
        };
        assert_eq!(rate(r#"{"do":"mta_set","mta":"a","weight":2}"#), None);
        let lifts = r#"{"do":"mta_set","mta":"a","messages_per_second":null}"#;
        assert_eq!(rate(lifts), Some(None));
        assert_eq!(serde_json::to_string(&read(lifts)).unwrap(), lifts);
    }

    #[test]
    fn a_request_is_one_flat_object_and_what_it_does_not_know_is_refused() {
        let line = r#"{"do":"pause","job":"weekly-47"}"#;
        let want = Request::Pause { job: "weekly-47".into(), reason: None };
        assert_eq!(serde_json::from_str::<Request>(line).ok(), Some(want));
        for bad in [r#"{"do":"pause"}"#, r#"{"do":"fly"}"#, r#"{"do":"cancel","job":"x","force":true}"#, "[]"]
        {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
