//! Fuzzing: what the fuzz targets of the stages have in common (`fuzz.rs` of each). Tests alone.
//!
//! A target is a function over octets that panics when something is wrong. It is given each file of its
//! corpus (`tests/fuzz/TARGET/`), and then mutations of them: octets flipped, cut, repeated, spliced with
//! another file, set to what lengths and signs trip over, and words of its dictionary put in. The seed is
//! fixed, so that a run repeats; `tests/fuzz` runs for long, from a seed of its own.
//!
//! | variable | is |
//! | --- | --- |
//! | `INFEED_FUZZ_SECONDS` | how long each target runs, in place of a number of inputs |
//! | `INFEED_FUZZ_SEED` | the seed |
//! | `INFEED_UPDATE_CORPUS` | writes the corpora that are made by code anew |
//!
//! An input that fails is kept in `target/fuzz/`, and named; it belongs into the corpus once it is mended.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Inputs of a target in a usual run, its corpus aside.
const INPUTS: u64 = 4_000;
/// Octets of an input, at most.
const INPUT_OCTETS_MAX: usize = 64 * 1024;
/// Values at which lengths and counters turn over.
const EDGES: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// A fuzz target.
pub struct Fuzz {
    /// Also the folder of its corpus.
    pub name: &'static str,
    /// Words that its input is made of.
    pub words: &'static [&'static [u8]],
    /// Puts a mutated input right where chance never would, such as checksums.
    pub mend: fn(&mut [u8]),
    pub target: fn(&[u8]),
}

/// Nothing to put right.
pub fn as_it_is(_: &mut [u8]) {}

impl Fuzz {
    /// Runs the corpus, then mutations of it.
    pub fn run(&self) {
        let corpus = self.corpus();
        assert!(!corpus.is_empty(), "no corpus of {}", self.name);
        for (name, input) in &corpus {
            self.try_one(input, name);
        }
        let seed = variable("INFEED_FUZZ_SEED").unwrap_or(0x1f3ed);
        let mut chance = fastrand::Rng::with_seed(seed);
        let until = variable("INFEED_FUZZ_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
        let mut inputs = 0_u64;
        while until.map_or(inputs < INPUTS, |until| Instant::now() < until) {
            let input = self.mutation(&corpus, &mut chance);
            self.try_one(&input, &format!("seed {seed}, input {inputs}"));
            inputs += 1;
        }
        println!("{}: {} of the corpus, {inputs} mutations, seed {seed}", self.name, corpus.len());
    }

    fn try_one(&self, input: &[u8], which: &str) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.target)(input))) else { return };
        let kept = folder().join(format!("{}-{:08x}", self.name, crc32fast::hash(input)));
        let written = std::fs::create_dir_all(folder()).and_then(|()| std::fs::write(&kept, input));
        eprintln!("{}: {which} fails; kept as {} ({written:?})", self.name, kept.display());
        resume_unwind(panic);
    }

    /// Where its corpus lies.
    pub fn place(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(self.name)
    }

    /// Writes a file of the corpus, when it was asked for.
    pub fn keep(&self, name: &str, input: &[u8]) {
        if std::env::var_os("INFEED_UPDATE_CORPUS").is_some() {
            std::fs::create_dir_all(self.place()).expect("a folder for the corpus");
            std::fs::write(self.place().join(name), input).expect("a file of the corpus");
        }
    }

    /// Names and contents, in order.
    pub fn corpus(&self) -> Vec<(String, Vec<u8>)> {
        let entries =
            std::fs::read_dir(self.place()).unwrap_or_else(|e| panic!("{}: {e}", self.place().display()));
        let mut all: Vec<_> = entries
            .map(|entry| {
                let path = entry.expect("a folder that can be read").path();
                let input = std::fs::read(&path).expect("a file that can be read");
                (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), input)
            })
            .collect();
        all.sort();
        all
    }

    fn mutation(&self, corpus: &[(String, Vec<u8>)], chance: &mut fastrand::Rng) -> Vec<u8> {
        let mut input = corpus[chance.usize(..corpus.len())].1.clone();
        for _ in 0..=chance.usize(..6) {
            self.mutate(&mut input, corpus, chance);
        }
        input.truncate(INPUT_OCTETS_MAX);
        (self.mend)(&mut input);
        input
    }

    fn mutate(&self, input: &mut Vec<u8>, corpus: &[(String, Vec<u8>)], chance: &mut fastrand::Rng) {
        let at = chance.usize(..=input.len());
        let end = (at + chance.usize(..=16)).min(input.len());
        match chance.u8(..10) {
            0 if at < input.len() => input[at] ^= 1 << chance.u8(..8),
            1 if at < input.len() => input[at] = chance.u8(..),
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end].repeat(1 + chance.usize(..64));
                insert(input, at, &piece);
            }
            5 => {
                let other = &corpus[chance.usize(..corpus.len())].1;
                let from = chance.usize(..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 => {
                let edge = EDGES[chance.usize(..EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][chance.usize(..4)];
                for (octet, edge) in input[at..].iter_mut().zip(&edge[..width]) {
                    *octet = *edge;
                }
            }
            7 => {
                let octets: Vec<u8> = (0..chance.usize(..8)).map(|_| chance.u8(..)).collect();
                insert(input, at, &octets);
            }
            _ if !self.words.is_empty() => {
                insert(input, at, self.words[chance.usize(..self.words.len())]);
            }
            _ => insert(input, at, b"\r\n"),
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if input.len() + piece.len() <= INPUT_OCTETS_MAX {
        drop(input.splice(at..at, piece.iter().copied()));
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("fuzz")
}

/// CPU time that this thread has used: what no other load on the machine adds to.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Holds that `work` over an input 16 times as long takes nowhere near 256 times as long, which it would if
/// it were quadratic: at most 80 times, in CPU time of this thread. Too short to tell: nothing is held.
pub fn is_not_quadratic(what: &str, input: impl Fn(usize) -> Vec<u8>, work: impl Fn(&[u8])) {
    const SHORT: usize = 1 << 12;
    let measure = |octets: usize| {
        let input = input(octets);
        let runs = (0..2).map(|_| {
            let start = cpu_time();
            work(&input);
            cpu_time() - start
        });
        runs.min().unwrap_or_default()
    };
    let short = measure(SHORT).max(Duration::from_micros(200));
    let long = measure(SHORT * 16);
    assert!(long < short * 80, "{what}: {short:?} for {SHORT} octets, {long:?} for 16 times as many");
}
