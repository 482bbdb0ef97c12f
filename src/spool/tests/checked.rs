//! What `spool check` says of crashes and of damage.

use std::io::Write;

use super::*;
use crate::spool::check::Finding;

fn findings(spool: &DirSpool) -> Vec<Finding> {
    spool.check(&mut |_| {}).unwrap().findings
}

#[test]
fn an_unfinished_last_record_of_a_journal_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 4).unwrap();
    let owner = spool.own(XxRange::ALL).unwrap();
    owner.scan().unwrap();
    let c = claim_next(&owner, &job).unwrap().unwrap();
    hand_out(&owner, &c, 0).unwrap();
    drop(owner);
    let segment = spool.segments().unwrap()[0];
    let path = spool.layout.journal().join(segment.file_name());
    let mut octets = std::fs::read(&path).unwrap();
    let written = octets.iter().rposition(|octet| *octet != 0).unwrap() + 1;
    octets.truncate(written - 1);
    std::fs::File::create(&path).unwrap().write_all(&octets).unwrap();
    let checked = spool.check(&mut |_| {}).unwrap();
    assert!(checked.findings.iter().any(|f| f.what.starts_with("unfinished last record")), "{checked:?}");
    assert!(!checked.is_damaged(), "{checked:?}");
}

#[test]
fn a_missing_chunk_is_named_by_its_own_path() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let job = submit(&spool, "key", 3).unwrap();
    let (at, meta) = (spool.find(&job).unwrap().1, spool.meta_of(&spool.find(&job).unwrap().1).unwrap());
    let name = spool.manifest_of(&at, &meta).unwrap().names(&job).next().unwrap();
    std::fs::remove_file(at.chunk(name)).unwrap();
    let told = spool.report(&job, &mut |_| Ok(())).unwrap_err().to_string();
    let (path, tmp) = (at.chunk(name).display().to_string(), at.chunk_tmp(name).display().to_string());
    let found = findings(&spool);
    assert!(told.contains(&path) && !told.contains(&tmp), "{told}");
    assert!(found.iter().any(|f| f.damage && (f.path == path || f.what.contains(&path))), "{found:?}");
    assert!(found.iter().all(|f| !f.what.contains(&tmp) && f.path != tmp), "{found:?}");
}
