//! On folders made up here, and against a socket that answers as sendmail's does.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn touch(folder: &Path, name: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::File::create(folder.join(name)).unwrap();
}

/// A long queue id of Postfix.
fn queue_id(n: usize) -> String {
    format!("4{n:09}zXyz")
}

/// `n` files, in subfolders to that depth as `hash_queue_names` makes them.
fn fill(folder: &Path, n: usize, depth: usize) {
    fs::create_dir_all(folder).unwrap();
    for i in 0..n {
        let digits = format!("{i:04X}");
        let hashed = digits.chars().rev().take(depth).fold(folder.to_owned(), |at, d| at.join(d.to_string()));
        touch(&hashed, &queue_id(i));
    }
}

fn config(folder: QueueFolder, target: u64) -> QueueConfig {
    QueueConfig { address: "127.0.0.1:2525".into(), folder, control_socket: None, target }
}

fn found(dir: &Path, count_max: u64) -> Result<(Counted, Source), QueueError> {
    let place = find::place(&config(QueueFolder::At(dir.to_owned()), 1), &mut None)?;
    let counted = match &place {
        Place::Postfix(dir) => folder::count_postfix(dir, count_max)?,
        Place::SendmailFolder(dir) => folder::count_sendmail(dir, count_max)?,
        Place::SendmailSocket(_) => panic!("no socket was given"),
    };
    Ok((counted, place.into_source()))
}

const ALL: u64 = u64::MAX;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn postfixs_incoming_and_active_are_counted_hashed_or_not(
        incoming in 0usize..60, active in 0usize..60, deferred in 0usize..9, depths in (0usize..3, 0usize..4),
        count_max in 1u64..200,
    ) {
        let dir = TempDir::new().unwrap();
        fill(&dir.path().join("incoming"), incoming, depths.0);
        fill(&dir.path().join("active"), active, depths.1);
        fill(&dir.path().join("deferred"), deferred, 1);
        let all = (incoming + active) as u64;
        let source = Source::Postfix(dir.path().to_owned());
        prop_assert_eq!(found(dir.path(), ALL).unwrap(), (Counted { messages: all, is_more: false }, source));
        let counted = found(dir.path(), count_max).unwrap().0;
        prop_assert_eq!(counted, Counted { messages: all.min(count_max), is_more: all >= count_max });
    }

    #[test]
    fn sendmails_queue_files_are_counted_in_each_of_its_queues(
        queues in proptest::collection::vec((0usize..30, any::<bool>()), 1..5), count_max in 1u64..100,
    ) {
        let dir = TempDir::new().unwrap();
        let mut all = 0;
        for (i, (n, has_subfolders)) in queues.iter().enumerate() {
            let queue = dir.path().join(format!("q{i}"));
            fs::create_dir_all(&queue).unwrap();
            for kind in ["qf", "df", "xf", "tf", "hf"] {
                let folder = if *has_subfolders { queue.join(kind) } else { queue.clone() };
                fs::create_dir_all(&folder).unwrap();
                (0..*n).for_each(|i| touch(&folder, &format!("{kind}3AMH0000{i}")));
            }
            all += *n as u64;
        }
        fs::create_dir_all(dir.path().join("other")).unwrap();
        touch(&dir.path().join("other"), "qf3AMH99999");
        let counted = |count_max| found(&dir.path().join("q*"), count_max).unwrap().0;
        prop_assert_eq!(counted(ALL), Counted { messages: all, is_more: false });
        prop_assert_eq!(counted(count_max), Counted { messages: all.min(count_max), is_more: all >= count_max });
        let first = found(&dir.path().join("q0"), ALL).unwrap().0;
        prop_assert_eq!(first.messages, queues[0].0 as u64);
    }

    #[test]
    fn no_answer_of_a_control_socket_is_taken_for_a_number_that_it_is_not(answer in ".{0,200}") {
        if let Ok(counted) = socket::messages(&answer, Path::new("/s")) {
            prop_assert!(answer.contains("Q:"), "{:?} from {:?}", counted, answer);
        }
    }
}

#[test]
fn files_that_come_and_go_while_they_are_counted_do_no_harm() {
    let dir = TempDir::new().unwrap();
    fill(&dir.path().join("active"), 300, 1);
    fs::create_dir_all(dir.path().join("incoming")).unwrap();
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            for i in 0..300 {
                let hashed = dir.path().join("active").join(format!("{:X}", i % 16));
                fs::rename(hashed.join(queue_id(i)), dir.path().join("incoming").join(queue_id(i))).unwrap();
                if i >= 284 {
                    fs::remove_dir(&hashed).unwrap();
                }
            }
        });
        while !mover.is_finished() {
            // each is in one folder or the other, or in both for whoever reads them one after the other
            assert!(found(dir.path(), ALL).unwrap().0.messages <= 600);
        }
    });
    assert_eq!(found(dir.path(), ALL).unwrap().0.messages, 300);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let dir = TempDir::new().unwrap();
    for name in ["nothing", "q*", "nothing/q*"] {
        let error = found(&dir.path().join(name), ALL).unwrap_err().to_string();
        let path = dir.path().display().to_string();
        assert!(error.starts_with("not readable (") && error.contains(&path), "{name}: {error}");
    }
    fs::create_dir_all(dir.path().join("active")).unwrap();
    let error = found(dir.path(), ALL).unwrap_err().to_string();
    assert!(error.contains("/incoming: No such file"), "{error}");
}

#[test]
fn a_folder_of_another_user_is_said_to_be_that_with_what_to_do() {
    if rustix::process::geteuid().is_root() {
        // root may read them all: the tests that run the binary as another user cover it
        return;
    }
    let dir = TempDir::new().unwrap();
    fill(&dir.path().join("incoming"), 1, 0);
    fill(&dir.path().join("active"), 1, 0);
    fs::set_permissions(dir.path().join("active"), fs::Permissions::from_mode(0o0)).unwrap();
    let error = found(dir.path(), ALL).unwrap_err().to_string();
    fs::set_permissions(dir.path().join("active"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(error.contains("/active: Permission denied") && error.contains("mta.queue_dir"), "{error}");
}

#[test]
fn a_control_socket_tells_the_sum_of_its_queues() {
    let answer = "C:1\r\nM:0\r\nL:0\r\nQ:/var/spool/mqueue/q1:12\r\nQ:/var/spool/mqueue/q:2:30\r\nD:1:2:3\r\nP:1 x\r\n";
    let path = Path::new("/s");
    assert_eq!(socket::messages(answer, path).unwrap(), Counted { messages: 42, is_more: false });
    let no_memory = socket::messages("C:1\r\nQ:NOTCONFIGURED:-1\r\n", path).unwrap_err().to_string();
    assert!(no_memory.contains("SharedMemoryKey"), "{no_memory}");
    let not_yet = socket::messages("C:1\r\nQ:/q1:3\r\nQ:/q2:-1\r\n", path).unwrap_err().to_string();
    assert!(not_yet.contains("hasn't counted"), "{not_yet}");
    for bad in ["", "Bad command (x)\r\n", "Q:\r\n", "Q:/q:many\r\n"] {
        assert!(matches!(socket::messages(bad, path), Err(QueueError::SocketAnswer { .. })), "{bad:?}");
    }
}

/// Waits for a reading that `is_it`.
fn wait_reading(probe: &QueueProbe, is_it: impl Fn(&Reading) -> bool) -> Reading {
    let mut readings = probe.subscribe();
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { readings.wait_for(|reading| is_it(reading)).await.unwrap().clone() })
}

#[test]
fn a_probe_asks_the_socket_and_follows_what_it_says() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let answers = std::thread::spawn(move || {
        for n in [7, 9] {
            let (mut client, _) = listener.accept().unwrap();
            let mut asked = [0; 7];
            client.read_exact(&mut asked).unwrap();
            assert_eq!(&asked, b"mstat\r\n");
            client.write_all(format!("L:0\r\nQ:/q:{n}\r\n").as_bytes()).unwrap();
        }
    });
    let probe =
        QueueProbe::start(QueueConfig { control_socket: Some(path.clone()), ..config(QueueFolder::Ask, 5) });
    let first = wait_reading(&probe, |reading| reading.messages.is_some());
    assert_eq!((first.messages, &first.source), (Some(7), &Source::SendmailSocket(path.clone())));
    wait_reading(&probe, |reading| reading.messages == Some(9));
    answers.join().unwrap();
    let gone = wait_reading(&probe, |reading| reading.messages.is_none());
    assert!(gone.to_string().contains(&path.display().to_string()), "{gone}");
}

#[test]
fn a_probe_counts_no_further_than_four_targets_and_follows_the_folder() {
    let dir = TempDir::new().unwrap();
    fill(&dir.path().join("incoming"), 30, 0);
    fill(&dir.path().join("active"), 30, 1);
    let probe = QueueProbe::start(config(QueueFolder::At(dir.path().to_owned()), 10));
    let full = wait_reading(&probe, |reading| reading.messages.is_some());
    assert_eq!((full.messages, full.is_more), (Some(40), true), "{full}");
    assert!(full.to_string().starts_with("40 messages or more (Postfix's"), "{full}");
    fs::remove_dir_all(dir.path().join("active")).unwrap();
    fs::create_dir(dir.path().join("active")).unwrap();
    let less = wait_reading(&probe, |reading| reading.messages == Some(30));
    assert!(!less.is_more);
}

#[test]
fn an_old_reading_says_nothing_any_more_but_why() {
    let reading = Reading {
        messages: Some(3),
        is_more: false,
        at: Instant::now(),
        every: Duration::from_secs(1),
        source: Source::SendmailFolder("/q".into()),
    };
    assert_eq!(reading.clone().as_of(reading.at + STALE).messages, Some(3));
    let old = reading.clone().as_of(reading.at + STALE + Duration::from_secs(1));
    assert_eq!(old.messages, None);
    assert!(old.to_string().contains("sendmail's /q has not been read for 11 s"), "{old}");
    let slow = Reading { every: Duration::from_secs(60), ..reading.clone() };
    assert_eq!(slow.as_of(reading.at + Duration::from_secs(100)).messages, Some(3));
}

#[test]
fn only_an_mta_on_port_25_of_this_host_is_taken_for_the_machines_postfix() {
    let why = |address: &str, folder, target| {
        find::why_not(&QueueConfig { address: address.into(), ..config(folder, target) })
    };
    for ours in ["127.0.0.1:25", "[::1]:25", "localhost:25", "127.0.0.2:25"] {
        assert_eq!(why(ours, QueueFolder::Ask, 1), None, "{ours}");
    }
    for other in
        ["127.0.0.1:2525", "192.0.2.1:25", "mail.example.org:25", "unix:/run/lmtp:25", "[2001:db8::1]:25"]
    {
        assert!(why(other, QueueFolder::Ask, 1).is_some_and(|why| why.contains("mta.queue_dir")), "{other}");
    }
    assert_eq!(why("127.0.0.1:2525", QueueFolder::At("/q".into()), 1), None);
    assert!(why("127.0.0.1:25", QueueFolder::Off, 1).is_some_and(|why| why.contains("none")));
    assert!(
        why("127.0.0.1:25", QueueFolder::At("/q".into()), 0).is_some_and(|why| why.contains("queue_target"))
    );
}

/// What the docs say it costs: `cargo test --release --lib -- --ignored --nocapture twenty_thousand`.
#[test]
#[ignore = "measures"]
fn what_a_queue_of_twenty_thousand_files_costs() {
    let dir = TempDir::new().unwrap();
    for (depth, name) in [(0, "flat"), (1, "hashed once"), (2, "hashed twice")] {
        let queue = dir.path().join(name.replace(' ', "-"));
        fill(&queue.join("incoming"), 4_000, depth);
        fill(&queue.join("active"), 16_000, depth);
        let (began, cpu_began, times) = (Instant::now(), cpu_time(), 50);
        for _ in 0..times {
            assert_eq!(found(&queue, ALL).unwrap().0.messages, 20_000);
        }
        let (cpu, wall) = ((cpu_time() - cpu_began) / times, began.elapsed() / times);
        let every = (cpu * COST_SHARE).max(wall * WALL_SHARE).max(EVERY_MIN);
        let share = 100.0 * cpu.as_secs_f64() / every.as_secs_f64();
        println!("{name}: {cpu:?} of CPU, {wall:?} on the clock, every {every:?}: {share:.2} % of a core");
    }
}
