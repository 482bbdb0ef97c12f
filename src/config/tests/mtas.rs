//! `[[mta]]` and `--mta`.

use proptest::prelude::*;

use super::*;

const TWO: &str = "[[mta]]\nname = 'a'\naddress = 'a:25'\nconnections = 2\n\n\
                   [[mta]]\nname = 'b.1'\nweight = 3\naddress = 'unix:/run/b'\n";

fn load_with(text: &str, sets: &[&str], environment: Environment) -> Result<Loaded, ConfigErrors> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("infeed.toml");
    fs::write(&file, text).expect("written");
    let mut request = Request::of_file(file);
    for set in sets {
        request.set_text(set)?;
    }
    load(&request, &environment)
}

/// 0 for `auto`.
fn count(connections: Connections) -> usize {
    match connections {
        Connections::Auto => 0,
        Connections::Fixed(count) => count,
    }
}

fn summary(config: &Config) -> Vec<(&str, u64, &str, usize)> {
    config
        .mta_entries
        .iter()
        .map(|e| (e.name.as_str(), e.weight, e.settings.address.as_str(), count(e.settings.connections)))
        .collect()
}

#[test]
fn without_tables_there_is_one_entry_of_the_group() {
    let config = load_text("[mta]\nconnections = 3\n").expect("good").config;
    assert_eq!(summary(&config), [(ONLY_MTA, 1, "127.0.0.1:25", 3)]);
    assert_eq!(summary(&Config::default()), [(ONLY_MTA, 1, "127.0.0.1:25", 0)]);
}

#[test]
fn each_table_is_an_entry_that_starts_from_the_base() {
    let loaded = load_with(TWO, &[], Environment::default()).expect("good");
    assert_eq!(summary(&loaded.config), [("a", 1, "a:25", 2), ("b.1", 3, "unix:/run/b", 0)]);
    assert_eq!(loaded.config.mta, Mta::default());
}

#[test]
fn environment_and_command_line_beat_the_tables_and_a_name_beats_both() {
    let environment = || Environment::from([("INFEED_MTA_CONNECTIONS", "5")]);
    let connections = |sets: &[&str]| -> Vec<usize> {
        let loaded = load_with(TWO, sets, environment()).expect("good");
        loaded.config.mta_entries.iter().map(|entry| count(entry.settings.connections)).collect()
    };
    assert_eq!(connections(&[]), [5, 5]);
    assert_eq!(connections(&["mta.connections=6"]), [6, 6]);
    assert_eq!(connections(&["mta.b.1.connections=7", "mta.connections=6"]), [6, 7]);
    let loaded = load_with(TWO, &["mta.a.weight=9"], environment()).expect("good");
    let values: Vec<String> = loaded
        .mta_values(&loaded.config.mta_entries[0])
        .filter(|(setting, ..)| ["name", "weight", "address", "connections"].contains(&setting.name))
        .map(|(setting, value, origin)| {
            let origin = origin.to_string();
            let origin = origin.find("infeed.toml").map_or(origin.as_str(), |at| &origin[at..]);
            format!("{} = {value} from {origin}", setting.name)
        })
        .collect();
    assert_eq!(
        values,
        [
            "name = \"a\" from infeed.toml:2",
            "weight = 9 from command line --set",
            "address = \"a:25\" from infeed.toml:3",
            "connections = 5 from environment INFEED_MTA_CONNECTIONS",
        ]
    );
}

#[test]
fn all_that_is_wrong_with_a_table_is_said_with_its_line() {
    assert_eq!(
        messages(
            "[[mta]]\naddress = 'a:25'\n\n[[mta]]\nname = 'a'\nconections = 3\nweight = 0\n[[mta]]\nname = 'a'\n\
             [[mta]]\nname = 'sink'\nadress = 1\n[spool]\nslices = 3\n"
        ),
        [
            "infeed.toml:1: this [[mta]] has no name; give it one: name = \"primary\"",
            "infeed.toml:6: no setting mta.a.conections; did you mean mta.a.connections?",
            "infeed.toml:7: mta.a.weight: 0 is not 1 to 1000",
            "infeed.toml:9: a second [[mta]] named a, after that of line 5; give each a name of its own",
            "infeed.toml:11: mta.name: \"sink\" is not 1 to 64 letters, digits, \"-\", \"_\" or \".\", other than \"sink\"",
            "infeed.toml:12: no setting mta.sink.adress; did you mean mta.sink.address?",
            "infeed.toml:14: spool.slices: 3 is not a power of two, at most 256",
        ]
    );
    assert_eq!(
        messages("[mta]\nweight = 2\n"),
        ["infeed.toml:2: mta.weight is for one of several MTAs: it belongs in a [[mta]] table"]
    );
    for not_tables in ["mta = [1]", "mta = []", "mta = 'a:25'"] {
        let said = messages(not_tables);
        assert_eq!(said, ["infeed.toml:1: mta is a group of settings: write [mta] on a line of its own"]);
    }
}

#[test]
fn two_entries_of_one_address_are_refused() {
    let said =
        messages("[[mta]]\nname = 'a'\naddress = 'HOST:25'\n[[mta]]\nname = 'b'\naddress = 'host:25'\n");
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("is the address of mta.a.address = \"HOST:25\""), "{said:?}");
    let said = load_with(TWO, &["mta.address=c:25"], Environment::default()).expect_err("refused");
    assert_eq!(
        said.to_string(),
        "mta.b.1.address = \"c:25\" (command line --set) is the address of mta.a.address = \"c:25\" \
         (command line --set): give each MTA its own, or drop one of the two"
    );
    assert!(said.is_usage());
}

#[test]
fn relations_hold_for_each_entry() {
    let broken = format!("{TWO}reconnect_delay_ms_min = 60_000\n");
    let said = messages(&broken);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].ends_with("a delay grows from its least to its most"), "{said:?}");
    let errors = load_with(&broken, &[], Environment::default()).expect_err("refused");
    let [ConfigError::Relation { low, high, .. }] = &errors.0[..] else { panic!("{errors}") };
    assert_eq!(low.name, "mta.b.1.reconnect_delay_ms_min");
    assert_eq!((high.name.as_str(), &high.origin), ("mta.reconnect_delay_ms_max", &Origin::Default));
}

#[test]
fn a_setting_by_an_unknown_name_is_refused_with_the_nearest() {
    let said = |text: &str, set: &str| {
        let errors = load_with(text, &[set], Environment::default()).expect_err("refused");
        assert!(errors.is_usage(), "{errors}");
        errors.to_string()
    };
    assert_eq!(said(TWO, "mta.b1.connections=1"), "command line --set: no MTA named b1; did you mean b.1?");
    assert_eq!(
        said(TWO, "mta.a.conections=1"),
        "command line --set: no setting mta.a.conections; did you mean mta.a.connections?"
    );
    assert_eq!(
        said(TWO, "mta.a.connections=0"),
        "command line --set: mta.a.connections: 0 is not 1 to 1000, or \"auto\""
    );
    assert_eq!(
        said(TWO, "mta.a.name=c"),
        "command line --set: mta.a.name: an MTA is named in the file alone"
    );
    assert_eq!(
        said(TWO, "mta.weight=2"),
        "command line --set: mta.weight is for one of several MTAs: it belongs in a [[mta]] table"
    );
    assert_eq!(
        said("", "mta.a.connections=1"),
        "command line --set: no MTA named a: the configuration has no [[mta]]; for the one MTA write \
         mta.connections=4"
    );
}

#[test]
fn a_choice_is_a_name_an_address_or_a_new_address() {
    let config = load_with(TWO, &["mta.wait_s=7"], Environment::default()).expect("good").config;
    let select = |choices: &[&str]| {
        let mut config = config.clone();
        let choices: Vec<String> = choices.iter().map(|&choice| choice.to_owned()).collect();
        config.select_mtas(&choices).map(|()| config)
    };
    assert_eq!(select(&[]).expect("all"), config);
    assert_eq!(
        summary(&select(&["unix:/run/b", "c:26", "a"]).expect("good")),
        [("b.1", 3, "unix:/run/b", 0), ("c:26", 1, "c:26", 0), ("a", 1, "a:25", 2)]
    );
    assert_eq!(select(&["c:26"]).expect("good").mta_entries[0].settings.wait_s, 7);
    let refused = |choices: &[&str]| {
        let error = select(choices).expect_err("refused");
        assert!(error.is_usage());
        error.to_string()
    };
    assert_eq!(
        refused(&["b.2"]),
        "--mta b.2: neither the name of an MTA nor its address; did you mean b.1? \
         An address is host:port, [IPv6]:port or unix:/path"
    );
    assert_eq!(
        refused(&["frobnicate"]),
        "--mta frobnicate: neither the name of an MTA nor its address; an address is host:port, [IPv6]:port or \
         unix:/path"
    );
    assert_eq!(refused(&["a", "a:25"]), "--mta a:25: the same MTA as --mta a; choose each once");
    assert_eq!(refused(&["c:26", "C:26"]), "--mta C:26: the same MTA as --mta c:26; choose each once");
}

proptest! {
    #[test]
    fn the_value_of_an_entry_is_that_of_its_first_source(
        by_name in any::<bool>(), set in any::<bool>(), variable in any::<bool>(), table in any::<bool>()
    ) {
        let line = |said: bool| if said { "connections = 2\n" } else { "" };
        let text = format!("[[mta]]\nname = 'a'\naddress = 'a:25'\n{}{}", line(table), "[[mta]]\nname = 'b'\n");
        let sets: Vec<&str> = [(set, "mta.connections=4"), (by_name, "mta.a.connections=5")]
            .into_iter()
            .filter_map(|(said, text)| said.then_some(text))
            .collect();
        let value = if variable { "3" } else { "" };
        let loaded = load_with(&text, &sets, Environment::from([("INFEED_MTA_CONNECTIONS", value)]));
        let config = loaded.expect("good").config;
        let base = if set { 4 } else if variable { 3 } else { 0 };
        let expected = match (by_name, set || variable, table) {
            (true, ..) => 5,
            (false, true, _) => base,
            (false, false, true) => 2,
            (false, false, false) => 0,
        };
        prop_assert_eq!(count(config.mta_entries[0].settings.connections), expected);
        prop_assert_eq!(count(config.mta_entries[1].settings.connections), base);
        prop_assert_eq!(count(config.mta.connections), base);
    }

    #[test]
    fn what_is_selected_has_no_name_and_no_address_twice(
        choices in proptest::collection::vec("a|b\\.1|a:25|c:[12]|unix:/run/[bc]|x", 0..5)
    ) {
        let mut config = load_text(TWO).expect("good").config;
        let before = config.clone();
        match config.select_mtas(&choices) {
            Ok(()) => {
                let expected = if choices.is_empty() { 2 } else { choices.len() };
                prop_assert_eq!(config.mta_entries.len(), expected);
                for (i, entry) in config.mta_entries.iter().enumerate() {
                    for other in &config.mta_entries[..i] {
                        prop_assert!(entry.name != other.name);
                        prop_assert!(entry.settings.address != other.settings.address);
                    }
                }
            }
            Err(_) => prop_assert_eq!(config, before),
        }
    }
}

#[test]
fn the_samples_example_uncommented_is_good_in_place_of_the_one_table() {
    let sample = sample();
    let (before, rest) = sample.split_once("[mta]\n").expect("the one table");
    let (_, rest) = rest.split_once("# [[mta]]\n").expect("the example");
    let (example, after) = rest.split_once("\n\n").expect("the next group");
    let example: String = example
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("#").expect("a comment").trim()))
        .collect();
    let config = load_text(&format!("{before}[[mta]]\n{example}\n{after}")).expect("good").config;
    assert_eq!(summary(&config), [("primary", 1, "127.0.0.1:25", 0), ("second", 2, "127.0.0.1:10025", 4)]);
    let from_docs = markdown();
    let (_, block) = from_docs.split_once("```toml\n").expect("an example");
    let (block, _) = block.split_once("```").expect("its end");
    assert_eq!(load_text(block).expect("good").config, config);
}

#[test]
fn what_a_table_of_several_takes_beside_the_group_has_words_and_no_name_of_the_groups() {
    for own in mta_table_own() {
        assert!(own.what().len() > 10 && own.why().len() > 10, "{}", own.name);
        assert_eq!(own.check(&own.default), Ok(()), "{}", own.name);
        assert!(!table().iter().any(|s| s.group == "mta" && s.name == own.name), "{}", own.name);
    }
}

#[test]
fn names_of_mtas_are_told_from_rubbish() {
    let name = |text: &str| Bound::MtaName.holds(&Value::Text(text.into()));
    for good in ["a", "primary", "mx-1.example_2", "mta", "9", "Sink"] {
        assert!(name(good), "{good}");
    }
    for bad in ["", "-a", ".a", "sink", "a b", "a:25", "ä", &"a".repeat(65)] {
        assert!(!name(bad), "{bad}");
    }
}
