//! `kill -9` of submissions.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::desk::Desk;
use crate::common::seed::Seed;
use crate::rounds::{DEADLINE, MERGED, list};

const RECIPIENTS: usize = 50_000;
const ROUNDS: usize = 30;

#[test]
fn a_killed_submit_leaves_nothing_or_the_whole_job() {
    let seed = Seed::new();
    let mut random = seed.random();
    let desk = Desk::new();
    let (message, list) = (desk.file("message.eml", MERGED), desk.file("list.csv", list(RECIPIENTS)));
    let submitting = |key: &str| desk.submitting(&message, &list, &["--merge", "--again", "--id", key]);
    let begun = Instant::now();
    submitting("whole").run().expect_code(0);
    let whole = begun.elapsed();

    let mut jobs = 1;
    let (mut nothing, mut all) = (0, 0);
    for round in 0..ROUNDS {
        let key = format!("round-{round}");
        let running = submitting(&key).spawn();
        // from the first moments to a little after the end; the last tenth is where the commit is
        let tenths = if round % 3 == 0 { 8.0 + 3.0 * random.f64() } else { 11.0 * random.f64() };
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * tenths / 10.0));
        running.signal(Signal::KILL);
        let run = running.wait(DEADLINE);
        let after = desk.jobs();
        match after.len() - jobs {
            0 => nothing += 1,
            1 => all += 1,
            more => panic!("{more} jobs of one submission"),
        }
        assert!(after.len() > jobs || run.stdout.is_empty(), "said and not there: {}", run.stdout);
        jobs = after.len();
        for job in &after {
            assert_eq!((&job["recipients"], &job["pending"]), (&RECIPIENTS.into(), &RECIPIENTS.into()));
        }
        desk.check();
        if round % 5 == 0 {
            // whatever was left behind, the same key makes exactly one job of it
            let said = submitting(&key).run().expect_code(0).json();
            assert_eq!(said["existed"], after.iter().any(|job| job["id"] == said["job"]), "{said}");
            jobs = desk.jobs().len();
        }
    }
    eprintln!("{ROUNDS} killed submits: {nothing} left nothing, {all} the whole job");
    assert!(nothing > 0, "no kill came before the commit: this test proves nothing");
    submitting("last").run().expect_code(0);
    let left: Vec<_> = std::fs::read_dir(desk.spool().join("incoming")).expect("the spool").collect();
    assert!(left.is_empty(), "files of killed submits stay: {left:?}");
}
