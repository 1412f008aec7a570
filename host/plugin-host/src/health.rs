//! Counting a plugin's faults, and setting it aside.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::limits::Limits;

/// What is known of one plugin's behaviour.
#[derive(Debug)]
pub(super) struct Health {
    in_a_row_limit: u32,
    in_window_limit: usize,
    window: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_a_row: u32,
    recent: VecDeque<Instant>,
    set_aside: Option<String>,
}

impl Health {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            in_a_row_limit: limits.faults_in_a_row.max(1),
            in_window_limit: usize::try_from(limits.faults_in_window.max(1)).unwrap_or(usize::MAX),
            window: limits.fault_window,
            state: Mutex::default(),
        }
    }

    /// Why the plugin is not called any more, if so.
    pub(super) fn set_aside(&self) -> Option<String> {
        self.lock().set_aside.clone()
    }

    /// A call came back, whatever the plugin answered.
    pub(super) fn success(&self) {
        self.lock().in_a_row = 0;
    }

    /// A call ended in a fault.
    pub(super) fn fault(&self, message: &str) {
        self.fault_at(message, Instant::now());
    }

    fn fault_at(&self, message: &str, now: Instant) {
        let mut state = self.lock();
        state.in_a_row += 1;
        state.recent.push_back(now);
        while state.recent.front().is_some_and(|first| now.saturating_duration_since(*first) > self.window) {
            state.recent.pop_front();
        }
        if state.set_aside.is_none()
            && (state.in_a_row >= self.in_a_row_limit || state.recent.len() >= self.in_window_limit)
        {
            let count = state.recent.len();
            state.set_aside = Some(format!(
                "it failed {count} times within {} minutes, at last: {message}",
                self.window.as_secs().div_ceil(60)
            ));
        }
    }

    /// Forgets everything: the operator wants the plugin back.
    pub(super) fn reset(&self) {
        *self.lock() = State::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row() {
        let health = Health::new(&Limits::default());
        health.fault("a");
        health.fault("b");
        health.success();
        health.fault("c");
        health.fault("d");
        assert_eq!(health.set_aside(), None);
        health.success();
        assert_eq!(health.set_aside(), None);
        health.fault("e");
        assert!(health.set_aside().is_some_and(|reason| reason.contains("5 times") && reason.ends_with("e")));
        health.success();
        assert!(health.set_aside().is_some());
        health.reset();
        assert_eq!(health.set_aside(), None);
    }

    #[test]
    fn old_faults_do_not_count() {
        let health = Health::new(&Limits::default());
        let start = Instant::now();
        for minute in [0, 1, 2, 3, 30, 31, 32, 33] {
            health.fault_at("x", start + Duration::from_secs(60 * minute));
            health.success();
        }
        assert_eq!(health.set_aside(), None);
        health.fault_at("x", start + Duration::from_secs(60 * 34));
        assert!(health.set_aside().is_some());
    }
}
