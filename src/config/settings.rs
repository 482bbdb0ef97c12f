//! The settings: the one place where each is defined.
//!
//! Names end in their unit, then their bound. The first paragraph of a comment says what the setting is,
//! the second why its default is what it is; both go into the sample file and the docs.

use super::connections::{CONNECTIONS_MAX, Connections};
use super::log_format::LogFormat;
use super::mtas::MtaEntry;
use super::rates::{DomainRates, Rate};
use super::tls_mode::TlsMode;
use super::value::{Bound, Field, OnDoubt, Setting, Value};
use std::path::PathBuf;

settings! {
    /// The durable queue on disk.
    spool: Spool {
        /// Folder of the queue.
        ///
        /// Unset, it is /var/spool/infeed where that is ours to write, else infeed/spool in the user's
        /// XDG state folder.
        dir: Option<PathBuf> = None, Bound::Path { example: "/var/spool/infeed" };
        /// Slices of SHA-1 space that `--slices` counts in.
        ///
        /// Each is drained by one runner; 16 leaves room to share a spool among several processes.
        slices: usize = 16, Bound::PowerOfTwo { max: 256 };
        /// Recipients in one chunk, at most.
        ///
        /// A chunk is the unit of claiming: smaller ones cost more files, larger ones more memory.
        chunk_recipients_max: usize = 1000, Bound::Range { min: 1, max: 1000 };
        /// Size of one chunk, at most.
        ///
        /// Recipients with many merge columns fill a chunk by size before they fill it by count.
        chunk_bytes_max: u64 = 1_048_576, Bound::Range { min: 4096, max: 16_777_216 };
        /// Longest time between an outcome and the sync that makes it survive a power cut.
        ///
        /// It bounds the syncs a second, whatever the number of jobs and recipients.
        progress_commit_ms: u64 = 50, Bound::Range { min: 1, max: 10_000 };
        /// Recipients settled beyond the last sync, at most.
        ///
        /// After a power cut as many more may be sent twice; the drain waits for the disk beyond it.
        progress_unsynced_max: usize = 10_000, Bound::Range { min: 1, max: 1_000_000 };
        /// Size of one segment of the progress journal.
        ///
        /// Segments are preallocated; several of them at most are read again at start.
        journal_segment_bytes: u64 = 16_777_216, Bound::Range { min: 65_536, max: 67_108_864 };
        /// Free space that a submission leaves on the spool's file system.
        ///
        /// The journal of a drain needs room too: a full disk stops the drain, it never loses mail.
        free_bytes_min: u64 = 67_108_864, Bound::Range { min: 0, max: 1 << 50 };
        /// Free inodes that a submission leaves on the spool's file system.
        ///
        /// A file system can run out of inodes long before it runs out of space.
        free_inodes_min: u64 = 1000, Bound::Range { min: 0, max: 1 << 40 };
    }

    /// The local MTA, and how to talk to it.
    mta: Mta {
        /// Where the MTA listens.
        ///
        /// A local MTA: infeed looks up no MX and leaves the delivery to it. `unix:/path` is a
        /// Unix-domain socket; an MTA on another host wants tls and auth_user.
        address: String = "127.0.0.1:25", Bound::MtaAddress;
        /// Whether the way to the MTA is encrypted.
        ///
        /// A local MTA needs none. `starttls` sends nothing to an MTA that doesn't offer it; `implicit`
        /// is for ports that begin with TLS (465).
        tls: TlsMode = TlsMode::Off, Bound::OneOf { names: TlsMode::NAMES };
        /// PEM file of the root certificates that the MTA's certificate must lead to.
        ///
        /// Unset, it is the system's roots. An authority of one's own belongs here.
        tls_ca_file: Option<PathBuf> = None, Bound::Path { example: "/etc/infeed/mta-root.pem" };
        /// Name that the MTA's certificate must bear.
        ///
        /// Unset, it is the host of the address. A Unix-domain socket has none, and needs this.
        tls_server_name: Option<String> = None, Bound::DomainName { example: "mail.example.org" };
        /// Refuse an MTA whose certificate can't be trusted.
        ///
        /// Without it anybody between here and the MTA can read and change the mail: for rehearsals only.
        tls_verify: bool = true, Bound::Any;
        /// User name for AUTH (PLAIN or LOGIN).
        ///
        /// Unset, there is no AUTH: a local MTA knows its host. It goes over TLS or stays on this host.
        auth_user: Option<String> = None, Bound::Line { example: "infeed" };
        /// File that holds the password for AUTH: one line, readable by infeed's user alone.
        ///
        /// It is read again at each connect, so that the password can be changed while infeed runs.
        auth_password_file: Option<PathBuf> = None, Bound::Path { example: "/etc/infeed/mta-password" };
        /// Name of the systemd credential that holds the password for AUTH.
        ///
        /// Set by LoadCredential= in the unit; it counts where auth_password_file is not set.
        auth_password_credential: Option<String> = None, Bound::FileName { example: "mta-password" };
        /// Infeeds: SMTP connections held open side by side.
        ///
        /// `auto` finds the number that keeps the MTA busy, and follows it when it changes; a number is for
        /// rehearsals, and for who knows better.
        connections: Connections = Connections::Auto,
            Bound::RangeOr { min: 1, max: CONNECTIONS_MAX as u64, word: "auto" };
        /// Most connections that `auto` may open.
        ///
        /// No MTA on one host gained anything beyond it here; the MTA's own limit of processes should be
        /// higher, or `auto` learns it by being refused.
        connections_max: usize = 64, Bound::Range { min: 1, max: CONNECTIONS_MAX as u64 };
        /// Messages a second, at most; 0: no limit.
        ///
        /// Each transaction counts as one, however many recipients it has. Over all connections to this MTA; a
        /// reload changes it at once (docs/scheduling.md).
        messages_per_second: Rate = Rate(None), Bound::Any;
        /// Messages that the MTA's own queue may hold before `auto` slows down; 0: its queue is not looked at.
        ///
        /// A few seconds' or minutes' work for an MTA, so that it is never idle; and a tenth of what Postfix takes
        /// into its active queue (`qmgr_message_active_limit`, 20,000), where all mail waits for all.
        queue_target: u64 = 2000, Bound::Range { min: 0, max: 1_000_000 };
        /// Folder of the MTA's queue, to count what waits in it: Postfix's `queue_directory`, or sendmail's
        /// `QueueDirectory`, with a `*` at its end where that has one.
        ///
        /// Unset, Postfix is asked (`postconf -h queue_directory`) for an MTA on port 25 of this host; on another
        /// port it might be another's. `none`, or a folder that infeed's user can't read: `auto` goes by the MTA's
        /// replies alone.
        queue_dir: Option<PathBuf> = None, Bound::PathOr { example: "/var/spool/postfix", word: "none" };
        /// sendmail's control socket (`ControlSocketName`), to ask for the number of messages in its queue.
        ///
        /// Unset, queue_dir is read. sendmail knows the number only with its option `SharedMemoryKey`.
        control_socket: Option<PathBuf> = None, Bound::Path { example: "/var/spool/mqueue/.control" };
        /// Name given in EHLO.
        ///
        /// Unset, it is the host's name, and an address literal where that has no dot.
        helo_name: Option<String> = None, Bound::DomainName { example: "lists.example.org" };
        /// Messages sent over one connection before it is replaced.
        ///
        /// MTAs limit it (Exim and others refuse beyond 1,000), and long sessions hide restarts.
        messages_per_connection_max: usize = 1000, Bound::Range { min: 1, max: 1_000_000 };
        /// Recipients of one transaction, at most, where the content is the same.
        ///
        /// More of them are faster, and more of them are in doubt after a crash.
        recipients_per_transaction_max: usize = 50, Bound::Range { min: 1, max: 1000 };
        /// Send the next envelope in one group with the content before it (RFC 2920).
        ///
        /// It saves a wait a message; an MTA that doesn't bear it is noticed, and spared.
        group_across_dot: bool = true, Bound::Any;
        /// Send content by BDAT (RFC 3030) where the MTA offers CHUNKING and PIPELINING.
        ///
        /// Several messages then go in one write, and all of them are in doubt when a connection is lost. Into
        /// a local Postfix it gained nothing over DATA: so it is off. An MTA 2 ms away took four times as much by
        /// it (docs/wire.md). An MTA that offers BDAT and refuses it gets DATA.
        chunking: bool = false, Bound::Any;
        /// Messages that go out in one group by BDAT before their replies are awaited, at most.
        ///
        /// More of them cost fewer waits, and more of them are in doubt when a connection is lost.
        pipelining_depth_max: usize = 4, Bound::Range { min: 1, max: 4 };
        /// Let the MTA make each recipient's own sender (VERP) where it offers XVERP.
        ///
        /// Mail with VERP then goes in transactions of many recipients; else each needs its own.
        xverp: bool = true, Bound::Any;
        /// Longest wait for a connection to be established.
        ///
        /// A local MTA answers at once, or its backlog is full.
        connect_timeout_ms: u64 = 30_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Longest wait for the 220 banner.
        ///
        /// RFC 5321 §4.5.3.2.1: five minutes.
        banner_timeout_ms: u64 = 300_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Longest wait for the reply to EHLO.
        ///
        /// The RFC names none; five minutes, as for MAIL.
        ehlo_timeout_ms: u64 = 300_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Longest wait for the reply to MAIL.
        ///
        /// RFC 5321 §4.5.3.2.2: five minutes.
        mail_timeout_ms: u64 = 300_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Longest wait for the reply to one RCPT.
        ///
        /// RFC 5321 §4.5.3.2.3: five minutes.
        rcpt_timeout_ms: u64 = 300_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Longest wait for the reply to DATA.
        ///
        /// RFC 5321 §4.5.3.2.4: two minutes.
        data_timeout_ms: u64 = 120_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Longest wait for the MTA to take a block of content.
        ///
        /// RFC 5321 §4.5.3.2.5: three minutes.
        content_timeout_ms: u64 = 180_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Longest wait for the reply to the final dot.
        ///
        /// RFC 5321 §4.5.3.2.6: ten minutes. Giving up earlier makes duplicates.
        final_dot_timeout_ms: u64 = 600_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Time without anything to send after which a connection is ended.
        ///
        /// An MTA ends it itself later (Postfix after 300 s), and less politely.
        idle_timeout_ms: u64 = 30_000, Bound::Range { min: 1, max: 3_600_000 };
        /// First delay before a lost connection is made again.
        ///
        /// It doubles, with jitter, up to reconnect_delay_ms_max.
        reconnect_delay_ms_min: u64 = 100, Bound::Range { min: 1, max: 3_600_000 };
        /// Longest delay before a lost connection is made again.
        ///
        /// An MTA that is back is in use again within ten seconds.
        reconnect_delay_ms_max: u64 = 10_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Pause in new connections after the MTA refused one.
        ///
        /// sendmail under load closes its socket for 15 s; live sessions go on meanwhile.
        refused_hold_ms: u64 = 5_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Give up when the MTA has not answered once within this time from the start.
        ///
        /// A wrong address should be noticed at once, not after minutes.
        wait_first_s: u64 = 15, Bound::Range { min: 0, max: 86_400 };
        /// Give up when an MTA that was there has been gone for this long.
        ///
        /// Long enough for a restart. The recipients stay pending.
        wait_s: u64 = 300, Bound::Range { min: 0, max: 604_800 };
        /// Time after which the daemon calls again on an MTA that refused us as a whole; 0: never.
        ///
        /// A 5xx at the greeting or to AUTH touches no recipient; `infeed mta resume` calls at once.
        pause_probe_s: u64 = 300, Bound::Range { min: 0, max: 86_400 };
    }

    /// When deferred recipients (4xx) are tried again.
    retry: Retry {
        /// Delay before the second attempt.
        ///
        /// It doubles at each attempt, up to delay_s_max.
        delay_s_min: u64 = 60, Bound::Range { min: 0, max: 604_800 };
        /// Longest delay between two attempts.
        ///
        /// A local MTA defers for reasons of its own, which pass in minutes.
        delay_s_max: u64 = 3600, Bound::Range { min: 0, max: 604_800 };
        /// Age of a job at which what is still deferred expires.
        ///
        /// RFC 5321 §4.5.4.1 wants four to five days at least.
        expire_after_s: u64 = 432_000, Bound::Range { min: 0, max: 31_536_000 };
    }

    /// How fast mail goes to domains that want it slower.
    rates: Rates {
        /// Messages a second, at most, to recipients of these domains, over all MTAs and jobs.
        ///
        /// A transaction counts once for each of these domains that it has recipients of. Mail for other domains
        /// does not wait for them (docs/scheduling.md). In the file it is a table, in the environment a list:
        /// gmail.com=20,example.org=0.5.
        domains: DomainRates = (), Bound::Any;
    }

    /// What keeps an operator from the worst mistakes.
    catches: Catches {
        /// Recipients from which a send must be confirmed (the typed count, or `--yes`).
        ///
        /// The wrong list is mostly noticed by its size.
        confirm_recipients_min: usize = 1000, Bound::Range { min: 1, max: 1 << 40 };
        /// Time in which the same message to the same list is refused without `--again`.
        ///
        /// A day catches the second press of the button; weekly mail differs in its content.
        again_window_s: u64 = 86_400, Bound::Range { min: 0, max: 31_536_000 };
        /// Recipients in a row with the same 5xx at which the refusal breaker pauses the job.
        ///
        /// One bad setting ("relay access denied") would else refuse the whole list.
        breaker_recipients_min: usize = 50, Bound::Range { min: 1, max: 1_000_000 };
        /// Domains that those recipients must be spread over.
        ///
        /// One domain that refuses all of its own is no fault of the job.
        breaker_domains_min: usize = 10, Bound::Range { min: 1, max: 1_000_000 };
    }

    /// How a drain ends.
    drain: Drain {
        /// Time that transactions in flight have to finish after SIGTERM or SIGINT.
        ///
        /// What is cut off after it, between the final dot and its reply, is in doubt.
        shutdown_grace_ms: u64 = 30_000, Bound::Range { min: 0, max: 3_600_000 };
    }

    /// When ended jobs go, with their message, recipients and report.
    retention: Retention {
        /// Days that an ended job is kept; 0 keeps it for ever.
        ///
        /// Long enough for a monthly look at the bounces. It is `serve` that removes, or `jobs prune`.
        days: u64 = 30, Bound::Range { min: 0, max: 36_500 };
        /// Files that are unlinked in a second, at most.
        ///
        /// A job of 10 million has 20,000 files: mail that is sent meanwhile needs the disk too.
        unlinks_per_s_max: u64 = 1000, Bound::Range { min: 1, max: 1_000_000 };
    }

    /// How a running infeed is talked to.
    control: Control {
        /// A second control socket of the daemon, for people who may not read the spool.
        ///
        /// One in the spool's folder is always there, for the spool's owner alone.
        socket: Option<PathBuf> = None, Bound::Path { example: "/run/infeed/control.sock" };
        /// The group that may use that second socket.
        ///
        /// Unset, it is for the daemon's user alone. Whoever may use it can pause and cancel every job.
        socket_group: Option<String> = None, Bound::Any;
    }

    /// What is told to a monitoring system.
    metrics: Metrics {
        /// Address and port that /metrics, /healthz and /readyz are answered on; port 0: a free one.
        ///
        /// Unset, or `none`, nothing listens. There is no password: whoever reaches it reads job ids, MTA names and
        /// counts, so it is best on this host's loopback.
        listen: Option<String> = None, Bound::ListenAddress { example: "127.0.0.1:9925" };
    }

    /// The admin API and its page: what the control socket does, over HTTP.
    admin: Admin {
        /// Address and port that the daemon answers the admin API and its page on; port 0: a free one.
        ///
        /// Unset, or `none`, nothing listens. Each call needs the token. Beyond this host's loopback it is refused without TLS.
        listen: Option<String> = None, Bound::ListenAddress { example: "127.0.0.1:9926" };
        /// File that holds the token, for the daemon's user alone; made at the first start.
        ///
        /// Unset, it is admin.token in the spool's folder. Whoever can read it can pause and cancel every job.
        token_file: Option<PathBuf> = None, Bound::Path { example: "/etc/infeed/admin.token" };
        /// PEM file of the certificate, and of those that lead from it to its root.
        ///
        /// Unset, there is no TLS: the token would go over the network in the clear, so only loopback is listened on.
        tls_cert_file: Option<PathBuf> = None, Bound::Path { example: "/etc/infeed/admin.pem" };
        /// PEM file of the certificate's private key.
        ///
        /// Both files are read at the start.
        tls_key_file: Option<PathBuf> = None, Bound::Path { example: "/etc/infeed/admin.key" };
        /// Listen beyond loopback without TLS.
        ///
        /// For a network that nobody else is on, such as that of a container; else anybody on the way has the token.
        insecure: bool = false, Bound::Any;
        /// Names by which browsers and tools may call it, beside localhost and the addresses of this host.
        ///
        /// A call by any other name is refused: a page of somebody else's could have made it, by a name that it lets
        /// lead here (DNS rebinding).
        hosts: Option<String> = None, Bound::HostNames { example: "infeed.example.org" };
    }

    /// What infeed tells of itself while it works.
    log: Log {
        /// How the log is written.
        ///
        /// `auto` is `human` on standard error, and `journald` where systemd has started infeed and standard error
        /// leads to its journal. `json` is a JSON object a line, for a log collector (docs/logs.md).
        format: LogFormat = LogFormat::Auto, Bound::OneOf { names: LogFormat::NAMES };
    }

    /// A line for each outcome of a recipient, as it comes.
    delivery_log: DeliveryLog {
        /// File that gets a line of JSON for each outcome of a recipient.
        ///
        /// Unset, there is none: the report has them all, and is what counts (docs/logs.md).
        file: Option<PathBuf> = None, Bound::Path { example: "/var/log/infeed/delivery.ndjson" };
        /// Size at which the file is put aside as FILE.1 and begun anew; 0: never.
        ///
        /// About 400,000 lines. Where logrotate does it, 0.
        bytes_max: u64 = 104_857_600, Bound::Range { min: 0, max: 1 << 40 };
        /// Files that are kept beside it: FILE.1 is the youngest.
        ///
        /// With the file itself they take six times bytes_max at most.
        keep: usize = 5, Bound::Range { min: 1, max: 100 };
    }

    /// What is told to another program, by HTTP: jobs that are done or paused, recipients that were refused.
    webhook: Webhook {
        /// Where events are posted to, http or https.
        ///
        /// Unset, nothing is posted. A name or password has no place in it: each event is signed
        /// (docs/events.md).
        url: Option<String> = None, Bound::WebUrl { example: "https://hooks.example.org/infeed" };
        /// File that holds the key that events are signed with: one line, readable by infeed's user alone.
        ///
        /// `whsec_` and base64, as other senders of webhooks have it, or any text of 16 octets or more. It is read
        /// again for each event, so that it can be changed while infeed runs.
        secret_file: Option<PathBuf> = None, Bound::Path { example: "/etc/infeed/webhook-secret" };
        /// PEM file of the root certificates that the certificate of an https url must lead to.
        ///
        /// Unset, it is the system's roots. An authority of one's own belongs here.
        tls_ca_file: Option<PathBuf> = None, Bound::Path { example: "/etc/infeed/webhook-root.pem" };
        /// Refused recipients that one event tells of, at most.
        ///
        /// A bad list has thousands of them: an event each would be slower than the mail.
        batch_max: usize = 100, Bound::Range { min: 1, max: 1000 };
        /// How long a refused recipient waits for others to be told of with.
        ///
        /// Short enough to watch a job by it.
        batch_wait_ms: u64 = 5_000, Bound::Range { min: 1, max: 3_600_000 };
        /// Longest wait for an answer, from the connect on.
        ///
        /// Whoever takes events should answer at once, and work on them later.
        timeout_ms: u64 = 10_000, Bound::Range { min: 1, max: 600_000 };
        /// How long an event is tried again before it is given up.
        ///
        /// A day: somebody has noticed by then.
        retry_for_s: u64 = 86_400, Bound::Range { min: 1, max: 31_536_000 };
        /// How long events that wait keep an infeed that ends, at most.
        ///
        /// What is left of jobs goes out with the next start; the drain itself never waits.
        end_wait_ms: u64 = 5_000, Bound::Range { min: 0, max: 600_000 };
    }

    /// What a job does unless its submission says otherwise.
    job: Job {
        /// What becomes of a recipient when the connection is lost between the final dot and its reply.
        ///
        /// `resend` sends again and marks it possible_repeat; `hold` leaves it in_doubt.
        on_doubt: OnDoubt = OnDoubt::Resend, Bound::OneOf { names: OnDoubt::NAMES };
    }
}

relations! {
    mta.reconnect_delay_ms_min <= mta.reconnect_delay_ms_max: "a delay grows from its least to its most";
    retry.delay_s_min <= retry.delay_s_max: "a delay grows from its least to its most";
    retry.delay_s_max <= retry.expire_after_s: "a recipient must be due again before it expires";
    catches.breaker_domains_min <= catches.breaker_recipients_min: "each recipient has one domain";
    spool.chunk_bytes_max <= spool.journal_segment_bytes: "the records of a chunk must fit a segment";
}

// These hold for the defaults only: an operator may have reasons to set them apart. Related settings
// that come later (idle times, retention) have their place here.
const _: () = {
    use defaults::{catches, drain, mta, retry, spool, webhook};

    // the queue on disk
    assert!(spool::slices.is_power_of_two());
    assert!(spool::journal_segment_bytes <= spool::free_bytes_min);
    assert!(spool::chunk_recipients_max <= spool::progress_unsynced_max);
    assert!(spool::progress_commit_ms < drain::shutdown_grace_ms);

    // what is in flight at once: a transaction is cut from one chunk, and all of them may settle unsynced
    assert!(mta::recipients_per_transaction_max <= spool::chunk_recipients_max);
    assert!(
        mta::connections_max
            * if mta::chunking { mta::pipelining_depth_max } else { 1 }
            * mta::recipients_per_transaction_max
            <= spool::progress_unsynced_max
    );

    // RFC 5321 §4.5.3.2 gives the least for each
    assert!(mta::banner_timeout_ms >= 300_000);
    assert!(mta::mail_timeout_ms >= 300_000);
    assert!(mta::rcpt_timeout_ms >= 300_000);
    assert!(mta::data_timeout_ms >= 120_000);
    assert!(mta::content_timeout_ms >= 180_000);
    assert!(mta::final_dot_timeout_ms >= 600_000);
    assert!(mta::ehlo_timeout_ms >= mta::mail_timeout_ms);
    assert!(mta::connect_timeout_ms <= mta::banner_timeout_ms);

    // an MTA that is away is tried several times before it is given up
    assert!(mta::wait_first_s <= mta::wait_s);
    assert!(mta::refused_hold_ms <= mta::reconnect_delay_ms_max);
    assert!(mta::reconnect_delay_ms_min * 10 <= mta::wait_first_s * 1000);
    assert!(mta::reconnect_delay_ms_max * 5 <= mta::wait_s * 1000);

    // a recipient is not due again before the MTA that deferred it takes connections; §4.5.4.1: four days
    assert!(mta::refused_hold_ms <= retry::delay_s_min * 1000);
    assert!(retry::expire_after_s >= 4 * 86_400);
    assert!(retry::delay_s_max <= catches::again_window_s);

    // the breaker trips within the first chunk, and before a list that nobody has to confirm is used up
    assert!(catches::breaker_recipients_min <= spool::chunk_recipients_max);
    assert!(catches::breaker_recipients_min <= catches::confirm_recipients_min);

    // an infeed that is told to stop has gone before systemd loses patience (60 s)
    assert!(drain::shutdown_grace_ms + webhook::end_wait_ms + 10_000 <= 60_000);
    assert!(webhook::timeout_ms < webhook::retry_for_s * 1000);

    // below Postfix's smtpd_timeout: we hang up first
    assert!(mta::idle_timeout_ms < 300_000);
};
