//! The line that says why the number of connections is what it is. docs/pressure.md lists what it may say.

use super::{Law, State};

/// Goodput that differs by less, in percent, is the same.
const FLAT_PERCENT: f64 = 2.0;
/// A gain beyond it that was no reason to move was lost in the noise.
const GAIN_PERCENT_MAX: f64 = 15.0;
/// What is so old, in s, goes on.
const NOW_S: u64 = 2;

pub(super) fn line(law: &Law) -> String {
    let mut line = format!("{}: {}", law.wanted(), reason(law));
    if let Some((at, what)) = law.last_cut {
        line += &format!("; last cut {} s ago: {what}", law.now.saturating_sub(at).as_secs());
    }
    line
}

fn reason(law: &Law) -> String {
    let search = &law.search;
    if let Some(braking) = law.braking {
        let rate = braking.pace_per_s;
        let late_s = braking.late_at.map(|at| law.now.saturating_sub(at).as_secs());
        return match late_s {
            None => format!("the MTA's queue is held below its target, {rate:.0} messages/s"),
            Some(0..=NOW_S) => format!("RCPT replies come a second late, {rate:.0} messages/s may go in"),
            Some(ago) => {
                format!("RCPT replies came a second late {ago} s ago, {rate:.0} messages/s may go in")
            }
        };
    }
    match law.state {
        State::Held => return "nothing to judge while the MTA is idle, down or held".to_owned(),
        State::NoWork => return "nothing to judge while connections wait for work".to_owned(),
        State::Trouble => return "connects are refused or late, so what stands is kept".to_owned(),
        State::Judging => {}
    }
    if search.measured != search.choice {
        return format!("tried instead of {}", search.choice);
    }
    if search.goodput().is_none() {
        return "not measured yet".to_owned();
    }
    if search.choice == law.limits.connections_max {
        return "connections_max; goodput climbs up to it".to_owned();
    }
    if search.choice >= law.ceiling() {
        return "the MTA bears no more".to_owned();
    }
    let up = search.tried_up.filter(|(tried, _)| *tried > search.choice);
    match up {
        Some((tried, gain)) => compared(search.choice, tried, gain),
        None => match search.tried_down.filter(|(tried, _)| *tried < search.choice) {
            Some((tried, gain)) => compared(search.choice, tried, gain),
            None => "the best so far".to_owned(),
        },
    }
}

fn compared(choice: usize, tried: usize, gain: f64) -> String {
    let percent = 100.0 * gain;
    if percent.abs() < FLAT_PERCENT {
        format!("goodput flat from {choice} to {tried}")
    } else if percent < 0.0 {
        format!("goodput falls by {:.0} % from {choice} to {tried}", -percent)
    } else if percent > GAIN_PERCENT_MAX {
        format!("goodput is too uneven to tell {choice} from {tried}")
    } else {
        format!("goodput climbs by only {percent:.0} % from {choice} to {tried}")
    }
}
