//! How many lines each part of the screen gets: on a small one the least needed goes first.

/// What there is to show, in lines.
#[derive(Debug, Clone)]
pub struct Wish {
    pub head: usize,
    pub said: usize,
    /// Of each MTA, with its reasons.
    pub mtas: Vec<usize>,
    pub jobs: usize,
    pub refusals: usize,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Lines of the chart.
    pub chart: usize,
    pub outcomes: bool,
    /// Headings of the tables.
    pub headings: bool,
    /// Lines of all MTAs together.
    pub mtas: usize,
    /// The reasons of an MTA's state and number.
    pub reasons: bool,
    /// Refusals, without their heading.
    pub refusals: usize,
    pub space: bool,
    pub keys: bool,
}

/// Jobs that are to be seen, before anything else gets more.
const JOBS_MIN: usize = 4;
const REFUSALS_MAX: usize = 8;
const CHART_MAX: usize = 4;

impl Plan {
    /// The plan for so many lines.
    pub fn of(wish: &Wish, height: usize) -> Self {
        let all_mtas: usize = wish.mtas.iter().sum();
        let mut plan = Self {
            chart: (height / 10).clamp(1, CHART_MAX),
            outcomes: true,
            headings: true,
            mtas: all_mtas.min((height / 3).max(2)),
            reasons: true,
            refusals: wish.refusals.min((height / 8).clamp(1, REFUSALS_MAX)),
            space: true,
            keys: true,
        };
        let steps: [fn(&mut Plan, &Wish); 9] = [
            |plan, _| plan.refusals = plan.refusals.min(1),
            |plan, _| plan.chart = plan.chart.min(1),
            |plan, _| plan.refusals = 0,
            |plan, _| plan.space = false,
            |plan, wish| (plan.reasons, plan.mtas) = (false, plan.mtas.min(wish.mtas.len())),
            |plan, _| plan.chart = 0,
            |plan, _| plan.headings = false,
            |plan, _| (plan.keys, plan.mtas) = (false, plan.mtas.min(1)),
            |plan, _| plan.outcomes = false,
        ];
        for step in steps {
            if plan.lines(wish) <= height {
                break;
            }
            step(&mut plan, wish);
        }
        plan
    }

    /// Lines that it takes, with as many jobs as are to be seen.
    fn lines(&self, wish: &Wish) -> usize {
        let heading = usize::from(self.headings);
        let of = |lines: usize| if lines > 0 { lines + heading } else { 0 };
        // throughput and backlog are one line each
        wish.head
            + 2
            + self.chart
            + usize::from(self.outcomes)
            + of(self.mtas)
            + of(wish.jobs.clamp(1, JOBS_MIN))
            + of(self.refusals)
            + usize::from(self.space)
            + wish.said
            + usize::from(self.keys)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn on_24_lines_there_is_something_of_everything() {
        let wish = Wish { head: 1, said: 1, mtas: vec![2], jobs: 9, refusals: 20 };
        let plan = Plan::of(&wish, 24);
        assert!(
            plan.chart > 0 && plan.refusals > 0 && plan.reasons && plan.headings && plan.keys,
            "{plan:?}"
        );
        assert!(plan.lines(&wish) <= 24);
    }

    proptest! {
        #[test]
        fn what_fits_fits_and_more_lines_never_show_less(
            head in 1_usize..6, said in 0_usize..4, mtas in prop::collection::vec(1_usize..4, 0..20),
            jobs in 0_usize..50, refusals in 0_usize..21, height in 0_usize..100,
        ) {
            let wish = Wish { head, said, mtas, jobs, refusals };
            let plan = Plan::of(&wish, height);
            let least = head + said + 2 + 1 + jobs.clamp(1, JOBS_MIN);
            prop_assert!(plan.lines(&wish) <= height.max(least), "{plan:?} of {height}");
            if plan.lines(&wish) <= height {
                prop_assert!(plan.outcomes || height < 16, "{plan:?} of {height}");
            }
        }
    }
}
