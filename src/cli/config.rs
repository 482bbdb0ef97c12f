//! `config show|check|sample`: what is in force and why, what is wrong with a file, a file to start from.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::session::{GlobalOptions, print};
use super::{exit, outlets};
use crate::config::{self, Environment, Loaded, Origin, Request, Value};
use crate::events::EventsError;

/// The options by which every command finds its configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigOptions {
    /// Configuration file [default: $INFEED_CONFIG, else /etc/infeed/infeed.toml, else
    /// infeed/infeed.toml in the user's XDG configuration folder]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Set one setting, such as mta.connections=4, or mta.NAME.connections=4 of one MTA (may be repeated)
    #[arg(long, value_name = "GROUP.NAME=VALUE", global = true)]
    pub set: Vec<String>,
}

impl ConfigOptions {
    /// What [`config::load`] is to be asked for; flags of a command's own may be added to it.
    ///
    /// # Errors
    /// [`config::ConfigError::BadOverride`] for a `--set` without `=`.
    pub fn request(&self) -> Result<Request, config::ConfigError> {
        let mut request = Request::default();
        request.file.clone_from(&self.config);
        for text in &self.set {
            request.set_text(text)?;
        }
        Ok(request)
    }
}

/// Show, check or start a configuration
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every setting in force, and where it came from
    #[command(after_help = "Example:\n  infeed config show --set mta.connections=4")]
    Show,
    /// Say all that is wrong with a configuration; exit code 78 if anything is
    #[command(after_help = "Example:\n  infeed config check /etc/infeed/infeed.toml")]
    Check {
        /// The file to check, instead of the one in force
        file: Option<PathBuf>,
    },
    /// Print a commented configuration with every default; with --json, a list of the settings
    #[command(after_help = "Example:\n  infeed config sample > infeed.toml")]
    Sample,
}

/// Runs the command and returns its exit code.
///
/// # Errors
/// A bad configuration (78) for `show`; output that can't be written (74).
pub fn run(args: &ConfigArgs, global: &GlobalOptions) -> anyhow::Result<u8> {
    let mut out = Vec::new();
    let code = run_to(args, global, &Environment::of_process(), &mut out)?;
    print(&String::from_utf8_lossy(&out))?;
    Ok(code)
}

fn run_to(
    args: &ConfigArgs,
    global: &GlobalOptions,
    environment: &Environment,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    match &args.command {
        ConfigCommand::Show => {
            let loaded = config::load(&request(global)?, environment)?;
            if global.json {
                show_json(&loaded, out)?
            } else {
                show(&loaded, out)?
            }
            Ok(exit::DONE)
        }
        ConfigCommand::Check { file } => {
            let mut request = request(global)?;
            if file.is_some() {
                request.file.clone_from(file);
            }
            let loaded = config::load(&request, environment);
            let bad_files = loaded.as_ref().ok().and_then(|loaded| outlets::check(&loaded.config));
            check(&loaded, bad_files, global.json, out)
        }
        ConfigCommand::Sample => {
            if global.json {
                sample_json(out)?
            } else {
                out.write_all(config::sample().as_bytes())?
            }
            Ok(exit::DONE)
        }
    }
}

/// What the options at hand ask for, `--spool` among them.
fn request(global: &GlobalOptions) -> Result<Request, config::ConfigError> {
    let mut request = global.config.request()?;
    if let Some(spool) = &global.spool {
        // absolute, as the setting wants it; where there is no current folder it stays what it is
        let spool = std::path::absolute(spool).unwrap_or_else(|_| spool.clone());
        request.set("spool.dir", spool.display(), "--spool");
    }
    if let Some(format) = global.log_format {
        request.set("log.format", format, "--log-format");
    }
    Ok(request)
}

/// Lines of TOML, each with its origin as a comment. The tables of several MTAs come last, as TOML wants.
fn show(loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    let several = loaded.has_mta_tables();
    let line = |name: &str, value: Value| match value {
        Value::Unset => format!("# {name} is not set"),
        value => format!("{name} = {value}"),
    };
    let mut lines: Vec<(String, Option<Origin>)> = loaded
        .values()
        .filter(|(setting, ..)| !(several && setting.group == "mta"))
        .map(|(setting, value, origin)| (line(&setting.full_name(), value), Some(origin)))
        .collect();
    for entry in loaded.config.mta_entries.iter().filter(|_| several) {
        lines.push((String::new(), None));
        lines.push(("[[mta]]".to_owned(), None));
        let values = loaded.mta_values(entry);
        lines.extend(values.map(|(setting, value, origin)| (line(setting.name, value), Some(origin))));
    }
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(60);
    for (line, origin) in lines {
        match origin {
            Some(origin) => writeln!(out, "{line:width$}  # {origin}")?,
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

/// `settings`: those of all groups, with what an MTA without a table of its own gets. `mtas`: each MTA with
/// its own.
fn show_json(loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    let one = |name: String, value: Value, origin: Origin| json!({ "name": name, "value": value.to_json(), "from": origin_json(&origin) });
    let settings: Vec<_> =
        loaded.values().map(|(setting, value, origin)| one(setting.full_name(), value, origin)).collect();
    let mtas: Vec<_> = loaded
        .config
        .mta_entries
        .iter()
        .map(|entry| {
            let values = loaded.mta_values(entry);
            let values: Vec<_> =
                values.map(|(s, value, origin)| one(s.name.to_owned(), value, origin)).collect();
            json!({ "name": entry.name, "weight": entry.weight, "settings": values })
        })
        .collect();
    writeln!(out, "{}", json!({ "file": loaded.file, "settings": settings, "mtas": mtas }))
}

fn sample_json(out: &mut impl Write) -> io::Result<()> {
    let settings: Vec<_> = config::table()
        .iter()
        .map(|setting| {
            json!({
                "name": setting.full_name(),
                "default": setting.default.to_json(),
                "takes": setting.takes(),
                "what": setting.what(),
                "why": setting.why(),
                "variable": setting.variable(),
            })
        })
        .collect();
    writeln!(out, "{}", json!({ "settings": settings }))
}

fn origin_json(origin: &Origin) -> serde_json::Value {
    match origin {
        Origin::Default => json!({ "source": "default" }),
        Origin::File { path, line } => json!({ "source": "file", "path": path, "line": line }),
        Origin::Environment { variable } => json!({ "source": "environment", "variable": variable }),
        Origin::CommandLine { flag } => json!({ "source": "command line", "flag": flag }),
    }
}

fn check(
    result: &Result<Loaded, config::ConfigErrors>,
    bad_files: Option<EventsError>,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let (file, errors, code) = match result {
        Ok(loaded) if bad_files.is_some() => {
            let texts = bad_files.iter().map(ToString::to_string).collect();
            (loaded.file.as_deref(), texts, exit::BAD_CONFIG)
        }
        Ok(loaded) => (loaded.file.as_deref(), Vec::new(), exit::DONE),
        Err(errors) => {
            let texts = errors.0.iter().map(ToString::to_string).collect();
            (None, texts, exit::of_config(errors.is_usage()))
        }
    };
    if json {
        writeln!(out, "{}", json!({ "ok": errors.is_empty(), "file": file, "errors": errors }))?;
    } else if errors.is_empty() {
        match file {
            Some(file) => writeln!(out, "{}: good", file.display())?,
            None => writeln!(out, "no configuration file: the defaults are in force")?,
        }
    } else {
        for error in &errors {
            writeln!(out, "{error}")?;
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        global: GlobalOptions,
        #[command(flatten)]
        args: ConfigArgs,
    }

    fn run_line(words: &[&str]) -> anyhow::Result<(u8, String)> {
        let line = Line::try_parse_from([&["config"], words].concat())?;
        let mut out = Vec::new();
        let code = run_to(&line.args, &line.global, &Environment::default(), &mut out)?;
        Ok((code, String::from_utf8(out)?))
    }

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    #[test]
    fn show_says_each_value_and_its_origin() {
        let file = file_with("[mta]\nwait_s = 7\n");
        let path = file.path().to_str().expect("UTF-8");
        let line = ["--config", path, "--set", "mta.connections=3", "show"];
        let (code, out) = run_line(&line).expect("shown");
        assert_eq!(code, 0);
        let row = |name: &str| out.lines().find(|l| l.contains(name)).expect(name).to_owned();
        assert!(row("mta.wait_s").ends_with(&format!("# {path}:2")), "{out}");
        assert!(row("mta.connections = 3").ends_with("# command line --set"), "{out}");
        assert!(row("spool.slices = 16").ends_with("# default"), "{out}");
        assert!(toml::from_str::<toml::Table>(&out).is_ok(), "{out}");
    }

    #[test]
    fn show_as_json_holds_the_same() {
        let file = file_with("[mta]\nwait_s = 7\n");
        let path = file.path().to_str().expect("UTF-8");
        let (_, out) = run_line(&["--config", path, "show", "--json"]).expect("shown");
        let shown: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let settings = shown["settings"].as_array().expect("a list");
        assert_eq!(settings.len(), config::table().len());
        let wait = settings.iter().find(|s| s["name"] == "mta.wait_s").expect("there");
        assert_eq!(wait["value"], 7);
        assert_eq!(wait["from"], json!({ "source": "file", "path": path, "line": 2 }));
    }

    const TWO: &str =
        "[[mta]]\nname = 'a'\naddress = 'a:25'\n[[mta]]\nname = 'b'\nweight = 2\naddress = 'b:25'\n";

    #[test]
    fn show_says_each_mtas_values_and_their_origins_in_a_file_that_says_the_same() {
        let file = file_with(TWO);
        let path = file.path().to_str().expect("UTF-8");
        let line = ["--config", path, "--set", "mta.b.wait_s=3", "--set", "mta.connections=5", "show"];
        let (_, out) = run_line(&line).expect("shown");
        let second = &out[out.rfind("[[mta]]").expect("two tables")..];
        let row = |name: &str| second.lines().find(|line| line.starts_with(name)).expect(name);
        assert!(row("name = \"b\"").ends_with(&format!("# {path}:5")), "{out}");
        assert!(row("weight = 2").ends_with(&format!("# {path}:6")), "{out}");
        assert!(row("wait_s = 3").ends_with("# command line --set"), "{out}");
        assert!(row("connections = 5").ends_with("# command line --set"), "{out}");
        assert!(row("data_timeout_ms").ends_with("# default"), "{out}");

        let again = file_with(&out);
        let load = |path: &std::path::Path| {
            config::load(&Request::of_file(path), &Environment::default()).expect("good").config.mta_entries
        };
        let mut expected = load(file.path());
        expected.iter_mut().for_each(|entry| entry.settings.connections = config::Connections::Fixed(5));
        expected[1].settings.wait_s = 3;
        assert_eq!(load(again.path()), expected);
    }

    #[test]
    fn show_as_json_lists_the_mtas() {
        let mtas = |line: &[&str]| -> Vec<serde_json::Value> {
            let (_, out) = run_line(line).expect("shown");
            let shown: serde_json::Value = serde_json::from_str(&out).expect("JSON");
            shown["mtas"].as_array().expect("a list").clone()
        };
        let file = file_with(TWO);
        let path = file.path().to_str().expect("UTF-8");
        let two = mtas(&["--config", path, "show", "--json"]);
        assert_eq!((two.len(), &two[1]["name"], &two[1]["weight"]), (2, &json!("b"), &json!(2)));
        let settings = two[1]["settings"].as_array().expect("a list");
        let address = settings.iter().find(|s| s["name"] == "address").expect("there");
        assert_eq!(address["value"], "b:25");
        assert_eq!(address["from"], json!({ "source": "file", "path": path, "line": 7 }));
        let one = mtas(&["show", "--json", "--config", "/dev/null"]);
        assert_eq!((one.len(), &one[0]["name"]), (1, &json!("mta")));
    }

    #[test]
    fn the_sample_as_json_lists_every_setting() {
        let (_, out) = run_line(&["sample", "--json"]).expect("printed");
        let sample: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let settings = sample["settings"].as_array().expect("a list");
        assert_eq!(settings.len(), config::table().len());
        assert!(settings.iter().all(|s| s["what"].is_string() && s["takes"].is_string()), "{out}");
    }

    #[test]
    fn check_prints_all_the_errors_and_exits_78() {
        let file = file_with("[mta]\nwait = 7\nconnections = 0\n");
        let path = file.path().to_str().expect("UTF-8");
        let (code, out) = run_line(&["check", path]).expect("checked");
        assert_eq!(code, 78);
        assert_eq!(out.lines().count(), 2, "{out}");
        assert!(out.contains(&format!("{path}:2: no setting mta.wait; did you mean mta.wait_s?")), "{out}");
        let (code, out) = run_line(&["check", "--json", path]).expect("checked");
        assert_eq!(code, 78);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&out).expect("JSON")["errors"].as_array().map(Vec::len),
            Some(2)
        );
    }

    #[test]
    fn the_sample_passes_the_check() {
        let (code, sample) = run_line(&["sample"]).expect("printed");
        assert_eq!(code, 0);
        let file = file_with(&sample);
        let path = file.path().to_str().expect("UTF-8");
        assert_eq!(run_line(&["check", path]).expect("checked"), (0, format!("{path}: good\n")));
    }
}
