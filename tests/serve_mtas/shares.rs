//! Weights.

use crate::common::daemon::MERGED;
use crate::common::tally::{Repeats, Tally};
use crate::farm::Farm;

#[test]
fn weights_of_3_and_1_give_three_quarters_and_one() {
    let mut farm = Farm::new();
    farm.sink("three", &[], "weight = 3");
    farm.sink("one", &[], "weight = 1");
    let daemon = farm.serve();
    let job = farm.submit("job", 20_000, MERGED, &["--merge"], None);
    farm.desk.wait_state(&job, "done");
    daemon.stop();
    let tally = Tally::of(&farm.taken_by_all());
    assert_eq!(tally.judge(&farm.desk, &job, "job", Repeats::None).accepted, 20_000);
    let three = farm.taken("three").len();
    eprintln!("{three} of 20000 through the MTA of weight 3");
    assert!(three.abs_diff(15_000) <= 600, "{three} of 20000 through the MTA of weight 3 of 4");
}
