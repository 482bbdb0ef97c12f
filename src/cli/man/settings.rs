//! `infeed.toml(5)`: the settings, from their table.

use std::io;

use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{MANUAL, references, source, verbatim};
use crate::config::{self, Bound, Setting, Value};

/// The page.
pub(super) fn page() -> io::Result<Vec<u8>> {
    let mut roff = Roff::default();
    roff.control("TH", ["infeed.toml", "5", "", &source(), MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("infeed.toml - configuration of infeed")]);
    roff.control("SH", ["DESCRIPTION"]);
    for paragraph in DESCRIPTION {
        roff.control("PP", []);
        roff.text([roman(*paragraph)]);
    }
    for (group, about) in config::groups() {
        roff.control("SH", [format!("[{group}]").as_str()]);
        roff.text([roman(about)]);
        for setting in config::table().iter().filter(|setting| setting.group == group) {
            explain(&mut roff, setting);
        }
        if group == "mta" {
            several(&mut roff);
        }
    }
    roff.control("SH", ["FILES"]);
    for path in ["/etc/infeed/infeed.toml", "$XDG_CONFIG_HOME/infeed/infeed.toml"] {
        roff.control("TP", []);
        roff.text([italic(path)]);
        roff.text([roman(
            "Read when neither --config nor $INFEED_CONFIG names a file, the first that is there.",
        )]);
    }
    roff.control("SH", ["SEE ALSO"]);
    references(&mut roff, &[("infeed".to_owned(), "1"), ("infeed-config".to_owned(), "1")]);
    let mut out = Vec::new();
    roff.to_writer(&mut out)?;
    Ok(out)
}

const DESCRIPTION: &[&str] = &[
    "A TOML file with a table for each group of settings. Every setting may be left out.",
    "A value is taken from the first of these that gives it: the command line (a flag of its own, or --set \
     GROUP.NAME=VALUE); the environment (INFEED_MTA_CONNECTIONS for mta.connections); the file; the default.",
    "A name that infeed doesn't know is an error. \"infeed config sample\" prints a file to start from, \
     \"infeed config check\" says all that is wrong with one, \"infeed config show\" says which value is in \
     force and where it came from.",
];

fn several(roff: &mut Roff) {
    roff.control("SH", ["[[mta]]"]);
    roff.text([roman(
        "For several MTAs, a [[mta]] table for each instead of [mta]. It takes every setting of [mta], and these. \
         What it leaves out is the default, or what the environment or the command line say; \
         --set mta.NAME.SETTING=VALUE sets it for the one of that name.",
    )]);
    for setting in config::mta_table_own() {
        explain(roff, setting);
    }
    verbatim(roff, &config::mta_example());
}

fn explain(roff: &mut Roff, setting: &Setting) {
    roff.control("TP", []);
    roff.text([bold(setting.name)]);
    roff.text([roman(format!("{} {}", setting.what(), setting.why()))]);
    let takes = format!("Takes {}.", setting.takes());
    let default = match &setting.default {
        _ if setting.bound == Bound::MtaName => "Required.".to_owned(),
        Value::Unset => "Default: not set.".to_owned(),
        value => match config::spoken(setting.name, value) {
            Some(spoken) => format!("Default: {value} ({spoken})."),
            None => format!("Default: {value}."),
        },
    };
    roff.control("br", []);
    roff.text([roman(format!("{takes} {default}"))]);
}
