//! Waiting for what must come about, with a deadline, and never for a fixed time.

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer, and returns it.
///
/// # Panics
/// At the deadline, saying what was awaited.
pub fn wait_for<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < deadline, "after {deadline:?} still no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The same for a condition.
///
/// # Panics
/// At the deadline, saying what was awaited.
pub fn wait_until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, deadline, || holds().then_some(()));
}
