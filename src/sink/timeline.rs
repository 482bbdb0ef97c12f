//! Which behaviour is in force: the scenario's steps over the flags, moved on by time and by messages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::scenario::{Start, Step};
use super::settings::{Behaviour, Settings};

/// The steps with the time at which each began; pure, on the sink's own time (since its start).
#[derive(Debug)]
struct Course {
    base: Settings,
    steps: Vec<Step>,
    began: Vec<Option<Duration>>,
}

impl Course {
    fn new(base: Settings, steps: Vec<Step>) -> Self {
        Self { base, began: vec![None; steps.len()], steps }
    }

    /// Begins the steps that are due.
    fn advance(&mut self, now: Duration, messages: u64) {
        for (step, began) in self.steps.iter().zip(&mut self.began) {
            if began.is_none() {
                *began = match step.start {
                    Start::At(at) => (at <= now).then_some(at),
                    Start::AfterMessages(count) => (count <= messages).then_some(now),
                };
            }
        }
    }

    /// Later steps win over earlier ones, steps over the base.
    fn in_force(&self, now: Duration) -> Settings {
        let mut settings = self.base.clone();
        for (step, began) in self.steps.iter().zip(&self.began) {
            let on = began.is_some_and(|b| b <= now && step.lasts.is_none_or(|lasts| now < b + lasts));
            if on {
                settings = step.set.over(&settings);
            }
        }
        settings
    }

    /// When time alone changes something next.
    fn next_time(&self, now: Duration) -> Option<Duration> {
        let changes =
            self.steps.iter().zip(&self.began).filter_map(|(step, began)| match (began, step.start) {
                (Some(began), _) => step.lasts.map(|lasts| *began + lasts),
                (None, Start::At(at)) => Some(at),
                (None, Start::AfterMessages(_)) => None,
            });
        changes.filter(|at| *at > now).min()
    }

    /// The count of messages that begins a step next; `u64::MAX`: none.
    fn next_messages(&self) -> u64 {
        let counts = self.steps.iter().zip(&self.began).filter_map(|(step, began)| match step.start {
            Start::AfterMessages(count) if began.is_none() => Some(count),
            _ => None,
        });
        counts.min().unwrap_or(u64::MAX)
    }
}

/// A course, and everyone who must know when it changes.
#[derive(Debug)]
pub(super) struct Timeline {
    course: Mutex<Course>,
    next_messages: AtomicU64,
    behaviour: watch::Sender<Arc<Behaviour>>,
    next_time: watch::Sender<Option<Duration>>,
}

impl Timeline {
    /// At time 0, with no messages.
    pub fn new(base: Settings, steps: Vec<Step>) -> Self {
        let first = Arc::new(Behaviour::from(&base));
        let timeline = Self {
            course: Mutex::new(Course::new(base, steps)),
            next_messages: AtomicU64::new(u64::MAX),
            behaviour: watch::Sender::new(first),
            next_time: watch::Sender::new(None),
        };
        timeline.advance(Duration::ZERO, 0);
        timeline
    }

    pub fn subscribe(&self) -> watch::Receiver<Arc<Behaviour>> {
        self.behaviour.subscribe()
    }

    /// When [`Timeline::advance`] must be called next; changes when a count of messages begins a step.
    pub fn times(&self) -> watch::Receiver<Option<Duration>> {
        self.next_time.subscribe()
    }

    /// So many messages were taken: what that begins is in force before this returns.
    pub fn taken(&self, messages: u64, now: Duration) {
        if messages >= self.next_messages.load(Ordering::Relaxed) {
            self.advance(now, messages);
        }
    }

    /// Time has passed.
    pub fn advance(&self, now: Duration, messages: u64) {
        let mut course = self.course();
        course.advance(now, messages);
        let behaviour = Behaviour::from(&course.in_force(now));
        self.next_messages.store(course.next_messages(), Ordering::Relaxed);
        // Still under the lock, so that a later change is never overtaken by an earlier one.
        self.behaviour.send_if_modified(|current| {
            let changed = **current != behaviour;
            if changed {
                *current = Arc::new(behaviour);
            }
            changed
        });
        self.next_time.send_replace(course.next_time(now));
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(start: Start, lasts_s: Option<u64>, set: Settings) -> Step {
        Step { start, lasts: lasts_s.map(Duration::from_secs), set }
    }

    fn latency(ms: u64) -> Settings {
        Settings { latency_ms: Some(ms), ..Default::default() }
    }

    #[test]
    fn a_step_begins_and_ends_on_time_and_later_steps_win() {
        let s = Duration::from_secs;
        let mut course = Course::new(
            latency(1),
            vec![step(Start::At(s(2)), Some(10), latency(2)), step(Start::At(s(4)), Some(2), latency(4))],
        );
        let mut at = |now: u64| {
            course.advance(s(now), 0);
            (course.in_force(s(now)).latency_ms, course.next_time(s(now)))
        };
        assert_eq!(at(0), (Some(1), Some(s(2))));
        assert_eq!(at(2), (Some(2), Some(s(4))));
        assert_eq!(at(5), (Some(4), Some(s(6))));
        assert_eq!(at(6), (Some(2), Some(s(12))));
        assert_eq!(at(12), (Some(1), None));
    }

    #[test]
    fn a_count_of_messages_begins_a_step_for_the_very_next_one() {
        let s = Duration::from_secs;
        let timeline = Timeline::new(latency(1), vec![step(Start::AfterMessages(3), Some(5), latency(9))]);
        let behaviour = timeline.subscribe();
        timeline.taken(2, s(100));
        assert_eq!(behaviour.borrow().latency_ms, 1);
        timeline.taken(3, s(101));
        assert_eq!(behaviour.borrow().latency_ms, 9);
        assert_eq!(*timeline.times().borrow(), Some(s(106)));
        timeline.advance(s(106), 3);
        assert_eq!(behaviour.borrow().latency_ms, 1);
    }
}
