use super::*;
use crate::infeed::error::CertificateFault;

type Row = (Stage, u16, &'static str, Session, Fate, Mta);

fn judged(rows: &[Row], context: &Context) {
    for &(stage, code, text, session, fate, mta) in rows {
        let said = Said { code, text: text.into() };
        assert_eq!(on_reply(stage, &said, context), verdict(session, fate, mta), "{stage:?} {code} {text}");
    }
}

/// In the middle of a session, with one RCPT accepted, the content made for this recipient.
const MIDST: Context = Context {
    rcpts_accepted: 1,
    messages: 7,
    across_dot: false,
    shared_content: false,
    first_chunk: false,
    chunk: false,
    xverp: false,
    rotating: false,
};

#[test]
fn each_421_closes_and_touches_no_recipient() {
    use {Fate::NotTried, Session::Close, Stage::*};
    judged(
        &[
            (
                Banner,
                421,
                "4.7.0 mx Error: too many connections from ::1",
                Close,
                NotTried,
                Mta::CapConnections,
            ),
            (Mail, 421, "4.7.0 mx Error: too many errors", Close, NotTried, Mta::BackOff),
            (Mail, 421, "4.4.2 mx Error: timeout exceeded", Close, NotTried, Mta::BackOff),
            (Rcpt, 421, "4.3.0 mx Server error", Close, NotTried, Mta::BackOff),
            (Banner, 421, "4.3.2 All server ports are busy", Close, NotTried, Mta::BackOff),
            (Banner, 421, "No system resources", Close, NotTried, Mta::BackOff),
            (Banner, 421, "4.3.2 Connection rate limit exceeded.", Close, NotTried, Mta::HoldConnects),
            (Banner, 421, "4.3.2 Too many open connections.", Close, NotTried, Mta::HoldConnects),
            (Banner, 421, "Too much load; please try again later", Close, NotTried, Mta::HoldConnects),
            (Banner, 421, "Too many concurrent SMTP connections", Close, NotTried, Mta::CapConnections),
            (Data, 421, "4.3.0 gone", Close, Fate::Lost, Mta::BackOff),
            (Content, 421, "4.3.0 gone", Close, Fate::Lost, Mta::BackOff),
        ],
        &MIDST,
    );
}

#[test]
fn a_220_or_221_amid_a_session_takes_nobody() {
    use {Mta::BackOff, Session::Close, Stage::*};
    for code in [220, 221] {
        let text = "2.0.0 mx.example.org ESMTP";
        judged(
            &[
                (Mail, code, text, Close, Fate::Lost, BackOff),
                (Rcpt, code, text, Close, Fate::Lost, BackOff),
                (Data, code, text, Close, Fate::Lost, BackOff),
                (Content, code, text, Close, Fate::InDoubt, BackOff),
            ],
            &MIDST,
        );
    }
}

#[test]
fn anvils_450_holds_a_minute_and_greylisting_does_not() {
    use Stage::*;
    let text = "4.7.1 Error: too much mail from ::1";
    judged(
        &[
            (Mail, 450, text, Session::Cautious, Fate::NotTried, Mta::HoldMinute),
            (
                Rcpt,
                450,
                "4.7.1 Error: too many recipients from ::1",
                Session::Cautious,
                Fate::NotTried,
                Mta::HoldMinute,
            ),
            (Rcpt, 450, "4.7.1 Greylisted, come back", Session::Go, Fate::Deferred, Mta::Fine),
        ],
        &MIDST,
    );
}

#[test]
fn a_full_disk_stops_all_with_one_probe() {
    use Fate::{Deferred, NotTried};
    judged(
        &[
            (
                Stage::Mail,
                452,
                "4.3.1 Insufficient system storage",
                Session::Cautious,
                NotTried,
                Mta::StopAndProbe,
            ),
            (
                Stage::Mail,
                452,
                "4.4.5 Insufficient disk space; try again later",
                Session::Cautious,
                NotTried,
                Mta::StopAndProbe,
            ),
            (
                Stage::Mail,
                452,
                "Space shortage, please try later",
                Session::Cautious,
                NotTried,
                Mta::StopAndProbe,
            ),
            (
                Stage::Banner,
                452,
                "4.4.5 Insufficient disk space",
                Session::Close,
                NotTried,
                Mta::StopAndProbe,
            ),
            (
                Stage::Content,
                452,
                "4.3.1 Insufficient system storage",
                Session::Cautious,
                Deferred,
                Mta::StopAndProbe,
            ),
        ],
        &MIDST,
    );
}

#[test]
fn the_mtas_own_trouble_is_deferred_and_counted() {
    use {Fate::Deferred, Mta::Strain, Session::Cautious, Stage::*};
    judged(
        &[
            (Content, 451, "4.3.0 Error: queue file write error", Cautious, Deferred, Strain),
            (Mail, 451, "4.3.5 Server configuration error", Cautious, Deferred, Strain),
            (Mail, 451, "4.7.1 Service unavailable - try again later", Cautious, Deferred, Strain),
            (Data, 451, "4.3.0 later", Cautious, Deferred, Strain),
        ],
        &MIDST,
    );
}

#[test]
fn too_many_recipients_is_learned_when_some_were_accepted() {
    use {Fate::NotTried, Mta::LearnRecipientsMax, Session::Go, Stage::Rcpt};
    judged(
        &[
            (Rcpt, 452, "4.5.3 Error: too many recipients", Go, NotTried, LearnRecipientsMax),
            (Rcpt, 452, "too many recipients", Go, NotTried, LearnRecipientsMax),
            (Rcpt, 552, "too many recipients", Go, NotTried, LearnRecipientsMax),
            (Rcpt, 451, "4.5.3 Too many recipients", Go, NotTried, LearnRecipientsMax),
            (Rcpt, 552, "5.2.2 Mailbox full", Go, Fate::Refused, Mta::Fine),
        ],
        &MIDST,
    );
    let none = Context { rcpts_accepted: 0, ..MIDST };
    judged(&[(Rcpt, 452, "4.5.3 too many recipients", Go, Fate::Deferred, Mta::Fine)], &none);
}

#[test]
fn a_refused_connect_spares_the_mta_and_keeps_live_sessions() {
    assert_eq!(on_connect_failed(3), Mta::HoldConnects);
    assert_eq!(on_connect_failed(0), Mta::BackOff);
}

#[test]
fn what_only_an_operator_can_mend_pauses_and_what_mends_itself_is_tried_again() {
    let address = || "mta.example:25".to_owned();
    let io = || std::io::Error::other("broken");
    let expired = CertificateFault::Expired { at: String::new() };
    let rows = [
        (InfeedError::StartTlsNotOffered { address: address() }, Mta::Pause),
        (InfeedError::Certificate { address: address(), fault: expired }, Mta::Pause),
        (InfeedError::TlsSetup { address: address(), reason: "no name".into() }, Mta::Pause),
        (InfeedError::AuthInClear { address: address() }, Mta::Pause),
        (InfeedError::NoPassword { address: address() }, Mta::Pause),
        (InfeedError::NoMechanism { address: address(), offered: "no AUTH".into() }, Mta::Pause),
        (InfeedError::Roots { path: "/roots".into(), reason: "empty".into() }, Mta::BackOff),
        (InfeedError::Password { setting: "a file".into(), reason: "empty".into() }, Mta::BackOff),
        (InfeedError::Connect { address: address(), source: io() }, Mta::HoldConnects),
        (InfeedError::Tls { address: address(), implicit: true, source: io() }, Mta::HoldConnects),
        (InfeedError::Timeout { stage: Stage::Tls, timeout_ms: 1 }, Mta::HoldConnects),
    ];
    for (error, mta) in rows {
        let (judged, said) = on_no_session(&error, 1);
        assert_eq!(judged, mta, "{error}");
        assert_eq!(said.code >= 500, mta == Mta::Pause, "{error}");
        assert!(said.text.starts_with(&error.to_string()) && said.text.ends_with("(not sent)"));
    }
    let said = Said { code: 535, text: "5.7.8 no".into() };
    let error = InfeedError::Said { stage: Stage::Auth, said: said.clone() };
    assert_eq!(on_no_session(&error, 0), (Mta::Pause, said));
}

#[test]
fn a_limit_on_messages_rotates_the_connection_and_is_learned() {
    use {Fate::NotTried, Mta::LearnMessagesMax, Session::Rotate, Stage::Mail};
    judged(
        &[
            (Mail, 421, "too many messages in this connection", Rotate, NotTried, LearnMessagesMax),
            (
                Mail,
                452,
                "4.5.3 Too many messages sent: Too many messages sent",
                Rotate,
                NotTried,
                LearnMessagesMax,
            ),
        ],
        &MIDST,
    );
    // On a fresh connection it can't be that: back off, or this would go round without end.
    let fresh = Context { messages: 0, ..MIDST };
    judged(
        &[
            (Mail, 421, "too many messages in this connection", Session::Close, NotTried, Mta::BackOff),
            (Mail, 452, "4.5.3 Too many messages sent", Session::Cautious, Fate::Deferred, Mta::Fine),
        ],
        &fresh,
    );
}

#[test]
fn a_503_right_after_the_dot_in_one_group_is_learned_and_tried_again() {
    let across = Context { across_dot: true, rcpts_accepted: 0, ..MIDST };
    let text = "Error: MAIL pipelined after end of DATA";
    judged(&[(Stage::Mail, 503, text, Session::Go, Fate::Again, Mta::LearnNoGroupAcrossDot)], &across);
    judged(&[(Stage::Mail, 503, text, Session::Close, Fate::Lost, Mta::BackOff)], &MIDST);
}

#[test]
fn ill_pipelining_is_ours_and_no_recipients_fault() {
    use {Fate::Lost, Mta::LearnNoGroupAcrossDot, Session::Close, Stage::*};
    judged(
        &[
            (
                Rcpt,
                500,
                "5.5.1 Invalid command: Pipelining not supported",
                Close,
                Lost,
                LearnNoGroupAcrossDot,
            ),
            (Mail, 554, "SMTP synchronization error", Close, Lost, LearnNoGroupAcrossDot),
            (Data, 554, "5.5.0 Error: SMTP protocol synchronization", Close, Lost, LearnNoGroupAcrossDot),
            (Mail, 503, "5.5.0 Improper command pipelining", Close, Lost, LearnNoGroupAcrossDot),
            (Mail, 554, "5.5.0 improper pipelining", Close, Lost, LearnNoGroupAcrossDot),
            (
                Mail,
                554,
                "5.5.1 Error: command pipelining not allowed here",
                Close,
                Lost,
                LearnNoGroupAcrossDot,
            ),
            (Rcpt, 550, "5.5.0 commands were pipelined", Close, Lost, LearnNoGroupAcrossDot),
        ],
        &MIDST,
    );
    let said = Said { code: 550, text: "5.1.1 <pipelining@x.example>: no such user".into() };
    assert_eq!(on_reply(Rcpt, &said, &MIDST).fate, Fate::Refused, "an address that was repeated");
}

#[test]
fn a_5xx_at_the_start_of_a_session_pauses_the_mta() {
    use {Fate::NotTried, Mta::Pause, Session::Close, Stage::*};
    judged(
        &[
            (Banner, 554, "No SMTP service here", Close, NotTried, Pause),
            (Banner, 521, "does not accept mail", Close, NotTried, Pause),
            (Ehlo, 550, "5.7.1 not you", Close, NotTried, Pause),
            (Ehlo, 530, "5.7.0 Must issue a STARTTLS command first", Close, NotTried, Pause),
            (StartTls, 554, "5.7.3 no TLS", Close, NotTried, Pause),
            (StartTls, 501, "5.5.4 Syntax error", Close, NotTried, Pause),
            (
                StartTls,
                454,
                "4.7.0 TLS not available due to local problem",
                Close,
                NotTried,
                Mta::HoldConnects,
            ),
            (Auth, 535, "5.7.8 Error: authentication failed", Close, NotTried, Pause),
            (Auth, 504, "5.5.4 Unrecognized authentication type", Close, NotTried, Pause),
            (Auth, 454, "4.7.0 Temporary authentication failure", Close, NotTried, Mta::HoldConnects),
            (Auth, 421, "4.7.0 too many errors", Close, NotTried, Mta::BackOff),
            (Mail, 530, "5.7.0 Authentication required", Close, NotTried, Pause),
            (Banner, 450, "later", Close, NotTried, Mta::HoldConnects),
            (Banner, 354, "what?", Close, NotTried, Mta::BackOff),
        ],
        &MIDST,
    );
}

#[test]
fn a_5xx_to_mail_data_or_shared_content_is_the_jobs_fault() {
    use {Fate::JobFault, Session::Cautious, Stage::*};
    judged(
        &[
            (Mail, 550, "5.1.8 Sender address rejected", Cautious, JobFault, Mta::Fine),
            (Data, 554, "5.7.1 no", Cautious, JobFault, Mta::Fine),
            (Content, 552, "5.3.4 Message size exceeds limit", Cautious, Fate::Refused, Mta::Fine),
            (Content, 550, "5.7.1 spam", Cautious, Fate::Refused, Mta::Fine),
        ],
        &MIDST,
    );
    let shared = Context { shared_content: true, ..MIDST };
    for code in [550, 552, 554] {
        judged(&[(Content, code, "5.7.1 no", Cautious, JobFault, Mta::Fine)], &shared);
    }
}

#[test]
fn one_recipients_reply_is_one_recipients_alone() {
    use Stage::Rcpt;
    judged(
        &[
            (Rcpt, 550, "5.1.1 unknown", Session::Go, Fate::Refused, Mta::Fine),
            (Rcpt, 451, "4.2.0 later", Session::Go, Fate::Deferred, Mta::Fine),
            (Rcpt, 250, "ok", Session::Go, Fate::Taken, Mta::Fine),
            (Rcpt, 251, "will forward", Session::Go, Fate::Taken, Mta::Fine),
        ],
        &MIDST,
    );
}

#[test]
fn a_4xx_to_mail_data_or_the_dot_defers_the_transaction() {
    for stage in [Stage::Mail, Stage::Data, Stage::Content] {
        judged(&[(stage, 450, "4.2.0 later", Session::Cautious, Fate::Deferred, Mta::Fine)], &MIDST);
    }
}

#[test]
fn data_refused_for_want_of_recipients_says_nothing() {
    let none = Context { rcpts_accepted: 0, ..MIDST };
    judged(
        &[
            (Stage::Data, 554, "5.5.1 Error: no valid recipients", Session::Go, Fate::Void, Mta::Fine),
            (Stage::Data, 503, "5.0.0 Need RCPT (recipient)", Session::Go, Fate::Void, Mta::Fine),
            (Stage::Data, 451, "4.3.0 later", Session::Go, Fate::Void, Mta::Fine),
        ],
        &none,
    );
}

#[test]
fn an_unexpected_code_closes_and_after_the_dot_leaves_doubt() {
    for (stage, code) in [(Stage::Mail, 354), (Stage::Rcpt, 354), (Stage::Data, 250)] {
        judged(&[(stage, code, "?", Session::Close, Fate::Lost, Mta::BackOff)], &MIDST);
    }
    judged(&[(Stage::Content, 354, "?", Session::Close, Fate::InDoubt, Mta::BackOff)], &MIDST);
}

#[test]
fn a_lost_connection_leaves_doubt_only_after_the_whole_dot() {
    assert_eq!(on_loss(false), verdict(Session::Close, Fate::Lost, Mta::BackOff));
    assert_eq!(on_loss(true), verdict(Session::Close, Fate::InDoubt, Mta::BackOff));
}

#[test]
fn a_bdat_that_was_offered_and_is_refused_is_learned_and_touches_nobody() {
    use {Fate::NotTried, Session::Close};
    let first = Context { chunk: true, first_chunk: true, ..MIDST };
    for code in [500, 502, 503] {
        judged(&[(Stage::Content, code, "what?", Close, NotTried, Mta::LearnNoChunking)], &first);
    }
    // One that has taken a chunk knows BDAT: this is about the content.
    let known = Context { chunk: true, ..MIDST };
    judged(&[(Stage::Content, 502, "no", Session::Cautious, Fate::Refused, Mta::Fine)], &known);
}

#[test]
fn a_bdat_to_nobody_says_nothing() {
    let none = Context { chunk: true, first_chunk: true, rcpts_accepted: 0, ..MIDST };
    for (code, text) in [(554, "5.5.1 Error: no valid recipients"), (503, "Valid RCPT must precede BDAT")] {
        judged(&[(Stage::Content, code, text, Session::Go, Fate::Void, Mta::Fine)], &none);
    }
    // It may have taken the chunk for commands, whoever it was for.
    judged(&[(Stage::Content, 502, "what?", Session::Close, Fate::NotTried, Mta::LearnNoChunking)], &none);
}

#[test]
fn what_follows_in_a_group_is_in_doubt_unless_unwritten_or_refused() {
    assert_eq!(rest_of_group(true, false), Fate::InDoubt);
    for (written, refused) in [(true, true), (false, false), (false, true)] {
        assert_eq!(rest_of_group(written, refused), Fate::Lost);
    }
}

#[test]
fn after_a_session_limit_the_rest_of_the_group_teaches_nothing() {
    let rotating = Context { rotating: true, across_dot: true, chunk: true, ..MIDST };
    for (code, text) in
        [(421, "too many messages in this connection"), (503, "no"), (450, "4.7.1 too much mail")]
    {
        judged(&[(Stage::Mail, code, text, Session::Rotate, Fate::NotTried, Mta::Fine)], &rotating);
    }
}

#[test]
fn an_xverp_that_was_offered_and_is_refused_is_learned() {
    let xverp = Context { xverp: true, ..MIDST };
    for code in [501, 504, 555] {
        judged(&[(Stage::Mail, code, "no", Session::Cautious, Fate::NotTried, Mta::LearnNoXverp)], &xverp);
    }
    judged(&[(Stage::Mail, 550, "no", Session::Cautious, Fate::JobFault, Mta::Fine)], &xverp);
}
