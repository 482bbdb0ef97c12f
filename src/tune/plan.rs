//! What is measured, in which order, and how much mail that is at most. Pure.
//!
//! A *point* is a number of connections and of recipients a transaction; a *step* is one point in one
//! round. Every round runs all points, in an order of its own, so that what changes on the machine
//! meanwhile falls on all of them alike.

use super::error::TuneError;

/// The most connections that can be asked for: as `mta.connections`.
const CONNECTIONS_MAX: usize = 1_000;
/// As `mta.recipients_per_transaction_max`.
const RECIPIENTS_MAX: usize = 1_000;
/// Transactions for each connection that make a step worth its name.
const TRANSACTIONS_PER_CONNECTION_MIN: u64 = 2;
/// Between two steps, so that the MTA has done away with the connections of the one before: Postfix counts a
/// client's connections a moment longer than they last.
pub const PAUSE_S: f64 = 0.2;

/// A plan as it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanConfig {
    pub connections: Vec<usize>,
    pub recipients_per_transaction: Vec<usize>,
    /// Of one step, warm-up included.
    pub seconds: f64,
    pub rounds: usize,
    /// Letters of the whole sweep, each counted once for each of its recipients.
    pub recipients_max: u64,
    pub seed: u64,
}

/// A point of the sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    pub recipients_per_transaction: usize,
    pub connections: usize,
}

/// A plan that can be carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    config: PlanConfig,
    points: Vec<Point>,
}

impl Plan {
    /// Checks it; lists are sorted, and what is there twice is there once.
    ///
    /// # Errors
    /// [`TuneError::Flag`], [`TuneError::TooFewMessages`].
    pub fn new(mut config: PlanConfig) -> Result<Self, TuneError> {
        numbers("connections", &mut config.connections, CONNECTIONS_MAX)?;
        numbers("recipients-per-transaction", &mut config.recipients_per_transaction, RECIPIENTS_MAX)?;
        let flag = |flag, what: &str| Err(TuneError::Flag { flag, what: what.to_owned() });
        if !(0.1..=3600.0).contains(&config.seconds) {
            return flag("seconds", "must be 0.1 to 3600: 5 is a good start");
        }
        if !(1..=1000).contains(&config.rounds) {
            return flag("rounds", "must be 1 to 1000: with fewer than 3 nothing can be said about chance");
        }
        let points = config
            .recipients_per_transaction
            .iter()
            .flat_map(|&recipients_per_transaction| {
                config
                    .connections
                    .iter()
                    .map(move |&connections| Point { recipients_per_transaction, connections })
            })
            .collect();
        let plan = Plan { config, points };
        let per_step = plan.transactions_of_step(plan.recipients_max(), plan.recipients_per_pass());
        let connections = plan.connections_max();
        let wanted = TRANSACTIONS_PER_CONNECTION_MIN * connections as u64;
        if per_step < wanted {
            return Err(TuneError::TooFewMessages {
                messages_max: plan.recipients_max(),
                steps: plan.steps(),
                transactions: per_step,
                connections,
                wanted,
                enough: wanted * plan.recipients_per_pass(),
            });
        }
        Ok(plan)
    }

    pub fn points(&self) -> &[Point] {
        &self.points
    }

    pub fn rounds(&self) -> usize {
        self.config.rounds
    }

    pub fn seconds(&self) -> f64 {
        self.config.seconds
    }

    pub fn seed(&self) -> u64 {
        self.config.seed
    }

    /// Letters that go out at most, each counted once for each of its recipients.
    pub fn recipients_max(&self) -> u64 {
        self.config.recipients_max
    }

    pub fn steps(&self) -> usize {
        self.points.len() * self.config.rounds
    }

    pub fn connections_max(&self) -> usize {
        self.config.connections.iter().copied().max().unwrap_or(1)
    }

    pub fn recipients_per_transaction_max(&self) -> usize {
        self.config.recipients_per_transaction.iter().copied().max().unwrap_or(1)
    }

    /// How long it takes at most, if the MTA answers what it has taken on.
    pub fn seconds_max(&self) -> f64 {
        self.steps() as f64 * (self.config.seconds + PAUSE_S)
    }

    /// The points in the order of this round, counted from 0: the same for the same seed.
    pub fn order(&self, round: usize) -> Vec<Point> {
        let mut order = self.points.clone();
        let seed = self.config.seed.wrapping_add((round as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        fastrand::Rng::with_seed(seed).shuffle(&mut order);
        order
    }

    /// Transactions of the next step, where `left` letters are left and the steps to come, that one
    /// included, have so many recipients in one transaction of each.
    pub fn transactions_of_step(&self, left: u64, recipients_of_steps: u64) -> u64 {
        left / recipients_of_steps.max(1)
    }

    /// Recipients of one transaction of every step.
    pub fn recipients_per_pass(&self) -> u64 {
        self.config.rounds as u64
            * self.points.iter().map(|point| point.recipients_per_transaction as u64).sum::<u64>()
    }
}

fn numbers(flag: &'static str, list: &mut Vec<usize>, max: usize) -> Result<(), TuneError> {
    list.sort_unstable();
    list.dedup();
    if list.is_empty() || list.iter().any(|n| !(1..=max).contains(n)) {
        let what = format!("must be numbers from 1 to {max}, such as 1,2,4,8");
        return Err(TuneError::Flag { flag, what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> PlanConfig {
        PlanConfig {
            connections: vec![4, 1, 2, 2],
            recipients_per_transaction: vec![1, 10],
            seconds: 2.0,
            rounds: 3,
            recipients_max: 100_000,
            seed: 7,
        }
    }

    #[test]
    fn every_round_runs_every_point_once_in_an_order_of_its_own() {
        let plan = Plan::new(config()).expect("a plan");
        assert_eq!(plan.points().len(), 6);
        assert_eq!(plan.steps(), 18);
        let mut orders = std::collections::HashSet::new();
        for round in 0..8 {
            let order = plan.order(round);
            assert_eq!(order, plan.order(round), "the same for the same seed");
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, plan.points());
            orders.insert(order);
        }
        assert!(orders.len() > 1);
    }

    #[test]
    fn too_few_messages_are_refused_with_the_number_that_is_enough() {
        let error = Plan::new(PlanConfig { recipients_max: 200, ..config() }).expect_err("too few");
        let TuneError::TooFewMessages { enough, .. } = error else { panic!("{error}") };
        Plan::new(PlanConfig { recipients_max: enough, ..config() }).expect("enough");
        assert!(Plan::new(PlanConfig { recipients_max: enough - 1, ..config() }).is_err());
    }

    #[test]
    fn a_number_out_of_bounds_names_its_flag() {
        for (config, flag) in [
            (PlanConfig { connections: vec![0], ..config() }, "--connections"),
            (PlanConfig { connections: vec![], ..config() }, "--connections"),
            (PlanConfig { recipients_per_transaction: vec![1001], ..config() }, "--recipients-per-"),
            (PlanConfig { seconds: f64::NAN, ..config() }, "--seconds"),
            (PlanConfig { rounds: 0, ..config() }, "--rounds"),
        ] {
            let error = Plan::new(config).expect_err(flag).to_string();
            assert!(error.starts_with(flag), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_steps_together_never_have_more_than_the_bound(
            connections in prop::collection::vec(1usize..40, 1..6),
            recipients in prop::collection::vec(1usize..60, 1..4),
            rounds in 1usize..5,
            recipients_max in 1u64..200_000,
            used_percent in 0u64..=100,
        ) {
            let config = PlanConfig {
                connections, recipients_per_transaction: recipients, rounds, recipients_max, seconds: 1.0, seed: 1,
            };
            let Ok(plan) = Plan::new(config) else { return Ok(()) };
            let (mut left, mut to_come, mut sent) = (plan.recipients_max(), plan.recipients_per_pass(), 0);
            for round in 0..plan.rounds() {
                for point in plan.order(round) {
                    let recipients = point.recipients_per_transaction as u64;
                    let transactions = plan.transactions_of_step(left, to_come);
                    prop_assert!(transactions >= 2 * plan.connections_max() as u64);
                    let used = transactions * used_percent / 100 * recipients;
                    (left, to_come, sent) = (left - used, to_come - recipients, sent + used);
                }
            }
            prop_assert_eq!(to_come, 0);
            prop_assert!(sent <= recipients_max);
        }
    }
}
