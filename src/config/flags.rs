//! The flags that stand for a setting. Help, man pages and completions take their words and their default
//! from the table of settings, so that neither is said twice.

use super::settings::table;
use super::value::{Setting, Value};

/// Each such flag, without its dashes, with the full name of its setting.
pub const SETTING_FLAGS: &[(&str, &str)] = &[
    ("admin", "admin.listen"),
    ("connections", "mta.connections"),
    ("log-format", "log.format"),
    ("metrics", "metrics.listen"),
    ("mta", "mta.address"),
    ("on-doubt", "job.on_doubt"),
    ("spool", "spool.dir"),
];

/// The setting that a flag (without its dashes) stands for.
pub fn setting_of_flag(flag: &str) -> Option<&'static Setting> {
    let (_, full) = SETTING_FLAGS.iter().find(|(known, _)| *known == flag)?;
    let (group, name) = full.split_once('.')?;
    table().iter().find(|setting| setting.group == group && setting.name == name)
}

/// The flag that stands for a setting.
pub(super) fn flag_of_setting(setting: &Setting) -> Option<&'static str> {
    let full = setting.full_name();
    SETTING_FLAGS.iter().find(|(_, known)| *known == full).map(|(flag, _)| *flag)
}

/// The help of the flag that stands for `setting`: what it is, what is peculiar to the flag (`own`, may be
/// empty), and the default, or what happens without one.
pub fn flag_help(setting: &Setting, own: &str) -> String {
    let mut text = setting.what();
    if !own.is_empty() {
        text = format!("{}: {own}", text.trim_end_matches('.'));
    } else if setting.default != Value::Unset {
        text = text.trim_end_matches('.').to_owned();
    }
    let default = match &setting.default {
        Value::Unset => setting.why(),
        Value::Text(default) => format!("[default: {default}]"),
        default => format!("[default: {default}]"),
    };
    format!("{text} {default} [setting: {}]", setting.full_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_stands_for_a_setting_of_the_table() {
        for (flag, full) in SETTING_FLAGS {
            let setting = setting_of_flag(flag).expect(flag);
            assert_eq!(setting.full_name(), *full);
            assert_eq!(flag_of_setting(setting), Some(*flag));
        }
        assert!(setting_of_flag("bogus").is_none());
    }
}
