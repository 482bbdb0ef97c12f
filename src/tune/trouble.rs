//! What stops a step, or all of it, in the MTA's own words.

use serde::Serialize;

use crate::infeed::{RcptResult, Said, Settlement};

/// Deferrals in a row that stop the sweep: one may be chance, and more of them only fill a log.
const DEFERRED_IN_A_ROW_MAX: u64 = 3;
/// And in any order, if they are more than one in ten.
const DEFERRED_MIN: u64 = 10;

/// Why there is no going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trouble {
    /// 5xx.
    Refused { stage: String, code: u16, text: String },
    /// 4xx, again and again.
    Deferred { stage: String, code: u16, text: String },
    /// It wants to be left alone for a while, or takes nothing at all from us.
    Held { text: String },
    /// No session came about.
    NoSession { text: String },
    /// It takes no more than so many connections. Stops the step alone: fewer may go on.
    /// `refused`: not by a reply, but by the connect itself or a reset; sendmail takes none for a while then.
    Limit { connections: usize, text: String, refused: bool },
}

impl Trouble {
    /// Where nobody needs to go on with fewer connections.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Trouble::Limit { .. })
    }

    /// What the MTA said, or what happened.
    pub fn text(&self) -> String {
        match self {
            Trouble::Refused { stage, code, text } | Trouble::Deferred { stage, code, text } => {
                format!("{code} {text} (to {stage})")
            }
            Trouble::Held { text } | Trouble::NoSession { text } | Trouble::Limit { text, .. } => {
                text.clone()
            }
        }
    }
}

/// Watches results for what should stop the sweep.
#[derive(Debug, Default)]
pub struct Watch {
    settled: u64,
    deferred: u64,
    deferred_in_a_row: u64,
}

impl Watch {
    /// Looks at what came back; some trouble at the reply that is one too many.
    pub fn look(&mut self, settlement: &Settlement) -> Option<Trouble> {
        if let Some(fault) = &settlement.job_fault {
            return Some(refused(fault.stage.to_string(), &fault.said));
        }
        let mut trouble = None;
        for result in &settlement.results {
            self.settled += 1;
            match result {
                RcptResult::Accepted { .. } => self.deferred_in_a_row = 0,
                RcptResult::Refused { stage, said } => return Some(refused(stage.to_string(), said)),
                RcptResult::Deferred { stage, said } => {
                    self.deferred += 1;
                    self.deferred_in_a_row += 1;
                    let many = self.deferred >= DEFERRED_MIN && self.deferred * 10 > self.settled;
                    if self.deferred_in_a_row >= DEFERRED_IN_A_ROW_MAX || many {
                        let Said { code, text } = said.clone();
                        trouble = Some(Trouble::Deferred { stage: stage.to_string(), code, text });
                    }
                }
                RcptResult::NotTried | RcptResult::InDoubt { .. } => (),
            }
        }
        trouble
    }
}

fn refused(stage: String, said: &Said) -> Trouble {
    Trouble::Refused { stage, code: said.code, text: said.text.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infeed::{JobFault, Rcpt, Stage, Transaction};
    use crate::message::Content;

    fn settlement(results: Vec<RcptResult>) -> Settlement {
        let content =
            Content { wire: bytes::Bytes::new(), size_octets: 0, eight_bit: false, utf8_headers: false };
        let recipients = vec![Rcpt { token: 0, address: "a@x.example".into() }; results.len()];
        let sender = String::new();
        let transaction =
            Transaction { sender, xverp: None, recipients, content, dsn: None, shared_content: false };
        Settlement { transaction, results, job_fault: None }
    }

    fn said(code: u16) -> Said {
        Said { code, text: "as the test wants it".into() }
    }

    fn accepted() -> RcptResult {
        RcptResult::Accepted { said: said(250), queue_id: None }
    }

    fn deferred() -> RcptResult {
        RcptResult::Deferred { stage: Stage::Rcpt, said: said(451) }
    }

    #[test]
    fn one_5xx_stops_at_once_and_is_told_in_the_mtas_words() {
        let refused = RcptResult::Refused { stage: Stage::Rcpt, said: said(550) };
        let trouble = Watch::default().look(&settlement(vec![accepted(), refused])).expect("trouble");
        assert_eq!(trouble.text(), "550 as the test wants it (to RCPT)");
        let fault = JobFault { stage: Stage::Data, said: said(554) };
        let fault = Settlement { job_fault: Some(fault), ..settlement(vec![RcptResult::NotTried]) };
        assert!(matches!(Watch::default().look(&fault), Some(Trouble::Refused { code: 554, .. })));
    }

    #[test]
    fn a_4xx_stops_when_it_is_said_again_and_again() {
        let mut watch = Watch::default();
        for _ in 0..3 {
            assert_eq!(watch.look(&settlement(vec![deferred(), deferred(), accepted()])), None, "{watch:?}");
            assert_eq!(watch.look(&settlement(vec![accepted(); 20])), None);
        }
        assert_eq!(watch.look(&settlement(vec![deferred()])), None);
        assert_eq!(watch.look(&settlement(vec![deferred()])), None);
        assert!(matches!(
            watch.look(&settlement(vec![deferred()])),
            Some(Trouble::Deferred { code: 451, .. })
        ));
    }

    #[test]
    fn a_4xx_stops_when_it_is_more_than_one_in_ten() {
        let mut watch = Watch::default();
        let trouble = (0..20).find_map(|_| watch.look(&settlement(vec![deferred(), accepted()])));
        assert!(trouble.is_some_and(|trouble| trouble.is_fatal()));
        assert_eq!(watch.deferred, DEFERRED_MIN);
    }
}
