//! All that a sweep told, for machines and as the base of the table.

use serde::{Serialize, Serializer};

use super::bottleneck::{Finding, findings};
use super::judge::{KNEE_SHARE, Knee, Sureness, judge};
use super::plan::Plan;
use super::remedy::Mta;
use super::row::Row;
use super::sweep::Swept;
use super::trouble::Trouble;

/// Steps shorter than this, in seconds, are told of: what is measured in them is the start.
const SECONDS_MIN: f64 = 1.0;

/// How a sweep ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// By a signal.
    Stopped,
    /// At so many connections.
    Trouble {
        connections: usize,
        trouble: Trouble,
    },
}

impl Ended {
    fn word(&self) -> &'static str {
        match self {
            Ended::Done => "done",
            Ended::Stopped => "stopped",
            Ended::Trouble { .. } => "trouble",
        }
    }
}

impl Serialize for Ended {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.word())
    }
}

/// The whole of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// As it was asked for.
    pub address: String,
    pub mta: Mta,
    /// The MTA's greeting; empty when there was none.
    pub banner: String,
    pub processors: usize,
    /// Of one rehearsal message.
    pub size_octets: u64,
    pub seconds: f64,
    pub rounds: usize,
    pub rounds_done: usize,
    pub seed: u64,
    pub messages_max: u64,
    /// Recipients that were accepted.
    pub accepted: u64,
    pub ended: Ended,
    /// What stopped it, and what to do.
    pub trouble: Option<Trouble>,
    pub trouble_remedy: Option<String>,
    pub rows: Vec<Row>,
    /// One for each number of recipients a transaction.
    pub knees: Vec<Knee>,
    /// The curve that the configuration below is of.
    pub recipients_per_transaction: Option<usize>,
    /// Lines for the configuration file; `None` without a knee, or where some trouble ended the sweep: what was
    /// measured until then says nothing of what would have come.
    pub toml: Option<String>,
    /// Of that curve.
    pub bottlenecks: Vec<Finding>,
    /// What to bear in mind.
    pub remarks: Vec<String>,
    /// No session was ever opened.
    #[serde(skip)]
    pub is_unanswered: bool,
}

impl Report {
    /// Judges what was measured.
    pub fn new(plan: &Plan, swept: Swept, address: &str, processors: usize, size_octets: u64) -> Self {
        let mta = swept.opened.as_ref().map_or(Mta::Other, Mta::of);
        let curves: Vec<&[Row]> = swept
            .rows
            .chunk_by(|a, b| a.recipients_per_transaction == b.recipients_per_transaction)
            .collect();
        let knees: Vec<Knee> = curves.iter().filter_map(|rows| judge(rows, plan.seed())).collect();
        let knee = chosen(&knees);
        let curve = curves.iter().find(|rows| {
            knee.is_some_and(|knee| knee.recipients_per_transaction == rows[0].recipients_per_transaction)
        });
        let bottlenecks = findings(curve.copied().unwrap_or_default(), knee, swept.limit.as_ref(), mta);
        let (trouble, trouble_remedy) = match &swept.ended {
            Ended::Trouble { trouble, .. } => (Some(trouble.clone()), Some(mta.remedy_of(trouble))),
            _ => (None, None),
        };
        let toml = knee.filter(|_| trouble.is_none());
        let toml = toml.map(|knee| {
            toml_of(knee, knees.len() > 1, doubt(knee, &swept.ended, swept.limit.is_some()).as_deref())
        });
        Report {
            is_unanswered: swept.opened.is_none(),
            address: address.to_owned(),
            mta,
            banner: swept.opened.map(|opened| opened.banner).unwrap_or_default(),
            processors,
            size_octets,
            seconds: plan.seconds(),
            rounds: plan.rounds(),
            rounds_done: swept.rounds_done,
            seed: plan.seed(),
            messages_max: plan.recipients_max(),
            accepted: swept.recipients_accepted,
            trouble,
            trouble_remedy,
            recipients_per_transaction: knee.map(|knee| knee.recipients_per_transaction),
            toml,
            remarks: remarks(plan, &swept.rows, &swept.ended, knee),
            ended: swept.ended,
            rows: swept.rows,
            knees,
            bottlenecks,
        }
    }

    /// The knee that the configuration is made of.
    pub fn knee(&self) -> Option<&Knee> {
        chosen(&self.knees)
    }

    /// What some trouble that ended the sweep came in, and what it was.
    pub fn stopped(&self) -> Option<String> {
        let Ended::Trouble { connections, trouble } = &self.ended else { return None };
        let text = trouble.text();
        Some(if self.is_unanswered {
            format!("no session was ever opened: {text}")
        } else {
            format!(
                "the sweep stopped at {connections} connections, {} of at most {} messages in: {text}",
                self.accepted, self.messages_max
            )
        })
    }
}

/// The smallest number of recipients that gets nearly what the best one gets: what is in doubt after a crash
/// grows with it.
fn chosen(knees: &[Knee]) -> Option<&Knee> {
    let best = knees.iter().map(|knee| knee.best_recipients_per_second).fold(0.0, f64::max);
    knees.iter().find(|knee| knee.best_recipients_per_second >= best * KNEE_SHARE)
}

/// Why the knee is no advice to be followed as it is. `limited`: the MTA takes no more.
fn doubt(knee: &Knee, ended: &Ended, limited: bool) -> Option<String> {
    if *ended == Ended::Stopped {
        return Some("the sweep was stopped before its end: the best may be another number".to_owned());
    }
    let is_open = knee.is_at_end && !limited;
    is_open.then(|| format!("the best may lie beyond {}, the last number that was tried", knee.connections))
}

fn toml_of(knee: &Knee, with_recipients: bool, doubt: Option<&str>) -> String {
    let doubt = doubt.map(|doubt| format!("# {doubt}\n")).unwrap_or_default();
    let mut lines = format!("{doubt}[mta]\nconnections = {}\n", knee.connections);
    if with_recipients {
        lines.push_str(&format!("recipients_per_transaction_max = {}\n", knee.recipients_per_transaction));
    }
    lines
}

fn remarks(plan: &Plan, rows: &[Row], ended: &Ended, knee: Option<&Knee>) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(knee) = knee {
        match knee.sureness {
            Sureness::TooFewRounds => remarks.push(format!(
                "too few rounds ({}) to tell the knee from chance: 3 at least, 5 are better (--rounds 5)",
                knee.rounds
            )),
            Sureness::Unclear => remarks.push(
                "noise hides the knee: was anything else at work on this machine? More rounds and longer steps \
                 help (--rounds, --seconds, and --messages-max with them)"
                    .to_owned(),
            ),
            Sureness::Rough => remarks.push(format!(
                "{} rounds give a rough interval: --rounds 5 gives a better one",
                knee.rounds
            )),
            Sureness::Clear => {}
        }
    }
    let is_whole = *ended == Ended::Done;
    let shortest = rows.iter().filter(|row| row.rounds_used_up > 0).map(|row| row.seconds);
    if let Some(shortest) = shortest.min_by(f64::total_cmp)
        && shortest < SECONDS_MIN
        && is_whole
    {
        // what each step would take, and a quarter more for its warm-up
        let transactions: f64 =
            rows.iter().map(|row| row.rate() / row.recipients_per_transaction as f64).fold(0.0, f64::max);
        let enough = transactions * SECONDS_MIN * 1.25 * plan.recipients_per_pass() as f64;
        let enough = (enough / 10_000.0).ceil() * 10_000.0;
        remarks.push(format!(
            "the messages of a step were used up in {shortest:.2} s, too short to say much: --messages-max \
             {enough:.0} gives every step a second"
        ));
    }
    for row in rows.iter().filter(|row| row.errors.beyond_limit > 0) {
        remarks.push(format!(
            "at {} connections and {} recipients a transaction {} recipients came back untried: the MTA takes \
             fewer a transaction",
            row.connections, row.recipients_per_transaction, row.errors.beyond_limit
        ));
    }
    let missing: Vec<String> =
        rows.iter().filter(|row| row.rate() == 0.0).map(|row| row.connections.to_string()).collect();
    if !missing.is_empty() && is_whole {
        remarks.push(format!("not measured, or only in part: {} connections", missing.join(", ")));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infeed::Opened;
    use crate::tune::PlanConfig;
    use crate::tune::judge::tests::row;

    /// Of 1, 2 and 4 connections, with so many recipients a second each.
    fn report(rates: [f64; 3], ended: Ended, limit: Option<Trouble>, opened: Option<Opened>) -> Report {
        let connections = vec![1, 2, 4];
        let plan = Plan::new(PlanConfig {
            connections: connections.clone(),
            recipients_per_transaction: vec![1],
            seconds: 5.0,
            rounds: 3,
            recipients_max: 20_000,
            seed: 1,
        })
        .expect("a plan");
        let rows = connections.iter().zip(rates).map(|(&n, rate)| row(n, &[rate; 3], 1.0, 50.0)).collect();
        let swept = Swept { rows, opened, recipients_accepted: 300, rounds_done: 3, ended, limit };
        Report::new(&plan, swept, "127.0.0.1:25", 2, 4096)
    }

    fn away() -> Ended {
        let text = "can't connect to the MTA: Connection refused".to_owned();
        Ended::Trouble { connections: 4, trouble: Trouble::NoSession { text } }
    }

    const CLIMBS: [f64; 3] = [100.0, 200.0, 400.0];

    #[test]
    fn what_is_no_advice_does_not_look_like_some() {
        let toml = |rates, ended, limit| report(rates, ended, limit, Some(Opened::default())).toml;
        let flat = [100.0, 200.0, 200.0];
        assert_eq!(toml(flat, Ended::Done, None).as_deref(), Some("[mta]\nconnections = 2\n"));
        let at_end = toml(CLIMBS, Ended::Done, None).expect("lines");
        assert!(at_end.starts_with("# the best may lie beyond 4,"), "{at_end}");
        let limit = Trouble::Limit { connections: 5, text: "421 too many".to_owned(), refused: false };
        assert_eq!(toml(CLIMBS, Ended::Done, Some(limit)).as_deref(), Some("[mta]\nconnections = 4\n"));
        let stopped = toml(flat, Ended::Stopped, None).expect("lines");
        assert!(stopped.starts_with("# the sweep was stopped before its end"), "{stopped}");
        assert_eq!(toml(flat, away(), None), None);
        let text = crate::tune::text(&report(flat, away(), None, Some(Opened::default())));
        assert!(!text.contains("[mta]") && text.contains("measured until then"), "{text}");
        assert!(text.contains("the sweep stopped at 4 connections"), "{text}");
    }

    #[test]
    fn an_mta_that_never_answered_was_not_stopped_at_some_number() {
        let text = crate::tune::text(&report([0.0; 3], away(), None, None));
        assert!(
            text.contains("no session was ever opened: can't connect") && !text.contains("stopped"),
            "{text}"
        );
        assert!(text.starts_with("the MTA at 127.0.0.1:25 (no greeting)\n"), "{text}");
    }
}
