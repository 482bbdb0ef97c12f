//! The sample file and `docs/configuration.md`, made from the table of settings.

use std::fmt::Write as _;

use super::flags::flag_of_setting;
use super::mtas::{mta_table, mta_table_own};
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
        for setting in of_group(group) {
            out.push('\n');
            explain(&mut out, setting);
            put(&mut out, format_args!("#{} = {}\n", setting.name, shown(setting)));
        }
        if *group == "mta" {
            out.push_str("\n# Several MTAs: a [[mta]] table for each, instead of [mta] above.\n");
            for setting in mta_table_own() {
                put(&mut out, format_args!("#\n# {}:\n", setting.name));
                explain(&mut out, setting);
            }
            out.push_str("#\n");
            mta_example()
                .lines()
                .for_each(|line| put(&mut out, format_args!("{}\n", format!("# {line}").trim())));
        }
    }
    out
}

fn of_group(group: &str) -> impl Iterator<Item = &'static Setting> {
    table().iter().filter(move |setting| setting.group == group)
}

/// What a setting is, why, and what it takes, as comments.
fn explain(out: &mut String, setting: &Setting) {
    for line in setting.doc.lines().map(str::trim).filter(|line| !line.is_empty()) {
        put(out, format_args!("# {line}\n"));
    }
    if let Some(facts) = facts(setting) {
        put(out, format_args!("# {facts}\n"));
    }
}

/// Two MTAs, as TOML: the one of the defaults, and a second one.
pub fn mta_example() -> String {
    let first = |name: &str| {
        let setting = mta_table().find(|setting| setting.name == name);
        setting.map_or_else(String::new, |setting| format!("{name} = {}\n", shown(setting)))
    };
    format!(
        "[[mta]]\n{}{}{}\n[[mta]]\nname = \"second\"\nweight = 2\naddress = \"127.0.0.1:10025\"\n\
         connections = 4\n",
        first("name"),
        first("weight"),
        first("address"),
    )
}

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut out = String::from(HEAD);
    for (group, about) in GROUPS {
        put(&mut out, format_args!("\n## [{group}]\n\n{}\n", about.trim()));
        rows(&mut out, of_group(group));
        if *group == "mta" {
            put(&mut out, format_args!("{SEVERAL}\n```toml\n{}```\n", mta_example()));
            rows(&mut out, mta_table_own().iter());
        }
    }
    out
}

fn rows<'a>(out: &mut String, settings: impl Iterator<Item = &'a Setting>) {
    out.push_str("\n| setting | default | takes | what and why |\n| --- | --- | --- | --- |\n");
    for setting in settings {
        let default = match &setting.default {
            _ if is_required(setting) => "required".to_owned(),
            Value::Unset => "not set".to_owned(),
            value => match spoken(setting.name, value) {
                Some(spoken) => format!("`{value}` ({spoken})"),
                None => format!("`{value}`"),
            },
        };
        let flag = flag_of_setting(setting).map(|flag| format!(" Flag: `--{flag}`.")).unwrap_or_default();
        let (name, takes, what, why) = (setting.name, setting.takes(), setting.what(), setting.why());
        put(out, format_args!("| `{name}` | {default} | {takes} | {what} {why}{flag} |\n"));
    }
}

/// Whether there is no default: each table must say it.
fn is_required(setting: &Setting) -> bool {
    setting.bound == Bound::MtaName
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
wrong with one, and `infeed config show` says which value is in force and where it came from.
A name that infeed doesn't know is an error, with the place and the nearest name that it knows. Names end in
their unit (`_ms`, `_s`, `_bytes`) and then their bound (`_min`, `_max`). A bad value in the file or the
environment ends a command with exit code 78, one on the command line with 64.

The man page `infeed.toml(5)` says the same; `infeed man --output /usr/local/share/man` writes it.
";

const SEVERAL: &str = "
### Several MTAs: [[mta]]

One MTA is one `[mta]` table. For several, write a `[[mta]]` table for each instead; both forms in one file are
an error. A table takes every setting of `[mta]`, and a name and a weight. What it leaves out is the default, or what
the environment or the command line say: they win over all tables, so `--set mta.connections=4` holds for each MTA.
`--set mta.NAME.connections=4` holds for the one of that name, and wins over everything. Two tables of one address
are an error. `infeed config show` prints each MTA's values with the line that each came from.
";

/// The value to show in the sample; an unset one is shown by its example.
fn shown(setting: &Setting) -> String {
    match (&setting.default, setting.bound) {
        (
            Value::Unset,
            Bound::Path { example }
            | Bound::PathOr { example, .. }
            | Bound::DomainName { example }
            | Bound::FileName { example }
            | Bound::ListenAddress { example }
            | Bound::HostNames { example }
            | Bound::WebUrl { example }
            | Bound::Line { example },
        ) => format!("{example:?}"),
        (Value::Unset, _) => "\"\"".to_owned(),
        (value, _) => value.to_string(),
    }
}

/// Unit and bound in one line.
fn facts(setting: &Setting) -> Option<String> {
    if is_required(setting) {
        return Some(format!("Takes {}.", setting.bound));
    }
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
pub(crate) fn spoken(name: &str, value: &Value) -> Option<String> {
    let Value::Integer(n) = *value else { return None };
    let words: Vec<&str> = name.split('_').collect();
    // what comes `per_s` is a rate, and no time
    let has_unit =
        |unit: &str| (0..words.len()).any(|at| words[at] == unit && (at == 0 || words[at - 1] != "per"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_spoken_in_its_unit_and_a_rate_is_no_time() {
        for (name, n, text) in [
            ("wait_s", 300, Some("5 min")),
            ("reconnect_delay_ms_max", 10_000, Some("10 s")),
            ("bytes_max", 1 << 20, Some("1 MiB")),
            ("unlinks_per_s_max", 1000, None),
            ("connections_max", 64, None),
        ] {
            assert_eq!(spoken(name, &Value::Integer(n)).as_deref(), text, "{name}");
        }
    }
}
