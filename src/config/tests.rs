use std::fs;
use std::path::{Path, PathBuf};

use super::*;

mod mtas;
mod sound;

fn load_text(text: &str) -> Result<Loaded, ConfigErrors> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("infeed.toml");
    fs::write(&file, text).expect("written");
    load(&Request::of_file(file), &Environment::default())
}

fn messages(text: &str) -> Vec<String> {
    let errors = load_text(text).expect_err("must be refused");
    // the folder's name is random; what counts is file:line
    errors.0.iter().map(|e| e.to_string()).map(|m| m[m.find("infeed.toml").unwrap_or(0)..].into()).collect()
}

#[test]
fn every_default_lies_within_its_bound() {
    for setting in table() {
        assert_eq!(setting.check(&setting.default), Ok(()), "{}", setting.full_name());
    }
}

#[test]
fn every_setting_says_what_it_is_and_why() {
    for setting in table() {
        let (what, why) = setting.doc.trim().split_once("\n\n").expect(setting.name);
        assert!(what.len() > 10 && why.trim().len() > 10, "{}", setting.full_name());
    }
}

#[test]
fn the_committed_docs_are_the_generated_ones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    if std::env::var_os("INFEED_UPDATE_DOCS").is_some() {
        fs::write(&path, markdown()).expect("written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == markdown(), "run INFEED_UPDATE_DOCS=1 cargo test --lib config");
}

#[test]
fn the_sample_is_the_default_configuration() {
    assert_eq!(load_text(&sample()).expect("good").config, Config::default());
}

#[test]
fn the_sample_uncommented_is_a_good_configuration_that_names_every_setting() {
    let uncommented: String = sample()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let loaded = load_text(&uncommented).expect("good");
    for (setting, value, origin) in loaded.values() {
        assert!(matches!(origin, Origin::File { .. }), "{} from {origin}", setting.full_name());
        assert!(value == setting.default || setting.default == Value::Unset, "{}", setting.full_name());
    }
}

#[test]
fn an_unknown_name_is_refused_with_its_line_and_the_nearest_known_one() {
    assert_eq!(
        messages("[mta]\n\nadress = \"a:1\"\n[spol]\n[catches]\nconections=1\n"),
        [
            "infeed.toml:3: no setting mta.adress; did you mean mta.address?",
            "infeed.toml:4: no group [spol]; did you mean [spool]?",
            "infeed.toml:6: no setting catches.conections; did you mean mta.connections?",
        ]
    );
    assert_eq!(
        messages("mta = 3\nfrobnicate = 1\n"),
        [
            "infeed.toml:1: mta is a group of settings: write [mta] on a line of its own",
            "infeed.toml:2: no setting frobnicate; `infeed config sample` lists them all",
        ]
    );
}

#[test]
fn a_bad_value_is_refused_with_what_the_setting_takes() {
    assert_eq!(
        messages("spool.slices = 12\nmta.address = 'localhost'\nmta.connections = '8'\njob.on_doubt = 'x'"),
        [
            "infeed.toml:1: spool.slices: 12 is not a power of two, at most 256",
            "infeed.toml:2: mta.address: \"localhost\" is not host:port, [IPv6]:port or unix:/path",
            "infeed.toml:3: mta.connections: \"8\" is not 1 to 1000, or \"auto\"",
            "infeed.toml:4: job.on_doubt: \"x\" is not \"resend\" or \"hold\"",
        ]
    );
    assert_eq!(
        messages("mta.connections = -1\nmta.wait_s = 1.5\nspool.dir = 'x'\nmta.group_across_dot = 1"),
        [
            "infeed.toml:1: mta.connections: -1 is negative; it takes integer or string: 1 to 1000, or \"auto\"",
            "infeed.toml:2: mta.wait_s: 1.5 is no whole number; it takes integer: 0 to 604800",
            "infeed.toml:3: spool.dir: \"x\" is not an absolute path",
            "infeed.toml:4: mta.group_across_dot: 1 is no true or false; it takes true or false",
        ]
    );
}

#[test]
fn broken_syntax_names_its_line() {
    let found = messages("[mta]\nconnections = 4\naddress = \n");
    assert!(found[0].starts_with("infeed.toml:3: not TOML: "), "{found:?}");
}

#[test]
fn related_settings_are_held_against_each_other_with_their_origins() {
    assert_eq!(
        messages("[retry]\ndelay_s_min = 7200\n"),
        ["infeed.toml:2) is more than retry.delay_s_max = 3600 (default): \
          a delay grows from its least to its most"]
    );
}

#[test]
fn command_line_beats_environment_beats_file_beats_default() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("infeed.toml");
    fs::write(&file, "[mta]\nconnections = 2\nwait_s = 2\naddress = 'file:2'\n").expect("written");
    let mut request = Request::of_file(&file);
    request.set("mta.address", "flag:4", "--mta");
    let environment = Environment::from([
        ("INFEED_MTA_ADDRESS", "env:3"),
        ("INFEED_MTA_WAIT_S", "3"),
        ("INFEED_TEST_X", "1"),
    ]);
    let loaded = load(&request, &environment).expect("good");
    assert_eq!(loaded.config.mta.address, "flag:4");
    assert_eq!(loaded.origin("mta.address"), Origin::CommandLine { flag: "--mta".into() });
    assert_eq!(loaded.config.mta.wait_s, 3);
    assert_eq!(loaded.origin("mta.wait_s"), Origin::Environment { variable: "INFEED_MTA_WAIT_S".into() });
    assert_eq!(loaded.config.mta.connections, Connections::Fixed(2));
    assert_eq!(loaded.origin("mta.connections"), Origin::File { path: file, line: 2 });
    assert_eq!(loaded.config.spool, Spool::default());
    assert_eq!(loaded.origin("spool.slices"), Origin::Default);
}

#[test]
fn a_variable_that_looks_like_a_setting_and_is_none_is_refused() {
    let environment = Environment::from([("INFEED_MTA_CONNECTION", "3")]);
    let request = Request::of_file("/dev/null");
    let errors = load(&request, &environment).expect_err("refused");
    assert_eq!(
        errors.to_string(),
        "environment INFEED_MTA_CONNECTION: no setting mta.connection; did you mean mta.connections?"
    );
}

#[test]
fn the_file_that_the_environment_names_must_be_there_the_users_own_need_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = folder.path().join("missing.toml");
    let named = Environment::from([("INFEED_CONFIG", &missing)]);
    let error = load(&Request::default(), &named).expect_err("refused").to_string();
    assert!(error.contains(&missing.display().to_string()), "{error}");

    let users = Environment::from([("XDG_CONFIG_HOME", folder.path())]);
    if !Path::new("/etc/infeed/infeed.toml").exists() {
        assert_eq!(load(&Request::default(), &users).expect("none needed").file, None);
        fs::create_dir(folder.path().join("infeed")).expect("made");
        let file = folder.path().join("infeed/infeed.toml");
        fs::write(&file, "mta.connections = 3\n").expect("written");
        let loaded = load(&Request::default(), &users).expect("good");
        assert_eq!((loaded.file, loaded.config.mta.connections), (Some(file), Connections::Fixed(3)));
    }
}

#[test]
fn the_spool_is_the_flags_then_the_settings_then_the_machines_then_the_users() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ours = folder.path().join("ours");
    fs::create_dir(&ours).expect("made");
    let state = Environment::from([("XDG_STATE_HOME", "/state"), ("HOME", "/home/x")]);
    let home = Environment::from([("XDG_STATE_HOME", "relative"), ("HOME", "/home/x")]);
    let nowhere = folder.path().join("no/such/parent");
    let mut config = Config::default();
    let resolve = |cli: Option<&str>, config: &Config, system: &Path, environment: &Environment| {
        resolve_spool_dir_in(cli.map(PathBuf::from), config, system, environment)
    };
    assert_eq!(resolve(None, &config, &ours, &state).expect("ours"), ours);
    assert_eq!(resolve(None, &config, &nowhere, &state).expect("state"), Path::new("/state/infeed/spool"));
    assert_eq!(
        resolve(None, &config, &nowhere, &home).expect("home"),
        Path::new("/home/x/.local/state/infeed/spool")
    );
    assert!(matches!(
        resolve(None, &config, &nowhere, &Environment::default()),
        Err(ConfigError::NoSpoolDir)
    ));
    config.spool.dir = Some("/set".into());
    assert_eq!(resolve(None, &config, &ours, &state).expect("set"), Path::new("/set"));
    assert_eq!(resolve(Some("/flag"), &config, &ours, &state).expect("flag"), Path::new("/flag"));
}

#[test]
fn host_port_and_helo_names_are_told_from_rubbish() {
    let host_port = |text: &str| Bound::MtaAddress.holds(&Value::Text(text.into()));
    for good in ["127.0.0.1:25", "localhost:2525", "[::1]:25", "mail.example.org:65535"] {
        assert!(host_port(good), "{good}");
    }
    for bad in
        ["", ":25", "localhost", "localhost:", "localhost:0", "localhost:65536", "::1:25", "a b:25", "a:+5"]
    {
        assert!(!host_port(bad), "{bad}");
    }
    let mta = |text: &str| Bound::MtaAddress.holds(&Value::Text(text.into()));
    for good in ["127.0.0.1:25", "[::1]:25", "unix:/var/spool/postfix/public/infeed"] {
        assert!(mta(good), "{good}");
    }
    for bad in ["unix:", "unix:run/mta", "unix:/a\0b", "/var/run/mta", "localhost"] {
        assert!(!mta(bad), "{bad}");
    }
    let file_name = |text: &str| Bound::FileName { example: "" }.holds(&Value::Text(text.into()));
    assert!(file_name("mta-password"));
    for bad in ["", ".", "..", "../shadow", "a/b"] {
        assert!(!file_name(bad), "{bad}");
    }
    let helo = |text: &str| Bound::DomainName { example: "" }.holds(&Value::Text(text.into()));
    for good in ["host", "lists.example.org", "[192.0.2.1]", "[IPv6:2001:db8::1]"] {
        assert!(helo(good), "{good}");
    }
    for bad in ["", "a b", "a\r\nMAIL", "-a.example", "a..b", "[x]"] {
        assert!(!helo(bad), "{bad}");
    }
}
