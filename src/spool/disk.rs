//! A disk as a power cut finds it, for tests: what is certain to be there, and what may be.
//!
//! [`Disk`] is told every call that changes something, in order. What was synced is certain. Of the rest
//! [`Disk::image`] keeps any part: each making, renaming and unlinking is there whole or not at all,
//! independent of every other, until the folder that it ends in is synced; each sector of a file is as
//! one of the writes since the last sync left it, and its length likewise.
//!
//! A sync that failed is told too: what it was to make certain is never made so by a later one, which
//! Linux may well report as successful. It has to be written, or renamed, anew.
//!
//! Harder than any real file system, all of which keep some order between names; so what holds here
//! depends on no such order.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

/// A file or a folder, whatever its name is.
pub type Ino = u64;

/// The folder that everything lies in; it is certain.
const ROOT: Ino = 0;
const SECTOR: u64 = 512;

/// One call that changed something, by paths as they were then, relative to the root.
#[derive(Clone)]
pub enum Step {
    Mkdir(PathBuf, Ino),
    Create(PathBuf, Ino),
    Write(Ino, u64, Vec<u8>),
    /// The file is at least so long.
    Grow(Ino, u64),
    Rename(PathBuf, PathBuf),
    /// Of a file or an empty folder.
    Unlink(PathBuf),
    SyncFile(Ino),
    SyncFileFailed(Ino),
    SyncDir(PathBuf),
    SyncDirFailed(PathBuf),
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Mkdir(path, _) => write!(f, "mkdir {}", path.display()),
            Step::Create(path, ino) => write!(f, "create {} = {ino}", path.display()),
            Step::Write(ino, at, bytes) => write!(f, "write {} bytes to {ino} at {at}", bytes.len()),
            Step::Grow(ino, len) => write!(f, "grow {ino} to {len}"),
            Step::Rename(from, to) => write!(f, "rename {} to {}", from.display(), to.display()),
            Step::Unlink(path) => write!(f, "unlink {}", path.display()),
            Step::SyncFile(ino) => write!(f, "sync {ino}"),
            Step::SyncFileFailed(ino) => write!(f, "sync of {ino} failed"),
            Step::SyncDir(path) => write!(f, "sync folder {}", path.display()),
            Step::SyncDirFailed(path) => write!(f, "sync of folder {} failed", path.display()),
        }
    }
}

/// What of the uncertain a power cut leaves.
#[derive(Debug, Clone)]
pub enum Survives {
    Nothing,
    /// Also what a process that dies leaves: the kernel still has it.
    All,
    /// Each with even odds, by a seed.
    Some(u64),
}

/// What lies where: file contents and folders by path.
pub type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Names. Every file and folder has one at most: nothing makes hard links.
#[derive(Debug, Clone, Default)]
struct Names {
    entries: HashMap<Ino, BTreeMap<String, Ino>>,
    place: HashMap<Ino, (Ino, String)>,
}

impl Names {
    fn of(&self, dir: Ino, name: &str) -> Option<Ino> {
        self.entries.get(&dir)?.get(name).copied()
    }

    fn link(&mut self, ino: Ino, dir: Ino, name: &str) {
        if let Some((dir, name)) = self.place.remove(&ino) {
            self.entries.entry(dir).or_default().remove(&name);
        }
        if let Some(replaced) = self.entries.entry(dir).or_default().insert(name.to_owned(), ino) {
            self.place.remove(&replaced);
        }
        self.place.insert(ino, (dir, name.to_owned()));
    }

    fn unlink(&mut self, ino: Ino, dir: Ino, name: &str) {
        if self.of(dir, name) == Some(ino) {
            self.entries.entry(dir).or_default().remove(name);
            self.place.remove(&ino);
        }
    }

    fn apply(&mut self, change: &Change) {
        match change.is_link {
            true => self.link(change.ino, change.dir, &change.name),
            false => self.unlink(change.ino, change.dir, &change.name),
        }
    }

    fn find(&self, path: &Path) -> Option<Ino> {
        let mut at = ROOT;
        for part in path.components() {
            let Component::Normal(name) = part else { return None };
            at = self.of(at, name.to_str()?)?;
        }
        Some(at)
    }

    fn parent<'a>(&self, path: &'a Path) -> Option<(Ino, &'a str)> {
        Some((self.find(path.parent()?)?, path.file_name()?.to_str()?))
    }
}

/// A name that is not certain yet.
#[derive(Debug, Clone)]
struct Change {
    /// Made or moved to here; else unlinked.
    is_link: bool,
    ino: Ino,
    dir: Ino,
    name: String,
    /// Where it is moved from.
    from: Option<(Ino, String)>,
    /// Its sync failed.
    lost: bool,
}

#[derive(Debug, Clone, Default)]
struct Content {
    certain: Vec<u8>,
    /// Writes and lengths since the last sync: where, what, and whether their sync failed.
    since: Vec<(u64, Vec<u8>, bool)>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    now: Names,
    certain: Names,
    changes: Vec<Change>,
    files: HashMap<Ino, Content>,
    /// Numbers above it are free.
    ino_max: Ino,
}

impl Disk {
    /// A disk on which this is certain.
    pub fn of(image: &Image) -> Self {
        let mut disk = Self::default();
        for (path, content) in image {
            let ino = disk.ino_max + 1;
            match content {
                None => disk.apply(&Step::Mkdir(path.clone(), ino)),
                Some(bytes) => {
                    disk.apply(&Step::Create(path.clone(), ino));
                    disk.files.insert(ino, Content { certain: bytes.clone(), since: Vec::new() });
                }
            }
        }
        disk.certain = disk.now.clone();
        disk.changes.clear();
        disk
    }

    /// What an earlier step made of it. A step on something that the disk was never told of, such as a
    /// lock file, changes nothing.
    pub fn apply(&mut self, step: &Step) {
        match step {
            Step::Mkdir(path, ino) => self.make(path, *ino),
            Step::Create(path, ino) => {
                self.files.insert(*ino, Content::default());
                self.make(path, *ino);
            }
            Step::Write(ino, at, bytes) => self.write(*ino, *at, bytes.clone()),
            Step::Grow(ino, len) => self.write(*ino, *len, Vec::new()),
            Step::Rename(from, to) => self.rename(from, to),
            Step::Unlink(path) => {
                if let Some((dir, name)) = self.now.parent(path)
                    && let Some(ino) = self.now.of(dir, name)
                {
                    let change =
                        Change { is_link: false, ino, dir, name: name.to_owned(), from: None, lost: false };
                    self.change(change);
                }
            }
            Step::SyncFile(ino) => {
                if let Some(file) = self.files.get_mut(ino) {
                    for (at, bytes, lost) in std::mem::take(&mut file.since) {
                        if !lost {
                            put(&mut file.certain, at, &bytes);
                        }
                    }
                }
            }
            Step::SyncFileFailed(ino) => {
                let since = self.files.get_mut(ino).map(|f| f.since.iter_mut());
                since.into_iter().flatten().for_each(|(_, _, lost)| *lost = true);
            }
            Step::SyncDir(path) => self.sync_dir(path),
            Step::SyncDirFailed(path) => {
                let Some(dir) = self.now.find(path) else { return };
                self.changes.iter_mut().filter(|c| c.dir == dir).for_each(|c| c.lost = true);
            }
        }
    }

    /// The highest number of what is, or was, on it.
    pub fn ino_max(&self) -> Ino {
        self.ino_max
    }

    /// Whether a power cut now leaves one thing only.
    pub fn is_certain(&self) -> bool {
        self.changes.is_empty() && self.files.values().all(|f| f.since.is_empty())
    }

    fn make(&mut self, path: &Path, ino: Ino) {
        self.ino_max = self.ino_max.max(ino);
        if let Some((dir, name)) = self.now.parent(path) {
            let name = name.to_owned();
            self.change(Change { is_link: true, ino, dir, name, from: None, lost: false });
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let (Some((from_dir, from_name)), Some((dir, name))) = (self.now.parent(from), self.now.parent(to))
        else {
            return;
        };
        let Some(ino) = self.now.of(from_dir, from_name) else { return };
        let (from, name) = (Some((from_dir, from_name.to_owned())), name.to_owned());
        self.change(Change { is_link: true, ino, dir, name, from, lost: false });
    }

    fn change(&mut self, change: Change) {
        self.now.apply(&change);
        self.changes.push(change);
    }

    fn write(&mut self, ino: Ino, at: u64, bytes: Vec<u8>) {
        if let Some(file) = self.files.get_mut(&ino) {
            file.since.push((at, bytes, false));
        }
    }

    fn sync_dir(&mut self, path: &Path) {
        let Some(dir) = self.now.find(path) else { return };
        let changes = std::mem::take(&mut self.changes);
        for (i, change) in changes.iter().enumerate() {
            // what was moved away is certain to be where it went once its old name is certain to be another's
            let makes_room = change.from.as_ref().is_some_and(|(from, name)| {
                *from == dir && changes[i..].iter().any(|c| c.dir == dir && c.name == *name)
            });
            if (change.dir == dir || makes_room) && !change.lost {
                self.certain.apply(change);
                // what came before it, and never got certain, is past
                let same_name = |c: &Change| (c.dir, &c.name) == (change.dir, &change.name);
                self.changes.retain(|c| c.ino != change.ino && !(c.lost && same_name(c)));
            } else {
                self.changes.push(change.clone());
            }
        }
    }

    /// What a power cut leaves now.
    pub fn image(&self, survives: &Survives) -> Image {
        let mut random = match survives {
            Survives::Some(seed) => fastrand::Rng::with_seed(*seed),
            _ => fastrand::Rng::with_seed(0),
        };
        // `n + 1` equally likely versions
        let mut version = |n: usize| match survives {
            Survives::Nothing => 0,
            Survives::All => n,
            Survives::Some(_) => random.usize(0..=n),
        };
        let mut names = self.certain.clone();
        for change in &self.changes {
            if version(1) == 1 {
                names.apply(change);
            }
        }
        let mut image = Image::new();
        let mut left = vec![(PathBuf::new(), ROOT)];
        while let Some((path, dir)) = left.pop() {
            for (name, ino) in names.entries.get(&dir).into_iter().flatten() {
                let path = path.join(name);
                match self.files.get(ino) {
                    Some(file) => {
                        image.insert(path, Some(file.survivor(&mut version)));
                    }
                    None => {
                        image.insert(path.clone(), None);
                        left.push((path, *ino));
                    }
                }
            }
        }
        image
    }
}

impl Content {
    fn survivor(&self, version: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut bytes = self.certain.clone();
        if self.since.is_empty() {
            return bytes;
        }
        let mut lengths = vec![bytes.len()];
        let mut writes: BTreeMap<u64, usize> = BTreeMap::new();
        for (at, part, _) in &self.since {
            lengths.push((*at as usize + part.len()).max(lengths[lengths.len() - 1]));
            for sector in sectors(*at, part.len()) {
                *writes.entry(sector).or_default() += 1;
            }
        }
        let len = lengths[version(lengths.len() - 1)];
        // of a sector the last writes are missing, never one in between: the kernel writes what it has
        let mut kept: BTreeMap<u64, usize> = writes.into_iter().map(|(s, n)| (s, version(n))).collect();
        for (at, part, _) in &self.since {
            for sector in sectors(*at, part.len()) {
                if let Some(left) = kept.get_mut(&sector)
                    && *left > 0
                {
                    *left -= 1;
                    let from = (sector * SECTOR).max(*at);
                    let to = ((sector + 1) * SECTOR).min(*at + part.len() as u64);
                    put(&mut bytes, from, &part[(from - at) as usize..(to - at) as usize]);
                }
            }
        }
        bytes.resize(len, 0);
        bytes
    }
}

fn sectors(at: u64, len: usize) -> std::ops::Range<u64> {
    if len == 0 { 0..0 } else { at / SECTOR..(at + len as u64).div_ceil(SECTOR) }
}

fn put(bytes: &mut Vec<u8>, at: u64, part: &[u8]) {
    let (at, end) = (at as usize, at as usize + part.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(part);
}

/// Lays an image out under a folder that is there.
pub fn lay_out(image: &Image, root: &Path) {
    for (path, content) in image {
        let path = root.join(path);
        match content {
            None => std::fs::create_dir(&path).unwrap(),
            Some(bytes) => {
                let used = bytes.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
                std::fs::write(&path, &bytes[..used]).unwrap();
                if used < bytes.len() {
                    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                    file.set_len(bytes.len() as u64).unwrap();
                }
            }
        }
    }
}

/// What lies under a folder, as an image.
pub fn read_in(root: &Path) -> Image {
    let mut image = Image::new();
    let mut left = vec![PathBuf::new()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(root.join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = dir.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                image.insert(path.clone(), None);
                left.push(path);
            } else {
                image.insert(path, Some(std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    image
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
