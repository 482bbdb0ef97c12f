//! How long a message takes at its end, by how many connections are open: pure, so that a simulation
//! takes the same times as the sink.

use serde::Deserialize;

use super::settings::Settings;

/// A knee without a service time would be no knee: 1 ms is what a small MTA with group commit takes.
const KNEE_SERVICE_US_DEFAULT: u64 = 1_000;

/// What becomes of goodput past the knee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KneeStyle {
    /// It falls: a message takes (open / knee)² as long.
    #[default]
    Thrash,
    /// It stays: a message takes open / knee as long.
    Flat,
}

/// The service that `Settings` describe. 0 in `knee_connections`: none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Service {
    us: u64,
    us_per_connection: u64,
    us_per_kib: u64,
    noise: f64,
    knee_connections: u64,
    style: KneeStyle,
}

impl From<&Settings> for Service {
    fn from(s: &Settings) -> Self {
        let knee_connections = s.knee.unwrap_or(0);
        let default = if knee_connections > 0 { KNEE_SERVICE_US_DEFAULT } else { 0 };
        Self {
            us: s.service_us.unwrap_or(default),
            us_per_connection: s.service_us_per_connection.unwrap_or(0),
            us_per_kib: s.service_us_per_kib.unwrap_or(0),
            noise: s.service_noise_percent.unwrap_or_default().share(),
            knee_connections,
            style: s.knee_style.unwrap_or_default(),
        }
    }
}

impl Service {
    /// µs for a message of `octets` while `open` connections stand. `throw`, 0 to 1, is where in the noise
    /// it falls: 0.5 is the middle; it isn't called without noise.
    pub fn us(&self, open: u64, octets: u64, throw: impl FnOnce() -> f64) -> u64 {
        let kib = octets as f64 / 1024.0;
        let base =
            self.us as f64 + self.us_per_connection as f64 * open as f64 + self.us_per_kib as f64 * kib;
        let crowd = if self.knee_connections == 0 || open <= self.knee_connections {
            1.0
        } else {
            let past = open as f64 / self.knee_connections as f64;
            match self.style {
                KneeStyle::Thrash => past * past,
                KneeStyle::Flat => past,
            }
        };
        let noise = if self.noise > 0.0 { self.noise * (2.0 * throw() - 1.0) } else { 0.0 };
        (base * crowd * (1.0 + noise)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: fn() -> f64 = || 0.5;

    fn goodput(settings: Settings) -> impl Fn(u64) -> f64 {
        let service = Service::from(&settings);
        move |n| n as f64 / service.us(n, 0, MIDDLE) as f64
    }

    #[test]
    fn goodput_is_best_at_the_knee() {
        let goodput = goodput(Settings { knee: Some(8), service_us: Some(1_000), ..Default::default() });
        let best = (1..=64).max_by(|a, b| goodput(*a).total_cmp(&goodput(*b))).unwrap();
        assert_eq!(best, 8);
        assert!(goodput(16) < 0.6 * goodput(8));
    }

    #[test]
    fn goodput_stays_past_a_flat_knee() {
        let knee_style = Some(KneeStyle::Flat);
        let goodput = goodput(Settings { knee: Some(8), knee_style, ..Default::default() });
        assert!(goodput(8) > 1.9 * goodput(4));
        assert!((9..=64).all(|n| (goodput(n) / goodput(8) - 1.0).abs() < 0.01));
    }

    #[test]
    fn group_commit_climbs_on_while_each_message_takes_longer() {
        let goodput = goodput(Settings {
            service_us: Some(10_000),
            service_us_per_connection: Some(500),
            ..Default::default()
        });
        assert!((1..64).all(|n| goodput(n + 1) > goodput(n)));
        assert!(goodput(64) < 1.0 / 500.0, "never more than one each 500 µs");
    }

    #[test]
    fn a_large_message_takes_longer_by_its_size() {
        let service = Service::from(&Settings { service_us_per_kib: Some(100), ..Default::default() });
        assert_eq!((service.us(1, 0, MIDDLE), service.us(1, 10_240, MIDDLE)), (0, 1_000));
    }

    #[test]
    fn noise_stays_within_its_share_and_has_no_bias() {
        let noise = "30".parse().unwrap();
        let service = Service::from(&Settings {
            service_us: Some(1_000),
            service_noise_percent: Some(noise),
            ..Default::default()
        });
        assert_eq!([0.0, 0.5, 1.0].map(|throw| service.us(1, 0, || throw)), [700, 1_000, 1_300]);
    }
}
