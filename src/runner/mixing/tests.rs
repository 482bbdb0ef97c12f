//! Simulated drains: chunks come from an offer as the spool makes it, a feeder keeps them in hand, and
//! every window of 1,000 transactions is looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

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
    let mut domains: BTreeMap<DomainKey, (u64, usize)> = BTreeMap::new();
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
fn drain(list: &List, recipients_max: usize, feed_every: usize, seed: u64) -> Drained {
    let mut spool = Spool::new(list, seed);
    let mut mixer = Mixer::default();
    let mut hands: HashMap<u32, usize> = HashMap::new();
    mixer.set_waiting(waiting(&spool));
    let mut done = Drained { sent: Vec::new(), hands_max: 0 };
    loop {
        if done.sent.len().is_multiple_of(feed_every) || mixer.queued() == 0 {
            while let Some((class, needed)) = mixer.want() {
                if hands.len() >= HANDS_MAX || !(needed || mixer.queued() < LOW_WATER) {
                    break;
                }
                let at = spool.order.iter().position(|&n| spool.noted[n][0].0 == class).unwrap();
                let number = spool.order.remove(at);
                let chunk = &spool.chunks[number];
                let names: Vec<String> = chunk.iter().map(|d| format!("d{d}.example")).collect();
                let given = names.iter().enumerate().map(|(i, d)| (i as u16, d.as_str()));
                let lanes = lanes_of(given, recipients_max, |d| mixer.holds(d), |_| false);
                mixer.add(number as u32, lanes);
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

fn check(what: &str, list: &List, recipients_max: usize, feed_every: usize, seed: u64) {
    let done = drain(list, recipients_max, feed_every, seed);
    let (excess, domain, at) = worst(&done.sent);
    assert!(
        excess <= 5.0,
        "{what}, {recipients_max} a transaction: domain {domain} has {excess:.1} points too many in the \
         window from transaction {at} of {}",
        done.sent.len()
    );
    assert!(done.hands_max <= HANDS_MAX, "{what}: {} chunks in hand", done.hands_max);
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
fn in_a_thousand_transactions_of_a_sorted_list_no_domain_exceeds_its_share_by_five_points() {
    let kinds: [(&str, List); 7] = [
        ("60/20/10/10", shares(&[(1, 0.6), (1, 0.2), (2, 0.1)], 60_000)),
        ("100 of 1 %", shares(&[(100, 0.01)], 100_000)),
        ("30 of 3.3 %", shares(&[(30, 0.0333)], 60_000)),
        ("24 of 3.9 %, the rest small", shares(&[(24, 0.039), (60, 0.001)], 60_000)),
        ("half, and 1,000 small", shares(&[(1, 0.5), (1000, 0.0005)], 60_000)),
        ("zipf", zipf(3_000, 100_000, 1.0)),
        ("flat zipf", zipf(5_000, 60_000, 0.7)),
    ];
    for (seed, (kind, list)) in kinds.iter().enumerate() {
        check(kind, list, 1, 100, seed as u64);
        check(kind, list, 50, 3, seed as u64);
    }
}

#[test]
fn two_sorted_lists_one_after_the_other_are_mixed_as_well() {
    let mut list = zipf(300, 50_000, 1.0);
    list.extend(shares(&[(1, 0.5), (5, 0.1)], 40_000));
    check("two lists", &list, 1, 100, 3);
}

#[test]
fn a_list_in_no_order_needs_no_more_chunks_in_hand_than_throughput_asks_for() {
    let mut rng = fastrand::Rng::with_seed(1);
    let list: List = (0..40_000)
        .map(|_| match rng.u32(0..100) {
            0..40 => (0, 1),
            40..60 => (1, 1),
            _ => (rng.u32(2..500), 1),
        })
        .collect();
    for recipients_max in [1, 50] {
        let done = drain(&list, recipients_max, 50, 1);
        assert!(done.hands_max <= 10, "{} chunks in hand", done.hands_max);
    }
    check("in no order", &list, 1, 50, 1);
}

#[test]
fn what_comes_back_goes_first_and_what_is_let_go_is_forgotten() {
    let mut mixer = Mixer::default();
    let given = |d: &'static str| (0..100u16).map(move |i| (i, d));
    mixer.add(1, lanes_of(given("a.example"), 1, |_| false, |_| false));
    mixer.add(2, lanes_of(given("b.example"), 1, |_| false, |_| false));
    let (handle, taken) = mixer.take(1).unwrap();
    mixer.put_back(handle, &taken);
    assert_eq!(mixer.queued(), 200);
    assert_eq!(mixer.take(1), Some((handle, taken)));
    mixer.remove(1);
    let mut left = 0;
    while let Some((handle, _)) = mixer.take(1) {
        assert_eq!(handle, 2);
        left += 1;
    }
    assert!((99..=100).contains(&left) && mixer.queued() == 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_sorted_list_is_mixed(
        runs in proptest::collection::vec(1usize..4_000, 1..30),
        seed: u64,
    ) {
        let list: List = runs.iter().enumerate().map(|(d, n)| (d as u32, *n)).collect();
        check("any", &list, 1, 100, seed);
    }

    #[test]
    fn everybody_of_a_chunk_is_in_exactly_one_lane(
        domains in proptest::collection::vec(0u8..60, 0..300),
        piece_max in 1usize..60,
    ) {
        let names: Vec<String> = domains.iter().map(|d| format!("d{d}.example")).collect();
        let given = names.iter().enumerate().map(|(i, d)| (i as u16, d.as_str()));
        let lanes = lanes_of(given, piece_max, |_| false, |_| false);
        let mut all: Vec<u16> = lanes.iter().flat_map(|l| l.1.iter().copied()).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..domains.len() as u16).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_waits_for_a_rate_is_passed_over_and_nobody_is_lost(
        domains in proptest::collection::vec(0u32..12, 1..400),
        limited in proptest::collection::btree_set(0u32..12, 0..6),
        steps in proptest::collection::vec((0u64..6, 1usize..5, 0u64..9), 1..300),
        removed in 0usize..300,
    ) {
        let is_limited = |key_of: DomainKey| limited.iter().any(|d| key(*d) == key_of);
        let names: Vec<String> = domains.iter().map(|d| format!("d{d}.example")).collect();
        let mut mixer = Mixer::default();
        for (handle, part) in names.chunks(100).enumerate() {
            let given = part.iter().enumerate().map(|(i, d)| (i as u16, d.as_str()));
            mixer.add(handle as u32, lanes_of(given, 3, |_| false, is_limited));
        }
        let domain_of = |handle: u32, index: u16| domains[handle as usize * 100 + usize::from(index)];
        let (mut now, mut left): (u64, BTreeSet<(u32, u16)>) = (1, BTreeSet::new());
        left.extend((0..domains.len()).map(|i| ((i / 100) as u32, (i % 100) as u16)));
        // until when each of them waits
        let mut until: HashMap<DomainKey, u64> = HashMap::new();
        let mut steps = steps.into_iter().cycle();
        let mut round = 0;
        while !left.is_empty() {
            let (step, max, wait) = steps.next().unwrap();
            (now, round) = (now + step, round + 1);
            if round == removed {
                mixer.remove(0);
                left.retain(|(handle, _)| *handle != 0);
            }
            let blocks = |key: DomainKey| until.get(&key).filter(|then| **then > now).map(|then| Moment(*then));
            match mixer.take_allowed(max, Moment(now), blocks) {
                Some((handle, indices, lane)) => {
                    for index in &indices {
                        let domain = domain_of(handle, *index);
                        prop_assert!(left.remove(&(handle, *index)), "twice");
                        prop_assert!(until.get(&key(domain)).is_none_or(|then| *then <= now), "it waits");
                        prop_assert!(!limited.contains(&domain) || lane == Some(key(domain)), "another's lane");
                    }
                    if let Some(lane) = lane.filter(|lane| is_limited(*lane)) {
                        until.insert(lane, now + wait);
                    }
                }
                None if left.is_empty() => {}
                None => {
                    // all who are left wait, and it is known until when
                    let waits = |(handle, index): &(u32, u16)| until.get(&key(domain_of(*handle, *index)));
                    prop_assert!(left.iter().all(|who| waits(who).is_some_and(|then| *then > now)));
                    let first = left.iter().filter_map(waits).min().copied();
                    prop_assert_eq!(mixer.waits_until().map(|m| m.0), first);
                    now = first.unwrap();
                }
            }
            prop_assert_eq!(mixer.queued(), left.len() as u64);
        }
    }
}
