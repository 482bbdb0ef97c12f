//! The daemon's size over the whole run.

use std::time::Instant;

/// A reading.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at_s: u64,
    rss_kib: u64,
    files: usize,
}

#[derive(Debug)]
pub struct Gauge {
    begun: Instant,
    readings: Vec<Reading>,
}

/// The most of a part of the run.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    pub rss_kib: u64,
    pub files: usize,
}

impl Gauge {
    pub fn new() -> Self {
        Self { begun: Instant::now(), readings: Vec::new() }
    }

    pub fn read(&mut self, (rss_kib, files): (u64, usize)) {
        self.readings.push(Reading { at_s: self.begun.elapsed().as_secs(), rss_kib, files });
    }

    /// The most of the first half, in which every sort of work has been done once, and of the last quarter.
    pub fn first_and_last(&self) -> (Most, Most) {
        let end_s = self.readings.last().map_or(0, |reading| reading.at_s);
        (self.most(0, end_s / 2), self.most(end_s / 4 * 3, end_s))
    }

    fn most(&self, from_s: u64, to_s: u64) -> Most {
        let part = || self.readings.iter().filter(|reading| (from_s..=to_s).contains(&reading.at_s));
        Most {
            rss_kib: part().map(|reading| reading.rss_kib).max().unwrap_or(0),
            files: part().map(|reading| reading.files).max().unwrap_or(0),
        }
    }
}
