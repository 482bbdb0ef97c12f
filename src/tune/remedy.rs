//! Which MTA this is, and how it calls the setting that helps. Facts of Postfix 3.7, sendmail 8.17 and Exim
//! 4.96.

use serde::Serialize;

use super::bottleneck::Cause;
use super::trouble::Trouble;
use crate::infeed::Opened;

/// What the MTA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mta {
    Postfix,
    Sendmail,
    Exim,
    /// infeed's own.
    Sink,
    Other,
}

impl Mta {
    /// By its greeting; where that says nothing, by what it offers.
    pub fn of(opened: &Opened) -> Self {
        let banner = opened.banner.to_ascii_lowercase();
        for (word, mta) in [
            ("postfix", Mta::Postfix),
            ("sendmail", Mta::Sendmail),
            ("exim", Mta::Exim),
            ("infeed sink", Mta::Sink),
        ] {
            if banner.contains(word) {
                return mta;
            }
        }
        let offers = |word: &str| opened.keywords.iter().any(|keyword| keyword == word);
        if offers("DELIVERBY") {
            Mta::Sendmail
        } else if offers("PIPECONNECT") || offers("PIPE_CONNECT") || offers("PRDR") {
            Mta::Exim
        } else if offers("ETRN") && offers("VRFY") && offers("ENHANCEDSTATUSCODES") {
            Mta::Postfix
        } else {
            Mta::Other
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Mta::Postfix => "Postfix",
            Mta::Sendmail => "sendmail",
            Mta::Exim => "Exim",
            Mta::Sink => "the sink of infeed",
            Mta::Other => "an MTA that doesn't say its name",
        }
    }

    /// What to do about a bottleneck.
    pub fn remedy(self, cause: Cause) -> &'static str {
        match (cause, self) {
            (Cause::ConnectionLimit, Mta::Postfix) => {
                "smtpd_client_connection_count_limit (50 as delivered) counts a client's connections, unless it is \
                 in smtpd_client_event_limit_exceptions ($mynetworks as delivered); `all server ports are busy` \
                 is the process limit: maxproc of this service in master.cf, default_process_limit in main.cf"
            }
            (Cause::ConnectionLimit, Mta::Sendmail) => {
                "confMAX_DAEMON_CHILDREN (MaxDaemonChildren), confREFUSE_LA (RefuseLA: connects are refused at that \
                 load, for 15 s at least), confCONNECTION_RATE_THROTTLE, and FEATURE(`conncontrol')"
            }
            (Cause::ConnectionLimit, Mta::Exim) => {
                "smtp_accept_max (20 as delivered), smtp_accept_max_per_host, and smtp_load_reserve"
            }
            (Cause::ConnectionLimit, _) => "its limit of connections, for a client or for all",
            (Cause::ProcessLimit, Mta::Postfix) => {
                "maxproc of this smtpd service in master.cf (column 7; `-` is default_process_limit, 100 as \
                 delivered), then `postfix reload`; where postscreen stands before it, \
                 postscreen_pre_queue_limit"
            }
            (Cause::ProcessLimit, Mta::Sendmail) => "confMAX_DAEMON_CHILDREN (MaxDaemonChildren)",
            (Cause::ProcessLimit, Mta::Exim) => "smtp_accept_max (20 as delivered)",
            (Cause::ProcessLimit, _) => "its limit of server processes",
            (Cause::SecondLate, Mta::Postfix) => {
                "in_flow_delay (1 s as delivered): cleanup waits while mail comes in faster than qmgr takes it out \
                 of incoming. It is a brake and no fault: quicken the delivery behind it, or set in_flow_delay = 0 \
                 and let infeed watch the queue"
            }
            (Cause::SecondLate, Mta::Sendmail) => {
                "confDELAY_LA (DelayLA) makes every command a second late at that load; confBAD_RCPT_THROTTLE \
                 does so after recipients that it refused"
            }
            (Cause::SecondLate, _) => "what makes it wait a second: its brake on incoming mail",
            (Cause::SlowConnect, Mta::Postfix) => {
                "the listen backlog, which Linux bounds by net.core.somaxconn; and whether master(8) gets to run"
            }
            (Cause::SlowConnect, Mta::Sendmail) => {
                "Listen= in DAEMON_OPTIONS (10 as delivered): `Port=25, Addr=127.0.0.1, Listen=128`"
            }
            (Cause::SlowConnect, Mta::Exim) => "smtp_connect_backlog (20 as delivered)",
            (Cause::SlowConnect, _) => "its listen backlog",
            (Cause::SlowGreeting, Mta::Postfix) => {
                "smtpd_peername_lookup = no (-o in master.cf for a listener of infeed's own): it looks our name up \
                 at each connect; postscreen_greet_wait where postscreen stands before smtpd; else the time that \
                 a new smtpd takes to start: raise max_use (100 as delivered)"
            }
            (Cause::SlowGreeting, Mta::Sendmail) => {
                "confTO_IDENT set to 0, FEATURE(`greet_pause'), and a resolver that knows 127.0.0.1: it looks our \
                 name up at each connect"
            }
            (Cause::SlowGreeting, Mta::Exim) => "host_lookup, and rfc1413_query_timeout = 0s",
            (Cause::SlowGreeting, _) => "its lookups of the client's name",
            (Cause::Cpu, Mta::Postfix) => {
                "none: all processors are at work. What saves some: no milter and no content filter on the \
                 listener that infeed uses (never where one signs DKIM), no TLS over loopback, \
                 receive_override_options=no_unknown_recipient_checks,no_header_body_checks"
            }
            (Cause::Cpu, Mta::Sendmail) => {
                "none: all processors are at work. What saves some: no milter on the listener that infeed uses, \
                 no TLS over loopback, confDELIVERY_MODE `queueonly' in place of `background'"
            }
            (Cause::Cpu, _) => {
                "none: all processors are at work. What saves some: no filter on the listener that infeed uses, no \
                 TLS over loopback"
            }
            (Cause::Storage, Mta::Postfix) => {
                "the disk under queue_directory: each message waits there for a sync. A faster disk, or one apart \
                 from infeed's spool; if the disk is idle too, the processes: default_process_limit, and maxproc \
                 of cleanup and smtpd in master.cf"
            }
            (Cause::Storage, Mta::Sendmail) => {
                "the disk under QUEUE_DIR: each message waits there for its syncs (confSAFE_QUEUE, SuperSafe). A \
                 faster disk, or one apart from infeed's spool; several queue folders (queue groups)"
            }
            (Cause::Storage, Mta::Exim) => {
                "the disk under spool_directory: each message waits there for a sync. A faster disk, \
                 split_spool_directory, and queue_only, so that it doesn't deliver while it takes"
            }
            (Cause::Storage, _) => {
                "the disk under its queue, or whatever it waits for at the end of a message"
            }
            (Cause::Thrash, _) => {
                "none to raise: more connections only make it slower. Lower its own limit of them to the knee, so that \
                 nobody else drives it beyond"
            }
            (Cause::NotReached, _) => "none so far: sweep on with more connections",
            (Cause::Unknown, _) => {
                "not to be told from here: look at its log and at `vmstat 1` while a sweep runs at this number"
            }
        }
    }

    /// What to do about what stopped the sweep.
    pub fn remedy_of(self, trouble: &Trouble) -> String {
        match trouble {
            Trouble::Refused { stage, text, .. } if is_relay(text) => format!(
                "the MTA doesn't relay for this host ({stage}): let it (Postfix: mynetworks; sendmail: \
                 access_db), or name an address of its own"
            ),
            Trouble::Refused { stage, .. } if stage == "RCPT" => {
                "name an address that it takes with --to, or one that it throws away: docs/tune.md says how"
                    .to_owned()
            }
            Trouble::Refused { stage, .. } => format!("see why it refuses at {stage}, in its log"),
            Trouble::Deferred { .. } | Trouble::Held { .. } => {
                "it can't take mail now: see its log and its disk, and tune when it can".to_owned()
            }
            Trouble::NoSession { .. } => "see whether it runs, and what its log says of us".to_owned(),
            Trouble::Limit { .. } => self.remedy(Cause::ConnectionLimit).to_owned(),
        }
    }
}

fn is_relay(text: &str) -> bool {
    text.to_ascii_lowercase().contains("relay")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mta_is_known_by_its_greeting_and_else_by_what_it_offers() {
        let opened = |banner: &str, keywords: &[&str]| Opened {
            banner: banner.to_owned(),
            keywords: keywords.iter().map(|&word| word.to_owned()).collect(),
            ..Opened::default()
        };
        for (banner, keywords, mta) in [
            ("mx.example ESMTP Postfix (Debian/GNU)", &[][..], Mta::Postfix),
            ("mx.example ESMTP Sendmail 8.17.1.9/8.17.1.9; Sun", &[], Mta::Sendmail),
            ("mx.example ESMTP Exim 4.96 Sun", &[], Mta::Exim),
            ("sink.infeed.test ESMTP infeed sink", &["XVERP"], Mta::Sink),
            (
                "mx.example ESMTP",
                &["PIPELINING", "SIZE", "VRFY", "ETRN", "ENHANCEDSTATUSCODES"],
                Mta::Postfix,
            ),
            ("mx.example ESMTP", &["ENHANCEDSTATUSCODES", "PIPELINING", "ETRN", "DELIVERBY"], Mta::Sendmail),
            ("mx.example ESMTP", &["SIZE", "PIPELINING", "PRDR", "HELP"], Mta::Exim),
            ("mx.example ESMTP", &["SIZE"], Mta::Other),
        ] {
            assert_eq!(Mta::of(&opened(banner, keywords)), mta, "{banner} {keywords:?}");
        }
    }
}
