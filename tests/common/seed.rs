//! Randomness that a failed test can be run again with.

/// The seed of a test, printed when the test fails.
#[derive(Debug)]
pub struct Seed(u64);

impl Seed {
    /// `$INFEED_TEST_SEED`, else a new one.
    ///
    /// # Panics
    /// When the variable holds no number.
    pub fn new() -> Self {
        let given = std::env::var("INFEED_TEST_SEED").ok();
        Self(
            given.map_or_else(|| fastrand::u64(..), |text| text.parse().expect("INFEED_TEST_SEED: a number")),
        )
    }

    pub fn value(&self) -> u64 {
        self.0
    }

    pub fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.0)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to have the same random numbers again: INFEED_TEST_SEED={}", self.0);
        }
    }
}
