//! The doors: who may read what infeed writes, what it follows, whom it believes, and where a secret shows.
//!
//! As root, other users are played by programs that run as them; as anybody else, those parts are left out.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::desk::Desk;
use common::mta::skip;
use common::sink::SinkProcess;
use common::wait::wait_until;

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(120);
/// Two users who are nobody here.
const NOBODY: u32 = 65_534;
const SOMEBODY: u32 = 65_533;
const PASSWORD: &str = "c0rrect-horse Battery";

/// A folder that every user comes into, with the binary in it.
struct Shared {
    folder: tempfile::TempDir,
}

impl Shared {
    /// `None`, and said so: not root.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("other users are played as root");
            return None;
        }
        let folder = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir();
        let shared = Self { folder: folder.expect("a folder") };
        // by another process: a file that this one has open for writing can't be run by its other threads
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_infeed")).arg(shared.binary()).status();
        assert!(copied.is_ok_and(|status| status.success()), "a copy that others may run");
        Some(shared)
    }

    fn binary(&self) -> PathBuf {
        self.folder.path().join("infeed")
    }

    /// A folder of this user.
    fn folder_of(&self, name: &str, uid: u32, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        std::os::unix::fs::chown(&path, Some(uid), Some(uid)).expect("root may");
        path
    }

    fn infeed(&self, uid: u32, words: &[&str]) -> Command {
        let mut command = Command::new(self.binary());
        command.env_clear().env("HOME", self.folder.path()).env("INFEED_CONFIG", "/dev/null");
        command.args(words).uid(uid).gid(uid).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, uid: u32, words: &[&str]) -> Output {
        self.infeed(uid, words).output().expect("infeed starts")
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Refused for want of permission, with these words.
fn refused(output: &Output, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

/// Everything below a folder, itself included.
fn all(path: &Path, found: &mut Vec<PathBuf>) {
    found.push(path.to_owned());
    if fs::symlink_metadata(path).expect("it is there").is_dir() {
        for entry in fs::read_dir(path).expect("ours") {
            all(&entry.expect("an entry").path(), found);
        }
    }
}

#[test]
fn files_are_0600_and_folders_0700_under_any_umask() {
    for umask in ["000", "022", "077"] {
        let desk = Desk::new();
        let sink = SinkProcess::start(&desk.path("sink"), &[]);
        let message = desk.file("letter.eml", "From: a@b.example\nSubject: {{ name }}\n\nx\n");
        let rows: String = (0..20).map(|i| format!("u{i}@d.example,n\n")).collect();
        let list = desk.file("list.csv", format!("email,name\n{rows}no address,x\n"));
        let infeed = |words: &[&str]| {
            let script = format!("umask {umask}; exec \"$0\" \"$@\"");
            let mut command = Command::new("sh");
            command.args(["-c", &script, env!("CARGO_BIN_EXE_infeed")]).args(words);
            command.arg("--spool").arg(desk.spool()).env("INFEED_CONFIG", "/dev/null").stdin(Stdio::null());
            command.env("HOME", desk.path("")).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
            let output = command.output().expect("sh starts");
            assert_eq!(output.status.code(), Some(0), "umask {umask}: {}", text(&output.stderr));
        };
        let (message, list) = (message.display().to_string(), list.display().to_string());
        infeed(&["submit", &message, "--to", &list, "--merge", "--yes", "--id", "one"]);
        infeed(&["submit", &message, "--to", &list, "--merge", "--yes", "--id", "two", "--again"]);
        infeed(&["job", "pause", "two"]);
        infeed(&["drain", "--mta", &sink.address()]);
        infeed(&["pause", "--all"]);
        let mut found = Vec::new();
        all(&desk.spool(), &mut found);
        assert!(found.len() > 20, "{found:?}");
        found.push(desk.path("list.csv.rejects.csv"));
        for path in found {
            let there = fs::symlink_metadata(&path).expect("there");
            let wanted = if there.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(there.mode() & 0o777, wanted, "{}, umask {umask}", path.display());
        }
    }
}

#[test]
fn what_was_planted_in_a_spool_is_named_and_not_followed() {
    let desk = Desk::new();
    let message = desk.file("letter.eml", "From: a@b.example\nSubject: x\n\nx\n");
    let list = desk.file("list.txt", "u@d.example\n");
    let id = desk.submit(&message, &list, &[]);
    let outside = desk.path("outside");
    fs::create_dir(&outside).expect("made");
    for name in ["incoming", "journal", "locks", "commands", "meta.toml"] {
        let (path, aside) = (desk.spool().join(name), desk.path("aside"));
        let was_there = fs::rename(&path, &aside).is_ok();
        let target = outside.join("target");
        symlink(if aside.is_dir() { &outside } else { &target }, &path).expect("linked");
        for command in [&["drain", "--mta", "127.0.0.1:1"][..], &["job", "cancel", &id], &["status"]] {
            let run = desk.infeed(command).run().expect_code(77);
            let place = path.display().to_string();
            assert!(run.stderr.contains(&place) && run.stderr.contains("symbolic link"), "{}", run.stderr);
        }
        assert_eq!(fs::read_dir(&outside).expect("there").count(), 0, "{name}");
        fs::remove_file(&path).expect("removed");
        if was_there {
            fs::rename(&aside, &path).expect("back");
        }
    }
    // a socket's place, taken
    let socket = desk.spool().join("control.sock");
    symlink(outside.join("target"), &socket).expect("linked");
    let run = desk.draining("127.0.0.1:1", 1).run();
    assert_eq!(run.code, Some(73), "{}", run.stderr);
    assert!(run.stderr.contains("control.sock"), "{}", run.stderr);
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
    fs::remove_file(&socket).expect("removed");
    assert_eq!(desk.show(&id)["pending"], 1);
    desk.check();
}

#[test]
fn in_a_shared_folder_nobody_is_led_into_anothers_spool() {
    let Some(shared) = Shared::new() else { return };
    let tmp = shared.folder_of("tmp", 0, 0o1777);
    let at = |name: &str| tmp.join(name).display().to_string();
    // a link, into a folder that the victim could write in
    let victims = shared.folder_of("victims", NOBODY, 0o700);
    symlink(&victims, tmp.join("link")).expect("linked");
    std::os::unix::fs::lchown(tmp.join("link"), Some(SOMEBODY), Some(SOMEBODY)).expect("root may");
    refused(&shared.run(NOBODY, &["status", "--spool", &at("link")]), &["link", "65533", "shared folder"]);
    refused(&shared.run(0, &["status", "--spool", &at("link")]), &["link", "65533", "shared folder"]);
    assert_eq!(fs::read_dir(&victims).expect("root may").count(), 0, "nothing was made");
    // a folder made before the victim came
    for (name, mode, words) in [("open", 0o777, &["65533", "65534"][..]), ("closed", 0o700, &["sudo -u"])] {
        let path = tmp.join(name);
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        std::os::unix::fs::chown(&path, Some(SOMEBODY), Some(SOMEBODY)).expect("root may");
        refused(&shared.run(NOBODY, &["jobs", "--spool", &at(name)]), words);
    }
    // their own is made there as anywhere
    let message = shared.folder.path().join("letter.eml");
    let list = shared.folder.path().join("list.txt");
    fs::write(&message, "From: a@b.example\nSubject: x\n\nx\n").expect("written");
    fs::write(&list, "u@d.example\n").expect("written");
    let (message, list) = (message.display().to_string(), list.display().to_string());
    let submit = |uid: u32, spool: &str, id: &str| {
        shared.run(uid, &["submit", &message, "--to", &list, "--spool", spool, "--id", id, "--again"])
    };
    let made = submit(NOBODY, &at("own"), "one");
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    // what root adds to it is that user's
    let added = submit(0, &at("own"), "two");
    assert_eq!(added.status.code(), Some(0), "{}", text(&added.stderr));
    let mut found = Vec::new();
    all(&tmp.join("own"), &mut found);
    for path in found {
        assert_eq!(fs::symlink_metadata(&path).expect("there").uid(), NOBODY, "{}", path.display());
    }
    let listed = shared.run(NOBODY, &["jobs", "--spool", &at("own"), "--json"]);
    assert!(text(&listed.stdout).contains("\"two\""), "{}", text(&listed.stderr));
}

#[test]
fn a_command_says_nothing_to_a_strangers_socket() {
    let Some(shared) = Shared::new() else { return };
    let tmp = shared.folder_of("tmp", 0, 0o1777);
    let socket = tmp.join("infeed.sock");
    let setting = format!("control.socket={}", socket.display());
    let theirs = shared.folder_of("theirs", SOMEBODY, 0o700).display().to_string();
    let own = shared.folder_of("own", NOBODY, 0o700).display().to_string();
    let mut daemon = shared
        .infeed(SOMEBODY, &["serve", "--spool", &theirs, "--mta", "127.0.0.1:1", "--set", &setting])
        .stderr(Stdio::null())
        .spawn()
        .expect("infeed starts");
    wait_until("the stranger's socket", DEADLINE, || socket.exists());
    let ask = || shared.run(NOBODY, &["status", "--spool", &own, "--set", &setting]);
    // for its owner alone, until that one opens it to all
    wait_until("its mode", DEADLINE, || {
        fs::symlink_metadata(&socket).is_ok_and(|m| m.mode() & 0o777 == 0o600)
    });
    refused(&ask(), &["infeed.sock"]);
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("root may");
    let asked = ask();
    daemon.kill().expect("ours");
    daemon.wait().expect("ours");
    refused(&asked, &["infeed.sock", "user 65533", "control.socket"]);
}

/// Says 535 to AUTH, and repeats what it was told, once it is let; gives its address.
fn repeats_secrets(let_it: std::sync::mpsc::Receiver<()>, asked: std::sync::mpsc::Sender<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let mut lines = BufReader::new(&stream).lines();
            let say = |text: &str| (&stream).write_all(text.as_bytes()).is_ok();
            let mut fine = say("220 mx\r\n");
            while let (true, Some(Ok(line))) = (fine, lines.next()) {
                fine = if line.starts_with("EHLO") {
                    say("250-mx\r\n250 AUTH PLAIN\r\n")
                } else if line.starts_with("AUTH") {
                    // both ends may have gone: the test has ended
                    asked.send(()).is_ok()
                        && let_it.recv().is_ok()
                        && say(&format!("535 5.7.8 no: {line}\r\n"))
                } else {
                    say("221 bye\r\n")
                };
            }
        }
    });
    address
}

#[test]
fn a_password_shows_in_no_log_no_answer_no_file_no_process_list_and_no_core() {
    let desk = Desk::new();
    let shared = Shared::new();
    let (let_it, waits) = channel();
    let (asks, asked) = channel();
    let address = repeats_secrets(waits, asks);
    let uid = shared.as_ref().map_or_else(|| rustix::process::getuid().as_raw(), |_| NOBODY);
    let place = shared.as_ref().map_or_else(|| desk.path("own"), |s| s.folder_of("own", uid, 0o700));
    fs::create_dir_all(&place).expect("made");
    let binary = shared.as_ref().map_or_else(|| env!("CARGO_BIN_EXE_infeed").into(), Shared::binary);
    for (name, octets) in [
        ("password", PASSWORD),
        ("letter.eml", "From: a@b.example\nSubject: x\n\nx\n"),
        ("list.txt", "u@d.example\n"),
    ] {
        let path = place.join(name);
        fs::write(&path, octets).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        std::os::unix::fs::chown(&path, Some(uid), None).expect("ours, or root may");
    }
    let infeed = |words: &[&str]| {
        let mut command = Command::new(&binary);
        command.env_clear().env("HOME", &place).env("INFEED_CONFIG", "/dev/null").current_dir(&place);
        let password = format!("mta.auth_password_file={}", place.join("password").display());
        command.args(words).args(["--spool", "spool", "--set", "mta.auth_user=news"]);
        command.args(["--set", &password, "--set", &format!("mta.address={address}")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if shared.is_some() {
            command.uid(uid).gid(uid);
        }
        command
    };
    let mut said = Vec::new();
    let submitted = infeed(&["submit", "letter.eml", "--to", "list.txt", "--id", "one", "-vvv"]).output();
    let submitted = submitted.expect("it starts");
    assert_eq!(submitted.status.code(), Some(0), "{}", text(&submitted.stderr));
    said.extend([submitted.stdout, submitted.stderr].concat());
    let drain = infeed(&["drain", "-vvv", "--connections", "1"]).spawn().expect("it starts");
    asked.recv_timeout(DEADLINE).expect("AUTH");
    // the password is in its memory now
    let proc = PathBuf::from(format!("/proc/{}", drain.id()));
    assert_eq!(
        fs::metadata(proc.join("environ")).expect("it runs").uid(),
        0,
        "it can't be dumped, nor looked into"
    );
    for name in ["cmdline", "environ", "status", "comm"] {
        // another user's may not be read: then nobody reads a password there
        said_of(&proc.join(name), &mut said);
    }
    let mut hear = |output: Output| {
        said.extend_from_slice(&output.stdout);
        said.extend_from_slice(&output.stderr);
    };
    for words in [&["status", "--json"][..], &["config", "show"], &["job", "show", "one", "--json"]] {
        hear(infeed(words).output().expect("it starts"));
    }
    let_it.send(()).expect("the MTA waits");
    // its 535 ends the drain
    hear(drain.wait_with_output().expect("it ends"));
    let mut files = Vec::new();
    all(&place.join("spool"), &mut files);
    for file in files.iter().filter(|path| path.is_file()) {
        said.extend(fs::read(file).expect("ours, or root may"));
    }
    let said = text(&said);
    assert!(said.contains("5.7.8") && said.contains("[hidden]"), "what was said is collected: {said}");
    let initial = BASE64.encode(format!("\0news\0{PASSWORD}"));
    for secret in [PASSWORD, "Battery", &initial, &BASE64.encode(PASSWORD)] {
        assert!(!said.contains(secret), "{secret:?} shows in {said}");
    }
}

fn said_of(path: &Path, said: &mut Vec<u8>) {
    match fs::read(path) {
        Ok(octets) => said.extend(octets),
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::PermissionDenied, "{}", path.display()),
    }
}
