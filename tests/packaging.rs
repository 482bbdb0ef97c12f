//! The files under `packaging/`: systemd takes them, they agree with each other, and with the
//! configuration's defaults.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::binary::infeed;
use infeed::cli::exit;
use infeed::config::{CONNECTIONS_MAX, Config};

/// What `systemd-analyze security` may say at most, in tenths. 1.4 as of systemd 252: what is left is the
/// network (an MTA may be on another host), and /proc/sys, which tells the boot id.
const EXPOSURE_MAX: &str = "15";

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(packaging(name)).expect(name)
}

/// The values of a key of the unit, in order.
fn unit(key: &str) -> Vec<String> {
    text("infeed.service")
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| value.to_owned())
        .collect()
}

fn one(key: &str) -> String {
    let values = unit(key);
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values.into_iter().next().expect("one")
}

fn seconds(key: &str) -> u64 {
    one(key).parse().unwrap_or_else(|e| panic!("{key} in whole seconds: {e}"))
}

/// The words of each line that isn't a comment.
fn entries(name: &str) -> Vec<Vec<String>> {
    text(name)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// Runs one of systemd's tools; `None`, with a word, where there is none.
fn systemd(tool: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(tool).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("no {tool} here: not tested");
            None
        }
        Err(error) => panic!("{tool}: {error}"),
    }
}

fn assert_good(output: &Output, what: &str) {
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{what}: {}\n{}", output.status, said.concat());
}

/// The unit as it would lie on a machine where infeed is installed.
fn installed_unit(folder: &Path) -> String {
    let path = folder.join("infeed.service");
    let unit = text("infeed.service");
    assert!(unit.contains("ExecStart=/usr/bin/infeed serve -v\n"));
    fs::write(&path, unit.replace("/usr/bin/infeed", env!("CARGO_BIN_EXE_infeed"))).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn systemd_takes_the_unit_without_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = installed_unit(folder.path());
    let Some(verified) = systemd("systemd-analyze", &["verify", &path]) else { return };
    assert_good(&verified, "verify");
    assert_eq!(String::from_utf8_lossy(&verified.stderr), "");
}

#[test]
fn the_unit_leaves_the_daemon_little_of_the_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = installed_unit(folder.path());
    let arguments = ["security", "--offline=true", "--threshold", EXPOSURE_MAX, &path];
    let Some(judged) = systemd("systemd-analyze", &arguments) else { return };
    if String::from_utf8_lossy(&judged.stderr).contains("unrecognized option") {
        eprintln!("this systemd can't judge a unit offline: not tested");
        return;
    }
    assert_good(&judged, "security");
}

#[test]
fn a_stop_leaves_transactions_in_flight_their_time() {
    let grace_ms = Config::default().drain.shutdown_grace_ms;
    let stop_ms = seconds("TimeoutStopSec") * 1000;
    assert!(stop_ms >= grace_ms + 10_000, "{stop_ms} ms to stop, of which {grace_ms} ms are grace");
    // only the daemon itself is told to stop
    assert_eq!(one("KillMode"), "mixed");
    assert_eq!(unit("KillSignal"), Vec::<String>::new());
}

#[test]
fn what_a_person_has_to_mend_is_not_started_again_and_what_passes_is() {
    let never = one("RestartPreventExitStatus");
    let never: Vec<u8> = never.split(' ').map(|code| code.parse().expect("a code")).collect();
    assert_eq!(never, [exit::USAGE, exit::BAD_DATA, exit::NO_PERMISSION, exit::BAD_CONFIG]);
    assert_eq!(one("Restart"), "on-failure");
    for key in ["SuccessExitStatus", "RestartForceExitStatus"] {
        assert_eq!(one(key), exit::PENDING.to_string(), "{key}");
    }
}

#[test]
fn the_daemon_may_open_as_many_files_as_it_may_have_connections() {
    let files: usize = one("LimitNOFILE").parse().expect("a number");
    assert!(files >= 16 * CONNECTIONS_MAX, "{files} files, {CONNECTIONS_MAX} connections an MTA");
}

#[test]
fn unit_user_folders_and_configuration_agree() {
    let user = one("User");
    assert_eq!(one("Group"), user);
    assert_eq!(entries("infeed.sysusers")[0][..2], ["u".to_owned(), user.clone()]);
    let spool = one("ReadWritePaths");
    let folders = entries("infeed.tmpfiles");
    let of = |path: &str| folders.iter().find(|words| words[1] == path).expect("a folder")[2..5].to_vec();
    assert_eq!(of(&spool), ["0700", &user, &user]);
    // everybody's submits read the configuration; its secrets have files of their own
    assert_eq!(of("/etc/infeed"), ["0755", "root", "root"]);
    let sample: toml::Table = text("infeed.toml").parse().expect("TOML");
    assert_eq!(sample["spool"]["dir"].as_str(), Some(spool.as_str()));
    assert_eq!(one("Type"), "notify");
    assert!(one("ExecReload").ends_with("kill -HUP $MAINPID"));
}

#[test]
fn the_sample_configuration_is_good_also_with_every_line_of_it() {
    let check = |path: &Path| infeed(["config", "check"]).arg(path).run().expect_code(0);
    check(&packaging("infeed.toml"));
    let folder = tempfile::tempdir().expect("a folder");
    let all = folder.path().join("infeed.toml");
    let is_setting = |line: &str| line.starts_with("# ") && line.contains(" = ");
    let uncomment = |line: &str| if is_setting(line) { line[2..].to_owned() } else { line.to_owned() };
    let uncommented: Vec<String> = text("infeed.toml").lines().map(uncomment).collect();
    assert!(uncommented.len() > 10 && uncommented.iter().any(|line| line.starts_with("connections = ")));
    fs::write(&all, uncommented.join("\n")).expect("written");
    check(&all);
}

#[test]
fn the_user_and_the_folders_are_made_as_they_should_be() {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("etc")).expect("made");
    let at = format!("--root={}", root.path().display());
    let (users, folders) = (packaging("infeed.sysusers"), packaging("infeed.tmpfiles"));
    let (users, folders) = (users.to_str().expect("UTF-8"), folders.to_str().expect("UTF-8"));
    let Some(planned) = systemd("systemd-sysusers", &[&at, "--dry-run", users]) else { return };
    assert_good(&planned, "sysusers");
    assert!(!root.path().join("etc/passwd").exists());
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: the user and the folders are not made");
        return;
    }
    assert_good(&systemd("systemd-sysusers", &[&at, users]).expect("there a moment ago"), "sysusers");
    let Some(made) = systemd("systemd-tmpfiles", &[&at, "--create", folders]) else { return };
    assert_good(&made, "tmpfiles");
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).expect("a user");
    let fields: Vec<&str> =
        passwd.lines().find(|l| l.starts_with("infeed:")).expect("it").split(':').collect();
    let uid: u32 = fields[2].parse().expect("a number");
    assert!(uid > 0 && fields[6].ends_with("nologin"), "{passwd}");
    let spool = fs::metadata(root.path().join("var/spool/infeed")).expect("made");
    assert_eq!((spool.uid(), spool.permissions().mode() & 0o7777), (uid, 0o700));
}
