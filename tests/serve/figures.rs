//! What `status` says is what `jobs` and the sinks say; and a daemon doesn't grow with the jobs it has sent.

use crate::common::daemon::{DEADLINE, Daemon, MERGED, SHARED};
use crate::common::desk::Desk;
use crate::common::sink::SinkProcess;
use crate::common::wait::wait_until;

#[test]
fn status_jobs_and_the_ledger_have_the_same_numbers() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &["--latency-ms", "10"]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address(), "--set", "retry.delay_s_min=3600"]);
    let done = desk.submit_list("done", 90, SHARED, &[]);
    desk.wait_state(&done, "done");
    let cancelled = desk.submit_list("cancelled", 2_000, MERGED, &["--merge"]);
    wait_until("a delivery of it", DEADLINE, || desk.show(&cancelled)["accepted"].as_u64() > Some(0));
    desk.infeed(&["job", "cancel", &cancelled]).run().expect_code(0);
    let paused = desk.submit_list("paused", 2_000, MERGED, &["--merge"]);
    wait_until("a delivery of it", DEADLINE, || desk.show(&paused)["accepted"].as_u64() > Some(0));
    desk.infeed(&["job", "pause", &paused, "--reason", "wrong footer"]).run().expect_code(0);
    let people: Vec<String> =
        (0..30).map(|i| format!("{}.{i}@x{i}.example", ["open", "refuse-550", "defer-451"][i % 3])).collect();
    let (message, list) = (desk.file("mixed.eml", SHARED), desk.file("mixed.txt", people.join("\n")));
    let mixed = desk.submit(&message, &list, &[]);
    wait_until("outcome of all", DEADLINE, || {
        let show = desk.show(&mixed);
        (&show["accepted"], &show["refused"], &show["deferred"]) == (&10.into(), &10.into(), &10.into())
    });

    let (status, jobs) = (desk.status(), desk.jobs());
    let sum = |name: &str| jobs.iter().filter_map(|job| job[name].as_u64()).sum::<u64>();
    for state in ["active", "paused", "cancelled", "done"] {
        let n = jobs.iter().filter(|job| job["state"] == state).count();
        assert_eq!(status["jobs"][state], n, "{state}: {status}");
        assert_eq!(n, 1, "{state}");
    }
    for outcome in ["accepted", "refused", "in_doubt", "expired"] {
        assert_eq!(status["outcomes"][outcome], sum(outcome), "{outcome}: {status}");
    }
    assert_eq!(sum("accepted"), sink.tail().waiting() as u64);
    let mta = desk.mta_status(&sink.address());
    for outcome in ["accepted", "refused", "deferred"] {
        assert_eq!(mta[outcome], status["outcomes"][outcome], "{outcome}: {mta}");
    }
    let backlog = &status["backlog"];
    assert_eq!(
        (&backlog["recipients"], &backlog["due"], &backlog["deferred"], &status["in_flight"]),
        (&10.into(), &0.into(), &10.into(), &0.into()),
        "{status}"
    );
    assert_eq!(
        (&status["paused"][0]["job"], &status["paused"][0]["reason"]),
        (&paused.into(), &"wrong footer".into())
    );
    assert_eq!(
        (&status["active"][0]["job"], &status["active"][0]["deferred"]),
        (&mixed.clone().into(), &10.into())
    );
    let refusals = status["refusals"].as_array().expect("a list of refusals");
    assert_eq!(refusals.len(), 20, "{status}");
    assert!(refusals.is_sorted_by_key(|line| std::cmp::Reverse(line["at_us"].as_u64())), "{status}");
    let told = refusals.iter().find(|line| line["outcome"] == "refused").expect("a refusal").clone();
    assert_eq!(
        (&told["code"], &told["job"], &told["mta"]),
        (&550.into(), &mixed.into(), &sink.address().into())
    );
    assert!(told["recipient"].as_str().is_some_and(|who| who.starts_with("refuse-550.")), "{told}");
    assert!(told["enhanced"].as_str().is_some_and(|code| code.starts_with("5.")), "{told}");
    assert!(told["text"].as_str().is_some_and(|text| !text.starts_with("5.")), "{told}");
    let screen = desk.infeed(&["status"]).run().expect_code(0).stdout;
    assert!(screen.contains("\nrefused   ") || screen.contains("\ndeferred  "), "{screen}");
    assert!(screen.contains("wrong footer") && screen.contains("10 refused"), "{screen}");
    daemon.stop();
}

#[test]
fn memory_and_open_files_stay_flat_over_many_small_jobs() {
    let desk = Desk::new();
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = Daemon::start(&desk, &["--mta", &sink.address()]);
    let send = |from: usize, to: usize| {
        for i in from..to {
            desk.submit_list(&format!("job{i}"), 5, MERGED, &["--merge"]);
        }
        wait_until("end of all jobs", DEADLINE, || desk.status()["jobs"]["done"] == to);
        daemon.footprint()
    };
    let (rss_warm, files_warm) = send(0, 100);
    let (rss, files) = send(100, 300);
    eprintln!("{rss_warm} KiB and {files_warm} files after 100 jobs, {rss} KiB and {files} after 300");
    // connections come and go
    assert!(files <= files_warm + 10, "{files_warm} open files after 100 jobs, {files} after 300");
    assert!(rss <= rss_warm + 8 * 1024, "{rss_warm} KiB after 100 jobs, {rss} after 300");
    daemon.stop();
    assert_eq!(sink.stop().1.len(), 1_500);
}
