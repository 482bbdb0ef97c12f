//! A status with something of everything, for the tests of this module.

use crate::control::Status;

/// Two MTAs, three active jobs, two paused ones.
pub fn status() -> Status {
    let text = r#"{
        "version": "0.1.0", "spool": "/var/spool/infeed",
        "owners": [{"command": "serve", "who": "process 4711 since 2026-11-22T02:12:20.123Z", "slices": "00-ff", "uptime_s": 3700}],
        "standstill": null,
        "jobs": {"active": 3, "paused": 2, "cancelled": 1, "done": 40},
        "backlog": {"recipients": 151000, "due": 150000, "deferred": 1000,
                    "next_due_us": null, "oldest_due_us": null},
        "outcomes": {"accepted": 49000, "refused": 12, "deferred": 1000, "expired": 0},
        "rate_10_s": 1234.0, "rate_60_s": 1200.0, "in_flight": 16, "note": null,
        "mtas": [
            {"name": "main", "address": "127.0.0.1:25", "weight": 1, "state": "up", "why": null,
             "established": 12, "connections": 16, "connections_why": "12 gave 95 % of what 16 give",
             "queue": 120, "queue_why": "120 by its folders", "messages_per_second": null,
             "accepted": 49000, "refused": 12, "deferred": 1000, "in_doubt": 0, "rate_10_s": 1234.0,
             "last_success_us": null, "last_error": null},
            {"name": "spare", "address": "127.0.0.1:26", "weight": 1, "state": "down",
             "why": "connection refused", "established": 0, "connections": 4, "accepted": 0, "refused": 0,
             "deferred": 0, "in_doubt": 0, "rate_10_s": 0.0, "last_success_us": null,
             "last_error": "connection refused"}],
        "active": [
            {"job": "weekly-47", "recipients": 200000, "accepted": 50000, "refused": 12, "deferred": 1000,
             "pending": 148988},
            {"job": "alerts", "recipients": 1000, "accepted": 990, "refused": 0, "deferred": 0, "pending": 10},
            {"job": "night", "recipients": 1000, "accepted": 0, "refused": 0, "deferred": 0, "pending": 1000,
             "waits_for_window": "its window opens in 5 h"}],
        "paused": [
            {"job": "old-1", "reason": "wrong footer", "since_us": null},
            {"job": "old-2", "reason": "550 5.7.1 go away", "since_us": 1795317240000000}],
        "phases": [
            {"mta": "main", "phase": "content", "count": 900, "p50_ms": 4.2, "p90_ms": 8.13, "p99_ms": 41.7},
            {"mta": "main", "phase": "envelope", "count": 900, "p50_ms": 0.5, "p90_ms": 0.6, "p99_ms": 0.7}],
        "refusals": [
            {"at_us": 1795317239000000, "job": "weekly-47", "recipient": "a@b.example", "outcome": "refused",
             "mta": "main", "code": 550, "enhanced": "5.1.1", "text": "no such user"},
            {"at_us": 1795317238000000, "job": "weekly-47", "recipient": "c@d.example", "outcome": "deferred",
             "mta": "main", "code": 451, "enhanced": null, "text": "try later"}],
        "left_alone": [],
        "space": {"bytes_free": 13194139533, "inodes_free": 1234567, "bytes_free_min": 1, "inodes_free_min": 1},
        "damaged": []
    }"#;
    serde_json::from_str(text).expect("a status")
}
