//! The knee: the smallest number of connections that gets nearly all of what the best one gets. Pure.
//!
//! How sure it is comes from a bootstrap over the rounds: rounds are drawn anew, with replacement, each with
//! all of its points, since what disturbed one point of a round disturbed its neighbours too. The same rows
//! and the same seed give the same answer.

use std::collections::BTreeSet;

use serde::Serialize;

use super::row::{Row, median};

/// Part of the best rate that the knee must reach.
pub const KNEE_SHARE: f64 = 0.95;
/// Draws of the bootstrap.
const DRAWS: usize = 2_000;
/// Rounds below which chance can't be told from the MTA at all, and below which only roughly.
const ROUNDS_MIN: usize = 3;
const ROUNDS_FAIR: usize = 5;
/// Numbers of connections that a finer sweep is proposed with, at most.
const FINER_MAX: usize = 6;

/// How far the knee may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sureness {
    /// Too few rounds to tell it from chance: there is no interval.
    TooFewRounds,
    /// The interval reaches over more than twice its lower end: noise hides the knee.
    Unclear,
    /// Few rounds: the interval itself is rough.
    Rough,
    Clear,
}

/// The knee of one curve: rows of one number of recipients a transaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Knee {
    pub recipients_per_transaction: usize,
    pub connections: usize,
    /// The rate there, and the best one and where it is.
    pub recipients_per_second: f64,
    pub best_recipients_per_second: f64,
    pub best_connections: usize,
    /// 95 % of the draws have their knee in it, ends included.
    pub interval: Option<(usize, usize)>,
    /// Part of the draws that have it at `connections`.
    pub share_of_draws: Option<f64>,
    /// Rounds in which every point was measured.
    pub rounds: usize,
    pub sureness: Sureness,
    /// It is at the last number that was tried: the best may lie beyond.
    pub is_at_end: bool,
    /// Numbers between the one before and this one, for a finer sweep; empty where there are none.
    pub finer: Vec<usize>,
}

/// Judges the rows of one curve, in the order of their connections; `None` when nothing was measured.
///
/// # Panics
/// On rows of different numbers of recipients a transaction, or out of order.
pub fn judge(rows: &[Row], seed: u64) -> Option<Knee> {
    for pair in rows.windows(2) {
        assert!(pair[0].recipients_per_transaction == pair[1].recipients_per_transaction, "one curve");
        assert!(pair[0].connections < pair[1].connections, "in the order of connections");
    }
    let measured: Vec<&Row> = rows.iter().filter(|row| row.rate() > 0.0).collect();
    let medians: Vec<f64> = measured.iter().map(|row| row.rate()).collect();
    let at = knee_of(&medians)?;
    let best = best_of(&medians)?;
    let knee = measured[at];
    let rounds = common_rounds(&measured);
    let draws = if rounds.len() < ROUNDS_MIN { Vec::new() } else { draw(&measured, &rounds, seed) };
    let quantile = |q: f64| measured[draws[((draws.len() - 1) as f64 * q).round() as usize]].connections;
    let interval = (!draws.is_empty()).then(|| (quantile(0.025), quantile(0.975)));
    let share_of_draws = (!draws.is_empty())
        .then(|| draws.iter().filter(|&&draw| draw == at).count() as f64 / draws.len() as f64);
    let sureness = match interval {
        None => Sureness::TooFewRounds,
        Some((low, high)) if high > 2 * low => Sureness::Unclear,
        Some(_) if rounds.len() < ROUNDS_FAIR => Sureness::Rough,
        Some(_) => Sureness::Clear,
    };
    Some(Knee {
        recipients_per_transaction: knee.recipients_per_transaction,
        connections: knee.connections,
        recipients_per_second: medians[at],
        best_recipients_per_second: medians[best],
        best_connections: measured[best].connections,
        interval,
        share_of_draws,
        rounds: rounds.len(),
        sureness,
        is_at_end: at > 0 && at == measured.len() - 1,
        finer: finer(at.checked_sub(1).map_or(0, |before| measured[before].connections), knee.connections),
    })
}

/// The first index that reaches enough of the best.
fn knee_of(rates: &[f64]) -> Option<usize> {
    let best = rates[best_of(rates)?];
    rates.iter().position(|&rate| rate >= best * KNEE_SHARE)
}

fn best_of(rates: &[f64]) -> Option<usize> {
    (0..rates.len()).max_by(|&a, &b| rates[a].total_cmp(&rates[b]))
}

/// Rounds in which every row has a value.
fn common_rounds(rows: &[&Row]) -> Vec<usize> {
    let rounds_of = |row: &&Row| -> BTreeSet<usize> {
        row.recipients_per_second.iter().flat_map(|spread| spread.by_round.keys().copied()).collect()
    };
    let common = rows.iter().map(rounds_of).reduce(|a, b| a.intersection(&b).copied().collect());
    common.into_iter().flatten().collect()
}

/// The knees of many draws, as indices, sorted.
fn draw(rows: &[&Row], rounds: &[usize], seed: u64) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(seed);
    let values: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| {
            let by_round = row.recipients_per_second.as_ref().map(|spread| &spread.by_round);
            rounds.iter().filter_map(|round| by_round?.get(round).copied()).collect()
        })
        .collect();
    let mut knees: Vec<usize> = (0..DRAWS)
        .filter_map(|_| {
            let drawn: Vec<usize> = rounds.iter().map(|_| random.usize(..rounds.len())).collect();
            let medians: Vec<f64> = values
                .iter()
                .map(|values| {
                    let mut drawn: Vec<f64> = drawn.iter().map(|&round| values[round]).collect();
                    drawn.sort_by(f64::total_cmp);
                    median(&drawn)
                })
                .collect();
            knee_of(&medians)
        })
        .collect();
    knees.sort_unstable();
    knees
}

/// From just above `before` to `knee`, spread evenly; empty when there is nothing between.
fn finer(before: usize, knee: usize) -> Vec<usize> {
    if knee <= before + 1 {
        return Vec::new();
    }
    let step = (knee - before).div_ceil(FINER_MAX).max(1);
    let mut numbers: Vec<usize> = (before + step..knee).step_by(step).collect();
    numbers.push(knee);
    numbers
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::tune::row::Spread;
    use crate::tune::{CpuShare, Errors, Percentiles};

    /// A row with these rates, a round each, and latencies of one value.
    pub fn row(connections: usize, rates: &[f64], reply_ms: f64, machine: f64) -> Row {
        let ms = |ms| Some(Percentiles { p50: ms, p95: ms, p99: ms, max: ms });
        Row {
            connections,
            recipients_per_transaction: 1,
            recipients_per_second: Spread::of(rates.iter().copied().enumerate().collect()),
            final_reply_ms: ms(reply_ms),
            mail_rcpt_ms: ms(0.1),
            connect_ms: ms(0.1),
            greeting_ms: ms(1.0),
            second_late_percent: 0.0,
            cpu_percent: Some(CpuShare { infeed: 5.0, machine, iowait: 0.0 }),
            sessions: connections,
            seconds: 4.0,
            rounds_used_up: 0,
            errors: Errors::default(),
        }
    }

    const NUMBERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

    /// 1,000 a connection up to `knee`, flat from there, times what `noise` makes of each round.
    fn curve(knee: usize, rounds: usize, mut noise: impl FnMut() -> f64) -> Vec<Row> {
        let rates = |n: usize, noise: &mut dyn FnMut() -> f64| -> Vec<f64> {
            (0..rounds).map(|_| 1000.0 * n.min(knee) as f64 * noise()).collect()
        };
        NUMBERS.iter().map(|&n| row(n, &rates(n, &mut noise), 1.0, 50.0)).collect()
    }

    #[test]
    fn the_knee_is_found_at_each_number_without_noise() {
        for knee in NUMBERS {
            let found = judge(&curve(knee, 5, || 1.0), 1).expect("a knee");
            assert_eq!(found.connections, knee);
            assert_eq!(found.interval, Some((knee, knee)));
            assert_eq!(found.share_of_draws, Some(1.0));
            assert_eq!(found.sureness, Sureness::Clear);
            assert_eq!(found.is_at_end, knee == 64);
        }
    }

    #[test]
    fn the_knee_is_where_goodput_is_best_when_it_falls_beyond() {
        let rates = [1000.0, 2000.0, 4000.0, 8000.0, 4000.0, 2000.0, 1000.0];
        let rows: Vec<Row> =
            NUMBERS.iter().zip(rates).map(|(&n, rate)| row(n, &[rate; 5], 1.0, 50.0)).collect();
        let found = judge(&rows, 1).expect("a knee");
        assert_eq!((found.connections, found.best_connections), (8, 8));
        assert_eq!(found.finer, [5, 6, 7, 8]);
    }

    #[test]
    fn the_interval_holds_the_knee_under_noise() {
        let mut outside = 0;
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let rows = curve(8, 9, || 0.97 + 0.06 * random.f64());
            let found = judge(&rows, seed).expect("a knee");
            let (low, high) = found.interval.expect("an interval");
            assert!(low <= high && found.share_of_draws.is_some_and(|share| (0.0..=1.0).contains(&share)));
            outside += usize::from(!(low..=high).contains(&8));
        }
        assert!(outside <= 5, "{outside} of 100 intervals of 95 % without the knee");
    }

    #[test]
    fn noise_that_hides_the_knee_is_called_unclear() {
        let mut random = fastrand::Rng::with_seed(3);
        let rows: Vec<Row> = NUMBERS
            .iter()
            .map(|&n| {
                let rates: Vec<f64> = (0..5).map(|_| 1000.0 * (0.5 + random.f64())).collect();
                row(n, &rates, 1.0, 50.0)
            })
            .collect();
        assert_eq!(judge(&rows, 1).expect("a knee").sureness, Sureness::Unclear);
    }

    #[test]
    fn too_few_rounds_say_so_and_give_no_interval() {
        for rounds in 1..3 {
            let found = judge(&curve(8, rounds, || 1.0), 1).expect("a knee");
            assert_eq!(found.connections, 8);
            assert_eq!((found.sureness, found.interval), (Sureness::TooFewRounds, None));
        }
        assert_eq!(judge(&curve(8, 3, || 1.0), 1).expect("a knee").sureness, Sureness::Rough);
    }

    #[test]
    fn a_round_that_was_cut_off_does_not_count_for_the_interval() {
        let mut rows = curve(8, 5, || 1.0);
        for row in &mut rows[3..] {
            let spread = row.recipients_per_second.as_mut().expect("measured");
            spread.by_round.remove(&4);
        }
        assert_eq!(judge(&rows, 1).expect("a knee").rounds, 4);
        // a number that was never measured is no part of it
        rows[6].recipients_per_second = None;
        assert_eq!(judge(&rows, 1).expect("a knee").connections, 8);
        assert_eq!(judge(&rows[6..], 1), None);
        assert_eq!(judge(&[], 1), None);
    }

    #[test]
    fn a_finer_sweep_lies_between_the_number_before_and_the_knee() {
        assert_eq!(finer(0, 1), Vec::<usize>::new());
        assert_eq!(finer(1, 2), Vec::<usize>::new());
        assert_eq!(finer(4, 8), [5, 6, 7, 8]);
        for (before, knee) in [(8, 16), (16, 32), (32, 64), (0, 1000)] {
            let numbers = finer(before, knee);
            assert!(numbers.len() <= FINER_MAX && numbers.last() == Some(&knee), "{numbers:?}");
            assert!(numbers.iter().all(|n| (before + 1..=knee).contains(n)), "{numbers:?}");
        }
    }
}
