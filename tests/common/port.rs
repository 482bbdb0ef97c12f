//! Ports on loopback for programs that can't say which one the kernel gave them.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that the kernel takes the ports of outgoing connections from, so that none of those
/// sits on the port between this answer and the program's start.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port on 127.0.0.1 that nothing listens on, never given out twice by this process.
///
/// # Panics
/// When no port is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..COUNT {
        // each process starts elsewhere
        let start = (std::process::id() % u32::from(COUNT / 50)) as u16 * 50;
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
