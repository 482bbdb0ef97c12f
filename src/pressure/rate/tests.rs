//! On simulated time.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn rate(per_second: f64) -> Option<PerSecond> {
    PerSecond::new(per_second)
}

/// Takes whatever may go at `now`.
fn take_all(limiter: &mut Limiter, now: u64) -> usize {
    let mut taken = 0;
    while limiter.may(Moment(now)).is_ok() {
        limiter.take(Moment(now));
        taken += 1;
        assert!(taken <= 2_000_000, "no end");
    }
    taken
}

/// Demand all the time, from `from` on for `span`; whoever waits is woken late, by what `late` says.
fn demand(limiter: &mut Limiter, from: u64, span: u64, mut late: impl FnMut() -> u64) -> Vec<u64> {
    let (mut now, mut went) = (from, Vec::new());
    while now < from + span {
        went.extend(std::iter::repeat_n(now, take_all(limiter, now)));
        let until = limiter.may(Moment(now)).expect_err("all of it was taken");
        now = until.0 + late();
    }
    went
}

proptest! {
    #[test]
    fn with_demand_the_rate_is_exact_whoever_is_late(
        per_second in prop_oneof![0.5f64..5.0, 5.0..500.0, 500.0..20_000.0],
        lateness in proptest::collection::vec(0u64..200 * MS, 1..40),
        begin in 1u64..10 * SECOND_NS,
    ) {
        let mut limiter = Limiter::new(rate(per_second));
        let mut late = lateness.iter().cycle();
        let span = (40.0 / per_second).max(5.0) * SECOND_NS as f64;
        let went = demand(&mut limiter, begin, span as u64, || *late.next().unwrap());
        let seconds = (went[went.len() - 1] - went[0]) as f64 / SECOND_NS as f64;
        // the last one may have been due before it went: but for that, it is exact
        let want = per_second * seconds;
        let got = (went.len() - 1) as f64;
        prop_assert!(got <= want + 1.0, "{} of {}", got, want);
        prop_assert!(got >= want * 0.98 - 1.0 - per_second * 0.2, "{} of {}", got, want);
    }

    #[test]
    fn no_second_has_more_than_two_seconds_worth_whatever_comes_when(
        per_second in prop_oneof![0.5f64..5.0, 5.0..200.0],
        steps in proptest::collection::vec((0u64..3 * SECOND_NS, any::<bool>()), 1..60),
    ) {
        let mut limiter = Limiter::new(rate(per_second));
        let (mut now, mut went) = (SECOND_NS, Vec::new());
        for (step, all) in steps {
            now += step;
            let taken = match all {
                true => take_all(&mut limiter, now),
                false if limiter.may(Moment(now)).is_ok() => {
                    limiter.take(Moment(now));
                    1
                }
                false => 0,
            };
            went.extend(std::iter::repeat_n(now, taken));
        }
        for (i, from) in went.iter().enumerate() {
            let within = went[i..].iter().take_while(|at| **at < from + SECOND_NS).count();
            prop_assert!(within as f64 <= 2.0 * per_second + 1.0, "{} at {}/s", within, per_second);
        }
    }

    #[test]
    fn changes_at_any_time_grant_nothing(
        changes in proptest::collection::vec((1u64..400 * MS, 1.0f64..2_000.0), 1..100),
    ) {
        let mut limiter = Limiter::new(rate(changes[0].1));
        let (mut now, mut allowed, mut went) = (SECOND_NS, 1.0, 0);
        let mut of = changes[0].1;
        for (span, next) in changes {
            let end = now + span;
            while now < end {
                went += take_all(&mut limiter, now);
                let until = limiter.may(Moment(now)).expect_err("all of it was taken").0.min(end);
                allowed += of * (until - now) as f64 / SECOND_NS as f64;
                now = until;
            }
            limiter.set_rate(rate(next), Moment(now));
            of = next;
        }
        // to a thousandth, in which rates are counted
        prop_assert!(went as f64 <= allowed * 1.01 + 1.0, "{} of {}", went, allowed);
        prop_assert!(went as f64 >= allowed * 0.99 - 2.0, "{} of {}", went, allowed);
    }
}

#[test]
fn a_new_limiter_grants_one_message_and_no_burst() {
    for per_second in [0.5, 1.0, 50.0, 10_000.0] {
        let mut limiter = Limiter::new(rate(per_second));
        assert_eq!(take_all(&mut limiter, 77 * SECOND_NS), 1);
    }
}

#[test]
fn ten_thousand_a_second_and_one_in_two_seconds_are_exact_on_a_timer_of_a_millisecond() {
    for (per_second, seconds, want) in [(10_000.0, 10, 100_000), (0.5, 100, 50), (333.0, 10, 3_330)] {
        let mut limiter = Limiter::new(rate(per_second));
        let mut went = 0;
        for ms in 0..seconds * 1_000 {
            went += take_all(&mut limiter, SECOND_NS + ms * MS);
        }
        let off = (went as f64 - f64::from(want)).abs() / f64::from(want);
        assert!(off <= 0.02, "{went} of {want}");
    }
}

#[test]
fn after_an_idle_spell_a_tenth_of_a_second_goes_at_once_and_no_more() {
    for (per_second, at_once) in [(0.5, 1), (5.0, 1), (50.0, 6), (1_000.0, 101)] {
        let mut limiter = Limiter::new(rate(per_second));
        limiter.may(Moment(SECOND_NS)).unwrap();
        limiter.take(Moment(SECOND_NS));
        assert_eq!(take_all(&mut limiter, 3_600 * SECOND_NS), at_once, "{per_second}/s");
    }
}

#[test]
fn whoever_waited_and_is_late_catches_up_at_most_a_second() {
    let mut limiter = Limiter::new(rate(10.0));
    assert_eq!(take_all(&mut limiter, SECOND_NS), 1);
    // due at 1.1 s; woken at 1.55 s: those of 1.1 to 1.5 s
    assert_eq!(take_all(&mut limiter, SECOND_NS + 550 * MS), 5);
    assert_eq!(take_all(&mut limiter, 100 * SECOND_NS), 10);
}

#[test]
fn a_change_keeps_the_part_that_was_waited_for() {
    let mut limiter = Limiter::new(rate(0.5));
    assert_eq!(take_all(&mut limiter, SECOND_NS), 1);
    // half of the two seconds are over; at 10/s, half of a tenth is left
    limiter.set_rate(rate(10.0), Moment(2 * SECOND_NS));
    assert_eq!(limiter.may(Moment(2 * SECOND_NS)), Err(Moment(2 * SECOND_NS + 50 * MS)));
    limiter.set_rate(None, Moment(2 * SECOND_NS));
    assert_eq!((limiter.may(Moment(2 * SECOND_NS)), limiter.rate()), (Ok(()), None));
}

#[test]
fn a_rate_that_is_set_anew_to_the_same_changes_nothing() {
    let mut limiter = Limiter::new(rate(10.0));
    let mut went = 0;
    for ms in 0..10_000 {
        limiter.set_rate(rate(10.0), Moment(SECOND_NS + ms * MS));
        went += take_all(&mut limiter, SECOND_NS + ms * MS);
    }
    assert_eq!(went, 100);
}
