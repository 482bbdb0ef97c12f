//! Who goes out when: domains mixed, priorities, jobs that share. The ledger of a sink, in the order of
//! arrival, is the judge.

#[path = "scheduling/desk.rs"]
mod desk;

use std::collections::{BTreeSet, HashMap};

use desk::{Arrival, Desk, Options};

const WINDOW: usize = 1_000;

/// A list sorted by domain: a few large ones, middling ones, and many small ones.
fn sorted(all: usize) -> Vec<String> {
    let mut sizes = vec![all * 35 / 100, all / 10];
    sizes.extend([all * 3 / 100; 8]);
    sizes.extend([all / 100; 15]);
    let left = all - sizes.iter().sum::<usize>();
    sizes.extend([left / 160; 160]);
    let people = |(d, n): (usize, &usize)| (0..*n).map(move |i| format!("r{i}@d{d:03}.example")).collect();
    sizes.iter().enumerate().flat_map(|d| -> Vec<String> { people(d) }).collect()
}

/// Every window of 1,000 transactions: no domain has more than its share of what was due when it began,
/// and 5 points.
fn assert_mixed(arrivals: &[Arrival]) {
    assert_mixed_until(arrivals, usize::MAX);
}

/// The same for the windows that begin before the transaction `end`.
fn assert_mixed_until(arrivals: &[Arrival], end: usize) {
    let mut transactions: Vec<Vec<&str>> = Vec::new();
    let mut place: HashMap<(u64, u64), usize> = HashMap::new();
    for a in arrivals {
        let at = *place.entry((a.connection, a.transaction)).or_insert_with(|| {
            transactions.push(Vec::new());
            transactions.len() - 1
        });
        transactions[at].push(a.recipient.rsplit_once('@').unwrap().1);
    }
    assert!(transactions.len() >= WINDOW, "{} transactions", transactions.len());
    let mut due: HashMap<&str, usize> = HashMap::new();
    transactions.iter().flatten().for_each(|d| *due.entry(d).or_default() += 1);
    let mut due_all = arrivals.len();
    let (mut window, mut window_all): (HashMap<&str, usize>, usize) = (HashMap::new(), 0);
    let mut heavy: BTreeSet<&str> = BTreeSet::new();
    for (last, transaction) in transactions.iter().enumerate() {
        for d in transaction {
            *window.entry(d).or_default() += 1;
            window_all += 1;
        }
        heavy.extend(transaction.iter().filter(|d| 25 * window[*d] > window_all));
        let Some(first) = (last + 1).checked_sub(WINDOW) else { continue };
        if first >= end {
            return;
        }
        heavy.retain(|d| 25 * window[d] > window_all);
        for d in &heavy {
            let (part, share) = (window[d] as f64 / window_all as f64, due[d] as f64 / due_all as f64);
            assert!(
                part <= share + 0.05,
                "{d} has {:.1} % of the window from transaction {first} of {}, and {:.1} % of what was due",
                100.0 * part,
                transactions.len(),
                100.0 * share
            );
        }
        for d in &transactions[first] {
            *due.entry(d).or_default() -= 1;
            *window.entry(d).or_default() -= 1;
        }
        due_all -= transactions[first].len();
        window_all -= transactions[first].len();
    }
}

/// What of others arrived between the first and the last of those who are `mine`.
fn others_between(arrivals: &[Arrival], mine: impl Fn(&Arrival) -> bool) -> usize {
    let first = arrivals.iter().position(&mine).unwrap();
    let last = arrivals.iter().rposition(&mine).unwrap();
    arrivals[first..last].iter().filter(|a| !mine(a)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sorted_list_of_personal_messages_goes_out_mixed() {
    let desk = Desk::new(&[]);
    let list = sorted(100_000);
    desk.submit("list", &list, &Options::default());
    desk.drain(8, 1).await;
    let arrivals = desk.arrivals();
    assert_eq!(arrivals.len(), list.len());
    assert_mixed(&arrivals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sorted_list_of_one_message_for_all_goes_out_mixed() {
    let desk = Desk::new(&[]);
    let list = sorted(100_000);
    desk.submit("list", &list, &Options::default());
    desk.drain(8, 50).await;
    let arrivals = desk.arrivals();
    assert_eq!(arrivals.len(), list.len());
    let transactions: BTreeSet<_> = arrivals.iter().map(|a| (a.connection, a.transaction)).collect();
    assert!(transactions.len() < 2_200, "{} transactions for {} recipients", transactions.len(), list.len());
    assert_mixed(&arrivals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_drains_of_half_the_slices_each_mix_what_they_see() {
    let desk = Desk::new(&[]);
    let list = sorted(60_000);
    desk.submit("list", &list, &Options::default());
    tokio::join!(desk.drain_range(0, 127, 4, 1), desk.drain_range(128, 255, 4, 1));
    let arrivals = desk.arrivals();
    assert_eq!(arrivals.len(), list.len());
    // each keeps the bound of what it sees itself. Towards the end one may run ahead of the other, and what is
    // due is then the other's alone; before, both see the same in small
    assert_mixed_until(&arrivals, arrivals.len() * 3 / 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_which_the_domains_are_not_known_any_more_is_drained_all_the_same() {
    let desk = Desk::new(&[]);
    let list = sorted(5_000);
    desk.submit("gone", &list, &Options::default());
    desk.submit("damaged", &list, &Options::default());
    std::fs::remove_file(desk.domains_of("gone")).unwrap();
    std::fs::write(desk.domains_of("damaged"), b"IFDOMS01 and no more").unwrap();
    desk.drain(8, 1).await;
    assert_eq!(desk.arrivals().len(), 2 * list.len());
}

/// Takes about 1,000 messages a second over 4 connections.
const SLOW: &[&str] = &["--latency-ms", "4"];

fn numbered(n: usize, of: &str) -> Vec<String> {
    (0..n).map(|i| format!("{of}.{i}@d{}.example", i % 40)).collect()
}

fn is_of(of: &'static str) -> impl Fn(&Arrival) -> bool {
    move |a| a.recipient.starts_with(of)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_job_submitted_while_a_huge_one_drains_gets_its_share_at_once() {
    let desk = Desk::new(SLOW);
    desk.submit("huge", &numbered(12_000, "huge"), &Options::default());
    let drained = desk.drain(4, 1);
    let submitted_at =
        desk.after(2_000, || desk.submit("small", &numbered(100, "small"), &Options::default()));
    let ((), at) = tokio::join!(drained, submitted_at);
    let arrivals = desk.arrivals();
    assert!(others_between(&arrivals, is_of("small")) <= 130);
    // what 1,000 a second come to in two seconds, and its share
    let last = arrivals.iter().rposition(is_of("small")).unwrap();
    assert!(last - at <= 2_200, "submitted at {at}, the last arrived at {last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_share_by_recipients_whatever_one_transaction_takes() {
    let desk = Desk::new(&["--latency-ms", "10"]);
    desk.submit("shared", &numbered(60_000, "shared"), &Options::default());
    let drained = desk.drain(4, 50);
    let merged = Options { merge: true, ..Options::default() };
    let submitted = desk.after(5_000, || desk.submit("personal", &numbered(300, "personal"), &merged));
    tokio::join!(drained, submitted);
    let others = others_between(&desk.arrivals(), is_of("personal"));
    assert!((200..=500).contains(&others), "{others} of the other job beside 300");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_higher_priority_goes_before_what_is_under_way_and_a_lower_one_gets_what_is_left() {
    let desk = Desk::new(SLOW);
    desk.submit("low", &numbered(8_000, "low"), &Options { priority: 2, ..Options::default() });
    let drained = desk.drain(4, 1);
    let urgent = Options { priority: 9, ..Options::default() };
    let submitted = desk.after(1_000, || desk.submit("urgent", &numbered(2_500, "urgent"), &urgent));
    tokio::join!(drained, submitted);
    let arrivals = desk.arrivals();
    assert!(others_between(&arrivals, is_of("urgent")) <= 40);
    assert_eq!(arrivals.len(), 10_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_jobs_do_not_wait_for_a_huge_one() {
    let desk = Desk::new(SLOW);
    desk.submit("huge", &numbered(15_000, "huge"), &Options::default());
    for i in 0..150 {
        desk.submit(&format!("small-{i}"), &numbered(4, &format!("small.{i}")), &Options::default());
    }
    desk.drain(4, 1).await;
    let arrivals = desk.arrivals();
    assert_eq!(arrivals.len(), 15_600);
    let last = arrivals.iter().rposition(is_of("small")).unwrap();
    assert!(last < 7_500, "the last of the small ones came after {last}");
}
