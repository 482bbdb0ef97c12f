//! All that is wrong is said at once, and what is said is true: no error follows from another one.

use super::*;

#[test]
fn a_broken_relation_is_said_beside_the_errors_of_other_groups() {
    assert_eq!(
        messages("[retry]\ndelay_s_min = 7200\n[mta]\nconnections = 0\n")
            .iter()
            .map(|said| said.split(" is ").next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>(),
        ["infeed.toml:4: mta.connections: 0", "infeed.toml:2)"]
    );
}

#[test]
fn a_relation_that_a_slip_may_have_hidden_is_not_said_to_be_broken() {
    for slip in ["delay_s_mx = 9000", "delay_s_max = '9000'"] {
        let said = messages(&format!("[retry]\ndelay_s_min = 7200\n{slip}\n"));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("infeed.toml:3: "), "{said:?}");
    }
    let said = messages("[retry]\ndelay_s_min = 7200\n[rety]\ndelay_s_max = 9000\n");
    assert_eq!(said, ["infeed.toml:3: no group [rety]; did you mean [retry]?"]);
}

#[test]
fn only_what_the_command_line_says_is_wrong_usage() {
    let usage = |text: &str, set: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("infeed.toml");
        fs::write(&file, text).expect("written");
        let mut request = Request::of_file(file);
        request.set_text(set).expect("a setting");
        load(&request, &Environment::default()).expect_err("refused").is_usage()
    };
    assert!(usage("", "mta.connections=0"));
    assert!(usage("", "mta.conections=1"));
    assert!(usage("", "retry.delay_s_min=7200"));
    assert!(!usage("mta.wait_s = -1\n", "mta.connections=1"));
    assert!(!usage("mta.wait_s = -1\n", "mta.connections=0"));
}
