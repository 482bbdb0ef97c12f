//! Which known name was probably meant.

/// The settings' full name (`group.name`) nearest to an unknown one, when one is near enough to be
/// what was meant. The right name in the wrong group counts as one slip; of equals, the one in the group that was
/// named is meant.
pub(super) fn nearest_setting(unknown: &str) -> Option<String> {
    let (group, unknown_name) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    super::table()
        .iter()
        .map(|setting| {
            let full = setting.full_name();
            let is_elsewhere = setting.group != group;
            let by_name = usize::from(is_elsewhere) + distance(unknown_name, setting.name);
            (distance(unknown, &full).min(by_name), is_elsewhere, setting.name, full)
        })
        // of the name, not of both: a long group makes no other name a near one
        .filter(|(slips, is_elsewhere, name, _)| {
            *slips <= (name.len() / 3).max(if *is_elsewhere { 1 } else { 2 }) && *slips < name.len()
        })
        .min()
        .map(|(.., full)| full)
}

/// What a `[[mta]]` table can hold that is nearest to an unknown name.
pub(super) fn nearest_mta_setting(unknown: &str) -> Option<&'static str> {
    super::mtas::mta_table()
        .map(|setting| (distance(unknown, setting.name), setting.name))
        .min()
        .filter(|(slips, name)| *slips <= name.len() / 3)
        .map(|(_, name)| name)
}

/// The one of `known` nearest to an unknown choice.
pub(super) fn nearest_choice<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|known| (distance(unknown, known), known))
        .min()
        .filter(|(slips, known)| *slips <= known.len() / 2)
        .map(|(_, known)| known.to_owned())
}

/// The group nearest to an unknown one.
pub(super) fn nearest_group(unknown: &str) -> Option<&'static str> {
    super::settings::GROUPS
        .iter()
        .map(|(group, _)| (distance(unknown, group), *group))
        .min()
        .filter(|(slips, group)| *slips <= group.len() / 2)
        .map(|(_, group)| group)
}

/// Levenshtein's distance: the least number of characters inserted, left out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slip_of_the_pen_finds_what_was_meant() {
        assert_eq!(nearest_setting("mta.adress").as_deref(), Some("mta.address"));
        assert_eq!(nearest_setting("spool.connections").as_deref(), Some("mta.connections"));
        assert_eq!(nearest_setting("mta.helo").as_deref(), None);
        assert_eq!(nearest_setting("mta.qqqqqqqqqqqqqq"), None);
        assert_eq!(nearest_setting("mta.nope"), None);
        assert_eq!(nearest_setting("mta.tsl").as_deref(), Some("mta.tls"));
        assert_eq!(nearest_setting("spol.dir").as_deref(), Some("spool.dir"));
        assert_eq!(nearest_setting("admin.lisen").as_deref(), Some("admin.listen"));
        assert_eq!(nearest_setting("metrics.lisen").as_deref(), Some("metrics.listen"));
        assert_eq!(nearest_group("retrys"), Some("retry"));
        assert_eq!(nearest_group("zzzzz"), None);
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in "[a-c]{0,6}", b in "[a-c]{0,6}", c in "[a-c]{0,6}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }
    }
}
