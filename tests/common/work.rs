//! The runner's side, as a list: lends what it holds, keeps what comes back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use infeed::infeed::*;
use infeed::message::Content;
use tokio::sync::Notify;

#[derive(Default)]
pub struct List {
    held: Mutex<Held>,
    changed: Notify,
    /// What is not tried is lent again.
    again: bool,
    /// It keeps its place then; a message that is the job's fault is not lent again.
    in_order: bool,
    /// `next` waits for more instead of giving `None`.
    endless: bool,
    /// `hand_out` panics, or fails, so many times.
    pub panics: AtomicUsize,
    pub no_records: AtomicUsize,
}

#[derive(Default)]
struct Held {
    waiting: VecDeque<Transaction>,
    lent: usize,
    settled: Vec<Settlement>,
    handed_out: usize,
}

impl List {
    pub fn new(transactions: impl IntoIterator<Item = Transaction>) -> Self {
        let held = Held { waiting: transactions.into_iter().collect(), ..Held::default() };
        Self { held: Mutex::new(held), ..Self::default() }
    }

    pub fn again(self) -> Self {
        Self { again: true, ..self }
    }

    /// As [`List::again`], in the order of the first recipients, and not after a fault of the job.
    pub fn again_in_order(self) -> Self {
        Self { again: true, in_order: true, ..self }
    }

    pub fn endless(self) -> Self {
        Self { endless: true, ..self }
    }

    pub fn waiting(&self) -> usize {
        self.held.lock().unwrap().waiting.len()
    }

    pub fn handed_out(&self) -> usize {
        self.held.lock().unwrap().handed_out
    }

    pub fn faults(&self) -> Vec<JobFault> {
        self.held.lock().unwrap().settled.iter().filter_map(|s| s.job_fault.clone()).collect()
    }

    /// Every result that each recipient (by token) got, in order.
    pub fn results(&self) -> BTreeMap<u64, Vec<RcptResult>> {
        let mut results: BTreeMap<u64, Vec<RcptResult>> = BTreeMap::new();
        for settlement in &self.held.lock().unwrap().settled {
            assert_eq!(settlement.results.len(), settlement.transaction.recipients.len());
            for (rcpt, result) in settlement.transaction.recipients.iter().zip(&settlement.results) {
                results.entry(rcpt.token).or_default().push(result.clone());
            }
        }
        results
    }

    /// As [`List::results`], each in a word: `accepted ID`, `refused 550 at RCPT`, `deferred 451 at DATA`,
    /// `not tried`, `in doubt`.
    pub fn words(&self) -> Vec<String> {
        let word = |result: &RcptResult| match result {
            RcptResult::Accepted { queue_id, .. } => {
                format!("accepted {}", queue_id.as_deref().unwrap_or("-"))
            }
            RcptResult::Refused { stage, said } => format!("refused {} at {stage}", said.code),
            RcptResult::Deferred { stage, said } => format!("deferred {} at {stage}", said.code),
            RcptResult::NotTried => "not tried".into(),
            RcptResult::InDoubt { .. } => "in doubt".into(),
        };
        self.results().values().map(|r| r.iter().map(word).collect::<Vec<_>>().join(", ")).collect()
    }

    /// As [`List::words`], without what was not tried.
    pub fn attempts(&self) -> Vec<String> {
        let tried = |words: &String| -> Vec<String> {
            words.split(", ").filter(|w| *w != "not tried").map(str::to_owned).collect()
        };
        self.words().iter().map(|words| tried(words).join(", ")).collect()
    }

    pub fn add(&self, transaction: Transaction) {
        self.held.lock().unwrap().waiting.push_back(transaction);
        self.changed.notify_waiters();
    }

    fn take(&self, held: &mut Held) -> Option<Transaction> {
        let transaction = held.waiting.pop_front()?;
        held.lent += 1;
        Some(transaction)
    }
}

impl Work for List {
    fn try_next(&self, _: &Capabilities) -> Option<Transaction> {
        self.take(&mut self.held.lock().unwrap())
    }

    async fn next(&self, _: &Capabilities) -> Option<Transaction> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut held = self.held.lock().unwrap();
                if let Some(transaction) = self.take(&mut held) {
                    return Some(transaction);
                }
                if held.lent == 0 && !self.endless {
                    return None;
                }
            }
            changed.await;
        }
    }

    async fn hand_out(&self, transactions: &[&Transaction]) -> Result<(), NoRecord> {
        let one_less = |n: usize| n.checked_sub(1);
        if self.panics.fetch_update(SeqCst, SeqCst, one_less).is_ok() {
            panic!("as the test wants it");
        }
        if self.no_records.fetch_update(SeqCst, SeqCst, one_less).is_ok() {
            return Err(NoRecord("the disk is full, says the test".into()));
        }
        self.held.lock().unwrap().handed_out += transactions.len();
        Ok(())
    }

    fn settle(&self, settlement: Settlement) {
        let mut held = self.held.lock().unwrap();
        held.lent -= 1;
        let mut left = settlement.transaction.clone();
        let mut results = settlement.results.iter();
        left.recipients.retain(|_| matches!(results.next(), Some(RcptResult::NotTried)));
        let is_fault = self.in_order && settlement.job_fault.is_some();
        if self.again && !left.recipients.is_empty() && !is_fault {
            let first = left.recipients[0].token;
            let later = held.waiting.iter().position(|t| self.in_order && t.recipients[0].token > first);
            let place = later.unwrap_or(held.waiting.len());
            held.waiting.insert(place, left);
        }
        held.settled.push(settlement);
        drop(held);
        self.changed.notify_waiters();
    }
}

/// One message to these tokens, `token@dTOKEN.example` each.
pub fn message(tokens: &[u64]) -> Transaction {
    let recipients =
        tokens.iter().map(|&token| Rcpt { token, address: format!("{token}@d{token}.example") }).collect();
    let wire = Bytes::from_static(b"Subject: hi\r\n\r\n..dot\r\n");
    Transaction {
        sender: "list@x.example".into(),
        xverp: None,
        recipients,
        content: Content { size_octets: wire.len() as u64, wire, eight_bit: false, utf8_headers: false },
        dsn: None,
        shared_content: false,
    }
}

pub fn config(address: &str) -> InfeedConfig {
    let ms = 20_000;
    InfeedConfig {
        address: address.into(),
        connections: 1,
        helo_name: "me.example".into(),
        reconnect_delay_ms_min: 1,
        reconnect_delay_ms_max: 20,
        connect_refused_hold_ms: 20,
        rate_hold_ms: 20,
        timeouts: Timeouts {
            connect_ms: ms,
            banner_ms: ms,
            ehlo_ms: ms,
            mail_ms: ms,
            rcpt_ms: ms,
            data_ms: ms,
            content_block_ms: ms,
            final_dot_ms: ms,
            quit_ms: ms,
        },
        ..InfeedConfig::default()
    }
}

/// Drains the list into the MTA. Bounded: a hang is a failure, not a stuck test.
pub async fn drain(config: InfeedConfig, list: List) -> Arc<List> {
    let list = Arc::new(list);
    let pool = Pool::start(config, list.clone());
    if tokio::time::timeout(Duration::from_secs(60), pool.finished()).await.is_err() {
        panic!("the drain hangs: {:?}, settled {:?}", pool.status(), list.words());
    }
    let report = pool.stop(Duration::ZERO).await;
    assert_eq!(report.aborted, 0);
    list
}
