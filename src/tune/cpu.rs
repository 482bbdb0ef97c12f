//! What the processors did between two moments: this process's share by its clock, the machine's by
//! `/proc/stat`.

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuReading {
    /// CPU seconds of this process.
    own_s: f64,
    /// Ticks of all processors: all, and of those idle, and waiting for a disk.
    all: u64,
    idle: u64,
    iowait: u64,
}

/// Percentages of all processors together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CpuShare {
    /// This process.
    pub infeed: f64,
    /// Everything that runs, this process included.
    pub machine: f64,
    /// Idle only because a disk was waited for.
    pub iowait: f64,
}

/// Reads them now; `None` where there is no `/proc`.
pub fn read() -> Option<CpuReading> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let own = clock_gettime(ClockId::ProcessCPUTime);
    parse(&stat, own.tv_sec as f64 + own.tv_nsec as f64 / 1e9)
}

fn parse(stat: &str, own_s: f64) -> Option<CpuReading> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace()
        // user nice system idle iowait irq softirq steal; guests are in user already
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    let &[_, _, _, idle, iowait, ..] = fields.as_slice() else { return None };
    Some(CpuReading { own_s, all: fields.iter().sum(), idle, iowait })
}

/// The share between two readings, `seconds` apart on `processors`; `None` when no tick has passed.
pub fn between(from: &CpuReading, to: &CpuReading, seconds: f64, processors: usize) -> Option<CpuShare> {
    let all = to.all.checked_sub(from.all).filter(|&ticks| ticks > 0)? as f64;
    let idle = to.idle.saturating_sub(from.idle) as f64;
    let iowait = to.iowait.saturating_sub(from.iowait) as f64;
    let own = (to.own_s - from.own_s) / (seconds.max(1e-3) * processors.max(1) as f64);
    let percent = |share: f64| (share * 100.0).clamp(0.0, 100.0);
    Some(CpuShare {
        infeed: percent(own),
        machine: percent((all - idle - iowait) / all),
        iowait: percent(iowait / all),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_processors_and_waiting_for_a_disk_is_not_busy() {
        let from = parse("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1\n", 1.0).expect("a reading");
        let to = parse("cpu  150 10 130 880 20 5 5 0 40 0\n", 2.0).expect("a reading");
        // 200 ticks: 100 busy, 80 idle, 20 waiting
        let share = between(&from, &to, 2.0, 4).expect("a share");
        assert_eq!(share, CpuShare { infeed: 12.5, machine: 50.0, iowait: 10.0 });
        assert_eq!(between(&to, &to, 1.0, 4), None);
        assert_eq!(parse("intr 5\n", 1.0), None);
        assert_eq!(parse("cpu  1 2 3\n", 1.0), None);
    }

    #[test]
    fn this_machine_has_counters() {
        assert!(read().is_some_and(|now| now.all > 0 && now.own_s > 0.0));
    }
}
