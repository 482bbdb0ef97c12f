//! Scenarios at random with everything in them that the sink can do to a number of connections: limits, late
//! banners, refusals by chance, delivery behind that is slower, and up to two changes, of speed and knee as
//! well as refused connects, full storage and restarts.

use std::fmt::Write as _;
use std::path::Path;

use infeed::sink::Scenario;

use crate::engine::{Policy, Run, simulate};
use crate::judge::{Best, Window, goodput, in_force};

/// No faster than this, messages a second: it is what a run costs.
const RATE_MAX: f64 = 4_000.0;
/// A change comes this long after the one before has ended, in s.
const CHANGE_AFTER_S: u64 = 45;
/// Fixed numbers that are held beside.
const SWEEP: [usize; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64];
/// How long each of them runs, and how much of that is warm-up.
const SWEEP_S: (u64, f64) = (16, 8.0);

/// A scenario, its seconds, and whether the MTA's queue is visible.
pub struct Wild {
    pub scenario: Scenario,
    pub seconds: u64,
    pub queue_visible: bool,
    pub text: String,
}

/// How the MTA answers at a knee and a time of service.
struct Speed {
    style: usize,
    knee: f64,
    service_us: f64,
}

impl Speed {
    fn settings(&self) -> String {
        let Self { knee, service_us, .. } = self;
        match self.style {
            0 => format!("knee = {knee}\nknee_style = \"flat\"\nservice_us = {service_us:.0}\n"),
            1 | 2 => format!("knee = {knee}\nservice_us = {service_us:.0}\n"),
            _ => {
                let each = service_us / knee;
                format!("service_us = {service_us:.0}\nservice_us_per_connection = {each:.0}\n")
            }
        }
    }

    fn in_line(&self) -> String {
        self.settings().trim_end().replace('\n', ", ")
    }

    fn bounded(&mut self) {
        self.service_us = self.service_us.max(self.knee / RATE_MAX * 1e6);
    }
}

/// The scenario of this seed.
pub fn wild(seed: u64) -> Wild {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xBEEF);
    let knee = (2.0 * 24.0_f64.powf(rng.f64())).floor();
    let style = rng.usize(0..4);
    let mut speed = Speed { style, knee, service_us: 500.0 * 100.0_f64.powf(rng.f64()) };
    speed.bounded();
    let mut text = format!("[set]\nservice_noise_percent = {}\n{}", rng.usize(0..41), speed.settings());
    let mut put = |line: std::fmt::Arguments<'_>| text.write_fmt(line).unwrap();
    for (name, range) in [("latency_ms", 1..15), ("connections_max", 3..60), ("banner_delay_ms", 20..800)] {
        if rng.f64() < 0.27 {
            put(format_args!("{name} = {}\n", rng.usize(range)));
        }
    }
    match rng.usize(0..8) {
        0 => put(format_args!("fail = [\"rcpt=451%{}\"]\n", rng.usize(1..10))),
        1 => put(format_args!("fail = [\"rcpt=550%{}\"]\n", rng.usize(1..30))),
        2 => put(format_args!("fail = [\"content=451%{}\"]\n", rng.usize(1..5))),
        3 => put(format_args!("fail = [\"mail=421%0.5\"]\n")),
        _ => {}
    }
    let mut queue_visible = false;
    if rng.f64() < 0.3 {
        queue_visible = rng.bool();
        let queue_max = if queue_visible && rng.bool() { 1_000_000 } else { rng.usize(300..2_000) };
        let leaves = (speed.knee * 1e6 / speed.service_us * (0.2 + 0.6 * rng.f64())).max(20.0);
        put(format_args!("drain_rate = {leaves:.0}\nqueue_max = {queue_max}\n"));
    }
    let mut at_s = 0;
    for _ in 0..rng.usize(0..3) {
        at_s += CHANGE_AFTER_S;
        let change = rng.usize(0..7);
        let lasts_s = match change {
            2 => 15,
            3 => rng.u64(3..15),
            4 => rng.u64(1..6),
            _ => 0,
        };
        let set = match change {
            0 => {
                speed.service_us *= 0.4 + 1.6 * rng.f64();
                speed.bounded();
                speed.in_line()
            }
            1 => {
                speed.knee = (speed.knee * (0.3 + 2.0 * rng.f64())).round().clamp(2.0, 48.0);
                speed.bounded();
                speed.in_line()
            }
            2 => "refuse_connects = true".to_owned(),
            3 => "storage_full = true".to_owned(),
            4 => "refuse_connects = true, fail = [\"mail=421\"]".to_owned(),
            5 => format!("connections_max = {}", rng.usize(3..60)),
            _ => format!("latency_ms = {}", rng.usize(0..15)),
        };
        let lasts = if lasts_s > 0 { format!("for_s = {lasts_s}\n") } else { String::new() };
        put(format_args!("[[step]]\nat_s = {at_s}\n{lasts}set = {{ {set} }}\n"));
        at_s += lasts_s;
    }
    let scenario = Scenario::parse(&text, Path::new("wild.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    Wild { scenario, seconds: at_s + CHANGE_AFTER_S + 5, queue_visible, text }
}

/// What fixed numbers reach in each window, of those of a rough sweep.
pub fn best(run: &Run, windows: &[Window]) -> Vec<Best> {
    let of = |window: &Window| {
        let scenario = Scenario { set: in_force(&run.scenario, window.0), steps: Vec::new() };
        let reached = SWEEP.map(|n| {
            let fixed = Run {
                scenario: scenario.clone(),
                policy: Policy::Fixed(n),
                seconds: SWEEP_S.0,
                ..run.clone()
            };
            (n, goodput(&simulate(fixed), (SWEEP_S.1, SWEEP_S.0 as f64)))
        });
        let most = reached.iter().map(|r| r.1).fold(0.0, f64::max);
        let connections = reached.iter().find(|r| r.1 >= 0.95 * most).map_or(1, |r| r.0);
        Best { window: *window, goodput: most, connections }
    };
    windows.iter().map(of).collect()
}
