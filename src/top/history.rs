//! Throughput over the last minutes: of the whole for the chart, of each job for its rate and its end.
//!
//! Times are those of a clock that nobody sets, in microseconds. Bounded: what is older than the chart goes,
//! and so do jobs that aren't listed any more.

use std::collections::{HashMap, VecDeque};

use crate::clock::{Micros, SECOND_US};
use crate::control::Status;

/// What the chart shows.
pub const CHART_S: u64 = 300;

/// What a job's rate is measured over.
const JOB_RATE_US: Micros = 15 * SECOND_US;

/// A stretch of time, and how fast it went.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stretch {
    from: Micros,
    to: Micros,
    per_second: f64,
}

/// What was seen of a spool so far.
#[derive(Debug, Clone, Default)]
pub struct History {
    stretches: VecDeque<Stretch>,
    last: Option<Last>,
    /// Accepted of each job, at these times.
    jobs: HashMap<String, VecDeque<(Micros, u64)>>,
}

/// The last status, as far as the next one is compared with it.
#[derive(Debug, Clone, PartialEq)]
struct Last {
    at: Micros,
    accepted: u64,
    owners: Vec<String>,
}

impl History {
    /// Takes what was seen at `now`.
    pub fn take(&mut self, status: &Status, now: Micros) {
        let answering = status.owners.iter().filter(|owner| owner.command.is_some());
        let owners = answering.map(|owner| owner.who.clone()).collect();
        let this = Last { at: now, accepted: status.outcomes.get("accepted").copied().unwrap_or(0), owners };
        if let Some(last) = &self.last
            && now > last.at
        {
            let seconds = (now - last.at) as f64 / SECOND_US as f64;
            // an owner that came or went brings or takes what it has counted since its start
            let per_second = match this.accepted.checked_sub(last.accepted) {
                Some(more) if this.owners == last.owners => more as f64 / seconds,
                _ => status.rate_10_s,
            };
            self.stretches.push_back(Stretch { from: last.at, to: now, per_second });
        }
        let begin = now.saturating_sub(CHART_S * SECOND_US);
        while self.stretches.front().is_some_and(|stretch| stretch.to <= begin) {
            self.stretches.pop_front();
        }
        self.last = Some(this);
        self.take_jobs(status, now);
    }

    fn take_jobs(&mut self, status: &Status, now: Micros) {
        self.jobs.retain(|job, _| status.active.iter().any(|line| line.job == *job));
        for line in &status.active {
            let seen = self.jobs.entry(line.job.clone()).or_default();
            // counted anew by another owner, or retried: what was before tells nothing
            if seen.back().is_some_and(|(_, accepted)| *accepted > line.accepted) {
                seen.clear();
            }
            seen.push_back((now, line.accepted));
            while seen.get(1).is_some_and(|(at, _)| *at + JOB_RATE_US <= now) {
                seen.pop_front();
            }
        }
    }

    /// Accepted recipients of a job a second, of late; `None` before two looks at it.
    pub fn job_rate(&self, job: &str) -> Option<f64> {
        let seen = self.jobs.get(job)?;
        let ((from, before), (to, after)) = (seen.front()?, seen.back()?);
        (to > from).then(|| (after - before) as f64 * SECOND_US as f64 / (to - from) as f64)
    }

    /// The chart: the mean rate of each of so many columns, the last of which ends now; 0 where nothing is known.
    pub fn columns(&self, columns: usize) -> Vec<f64> {
        let Some(end) = self.last.as_ref().map(|last| last.at) else { return vec![0.0; columns] };
        let width = (CHART_S * SECOND_US) as f64 / columns.max(1) as f64;
        let mut sums = vec![0.0; columns];
        for stretch in &self.stretches {
            // ages: 0 is now
            let (young, old) = ((end - stretch.to) as f64, (end - stretch.from) as f64);
            let first = (young / width) as usize;
            for (age, sum) in sums.iter_mut().rev().enumerate().skip(first) {
                let (begin, finish) = (age as f64 * width, (age + 1) as f64 * width);
                if begin >= old {
                    break;
                }
                *sum += stretch.per_second * (finish.min(old) - begin.max(young)).max(0.0) / width;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample;

    const T0: Micros = 1_000 * SECOND_US;

    fn seen(history: &mut History, s: u64, accepted: u64) {
        let mut status = sample::status();
        status.outcomes.insert("accepted".to_owned(), accepted);
        status.active[0].accepted = accepted;
        history.take(&status, T0 + s * SECOND_US);
    }

    #[test]
    fn a_column_is_the_mean_of_its_time_and_the_last_one_is_now() {
        let mut history = History::default();
        assert_eq!(history.columns(3), [0.0; 3]);
        for (s, accepted) in [(0, 0), (100, 1_000), (150, 1_000)] {
            seen(&mut history, s, accepted);
        }
        // 10/s for 100 s, nothing for 50 s: columns of 100 s
        let columns = history.columns(3);
        assert!((columns[0] - 0.0).abs() < 1e-9 && (columns[1] - 5.0).abs() < 1e-9, "{columns:?}");
        assert!((columns[2] - 5.0).abs() < 1e-9, "{columns:?}");
        assert_eq!(history.columns(0), Vec::<f64>::new());
    }

    #[test]
    fn what_is_older_than_the_chart_goes() {
        let mut history = History::default();
        for s in 0..2_000 {
            seen(&mut history, s, s * 10);
        }
        assert!(history.stretches.len() <= CHART_S as usize + 1, "{}", history.stretches.len());
        assert!(history.columns(60).iter().all(|rate| (rate - 10.0).abs() < 1e-6));
    }

    #[test]
    fn an_owner_that_begins_anew_is_no_leap_and_no_fall() {
        let mut history = History::default();
        seen(&mut history, 0, 1_000_000);
        seen(&mut history, 1, 10);
        let known = sample::status().rate_10_s;
        assert_eq!(history.stretches.back().map(|s| s.per_second), Some(known));
        // the same count from another owner
        let mut status = sample::status();
        status.owners[0].who = "process 99".to_owned();
        status.outcomes.insert("accepted".to_owned(), 5_000_000);
        history.take(&status, T0 + 2 * SECOND_US);
        assert_eq!(history.stretches.back().map(|s| s.per_second), Some(known));
    }

    #[test]
    fn a_jobs_rate_is_that_of_the_last_seconds_and_none_at_first_sight() {
        let mut history = History::default();
        let job = sample::status().active[0].job.clone();
        seen(&mut history, 0, 0);
        assert_eq!(history.job_rate(&job), None);
        for s in 1..=100 {
            seen(&mut history, s, if s < 50 { s * 1_000 } else { 49_000 + (s - 49) * 10 });
        }
        assert_eq!(history.job_rate(&job), Some(10.0));
        seen(&mut history, 101, 3);
        assert_eq!(history.job_rate(&job), None, "counted anew");
        assert_eq!(history.job_rate("no-such"), None);
    }
}
