//! The command line as a whole, as parser, help, man pages and completions see it. A flag that stands for
//! a setting gets its words and its default from the table of settings, here and nowhere else.

use clap::{Arg, Command, CommandFactory};

use super::{Cli, exit};
use crate::config;

/// The heading of the options that all commands share: a command's own come before them.
pub const GLOBAL_HEADING: &str = "Global options";

/// The command line: what `main` parses, and what man pages and completions are made of.
pub fn command() -> Command {
    describe_all(Cli::command())
}

fn describe_all(command: Command) -> Command {
    command.mut_args(describe).mut_subcommands(describe_all)
}

/// A flag that takes a list stands for no setting, whatever its name: `tune --connections 1,2,4`.
fn describe(arg: Arg) -> Arg {
    if arg.get_value_delimiter().is_some() {
        return arg;
    }
    let Some(setting) = arg.get_long().and_then(config::setting_of_flag) else { return arg };
    let own = arg.get_help().map(ToString::to_string).unwrap_or_default();
    arg.help(config::flag_help(setting, &own))
}

/// What follows the options in `infeed --help`.
pub(super) fn after_help() -> String {
    let codes: Vec<String> = exit::MEANINGS.iter().map(|(code, means)| format!("{code} {means}")).collect();
    format!(
        "Examples:\n  \
        infeed send newsletter.eml --merge --to list.csv --mta sink    a rehearsal\n  \
        infeed send newsletter.eml --merge --to list.csv --dry-run     look first\n  \
        infeed send newsletter.eml --merge --to list.csv               the real thing\n\n\
        Exit codes: {}.",
        codes.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    use crate::config::{SETTING_FLAGS, Setting, Value};

    /// Every argument of every command, with the command's name.
    fn arguments(command: &Command, found: &mut Vec<(String, Arg)>) {
        for arg in command.get_arguments() {
            found.push((command.get_name().to_owned(), arg.clone()));
        }
        command.get_subcommands().for_each(|sub| arguments(sub, found));
    }

    fn default_shown(setting: &Setting) -> String {
        match &setting.default {
            Value::Unset => setting.why(),
            Value::Text(text) => format!("[default: {text}]"),
            value => format!("[default: {value}]"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_of_a_setting_shows_the_tables_words_and_default() {
        let mut found = Vec::new();
        arguments(&command(), &mut found);
        for (flag, full) in SETTING_FLAGS {
            let setting = config::setting_of_flag(flag).expect(full);
            let is_of_flag = |arg: &Arg| arg.get_long() == Some(flag) && arg.get_value_delimiter().is_none();
            let of_flag: Vec<_> = found.iter().filter(|(_, arg)| is_of_flag(arg)).collect();
            assert!(!of_flag.is_empty(), "no command has --{flag}");
            for (command, arg) in of_flag {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.starts_with(setting.what().trim_end_matches('.')), "{command} --{flag}: {help}");
                assert!(help.contains(&default_shown(setting)), "{command} --{flag}: {help}");
                assert_eq!(help.matches("[default").count(), usize::from(setting.default != Value::Unset));
            }
        }
    }

    #[test]
    fn no_other_flag_repeats_the_default_of_a_setting() {
        let mut found = Vec::new();
        arguments(&command(), &mut found);
        for (command, arg) in &found {
            let is_described = arg.get_long().is_some_and(|long| config::setting_of_flag(long).is_some());
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            for setting in config::table() {
                let names_it = help.contains(&setting.full_name()) && help.contains("[default");
                assert!(is_described || !names_it, "{command} {}: {help}", arg.get_id());
            }
        }
    }

    #[test]
    fn what_a_command_takes_for_a_setting_is_described_by_that_setting() {
        let cli = Cli::try_parse_from(["infeed", "send", "letter.eml", "--to", "list.csv"])
            .expect("a command line");
        let crate::cli::Command::Send(args) = cli.command else { panic!("not send") };
        for (setting, _, flag) in [args.submit.flags(), args.drain.flags()].concat() {
            let known = config::setting_of_flag(flag.trim_start_matches("--"));
            assert_eq!(known.map(Setting::full_name).as_deref(), Some(setting), "{flag}");
        }
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &Command) {
            if !command.has_subcommands() {
                let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(text.contains("infeed "), "{} has no example", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }

    #[test]
    fn the_global_options_have_a_heading_of_their_own() {
        for arg in command().get_arguments().filter(|arg| arg.is_global_set()) {
            assert_eq!(arg.get_help_heading(), Some(GLOBAL_HEADING), "{}", arg.get_id());
        }
    }
}
