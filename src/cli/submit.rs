//! `submit`: a message and a list become a job; its id is printed once all of it is durable. Also what
//! `send` shares with it: the options, the questions, `--dry-run`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::json;

use super::mta::MtaOption;
use super::session::{self, GlobalOptions, Session, print, print_json};
use super::{dry_run, exit};
use crate::config;
use crate::intake::Format;
use crate::intake::submit::{Observer, SubmitError, SubmitRequest, Submitted, submit};
use crate::pressure::per_second::PerSecond;
use crate::pressure::window::Window;
use crate::spool::{DirSpool, OnDoubt, PRIORITY_DEFAULT, PRIORITY_MAX};

/// Message, recipients, and the catches.
#[derive(Debug, Clone, Args)]
pub struct SubmitOptions {
    /// The message: headers, an empty line, the body; `-`: standard input
    #[arg(value_name = "MESSAGE")]
    pub message: PathBuf,
    /// The recipients: CSV, a plain list, or NDJSON (docs/recipients.md); `-`: standard input
    #[arg(long, value_name = "LIST")]
    pub to: PathBuf,
    /// How the list is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
    /// The column of addresses [default: the one whose name says so]
    #[arg(long, value_name = "NAME")]
    pub column: Option<String>,
    /// The message is a template over the columns: {{ first_name }}
    #[arg(long)]
    pub merge: bool,
    #[command(flatten)]
    pub mta: MtaOption,
    /// 9 goes first; a lower one gets what the higher ones leave (docs/scheduling.md)
    #[arg(
        long,
        value_name = "0-9",
        default_value_t = PRIORITY_DEFAULT,
        value_parser = clap::value_parser!(u8).range(0..=i64::from(PRIORITY_MAX))
    )]
    pub priority: u8,

    /// Send so many messages a second at most: 50, 0.5 (docs/scheduling.md) [default: no limit]
    #[arg(long, value_name = "RATE")]
    pub messages_per_second: Option<PerSecond>,
    /// Send in these hours only: "08:00-20:00 Europe/Berlin", "Mon-Fri 22:00-06:00 UTC"; may be given again
    #[arg(long = "window", value_name = "HOURS")]
    pub windows: Vec<Window>,

    /// Envelope sender, where bounces go; `<>`: none [default: the address in From]
    #[arg(long, value_name = "ADDRESS", help_heading = "Envelope")]
    pub sender: Option<String>,
    /// An envelope sender for each recipient: list-bounces@host, or a pattern with {local}, {domain}, {job}
    #[arg(long, value_name = "PATTERN", help_heading = "Envelope")]
    pub verp: Option<String>,
    /// Delivery reports asked of the MTA: never, or a list of success,failure,delay
    #[arg(long, value_name = "WHEN", value_parser = notify, help_heading = "Envelope")]
    pub notify: Option<String>,
    /// How much of the message a delivery report returns
    #[arg(long, value_enum, value_name = "PART", help_heading = "Envelope")]
    pub ret: Option<Ret>,
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Envelope")]
    pub on_doubt: Option<config::OnDoubt>,

    /// Render and count everything, show samples; submit and send nothing
    #[arg(long, help_heading = "Catches")]
    pub dry_run: bool,
    /// Send the first --samples messages, each as its recipient would get it, to ADDRESS
    #[arg(long, value_name = "ADDRESS", conflicts_with = "dry_run", help_heading = "Catches")]
    pub test_to: Option<String>,
    /// Messages that --dry-run shows, or --test-to sends
    #[arg(long, value_name = "K", default_value_t = 1, help_heading = "Catches")]
    pub samples: u64,
    /// Refuse unless the list comes to exactly N recipients
    #[arg(long, value_name = "N", help_heading = "Catches")]
    pub expect_recipients: Option<u64>,
    /// Don't ask for the count of a large list
    #[arg(long, help_heading = "Catches")]
    pub yes: bool,
    /// The same message to the same list again is meant
    #[arg(long, help_heading = "Catches")]
    pub again: bool,
    /// Name the job: a second submission of the same under this key is harmless
    #[arg(
        long,
        value_name = "KEY",
        help_heading = "Catches",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub id: Option<String>,
    /// Addresses and @domains that get no mail; read again while mail goes out
    #[arg(long, value_name = "FILE", help_heading = "Catches")]
    pub suppress: Option<PathBuf>,
    /// One bad line in the list refuses all of it
    #[arg(long, help_heading = "Catches")]
    pub strict: bool,
    /// Where bad lines are listed [default: LIST.rejects.csv]
    #[arg(long, value_name = "FILE", help_heading = "Catches")]
    pub rejects: Option<PathBuf>,
    /// Don't pause the job when the MTA refuses everything: count them as refused
    #[arg(long, help_heading = "Catches")]
    pub accept_refusals: bool,
    /// Left-over placeholders in the message are meant literally
    #[arg(long, help_heading = "Catches")]
    pub allow_placeholders: bool,
}

/// RET of RFC 3461.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ret {
    /// All of it
    Full,
    /// Its headers
    Hdrs,
}

/// NOTIFY of RFC 3461 §4.1.
fn notify(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let is_list = upper.split(',').all(|word| matches!(word, "SUCCESS" | "FAILURE" | "DELAY"));
    if upper == "NEVER" || is_list {
        Ok(upper)
    } else {
        Err("write `never`, or a comma list of success, failure and delay".to_owned())
    }
}

impl SubmitOptions {
    /// The settings that have a flag here.
    pub fn flags(&self) -> Vec<(&'static str, Option<String>, &'static str)> {
        let doubt = self.on_doubt.map(|d| match d {
            config::OnDoubt::Resend => "resend".to_owned(),
            config::OnDoubt::Hold => "hold".to_owned(),
        });
        vec![("job.on_doubt", doubt, "--on-doubt")]
    }

    fn request(&self, session: &Session) -> SubmitRequest {
        let config = &session.config;
        SubmitRequest {
            message: self.message.clone(),
            list: self.to.clone(),
            format: self.format,
            column: self.column.clone(),
            merge: self.merge,
            sender: self.sender.clone(),
            verp: self.verp.clone(),
            notify: self.notify.clone(),
            ret: self.ret.map(|ret| match ret {
                Ret::Full => "FULL".to_owned(),
                Ret::Hdrs => "HDRS".to_owned(),
            }),
            on_doubt: match config.job.on_doubt {
                config::OnDoubt::Resend => OnDoubt::Resend,
                config::OnDoubt::Hold => OnDoubt::Hold,
            },
            accept_refusals: self.accept_refusals,
            rehearsal: self.mta.is_sink(),
            mta: session.pinned.clone(),
            test_to: self.test_to.clone(),
            samples: self.samples,
            allow_placeholders: self.allow_placeholders,
            priority: self.priority,
            messages_per_second: self.messages_per_second,
            windows: self.windows.iter().map(Window::to_string).collect(),
            suppress: self.suppress.clone(),
            rejects: self.rejects.clone(),
            strict: self.strict,
            expect_recipients: self.expect_recipients,
            confirm_recipients_min: config.catches.confirm_recipients_min as u64,
            yes: self.yes,
            again: self.again,
            key: self.id.clone(),
            first: None,
        }
    }

    /// `--dry-run`.
    ///
    /// # Errors
    /// [`SubmitError`]; output that can't be written.
    pub fn dry_run(&self, session: &Session) -> anyhow::Result<u8> {
        dry_run::run(&self.request(session), session)
    }

    /// Submits, and says on standard error what became of the list.
    ///
    /// # Errors
    /// [`SubmitError`], and those of opening the spool.
    pub fn submit(&self, session: &Session) -> anyhow::Result<(DirSpool, Submitted)> {
        self.submit_first(session, None)
    }

    /// The same, of which only the first so many are sent before the job pauses.
    ///
    /// # Errors
    /// As [`SubmitOptions::submit`].
    pub fn submit_first(
        &self,
        session: &Session,
        first: Option<u64>,
    ) -> anyhow::Result<(DirSpool, Submitted)> {
        let request = SubmitRequest { first, ..self.request(session) };
        let spool = session.open_spool()?;
        let mut watcher = Watcher::new(session);
        let submitted = submit(&spool, &request, &mut watcher);
        watcher.clear();
        let submitted = submitted?;
        remark_on(&submitted, session);
        Ok((spool, submitted))
    }
}

fn remark_on(submitted: &Submitted, session: &Session) {
    let Submitted { job, tally, .. } = submitted;
    if let Some(state) = submitted.existed {
        session.remark(format_args!(
            "job {job} is there already ({}); nothing new was submitted",
            state.as_str()
        ));
        return;
    }
    session.remark(format_args!("job {job}: {} recipients", submitted.recipients));
    if tally.duplicates_dropped > 0 {
        session.remark(format_args!("{} duplicates dropped", tally.duplicates_dropped));
    }
    if let Some(path) = &submitted.rejects {
        session.remark(format_args!("{} lines rejected: see {}", tally.rejected_lines, path.display()));
    }
    if submitted.suppressed > 0 {
        session.remark(format_args!("{} recipients are on the suppression list", submitted.suppressed));
    }
}

/// Runs `submit`: prints the job's id, or with `--json` one object.
///
/// # Errors
/// As [`SubmitOptions::submit`].
pub fn run(options: &SubmitOptions, global: &GlobalOptions) -> anyhow::Result<u8> {
    let mut session = Session::new(global, &options.flags())?;
    if options.mta.mta.len() > 1 {
        let message = "a job can name one MTA: give --mta once, or not at all for any that is configured";
        return Err(exit::coded(exit::USAGE, message.to_owned()));
    }
    options.mta.choose(&mut session)?;
    if options.dry_run {
        return options.dry_run(&session);
    }
    let (_, submitted) = options.submit(&session)?;
    if session.json {
        print_json(&json!({
            "job": submitted.job.as_str(),
            "existed": submitted.existed.is_some(),
            "recipients": submitted.recipients,
            "duplicates_dropped": submitted.tally.duplicates_dropped,
            "rejected_lines": submitted.tally.rejected_lines,
            "rejects": submitted.rejects,
            "suppressed": submitted.suppressed,
            "spool": session.spool_dir,
        }))?;
    } else {
        print(&format!("{}\n", submitted.job))?;
    }
    Ok(exit::DONE)
}

/// Watches a submission on a terminal, and asks there.
pub struct Watcher {
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Watcher {
    pub fn new(session: &Session) -> Self {
        let bar = || session::styled(ProgressBar::new_spinner(), "{spinner} {human_pos} rows read, {rate}");
        let bar = session.shows_progress().then(bar);
        Self { quiet: session.quiet, bar }
    }

    /// Takes the progress off the terminal.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Watcher {
    fn compiled(&mut self, sender: &str, warnings: &[String]) {
        if self.quiet {
            return;
        }
        eprintln!("infeed: from <{sender}>");
        for warning in warnings {
            eprintln!("infeed: warning: {warning}");
        }
    }

    fn rows(&mut self, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(rows);
        }
    }

    fn confirm(&mut self, recipients: u64, min: u64) -> Result<(), SubmitError> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(SubmitError::Unconfirmed { recipients, min });
        }
        self.clear();
        eprint!("This goes to {recipients} recipients. Type that number to go on: ");
        io::stderr().flush().map_err(SubmitError::Terminal)?;
        let mut typed = String::new();
        io::stdin().lock().read_line(&mut typed).map_err(SubmitError::Terminal)?;
        is_count(&typed, recipients)
    }
}

fn is_count(typed: &str, recipients: u64) -> Result<(), SubmitError> {
    let digits: String =
        typed.trim().chars().filter(|c| !matches!(c, ',' | '.' | '\'' | '_' | ' ')).collect();
    if digits.parse() == Ok(recipients) {
        return Ok(());
    }
    Err(SubmitError::NotConfirmed { recipients, typed: typed.trim().chars().take(40).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_count_confirms() {
        for yes in ["1234\n", " 1,234 ", "1'234"] {
            assert!(is_count(yes, 1234).is_ok(), "{yes:?}");
        }
        for no in ["", "\n", "y", "yes", "123", "12345", "1234x"] {
            assert!(is_count(no, 1234).is_err(), "{no:?}");
        }
    }

    #[test]
    fn notify_is_one_of_rfc_3461() {
        assert_eq!(notify("failure,delay"), Ok("FAILURE,DELAY".to_owned()));
        assert_eq!(notify("never"), Ok("NEVER".to_owned()));
        for bad in ["", "never,failure", "failure,", "bounce", "FAILURE\r\nRCPT"] {
            assert!(notify(bad).is_err(), "{bad:?}");
        }
    }
}
