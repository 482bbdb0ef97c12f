//! Exit codes: those of sysexits.h, and one of our own.

use std::fmt;
use std::io;

use crate::config::{ConfigError, ConfigErrors};
use crate::control::ControlError;
use crate::intake::IntakeError;
use crate::intake::submit::SubmitError;
use crate::runner::RunnerError;
use crate::sink::SinkError;
use crate::spool::SpoolError;
use crate::tune::TuneError;

/// Done: everything that was asked for.
pub const DONE: u8 = 0;
/// Finished, and some recipients were refused.
pub const SOME_REFUSED: u8 = 1;
/// Wrong usage (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// Bad data: a message or a list that can't be taken (`EX_DATAERR`).
pub const BAD_DATA: u8 = 65;
/// No input: a file that isn't there or can't be read (`EX_NOINPUT`).
pub const NO_INPUT: u8 = 66;
/// The MTA is unavailable (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// A defect of infeed (`EX_SOFTWARE`).
pub const INTERNAL: u8 = 70;
/// A file or folder can't be created (`EX_CANTCREAT`).
pub const CANT_CREATE: u8 = 73;
/// Reading or writing failed (`EX_IOERR`).
pub const IO_ERROR: u8 = 74;
/// Stopped with recipients pending: run again (`EX_TEMPFAIL`).
pub const PENDING: u8 = 75;
/// No permission (`EX_NOPERM`).
pub const NO_PERMISSION: u8 = 77;
/// Bad configuration (`EX_CONFIG`).
pub const BAD_CONFIG: u8 = 78;

/// Every exit code and what it means, for help and man page.
pub const MEANINGS: &[(u8, &str)] = &[
    (DONE, "done"),
    (SOME_REFUSED, "done, and some recipients were refused"),
    (USAGE, "usage"),
    (BAD_DATA, "bad data"),
    (NO_INPUT, "no input"),
    (UNAVAILABLE, "MTA unavailable"),
    (INTERNAL, "a defect of infeed"),
    (CANT_CREATE, "can't create"),
    (IO_ERROR, "I/O error"),
    (PENDING, "recipients are pending (run again)"),
    (NO_PERMISSION, "no permission"),
    (BAD_CONFIG, "bad configuration"),
];

/// Of a command that did all that there was to do: [`SOME_REFUSED`] where so many recipients ended in anything but
/// acceptance, or the suppression that was asked for.
pub fn of_not_sent(recipients: u64) -> u8 {
    if recipients > 0 { SOME_REFUSED } else { DONE }
}

/// An error that knows its exit code. Prints as the error that it carries.
#[derive(Debug)]
struct Coded {
    code: u8,
    error: anyhow::Error,
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Coded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Gives an error its exit code.
pub trait ExitCode<T> {
    /// `Err` leads to this exit code, whatever else the error is.
    fn exit_code(self, code: u8) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> ExitCode<T> for Result<T, E> {
    fn exit_code(self, code: u8) -> anyhow::Result<T> {
        self.map_err(|error| Coded { code, error: error.into() }.into())
    }
}

/// An error of these words that leads to this exit code.
pub fn coded(code: u8, message: String) -> anyhow::Error {
    Coded { code, error: anyhow::Error::msg(message) }.into()
}

/// An error with its causes, none said twice: many of ours hold the text of their cause already.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// The exit code that an error leads to: the one it was given, else the one that its cause speaks for,
/// else [`INTERNAL`].
pub fn code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(coded) = cause.downcast_ref::<Coded>() {
            return coded.code;
        }
        if let Some(error) = cause.downcast_ref::<SubmitError>() {
            return of_submit(error);
        }
        if let Some(error) = cause.downcast_ref::<IntakeError>() {
            return of_intake(error);
        }
        if let Some(error) = cause.downcast_ref::<SpoolError>() {
            return of_spool(error);
        }
        if let Some(RunnerError::Spool(error)) = cause.downcast_ref::<RunnerError>() {
            return of_spool(error);
        }
        if let Some(error) = cause.downcast_ref::<ControlError>() {
            return super::control::exit_code(error);
        }
        if let Some(error) = cause.downcast_ref::<TuneError>() {
            return of_tune(error);
        }
        if let Some(error) = cause.downcast_ref::<SinkError>() {
            return error.exit_code();
        }
        if let Some(errors) = cause.downcast_ref::<ConfigErrors>() {
            return of_config(errors.is_usage());
        }
        if let Some(error) = cause.downcast_ref::<ConfigError>() {
            return of_config(error.is_usage());
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return of_io(error, IO_ERROR);
        }
    }
    INTERNAL
}

/// A value that the command line gives is wrong usage; one of a file or the environment is not.
pub fn of_config(is_usage: bool) -> u8 {
    if is_usage { USAGE } else { BAD_CONFIG }
}

/// No permission where that is the reason, else `code`.
pub(super) fn of_io(error: &io::Error, code: u8) -> u8 {
    if error.kind() == io::ErrorKind::PermissionDenied { NO_PERMISSION } else { code }
}

/// An input file that isn't there or may not be read is no input, whatever the reason.
fn of_input(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => NO_INPUT,
        _ => IO_ERROR,
    }
}

fn of_submit(error: &SubmitError) -> u8 {
    match error {
        SubmitError::Intake(error) => of_intake(error),
        SubmitError::Spool(error) => of_spool(error),
        SubmitError::MessageRead { source, .. } => of_input(source),
        SubmitError::BothFromStdin
        | SubmitError::TestTo { .. }
        | SubmitError::Unconfirmed { .. }
        | SubmitError::Terminal(_) => USAGE,
        SubmitError::Message { .. }
        | SubmitError::Strict { .. }
        | SubmitError::NoRecipients { .. }
        | SubmitError::Expected { .. }
        | SubmitError::Again { .. }
        | SubmitError::OtherSubmission { .. }
        | SubmitError::NotConfirmed { .. } => BAD_DATA,
    }
}

fn of_intake(error: &IntakeError) -> u8 {
    match error {
        IntakeError::Read { source, .. } | IntakeError::Suppression { source, .. } => of_input(source),
        IntakeError::Rejects { source, .. } => of_io(source, CANT_CREATE),
        IntakeError::ColumnOfList { .. } | IntakeError::NoSuchColumn { .. } => USAGE,
        _ => BAD_DATA,
    }
}

fn of_tune(error: &TuneError) -> u8 {
    match error {
        TuneError::Flag { .. }
        | TuneError::Address { .. }
        | TuneError::TooFewAddresses { .. }
        | TuneError::TooFewMessages { .. }
        | TuneError::NotLoopback { .. } => USAGE,
        TuneError::Lookup { .. } => UNAVAILABLE,
        TuneError::MessageRead { source, .. } => of_input(source),
        TuneError::Message { .. } | TuneError::Render { .. } => BAD_DATA,
        TuneError::Plot(_) => INTERNAL,
    }
}

pub(super) fn of_spool(error: &SpoolError) -> u8 {
    match error {
        SpoolError::Io { what, source, .. } => {
            of_io(source, if *what == "create" { CANT_CREATE } else { IO_ERROR })
        }
        SpoolError::Unknown { .. } => IO_ERROR,
        SpoolError::NoSpace { .. } | SpoolError::FileSystem { .. } => CANT_CREATE,
        SpoolError::BadJobId(_) | SpoolError::PackMember { .. } => USAGE,
        SpoolError::NoSuchJob(_) => NO_INPUT,
        SpoolError::NotOurs { .. } | SpoolError::OpenDoor { .. } => NO_PERMISSION,
        SpoolError::Owned { .. }
        | SpoolError::Busy { .. }
        | SpoolError::TurnHeld { .. }
        | SpoolError::BeingRead { .. }
        | SpoolError::SubmitUnderWay(_) => PENDING,
        SpoolError::Damaged { .. }
        | SpoolError::NewerFormat { .. }
        | SpoolError::OtherMachine { .. }
        | SpoolError::WrongState { .. }
        | SpoolError::RecipientTooLarge { .. } => BAD_DATA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn an_error_leads_to_the_code_it_was_given_through_any_context() {
        let refused: Result<(), _> = Err(anyhow!("no such list"));
        let error = refused.exit_code(NO_INPUT).context("reading recipients").expect_err("an error");
        assert_eq!(code_of(&error), NO_INPUT);
        assert_eq!(format!("{error:#}"), "reading recipients: no such list");
    }

    #[test]
    fn without_one_the_cause_speaks() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(code_of(&anyhow::Error::from(denied).context("opening")), NO_PERMISSION);
        assert_eq!(code_of(&io::Error::other("disk").into()), IO_ERROR);
        assert_eq!(code_of(&ConfigError::NoSpoolDir.into()), BAD_CONFIG);
        assert_eq!(code_of(&anyhow!("odd")), INTERNAL);
    }
}
