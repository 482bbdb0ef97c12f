//! The chunks of a job that wait, by the domain that they hold most of: what an owner offers its runner.
//!
//! In memory only, made from the listing and from `domains`. Within a class it is first due, first
//! served, except that retries take turns with what was never tried: in a job of millions they would
//! else wait for its end.

use std::collections::{BTreeSet, HashMap};

use super::domains::{Composition, DomainKey};
use super::id::{ChunkDigest, ChunkName, JobId};
use crate::clock::Micros;

/// A domain with less than this part of its job is not told apart from other small ones.
const TOLD_APART_PER_MILLE: u64 = 1;

/// What of a job waits and is due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    pub recipients: u64,
    /// Of them, those of whom no domain is known.
    pub unknown: u64,
    /// The larger domains, and [`DomainKey::OTHER`] for the rest, in no order.
    pub domains: Vec<WaitingDomain>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingDomain {
    pub domain: DomainKey,
    /// Its recipients; in chunks of other classes too.
    pub recipients: u64,
    /// Chunks of its class: that hold more of it than of any other domain.
    pub chunks: usize,
}

/// See the module.
pub(super) struct Offer {
    /// When the job's chunks were due at first.
    first_due_us: Micros,
    numbers: HashMap<ChunkDigest, u32>,
    compositions: Vec<Composition>,
    /// Due later; moved as time goes by.
    later: BTreeSet<ChunkName>,
    /// Recipients of retries; of those found by a listing, not known.
    retries: HashMap<ChunkName, u16>,
    classes: HashMap<DomainKey, Class>,
    domains: HashMap<DomainKey, u64>,
    recipients: u64,
    unknown: u64,
}

#[derive(Default)]
struct Class {
    fresh: BTreeSet<ChunkName>,
    again: BTreeSet<ChunkName>,
    /// Whose turn it is when both have some.
    again_next: bool,
}

impl Offer {
    /// `compositions`: those of all chunks of the job, or none.
    pub fn new(job: &JobId, first_due_us: Micros, mut compositions: Vec<Composition>) -> Self {
        let mut totals: HashMap<DomainKey, u64> = HashMap::new();
        let mut all = 0;
        for chunk in &compositions {
            all += u64::from(chunk.recipients);
            for &(domain, n) in &chunk.domains {
                *totals.entry(domain).or_default() += u64::from(n);
            }
        }
        for chunk in &mut compositions {
            let told_apart = |d: &&(DomainKey, u16)| totals[&d.0] * 1000 >= all * TOLD_APART_PER_MILLE;
            // the class is that of its largest domain, or none
            let kept: Vec<_> = match chunk.domains.first() {
                Some(first) if told_apart(&first) => {
                    chunk.domains.iter().filter(told_apart).copied().collect()
                }
                Some(&(_, n)) => {
                    let rest = chunk.domains.iter().filter(told_apart).copied();
                    std::iter::once((DomainKey::OTHER, n)).chain(rest).collect()
                }
                None => Vec::new(),
            };
            chunk.domains = kept.into();
        }
        let numbers =
            (0..compositions.len() as u32).map(|number| (ChunkDigest::of(job, number), number)).collect();
        Self {
            first_due_us,
            numbers,
            compositions,
            later: BTreeSet::new(),
            retries: HashMap::new(),
            classes: HashMap::new(),
            domains: HashMap::new(),
            recipients: 0,
            unknown: 0,
        }
    }

    /// A chunk waits; `recipients` where that is known of a retry.
    pub fn insert(&mut self, name: ChunkName, recipients: Option<u16>) {
        if let Some(n) = recipients {
            self.retries.insert(name, n);
        }
        self.later.insert(name);
    }

    /// A chunk doesn't wait any more.
    pub fn remove(&mut self, name: ChunkName) {
        if !self.later.remove(&name) {
            let class = self.class_of(name);
            let Some(queue) = self.classes.get_mut(&class) else { return };
            if !queue.fresh.remove(&name) && !queue.again.remove(&name) {
                return;
            }
            queue.again_next = name.due_us == self.first_due_us;
            if queue.fresh.is_empty() && queue.again.is_empty() {
                self.classes.remove(&class);
            }
            self.count(name, false);
        }
        self.retries.remove(&name);
    }

    /// What waits and is due.
    pub fn waiting(&mut self, now: Micros) -> Waiting {
        self.advance(now);
        let chunks = |domain| self.classes.get(&domain).map_or(0, |c| c.fresh.len() + c.again.len());
        let mut domains: Vec<WaitingDomain> = Vec::with_capacity(self.domains.len() + 1);
        for (&domain, &recipients) in &self.domains {
            domains.push(WaitingDomain { domain, recipients, chunks: chunks(domain) });
        }
        let other = chunks(DomainKey::OTHER);
        if other > 0 {
            let known: u64 = self.domains.values().sum();
            let recipients = self.recipients.saturating_sub(known);
            domains.push(WaitingDomain { domain: DomainKey::OTHER, recipients, chunks: other });
        }
        Waiting { recipients: self.recipients, unknown: self.unknown, domains }
    }

    /// The next chunk of a class that is due.
    pub fn next_of(&mut self, class: DomainKey, now: Micros) -> Option<ChunkName> {
        self.advance(now);
        let queue = self.classes.get(&class)?;
        let (fresh, again) = (queue.fresh.first(), queue.again.first());
        if queue.again_next { again.or(fresh) } else { fresh.or(again) }.copied()
    }

    fn advance(&mut self, now: Micros) {
        while let Some(&name) = self.later.first().filter(|name| name.due_us <= now) {
            self.release(name);
        }
    }

    /// It is due, whatever its name says.
    pub fn release(&mut self, name: ChunkName) {
        if !self.later.remove(&name) {
            return;
        }
        let queue = self.classes.entry(self.class_of(name)).or_default();
        if name.due_us == self.first_due_us {
            queue.fresh.insert(name);
        } else {
            queue.again.insert(name);
        }
        self.count(name, true);
    }

    fn composition(&self, name: ChunkName) -> Option<&Composition> {
        self.numbers.get(&name.digest).map(|&number| &self.compositions[number as usize])
    }

    fn class_of(&self, name: ChunkName) -> DomainKey {
        self.composition(name).and_then(|c| c.domains.first()).map_or(DomainKey::OTHER, |d| d.0)
    }

    fn count(&mut self, name: ChunkName, added: bool) {
        let change = |total: &mut u64, n: u64| *total = if added { *total + n } else { *total - n };
        let Some(&number) = self.numbers.get(&name.digest) else {
            let n = self.retries.get(&name).map_or(UNKNOWN_RECIPIENTS, |&n| u64::from(n));
            change(&mut self.recipients, n);
            return change(&mut self.unknown, n);
        };
        let chunk = &self.compositions[number as usize];
        let family = u64::from(chunk.recipients).max(1);
        let n = self.retries.get(&name).map_or(family, |&n| u64::from(n));
        change(&mut self.recipients, n);
        for &(domain, of_family) in chunk.domains.iter().filter(|d| d.0 != DomainKey::OTHER) {
            let total = self.domains.entry(domain).or_default();
            change(total, u64::from(of_family) * n / family);
            if *total == 0 {
                self.domains.remove(&domain);
            }
        }
    }
}

/// What a chunk of which nothing is known is taken to hold.
const UNKNOWN_RECIPIENTS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::domains::DomainTally;

    fn job() -> JobId {
        "weekly-47".parse().unwrap()
    }

    fn name(number: u32, due_us: Micros) -> ChunkName {
        ChunkName { due_us, digest: ChunkDigest::of(&job(), number) }
    }

    /// One chunk for each list of (domain, recipients).
    fn offer(chunks: &[&[(&str, usize)]]) -> Offer {
        let mut tally = DomainTally::default();
        let compositions = chunks
            .iter()
            .map(|domains| {
                for (domain, n) in *domains {
                    (0..*n).for_each(|_| tally.add(&format!("u@{domain}")));
                }
                tally.take()
            })
            .collect();
        let mut offer = Offer::new(&job(), 100, compositions);
        (0..chunks.len()).for_each(|n| offer.insert(name(n as u32, 100), None));
        offer
    }

    fn of<'a>(waiting: &'a Waiting, domain: &str) -> Option<&'a WaitingDomain> {
        waiting.domains.iter().find(|d| d.domain == DomainKey::of(domain))
    }

    #[test]
    fn chunks_are_offered_by_their_largest_domain_and_counted_by_all_of_them() {
        let mut offer = offer(&[&[("a.example", 900), ("b.example", 100)], &[("b.example", 1000)]]);
        assert_eq!(offer.waiting(99), Waiting::default());
        let waiting = offer.waiting(100);
        assert_eq!((waiting.recipients, waiting.unknown), (2000, 0));
        let b = of(&waiting, "b.example").unwrap();
        assert_eq!((b.recipients, b.chunks), (1100, 1));
        assert_eq!(offer.next_of(DomainKey::of("a.example"), 100), Some(name(0, 100)));
        offer.remove(name(0, 100));
        assert_eq!(offer.next_of(DomainKey::of("a.example"), 100), None);
        offer.remove(name(1, 100));
        assert_eq!(offer.waiting(100), Waiting::default());
    }

    #[test]
    fn a_retry_is_of_its_familys_domains_and_takes_turns_with_what_was_never_tried() {
        let mut offer = offer(&[&[("a.example", 1000)][..]; 4]);
        let a = DomainKey::of("a.example");
        offer.remove(name(0, 100));
        offer.insert(name(0, 500), Some(40));
        offer.insert(name(0, 501), Some(2));
        assert_eq!(offer.waiting(499).recipients, 3000);
        assert_eq!(of(&offer.waiting(600), "a.example").unwrap().recipients, 3042);
        let mut order = Vec::new();
        while let Some(next) = offer.next_of(a, 600) {
            order.push(next.due_us);
            offer.remove(next);
        }
        assert_eq!(order, [100, 500, 100, 501, 100]);
        assert_eq!(offer.waiting(600), Waiting::default());
    }

    #[test]
    fn without_the_file_chunks_are_offered_as_of_no_known_domain() {
        let mut offer = Offer::new(&job(), 100, Vec::new());
        offer.insert(name(0, 100), None);
        offer.insert(name(0, 300), Some(7));
        let waiting = offer.waiting(400);
        assert_eq!((waiting.recipients, waiting.unknown), (1007, 1007));
        assert_eq!((waiting.domains[0].domain, waiting.domains[0].chunks), (DomainKey::OTHER, 2));
        offer.remove(name(0, 100));
        offer.remove(name(0, 300));
        assert_eq!(offer.waiting(400), Waiting::default());
    }

    #[test]
    fn small_domains_are_one_class() {
        let names: Vec<String> = (0..2000).map(|i| format!("d{i}.example")).collect();
        let chunks: Vec<Vec<(&str, usize)>> =
            names.chunks(20).map(|part| part.iter().map(|n| (n.as_str(), 50)).collect()).collect();
        let mut offer = offer(&chunks.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let waiting = offer.waiting(100);
        assert_eq!(waiting.domains.len(), 1);
        assert_eq!((waiting.domains[0].recipients, waiting.domains[0].chunks), (100_000, 100));
    }
}
