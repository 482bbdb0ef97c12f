//! The model of a disk: what a power cut may leave, and what not.

use super::*;

fn path(s: &str) -> PathBuf {
    s.into()
}

fn after(steps: &[Step]) -> Disk {
    let mut disk = Disk::of(&Image::from([(path("d"), None), (path("e"), None)]));
    steps.iter().for_each(|s| disk.apply(s));
    disk
}

/// Every image that hundreds of seeds come to.
fn images(disk: &Disk) -> Vec<Image> {
    let mut all: Vec<Image> = (0..400).map(|seed| disk.image(&Survives::Some(seed))).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn a_name_is_certain_once_its_folder_is_synced_and_content_once_its_file_is() {
    let create = Step::Create(path("d/f"), 7);
    let write = Step::Write(7, 0, b"abc".to_vec());
    let disk = after(&[create.clone(), write.clone(), Step::SyncFile(7)]);
    assert_eq!(disk.image(&Survives::Nothing).get(&path("d/f")), None);
    let disk = after(&[create, write, Step::SyncDir(path("d"))]);
    assert_eq!(disk.image(&Survives::Nothing)[&path("d/f")], Some(vec![]));
    let contents: Vec<_> = images(&disk).into_iter().map(|mut i| i.remove(&path("d/f"))).collect();
    for content in [b"".as_slice(), b"\0\0\0", b"abc"] {
        assert!(contents.contains(&Some(Some(content.to_vec()))), "{contents:?}");
    }
}

#[test]
fn a_rename_is_whole_or_absent_and_never_leaves_two_names() {
    let mut steps =
        vec![Step::Create(path("d/f"), 7), Step::SyncDir(path("d")), Step::Rename(path("d/f"), path("e/g"))];
    let names = |image: &Image| (image.contains_key(&path("d/f")), image.contains_key(&path("e/g")));
    let found: Vec<_> = images(&after(&steps)).iter().map(names).collect();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&(true, false)) && found.contains(&(false, true)));
    steps.push(Step::SyncDir(path("e")));
    assert_eq!(names(&after(&steps).image(&Survives::Nothing)), (false, true));
}

#[test]
fn of_two_writes_to_one_sector_the_later_is_never_there_without_the_earlier() {
    let disk = after(&[
        Step::Create(path("d/f"), 7),
        Step::SyncDir(path("d")),
        Step::Grow(7, 1024),
        Step::SyncFile(7),
        Step::Write(7, 0, b"a".to_vec()),
        Step::Write(7, 1, vec![b'b'; 600]),
    ]);
    let seen: Vec<(u8, u8, u8)> = images(&disk)
        .into_iter()
        .filter_map(|mut i| i.remove(&path("d/f")).flatten())
        .map(|f| (f[0], f[1], f[600]))
        .collect();
    assert!(seen.iter().all(|(first, second, _)| *second == 0 || *first == b'a'), "{seen:?}");
    // torn between two sectors
    assert!(seen.contains(&(b'a', 0, b'b')) && seen.contains(&(b'a', b'b', 0)), "{seen:?}");
}

#[test]
fn what_a_failed_sync_lost_comes_back_by_no_later_sync_but_by_being_made_anew() {
    let steps = [
        Step::Create(path("d/f"), 7),
        Step::Write(7, 0, b"abc".to_vec()),
        Step::SyncFileFailed(7),
        Step::SyncFile(7),
        Step::SyncDirFailed(path("d")),
        Step::SyncDir(path("d")),
    ];
    assert_eq!(after(&steps).image(&Survives::Nothing).get(&path("d/f")), None);
    let anew = [Step::Rename(path("d/f"), path("d/g")), Step::SyncDir(path("d"))];
    let image = after(&[&steps[..], &anew].concat()).image(&Survives::Nothing);
    assert_eq!(image[&path("d/g")], Some(vec![]));
}
