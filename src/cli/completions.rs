//! `completions`: what a shell needs to complete infeed's commands, flags and settings.

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::exit;
use super::help;
use super::session::print;
use crate::config;

/// Print the completions of a shell
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The shells that completions can be had for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs `completions`.
///
/// # Errors
/// Output that can't be written.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<u8> {
    print(&script(args.shell))?;
    Ok(exit::DONE)
}

/// The script that the shell sources.
pub fn script(shell: Shell) -> String {
    let mut command = help::command();
    // a parser would refuse what these don't list; the command that completes parses nothing
    let settings: Vec<String> =
        config::table().iter().map(|setting| format!("{}=", setting.full_name())).collect();
    command = command.mut_arg("set", |arg| arg.value_parser(PossibleValuesParser::new(settings)));
    let shell_kind = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell_kind, &mut command, "infeed", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        script.push_str(BASH_VALUES);
    }
    script
}

/// `--set mta.connections=` wants its value next, not a space.
const BASH_VALUES: &str = r#"
_infeed_without_space() {
    _infeed "$@"
    if [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2> /dev/null
    fi
    return 0
}
complete -F _infeed_without_space -o bashdefault -o default infeed
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_knows_every_command_and_every_setting() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in help::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell:?}: {}", command.get_name());
            }
            for setting in config::table() {
                assert!(script.contains(&setting.full_name()), "{shell:?}: {}", setting.full_name());
            }
        }
    }
}
