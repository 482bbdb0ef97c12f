//! A job that is drained in many rounds, each cut short, and the judgement over all of them.

use std::collections::HashMap;
use std::time::Duration;

use crate::common::binary::Running;
use crate::common::desk::Desk;
use crate::common::ledger::{Entry, Tail};
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;

pub const DEADLINE: Duration = Duration::from_secs(120);
/// Of what is left over after the kills, tens of thousands: a machine that is short of time takes minutes.
const REST_DEADLINE: Duration = Duration::from_secs(900);

pub const SHARED: &str = "From: List <list@example.org>\r\nTo: you@example.org\r\nSubject: news\r\n\
    Message-ID: <news@example.org>\r\nDate: Sun, 22 Nov 2026 03:14:00 +0000\r\n\r\nHello, all of you\r\n";

pub const MERGED: &str = "From: List <list@example.org>\r\nTo: <{{ address }}>\r\nSubject: news\r\n\
    Date: Sun, 22 Nov 2026 03:14:00 +0000\r\n\r\nHello, {{ email }}\r\n";

/// A list of `n` recipients over 17 domains.
pub fn list(n: usize) -> String {
    let mut list = String::from("email\n");
    for i in 0..n {
        list.push_str(&format!("r{i}@d{}.example\n", i % 17));
    }
    list
}

/// A job on a desk of its own, beside a slow sink; and all that has been sent so far, round by round.
pub struct Campaign {
    pub desk: Desk,
    pub sink: SinkProcess,
    pub job: String,
    recipients: usize,
    tail: Tail,
    /// By recipient: the round of each delivery, in the order of the ledger.
    deliveries: HashMap<String, Vec<usize>>,
    /// What a round's end may repeat at most.
    bounds: Vec<usize>,
}

impl Campaign {
    /// Submits `message`; every reply of the sink is `latency_ms` late, so that something is always in
    /// flight while a drain runs.
    pub fn new(recipients: usize, message: &str, flags: &[&str], latency_ms: u32) -> Self {
        let desk = Desk::new();
        let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", &latency_ms.to_string()]);
        let (message, list) = (desk.file("message.eml", message), desk.file("list.csv", list(recipients)));
        let job = desk.submit(&message, &list, flags);
        let tail = sink.tail();
        Campaign { desk, sink, job, recipients, tail, deliveries: HashMap::new(), bounds: Vec::new() }
    }

    /// Drains running side by side, of the given slices.
    pub fn start(
        &self,
        slices: &[&str],
        connections: usize,
        per_transaction: usize,
        depth: usize,
    ) -> Vec<Running> {
        let start = |slices: &&str| {
            self.desk
                .draining(&self.sink.address(), connections)
                .args(["--slices", slices])
                .env("INFEED_MTA_RECIPIENTS_PER_TRANSACTION_MAX", per_transaction.to_string())
                .env("INFEED_MTA_CHUNKING", (depth > 1).to_string())
                .env("INFEED_MTA_PIPELINING_DEPTH_MAX", depth.to_string())
                .spawn()
        };
        slices.iter().map(start).collect()
    }

    /// Returns once the sink has taken `n` more recipients; false when the drains have ended before.
    pub fn wait_taken(&self, n: usize, drains: &mut [Running]) -> bool {
        let mut ended = false;
        wait_until("growth of the ledger", DEADLINE, || {
            ended = drains.iter_mut().all(|drain| drain.try_wait().is_some());
            ended || self.tail.waiting() >= n
        });
        !ended
    }

    /// Ends a round once all drains are gone: `repeats_max` is what their end may repeat.
    pub fn end_round(&mut self, repeats_max: usize) {
        self.sink.wait_alone();
        let round = self.bounds.len();
        for Entry { recipient, .. } in self.tail.read() {
            self.deliveries.entry(recipient).or_default().push(round);
        }
        self.bounds.push(repeats_max);
    }

    /// Recipients in the ledger.
    pub fn reached(&self) -> usize {
        self.deliveries.len()
    }

    /// Drains the rest in one go, and judges: everybody is accepted and in the ledger; no round's end has
    /// repeated more than its bound; who was repeated is marked. Gives the number of repeats.
    pub fn finish(mut self) -> usize {
        let mut code = None;
        wait_until("end of the job", DEADLINE, || {
            code = self.desk.draining(&self.sink.address(), 8).deadline(REST_DEADLINE).run().code;
            code != Some(75)
        });
        assert_eq!(code, Some(0));
        self.end_round(0);
        self.desk.check();

        let report = self.desk.report(&self.job);
        assert_eq!((report.len(), self.reached()), (self.recipients, self.recipients));
        for row in &report {
            assert_eq!((row.outcome.as_str(), row.reply_code), ("accepted", Some(250)), "{row:?}");
            let rounds = self.deliveries.get(&row.address).map_or(&[][..], Vec::as_slice);
            assert!(!rounds.is_empty(), "{} is lost", row.address);
            assert!(rounds.len() == 1 || row.possible_repeat, "{rounds:?}, and no mark: {row:?}");
        }

        // a delivery that was repeated later is the fault of the end of its own round
        let mut repeats = vec![0; self.bounds.len()];
        for (address, rounds) in &self.deliveries {
            for pair in rounds.windows(2) {
                assert!(pair[0] < pair[1], "{address} twice in one round: {rounds:?}");
                repeats[pair[0]] += 1;
            }
        }
        for (round, (repeats, bound)) in repeats.iter().zip(&self.bounds).enumerate() {
            assert!(repeats <= bound, "the end of round {round} repeats {repeats}; allowed: {bound}");
        }

        let show = self.desk.show(&self.job);
        let marked = report.iter().filter(|row| row.possible_repeat).count();
        assert_eq!(show["possible_repeats"], marked, "{show}");
        assert_eq!((&show["accepted"], &show["state"]), (&self.recipients.into(), &"done".into()));
        let (summary, ledger) = self.sink.stop();
        let total: usize = repeats.iter().sum();
        assert_eq!(ledger.len(), self.recipients + total);
        assert_eq!(summary["recipients_accepted"], ledger.len());
        total
    }
}
