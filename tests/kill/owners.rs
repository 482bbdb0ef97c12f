//! Several drains of one spool at once.

use crate::common::desk::Desk;
use crate::common::wait::wait_until;
use crate::rounds::{Campaign, DEADLINE, MERGED};

#[test]
fn a_second_drain_of_the_same_slices_says_so_and_ends_well() {
    let mut campaign = Campaign::new(3_000, MERGED, &["--merge"], 20);
    let mut first = campaign.start(&["0-15"], 4, 1, 1);
    assert!(campaign.wait_taken(1, &mut first));
    for slices in ["0-15", "3", "0-7"] {
        let second = campaign
            .desk
            .draining(&campaign.sink.address(), 4)
            .args(["--slices", slices])
            .run()
            .expect_code(0);
        let said = second.json();
        assert_eq!(said["ended"], "owned", "{said}");
        let pid = first[0].pid().to_string();
        assert!(said["owner"].as_str().is_some_and(|owner| owner.contains(&pid)), "{said}");
        assert!(second.stderr.contains("another process drains"), "{}", second.stderr);
    }
    assert!(first[0].try_wait().is_none(), "the first drain has ended before the others were tried");
    for drain in first {
        drain.wait(DEADLINE).expect_code(0);
    }
    campaign.end_round(0);
    assert_eq!(campaign.finish(), 0);
}

#[test]
fn drains_of_disjoint_slices_share_one_job() {
    let mut campaign = Campaign::new(6_000, MERGED, &["--merge"], 4);
    let mut drains = campaign.start(&["0-7", "8-15"], 4, 1, 1);
    wait_until("two owners", DEADLINE, || owners(&campaign.desk) == ["0-7", "8-15"]);
    assert!(drains.iter_mut().all(|drain| drain.try_wait().is_none()), "one has ended alone");
    for drain in drains {
        let said = drain.wait(DEADLINE).expect_code(0).json();
        assert!(said["accepted"].as_u64() > Some(0), "{said}");
    }
    campaign.end_round(0);
    assert_eq!(campaign.reached(), 6_000);
    assert_eq!(campaign.finish(), 0);
}

/// The slices that somebody drains, in order.
fn owners(desk: &Desk) -> Vec<String> {
    let show = desk.infeed(&["spool", "show", "--json"]).run().expect_code(0).json();
    let owners = show["owners"].as_array().expect("a list of owners");
    let mut slices: Vec<String> =
        owners.iter().filter_map(|owner| owner["slices"].as_str()).map(str::to_owned).collect();
    slices.sort();
    slices
}
