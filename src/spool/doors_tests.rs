use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::*;
use crate::spool::{DirSpool, Settings};

const OTHER: u32 = 65_534;

fn open(root: &Path) -> Result<DirSpool> {
    DirSpool::open(root, Settings { free_bytes_min: 0, free_inodes_min: 0, ..Settings::default() })
}

/// A spool, in a folder of its own.
fn spool() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("spool");
    open(&root).expect("a new spool");
    (dir, root)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

/// Refused by name and with a remedy; and the spool's error is one of permissions.
fn refused(root: &Path, at: &Path, fault: &str) {
    match open(root).err() {
        Some(SpoolError::OpenDoor { path, fault: found, remedy }) => {
            assert_eq!(path, at);
            assert!(found.contains(fault) && !remedy.is_empty(), "{found}");
        }
        other => panic!("{}: {other:?}", at.display()),
    }
}

fn is_root() -> bool {
    let is_root = us() == 0;
    if !is_root {
        eprintln!("not root: not tested");
    }
    is_root
}

#[test]
fn a_link_in_place_of_a_folder_or_file_is_refused_and_nothing_is_written_where_it_leads() {
    let (dir, root) = spool();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).expect("made");
    let layout = Layout { root: root.clone() };
    for folder in layout.folders() {
        let aside = dir.path().join("aside");
        fs::rename(&folder, &aside).expect("moved");
        symlink(&outside, &folder).expect("linked");
        refused(&root, &folder, "a symbolic link");
        fs::remove_file(&folder).expect("removed");
        fs::write(&folder, "").expect("written");
        refused(&root, &folder, "something else");
        fs::remove_file(&folder).expect("removed");
        fs::rename(&aside, &folder).expect("back");
    }
    let target = outside.join("target");
    for file in [layout.meta(), layout.locks(), layout.commands(), layout.standstill()] {
        let aside = dir.path().join("aside");
        let was_there = fs::rename(&file, &aside).is_ok();
        symlink(&target, &file).expect("linked");
        refused(&root, &file, "a symbolic link");
        fs::remove_file(&file).expect("removed");
        fs::write(&target, "somebody's").expect("written");
        fs::hard_link(&target, &file).expect("linked");
        refused(&root, &file, "2 links");
        fs::remove_file(&file).expect("removed");
        assert_eq!(fs::read_to_string(&target).expect("there"), "somebody's");
        fs::remove_file(&target).expect("removed");
        if was_there {
            fs::rename(&aside, &file).expect("back");
        }
    }
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
    open(&root).expect("as it was");
}

#[test]
fn a_folder_that_everybody_may_write_in_is_refused_also_before_it_is_a_spool() {
    let (dir, root) = spool();
    for open_mode in [0o777, 0o1777, 0o703] {
        mode(&root, open_mode);
        refused(&root, &root, "everybody may write");
    }
    mode(&root, 0o755);
    open(&root).expect("others may look at its name");
    let new = dir.path().join("new");
    fs::create_dir(&new).expect("made");
    mode(&new, 0o1777);
    refused(&new, &new, "everybody may write");
    assert_eq!(fs::read_dir(&new).expect("there").count(), 0, "nothing was made");
}

#[test]
fn a_strangers_folder_inside_is_refused_and_the_owners_own_is_not() {
    if !is_root() {
        return;
    }
    let (_dir, root) = spool();
    let journal = Layout { root: root.clone() }.journal();
    chown(&journal, Some(OTHER), None).expect("root may");
    refused(&root, &journal, "65534");
    chown(&root, Some(OTHER), None).expect("root may");
    open(&root).expect("the spool of that user, by root");
}

#[test]
fn a_link_that_a_stranger_put_into_a_shared_folder_is_refused_and_the_operators_is_followed() {
    let (dir, root) = spool();
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).expect("made");
    mode(&shared, 0o1777);
    let link = shared.join("link");
    symlink(&root, &link).expect("linked");
    open(&link).expect("our own link");
    // one link of several, and not the last part of the path
    let way = dir.path().join("way");
    symlink(&shared, &way).expect("linked");
    open(&way.join("link")).expect("ours, all of them");
    if !is_root() {
        return;
    }
    std::os::unix::fs::lchown(&link, Some(OTHER), None).expect("root may");
    refused(&link, &link, "user 65534");
    refused(&way.join("../shared/link"), &way.join("../shared/link"), "user 65534");
    mode(&shared, 0o755);
    open(&link).expect("where nobody else can put one");
}

#[test]
fn links_in_a_circle_are_an_error_and_no_hang() {
    let dir = tempfile::tempdir().expect("a folder");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    symlink(&a, &b).expect("linked");
    symlink(&b, &a).expect("linked");
    refused(&a, &a, "without end");
}
