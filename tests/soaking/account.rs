//! Who got what, by job and recipient, and when: in which stretch between two disruptions.

use crate::common::ledger::Entry;
use crate::common::report::Row;

/// A recipient's deliveries.
#[derive(Debug, Clone, Copy, Default)]
struct Got {
    times: u8,
    /// The stretch of the last one.
    stretch: u32,
}

/// One job's.
#[derive(Debug)]
struct JobAccount {
    got: Vec<Got>,
    /// Deliveries when it was judged; no more may come.
    judged: Option<u64>,
    deliveries: u64,
}

/// All jobs'. A delivery that is repeated within one stretch was repeated without a reason.
#[derive(Debug, Default)]
pub struct Account {
    jobs: Vec<JobAccount>,
    /// Kills, and ends of MTAs, so far: each may leave deliveries in doubt.
    stretch: u32,
    pub deliveries: u64,
    pub repeats: u64,
}

/// What a job came to.
#[derive(Debug, Default)]
pub struct Verdict {
    pub accepted: u64,
    pub marked: u64,
}

impl Account {
    /// A new job's number.
    pub fn open(&mut self, recipients: usize) -> usize {
        self.jobs.push(JobAccount { got: vec![Got::default(); recipients], judged: None, deliveries: 0 });
        self.jobs.len() - 1
    }

    /// Something was cut off: what was read until now may come again.
    pub fn disrupted(&mut self) {
        self.stretch += 1;
    }

    /// # Panics
    /// On a delivery to nobody that we know, after the job's end, or twice for no reason.
    pub fn add(&mut self, entries: &[Entry]) {
        for entry in entries {
            let (job, i) = place_of(&entry.recipient);
            let job = &mut self.jobs[job];
            assert_eq!(job.judged, None, "a delivery after the job's end: {entry:?}");
            let got = &mut job.got[i];
            if got.times > 0 {
                assert!(got.stretch < self.stretch, "twice for no reason: {entry:?}");
                self.repeats += 1;
            }
            *got = Got { times: got.times.saturating_add(1), stretch: self.stretch };
            job.deliveries += 1;
            self.deliveries += 1;
        }
    }

    /// Holds the report of an ended job against what arrived.
    ///
    /// # Panics
    /// When they disagree about anybody.
    pub fn judge(&mut self, number: usize, report: &[Row]) -> Verdict {
        let job = &mut self.jobs[number];
        assert_eq!(report.len(), job.got.len(), "job {number}: recipients in the report");
        let mut verdict = Verdict::default();
        for row in report {
            let (of, i) = place_of(&row.address);
            assert_eq!(of, number, "another job's recipient: {row:?}");
            let times = job.got[i].times;
            match row.outcome.as_str() {
                "accepted" => {
                    assert!(times > 0, "lost: {row:?}");
                    verdict.accepted += 1;
                }
                "refused" | "cancelled" | "in_doubt" => {
                    assert!(times == 0 || row.possible_repeat, "arrived {times} times: {row:?}");
                }
                other => panic!("a job that has ended, with somebody {other}: {row:?}"),
            }
            assert!(times <= 1 || row.possible_repeat, "{times} times, and no mark: {row:?}");
            verdict.marked += u64::from(row.possible_repeat);
        }
        job.judged = Some(job.deliveries);
        verdict
    }
}

/// The address of a recipient: `tJOB-I`, after what it asks of the sink.
pub fn address(asks: &str, job: usize, i: usize) -> String {
    format!("{asks}t{job}-{i}@d{}.example", i % 23)
}

/// The job's and the recipient's number.
///
/// # Panics
/// On any other address.
fn place_of(address: &str) -> (usize, usize) {
    let local = address.split('@').next().unwrap_or_default();
    let name = local.rsplit('.').next().unwrap_or_default();
    let numbers = name.strip_prefix('t').and_then(|rest| rest.split_once('-'));
    let parsed = numbers.and_then(|(job, i)| Some((job.parse().ok()?, i.parse().ok()?)));
    parsed.unwrap_or_else(|| panic!("nobody's address: {address}"))
}
