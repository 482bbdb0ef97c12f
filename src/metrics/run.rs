//! The numbers of a run: what it counted, how its MTAs are, what waits.

use std::sync::atomic::Ordering::Relaxed;

use super::catalogue as c;
use super::recorder::Recorder;
use super::spool::Figures;
use super::text::Text;
use crate::clock;
use crate::control::state_of;
use crate::runner::{MtaRunStatus, RunStatus};
use crate::spool::{Outcome, PRIORITY_DEFAULT};

/// The states that an MTA can be in, as `status` names them.
const STATES: [&str; 6] = ["up", "idle", "connecting", "down", "paused", "held"];

/// Appends what was counted.
pub(super) fn write_counts(text: &mut Text, recorder: &Recorder) {
    let mtas = recorder.mtas();
    let mut deliveries = text.family(&c::DELIVERIES);
    recorder.each_job(|job| {
        job.each(|place, outcome, n| {
            // those that occur anyhow begin at 0, so that a rate sees the first one
            let begins = matches!(outcome, Outcome::Accepted | Outcome::Refused | Outcome::Deferred);
            if let Some(mta) = mtas.get(place)
                && (n > 0 || begins && !mta.is_none())
            {
                deliveries.sample(&[outcome.as_str(), &mta.name, &job.job], n);
            }
        });
    });
    let real = || mtas.iter().filter(|mta| !mta.is_none());
    let mut replies = text.family(&c::REPLIES);
    for mta in real() {
        mta.each_code(|code, n| {
            let code = code.to_string();
            replies.sample(&[&mta.name, &format!("{}xx", &code[..1]), &code], n);
        });
    }
    let mut transactions = text.family(&c::TRANSACTIONS);
    real().for_each(|mta| transactions.sample(&[&mta.name], mta.transactions.load(Relaxed)));
    let mut octets = text.family(&c::CONTENT_BYTES);
    real().for_each(|mta| octets.sample(&[&mta.name], mta.content_bytes.load(Relaxed)));
    let mut recipients = text.family(&c::TRANSACTION_RECIPIENTS);
    real().for_each(|mta| recipients.histogram(&[&mta.name], &mta.recipients));
    let mut failed = text.family(&c::SESSIONS_FAILED);
    real().for_each(|mta| failed.sample(&[&mta.name], mta.failed.load(Relaxed)));
    let mut lost = text.family(&c::SESSIONS_LOST);
    real().for_each(|mta| lost.sample(&[&mta.name], mta.lost.load(Relaxed)));
    let mut phases = text.family(&c::PHASE);
    for mta in real() {
        for (phase, histogram) in mta.phases() {
            phases.histogram(&[&mta.name, phase], histogram);
        }
    }
    text.one(&c::POSSIBLE_REPEATS, recorder.possible_repeats.load(Relaxed));
    text.one(&c::SUBMITTED_JOBS, recorder.submitted_jobs.load(Relaxed));
    text.one(&c::SUBMITTED, recorder.submitted.load(Relaxed));
    recorder.told.write(text);
    if let Some(journal) = recorder.journal_sync.get() {
        text.family(&c::JOURNAL_SYNC).histogram(&[], journal);
    }
}

/// Appends how it goes now.
pub(super) fn write_status(text: &mut Text, recorder: &Recorder, run: &RunStatus) {
    text.one(&c::IN_FLIGHT, run.in_flight);
    text.one(&c::JOBS_LEFT_ALONE, run.left_alone.len());
    text.one(&c::JOURNAL_WRITABLE, u8::from(run.journal_error.is_none()));
    let known = |mta: &MtaRunStatus| {
        mta.status.as_ref().map_or("idle", |status| state_of(&status.state, status.established).0)
    };
    let mut states = text.family(&c::MTA_STATE);
    for mta in &run.mtas {
        let is = known(mta);
        STATES.into_iter().for_each(|state| states.sample(&[&mta.name, state], u8::from(state == is)));
    }
    let mut last_success = text.family(&c::MTA_LAST_SUCCESS);
    for mta in &run.mtas {
        if let Some(at) = mta.status.as_ref().and_then(|status| status.last_success) {
            last_success.sample(&[&mta.name], seconds(at));
        }
    }
    let mut queue = text.family(&c::MTA_QUEUE);
    for mta in &run.mtas {
        if let Some(messages) = mta.queue.as_ref().and_then(|reading| reading.messages) {
            queue.sample(&[&mta.name], messages);
        }
    }
    let mut rate = text.family(&c::MTA_RATE);
    for mta in &run.mtas {
        if let Some(messages) = mta.messages_per_second {
            rate.sample(&[&mta.name], messages.as_f64());
        }
    }
    text.one(&c::RATE_WAITS, u8::from(run.waits_for_rate));
    text.one(&c::RATE_JOBS, run.limited_jobs.iter().filter(|(_, _, waits)| *waits).count());
    text.one(&c::RATE_RECIPIENTS, run.domains.iter().map(|domain| domain.waiting).sum::<u64>());
    let of = |mta: &MtaRunStatus, f: fn(&crate::infeed::MtaStatus) -> usize| mta.status.as_ref().map_or(0, f);
    let mut open = text.family(&c::INFEEDS_OPEN);
    run.mtas.iter().for_each(|mta| open.sample(&[&mta.name], of(mta, |s| s.established)));
    let mut connecting = text.family(&c::INFEEDS_CONNECTING);
    run.mtas.iter().for_each(|mta| connecting.sample(&[&mta.name], of(mta, |s| s.opening)));
    let mut busy = text.family(&c::INFEEDS_BUSY);
    for mta in &run.mtas {
        // an infeed may have the next transaction before the last one is answered
        let in_hand = recorder.mta(&mta.name).in_hand();
        busy.sample(&[&mta.name], in_hand.min(of(mta, |s| s.established) as u64));
    }
    let mut limit = text.family(&c::INFEEDS_LIMIT);
    run.mtas.iter().for_each(|mta| limit.sample(&[&mta.name], mta.connections_max));
    let mut target = text.family(&c::CONNECTIONS_TARGET);
    run.mtas.iter().for_each(|mta| target.sample(&[&mta.name], mta.connections));
    let mut change = text.family(&c::CONNECTIONS_CHANGE);
    run.mtas.iter().for_each(|mta| change.sample(&[&mta.name, mta.connections_changed], 1));
    let mut cuts = text.family(&c::CONNECTIONS_CUTS);
    for mta in &run.mtas {
        mta.cuts.by_reason().into_iter().for_each(|(reason, n)| cuts.sample(&[&mta.name, reason], n));
    }
    let mut opened = text.family(&c::SESSIONS_OPENED);
    for mta in &run.mtas {
        opened.sample(&[&mta.name], mta.status.as_ref().map_or(0, |s| s.connections_total));
    }
    let mut session = text.family(&c::SESSION_SECONDS);
    for mta in &run.mtas {
        session.sample(&[&mta.name, "busy"], mta.totals.busy_us as f64 / 1e6);
        session.sample(&[&mta.name, "idle"], mta.totals.idle_us as f64 / 1e6);
    }
}

/// Appends what waits, and what room there is.
pub(super) fn write_spool(text: &mut Text, figures: &Figures, slices: impl Iterator<Item = u32>) {
    let status = &figures.status;
    let mut backlog = text.family(&c::BACKLOG);
    let mut priorities: Vec<u8> = figures.backlog.keys().map(|(_, priority)| *priority).collect();
    priorities.push(PRIORITY_DEFAULT);
    priorities.sort_unstable();
    priorities.dedup();
    for slice in slices {
        for priority in &priorities {
            let n = figures.backlog.get(&(slice, *priority)).copied().unwrap_or_default();
            backlog.sample(&[&slice.to_string(), &priority.to_string()], n);
        }
    }
    text.one(&c::BACKLOG_DUE, status.backlog.due);
    text.one(&c::UNFINISHED, status.backlog.recipients);
    let oldest = status.backlog.oldest_due_us.map_or(0.0, |since| seconds(clock::now_us()) - seconds(since));
    text.one(&c::OLDEST_DUE, oldest.max(0.0));
    let mut retries = text.family(&c::RETRIES);
    retries.sample(&["now"], figures.retries.0);
    retries.sample(&["later"], figures.retries.1);
    let mut jobs = text.family(&c::JOBS);
    for (state, n) in [
        ("active", status.jobs.active),
        ("paused", status.jobs.paused),
        ("cancelled", status.jobs.cancelled),
        ("done", status.jobs.done),
    ] {
        jobs.sample(&[state], n);
    }
    let mut paused = text.family(&c::JOBS_PAUSED);
    paused.sample(&["breaker"], figures.paused.0);
    paused.sample(&["other"], figures.paused.1);
    text.one(&c::JOBS_DAMAGED, status.damaged.len());
    text.one(&c::STANDSTILL, u8::from(status.standstill.is_some()));
    text.one(&c::SPOOL_USED, figures.used_bytes);
    text.one(&c::SPOOL_FILES, figures.inodes);
    text.one(&c::SPOOL_SIZE, figures.space.bytes_total);
    text.one(&c::SPOOL_FREE, figures.space.bytes_free);
    if let Some(free) = status.space.inodes_free {
        text.one(&c::SPOOL_INODES, figures.space.inodes_total);
        text.one(&c::SPOOL_INODES_FREE, free);
    }
    text.one(&c::SPOOL_FREE_MIN, status.space.bytes_free_min);
    text.one(&c::SPOOL_READ, seconds(figures.read_us));
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::recorder::{JOB_SERIES_MAX, MTA_SERIES_MAX};

    /// Lines of a scrape in which so many jobs went to so many MTAs.
    fn lines(jobs: usize, mtas: usize) -> usize {
        let recorder = Recorder::default();
        let mtas: Vec<_> = (0..mtas).map(|i| recorder.mta(&format!("m{i}"))).collect();
        let jobs: Vec<_> = (0..jobs).map(|i| recorder.job(&format!("job-{i}"))).collect();
        for job in &jobs {
            mtas.iter().for_each(|mta| job.count(Some(mta.as_ref()), Outcome::Accepted, 1));
        }
        let mut text = Text::default();
        write_counts(&mut text, &recorder);
        text.into_string().lines().count()
    }

    #[test]
    fn a_scrape_with_a_thousand_jobs_is_no_longer_than_one_with_twenty() {
        let most = lines(JOB_SERIES_MAX + 1, 1);
        assert_eq!(lines(1_000, 1), most);
        assert!(most < 250, "{most} lines");
        assert_eq!(
            lines(1_000, 200),
            lines(1_000, MTA_SERIES_MAX - 1),
            "nor do MTAs make it longer for ever"
        );
    }

    #[test]
    fn every_family_is_written_even_where_nothing_was_counted() {
        let mut text = Text::default();
        write_counts(&mut text, &Recorder::default());
        let text = text.into_string();
        assert!(text.contains("# TYPE infeed_deliveries_total counter\n"), "{text}");
        assert!(text.contains("infeed_possible_repeats_total 0\n"), "{text}");
    }
}
