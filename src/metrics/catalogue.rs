//! Every metric, declared once: name, kind, unit, labels, help.
//!
//! Names follow Prometheus: base units, `_total` for counters. What is written to a scrape is a constant of
//! this file, and docs/metrics.md is made of [`ALL`].

/// What Prometheus calls its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Who tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `serve`, `drain` and `send`.
    Run,
    /// `sink`.
    Sink,
    /// Each of them.
    Process,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// What one of it is: `recipients`, `seconds`, `bytes`…
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram, in its unit; empty for others.
    pub buckets: &'static [f64],
    pub part: Part,
    help: &'static str,
}

impl Metric {
    /// What it is, in one line.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }
}

/// From half a millisecond, which a local MTA answers in, to a minute.
const LATENCY: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
const COUNTS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

macro_rules! catalogue {
    ($(
        $(#[doc = $help:literal])+
        $ID:ident: $part:ident $kind:ident $name:literal $unit:literal [$($label:literal),*] $(in $buckets:expr)?;
    )+) => {
        $(
            $(#[doc = $help])+
            pub(super) const $ID: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                labels: &[$($label),*],
                buckets: catalogue!(@buckets $($buckets)?),
                part: Part::$part,
                help: concat!($($help),+),
            };
        )+

        /// Every metric, in the order of a scrape.
        pub const ALL: &[&Metric] = &[$(&$ID),+];
    };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { $buckets };
}

catalogue! {
    /// Always 1; its labels say which infeed runs.
    BUILD_INFO: Process Gauge "infeed_build_info" "infeeds" ["version", "command"];
    /// 1 while it is ready to take work: what /readyz says.
    READY: Process Gauge "infeed_ready" "boolean" [];

    /// Recipients by what became of them; deferred counts each try. Sum it after rate() or increase().
    DELIVERIES: Run Counter "infeed_deliveries_total" "recipients" ["outcome", "mta", "job"];
    /// Replies that settled a recipient, by their code.
    REPLIES: Run Counter "infeed_replies_total" "recipients" ["mta", "class", "code"];
    /// Transactions that came to their end at the MTA.
    TRANSACTIONS: Run Counter "infeed_transactions_total" "transactions" ["mta"];
    /// Content of transactions of which somebody was accepted, as sent.
    CONTENT_BYTES: Run Counter "infeed_content_bytes_total" "bytes" ["mta"];
    /// Recipients of one transaction.
    TRANSACTION_RECIPIENTS: Run Histogram "infeed_transaction_recipients" "recipients" ["mta"] in COUNTS;
    /// Recipients who may have got, or may yet get, their mail twice.
    POSSIBLE_REPEATS: Run Counter "infeed_possible_repeats_total" "recipients" [];
    /// Recipients in transactions now.
    IN_FLIGHT: Run Gauge "infeed_in_flight_recipients" "recipients" [];

    /// 1 for the state that the MTA is in: up, idle, connecting, down, paused or held.
    MTA_STATE: Run Gauge "infeed_mta_state" "boolean" ["mta", "state"];
    /// When a message was accepted last; absent before the first.
    MTA_LAST_SUCCESS: Run Gauge "infeed_mta_last_success_timestamp_seconds" "seconds" ["mta"];
    /// Messages in the MTA's own queue, as far as infeed can see it; absent where it can't.
    MTA_QUEUE: Run Gauge "infeed_mta_queue_messages" "messages" ["mta"];
    /// Transactions a second that the MTA may have: its rate, or the pace that was found; absent without.
    MTA_RATE: Run Gauge "infeed_mta_rate_messages_per_second" "messages" ["mta"];
    /// 1 while infeeds wait for a rate limit.
    RATE_WAITS: Run Gauge "infeed_rate_limit_waiting" "boolean" [];
    /// Jobs in hand that wait for their rate limit.
    RATE_JOBS: Run Gauge "infeed_rate_limit_waiting_jobs" "jobs" [];
    /// Recipients in hand who wait for the rate limit of their domain.
    RATE_RECIPIENTS: Run Gauge "infeed_rate_limit_waiting_recipients" "recipients" [];
    /// SMTP sessions that stand.
    INFEEDS_OPEN: Run Gauge "infeed_infeeds_open" "sessions" ["mta"];
    /// Infeeds that open a session just now.
    INFEEDS_CONNECTING: Run Gauge "infeed_infeeds_connecting" "sessions" ["mta"];
    /// Infeeds with a transaction in hand.
    INFEEDS_BUSY: Run Gauge "infeed_infeeds_busy" "sessions" ["mta"];
    /// Most infeeds that there may be.
    INFEEDS_LIMIT: Run Gauge "infeed_infeeds_limit" "sessions" ["mta"];
    /// N: infeeds that there shall be now, set or found.
    CONNECTIONS_TARGET: Run Gauge "infeed_connections_target" "sessions" ["mta"];
    /// Always 1; the reason of N's last change: fixed, start, raised, lowered, or that of a cut.
    CONNECTIONS_CHANGE: Run Gauge "infeed_connections_last_change_info" "boolean" ["mta", "reason"];
    /// How often N was cut, by reason.
    CONNECTIONS_CUTS: Run Counter "infeed_connections_cuts_total" "cuts" ["mta", "reason"];
    /// Sessions that were opened.
    SESSIONS_OPENED: Run Counter "infeed_sessions_opened_total" "sessions" ["mta"];
    /// Connects that led to no session.
    SESSIONS_FAILED: Run Counter "infeed_sessions_failed_total" "sessions" ["mta"];
    /// Sessions that ended otherwise than by our will.
    SESSIONS_LOST: Run Counter "infeed_sessions_lost_total" "sessions" ["mta"];
    /// Time of all sessions, in transactions (busy) or waiting for work (idle). Begins anew when a reload changes the MTA.
    SESSION_SECONDS: Run Counter "infeed_session_seconds_total" "seconds" ["mta", "state"];
    /// What the MTA took for its replies: connect, greeting, envelope (MAIL to the last RCPT), content (to the final reply).
    PHASE: Run Histogram "infeed_phase_seconds" "seconds" ["mta", "phase"] in LATENCY;

    /// Recipients of active jobs that have no outcome yet, or were deferred, in chunks that wait.
    BACKLOG: Run Gauge "infeed_backlog_recipients" "recipients" ["slice", "priority"];
    /// Of all unfinished recipients of active jobs, those that are due or in hand.
    BACKLOG_DUE: Run Gauge "infeed_backlog_due_recipients" "recipients" [];
    /// All recipients of active jobs that have no final outcome.
    UNFINISHED: Run Gauge "infeed_unfinished_recipients" "recipients" [];
    /// How long the longest of what is due has been waiting; 0: nothing is due.
    OLDEST_DUE: Run Gauge "infeed_backlog_oldest_due_age_seconds" "seconds" [];
    /// Deferred recipients that wait in chunks: due now, or later.
    RETRIES: Run Gauge "infeed_retries_recipients" "recipients" ["due"];
    /// Jobs by state.
    JOBS: Run Gauge "infeed_jobs" "jobs" ["state"];
    /// Paused jobs, by who paused them: the refusal breaker, or somebody or something else.
    JOBS_PAUSED: Run Gauge "infeed_jobs_paused" "jobs" ["by"];
    /// Active jobs that this run can't drain.
    JOBS_LEFT_ALONE: Run Gauge "infeed_jobs_left_alone" "jobs" [];
    /// Jobs that can't be read.
    JOBS_DAMAGED: Run Gauge "infeed_jobs_damaged" "jobs" [];
    /// 1 while everything is paused.
    STANDSTILL: Run Gauge "infeed_standstill" "boolean" [];
    /// Jobs submitted since the start, counted when they are first taken up.
    SUBMITTED_JOBS: Run Counter "infeed_submitted_jobs_total" "jobs" [];
    /// Recipients of those jobs.
    SUBMITTED: Run Counter "infeed_submitted_recipients_total" "recipients" [];

    /// Syncs of the progress journal.
    JOURNAL_SYNC: Run Histogram "infeed_journal_sync_seconds" "seconds" [] in LATENCY;
    /// 1 while the journal can be written; nothing is sent otherwise.
    JOURNAL_WRITABLE: Run Gauge "infeed_journal_writable" "boolean" [];
    /// What the spool's files take on disk.
    SPOOL_USED: Run Gauge "infeed_spool_used_bytes" "bytes" [];
    /// Files and folders of the spool.
    SPOOL_FILES: Run Gauge "infeed_spool_inodes" "inodes" [];
    /// Size of the spool's file system.
    SPOOL_SIZE: Run Gauge "infeed_spool_filesystem_size_bytes" "bytes" [];
    /// Of it, free for us.
    SPOOL_FREE: Run Gauge "infeed_spool_filesystem_free_bytes" "bytes" [];
    /// Inodes of the spool's file system; absent where it doesn't count them.
    SPOOL_INODES: Run Gauge "infeed_spool_filesystem_inodes" "inodes" [];
    /// Of them, free.
    SPOOL_INODES_FREE: Run Gauge "infeed_spool_filesystem_free_inodes" "inodes" [];
    /// What a submission leaves free (spool.free_bytes_min): with less it is refused.
    SPOOL_FREE_MIN: Run Gauge "infeed_spool_free_min_bytes" "bytes" [];
    /// When backlog, jobs and spool were read.
    SPOOL_READ: Run Gauge "infeed_spool_read_timestamp_seconds" "seconds" [];

    /// Lines written to the delivery log (delivery_log.file).
    LOG_LINES: Run Counter "infeed_delivery_log_lines_total" "lines" [];
    /// Lines that the delivery log lost to a disk that was full or too slow; the report has them.
    LOG_DROPPED: Run Counter "infeed_delivery_log_dropped_lines_total" "lines" [];
    /// Events that the webhook took (webhook.url).
    EVENTS_SENT: Run Counter "infeed_events_sent_total" "events" ["type"];
    /// Events that were given up, after webhook.retry_for_s or at the end of the run.
    EVENTS_DROPPED: Run Counter "infeed_events_dropped_total" "events" ["type"];
    /// Posts to the webhook that failed, and were tried again.
    EVENTS_FAILED: Run Counter "infeed_events_failed_tries_total" "tries" [];
    /// Refused recipients that no event told of; the report has them.
    EVENTS_RECIPIENTS_DROPPED: Run Counter "infeed_events_dropped_recipients_total" "recipients" [];
    /// Events that wait to be taken.
    EVENTS_WAITING: Run Gauge "infeed_events_waiting" "events" [];

    /// Connections that the sink took.
    SINK_CONNECTIONS: Sink Counter "infeed_sink_connections_total" "connections" [];
    /// Of them, those refused by 421 at connect.
    SINK_REFUSED: Sink Counter "infeed_sink_connections_refused_total" "connections" [];
    /// Connections that are open.
    SINK_OPEN: Sink Gauge "infeed_sink_connections_open" "connections" [];
    /// Messages taken.
    SINK_MESSAGES: Sink Counter "infeed_sink_messages_total" "messages" [];
    /// Recipients by what they were answered; the accepted are the lines of a ledger.
    SINK_RECIPIENTS: Sink Counter "infeed_sink_recipients_total" "recipients" ["outcome"];
    /// Content taken.
    SINK_BYTES: Sink Counter "infeed_sink_content_bytes_total" "bytes" [];
    /// Connections dropped on demand, before or after the final dot.
    SINK_DROPPED: Sink Counter "infeed_sink_dropped_total" "connections" ["when"];
    /// Messages in the queue behind the sink.
    SINK_QUEUE: Sink Gauge "infeed_sink_queue_messages" "messages" [];

    /// CPU time of the process, user and system.
    CPU: Process Counter "process_cpu_seconds_total" "seconds" [];
    /// Memory that it holds.
    RESIDENT: Process Gauge "process_resident_memory_bytes" "bytes" [];
    /// Its open file descriptors.
    FDS: Process Gauge "process_open_fds" "descriptors" [];
    /// Most file descriptors that it may open.
    FDS_MAX: Process Gauge "process_max_fds" "descriptors" [];
    /// When it started, since the Unix epoch.
    STARTED: Process Gauge "process_start_time_seconds" "seconds" [];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for metric in ALL {
            let name = metric.name;
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(name.starts_with("infeed_") || name.starts_with("process_"), "{name}");
            let base = name.trim_end_matches("_total");
            for unit in ["seconds", "bytes"] {
                assert_eq!(metric.unit == unit, base.ends_with(unit), "{name}");
            }
            assert_eq!(metric.kind == Kind::Histogram, !metric.buckets.is_empty(), "{name}");
            assert!(metric.buckets.is_sorted(), "{name}");
            assert!(metric.help().ends_with('.') && !metric.help().contains('\n'), "{name}");
        }
    }

    #[test]
    fn no_name_is_declared_twice() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
