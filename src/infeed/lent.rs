//! A transaction on loan: guarantees that each of its recipients is settled exactly once, whatever
//! happens to the infeed that holds it (error, panic, abort).

use std::sync::Arc;

use super::transaction::{JobFault, RcptResult, Said, Settlement, Stage, Transaction, Work};
use super::verdict::Fate;

/// Holds the transaction until [`Lent::settle`], or settles in `drop`: `NotTried` before the content was
/// begun, `InDoubt` after.
pub struct Lent<W: Work> {
    work: Arc<W>,
    /// `None` once settled.
    transaction: Option<Transaction>,
    /// `None`: live. Same length and order as the recipients.
    results: Vec<Option<RcptResult>>,
    job_fault: Option<JobFault>,
    /// RCPTs that were written.
    pub rcpts_sent: usize,
    /// RCPTs that the MTA accepted.
    pub rcpts_accepted: usize,
    /// Octets of the content may have been written: a drop from here on leaves doubt.
    pub content_begun: bool,
    /// MAIL was taken and no content has ended it: RSET before the next MAIL.
    pub mail_open: bool,
}

impl<W: Work> Lent<W> {
    pub fn new(work: Arc<W>, transaction: Transaction) -> Self {
        let results = vec![None; transaction.recipients.len()];
        Self {
            work,
            transaction: Some(transaction),
            results,
            job_fault: None,
            rcpts_sent: 0,
            rcpts_accepted: 0,
            content_begun: false,
            mail_open: false,
        }
    }

    pub fn transaction(&self) -> &Transaction {
        let Some(transaction) = &self.transaction else { unreachable!("settled only by value or in drop") };
        transaction
    }

    /// The next recipient at or after `from` without a result.
    pub fn next_live(&self, from: usize) -> Option<usize> {
        (from..self.results.len()).find(|&i| self.results[i].is_none())
    }

    pub fn any_live(&self) -> bool {
        self.next_live(0).is_some()
    }

    /// The result of recipient `i`, which must be live.
    pub fn set(&mut self, i: usize, result: RcptResult) {
        assert!(self.results[i].is_none(), "recipient {i} of a transaction has a result already");
        self.results[i] = Some(result);
    }

    /// Takes back the results of recipients whose RCPT only said that they were not tried, before the
    /// same transaction is sent again.
    pub fn begin_again(&mut self) {
        self.rcpts_accepted = 0;
        self.mail_open = false;
        self.content_begun = false;
    }

    /// What `fate` means for every live recipient. `Taken`, `Again` and `Void` decide nothing here.
    pub fn decide(&mut self, stage: Stage, fate: Fate, said: &Said) {
        if fate == Fate::JobFault {
            self.job_fault = Some(JobFault { stage, said: said.clone() });
        }
        for result in self.results.iter_mut().filter(|r| r.is_none()) {
            *result = result_of(stage, fate, said);
        }
    }

    /// As [`Lent::decide`], for one recipient.
    pub fn decide_one(&mut self, i: usize, stage: Stage, fate: Fate, said: &Said) {
        if let Some(result) = result_of(stage, fate, said) {
            self.set(i, result);
        }
    }

    /// Every live recipient was accepted with this reply.
    pub fn accept(&mut self, said: Said) {
        let queue_id = super::reply::queue_id(&said.text).map(str::to_owned);
        let mut live = self.results.iter_mut().filter(|r| r.is_none()).peekable();
        let mut last = Some((said, queue_id));
        while let Some(slot) = live.next() {
            let taken = if live.peek().is_some() { last.clone() } else { last.take() };
            *slot = taken.map(|(said, queue_id)| RcptResult::Accepted { said, queue_id });
        }
    }

    /// Every live recipient is in doubt.
    pub fn doubt(&mut self, error: &str) {
        for result in self.results.iter_mut().filter(|r| r.is_none()) {
            *result = Some(RcptResult::InDoubt { error: error.to_owned() });
        }
    }

    /// The fault of the job that was found before anything was said.
    pub fn fault(&mut self, fault: JobFault) {
        self.job_fault = Some(fault);
        self.not_tried();
    }

    pub fn not_tried(&mut self) {
        for result in self.results.iter_mut().filter(|r| r.is_none()) {
            *result = Some(RcptResult::NotTried);
        }
    }

    /// What is known of each recipient, in their order; `None`: nothing yet.
    pub fn results(&self) -> &[Option<RcptResult>] {
        &self.results
    }

    /// Gives the transaction back; what is still live is what a drop makes of it.
    pub fn settle(self) {
        drop(self);
    }
}

fn result_of(stage: Stage, fate: Fate, said: &Said) -> Option<RcptResult> {
    match fate {
        Fate::Refused => Some(RcptResult::Refused { stage, said: said.clone() }),
        Fate::Deferred => Some(RcptResult::Deferred { stage, said: said.clone() }),
        Fate::NotTried | Fate::Lost | Fate::JobFault => Some(RcptResult::NotTried),
        Fate::InDoubt => Some(RcptResult::InDoubt { error: format!("{} {}", said.code, said.text) }),
        Fate::Taken | Fate::Again | Fate::Void => None,
    }
}

impl<W: Work> Drop for Lent<W> {
    fn drop(&mut self) {
        let Some(transaction) = self.transaction.take() else { return };
        if self.content_begun {
            self.doubt("stopped while the content was being sent");
        } else {
            self.not_tried();
        }
        let results: Vec<RcptResult> = std::mem::take(&mut self.results).into_iter().flatten().collect();
        assert_eq!(results.len(), transaction.recipients.len(), "a result for every recipient");
        self.work.settle(Settlement { transaction, results, job_fault: self.job_fault.take() });
    }
}
