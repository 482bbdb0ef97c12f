//! A real MTA with one setting wrong burns no list: the refusal breaker pauses the job, or the MTA, after few
//! recipients, and nobody's outcome comes of it. Once the MTA is mended everybody is delivered to, once.

mod common;
#[path = "misconfigured_mta/milter.rs"]
mod milter;

use std::collections::HashMap;
use std::time::Duration;

use common::binary::Infeed;
use common::daemon::{MERGED, SHARED, list};
use common::desk::Desk;
use common::mta::{Postfix, Relay, Sendmail, skip_or_require};
use common::sasl::Sasl;
use common::sink::SinkProcess;
use common::wait::wait_until;
use infeed::infeed::STREAK_RECIPIENTS_MIN;
use milter::{At, Milter};

const RECIPIENTS: usize = 160;
/// How many pass before the milter goes wrong.
const PASS: usize = 30;
const CONNECTIONS: usize = 2;
/// Recipients a transaction, where the content is the same.
const SHARED_MAX: usize = 10;
const DEADLINE: Duration = Duration::from_secs(300);

enum Mta {
    Postfix(Postfix),
    Sendmail(Sendmail),
}

impl Mta {
    fn address(&self) -> String {
        match self {
            Mta::Postfix(mta) => mta.address(),
            Mta::Sendmail(mta) => mta.address(),
        }
    }

    fn wait_queue_empty(&self) {
        match self {
            Mta::Postfix(mta) => mta.wait_queue_empty(DEADLINE),
            Mta::Sendmail(mta) => mta.wait_queue_empty(DEADLINE),
        }
    }

    /// Starts it anew on its port and queue, with these lines of configuration.
    fn mend(&mut self, relay: Relay, lines: &[&str]) {
        match self {
            Mta::Postfix(mta) => mta.start_anew(relay, lines),
            Mta::Sendmail(mta) => mta.start_anew(relay, lines),
        }
    }
}

/// No sleep after errors: how long Postfix punishes its client is not what is tested here.
const AWAKE: &str = "smtpd_error_sleep_time = 0s";

fn postfix(relay: Relay, lines: &[&str]) -> Mta {
    Mta::Postfix(Postfix::start(relay, &[&[AWAKE], lines].concat()))
}

fn sendmail(relay: Relay, lines: &[&str]) -> Mta {
    Mta::Sendmail(Sendmail::start(relay, lines))
}

/// A job on a desk of its own.
struct Mailing {
    desk: Desk,
    job: String,
    recipients: usize,
    /// Recipients that one transaction holds.
    together: usize,
}

impl Mailing {
    fn new(recipients: usize, merged: bool) -> Self {
        Self::of(recipients, merged, if merged { MERGED } else { SHARED })
    }

    fn of(recipients: usize, merged: bool, text: &str) -> Self {
        let desk = Desk::new();
        let message = desk.file("letter.eml", text);
        let list = desk.file("list.csv", list("one", recipients));
        let job = desk.submit(&message, &list, if merged { &["--merge"] } else { &[] });
        Self { desk, job, recipients, together: if merged { 1 } else { SHARED_MAX } }
    }

    fn draining(&self, mta: &Mta) -> Infeed {
        let drain = self.desk.draining(&mta.address(), CONNECTIONS).deadline(DEADLINE);
        drain.env("INFEED_MTA_RECIPIENTS_PER_TRANSACTION_MAX", SHARED_MAX.to_string())
    }

    /// Nobody has an outcome but those that were accepted; gives their number.
    fn nobody_is_burnt(&self, what: &str) -> u64 {
        let show = self.desk.show(&self.job);
        let accepted = show["accepted"].as_u64().expect("a number");
        assert_eq!(
            show["pending"].as_u64().map(|n| n + accepted),
            Some(self.recipients as u64),
            "{what}: {show}"
        );
        accepted
    }

    /// The breaker has paused the job in these words.
    fn is_paused(&self, what: &str, words: &str) {
        let show = self.desk.show(&self.job);
        assert_eq!(show["state"], "paused", "{what}: {show}");
        let why = show["paused_reason"].as_str().unwrap_or_default();
        assert!(why.contains(words), "{what}: {show}");
    }

    fn resume(&self) {
        self.desk.infeed(&["job", "resume", &self.job]).run().expect_code(0);
    }

    /// Delivers the rest; then everybody has it, once.
    fn delivers(&self, what: &str, mta: &Mta, drain: Infeed, sink: &SinkProcess) {
        drain.run().expect_code(0);
        mta.wait_queue_empty();
        sink.wait_alone();
        let mut times: HashMap<String, usize> = HashMap::new();
        for entry in sink.taken() {
            *times.entry(entry.recipient).or_default() += 1;
        }
        for row in self.desk.report(&self.job) {
            assert!(
                row.outcome == "accepted" && row.attempts == 1 && !row.possible_repeat,
                "{what}: {row:?}"
            );
            assert_eq!(times.remove(&row.address), Some(1), "{what}: {row:?}");
        }
        assert_eq!(times, HashMap::new(), "{what}: nobody else");
    }
}

/// A milter whose rules go wrong in the midst of a job, and are put right.
fn bad_milter(start: fn(Relay, &[&str]) -> Mta, line: fn(&Milter) -> String) {
    for (at, words, merged) in [
        (At::Rcpt, "550 5.7.1 Relaying denied", true),
        (At::Rcpt, "550 5.7.1 Relaying denied", false),
        (At::Mail, "554 5.7.1 no mail from you", true),
        (At::End, "554 5.7.1 rejected by policy", true),
        (At::End, "554 5.7.1 rejected by policy", false),
    ] {
        let what = format!("{at:?}, merged: {merged}");
        let mailing = Mailing::new(RECIPIENTS, merged);
        let sink = SinkProcess::start(&mailing.desk.path("sink"), &[]);
        let milter = Milter::start();
        let mta = start(Relay::To(sink.port()), &[&line(&milter)]);
        let passes = if at == At::Rcpt { PASS } else { PASS / mailing.together };
        milter.set(Some((at, words, passes)));
        let run = mailing.draining(&mta).run().expect_code(75);
        assert!(run.stderr.contains(&mailing.job) && run.stderr.contains("5.7.1"), "{what}: {}", run.stderr);
        mailing.is_paused(&what, "5.7.1");
        let accepted = mailing.nobody_is_burnt(&what);
        assert!(accepted <= PASS as u64, "{what}: {accepted} accepted");
        // in a row, once the last that was under way before is accepted; and what is under way then
        let bound = 2 * STREAK_RECIPIENTS_MIN + 2 * CONNECTIONS * mailing.together;
        assert!(milter.refused() <= bound, "{what}: {} refused, at most {bound} may be", milter.refused());
        milter.set(None);
        mailing.resume();
        mailing.delivers(&what, &mta, mailing.draining(&mta), &sink);
    }
}

#[test]
fn a_milter_that_rejects_all_on_postfix_burns_no_list() {
    if skip_or_require("postfix") {
        bad_milter(postfix, Milter::postfix);
    }
}

#[test]
fn a_milter_that_rejects_all_on_sendmail_burns_no_list() {
    if skip_or_require("sendmail") {
        bad_milter(sendmail, Milter::sendmail);
    }
}

/// A setting that is wrong from the start, with the words that it leads to; then the MTA starts without it.
fn bad_settings(start: fn(Relay, &[&str]) -> Mta, cases: &[(bool, &[&str], &str)]) {
    // larger than the limits below
    let more = "and so on, line by line, until it is larger than what is taken\r\n".repeat(100);
    for &(merged, lines, words) in cases {
        let what = format!("{lines:?}, merged: {merged}");
        let text = if merged { MERGED } else { SHARED };
        let mailing = Mailing::of(RECIPIENTS, merged, &format!("{text}{more}"));
        let sink = SinkProcess::start(&mailing.desk.path("sink"), &[]);
        let mut mta = start(Relay::To(sink.port()), lines);
        mailing.draining(&mta).run().expect_code(75);
        mailing.is_paused(&what, words);
        assert_eq!(mailing.nobody_is_burnt(&what), 0, "{what}");
        mta.mend(Relay::To(sink.port()), &[]);
        mailing.resume();
        mailing.delivers(&what, &mta, mailing.draining(&mta), &sink);
    }
}

#[test]
fn relay_denied_and_a_size_limit_on_postfix_burn_no_list() {
    if skip_or_require("postfix") {
        bad_settings(
            postfix,
            &[
                (true, &["smtpd_recipient_restrictions = reject_unauth_destination"], "Relay access denied"),
                (true, &["message_size_limit = 2000"], "552 5.3.4"),
                (false, &["message_size_limit = 2000", "smtpd_discard_ehlo_keywords = size"], "552 5.3.4"),
                (false, &["smtpd_end_of_data_restrictions = reject"], "End-of-data rejected"),
            ],
        );
    }
}

#[test]
fn a_size_limit_on_sendmail_burns_no_list() {
    if skip_or_require("sendmail") {
        let limit: &[&str] = &["define(`confMAX_MESSAGE_SIZE', `2000')dnl"];
        bad_settings(sendmail, &[(true, limit, "552 5.3.4"), (false, limit, "552 5.3.4")]);
    }
}

#[test]
fn auth_withdrawn_in_the_midst_of_a_job_pauses_the_mta_and_touches_nobody() {
    const PASSWORD: &str = "of the test";
    /// Not all of it is through when the first of it is.
    const LONG: usize = 600;
    if !skip_or_require("postfix") || !skip_or_require("sasl") {
        return;
    }
    let mailing = Mailing::new(LONG, true);
    let password = mailing.desk.file("password", format!("{PASSWORD}\n"));
    let sasl = Sasl::new("news", PASSWORD);
    let sink = SinkProcess::start(&mailing.desk.path("sink"), &[]);
    let lines = sasl.postfix();
    let lines: Vec<&str> = lines.iter().map(String::as_str).chain([AWAKE]).collect();
    let postfix = Postfix::start(Relay::To(sink.port()), &lines);
    let draining = || {
        let drain = mailing.desk.draining(&postfix.address(), CONNECTIONS).deadline(DEADLINE);
        drain
            .env("INFEED_MTA_AUTH_USER", "news@mta.example.test")
            .env("INFEED_MTA_AUTH_PASSWORD_FILE", &password)
            // sessions that were let in go on: new ones must come
            .env("INFEED_MTA_MESSAGES_PER_CONNECTION_MAX", "5")
    };
    let running = draining().spawn();
    wait_until("mail into Postfix", DEADLINE, || postfix.log().matches("sasl_method=").count() >= 20);
    postfix.reload(&["smtpd_sasl_auth_enable = no"]);
    let run = running.wait(DEADLINE).expect_code(69);
    assert!(run.stderr.contains("AUTH") || run.stderr.contains("PLAIN and LOGIN"), "{}", run.stderr);
    let accepted = mailing.nobody_is_burnt("withdrawn");
    assert!((20..LONG as u64).contains(&accepted), "{accepted} accepted");
    assert_eq!(mailing.desk.show(&mailing.job)["state"], "active", "the MTA is at fault, not the job");
    postfix.reload(&["smtpd_sasl_auth_enable = yes"]);
    let drain = draining();
    mailing.delivers("withdrawn", &Mta::Postfix(postfix), drain, &sink);
}
