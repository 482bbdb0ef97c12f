//! Configuration, help, man pages and completions as a person meets them.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::binary::infeed;

const TWO: &str =
    "[[mta]]\nname = 'a'\naddress = 'a.example:25'\n\n[[mta]]\nname = 'b'\naddress = 'b.example:25'\n";

fn file(folder: &Path, text: &str) -> String {
    let path = folder.join("infeed.toml");
    fs::write(&path, text).expect("written");
    path.to_string_lossy().into_owned()
}

#[test]
fn a_bad_flag_is_usage_and_a_bad_file_or_environment_is_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad = file(folder.path(), "[mta]\nconnections = 0\n");
    let drain = |words: &[&str]| infeed(["drain", "--spool"]).arg(folder.path().join("spool")).args(words);
    for flags in [
        ["--connections", "0"],
        ["--connections", "many"],
        ["--mta", "no port"],
        ["--set", "mta.connections=0"],
        ["--set", "mta.conections=1"],
        ["--set", "mta.connections"],
        ["--set", "mta.a.connections=1"],
        ["--slices", "0-16"],
    ] {
        let run = drain(&flags).run().expect_code(64);
        assert!(!run.stderr.is_empty(), "{flags:?}");
    }
    let run = drain(&["--config", &bad]).run().expect_code(78);
    assert!(run.stderr.contains("infeed.toml:2: mta.connections: 0 is not 1 to 1000"), "{run:?}");
    let run = drain(&[]).env("INFEED_MTA_CONNECTIONS", "0").run().expect_code(78);
    assert!(run.stderr.contains("environment INFEED_MTA_CONNECTIONS"), "{run:?}");
    infeed(["config", "check", &bad]).run().expect_code(78);
    infeed(["config", "check", "--set", "mta.connections=0"]).run().expect_code(64);
}

#[test]
fn show_tells_each_mtas_values_by_file_and_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(folder.path(), TWO);
    let run = infeed(["config", "show", "--config", &path]).run().expect_code(0);
    for (text, line) in [("address = \"a.example:25\"", 3), ("name = \"b\"", 6)] {
        let found = run.stdout.lines().find(|found| found.starts_with(text)).expect(text);
        assert!(found.ends_with(&format!("# {path}:{line}")), "{found}");
    }
    let json = infeed(["--json", "config", "show", "--config", &path]).run().expect_code(0).json();
    assert_eq!(json["mtas"].as_array().map(Vec::len), Some(2));
}

#[test]
fn check_says_everything_wrong_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(
        folder.path(),
        "[[mta]]\nname = 'a'\nadress = 'a:25'\n[[mta]]\nweight = 0\n[retry]\ndelay_s_min = 7200\n[job]\nx = 1\n",
    );
    let run = infeed(["config", "check", &path]).run().expect_code(78);
    let expected = [
        ":3: no setting mta.a.adress; did you mean mta.a.address?",
        ":4: this [[mta]] has no name",
        ":5: mta.weight: 0 is not 1 to 1000",
        ":9: no setting job.x",
        ":7) is more than retry.delay_s_max = 3600 (default)",
    ];
    assert_eq!(run.stdout.lines().count(), expected.len(), "{run:?}");
    for (line, expected) in run.stdout.lines().zip(expected) {
        assert!(line.contains(expected), "{line}: {expected}");
    }
}

#[test]
fn the_sample_is_a_good_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let sample = infeed(["config", "sample"]).run().expect_code(0).stdout;
    let path = file(folder.path(), &sample);
    infeed(["config", "check", &path]).run().expect_code(0);
}

#[test]
fn help_lists_every_exit_code_and_a_commands_own_options_first() {
    let help = infeed(["--help"]).run().expect_code(0).stdout;
    for code in ["0 done", "64 usage", "69 MTA", "70 a defect", "78 bad"] {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(code), "{code}: {help}");
    }
    let help = infeed(["drain", "--help"]).run().expect_code(0).stdout;
    let own = help.find("--slices").expect("an option of drain");
    let heading = help.find("Global options:").expect("a heading");
    let global = help.find("--quiet").expect("a global option");
    assert!(own < heading && heading < global, "{help}");
}

#[test]
fn what_has_no_json_refuses_it() {
    for words in [&["make-list", "--recipients", "1"][..], &["man"], &["completions", "bash"]] {
        let run = infeed(words).arg("--json").run().expect_code(64);
        assert!(run.stderr.contains("leave out --json"), "{run:?}");
        assert_eq!(run.stdout, "");
    }
}

/// Whether a program is there to be used.
fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn the_man_pages_are_ascii_and_format_without_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    infeed(["man", "--output"]).arg(folder.path()).run().expect_code(0);
    let section = |name: &str| -> Vec<_> {
        let entries = fs::read_dir(folder.path().join(name)).expect("a folder of pages");
        entries.map(|entry| entry.expect("readable").path()).collect()
    };
    let pages = [section("man1"), section("man5")].concat();
    assert!(pages.len() > 20, "{pages:?}");
    for page in &pages {
        let text = fs::read(page).expect("a page");
        assert!(text.is_ascii(), "{}", page.display());
        if has("groff") {
            let output = Command::new("groff").args(["-man", "-ww", "-z", "-Tutf8"]).arg(page).output();
            let output = output.expect("groff runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{}: {said}", page.display());
        }
    }
    let shown = infeed(["man"]).run().expect_code(0).stdout;
    assert_eq!(shown.into_bytes(), fs::read(folder.path().join("man1/infeed.1")).expect("a page"));
}

#[test]
fn a_folder_that_cannot_be_made_for_the_man_pages_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(folder.path(), "");
    let run = infeed(["man", "--output", &path]).run().expect_code(73);
    assert!(run.stderr.contains("infeed.toml/man1: can't be created"), "{run:?}");
}

/// What bash offers after these words, the last of them incomplete.
fn bash_offers(script: &Path, words: &[&str]) -> Vec<String> {
    const COMPLETE: &str = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        spec=$(complete -p infeed); name=${spec#*-F }; name=${name%% *}
        "$name" infeed "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" || exit 1
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["--norc", "--noprofile", "-c", COMPLETE, "complete"])
        .arg(script)
        .args(words)
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("infeed.bash");
    fs::write(&script, infeed(["completions", "bash"]).run().expect_code(0).stdout).expect("written");
    assert_eq!(bash_offers(&script, &["infeed", "dr"]), ["drain"]);
    assert_eq!(bash_offers(&script, &["infeed", "drain", "--conn"]), ["--connections"]);
    assert_eq!(bash_offers(&script, &["infeed", "submit", "--on-doubt", "h"]), ["hold"]);
    assert_eq!(
        bash_offers(&script, &["infeed", "drain", "--set", "mta.conn"]),
        ["mta.connections=", "mta.connections_max=", "mta.connect_timeout_ms="]
    );
    for shell in ["zsh", "fish"] {
        let script = infeed(["completions", shell]).run().expect_code(0).stdout;
        assert!(script.contains("mta.connections="), "{shell}");
    }
}
