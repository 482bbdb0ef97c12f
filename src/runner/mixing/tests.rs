//! Simulated drains: chunks come from an offer as the spool makes it, a feeder keeps them in hand, and
//! every window of 1,000 transactions is looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const CHUNK: usize = 1000;
const WINDOW: usize = 1000;
const HANDS_MAX: usize = 32;
const LOW_WATER: u64 = 4_000;

/// A list, as (domain, recipients) runs in order.
type List = Vec<(u32, usize)>;

struct Spool {
    /// Chunks by number: domains of its recipients.
    chunks: Vec<Vec<u32>>,
    /// Of each, its eight largest domains.
    noted: Vec<Vec<(DomainKey, u64)>>,
    /// Numbers in the order in which they are due.
    order: Vec<usize>,
}

impl Spool {
    fn new(list: &List, seed: u64) -> Self {
        let all: Vec<u32> = list.iter().flat_map(|&(d, n)| std::iter::repeat_n(d, n)).collect();
        let chunks: Vec<Vec<u32>> = all.chunks(CHUNK).map(<[u32]>::to_vec).collect();
        let mut order: Vec<usize> = (0..chunks.len()).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut order);
        let noted = chunks.iter().map(|chunk| noted(chunk)).collect();
        Self { chunks, noted, order }
    }
}

fn key(domain: u32) -> DomainKey {
    DomainKey::of(&format!("d{domain}.example"))
}

fn noted(chunk: &[u32]) -> Vec<(DomainKey, u64)> {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    chunk.iter().for_each(|d| *counts.entry(*d).or_default() += 1);
    let mut noted: Vec<(DomainKey, u64)> = counts.into_iter().map(|(d, n)| (key(d), n)).collect();
    noted.sort_by_key(|c| std::cmp::Reverse(c.1));
    noted.truncate(8);
    noted
}

/// What waits, as the index says it.
fn waiting(spool: &Spool) -> Waiting {
    let mut domains: HashMap<DomainKey, (u64, usize)> = HashMap::new();
    let mut recipients = 0;
    for &n in &spool.order {
        recipients += spool.chunks[n].len() as u64;
        for &(domain, n) in &spool.noted[n] {
            domains.entry(domain).or_default().0 += n;
        }
        domains.entry(spool.noted[n][0].0).or_default().1 += 1;
    }
    let domains = domains
        .into_iter()
        .map(|(domain, (recipients, chunks))| crate::spool::WaitingDomain { domain, recipients, chunks })
        .collect();
    Waiting { recipients, unknown: 0, domains }
}

struct Drained {
    /// Transactions: domain and recipients of each.
    sent: Vec<Vec<u32>>,
    hands_max: usize,
}

/// Drains a list; the feeder looks only every `feed_every` transactions.
fn drain(list: &List, recipients_max: usize, feed_every: usize, hands_max: usize, seed: u64) -> Drained {
    let mut spool = Spool::new(list, seed);
    let mut mixer = Mixer::default();
    let mut hands: HashMap<u32, usize> = HashMap::new();
    mixer.set_waiting(waiting(&spool));
    let mut done = Drained { sent: Vec::new(), hands_max: 0 };
    loop {
        if done.sent.len() % feed_every == 0 || mixer.queued() == 0 {
            while let Some((class, needed)) = mixer.want() {
                if hands.len() >= hands_max || !(needed || mixer.queued() < LOW_WATER) {
                    break;
                }
                let at = spool.order.iter().position(|&n| spool.noted[n][0].0 == class).unwrap();
                let number = spool.order.remove(at);
                let chunk = &spool.chunks[number];
                let names: Vec<String> = chunk.iter().map(|d| format!("d{d}.example")).collect();
                let given = names.iter().enumerate().map(|(i, d)| (i as u16, d.as_str()));
                mixer.add(number as u32, lanes_of(given, recipients_max));
                mixer.set_waiting(waiting(&spool));
                hands.insert(number as u32, chunk.len());
            }
            done.hands_max = done.hands_max.max(hands.len());
        }
        let Some((handle, indices)) = mixer.take(recipients_max) else { break };
        let left = hands.get_mut(&handle).unwrap();
        *left -= indices.len();
        if *left == 0 {
            hands.remove(&handle);
        }
        let chunk = &spool.chunks[handle as usize];
        done.sent.push(indices.iter().map(|&i| chunk[usize::from(i)]).collect());
    }
    assert!(hands.is_empty() && spool.order.is_empty());
    assert_eq!(done.sent.iter().map(Vec::len).sum::<usize>(), list.iter().map(|r| r.1).sum::<usize>());
    done
}

/// The largest excess, in points, of any domain over its share of what was due when a window began;
/// with the domain and the window's first transaction.
fn worst(sent: &[Vec<u32>]) -> (f64, u32, usize) {
    let domains = sent.iter().flatten().max().map_or(0, |d| *d as usize + 1);
    let mut due = vec![0usize; domains];
    sent.iter().flatten().for_each(|&d| due[d as usize] += 1);
    let mut due_all: usize = due.iter().sum();
    let mut window = vec![0usize; domains];
    let mut window_all = 0;
    // others can't exceed their share by as much
    let mut heavy: BTreeSet<u32> = BTreeSet::new();
    let mut worst = (f64::MIN, 0, 0);
    for (last, transaction) in sent.iter().enumerate() {
        for &d in transaction {
            window[d as usize] += 1;
            window_all += 1;
        }
        heavy.extend(transaction.iter().filter(|d| 25 * window[**d as usize] > window_all));
        if last + 1 < WINDOW {
            continue;
        }
        heavy.retain(|d| 25 * window[*d as usize] > window_all);
        for &d in &heavy {
            let share = due[d as usize] as f64 / due_all as f64;
            let excess = 100.0 * (window[d as usize] as f64 / window_all as f64 - share);
            if excess > worst.0 {
                worst = (excess, d, last + 1 - WINDOW);
            }
        }
        let leaves = &sent[last + 1 - WINDOW];
        for &d in leaves {
            due[d as usize] -= 1;
            window[d as usize] -= 1;
        }
        due_all -= leaves.len();
        window_all -= leaves.len();
    }
    worst
}

fn check(list: &List, recipients_max: usize, feed_every: usize, seed: u64) -> Drained {
    let done = drain(list, recipients_max, feed_every, HANDS_MAX, seed);
    let (excess, domain, at) = worst(&done.sent);
    assert!(
        excess <= 5.0,
        "domain {domain} has {excess:.1} points too many in the window from transaction {at} of {}",
        done.sent.len()
    );
    done
}

fn shares(of: &[(usize, f64)], all: usize) -> List {
    let mut next = 0;
    let mut list = List::new();
    for &(n, share) in of {
        for _ in 0..n {
            list.push((next, (share * all as f64).round() as usize));
            next += 1;
        }
    }
    list
}

fn zipf(domains: usize, all: usize, s: f64) -> List {
    let sum: f64 = (1..=domains).map(|i| (i as f64).powf(-s)).sum();
    (1..=domains)
        .map(|i| (i as u32, ((i as f64).powf(-s) / sum * all as f64).round() as usize))
        .filter(|r| r.1 > 0)
        .collect()
}

#[test]
fn sorted_lists_of_many_kinds_are_mixed() {
    let kinds: Vec<(&str, List)> = vec![
        ("60/20/10/10", shares(&[(1, 0.6), (1, 0.2), (2, 0.1)], 100_000)),
        ("100 of 1 %", shares(&[(100, 0.01)], 100_000)),
        ("30 of 3.3 %", shares(&[(30, 0.0333)], 100_000)),
        ("24 of 3.9 %, the rest small", shares(&[(24, 0.039), (60, 0.001)], 100_000)),
        ("half, and 2,000 small", shares(&[(1, 0.5), (2000, 0.00025)], 200_000)),
        ("zipf", zipf(5_000, 200_000, 1.0)),
        ("flat zipf", zipf(20_000, 200_000, 0.7)),
        ("one domain", shares(&[(1, 1.0)], 20_000)),
        ("a short one", shares(&[(1, 0.4), (3, 0.2)], 5_000)),
    ];
    for (kind, list) in &kinds {
        for (recipients_max, feed_every) in [(1, 16), (1, 200), (50, 1)] {
            let done = drain(list, recipients_max, feed_every, HANDS_MAX, 7);
            let (excess, domain, at) = worst(&done.sent);
            eprintln!(
                "{kind}, {recipients_max} each, fed every {feed_every}: {excess:.2} domain {domain} at {at} of {}, hands {}",
                done.sent.len(),
                done.hands_max
            );
        }
    }
}
