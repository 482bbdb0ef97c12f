//! The sample file and `docs/configuration.md`, made from the table of settings.

use std::fmt::Write as _;

use super::settings::{GROUPS, table};
use super::value::{Bound, Setting, Value};

/// The commented sample: every setting at its default, commented out, with what it is and why.
pub fn sample() -> String {
    let mut out = String::from(
        "# infeed configuration. Every setting is shown with its default;\n\
         # uncomment a line to change it.\n",
    );
    for (group, about) in GROUPS {
        put(&mut out, format_args!("\n# {}\n[{group}]\n", about.trim()));
        for setting in table().iter().filter(|setting| setting.group == *group) {
            out.push('\n');
            for line in setting.doc.lines().map(str::trim).filter(|line| !line.is_empty()) {
                put(&mut out, format_args!("# {line}\n"));
            }
            if let Some(facts) = facts(setting) {
                put(&mut out, format_args!("# {facts}\n"));
            }
            put(&mut out, format_args!("#{} = {}\n", setting.name, shown(setting)));
        }
    }
    out
}

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut out = String::from(HEAD);
    for (group, about) in GROUPS {
        put(&mut out, format_args!("\n## [{group}]\n\n{}\n", about.trim()));
        out.push_str("\n| setting | default | takes | what and why |\n| --- | --- | --- | --- |\n");
        for setting in table().iter().filter(|setting| setting.group == *group) {
            let default = match &setting.default {
                Value::Unset => "not set".to_owned(),
                value => match spoken(setting.name, value) {
                    Some(spoken) => format!("`{value}` ({spoken})"),
                    None => format!("`{value}`"),
                },
            };
            let takes = match setting.bound {
                Bound::Any => setting.kind.name().to_owned(),
                bound => bound.to_string(),
            };
            let doc: Vec<&str> = setting.doc.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            put(&mut out, format_args!("| `{}` | {default} | {takes} | {} |\n", setting.name, doc.join(" ")));
        }
    }
    out
}

const HEAD: &str = "# Configuration

This file is made from the table of settings in `src/config/settings.rs`; change it there, then run
`INFEED_UPDATE_DOCS=1 cargo test --lib config`.

A value is taken from the first of these that gives it:

1. the command line: a flag of its own (`--connections 4`), or `--set mta.connections=4`;
2. the environment: `INFEED_MTA_CONNECTIONS=4`, and so on for every setting;
3. the file: `--config FILE`, else `$INFEED_CONFIG`, else `/etc/infeed/infeed.toml` if it is there, else
   `$XDG_CONFIG_HOME/infeed/infeed.toml` (`~/.config/infeed/infeed.toml`) if it is there;
4. the default.

`infeed config sample` prints a commented file to start from, `infeed config check FILE` says all that is
wrong with one (exit code 78), and `infeed config show` says which value is in force and where it came from.
A name that infeed doesn't know is an error, with the place and the nearest name that it knows. Names end in
their unit (`_ms`, `_s`, `_bytes`) and then their bound (`_min`, `_max`).
";

/// The value to show in the sample; an unset one is shown by its example.
fn shown(setting: &Setting) -> String {
    match (&setting.default, setting.bound) {
        (
            Value::Unset,
            Bound::Path { example }
            | Bound::DomainName { example }
            | Bound::FileName { example }
            | Bound::Line { example },
        ) => format!("{example:?}"),
        (Value::Unset, _) => "\"\"".to_owned(),
        (value, _) => value.to_string(),
    }
}

/// Unit and bound in one line.
fn facts(setting: &Setting) -> Option<String> {
    let bound = setting.bound.to_string();
    let parts: Vec<String> = [
        (!bound.is_empty()).then(|| format!("Takes {bound}.")),
        spoken(setting.name, &setting.default).map(|spoken| format!("Default: {spoken}.")),
        (setting.default == Value::Unset).then(|| "Default: not set.".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// A number with a unit in its name, as one would say it: `5 days`, `16 MiB`.
fn spoken(name: &str, value: &Value) -> Option<String> {
    let Value::Integer(n) = *value else { return None };
    let has_unit = |unit: &str| name.split('_').any(|word| word == unit);
    let units: &[(u64, &str)] = if has_unit("bytes") {
        &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
    } else if has_unit("ms") {
        &[(3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")]
    } else if has_unit("s") {
        &[(86_400, "days"), (3600, "h"), (60, "min"), (1, "s")]
    } else {
        return None;
    };
    // one day reads better in hours
    let fits = |(size, unit): &&(u64, &str)| n >= *size && n % size == 0 && (*unit != "days" || n > *size);
    units.iter().find(fits).map(|(size, unit)| format!("{} {unit}", n / size))
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // writing to a String can't fail
    out.write_fmt(text).unwrap_or_else(|_| unreachable!("a String takes every write"));
}
