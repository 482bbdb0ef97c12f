//! SIGTERM and SIGINT.

use rustix::process::Signal;

use crate::common::desk::Desk;
use crate::common::seed::Seed;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;
use crate::rounds::{Campaign, DEADLINE, MERGED, SHARED};

#[test]
fn sigterm_ends_a_drain_with_75_and_repeats_nobody() {
    let seed = Seed::new();
    let mut random = seed.random();
    let mut campaign = Campaign::new(20_000, MERGED, &["--merge"], 4);
    for round in 0..20 {
        let mut drains = campaign.start(&["0-15"], random.usize(4..=8), 1, 1);
        assert!(campaign.wait_taken(random.usize(1..600), &mut drains), "round {round}: the job has ended");
        for drain in drains {
            drain.signal(if round % 2 == 0 { Signal::TERM } else { Signal::INT });
            let said = drain.wait(DEADLINE).expect_code(75).json();
            assert_eq!(said["ended"], "stopped", "{said}");
            assert!(said["unfinished"].as_u64() > Some(0), "{said}");
        }
        campaign.end_round(0);
        let show = campaign.desk.show(&campaign.job);
        assert_eq!((&show["accepted"], &show["possible_repeats"]), (&campaign.reached().into(), &0.into()));
    }
    assert_eq!(campaign.finish(), 0);
}

#[test]
fn a_second_signal_ends_a_drain_that_waits_for_the_mta() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    // the sink takes ten minutes over one of them
    let mut list = vec!["slow-600000ms@d.example".to_owned()];
    list.extend((0..200).map(|i| format!("r{i}@e{}.example", i % 17)));
    let (message, list) = (desk.file("message.eml", SHARED), desk.file("list.txt", list.join("\n")));
    let job = desk.submit(&message, &list, &[]);
    let mut drain = desk
        .draining(&sink.address(), 4)
        .env("INFEED_MTA_RECIPIENTS_PER_TRANSACTION_MAX", "1")
        .env("INFEED_DRAIN_SHUTDOWN_GRACE_MS", "3600000")
        .spawn();
    wait_until("outcome of the others", DEADLINE, || desk.show(&job)["accepted"] == 200);
    drain.signal(Signal::TERM);
    // signals within a tenth of a second count as one
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(desk.show(&job)["pending"], 1);
    desk.check();
    assert!(drain.try_wait().is_none(), "the first signal has ended it in the middle of a transaction");
    drain.signal(Signal::INT);
    drain.wait(DEADLINE).expect_code(75);
    let show = desk.show(&job);
    assert_eq!((&show["accepted"], &show["pending"]), (&200.into(), &1.into()));
    desk.check();
    sink.stop();
}
