//! Scenarios at random: what they are, and what the best fixed number reaches in each stretch of one.

use std::fmt::Write as _;
use std::path::Path;

use infeed::sink::{Scenario, Service};

use crate::judge::{Best, Window, in_force};

/// As the simulated engine has it.
const OVERHEAD_US: f64 = 60.0;
/// No faster than this, messages a second: it is what a run costs.
const RATE_MAX: f64 = 5_000.0;

/// A scenario, and its seconds.
pub struct Random {
    pub scenario: Scenario,
    pub seconds: u64,
    pub text: String,
}

/// Thrashing, flat, or group commit; knee 2 to 48; service 300 µs to 100 ms; noise 0 to 40 %; up to two
/// changes of knee, speed or both.
pub fn random(seed: u64) -> Random {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xACE);
    let mut between = |low: f64, high: f64| low * (high / low).powf(rng.f64());
    let mut knee = between(2.0, 48.9).floor();
    let mut service_us = between(300.0_f64.max(knee / RATE_MAX * 1e6), 100_000.0);
    let noise = (between(1.0, 41.0) - 1.0).floor();
    let style = between(1.0, 8.0) as u32; // flat a third, thrash a half, group commit the rest
    let mut text = format!("[set]\nservice_noise_percent = {noise}\n");
    let describe = |knee: f64, service_us: f64| match style {
        1 => format!("knee = {knee}\nknee_style = \"flat\"\nservice_us = {service_us:.0}\n"),
        2..=5 => format!("knee = {knee}\nservice_us = {service_us:.0}\n"),
        // saturates around the knee
        _ => {
            let each = service_us / knee.max(1.0);
            format!("service_us = {service_us:.0}\nservice_us_per_connection = {each:.0}\n")
        }
    };
    text += &describe(knee, service_us);
    let mut at_s = 0.0;
    for _ in 0..(between(1.0, 8.0) as u32 / 2).min(2) {
        at_s += between(32.0, 45.0).floor();
        if between(1.0, 4.0) < 2.0 {
            knee = (knee * between(0.3, 3.0)).round().clamp(2.0, 48.0);
        }
        if between(1.0, 4.0) < 2.0 {
            service_us *= between(0.5, 2.0);
        }
        service_us = service_us.clamp(300.0_f64.max(knee / RATE_MAX * 1e6), 100_000.0);
        let set = describe(knee, service_us).trim_end().replace('\n', ", ");
        writeln!(text, "[[step]]\nat_s = {at_s}\nset = {{ {set} }}").unwrap();
    }
    let scenario = Scenario::parse(&text, Path::new("random.toml")).unwrap();
    Random { scenario, seconds: at_s as u64 + 45, text }
}

/// The best in each window, from the service itself: in a closed loop goodput is connections over the
/// mean time of a transaction.
pub fn best(scenario: &Scenario, windows: &[Window], connections_max: usize, octets: u64) -> Vec<Best> {
    let at = |window: &Window| {
        let set = in_force(scenario, window.0);
        let service = Service::from(&set);
        let reached = |n: usize| n as f64 * 1e6 / (OVERHEAD_US + service.us(n as u64, octets, || 0.5) as f64);
        let goodput = (1..=connections_max).map(reached).fold(0.0, f64::max);
        let connections = (1..=connections_max).find(|n| reached(*n) >= 0.95 * goodput).unwrap_or(1);
        Best { window: *window, goodput, connections }
    };
    windows.iter().map(at).collect()
}
