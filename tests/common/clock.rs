//! A wall clock for infeed that a test can set: libfaketime stands between. What isn't run [`Clock::on`] it
//! has the machine's.

use std::path::{Path, PathBuf};

use super::binary::Infeed;

#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    /// How far it stands beside the machine's.
    file: PathBuf,
}

impl Clock {
    /// Keeps its state in `folder`. `None` where libfaketime isn't installed, as Debian and Ubuntu do.
    pub fn new(folder: &Path) -> Option<Self> {
        let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let mut found = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
        let library = found.find(|path| path.exists())?;
        let clock = Self { library, file: folder.join("clock") };
        clock.set(0);
        Some(clock)
    }

    /// The same for a test that needs it. `None`: skip; it is said.
    ///
    /// # Panics
    /// When it isn't there and all tests are required.
    pub fn or_skip(folder: &Path) -> Option<Self> {
        let clock = Self::new(folder);
        if clock.is_none() {
            let required = std::env::var_os("INFEED_TEST_REQUIRE_MTA").is_some();
            assert!(!required, "libfaketime is required: tests/run --install");
            super::mta::skip("libfaketime is missing; to have it, as root: tests/run --install");
        }
        clock
    }

    /// Sets it, for whatever runs on it already, too.
    ///
    /// # Panics
    /// When its file can't be written.
    pub fn set(&self, seconds_ahead: i64) {
        // in one step: it is read at every look at the clock
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds_ahead:+}s\n")).expect("the clock's file");
        std::fs::rename(new, &self.file).expect("the clock's file");
    }

    /// Has it run on this clock. What goes by (the monotonic clock) stays the machine's.
    pub fn on(&self, infeed: Infeed) -> Infeed {
        infeed
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
    }
}
