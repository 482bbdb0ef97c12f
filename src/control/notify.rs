//! What systemd is told: readiness, reloads, the end, the watchdog. Nothing, where it doesn't listen.

use std::time::Duration;

use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::warn!("systemd can't be told {states:?}: {e}");
    }
}

/// The slices are ours, and the control socket answers.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The start takes longer, and why.
pub fn still_starting(status: &str, wait: Duration) {
    let us = u32::try_from(wait.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::ExtendTimeoutUsec(us), NotifyState::Status(status)]);
}

/// A reload has begun; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(e) => tracing::warn!("systemd can't be told of the reload: {e}"),
    }
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// How often the watchdog wants to hear from us: half of what it bears; `None` without one.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|bears| bears / 2)
}

/// We are alive.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}
