//! The process itself, from /proc.
//!
//! What /proc doesn't say is left out of the scrape; nothing here fails.

use std::fs;

use super::catalogue::{CPU, FDS, FDS_MAX, RESIDENT, STARTED};
use super::text::Text;

/// Appends what the system knows of us.
pub(super) fn write(text: &mut Text) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some((_, fields)) = stat.rsplit_once(") ") {
        // proc_pid_stat(5) counts from 1, and the first two stand before the bracket
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<f64>().ok());
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        if let (Some(user), Some(system)) = (field(14), field(15)) {
            text.one(&CPU, (user + system) / ticks);
        }
        if let Some(pages) = field(24) {
            text.one(&RESIDENT, pages * rustix::param::page_size() as f64);
        }
        if let (Some(started), Some(booted)) = (field(22), booted_s()) {
            text.one(&STARTED, booted + started / ticks);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        text.one(&FDS, open.count());
    }
    if let Some(max) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        text.one(&FDS_MAX, max);
    }
}

/// When the system started, in seconds since the Unix epoch.
fn booted_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_known_by_its_memory_files_and_start() {
        let mut text = Text::default();
        write(&mut text);
        let text = text.into_string();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().expect("a number")
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!((3.0..=value("process_max_fds")).contains(&value("process_open_fds")));
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let now = crate::clock::now_us() as f64 / 1e6;
        assert!((0.0..now + 2.0).contains(&value("process_start_time_seconds")));
    }
}
