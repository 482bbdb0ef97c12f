//! Events to a webhook: signed, tried again, never in the way of mail, and not lost by a crash.

mod common;
#[path = "events/receiver.rs"]
mod receiver;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::binary::Infeed;
use common::certificates::Authority;
use common::daemon::{DEADLINE, Daemon, MERGED, SHARED, list};
use common::desk::Desk;
use common::sink::SinkProcess;
use common::wait::wait_until;
use receiver::{Answer, KEY, Receiver};

/// `--set` flags of a webhook at this URL, with a key that is good.
fn webhook(desk: &Desk, url: &str) -> Vec<String> {
    let key = desk.file("webhook-secret", format!("{KEY}\n"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("0600");
    let settings = [
        format!("webhook.url={url}"),
        format!("webhook.secret_file={}", key.display()),
        // a busy machine takes its time
        "webhook.end_wait_ms=100000".to_owned(),
    ];
    settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
}

fn submit(desk: &Desk, tag: &str, n: usize, flags: &[&str]) -> String {
    desk.submit_list(tag, n, MERGED, &[&["--merge"], flags].concat())
}

/// A daemon into this MTA, with these settings.
fn serve(desk: &Desk, mta: &str, settings: &[String]) -> Daemon {
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    Daemon::start(desk, &[&["--mta", mta], &settings[..]].concat())
}

fn drain(desk: &Desk, sink: &SinkProcess, settings: &[String]) -> Infeed {
    desk.draining(&sink.address(), 4).args(settings)
}

#[test]
fn a_job_that_is_done_is_told_of_and_so_is_everybody_who_was_refused() {
    let desk = Desk::new();
    let hook = Receiver::start([]);
    let sink = SinkProcess::start(&desk.path("sink"), &["--fail", "rcpt=550%20"]);
    let job = submit(&desk, "a", 1_000, &["--accept-refusals"]);
    let mut settings = webhook(&desk, &hook.url());
    settings.extend(["--set".into(), "webhook.batch_max=30".into()]);
    let run = drain(&desk, &sink, &settings).run().expect_code(1);
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("T0PS3CR3T"), "{}", run.stderr);
    let done = hook.taken("job.done");
    assert_eq!(done.len(), 1);
    let (data, show) = (&done[0].event["data"], desk.show(&job));
    assert_eq!((&data["job"], &data["recipients"]), (&job.as_str().into(), &1_000.into()));
    for outcome in ["accepted", "refused"] {
        assert_eq!(data["outcomes"][outcome], show[outcome], "{data}");
    }
    let batches = hook.taken("recipients.refused");
    let mut told = Vec::new();
    for batch in &batches {
        let recipients = batch.event["data"]["recipients"].as_array().expect("a list");
        assert!((1..=30).contains(&recipients.len()), "{}", recipients.len());
        assert_eq!(batch.event["data"].get("dropped"), None);
        for recipient in recipients {
            assert_eq!((&recipient["job"], &recipient["reply_code"]), (&job.as_str().into(), &550.into()));
            told.push(recipient["address"].as_str().expect("an address").to_owned());
        }
    }
    let refused = desk.report(&job).into_iter().filter(|row| row.outcome == "refused");
    let mut refused: Vec<String> = refused.map(|row| row.address).collect();
    told.sort();
    refused.sort();
    assert_eq!(told, refused);
    let ids: BTreeSet<&str> = batches.iter().map(|posted| posted.id.as_str()).collect();
    assert_eq!(ids.len(), batches.len(), "each event has an id of its own");
}

#[test]
fn an_event_that_is_not_taken_is_posted_again_with_the_same_id() {
    let desk = Desk::new();
    let hook = Receiver::start([Answer::Status(500), Answer::Status(400), Answer::Status(429)]);
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = serve(&desk, &sink.address(), &webhook(&desk, &hook.url()));
    let job = submit(&desk, "b", 10, &[]);
    desk.wait_state(&job, "done");
    wait_until("job.done", DEADLINE, || !hook.taken("job.done").is_empty());
    let posted = hook.posted();
    assert_eq!(posted.len(), 4, "three that failed, and one that did not");
    assert!(posted.iter().all(|p| (&p.id, &p.body) == (&posted[0].id, &posted[0].body)), "{posted:?}");
    daemon.stop();
    assert_eq!(hook.posted().len(), 4, "once it is taken, it is told of no more");
}

#[test]
fn a_receiver_that_hangs_or_is_gone_keeps_no_mail_waiting_and_hears_of_the_job_later() {
    let sink_desk = Desk::new();
    let sink = SinkProcess::start(&sink_desk.path("sink"), &["--fail", "rcpt=550%10"]);
    let hanging = Receiver::start([]);
    hanging.answer(Answer::Hang);
    // a port that nobody listens on
    let gone = format!("http://127.0.0.1:{}/", common::port::free_port());
    for (tag, url) in [("hangs", hanging.url()), ("gone", gone)] {
        let desk = Desk::new();
        let job = submit(&desk, tag, 500, &["--accept-refusals"]);
        let mut settings = webhook(&desk, &url);
        settings.extend(
            ["--set", "webhook.timeout_ms=600000", "--set", "webhook.end_wait_ms=500"].map(str::to_owned),
        );
        let run = drain(&desk, &sink, &settings).run().expect_code(1);
        assert!(run.stderr.contains("1 events of jobs wait"), "{}", run.stderr);
        assert!(run.stderr.contains("refused recipients"), "what is lost is said: {}", run.stderr);
        assert_eq!(desk.show(&job)["state"], "done");
        let hook = Receiver::start([]);
        drain(&desk, &sink, &webhook(&desk, &hook.url())).run().expect_code(0);
        let done = hook.taken("job.done");
        assert_eq!((done.len(), &done[0].event["data"]["job"]), (1, &job.as_str().into()));
        drain(&desk, &sink, &webhook(&desk, &hook.url())).run().expect_code(0);
        assert_eq!(hook.posted().len(), 1, "and once");
    }
    assert!(!hanging.posted().is_empty(), "it was called");
}

#[test]
fn an_infeed_that_is_killed_tells_of_the_job_when_it_is_started_again() {
    let desk = Desk::new();
    let hook = Receiver::start([]);
    hook.answer(Answer::Status(503));
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let settings = webhook(&desk, &hook.url());
    let daemon = serve(&desk, &sink.address(), &settings);
    let job = submit(&desk, "k", 50, &[]);
    wait_until("a first try", DEADLINE, || !hook.posted().is_empty());
    daemon.kill();
    hook.answer(Answer::Status(200));
    let daemon = serve(&desk, &sink.address(), &settings);
    wait_until("job.done", DEADLINE, || !hook.taken("job.done").is_empty());
    daemon.stop();
    let posted = hook.posted();
    assert!(
        posted.iter().all(|p| p.id == posted[0].id && p.event["data"]["job"] == job.as_str()),
        "{posted:?}"
    );
    assert_eq!(hook.taken("job.done").len(), 1);
}

#[test]
fn hostile_answers_do_no_harm() {
    let desk = Desk::new();
    let elsewhere = Receiver::start([]);
    let hook = Receiver::start([Answer::Redirect(elsewhere.url()), Answer::Large(10 << 20)]);
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let daemon = serve(&desk, &sink.address(), &webhook(&desk, &hook.url()));
    let job = submit(&desk, "h", 10, &[]);
    wait_until("job.done", DEADLINE, || !hook.taken("job.done").is_empty());
    let (kib, _) = daemon.footprint();
    assert!(kib < 256 << 10, "{kib} KiB");
    let run = daemon.stop();
    assert!(run.stderr.contains("a redirect is not followed"), "{}", run.stderr);
    assert!(!run.stderr.contains("T0PS3CR3T"), "{}", run.stderr);
    assert_eq!(hook.posted().len(), 2);
    assert_eq!(elsewhere.posted().len(), 0, "nobody else heard of it");
    assert_eq!(desk.show(&job)["state"], "done");
}

#[test]
fn https_is_spoken_to_whom_the_roots_vouch_for_and_to_nobody_else() {
    let desk = Desk::new();
    let (ours, others) = (Authority::named("ours"), Authority::named("others"));
    let root = desk.path("root.pem");
    ours.write(&root);
    let (hook, stranger) = (Receiver::start([]), Receiver::start([]));
    let sink = SinkProcess::start(&desk.path("sink"), &[]);
    let job = submit(&desk, "t", 10, &[]);
    for url in [stranger.tls_url(&others.sign(&["127.0.0.1"])), hook.tls_url(&ours.sign(&["127.0.0.1"]))] {
        let mut settings = webhook(&desk, &url);
        settings.extend(["--set".to_owned(), format!("webhook.tls_ca_file={}", root.display())]);
        drain(&desk, &sink, &settings).run().expect_code(0);
    }
    assert_eq!(stranger.posted().len(), 0, "nothing is told to whom we don't know");
    let done = hook.taken("job.done");
    assert_eq!((done.len(), &done[0].event["data"]["job"]), (1, &job.as_str().into()));
}

#[test]
fn a_pause_is_told_of_whoever_made_it() {
    let desk = Desk::new();
    let hook = Receiver::start([]);
    let settings = webhook(&desk, &hook.url());
    // without a daemon: the next run tells
    let by_hand = submit(&desk, "p", 100, &[]);
    desk.infeed(&["job", "pause", &by_hand]).args(&settings).run().expect_code(0);
    let sink = SinkProcess::start(&desk.path("sink"), &["--fail", "rcpt=550"]);
    let daemon = serve(&desk, &sink.address(), &settings);
    wait_until("job.paused by hand", DEADLINE, || hook.taken("job.paused").len() == 1);
    let burnt = submit(&desk, "q", 500, &[]);
    desk.wait_state(&burnt, "paused");
    wait_until("job.paused by the breaker", DEADLINE, || hook.taken("job.paused").len() == 2);
    daemon.stop();
    let told: Vec<_> = hook.taken("job.paused").into_iter().map(|p| p.event["data"].clone()).collect();
    assert_eq!((&told[0]["job"], &told[0]["by"]), (&by_hand.as_str().into(), &"hand".into()));
    assert_eq!(told[0]["reason"], "paused by hand");
    assert_eq!((&told[1]["job"], &told[1]["by"]), (&burnt.as_str().into(), &"breaker".into()));
    assert!(told[1]["reason"].as_str().is_some_and(|reason| reason.starts_with("550 ")), "{told:?}");
}

#[test]
fn a_webhook_that_cant_be_is_found_by_the_check_and_at_the_start() {
    let desk = Desk::new();
    let key = desk.file("key", format!("{KEY}\n"));
    let with_mode = |mode| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("a mode");
        format!("webhook.secret_file={}", key.display())
    };
    desk.submit(&desk.file("news.eml", SHARED), &desk.file("list.csv", list("c", 3)), &[]);
    let good_url = "webhook.url=http://127.0.0.1:9/x".to_owned();
    for (settings, code, says) in [
        (vec!["webhook.url=ftp://x/".to_owned()], 64, "http:// or https://"),
        (vec!["webhook.url=http://me:T0PS3CR3T@x/".to_owned()], 64, "no user name or password"),
        (vec![good_url.clone()], 78, "webhook.secret_file is not"),
        (vec![good_url.clone(), "webhook.secret_file=/nowhere".to_owned()], 78, "/nowhere"),
        (vec![good_url.clone(), with_mode(0o644)], 78, "chmod 600"),
    ] {
        let flags: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting.as_str()]).collect();
        let check = desk.infeed(&["config", "check"]).args(&flags).run();
        assert_eq!(check.code, Some(code), "{settings:?}: {}{}", check.stdout, check.stderr);
        assert!(check.stdout.contains(says), "{settings:?}: {}", check.stdout);
        let start = desk.infeed(&["drain", "--mta", "127.0.0.1:9"]).args(&flags).run();
        assert_eq!(start.code, Some(code), "{settings:?}: {}", start.stderr);
        assert!(start.stderr.contains(says), "{settings:?}: {}", start.stderr);
        assert!(!format!("{}{}", check.stdout, start.stderr).contains("T0PS3CR3T"), "{}", start.stderr);
    }
    let good = [good_url, with_mode(0o600)];
    let flags: Vec<&str> = good.iter().flat_map(|setting| ["--set", setting.as_str()]).collect();
    desk.infeed(&["config", "check"]).args(&flags).run().expect_code(0);
}

/// What docs/events.md has in Python.
fn python_of_the_docs() -> String {
    let docs =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/events.md")).expect("the docs");
    let (_, rest) = docs.split_once("```python\n").expect("a snippet");
    rest.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn the_snippet_of_the_docs_verifies_what_infeed_signs_and_nothing_else() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("no python3 here: not tested");
        return;
    }
    let program = format!(
        "{}\nimport sys, time\nnow = 1614265330\n\
         headers = {{'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek', 'webhook-timestamp': str(now),\n\
         \x20          'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='}}\n\
         body = b'{{\"test\": 2432232314}}'\n\
         assert is_genuine('{KEY}', headers, body, now)\n\
         assert not is_genuine('{KEY}', headers, body + b' ', now)\n\
         assert not is_genuine('{KEY}', headers, body, now + 301)\n\
         assert not is_genuine('whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', headers, body, now)\n\
         assert not is_genuine('{KEY}', dict(headers, **{{'webhook-id': 'msg_x'}}), body, now)\n",
        python_of_the_docs()
    );
    let ran = Command::new("python3").args(["-I", "-c", &program]).output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
